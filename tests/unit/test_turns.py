"""Whose turn it is: what waits for a VM is woken, persons go first, then the oldest."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import ANN, REF, START, ManualClock, World, entry, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator
from tests.unit.test_requests import agents_world, fixed

from logmend.errors import Transient
from logmend.ledger.documents import subject_key
from logmend.model.enums import Action, Result
from logmend.model.state import Admitted, Freeze
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent, Outcome
from logmend.ports import Key, Step, T
from logmend.settings import Budget

RUNBOOK = "workload-cert-refresh"
SECOND = InstanceRef(REF.project_id, REF.zone, "4775836342981993097")
THIRD = InstanceRef(REF.project_id, REF.zone, "4775836342981993098")


async def parked_behind_a_lease(w: World) -> Intent:
    """Park an order for a VM that another order has in hand, and let that one end."""
    second = operator(intent_id="o-second")

    async def meanwhile() -> None:
        assert (await w.pipeline.work(second)).reason == "busy"

    real = w.fleet.facts

    async def facts(ref: InstanceRef) -> object:
        w.fleet.facts = real  # type: ignore[method-assign]
        await meanwhile()
        return await real(ref)

    w.fleet.facts = facts  # type: ignore[method-assign,assignment]
    assert (await w.pipeline.work(operator(intent_id="o-first"))).result is Result.REMEDIATED
    return second


async def test_what_waits_for_a_vm_is_due_when_the_other_is_done() -> None:
    """Long before the lease of the other would have run out."""
    w = world(**ENFORCE, lease=timedelta(hours=1))
    second = await parked_behind_a_lease(w)
    w.clock.tick(minutes=5)
    await w.ticker.run()
    assert w.outcomes.written[-1].intent_id == second.intent_id
    assert w.outcomes.written[-1].result is Result.NOTHING_TO_DO
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.waiting == ()


@pytest.mark.parametrize("what", ["the ledger is silent", "the VM is forgotten"])
async def test_waking_that_fails_changes_nothing_of_what_was_done(what: str) -> None:
    """The order that is done says so, and the one that waits is taken up at its own time."""
    w = world(**ENFORCE, lease=timedelta(minutes=10))
    transact, vm = w.store.transact, subject_key(REF, RUNBOOK)

    async def failing(keys: Sequence[Key], step: Step[T]) -> T:
        if ("intents", "o-first") not in keys and ("intents", "o-second") in keys and woken:
            if what == "the ledger is silent":
                raise Transient("ledger_unavailable", "it does not answer")
            await transact([vm], lambda _: ({vm: None}, None))
        woken.extend([True] if ("intents", "o-second") in keys else [])
        return await transact(keys, step)

    woken: list[bool] = []
    w.store.transact = failing  # type: ignore[method-assign]
    await parked_behind_a_lease(w)
    w.store.transact = transact  # type: ignore[method-assign]
    assert w.outcomes.results == ["parked:busy", "remediated"]
    w.clock.tick(minutes=11)
    await w.ticker.run()
    assert w.outcomes.written[-1].intent_id == "o-second"


async def test_what_comes_anew_does_not_overtake_what_waits_for_a_place() -> None:
    """Neither between two ticks nor after several: persons go first, then the oldest."""
    w = world(**ENFORCE, disruption_budget=Budget(1, timedelta(minutes=10)), owner="one")
    refs = [InstanceRef(REF.project_id, REF.zone, str(7000 + n)) for n in range(6)]
    for ref in refs:
        w.fleet.add(ref)
    first = await w.deliver(push(incident(refs[0], incident_id="i-0"), "0", at=w.clock.now()))
    assert first.result is Result.REMEDIATED
    for number in (1, 2, 3):
        w.clock.tick(seconds=20)
        told = incident(refs[number], incident_id=f"i-{number}")
        assert (await w.deliver(push(told, str(number), at=w.clock.now()))).result is Result.PARKED
    w.clock.tick(minutes=3)
    await w.ticker.run()
    w.clock.tick(minutes=7)  # a place is free, and no tick has come yet
    other = world(store=w.store, clock=w.clock, fleet=w.fleet, owner="two", **ENFORCE)
    line = push(entry(refs[4], at=w.clock.now()), "4", at=w.clock.now())
    assert (await other.deliver(line)).reason == "budget_exhausted"
    late = push(incident(refs[5], incident_id="i-5"), "5", at=w.clock.now())
    assert (await other.deliver(late)).result is Result.PARKED
    order = replace(operator(intent_id="o-person"), instance=refs[4], created_at=w.clock.now())
    await w.journal.write(order, w.clock.now())
    done = []
    for _ in range(6):
        await w.ticker.run()
        done.append([each for each in refs if w.fleet.vms[each.instance_id].changes])
        w.clock.tick(minutes=11)
    assert done[-1] == refs
    began = [next(n for n, each in enumerate(done) if ref in each) for ref in refs]
    assert began[4] < began[1] < began[2] < began[3] < began[5]
    assert (await w.controls.fleet()).queued == {}, "nothing waits any more"


async def hourly(count: int) -> tuple[World, World, list[InstanceRef]]:
    """Give two instances with one place an hour, which is taken, and VMs with the fault; one has parked."""
    rare: dict[str, Any] = ENFORCE | {"disruption_budget": Budget(1, timedelta(hours=1))}
    w = world(**rare, owner="one")
    refs = [InstanceRef(REF.project_id, REF.zone, str(7000 + n)) for n in range(count)]
    for ref in refs:
        w.fleet.add(ref)
    other = world(store=w.store, clock=w.clock, fleet=w.fleet, owner="two", **rare)
    for number, result in enumerate((Result.REMEDIATED, Result.PARKED)):
        w.clock.tick(minutes=5 * number)
        told = incident(refs[number], incident_id=f"i-{number}")
        assert (await w.deliver(push(told, f"{number}", at=w.clock.now()))).result is result
    return w, other, refs


async def ticks(w: World, count: int) -> None:
    """Let Cloud Scheduler call, every five minutes."""
    for _ in range(count):
        w.clock.tick(minutes=5)
        await w.ticker.run()


async def test_a_queue_is_remembered_over_ticks_at_which_nothing_of_it_is_due() -> None:
    """What waits in a window of an hour is asked for every six minutes, and not by each tick."""
    w, other, refs = await hourly(4)
    await ticks(w, 9)
    w.clock.tick(minutes=4)
    late = push(incident(refs[2], incident_id="i-2"), "2", at=w.clock.now())
    assert (await other.deliver(late)).result is Result.PARKED
    w.clock.tick(minutes=1)
    await w.ticker.run()
    await ticks(w, 1)  # the place is free by now, and what waits is due in a minute
    line = push(entry(refs[3], at=w.clock.now()), "3", at=w.clock.now())
    assert (await other.deliver(line)).reason == "budget_exhausted"
    assert [each for each in refs if w.fleet.vms[each.instance_id].changes] == refs[:1]
    await ticks(w, 1)
    assert [each for each in refs if w.fleet.vms[each.instance_id].changes] == refs[:2]
    await ticks(w, 15)
    assert [each for each in refs if w.fleet.vms[each.instance_id].changes] == refs[:3]
    await ticks(w, 3)
    assert (await w.controls.fleet()).queued == {}, "nothing waits any more"


async def test_a_full_zone_and_a_revert_in_waves_hold_no_newcomer_of_the_runbook_back() -> None:
    """They are limits of their own: the runbook's budget has places."""
    w = world(**ENFORCE, disruption_limits=(("zone", 1),))
    elsewhere = InstanceRef(REF.project_id, "us-central1-b", "7003")
    for ref in (SECOND, THIRD, elsewhere):
        w.fleet.add(ref)
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    told = await w.deliver(push(incident(SECOND, incident_id="i-1"), "2", at=w.clock.now()))
    assert (told.result, told.reason) == (Result.PARKED, "budget_exhausted")
    for number, ref in enumerate((REF, THIRD)):
        back = operator(Action.REVERT, f"o-{number}")
        w.fleet.vms[ref.instance_id].faulty = False
        await w.journal.write(replace(back, instance=ref, at_most=1), w.clock.now())
    w.clock.tick(minutes=2)
    await w.ticker.run()
    waits = {each.intent_id for each in w.outcomes.written if each.reason == "budget_exhausted"}
    assert waits == {"m-2", "o-1"}
    assert (await w.controls.fleet()).queued == {}
    line = push(entry(elsewhere, at=w.clock.now()), "3", at=w.clock.now())
    assert (await w.deliver(line)).result is Result.REMEDIATED


async def test_what_waits_for_an_agents_request_is_due_when_that_is_closed() -> None:
    """Its own time would be five minutes after it was parked."""
    w, agents = agents_world()
    assert (await w.pipeline.work(operator(intent_id="o-first"))).result is Result.REQUESTED
    w.clock.tick(minutes=4)
    agents.says(Action.ENFORCE, fixed())
    assert (await w.pipeline.work(operator(intent_id="o-second"))).reason == "busy"
    await w.tick(minutes=1)
    assert [(each.intent_id, each.result) for each in w.outcomes.written if each.intent_id == "o-second"][
        1:
    ] == [("o-second", Result.REQUESTED)]


async def test_an_attempt_that_died_wakes_nobody_and_the_fallback_does() -> None:
    """Who waits has a time of its own, the end of the other's lease."""
    w = world(**ENFORCE)
    dying, now = operator(intent_id="o-dies"), w.clock.now()

    def compose(*_: object) -> Outcome:
        raise AssertionError("it is admitted")

    held = await w.journal.admit(dying, lambda _: None, compose, now)
    assert isinstance(held, Admitted)
    assert (await w.pipeline.work(operator(intent_id="o-second"))).reason == "busy"
    w.clock.tick(minutes=11)
    await w.ticker.run()
    assert {each.intent_id for each in w.outcomes.written if each.final} == {"o-dies", "o-second"}


def full(clock: ManualClock | None = None) -> World:
    w = world(**ENFORCE, clock=clock, disruption_budget=Budget(1, timedelta(minutes=10)))
    for ref in (SECOND, THIRD):
        w.fleet.add(ref)
    return w


async def order_of_fixes(w: World) -> list[str]:
    return [
        each.instance.instance_id[-1]
        for each in w.outcomes.written
        if each.result is Result.REMEDIATED and each.instance
    ]


async def test_the_oldest_of_a_queue_goes_first_whenever_its_time_was_to_come() -> None:
    """Two incidents wait for a place; the later one had asked again earlier."""
    w = full()
    await w.controls.freeze(Freeze("ann", START))
    for number, ref in enumerate((SECOND, THIRD)):
        body = incident(ref, incident_id=f"inc-{number}")
        await w.deliver(push(body, f"m{number}", at=w.clock.now()))
        w.clock.tick(seconds=1)
    await w.controls.resume(ANN)
    await rush(w, "m1", "m0")
    w.clock.tick(minutes=1)
    await w.ticker.run()
    assert await order_of_fixes(w) == ["7"]


async def rush(w: World, *names: str) -> None:
    """Let parked intents be due in this order."""
    for number, name in enumerate(names):
        key = ("intents", name.replace("m", "m-m", 1))
        found = await w.store.get([key])
        document = replace(found[key], due=START + timedelta(seconds=number))

        def step(_: object, key: tuple[str, str] = key, document: object = document) -> object:
            return {key: document}, None

        await w.store.transact([key], step)  # type: ignore[arg-type]


async def test_a_persons_order_goes_before_what_is_automatic() -> None:
    """It was given later, and takes the one place."""
    w = full()
    await w.controls.freeze(Freeze("ann", START))
    await w.deliver(push(incident(SECOND), "m0", at=w.clock.now()))
    w.clock.tick(seconds=1)
    late = replace(operator(intent_id="o-late"), instance=THIRD, created_at=w.clock.now())
    assert (await w.pipeline.work(late)).reason == "frozen"
    await w.controls.resume(ANN)
    w.clock.tick(minutes=1)
    await w.ticker.run()
    assert await order_of_fixes(w) == ["8"]
    w.clock.tick(minutes=11)
    await w.ticker.run()
    assert await order_of_fixes(w) == ["8", "7"]


async def test_several_orders_for_one_vm_follow_each_other_in_one_tick() -> None:
    """None of them is parked again because another of the same tick has the VM."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    await w.controls.freeze(Freeze("ann", START))
    for number in range(5):
        order = replace(operator(intent_id=f"o-{number}"), created_at=START + timedelta(seconds=number))
        assert (await w.pipeline.work(order)).reason == "frozen"
    await w.controls.resume(ANN)
    w.outcomes.written.clear()
    w.clock.tick(minutes=1)
    await w.ticker.run()
    assert w.outcomes.results == ["nothing_to_do"] * 5
