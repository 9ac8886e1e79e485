"""Whether Firestore obeys a condition alone, by whatever error it says so: nothing is believed by half."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.firestore_v1 import types

from logmend.adapters.stores import firestore
from logmend.adapters.stores.firestore import FirestoreStore
from logmend.adapters.stores.firestore_calls import Calls
from logmend.ports import Document, Key

ONE: Key = ("leases", "one")
FLEET: Key = ("controls", "fleet")


class Server:
    """Answers for a database without a document; a commit that has conditions alone is answered by ``rule``.

    ``rule`` gets whether they hold.
    """

    def __init__(self, rule: Callable[[bool], None]) -> None:
        self.rule = rule
        self.commits: list[Any] = []

    async def get(self, request: Any) -> AsyncIterator[Any]:
        """Begin a transaction, if that is asked for."""
        if request.HasField("new_transaction"):
            yield types.BatchGetDocumentsResponse.pb()(transaction=b"t")

    async def commit(self, request: Any) -> Any:
        """Note a commit and answer it."""
        self.commits.append(request)
        await asyncio.sleep(0)
        alone = [each for each in request.writes if each.WhichOneof("operation") is None]
        if alone:
            self.rule(not any(each.current_document.exists for each in alone))
        results = [{"update_time": {"seconds": len(self.commits)}} for _ in request.writes]
        return types.CommitResponse.pb()(write_results=results)


def always(kind: type[exceptions.GoogleAPICallError], text: str) -> Callable[[bool], None]:
    """Refuse all conditions in the same words, whether they hold or not."""

    def rule(holds: bool) -> None:
        raise kind(text)

    return rule


def unless(kind: type[exceptions.GoogleAPICallError]) -> Callable[[bool], None]:
    """Refuse what does not hold."""

    def rule(holds: bool) -> None:
        if not holds:
            raise kind("no")

    return rule


@pytest.fixture
def served(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[bool], None]], tuple[FirestoreStore, Server]]:
    """Give a store and the server that answers it."""

    def serve(rule: Callable[[bool], None]) -> tuple[FirestoreStore, Server]:
        server = Server(rule)
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")  # nobody calls it
        monkeypatch.setattr(firestore, "TRIES", 1)
        monkeypatch.setattr(Calls, "get", lambda _, request: server.get(request))
        monkeypatch.setattr(Calls, "commit", lambda _, request: server.commit(request))
        return FirestoreStore("a-project", "ledger"), server

    return serve


def once(_: Mapping[Key, Document]) -> Any:
    """Write one document, having read two."""
    return {ONE: Document({})}, "written"


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        pytest.param(always(exceptions.InvalidArgument, "empty write operation"), 1, id="not understood"),
        pytest.param(always(exceptions.InvalidArgument, "verify needs a transaction"), 1, id="in its words"),
        pytest.param(
            always(exceptions.FailedPrecondition, "verify needs a transaction"), 2, id="as if not so"
        ),
        pytest.param(lambda _: None, 1, id="ignored"),
    ],
)
async def test_a_server_that_does_not_obey_conditions_alone_is_given_transactions(
    served: Any, rule: Callable[[bool], None], asked: int
) -> None:
    """Whichever error it refuses them by: each step is done, and it is asked no more than once."""
    store, server = served(rule)
    for _ in range(3):
        assert await store.transact([ONE, FLEET], once) == "written"
    assert [each.transaction for each in server.commits] == [b""] * asked + [b"t"] * 3
    await store.aclose()


async def test_a_server_that_aborts_has_not_answered_the_question(served: Any) -> None:
    """What others are in the way of is aborted too: this step is a transaction, and it is asked again."""
    store, server = served(always(exceptions.Aborted, "try again"))
    assert await store.transact([ONE, FLEET], once) == "written"
    server.rule = unless(exceptions.NotFound)
    assert await store.transact([ONE, FLEET], once) == "written"
    assert [each.transaction for each in server.commits] == [b"", b"t", b"", b"", b""]
    await store.aclose()


@pytest.mark.parametrize("kind", [exceptions.NotFound, exceptions.FailedPrecondition])
async def test_a_server_that_obeys_conditions_alone_is_given_them(
    served: Any, kind: type[exceptions.GoogleAPICallError]
) -> None:
    """It stops what is on a condition that does not hold, and lets pass what is on one that does."""
    store, server = served(unless(kind))
    for _ in range(2):
        assert await store.transact([ONE, FLEET], once) == "written"
    assert [len(each.writes) for each in server.commits] == [2] * 4
    assert {each.transaction for each in server.commits} == {b""}
    await store.aclose()


async def test_many_steps_at_once_ask_once(served: Any) -> None:
    """An instance begins with many events at once, which would meet in the documents that they ask with."""
    store, server = served(unless(exceptions.NotFound))

    def write(number: int) -> Any:
        return lambda _: ({("leases", f"{number}"): Document({})}, "written")

    steps = [store.transact([("leases", f"{number}"), FLEET], write(number)) for number in range(20)]
    assert await asyncio.gather(*steps) == ["written"] * 20
    assert len(server.commits) == 2 + 20
    await store.aclose()
