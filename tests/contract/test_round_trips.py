"""How often Firestore is asked on a VM's way: counted, not timed. Each call waits for the one before."""

import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.emulators import Emulator
from tests.fakes import REF, World, entry, incident, push, world

from logmend.adapters.stores.firestore import FirestoreStore
from logmend.adapters.stores.firestore_calls import Calls
from logmend.ledger import places
from logmend.ledger.documents import SHARDS, shard_of
from logmend.model.enums import Mode
from logmend.model.struct import replace
from logmend.ports import Document
from logmend.settings import Budget

VMS = [
    ref
    for ref in (replace(REF, instance_id=f"{int(REF.instance_id) + number}") for number in range(100))
    if shard_of(str(ref), SHARDS) == shard_of(str(REF), SHARDS)
]
"""VMs whose samples are in one document."""
MESSAGES = [f"{number}" for number in range(200) if shard_of(f"m-{number}", places.LEAST_SHARDS) == 0]
"""Messages of events that take their places in one document of the budget."""

ROOMY = Budget(800, timedelta(minutes=10))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the calls as they are made."""
    made: list[str] = []

    def counted(name: str) -> None:
        real = getattr(Calls, name)

        def call(self: Calls, request: Any) -> Any:
            made.append(name)
            return real(self, request)

        monkeypatch.setattr(Calls, name, call)

    for name in ("get", "run", "commit", "rollback"):
        counted(name)
    return made


@pytest.fixture
async def stores(firestore_emulator: Emulator) -> AsyncIterator[tuple[FirestoreStore, FirestoreStore]]:
    """Give two processes' stores of one ledger, which is not new; the second has worked on a VM."""
    project = f"test-{uuid.uuid4().hex[:12]}"
    both = FirestoreStore(project, "ledger"), FirestoreStore(project, "ledger")
    await process(both[1], Mode.ENFORCE).deliver(push(entry(VMS[-1]), "before"))
    await both[0].get([("intents", "m-none")])  # in ten minutes it asks once what older versions stored
    one, other = ("controls", "one"), ("controls", "other")
    await both[0].transact([one, other], lambda _: ({one: Document({})}, None))  # and once if it is obeyed
    yield both
    for each in both:
        await each.aclose()


def process(store: FirestoreStore, mode: Mode) -> World:
    w = world(store=store, mode=mode, disruption_budget=ROOMY)
    for ref in VMS:
        w.fleet.add(ref)
    return w


async def trips(w: World, calls: list[str], message: Mapping[str, Any]) -> tuple[str, str]:
    """Give a message's reason or result, and the calls that it took."""
    calls.clear()
    outcome = await w.deliver(message)
    return outcome.reason or outcome.result.value, " ".join(calls)


Stores = tuple[FirestoreStore, FirestoreStore]


LOOKED = "get commit"
READ = "get commit"


async def test_the_round_trips_of_a_vm_that_is_enforced(stores: Stores, calls: list[str]) -> None:
    """A process that has worked on others takes five, its first VM seven: what VMs share is read then."""
    w, message = process(stores[0], Mode.ENFORCE), iter(MESSAGES)
    first = await trips(w, calls, push(entry(VMS[0]), next(message)))
    assert first == ("remediated", f"{LOOKED} {READ} {READ} commit")
    later = push(entry(VMS[1]), next(message))
    assert await trips(w, calls, later) == ("remediated", f"{LOOKED} commit commit commit")
    assert await trips(w, calls, later) == ("remediated", "get")
    again = push(entry(VMS[1], insertId="b"), next(message))
    assert await trips(w, calls, again) == ("cooling_down", LOOKED)


async def test_the_round_trips_of_a_vm_that_is_observed(stores: Stores, calls: list[str]) -> None:
    """Its records are not read again, from the first VM on."""
    w = process(stores[0], Mode.OBSERVE)
    told = await trips(w, calls, push(incident(VMS[0]), "1"))
    assert told == ("planned", f"{LOOKED} commit commit")
    assert await trips(w, calls, push(incident(VMS[0]), "2")) == ("duplicate", LOOKED)


async def test_what_another_process_writes_as_well_is_read_first_from_then_on(
    stores: Stores, calls: list[str]
) -> None:
    """A commit on what is remembered that fails costs one call more, and is not ventured again and again."""
    mine, other = (process(each, Mode.ENFORCE) for each in stores)
    message, taken = iter(MESSAGES), list[str]()
    for ref, theirs in zip(VMS[:4], VMS[4:8], strict=True):
        outcome, made = await trips(mine, calls, push(entry(ref), next(message)))
        assert outcome == "remediated"
        taken.append(made)
        await other.deliver(push(entry(theirs), next(message)))
    assert taken == [
        f"{LOOKED} {READ} {READ} commit",
        f"{LOOKED} commit {READ} {READ} commit",
        f"{LOOKED} {READ} {READ} commit",
        f"{LOOKED} {READ} {READ} commit",
    ]
