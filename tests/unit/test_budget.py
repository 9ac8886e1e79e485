"""Places of the disruption budget: held while work is out, given back with its end, never lost for ever."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import (
    REF,
    START,
    FakeAgentFleet,
    FakeAgents,
    FakeFleet,
    ManualClock,
    World,
    entry,
    evidence,
    push,
    world,
)
from tests.unit.test_requests import agents_world, by_agent

from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Permanent, Superseded, Transient
from logmend.ledger import places
from logmend.ledger.documents import intent_key, pack, shard_key
from logmend.ledger.places import Shard, Work
from logmend.model.enums import Action, Mode, Result
from logmend.model.values import Attempt, InstanceFacts, InstanceRef, Outcome
from logmend.ports import Document
from logmend.settings import Budget, ExecutorChoice

WINDOW = timedelta(minutes=10)
TWO = Budget(2, WINDOW)


def vm(number: int) -> InstanceRef:
    return InstanceRef(REF.project_id, REF.zone, str(1000 + number))


async def taken(w: World) -> int:
    """Count the places that are taken now, over all documents of the budget."""
    shards = [places.current(each, WINDOW, w.clock.now()) async for _, each in w.ticker.queues.places()]
    return sum(map(places.taken, shards))


def fleet_of_agents(count: int, **settings: Any) -> World:
    w, _ = agents_world(**settings)
    for number in range(count):
        w.fleet.add(vm(number), metadata={"enable-osconfig": "TRUE"}, service_account="vm@example.com")
    return w


def agents(w: World) -> FakeAgents:
    found = w.fleet.agent("osconfig")
    assert found is not None
    return found


async def line(w: World, number: int) -> Outcome:
    name = f"{number}-{w.clock.now():%T}"
    return await w.deliver(push(entry(vm(number), at=w.clock.now()), name, at=w.clock.now()))


async def test_a_label_that_is_out_holds_its_place_long_after_the_window() -> None:
    """Twenty in ten minutes, ten times over, would be two hundred labels at once."""
    w = fleet_of_agents(6, disruption_budget=TWO)
    results = []
    for number in range(6):
        results.append(str((await line(w, number)).result))
        await w.tick(minutes=15)
    assert results == ["requested"] * 2 + ["skipped"] * 4


async def test_an_instance_forgets_where_the_places_of_requests_are() -> None:
    """The ledger has them; an instance that lives for weeks would remember all that it ever asked for."""
    w = fleet_of_agents(2, disruption_budget=TWO)
    assert {(await line(w, number)).result for number in range(2)} == {Result.REQUESTED}
    assert w.journal._places == {}
    assert await taken(w) == 2


async def test_dead_agents_block_the_fleet_until_their_requests_are_overdue_and_no_longer() -> None:
    """As many as the budget has places: their labels are taken off, a window later others get their turn."""
    w = fleet_of_agents(3, disruption_budget=TWO, request_deadline=timedelta(hours=1))
    for number in range(2):
        assert (await line(w, number)).result is Result.REQUESTED
    w.clock.tick(minutes=61)
    assert (await line(w, 2)).reason == "budget_exhausted"
    await w.ticker.run()
    assert [agents(w).label(vm(n)) for n in range(2)] == [None, None]
    w.clock.tick(minutes=9)
    assert (await line(w, 2)).reason == "budget_exhausted", "an agent may have begun just before"
    w.clock.tick(minutes=12)
    assert (await line(w, 2)).result is Result.REQUESTED


async def test_a_place_is_timed_by_the_end_of_enforcing() -> None:
    """Not by its beginning: the change itself may have come at the very end."""
    w = world(mode=Mode.ENFORCE, disruption_budget=Budget(1, WINDOW))
    w.fleet.add(vm(1)).on_enforce = [lambda: w.clock.tick(minutes=5)]
    w.fleet.add(vm(2))
    assert (await line(w, 1)).result is Result.REMEDIATED
    w.clock.tick(minutes=9)
    assert (await line(w, 2)).reason == "budget_exhausted"
    w.clock.tick(minutes=1)
    assert (await line(w, 2)).result is Result.REMEDIATED


@pytest.mark.parametrize("how", ["says no", "no sudo"])
async def test_a_place_is_given_back_where_nothing_was_enforced(how: str) -> None:
    """By the script's own word that it changed nothing, or the executor's that it was never begun."""
    w = world(mode=Mode.ENFORCE, disruption_budget=Budget(1, WINDOW))
    no = evidence(102, instance_id=None, reason="masked_by_others")
    w.fleet.add(vm(1)).on_enforce = [no if how == "says no" else Permanent("not_permitted")]
    w.fleet.add(vm(2))
    assert (await line(w, 1)).result in (Result.REFUSED, Result.FAILED)
    assert await taken(w) == 0
    assert (await line(w, 2)).result is Result.REMEDIATED


async def test_a_lost_connection_holds_its_place_until_the_script_cannot_be_at_work_any_more() -> None:
    """It goes on without us."""
    w = world(mode=Mode.ENFORCE, disruption_budget=Budget(1, WINDOW))
    w.fleet.add(vm(1)).on_enforce = [Transient("connection_lost")]
    w.fleet.add(vm(2))
    assert (await line(w, 1)).result is Result.UNVERIFIED
    w.clock.tick(minutes=19)
    assert (await line(w, 2)).reason == "budget_exhausted"
    w.clock.tick(minutes=1)
    assert (await line(w, 2)).result is Result.REMEDIATED


async def test_an_agent_that_found_nothing_to_do_may_have_enforced_in_a_run_before() -> None:
    """Each run replaces the report of the one before: the place is counted all the same."""
    w = fleet_of_agents(2, disruption_budget=Budget(1, WINDOW))
    await line(w, 0)
    w.clock.tick(minutes=3)
    seen = by_agent(100)
    told = Attempt("osconfig", before=type(seen)(100, {"instance_id": "1000"}, w.clock.now()))
    agents(w).says(Action.ENFORCE, told, vm(0))
    await w.tick(minutes=2)
    assert w.outcomes.results[-1] == "nothing_to_do"
    assert await taken(w) == 1
    w.clock.tick(minutes=10)
    assert await taken(w) == 0


async def test_an_intent_whose_message_was_given_up_is_taken_up_by_the_tick() -> None:
    """It committed, asked an agent, lost the answer, and its message went to the dead letter."""
    w = fleet_of_agents(1, disruption_budget=TWO, request_deadline=timedelta(hours=1))

    async def lost(*_: Any) -> None:
        raise Transient("compute_unavailable")

    agents(w).request = lost  # type: ignore[method-assign, assignment]
    assert (await line(w, 0)).result is Result.DEFERRED
    del agents(w).request
    await w.tick(minutes=71)
    assert w.outcomes.results[-1] == "requested"
    for _ in range(3):
        await w.tick(minutes=61)
    assert await taken(w) == 0


async def test_the_place_of_an_intent_that_is_gone_is_held_for_one_lease_more() -> None:
    """Nobody could give it back: the tick does."""
    w = fleet_of_agents(1, disruption_budget=TWO, request_deadline=timedelta(hours=1))
    outcome = await line(w, 0)
    assert outcome.intent_id is not None
    key = intent_key(outcome.intent_id)
    await w.store.transact([key], lambda _: ({key: None}, None))
    await w.tick(minutes=71)
    assert await taken(w) == 1
    await w.tick(minutes=21)
    assert await taken(w) == 0


async def test_one_that_cannot_be_taken_up_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a place that cannot be read nor an intent that another instance took over meanwhile."""
    w = fleet_of_agents(3, disruption_budget=Budget(3, TWO.window), request_deadline=timedelta(hours=1))

    async def lost(*_: Any) -> None:
        raise Transient("compute_unavailable")

    agents(w).request = lost  # type: ignore[method-assign, assignment]
    assert {(await line(w, number)).result for number in range(3)} == {Result.DEFERRED}
    del agents(w).request
    odd = shard_key("places", "workload-cert-refresh", 77)
    await w.store.transact([odd], lambda _: ({odd: Document({"out": "many"})}, None))
    look = w.fleet.facts

    async def facts(ref: InstanceRef) -> InstanceFacts:
        if ref == vm(0):
            raise Superseded
        return await look(ref)

    w.fleet.facts = facts  # type: ignore[method-assign]
    w.clock.tick(minutes=71)
    tally = await w.ticker.run()
    assert tally.outcomes == {"requested": 2}
    assert tally.errors == {"ledger_corrupt": 1, "superseded": 1}
    assert f"left for the next tick: {odd[1]}: ledger_corrupt" in caplog.text


async def at_rest(w: World) -> bool:
    """Say whether no place is taken and the ledger waits for nothing but to forget, however late."""
    assert isinstance(w.store, MemoryStore)
    return {row.queue for row in w.store._rows.values()} <= {None, "kept"} and not await taken(w)


class Crash(BaseException):
    """The process is gone."""


class Crashing(MemoryStore):
    """A ledger with which the process dies, before or after its n-th transaction."""

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__()
        self.at, self.after, self.count = at, after, 0

    async def transact(self, keys: Any, step: Any) -> Any:
        self.count += 1
        if self.count == self.at and not self.after:
            raise Crash
        answer = await super().transact(keys, step)
        if self.count == self.at and self.after:
            raise Crash
        return answer


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("executor", [ExecutorChoice.SSH, ExecutorChoice.OSCONFIG])
async def test_a_crash_at_any_step_loses_no_place_for_ever(executor: ExecutorChoice, *, after: bool) -> None:
    """Whichever transaction the process dies with, everything is free a day later, and nothing is at work."""
    for step in range(1, 400):
        clock, store = ManualClock(), Crashing(step, after=after)
        fleet = FakeAgentFleet(clock) if executor is ExecutorChoice.OSCONFIG else FakeFleet(clock)
        for number in range(3):
            fleet.add(vm(number), metadata={"enable-osconfig": "TRUE"}, service_account="vm@example.com")
        chosen: dict[str, Any] = {"store": store, "clock": clock, "fleet": fleet, "mode": Mode.ENFORCE}
        w = world(disruption_budget=TWO, executor=executor, **chosen)
        for turn in range(30):
            try:
                if turn < 3:
                    await line(w, turn)
                await w.ticker.run()
            except Crash:
                w = world(owner=f"p{turn}", disruption_budget=TWO, executor=executor, **chosen)
            labels = [each.labels.get("logmend-workload-cert-refresh") for each in fleet.facts_of.values()]
            held = labels.count("enforce")
            assert held <= await taken(w), f"a label is out without a place: {step}"
            if turn > 2 and not held and await at_rest(w):
                break  # no later turn has anything to do
            clock.tick(minutes=31)
        assert await taken(w) == 0, f"step {step}"
        if store.count < step:
            return
    raise AssertionError("more steps than were tried")


def test_a_budget_of_a_hundred_thousand_fits_its_documents() -> None:
    """Even where every place is out: each document is far below what Firestore takes."""
    for budget in (Budget(100_000, timedelta(days=1)), Budget(100_000, WINDOW), Budget(1_000_000, WINDOW)):
        count = places.shards(budget)
        assert sum(places.room(budget, each) for each in range(count)) == budget.count
        full = Shard()
        for number in range(places.room(budget, 0)):
            full = places.take(full, f"m-{10**16 + number}", START, START)
        assert len(json.dumps(pack(full))) < 100_000
        assert 2 * budget.count / budget.window.total_seconds() / count <= places.WRITES_A_SECOND


def test_a_document_does_not_grow_with_the_window() -> None:
    """Sixty counts, however many changes: what is kept is never fewer, and at most a sixtieth later free."""
    shard, now = Shard(window=WINDOW.total_seconds()), START
    for number in range(3000):
        now = START + number * timedelta(seconds=0.7)
        shard = places.take(shard, "i", None, now)
        shard = places.settle(places.current(shard, WINDOW, now), "i", Work.OVER, timedelta(), now)
    assert len(shard.over) <= places.SLICES + 2
    kept = places.taken(places.current(shard, WINDOW, now))
    assert 600 / 0.7 <= kept <= 610 / 0.7 + 15


def test_ends_that_come_in_any_order_are_counted_until_the_latest_is_old() -> None:
    """Also where the clock was stepped back meanwhile: the end is not before the beginning."""
    shard = places.take(Shard(window=600.0), "i", None, START)
    shard = places.settle(shard, "i", Work.OVER, timedelta(), START - timedelta(hours=1))
    assert places.taken(places.current(shard, WINDOW, START + WINDOW - timedelta(seconds=1))) == 1
    assert places.taken(places.current(shard, WINDOW, START + WINDOW)) == 0


async def test_two_hundred_at_once_over_both_ways_keep_to_the_budget() -> None:
    """The documents of a larger budget fill up to their rooms and no further."""
    w = world(mode=Mode.ENFORCE, disruption_budget=Budget(30, WINDOW), breaker_minimum=1000)
    for number in range(200):
        w.fleet.add(vm(number))
    await asyncio.gather(*(line(w, number) for number in range(200)))
    assert sum(each.enforcements for each in w.fleet.vms.values()) == 30
