"""What is Firestore's own: a server that goes away, rivals between read and commit, errors classified."""

import asyncio
import inspect
import json
import pkgutil
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google.auth.exceptions
import grpc
import grpc.aio
import pytest
from google.api_core import exceptions
from tests.conftest import needs
from tests.emulators import Emulator, firestore_emulator_process, free_port, running, warm

from logmend.adapters.stores import firestore
from logmend.adapters.stores.firestore import FirestoreStore, classify
from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Permanent, Transient
from logmend.ledger import Queues
from logmend.ports import Document, Key

ONE: Key = ("leases", "one")
FLEET: Key = ("controls", "fleet")
Found = Mapping[Key, Document]


def new_store() -> FirestoreStore:
    return FirestoreStore(f"test-{uuid.uuid4().hex[:12]}", "ledger")


def write(key: Key, data: dict[str, Any]) -> Any:
    return lambda _: ({key: Document(data)}, None)


async def until_there(store: FirestoreStore, keys: list[Key]) -> None:
    """Wait until all these documents exist."""
    for _ in range(600):
        if len(await store.get(keys)) == len(keys):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{keys} never came to be")


# An emulator that goes away


@pytest.fixture
def own_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run an emulator that this test may stop."""
    needs(commands=("gcloud", "java"))
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    with running(firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST") as emulator:
        yield emulator


@pytest.mark.timeout(300)
async def test_a_stopped_emulator_is_transient_and_a_started_one_is_found_again(
    own_emulator: Emulator,
) -> None:
    """Every call fails as ledger_unavailable within a bounded time; the same store object recovers, twice."""
    store = new_store()
    await warm(store)
    for end in (own_emulator.stop, own_emulator.kill):
        await asyncio.to_thread(end)
        for call in (
            store.transact([ONE], write(ONE, {"n": 1})),
            store.get([ONE]),
            store.scan("leases", None, 5),
        ):
            with pytest.raises(Transient) as caught:
                await asyncio.wait_for(call, 40)
            assert caught.value.reason == "ledger_unavailable"
        await asyncio.to_thread(own_emulator.start)
        await warm(store)
        assert await store.get([ONE]) == {}  # the emulator keeps nothing, which proves that it is a new one
        await store.transact([ONE], write(ONE, {"n": 2}))
        assert (await store.get([ONE]))[ONE].data == {"n": 2}
    await store.aclose()


@pytest.mark.timeout(300)
async def test_an_emulator_killed_under_load_loses_no_answer(own_emulator: Emulator) -> None:
    """Each of many transactions in flight either succeeds or is transient; afterwards all work again."""
    store = new_store()
    keys: list[Key] = [("leases", f"{number}") for number in range(20)]

    async def count(key: Key) -> None:
        def step(found: Found) -> Any:
            return {key: Document({"n": found[key].data["n"] + 1 if key in found else 1})}, None

        while True:
            await store.transact([key, FLEET], step)

    await warm(store)
    tasks = [asyncio.create_task(count(key)) for key in keys]
    await until_there(store, keys)
    await asyncio.to_thread(own_emulator.kill)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert {getattr(end, "reason", end) for end in ends} == {"ledger_unavailable"}
    await asyncio.to_thread(own_emulator.start)
    await warm(store)
    for key in keys:
        await store.transact([key], write(key, {"n": 0}))
    await store.aclose()


async def test_a_server_that_accepts_and_never_answers_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent connection costs a bounded time, not the life of the function."""
    from logmend.adapters.stores import firestore_calls

    monkeypatch.setattr(firestore_calls, "CALL_TIMEOUT", 0.3)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    store = new_store()
    with pytest.raises(Transient) as caught:
        await asyncio.wait_for(store.transact([ONE], write(ONE, {})), 30)
    assert caught.value.reason == "ledger_unavailable"
    await store.aclose()
    server.close()
    for writer in held:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in held), return_exceptions=True)


async def test_nobody_listening_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a server is told from a database that does not exist."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    store = new_store()
    with pytest.raises(Transient) as caught:
        await asyncio.wait_for(store.get([ONE]), 40)
    assert caught.value.reason == "ledger_unavailable"
    await store.aclose()


async def test_no_credentials_are_permanent_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without an emulator and without credentials nothing is dialled, and the reason says what is missing."""
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    store = new_store()
    with pytest.raises(Permanent, match="no_credentials") as caught:
        await store.get([ONE])
    assert caught.value.reason == "ledger_forbidden"
    await store.aclose()


# Transactions


@pytest.mark.usefixtures("firestore_emulator")
async def test_a_step_is_run_again_when_what_it_only_read_changes_before_the_commit() -> None:
    """The read of a document that a step does not write counts as much as its writes."""
    store = new_store()
    await store.transact([FLEET], write(FLEET, {"frozen": False}))
    seen: list[bool] = []

    def freeze() -> None:
        async def body() -> None:
            other = FirestoreStore(store._project, store._database)
            await other.transact([FLEET], write(FLEET, {"frozen": True}))
            await other.aclose()

        asyncio.run(body())

    def step(found: Found) -> Any:
        seen.append(found[FLEET].data["frozen"])
        if len(seen) == 1:
            operator = threading.Thread(target=freeze)
            operator.start()
            operator.join()
        return ({} if seen[-1] else {ONE: Document({})}), seen[-1]

    assert await store.transact([ONE, FLEET], step) is True
    assert seen == [False, True]
    assert await store.get([ONE]) == {}
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
@pytest.mark.parametrize("change", ["write", "delete", "create"])
async def test_a_step_is_run_again_when_what_it_writes_changes_before_the_commit(change: str) -> None:
    """Whether the other one wrote, deleted or created the document: its change is seen, not overwritten."""
    store = new_store()
    other = FirestoreStore(store._project, store._database)
    if change != "create":
        await store.transact([ONE], write(ONE, {"n": 1}))
    seen: list[Any] = []

    def interfere() -> None:
        document = None if change == "delete" else Document({"n": 7})
        asyncio.run(other.transact([ONE], lambda _: ({ONE: document}, None)))

    def step(found: Found) -> Any:
        seen.append(found[ONE].data["n"] if ONE in found else None)
        if len(seen) == 1:
            rival = threading.Thread(target=interfere)
            rival.start()
            rival.join()
        return {ONE: Document({"n": (seen[-1] or 0) + 1})}, None

    await store.transact([ONE], step)
    assert seen == {"write": [1, 7], "delete": [1, None], "create": [None, 7]}[change]
    assert (await store.get([ONE]))[ONE].data == {"n": (seen[-1] or 0) + 1}
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_a_document_that_everybody_reads_can_still_be_written() -> None:
    """Under a storm of transactions that read the fleet's switch, throwing it succeeds, and all see it."""
    store, operator = new_store(), new_store()
    operator = FirestoreStore(store._project, store._database)
    await operator.transact([FLEET], write(FLEET, {"frozen": False}))

    async def work(number: int) -> int:
        own, done = ("leases", f"{number}"), 0

        def step(found: Found) -> Any:
            if found[FLEET].data["frozen"]:
                return {}, True
            return {own: Document({"n": done})}, False

        while not await store.transact([own, FLEET], step):
            done += 1
        return done

    storm = [asyncio.create_task(work(number)) for number in range(12)]
    await until_there(operator, [("leases", f"{number}") for number in range(12)])
    await operator.transact([FLEET], write(FLEET, {"frozen": True}))
    assert all(await asyncio.wait_for(asyncio.gather(*storm), 60))
    await store.aclose()
    await operator.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_a_store_is_closed_from_another_loop_while_a_connection_is_given_up() -> None:
    """A function that is stopped closes it in a thread of its own, whatever is under way elsewhere."""
    store = new_store()
    await store.transact([ONE], write(ONE, {"n": 1}))
    store._in_background(asyncio.create_task(asyncio.sleep(0.5)))
    await asyncio.to_thread(lambda: asyncio.run(store.aclose()))
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_contention_without_end_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries are bounded; what comes out is transient and nothing was written."""
    monkeypatch.setattr(firestore, "TRIES", 3)
    store = new_store()
    other = FirestoreStore(store._project, store._database)
    tries = 0

    def interfere() -> None:
        asyncio.run(other.transact([ONE], write(ONE, {"by": "rival", "n": tries})))

    def step(_: Found) -> Any:
        nonlocal tries
        tries += 1
        rival = threading.Thread(target=interfere)
        rival.start()
        rival.join()
        return {ONE: Document({"by": "loser"})}, None

    with pytest.raises(Transient) as caught:
        await store.transact([ONE], step)
    assert caught.value.reason == "ledger_contention"
    assert tries == 3
    assert (await store.get([ONE]))[ONE].data == {"by": "rival", "n": 3}
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_a_document_of_another_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older logmend neither reads nor overwrites what a newer one wrote."""
    from logmend.adapters.stores import firestore_documents

    store = new_store()
    newer = FirestoreStore(store._project, store._database)
    monkeypatch.setattr(firestore_documents, "SCHEMA", firestore_documents.SCHEMA + 1)
    await newer.transact([ONE], write(ONE, {"n": 1}))
    await newer.aclose()
    monkeypatch.undo()
    for call in (
        store.get([ONE]),
        store.transact([ONE], write(ONE, {"n": 2})),
        store.scan("leases", None, 1),
    ):
        with pytest.raises(Permanent, match=r"has schema 3.*use the newer logmend") as caught:
            await call
        assert caught.value.reason == "ledger_schema"
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_times_are_native_fields_that_an_expiry_policy_can_use() -> None:
    """Google's own client sees timestamps and text at the top of the document."""
    from datetime import UTC, datetime

    from google.cloud import firestore as google_firestore

    store = new_store()
    moment = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
    await store.transact([ONE], lambda _: ({ONE: Document({"n": 1}, "parked", moment, moment)}, None))
    client = google_firestore.Client(project=store._project, database=store._database)
    fields = client.collection("leases").document("one").get().to_dict()
    client.close()  # type: ignore[no-untyped-call]
    assert fields is not None
    assert re.fullmatch("parked~[0-7]", fields.pop("queue"))
    assert fields == {"schema": 2, "data": '{"n":1}', "due": moment, "expire_at": moment}
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_a_work_list_is_spread_over_ranges_and_read_as_one() -> None:
    """Documents that fall due one after the other do not all hit the end of one range of the index."""
    from google.cloud import firestore as google_firestore

    from logmend.adapters.stores import spread

    store = new_store()
    start = datetime(2026, 11, 22, 12, tzinfo=UTC)
    keys: list[Key] = [("intents", f"m-{10**16 + number}") for number in range(64)]
    for number, key in enumerate(keys):
        due = Document({"n": number}, "parked", start + timedelta(seconds=number))
        await store.transact([key], lambda _, key=key, due=due: ({key: due}, None))  # type: ignore[misc]
    found = await store.due("intents", "parked", start + timedelta(hours=1), 50)
    assert [document.data["n"] for _, document in found] == list(range(50))
    assert {document.queue for _, document in found} == {"parked"}
    client = google_firestore.Client(project=store._project, database=store._database)
    queues = [each.get("queue") for each in client.collection("intents").stream()]
    client.close()  # type: ignore[no-untyped-call]
    assert len(set(queues)) == spread.RANGES
    assert max(map(queues.count, queues)) <= 20
    await store.aclose()


def client_of(store: FirestoreStore) -> Any:
    """Give Google's own client of the same database."""
    from google.cloud import firestore as google_firestore

    return google_firestore.Client(project=store._project, database=store._database)


@pytest.mark.usefixtures("firestore_emulator")
async def test_ids_that_follow_one_another_are_stored_apart_and_listed_in_order() -> None:
    """Messages of one second do not all hit the end of the collection; nobody else sees that."""
    from logmend.adapters.stores import spread

    store, ids = new_store(), [f"m-{10**16 + number}" for number in range(64)]
    due = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for start in range(0, 64, 16):
        new: dict[Key, Document | None] = {
            ("intents", each): Document({"n": each}, "parked", due) for each in ids[start : start + 16]
        }
        await store.transact(list(new), lambda _, new=new: (new, None))  # type: ignore[misc]
    assert [name for name, _ in await store.due("intents", "parked", due, 20)] == ids[:20]
    for size in (7, 64, 100):
        listed, after = list[str](), None
        while page := await store.scan("intents", after, size):
            listed += [name for name, _ in page]
            after = listed[-1]
        assert listed == ids
    client = client_of(store)
    ranges = [each.id[:3] for each in client.collection("intents").stream()]
    client.close()
    assert set(ranges) == {f"%{number}~" for number in range(spread.RANGES)}
    assert max(map(ranges.count, ranges)) <= 20
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_what_an_older_version_stored_is_found_and_stays_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read, changed, listed in order and removed under the id that it has; what is new is stored apart."""
    from logmend.adapters.stores import spread

    store, due = new_store(), datetime(2026, 11, 22, 12, tzinfo=UTC)
    old: list[Key] = [("intents", f"m-{number}") for number in (1, 3, 5)]
    both: list[Key] = [("intents", f"m-{number}") for number in range(1, 7)]
    with monkeypatch.context() as as_before:
        as_before.setattr(spread, "COLLECTIONS", frozenset())
        for key in old:
            await store.transact([key], lambda _, key=key: ({key: Document({"n": 1}, "parked", due)}, None))  # type: ignore[misc]

    def again(found: Found) -> Any:
        return {key: Document({"n": 2, "was": key in found}, "parked", due) for key in both}, None

    await store.transact(both, again)
    listed = [name for _, name in both]
    assert [name for name, _ in await store.scan("intents", None, 10)] == listed
    assert [name for name, _ in await store.scan("intents", "m-2", 2)] == ["m-3", "m-4"]
    assert [name for name, _ in await store.due("intents", "parked", due, 10)] == listed
    found = await store.get(both)
    assert [key for key in both if found[key].data["was"]] == old
    await store.transact(both, lambda _: ({old[0]: None}, None))
    client = client_of(store)
    stored = {each.id for each in client.collection("intents").stream()}
    client.close()
    assert stored == {"m-3", "m-5", *(spread.name("intents", f"m-{number}") for number in (2, 4, 6))}
    await store.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_a_document_is_asked_for_once_when_none_of_an_older_version_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each read is paid for. If one turns up after all, as of a command that is too old, it is found."""
    from logmend.adapters.stores import firestore_wire, spread

    monkeypatch.setattr(firestore_wire, "ASK_AGAIN", 0.0)
    store, due = new_store(), datetime(2026, 11, 22, 12, tzinfo=UTC)
    new: Key = ("intents", "m-1")
    late: Key = ("intents", "o-late")
    await store.transact([new], write(new, {}))
    await store.get([new])
    asked, calls = list[int](), store._connected()._calls
    real = calls.get

    def counting(request: Any) -> Any:
        asked.append(len(request.documents))
        return real(request)

    monkeypatch.setattr(calls, "get", counting)
    await store.get([new])
    assert asked == [1]
    with monkeypatch.context() as as_before:
        as_before.setattr(spread, "COLLECTIONS", frozenset())
        await store.transact([late], lambda _: ({late: Document({"n": 1}, "parked", due)}, None))
    assert [name for name, _ in await store.due("intents", "parked", due, 10)] == ["o-late"]
    assert (await store.get([late]))[late].data == {"n": 1}
    await store.aclose()


@pytest.mark.parametrize("behind", ["intents", "others"])
async def test_one_collection_with_documents_of_an_older_version_is_enough(
    behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is asked last: they are looked for as long as any has some."""
    from logmend.adapters.stores import firestore_wire, spread

    class Asked(firestore_wire.Database):
        def __init__(self) -> None:
            self._older, self._asked = True, -firestore_wire.ASK_AGAIN

        async def _page(self, collection: str, first: str, *_rest: Any) -> list[Any]:
            return ["m-1"] if not first or collection == behind else []

    monkeypatch.setattr(spread, "COLLECTIONS", ("intents", "others"))
    assert await Asked()._has_older()


def test_every_query_is_served_by_an_index_that_is_declared() -> None:
    """The emulator checks none: Terraform and gcloud.sh declare what the one query with a condition needs."""
    from logmend.adapters.stores import firestore_wire, spread

    asked: list[Any] = []

    class Asking(firestore_wire.Database):
        def __init__(self) -> None:
            self._name = "projects/p/databases/d"
            self._older, self._asked = True, -firestore_wire.ASK_AGAIN

        async def _run(self, query: Any) -> Any:
            asked.append(query)
            for nothing in list[Any]():
                yield nothing

    database = Asking()
    for collection in ("intents", "subjects"):
        asyncio.run(database.scan(collection, "m-1", 5))
    scans = asked.copy()
    asked.clear()
    for collection in ("intents", "subjects"):
        # A page that is full at once is read range by range as well.
        asyncio.run(database.due(collection, "parked", datetime.now(UTC), 0))
    assert (len(scans), len(asked)) == (2 + spread.RANGES + 1 + 1, 1 + spread.RANGES + 1 + 1)
    for scan in scans:
        assert not scan.where.composite_filter.filters
        assert [each.field.field_path for each in scan.order_by] == ["__name__"]
    for due in asked:
        filtered = [each.field_filter.field.field_path for each in due.where.composite_filter.filters]
        assert filtered == ["queue", "due"]
        assert [each.field.field_path for each in due.order_by] == ["due", "__name__"]
    root = Path(__file__).parents[2] / "deploy"
    index = (root / "ledger.tf").read_text().partition('"google_firestore_index" "due"')[2]
    assert re.findall(r'field_path = "(\w+)"', index) == filtered
    fields = "--field-config=field-path=queue,order=ascending --field-config=field-path=due,order=ascending"
    assert fields in (root / "gcloud.sh").read_text()


async def test_every_collection_with_a_work_list_has_its_index_declared() -> None:
    """And nothing else is indexed: no single field, whose rising values would meet at one end."""
    asked = set[str]()

    class Asked(MemoryStore):
        async def due(self, collection: str, queue: str, before: datetime, limit: int) -> Any:
            asked.add(collection)
            return []

    queues = Queues(Asked())
    for name, method in inspect.getmembers(queues, inspect.iscoroutinefunction):
        if "limit" in inspect.signature(method).parameters:
            assert await getattr(queues, name)(datetime.now(UTC), 5) == []
    root = Path(__file__).parents[2] / "deploy"
    terraform, script = (root / "ledger.tf").read_text(), (root / "gcloud.sh").read_text()
    _, _, index = terraform.partition('"google_firestore_index" "due"')
    declared = re.search(r"for_each = toset\((.*)\)", index)
    looped = re.search(r"for collection in ([a-z ]+); do\n  case \$indexes", script)
    assert declared
    assert looped
    assert "intents" in asked
    assert set(json.loads(declared[1])) == set(looped[1].split()) == asked
    assert re.search(r'collection = "__default__"\n\s*field\s*= "\*"\n\n\s*index_config \{\}', terraform)
    assert "fields update '*' --collection-group=__default__" in script


# Errors


def error_classes() -> list[type[Exception]]:
    """Every exception class of the libraries beneath this adapter."""
    found: set[type[Exception]] = set()
    modules = [exceptions, google.auth.exceptions, grpc, grpc.aio]
    for package in (grpc, grpc.aio):
        for info in pkgutil.iter_modules(package.__path__):
            if info.name in {"_typing", "_observability", "beta", "framework", "experimental"}:
                continue
            modules.append(__import__(f"{package.__name__}.{info.name}", fromlist=["x"]))
    for module in modules:
        for each in vars(module).values():
            if inspect.isclass(each) and issubclass(each, Exception):
                found.add(each)
    return sorted(found, key=lambda each: f"{each.__module__}.{each.__qualname__}")


def an_instance(kind: type[Exception]) -> Exception:
    """Make an exception, with as few arguments as its class takes."""
    if issubclass(kind, grpc.RpcError):
        # gRPC's errors are the failed calls themselves, and cannot be made without one.
        nothing = {"__init__": lambda _: None, "__del__": lambda _: None, "__str__": lambda _: kind.__name__}
        answer = {"code": lambda _: grpc.StatusCode.UNAVAILABLE, "details": lambda _: "boom"}
        failed: Exception = type(kind.__name__, (kind,), nothing | answer)()
        return failed
    try:
        return kind("boom")
    except TypeError:
        return kind("boom", ValueError("cause"))


def test_every_exception_of_the_client_gets_a_reason_of_the_ledger() -> None:
    """No class of google.api_core, google.auth or gRPC comes out unclassified."""
    reasons = {
        "ledger_contention", "ledger_unavailable", "ledger_missing", "ledger_forbidden", "ledger_rejected",
    }  # fmt: skip
    classes = error_classes()
    assert len(classes) > 50
    for each in classes:
        error = an_instance(each)
        verdict = classify(error)
        assert isinstance(verdict, Transient | Permanent), each
        assert verdict.reason in reasons, each


@pytest.mark.parametrize(
    ("error", "text", "kind", "reason"),
    [
        (exceptions.Aborted, "Transaction lock timeout.", Transient, "ledger_contention"),
        (exceptions.AlreadyExists, "Document already exists", Transient, "ledger_contention"),
        (exceptions.InvalidArgument, "The transaction has expired.", Transient, "ledger_contention"),
        (exceptions.InvalidArgument, "Document is too large", Permanent, "ledger_rejected"),
        (exceptions.FailedPrecondition, "The query requires an index.", Permanent, "ledger_rejected"),
        (exceptions.NotFound, "The database (default) does not exist", Permanent, "ledger_missing"),
        (exceptions.PermissionDenied, "Missing or insufficient permissions.", Permanent, "ledger_forbidden"),
        (exceptions.Unauthenticated, "no", Transient, "ledger_unavailable"),
        (exceptions.ResourceExhausted, "Quota exceeded.", Transient, "ledger_unavailable"),
        (exceptions.ServiceUnavailable, "connection refused", Transient, "ledger_unavailable"),
        (exceptions.DeadlineExceeded, "slow", Transient, "ledger_unavailable"),
        (exceptions.InternalServerError, "oops", Transient, "ledger_unavailable"),
        (RuntimeError, "who knows", Transient, "ledger_unavailable"),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do_about_it(
    error: type[Exception], text: str, kind: type[Exception], reason: str
) -> None:
    """Spot checks of the table, in the words that Firestore uses."""
    verdict = classify(error(text))
    assert isinstance(verdict, kind)
    assert verdict.reason == reason


@pytest.mark.usefixtures("firestore_emulator")
@pytest.mark.parametrize("answer", ["refuses", "ignores"])
async def test_a_server_that_does_not_obey_conditions_alone_gets_transactions_and_optimistic_ones(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """It is asked once. Databases that gcloud made are pessimistic: their lock would hold a freeze back."""
    from logmend.adapters.stores.firestore_calls import Calls

    store, begun, asked = new_store(), list[Any](), 0
    operator = FirestoreStore(store._project, store._database)
    get, commit = Calls.get, Calls.commit

    def seen(self: Calls, request: Any) -> Any:
        begun.extend([request.new_transaction] if request.HasField("new_transaction") else [])
        return get(self, request)

    async def older(self: Calls, request: Any) -> Any:
        nonlocal asked
        known = [each for each in request.writes if each.WhichOneof("operation") is not None]
        if len(known) < len(request.writes):
            asked += 1
            if answer == "refuses":
                raise exceptions.InvalidArgument("empty write operation")  # type: ignore[no-untyped-call]
            del request.writes[:]
            request.writes.extend(known)
        return await commit(self, request)

    monkeypatch.setattr(Calls, "get", seen)
    monkeypatch.setattr(Calls, "commit", older)

    def unless_frozen(found: Found) -> Any:
        frozen = FLEET in found
        return ({} if frozen else {ONE: Document({"n": 0})}), frozen

    def meanwhile(found: Found) -> Any:
        if FLEET not in found:
            freezing = threading.Thread(
                target=lambda: asyncio.run(operator.transact([FLEET], write(FLEET, {"frozen": True})))
            )
            freezing.start()
            freezing.join()
        return unless_frozen(found)

    assert [await store.transact([ONE, FLEET], unless_frozen) for _ in range(2)] == [False, False]
    assert await store.transact([ONE, FLEET], meanwhile) is True
    assert (asked, len(begun)) == (1, 3)
    assert {each.read_write.concurrency_mode for each in begun} == {1}  # OPTIMISTIC
    await store.aclose()


# What this process wrote itself


COUNT: Key = ("leases", "count")


def add(found: Found) -> Any:
    """Add one to a count."""
    count = found[COUNT].data["n"] + 1 if COUNT in found else 1
    return {COUNT: Document({"n": count})}, count


@pytest.mark.usefixtures("firestore_emulator")
async def test_what_it_wrote_itself_is_not_read_again_but_holds_only_if_nobody_else_wrote_it() -> None:
    """A rival's write, or removal, is seen by the commit; then it is read, and the step done on that."""
    mine = new_store()
    rival = FirestoreStore(mine._project, mine._database)
    assert [await mine.transact([COUNT], add) for _ in range(3)] == [1, 2, 3]
    assert await rival.transact([COUNT], add) == 4
    assert [await mine.transact([COUNT], add) for _ in range(2)] == [5, 6]
    await rival.transact([COUNT], lambda _: ({COUNT: None}, None))
    assert [await mine.transact([COUNT], add) for _ in range(2)] == [1, 2]
    assert (await mine.get([COUNT]))[COUNT].data == {"n": 2}
    await mine.aclose()
    await rival.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_what_it_found_unchanged_itself_is_compared_by_the_next_commit_all_the_same() -> None:
    """A freeze by another process stops a step that this process could do on what it remembers."""
    mine = new_store()
    operator = FirestoreStore(mine._project, mine._database)

    def unless_frozen(found: Found) -> Any:
        frozen = found[FLEET].data["frozen"]
        return ({} if frozen else add(found)[0]), frozen

    await operator.transact([FLEET], write(FLEET, {"frozen": False}))
    assert [await mine.transact([COUNT, FLEET], unless_frozen) for _ in range(2)] == [False, False]
    await operator.transact([FLEET], write(FLEET, {"frozen": True}))
    assert await mine.transact([COUNT, FLEET], unless_frozen) is True
    assert (await mine.get([COUNT]))[COUNT].data == {"n": 2}
    await mine.aclose()
    await operator.aclose()


@pytest.mark.usefixtures("firestore_emulator")
async def test_an_answer_without_a_write_and_an_error_are_never_given_from_memory() -> None:
    """Both may be about what is so no more."""
    mine = new_store()
    rival = FirestoreStore(mine._project, mine._database)

    def demand(found: Found) -> Any:
        if found[COUNT].data["n"] == 1:
            raise LookupError
        return {}, found[COUNT].data["n"]

    await mine.transact([COUNT], add)
    await rival.transact([COUNT], add)
    assert await mine.transact([COUNT], demand) == 2
    await rival.transact([COUNT], add)
    assert await mine.transact([COUNT], demand) == 3
    await mine.aclose()
    await rival.aclose()


@pytest.mark.usefixtures("firestore_emulator")
@pytest.mark.parametrize("arrived", [True, False])
async def test_a_commit_of_unknown_fate_is_forgotten_and_not_sent_again(
    arrived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was written or not: the caller hears that it is unknown, and the next transaction reads."""
    from logmend.adapters.stores.firestore_calls import Calls

    store, commit, sent = new_store(), Calls.commit, 0
    await store.transact([COUNT], add)

    async def lost(self: Calls, request: Any) -> Any:
        nonlocal sent
        sent += 1
        if arrived:
            await commit(self, request)
        raise exceptions.ServiceUnavailable("lost")  # type: ignore[no-untyped-call]

    with monkeypatch.context() as losing:
        losing.setattr(Calls, "commit", lost)
        with pytest.raises(Transient) as caught:
            await store.transact([COUNT], add)
    assert (caught.value.reason, sent) == ("ledger_unavailable", 1)
    assert await store.transact([COUNT], add) == (3 if arrived else 2)
    await store.aclose()
