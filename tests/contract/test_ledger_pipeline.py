"""The pipeline on each store, killed and disturbed at every transaction: nothing lost, nothing done twice."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from tests.fakes import (
    ANN,
    COUNTED,
    REF,
    START,
    FakeFleet,
    ManualClock,
    World,
    entry,
    evidence,
    incident,
    push,
    world,
)

from logmend.errors import Transient
from logmend.ledger import Queues
from logmend.model.enums import Mode, Result
from logmend.model.state import Freeze, State
from logmend.model.values import InstanceFacts, InstanceRef, Outcome
from logmend.outcome import ack
from logmend.ports import Document, Key, Step, Store, T

ENFORCE: dict[str, Any] = {"mode": Mode.ENFORCE}
RUNBOOK = "workload-cert-refresh"


class Killed(BaseException):
    """The process is gone: nobody catches this."""


@dataclass
class Disturbed:
    """A store whose transaction number ``at`` ends in ``error``, with its writes done (``after``) or not."""

    inner: Store
    at: int
    error: BaseException
    after: bool
    seen: int = 0

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        self.seen += 1
        if self.seen != self.at:
            return await self.inner.transact(keys, step)
        if self.after:
            await self.inner.transact(keys, step)
        raise self.error

    async def get(self, keys: Sequence[Key]) -> Mapping[Key, Document]:
        return await self.inner.get(keys)

    async def read_ahead(self, keys: Sequence[Key]) -> None:
        await self.inner.read_ahead(keys)

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> Sequence[tuple[str, Document]]:
        return await self.inner.due(collection, queue, before, limit)

    async def scan(self, collection: str, after: str | None, limit: int) -> Sequence[tuple[str, Document]]:
        return await self.inner.scan(collection, after, limit)

    async def aclose(self) -> None:
        return


def successor(first: World, store: Store, **settings: Any) -> World:
    """Make the process that comes after: the same ledger, fleet, clock and log of outcomes."""
    later = world(store=store, fleet=first.fleet, clock=first.clock, owner="later", **(ENFORCE | settings))
    later.outcomes.written = first.outcomes.written
    return later


async def delivered(w: World, message: Mapping[str, Any]) -> None:
    """Deliver as Pub/Sub does: again, later, until it is acknowledged."""
    for _ in range(8):
        if ack.status((await w.deliver(message)).result) < 300:
            return
        w.clock.tick(minutes=2)
    raise AssertionError(f"never acknowledged: {w.outcomes.results}")


async def ticked(w: World, times: int = 4) -> None:
    """Let the scheduler tick every six minutes."""
    for _ in range(times):
        w.clock.tick(minutes=6)
        assert not (await w.ticker.run()).errors


async def waiting(w: World) -> list[str]:
    """Name everything that is still on a work list."""
    queues, end = Queues(w.store), w.clock.now().replace(year=9999)
    lists = {
        name: getattr(queues, name) for name in ("parked", "requested", "unverified", "unemitted", "expired")
    }
    return [name for name, due in lists.items() if await due(end, 10)]


def finals(w: World, message_id: str) -> set[str]:
    """Give each different final outcome of a message."""
    return {
        f"{each.outcome_id} {each.result}"
        for each in w.outcomes.written
        if each.final and each.message_id == message_id
    }


@pytest.mark.parametrize("ticks_first", [False, True])
@pytest.mark.parametrize("source", ["entry", "incident"])
@pytest.mark.parametrize("kind", ["killed", "killed-after", "failed", "failed-after"])
async def test_whichever_transaction_it_dies_at_the_vm_is_changed_once_and_the_event_ends_once(
    store: Store, kind: str, source: str, ticks_first: bool
) -> None:
    """Each transaction in turn: the process is killed there, or the ledger fails, its writes done or not."""
    disturbed = 0
    for at in range(1, 20):
        ref = InstanceRef(REF.project_id, REF.zone, f"{int(REF.instance_id) - at}")
        message_id = f"{kind}-{source}-{at}"
        message = push(entry(ref) if source == "entry" else incident(ref, incident_id=message_id), message_id)
        error: BaseException = Killed() if kind.startswith("killed") else Transient("ledger_unavailable")
        rough = Disturbed(store, at, error, after=kind.endswith("after"))
        fleet = FakeFleet(ManualClock())
        vm = fleet.add(ref)
        first = world(store=rough, fleet=fleet, clock=fleet.clock, **ENFORCE)
        try:
            outcome = await first.deliver(message)
        except Killed:
            outcome = None
        if rough.seen < at:
            break
        disturbed += 1
        later = successor(first, store)
        if ticks_first:
            await ticked(later, 2)
        if outcome is None or ack.status(outcome.result) >= 300:
            await delivered(later, message)
        await ticked(later)
        what = f"{kind} at {at}: {later.outcomes.results}"
        assert len(finals(later, message_id)) == 1, what
        assert next(iter(finals(later, message_id))).endswith("remediated"), what
        assert (vm.faulty, vm.changes) == (False, 1), what
        assert await waiting(later) == [], what
    assert disturbed >= 3, "admission, commit, conclusion at least"


async def test_an_attempt_that_died_before_it_committed_does_not_block_its_vm_when_a_freeze_turns_it_away(
    store: Store,
) -> None:
    """The dead lease goes with the intent that it was for; after the freeze the VM is fixed."""
    first = world(store=store, **ENFORCE)
    vm = first.fleet.vms[REF.instance_id]
    vm.on_check = [Killed()]  # type: ignore[list-item]
    with pytest.raises(Killed):
        await first.deliver(push(entry(), "old"))
    first.clock.tick(minutes=11)
    later = successor(first, store)
    await later.controls.freeze(Freeze("sre", START))
    await ticked(later, 2)
    assert (await later.deliver(push(entry(), "old"))).reason == "frozen"
    assert later.outcomes.results.count("skipped:frozen") <= 2
    await later.controls.resume(ANN)
    assert await waiting(later) == []
    new = push(entry(at=later.clock.now()), "new", at=later.clock.now())
    assert (await later.deliver(new)).result is Result.REMEDIATED
    assert vm.changes == 1


async def test_a_newcomer_meets_a_dead_attempt_in_a_freeze_and_gets_its_own_answer(store: Store) -> None:
    """It is told of the freeze, not of the dead."""
    first = world(store=store, **ENFORCE)
    first.fleet.vms[REF.instance_id].on_check = [Killed()]  # type: ignore[list-item]
    with pytest.raises(Killed):
        await first.deliver(push(incident(), "old"))
    first.clock.tick(minutes=11)
    later = successor(first, store)
    await later.controls.freeze(Freeze("sre", START))
    new = await later.deliver(push(incident(incident_id="inc-2"), "new"))
    assert (new.result, new.reason) == (Result.PARKED, "frozen")
    await later.controls.resume(ANN)
    await ticked(later)
    await delivered(later, push(incident(), "old"))
    await ticked(later, 12)  # the newcomer has waited out the cooldown of the other's fix
    assert len(finals(later, "old")) == len(finals(later, "new")) == 1
    assert later.fleet.vms[REF.instance_id].changes == 1
    assert await waiting(later) == []


async def test_a_redelivery_in_a_freeze_does_not_speak_for_an_attempt_at_work(store: Store) -> None:
    """Only the attempt itself says what becomes of it: one message, one final outcome."""
    w = world(store=store, **ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    meanwhile = []

    async def freeze_and_deliver_again(w: World) -> None:
        await w.controls.freeze(Freeze("sre", START))
        meanwhile.append(await w.deliver(push(entry())))
        await w.controls.resume(ANN)

    facts = w.fleet.facts

    async def slow_facts(ref: InstanceRef) -> InstanceFacts:
        if not meanwhile:
            await freeze_and_deliver_again(w)
        return await facts(ref)

    w.fleet.facts = slow_facts  # type: ignore[method-assign]
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    assert [(each.result, each.reason) for each in meanwhile] == [(Result.DEFERRED, "in_hand")]
    assert len(finals(w, "1")) == 1
    assert vm.changes == 1


TROUBLES = [Transient("compute_unavailable", "503"), Transient("ledger_unavailable"), RuntimeError("a bug")]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: type(each).__name__ + str(each)[:7])
async def test_a_parked_incident_is_not_lost_to_trouble_on_its_way_back(
    store: Store, trouble: Exception
) -> None:
    """Its message was acknowledged when it was parked: nobody but the tick will take it up again."""
    w = world(store=store, **ENFORCE)
    await w.controls.freeze(Freeze("sre", START))
    assert (await w.deliver(push(incident()))).result is Result.PARKED
    await w.controls.resume(ANN)
    w.fleet.on_facts = [trouble]
    w.fleet.on_open = [Transient("unreachable")]
    for _ in range(12):
        w.clock.tick(minutes=6)
        await w.ticker.run()
    assert w.outcomes.results[-1] == "remediated"
    assert len(finals(w, "1")) == 1
    assert w.fleet.vms[REF.instance_id].changes == 1
    assert await waiting(w) == []


async def test_a_parked_incident_is_not_lost_though_the_tick_that_takes_it_up_dies(store: Store) -> None:
    """The next tick finds the dead lease, meets trouble as well, and still nothing is lost."""
    w = world(store=store, **ENFORCE)
    await w.controls.freeze(Freeze("sre", START))
    await w.deliver(push(incident()))
    await w.controls.resume(ANN)
    w.fleet.vms[REF.instance_id].on_check = [Killed()]  # type: ignore[list-item]
    w.clock.tick(minutes=6)
    with pytest.raises(Killed):
        await w.ticker.run()
    later = successor(w, store)
    later.clock.tick(minutes=11)
    later.fleet.on_facts = [Transient("compute_unavailable")]
    for _ in range(4):
        later.clock.tick(minutes=11)
        await later.ticker.run()
    assert later.outcomes.results == ["parked:frozen", "interrupted", "parked:retry", "remediated"]
    assert await waiting(later) == []


async def test_an_unverified_vm_is_not_lost_to_trouble_before_the_next_look(store: Store) -> None:
    """An API that does not answer says nothing of the VM: the look comes later, and enforces nothing."""
    w = world(store=store, **ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [evidence(101), evidence(1)]
    assert (await w.deliver(push(entry()))).result is Result.UNVERIFIED
    w.fleet.on_facts = [Transient("compute_unavailable")] * 6
    for _ in range(6):
        w.clock.tick(minutes=6)
        await w.ticker.run()
    assert w.outcomes.results == ["unverified:check_failed"]
    await ticked(w, 2)
    assert w.outcomes.results == ["unverified:check_failed", "remediated"]
    assert (vm.enforcements, vm.changes) == (1, 1)
    assert await waiting(w) == []


async def test_a_ledger_that_does_not_answer_has_the_message_come_again(store: Store) -> None:
    """Deferred, and afterwards as if nothing had been."""
    rough = Disturbed(store, 1, Transient("ledger_unavailable", "down"), after=False)
    w = world(store=rough, **ENFORCE)
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == (Result.DEFERRED, "ledger_unavailable")
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED


async def test_a_record_of_another_shape_is_never_acknowledged(store: Store) -> None:
    """A ledger that cannot be read is nobody's licence to act."""
    strange: dict[Key, Document | None] = {("intents", "m-1"): Document({"state": "dreaming"})}
    await store.transact(list(strange), lambda _: (strange, None))
    w = world(store=store, **ENFORCE)
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == (Result.DEFERRED, "ledger_corrupt")
    assert w.fleet.lookups == 0


async def test_a_clock_that_steps_back_gives_no_second_turn(store: Store) -> None:
    """Lease, cooldown and budget stand as they were; the next event is one too many all the same."""
    w = world(store=store, **ENFORCE)
    await w.deliver(push(entry(), "1"))
    w.clock.tick(minutes=-50)
    again = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert (again.result, again.reason) == (Result.SKIPPED, "cooling_down")
    assert w.fleet.vms[REF.instance_id].enforcements == 1
    assert await waiting(w) == []


async def test_an_attempt_outlives_a_clock_that_steps_back_meanwhile(store: Store) -> None:
    """What began at noon and ended at eleven ended once."""
    w = world(store=store, **ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_enforce = [lambda: w.clock.tick(hours=-1)]
    outcome: Outcome = await w.deliver(push(entry(), "1"))
    assert outcome.result is Result.REMEDIATED
    assert await w.deliver(push(entry(), "1")) == outcome
    assert (vm.changes, await waiting(w)) == (1, [])
    known = await w.journal.record("m-1")
    assert known is not None
    assert known.state is State.DONE


async def test_messages_that_come_to_two_processes_at_once_are_each_told_of_once(
    store: Store,
) -> None:
    """What a VM says again is counted by name: whoever it comes to, and however often."""
    counting: dict[str, Any] = {"store": store, **COUNTED}
    first = world(**counting)
    second = world(fleet=first.fleet, clock=first.clock, owner="second", **counting)
    second.outcomes.written = first.outcomes.written
    await first.deliver(push(entry(), "0"))
    bodies = [push(entry(), str(number)) for number in range(1, 7)]
    for _ in range(3):
        await asyncio.gather(*(delivered(w, body) for body in bodies for w in (first, second)))
    first.clock.tick(hours=3)
    await asyncio.gather(first.ticker.run(), second.ticker.run())
    told = {each.outcome_id: each for each in first.outcomes.written if each.final}
    assert [each.reason for each in told.values()] == [None, "cooling_down", "cooling_down"]
    assert [each.count for each in told.values()] == [1, 1, 5]
    assert await Queues(store).counted(first.clock.now().replace(year=9999), 10) == []
