"""How often Firestore is asked on a VM's way: counted, not timed.

Each call waits for the one before, but for those in parentheses: they are made while a VM is looked up, which
takes its time as well.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.emulators import Emulator
from tests.fakes import REF, FakeFleet, ManualClock, World, entry, incident, push, world

from logmend.adapters.stores import remembered
from logmend.adapters.stores.firestore import FirestoreStore
from logmend.adapters.stores.firestore_calls import Calls
from logmend.ledger import places
from logmend.ledger.documents import SHARDS, shard_of
from logmend.model.enums import Mode
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts, InstanceRef
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


class Air:
    """Calls as they are made, those in the air, and who looks a VM up meanwhile."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.flying = 0
        self.looking = 0
        self.quiet = asyncio.Event()
        self.quiet.set()

    def leaves(self, name: str) -> None:
        self.made.append(f"({name})" if self.looking else name)
        self.flying += 1
        self.quiet.clear()

    def lands(self) -> None:
        self.flying -= 1
        if not self.flying:
            self.quiet.set()


class Fleet(FakeFleet):
    """A look-up takes at least as long as what is asked of Firestore meanwhile."""

    air: Air

    async def facts(self, ref: InstanceRef) -> InstanceFacts:
        self.air.looking += 1
        for _ in range(20):  # whoever goes on beside it has begun by then
            await asyncio.sleep(0)
        await self.air.quiet.wait()
        self.air.looking -= 1
        return await super().facts(ref)


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    """Give the calls as they are made. What was read ahead stays fresh, however slow the machine is."""
    monkeypatch.setattr(remembered, "FRESH", 3600.0)
    air = Air()

    def streamed(name: str) -> None:
        real = getattr(Calls, name)

        async def call(self: Calls, request: Any) -> AsyncIterator[Any]:
            air.leaves(name)
            try:
                async for each in real(self, request):
                    yield each
            finally:
                air.lands()

        monkeypatch.setattr(Calls, name, call)

    def answered(name: str) -> None:
        real = getattr(Calls, name)

        async def call(self: Calls, request: Any) -> Any:
            air.leaves(name)
            try:
                return await real(self, request)
            finally:
                air.lands()

        monkeypatch.setattr(Calls, name, call)

    for name in ("get", "run"):
        streamed(name)
    for name in ("commit", "rollback"):
        answered(name)
    return air


@pytest.fixture
async def stores(
    firestore_emulator: Emulator, air: Air
) -> AsyncIterator[tuple[FirestoreStore, FirestoreStore]]:
    """Give two processes' stores of one ledger, which is not new; the second has worked on a VM."""
    project = f"test-{uuid.uuid4().hex[:12]}"
    both = FirestoreStore(project, "ledger"), FirestoreStore(project, "ledger")
    await process(both[1], Mode.ENFORCE, air).deliver(push(entry(VMS[-1]), MESSAGES[-1]))
    await both[0].get([("intents", "m-none")])  # in ten minutes it asks once what older versions stored
    one, other = ("controls", "one"), ("controls", "other")
    await both[0].transact([one, other], lambda _: ({one: Document({})}, None))  # and once if it is obeyed
    yield both
    for each in both:
        await each.aclose()


def process(store: FirestoreStore, mode: Mode, air: Air) -> World:
    clock = ManualClock()
    fleet = Fleet(clock)
    fleet.air = air
    for ref in VMS:
        fleet.add(ref)
    return world(store=store, clock=clock, fleet=fleet, mode=mode, disruption_budget=ROOMY)


async def trips(w: World, air: Air, message: Mapping[str, Any]) -> tuple[str, str]:
    """Give a message's reason or result, and the calls that it took."""
    air.made.clear()
    outcome = await w.deliver(message)
    return outcome.reason or outcome.result.value, " ".join(air.made)


Stores = tuple[FirestoreStore, FirestoreStore]


LOOKED = "get commit"
READ = "get commit"
AHEAD = "(get)"


async def test_the_round_trips_of_a_vm_that_is_enforced(stores: Stores, air: Air) -> None:
    """A process that has worked on others takes five, its first VM six: what VMs share is read then."""
    w, message = process(stores[0], Mode.ENFORCE, air), iter(MESSAGES)
    first = await trips(w, air, push(entry(VMS[0]), next(message)))
    assert first == ("remediated", f"{LOOKED} {AHEAD} commit {READ} commit")
    later = push(entry(VMS[1]), next(message))
    assert await trips(w, air, later) == ("remediated", f"{LOOKED} commit commit commit")
    assert await trips(w, air, later) == ("remediated", "get")
    again = push(entry(VMS[1], insertId="b"), next(message))
    assert await trips(w, air, again) == ("cooling_down", LOOKED)


async def test_the_round_trips_of_a_vm_that_is_observed(stores: Stores, air: Air) -> None:
    """Its records are not read again, from the first VM on."""
    w = process(stores[0], Mode.OBSERVE, air)
    told = await trips(w, air, push(incident(VMS[0]), "1"))
    assert told == ("planned", f"{LOOKED} commit commit")
    assert await trips(w, air, push(incident(VMS[0]), "2")) == ("duplicate", LOOKED)


async def test_what_another_process_writes_as_well_is_read_first_from_then_on(
    stores: Stores, air: Air
) -> None:
    """That is six calls from then on, but for one commit on what is remembered, which fails."""
    mine, other = (process(each, Mode.ENFORCE, air) for each in stores)
    message, taken = iter(MESSAGES), list[str]()
    for ref, theirs in zip(VMS[:4], VMS[4:8], strict=True):
        outcome, made = await trips(mine, air, push(entry(ref), next(message)))
        assert outcome == "remediated"
        taken.append(made)
        await other.deliver(push(entry(theirs), next(message)))
    assert taken == [
        f"{LOOKED} {AHEAD} commit {READ} commit",
        f"{LOOKED} commit {READ} {READ} commit",
        f"{LOOKED} {AHEAD} commit {READ} commit",
        f"{LOOKED} {AHEAD} commit {READ} commit",
    ]
