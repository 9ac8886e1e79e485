"""One suite for every store beneath the ledger: memory, SQLite and the real Firestore emulator."""

import asyncio
import json
import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.contract.stores import RACE_TIMEOUT, Backend

from logmend.errors import Permanent, Transient
from logmend.ports import Document, Key, Step, Store

NOW = datetime(2026, 11, 22, 12, 0, 0, 123457, tzinfo=UTC)
ONE: Key = ("leases", "one")
TWO: Key = ("leases", "two")
Found = Mapping[Key, Document]


def writing(writes: Mapping[Key, Document | None]) -> Step[None]:
    """Make a step that writes without looking."""
    return lambda _: (writes, None)


async def put(store: Store, writes: Mapping[Key, Document | None]) -> None:
    await store.transact(list(writes), writing(writes))


async def persistently(store: Store, keys: list[Key], step: Step[Any]) -> Any:
    """Transact as a caller does: again after contention, which the port announces."""
    for _ in range(50):
        try:
            return await store.transact(keys, step)
        except Transient as error:
            if error.reason != "ledger_contention":
                raise
    raise AssertionError("contention never ended")


def increment(found: Found) -> tuple[Mapping[Key, Document | None], int]:
    count = found[ONE].data["count"] + 1 if ONE in found else 1
    return {ONE: Document({"count": count})}, count


# Reading and writing


async def test_a_step_sees_exactly_the_named_documents_that_exist(store: Store) -> None:
    """Neither missing documents nor unnamed ones reach a step."""
    await put(store, {ONE: Document({"n": 1}), ("leases", "other"): Document({"n": 3})})
    seen = await store.transact([ONE, TWO, ("intents", "one")], lambda found: ({}, dict(found)))
    assert seen == {ONE: Document({"n": 1})}
    assert await store.get([ONE, TWO, ("intents", "one")]) == {ONE: Document({"n": 1})}


async def test_a_transaction_gives_the_answer_of_its_step(store: Store) -> None:
    """Whatever the step answers comes back."""
    assert await store.transact([ONE], lambda found: ({}, ("nothing", len(found)))) == ("nothing", 0)
    assert await store.transact([], lambda found: ({}, dict(found))) == {}
    assert await store.get([]) == {}


async def test_a_key_named_twice_is_read_and_written_once(store: Store) -> None:
    """Callers collect keys from several places without caring for repetition."""
    assert await store.transact([ONE, ONE], increment) == 1
    assert await store.get([ONE, ONE]) == {ONE: Document({"count": 1})}


async def test_all_writes_of_a_transaction_arrive_together(store: Store) -> None:
    """Create, replace and delete in one go; collections are apart."""
    await put(store, {ONE: Document({"n": 1}), TWO: Document({"n": 2})})
    await put(store, {ONE: None, TWO: Document({"m": 3}), ("intents", "one"): Document({"n": 4})})
    assert await store.get([ONE, TWO, ("intents", "one")]) == {
        TWO: Document({"m": 3}),
        ("intents", "one"): Document({"n": 4}),
    }


async def test_writing_replaces_the_whole_document(store: Store) -> None:
    """No field of the former document survives, its place on a queue included."""
    await put(store, {ONE: Document({"a": {"b": 1}, "c": 2}, "parked", NOW, NOW)})
    await put(store, {ONE: Document({"a": {"d": 4}})})
    assert await store.get([ONE]) == {ONE: Document({"a": {"d": 4}})}
    assert await store.due("leases", "parked", NOW, 10) == []


async def test_deleting_what_is_not_there_is_fine(store: Store) -> None:
    """None for a document that does not exist changes nothing."""
    await put(store, {ONE: None})
    assert await store.get([ONE]) == {}


async def test_a_step_may_write_only_what_its_transaction_reads(store: Store) -> None:
    """A key that was not named is refused, and nothing of the step is written."""
    with pytest.raises(ValueError, match="only documents that its transaction reads"):
        await store.transact([ONE], writing({ONE: Document({}), TWO: Document({})}))
    assert await store.get([ONE, TWO]) == {}


async def test_a_step_that_raises_leaves_nothing_and_its_exception_passes_through(store: Store) -> None:
    """The very exception object comes out, whatever its class; the store goes on working."""
    await put(store, {ONE: Document({"n": 1})})
    for trouble in (KeyError("x"), ValueError("y"), Transient("busy"), TimeoutError("z"), OSError("o")):

        def step(found: Found, trouble: Exception = trouble) -> tuple[Mapping[Key, Document | None], None]:
            raise trouble

        with pytest.raises(type(trouble)) as caught:
            await store.transact([ONE, TWO], step)
        assert caught.value is trouble
    assert await store.transact([ONE, TWO], lambda found: ({}, dict(found))) == {ONE: Document({"n": 1})}


async def test_a_half_queued_document_is_refused(store: Store) -> None:
    """Queue without due, or due without queue, would be lost from every work list."""
    for document in (Document({}, queue="parked"), Document({}, due=NOW)):
        with pytest.raises(ValueError, match="both queue and due or neither"):
            await put(store, {ONE: document})
    assert await store.get([ONE]) == {}


async def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    """A naive datetime would mean another moment on another machine."""
    naive = NOW.replace(tzinfo=None)
    for document in (Document({}, "parked", naive), Document({}, expire_at=naive)):
        with pytest.raises(ValueError, match="without a time zone"):
            await put(store, {ONE: document})
    with pytest.raises(ValueError, match="without a time zone"):
        await store.due("leases", "parked", naive, 1)
    assert await store.get([ONE]) == {}


async def test_data_that_is_not_json_is_refused(store: Store) -> None:
    """A value that one store could not keep is refused by all."""
    for value in (NOW, b"bytes", {1, 2}, object()):
        with pytest.raises(TypeError):
            await put(store, {ONE: Document({"value": value})})
    assert await store.get([ONE]) == {}


@pytest.mark.parametrize("key", [("leases", ""), ("leases", "a/b"), ("le/ases", "a"), ("leases", "x" * 1500)])
async def test_a_key_that_no_store_could_keep_is_refused_by_all(store: Store, key: Key) -> None:
    """Empty ids, slashes and overlong ids do not work on one store and fail on another."""
    with pytest.raises(ValueError):
        await store.get([key])
    with pytest.raises(ValueError):
        await store.transact([key], writing({}))


async def test_what_was_read_can_be_changed_without_changing_the_store(store: Store) -> None:
    """Nobody holds a reference into the store."""
    data = {"list": [1]}
    await put(store, {ONE: Document(data)})
    data["list"].append(2)
    (await store.get([ONE]))[ONE].data["list"].append(3)
    assert (await store.get([ONE]))[ONE].data == {"list": [1]}


# Fidelity


NESTED: dict[str, Any] = {
    "none": None, "true": True, "false": False, "zero": 0, "one": 1, "float": 1.0, "tiny": 5e-324,
    "big": 2**63 - 1, "small": -(2**63), "text": "", "list": [], "map": {},
    "mixed": {"a": [{"b": [1, "x", None]}]},
}  # fmt: skip


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "data",
    [
        NESTED,
        {},
        {"list in list": [[1, [2, []]], []], "beside": 1},
        {"": 1, "__reserved__": 2, "a.b`c": 3, "%": 4, " ": 5, "key of 2000": {"k" * 2000: 6}},
        {"unicode": "žluťoučký 機械 🛠 \u0000 \u200f", "機械": "🛠", "surrogate": "\udcff"},
        {"beyond 64 bits": 2**70},
        nested(17),
        nested(40),
    ],
    ids=["nested", "empty", "list in list", "odd keys", "odd text", "big integers", "deep", "deeper"],
)
async def test_data_comes_back_as_it_was(store: Store, data: dict[str, Any]) -> None:
    """Types and the order of keys included: what was written once can be emitted again byte for byte."""
    await put(store, {ONE: Document(data)})
    back = (await store.get([ONE]))[ONE].data
    assert back == data
    assert json.dumps(back) == json.dumps(data)


async def test_a_big_document_comes_back_whole(store: Store) -> None:
    """Half a mebibyte, as evidence of a whole fleet might be, in one text and in many entries."""
    data = {"text": "ž" * (128 * 1024), "entries": {f"instance {n}": "x" * 100 for n in range(2400)}}
    await put(store, {ONE: Document(data)})
    assert (await store.get([ONE]))[ONE].data == data


async def test_a_document_that_has_grown_too_big_is_refused(store: Store) -> None:
    """What Firestore would not take is refused by all, for good and in words; nothing of it is written."""
    await put(store, {ONE: Document({"n": 1})})
    with pytest.raises(Permanent, match="the limit is") as caught:
        await put(store, {ONE: Document({"text": "x" * 1_000_000}), TWO: Document({})})
    assert caught.value.reason == "ledger_rejected"
    assert await store.get([ONE, TWO]) == {ONE: Document({"n": 1})}


async def test_the_largest_document_is_taken(store: Store) -> None:
    """Just below the limit every store still takes it, on a queue and with a long id."""
    key = ("leases", "機" * 466)
    await put(store, {key: Document({"text": "x" * 999_980}, "parked", NOW, NOW)})
    assert len((await store.get([key]))[key].data["text"]) == 999_980


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        datetime(2026, 11, 22, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 11, 22, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    ],
    ids=str,
)
async def test_times_come_back_to_the_microsecond_and_in_utc(store: Store, moment: datetime) -> None:
    """Equal to the moment that was written, aware, in UTC, and of no class but datetime."""
    await put(store, {ONE: Document({}, "parked", moment, moment)})
    back = (await store.get([ONE]))[ONE]
    assert (back.due, back.expire_at, back.queue) == (moment, moment, "parked")
    for time in (back.due, back.expire_at):
        assert type(time) is datetime
        assert time.tzinfo is UTC


async def test_an_expired_document_is_still_given(store: Store) -> None:
    """Judging expiry is the ledger's business; a store may only delete, some day."""
    await put(store, {ONE: Document({}, "parked", NOW, expire_at=datetime(2020, 1, 1, tzinfo=UTC))})
    assert ONE in await store.get([ONE])
    assert [found for found, _ in await store.due("leases", "parked", NOW, 5)] == ["one"]


# Lists


async def test_due_gives_the_earliest_first_up_to_the_moment(store: Store) -> None:
    """At or before; equal times in order of id; one queue and one collection only."""
    times = {"d": -2, "c": 0, "b": 0, "a": 1, "e": -3}
    await put(
        store,
        {
            ("intents", name): Document({"n": name}, "parked", NOW + timedelta(microseconds=shift))
            for name, shift in times.items()
        }
        | {
            ("intents", "elsewhere"): Document({}, "unverified", NOW - timedelta(days=1)),
            ("leases", "elsewhere"): Document({}, "parked", NOW - timedelta(days=1)),
            ("intents", "done"): Document({}),
        },
    )
    found = await store.due("intents", "parked", NOW, 10)
    assert [name for name, _ in found] == ["e", "d", "b", "c"]
    assert found[0][1] == Document({"n": "e"}, "parked", NOW + timedelta(microseconds=-3))
    assert [name for name, _ in await store.due("intents", "parked", NOW, 3)] == ["e", "d", "b"]
    assert [name for name, _ in await store.due("intents", "parked", NOW + timedelta(days=1), 10)][-1] == "a"
    assert await store.due("intents", "nothing", NOW, 10) == []


async def test_a_document_leaves_its_queue_when_rewritten_or_deleted(store: Store) -> None:
    """Neither a document without a queue nor a deleted one is listed, nor is one that moved listed twice."""
    keys = [("intents", name) for name in ("stays", "moves", "leaves", "goes")]
    await put(store, {key: Document({}, "parked", NOW) for key in keys})
    await put(store, {keys[1]: Document({}, "requested", NOW), keys[2]: Document({}), keys[3]: None})
    assert [name for name, _ in await store.due("intents", "parked", NOW, 10)] == ["stays"]
    assert [name for name, _ in await store.due("intents", "requested", NOW, 10)] == ["moves"]


async def pages(store: Store, collection: str, size: int) -> list[str]:
    """Ids of a collection, page by page."""
    ids: list[str] = []
    after: str | None = None
    for _ in range(100):
        page = await store.scan(collection, after, size)
        ids += [name for name, _ in page]
        if len(page) < size:
            return ids
        after = ids[-1]
    raise AssertionError("the pages never end")


async def test_scan_pages_through_a_collection_in_order_of_id(store: Store) -> None:
    """Each document once, in code-point order, whatever the page size; other collections do not appear."""
    names = [f"project-{n % 7}~us-west1-a~{n}~workload-cert-refresh" for n in range(23)]
    await put(store, {("leases", name): Document({"name": name}) for name in names})
    await put(store, {("intents", "project-3"): Document({})})
    for size in (1, 5, 23, 100):
        assert await pages(store, "leases", size) == sorted(names)
    page = await store.scan("leases", "project-3~us-west1-a~", 2)
    assert [(name, document.data) for name, document in page] == [
        (name, {"name": name}) for name in sorted(name for name in names if name.startswith("project-3"))[:2]
    ]
    assert await store.scan("nothing", None, 5) == []


ODD_IDS = [
    ".", "..", "...", "__id7__", "____", "__", "_", "%", "%2E", "%25", "%zz", "~", " ", " lead",
    "trail ", "a b", "ž", "機械", "🛠", "\uffee", "é", "e\u0301", "Z", "z", "0", "10", "9", "a:b", "a;b?c#d",
    "\\", "'\"`", "<>", "projects~p~zones~z", "x" * 300, "機" * 100, "-", "*",
    "{}[]()", "None", "null", "\t", "\u200f", string.punctuation.replace("/", ""),
]  # fmt: skip


async def test_odd_ids_are_kept_apart_and_paged_through(store: Store) -> None:
    """Every id that may stand in a message comes back as itself, exactly once."""
    for start in range(0, len(ODD_IDS), 10):
        await put(store, {("odd", name): Document({"id": name}) for name in ODD_IDS[start : start + 10]})
    found = await store.get([("odd", name) for name in ODD_IDS])
    assert {(key[1], document.data["id"]) for key, document in found.items()} == {
        (each, each) for each in ODD_IDS
    }
    listed = await pages(store, "odd", 4)
    assert sorted(listed) == sorted(ODD_IDS)
    ordinary = [name for name in listed if name not in {".", "..", "__id7__", "____"}]
    assert ordinary == sorted(ordinary)


# Concurrency


async def test_fifty_tasks_counting_lose_nothing(store: Store) -> None:
    """Increments of one document are serialised, however many run at once."""
    counts = await asyncio.gather(*(persistently(store, [ONE], increment) for _ in range(50)))
    assert sorted(counts) == list(range(1, 51))
    assert (await store.get([ONE]))[ONE].data == {"count": 50}


async def test_a_decision_on_two_documents_is_serialisable(store: Store) -> None:
    """Two tasks that each read both documents and write one cannot both act on what the other changed."""

    def taking(own: Key) -> Step[bool]:
        def step(found: Found) -> tuple[Mapping[Key, Document | None], bool]:
            free = not found
            return ({own: Document({})} if free else {}), free

        return step

    for attempt in range(3):
        left, right = ("leases", f"left {attempt}"), ("leases", f"right {attempt}")
        taken = await asyncio.gather(
            *(persistently(store, [left, right], taking(own)) for own in (left, right))
        )
        assert sorted(taken) == [False, True]
        assert len(await store.get([left, right])) == 1


async def claim(store: Store, number: int) -> int:
    """Claim a document that does not exist; give its owner."""

    def step(found: Found) -> tuple[Mapping[Key, Document | None], int]:
        if ONE in found:
            return {}, found[ONE].data["owner"]
        return {ONE: Document({"owner": number, "fence": 1}, expire_at=NOW)}, number

    owner: int = await persistently(store, [ONE], step)
    return owner


async def take_over(store: Store, number: int) -> int:
    """Take over a lease with fence 1; give its owner after that."""

    def step(found: Found) -> tuple[Mapping[Key, Document | None], int]:
        lease = found[ONE].data
        if lease["fence"] == 1:
            return {ONE: Document({"owner": number, "fence": 2})}, number
        return {}, lease["owner"]

    owner: int = await persistently(store, [ONE, TWO], step)
    return owner


async def count_five(store: Store, number: int) -> list[int]:
    """Increment five times."""
    return [await persistently(store, [ONE], increment) for _ in range(5)]


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_sixteen_rivals_for_a_new_document_give_one_owner(backend: Backend) -> None:
    """Each has a store of its own, in a process of its own where the state is shared; all name one owner."""
    owners = await asyncio.to_thread(backend.race, claim, 16)
    assert len(owners) == 16
    assert len(set(owners)) == 1
    assert owners[owners[0]] == owners[0]


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_sixteen_rivals_for_an_expired_lease_give_one_owner(backend: Backend, store: Store) -> None:
    """Exactly one takes over, and its fencing number is the only one that was given out."""
    await put(store, {ONE: Document({"owner": -1, "fence": 1})})
    owners = await asyncio.to_thread(backend.race, take_over, 16)
    assert len(set(owners)) == 1
    assert (await store.get([ONE]))[ONE].data == {"owner": owners[0], "fence": 2}


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_six_rivals_counting_lose_nothing(backend: Backend, store: Store) -> None:
    """Increments from several processes are serialised too."""
    counts = await asyncio.to_thread(backend.race, count_five, 6)
    assert sorted(count for five in counts for count in five) == list(range(1, 31))
    assert (await store.get([ONE]))[ONE].data == {"count": 30}


async def test_what_is_written_after_it_was_read_ahead_is_not_lost(backend: Backend, store: Store) -> None:
    """It saves a transaction a call, never the condition that all is still so; what is missing is fine."""
    other = backend.open()
    await store.read_ahead([ONE, TWO])
    assert await persistently(other, [ONE], increment) == 1
    await store.read_ahead([ONE, TWO])
    assert await persistently(other, [ONE], increment) == 2
    assert await persistently(store, [ONE, TWO], increment) == 3
    await store.read_ahead([ONE, TWO])
    assert await persistently(store, [ONE, TWO], increment) == 4
    await other.aclose()


async def test_what_one_store_object_wrote_another_reads(backend: Backend, store: Store) -> None:
    """A second client of the same state sees each write as soon as it is acknowledged."""
    other = backend.open()
    await put(store, {ONE: Document({"n": 1}, "parked", NOW)})
    assert await other.get([ONE]) == {ONE: Document({"n": 1}, "parked", NOW)}
    assert len(await other.due("leases", "parked", NOW, 5)) == 1
    await other.aclose()


async def test_a_cancelled_transaction_is_done_or_not_begun(store: Store) -> None:
    """At whatever moment a task is cancelled, both documents agree, and the next transaction goes through."""
    await put(store, {ONE: Document({"n": 0}), TWO: Document({"n": 0})})

    def both(found: Found) -> tuple[Mapping[Key, Document | None], None]:
        number = found[ONE].data["n"] + 1
        return {ONE: Document({"n": number}), TWO: Document({"n": number})}, None

    for delay in (0.0, 0.001, 0.002, 0.004, 0.008, 0.016):
        task = asyncio.create_task(store.transact([ONE, TWO], both))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found = await store.get([ONE, TWO])
        assert found[ONE].data == found[TWO].data
    before = (await store.get([ONE]))[ONE].data["n"]
    await persistently(store, [ONE, TWO], both)
    assert (await store.get([TWO]))[TWO].data["n"] > before


# Life of a store object


async def test_closing_twice_is_fine_and_what_was_written_stays(backend: Backend) -> None:
    """Closing releases connections, not documents; an unused store can be closed too."""
    unused = backend.open()
    await unused.aclose()
    store = backend.open()
    await put(store, {ONE: Document({"n": 1})})
    await store.aclose()
    await store.aclose()
    again = backend.open()
    assert await again.get([ONE]) == {ONE: Document({"n": 1})}
    await again.aclose()


def test_a_store_object_serves_one_event_loop_after_another(backend: Backend) -> None:
    """A command that runs several loops in turn needs one store only."""
    store = backend.open()
    assert asyncio.run(store.transact([ONE], increment)) == 1
    assert asyncio.run(store.transact([ONE], increment)) == 2
    asyncio.run(store.aclose())
