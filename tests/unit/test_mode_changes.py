"""What one mode left behind, under another."""

from tests.fakes import ANN, REF, START, entry, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.errors import Transient
from logmend.model.enums import Mode, Result
from logmend.model.state import By, Freeze

RUNBOOK = "workload-cert-refresh"


async def test_a_parked_order_outlives_a_time_of_observing() -> None:
    """It is said once that it waits for the mode, and goes on when the mode is back."""
    w = world(**ENFORCE)
    await w.controls.freeze(Freeze("sre", START))
    assert (await w.pipeline.work(operator())).reason == "frozen"
    await w.controls.resume(ANN)
    seen = world(store=w.store, clock=w.clock, fleet=w.fleet, mode=Mode.OBSERVE)
    for _ in range(3):
        w.clock.tick(hours=2)
        await seen.ticker.run()
    assert seen.outcomes.results == ["parked:observe_mode"]
    w.clock.tick(hours=2)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "remediated"


async def test_an_approval_outlives_a_time_of_observing() -> None:
    """It was given while plans could be approved."""
    w = world(mode=Mode.APPROVE)
    planned = await w.deliver(push(entry()))
    assert planned.approval_id
    await w.controls.approve(planned.approval_id, By("sre", w.clock.now()))
    seen = world(store=w.store, clock=w.clock, fleet=w.fleet, mode=Mode.OBSERVE)
    await seen.ticker.run()
    assert seen.outcomes.results == ["parked:observe_mode"]
    w.clock.tick(hours=2)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "remediated"


async def test_an_order_that_is_given_to_an_observing_function_is_refused() -> None:
    """It has no root, and nobody let it be thought otherwise."""
    w = world()
    await w.journal.write(operator(), START)
    await w.ticker.run()
    assert w.outcomes.results == ["refused:observe_mode"]


async def test_what_observing_met_with_needs_no_person_and_does_not_count_later() -> None:
    """A VM that was dark while it was only observed is tried as often as any once it may be enforced."""
    w = world(unreachable_tries=1)
    for number in range(5):
        w.fleet.on_open = [Transient("unreachable")]
        at = w.clock.now()
        assert (await w.deliver(push(entry(at=at), f"o{number}", at=at))).reason == "unreachable"
        w.clock.tick(days=2)
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert (subject.needs_human, subject.failures) == (False, 5)
    acting = world(store=w.store, clock=w.clock, fleet=w.fleet, mode=Mode.ENFORCE, unreachable_tries=1)
    for number in range(2):
        w.fleet.on_open = [Transient("unreachable")]
        at = w.clock.now()
        told = await acting.deliver(push(entry(at=at), f"e{number}", at=at))
        assert (told.result, told.notes) == (Result.FAILED, ())
        w.clock.tick(days=2)
    at = w.clock.now()
    assert (await acting.deliver(push(entry(at=at), "e3", at=at))).result is Result.REMEDIATED


async def test_failures_of_enforcing_still_need_a_person() -> None:
    """Three in a row, as ever."""
    w = world(**ENFORCE, unreachable_tries=1)
    for number in range(3):
        w.fleet.on_open = [Transient("unreachable")]
        at = w.clock.now()
        told = await w.deliver(push(entry(at=at), f"e{number}", at=at))
        w.clock.tick(days=2)
    assert told.notes == ("left to a person from now on",)


async def test_what_is_parked_for_another_reason_is_another_outcome() -> None:
    """Each has an id of its own, so that a log and a count keep both."""
    w = world(**ENFORCE)
    await w.controls.freeze(Freeze("ann", w.clock.now()))
    await w.pipeline.work(operator(intent_id="o-1"))
    w.clock.tick(minutes=6)
    observing = world(store=w.store, clock=w.clock, fleet=w.fleet, mode=Mode.OBSERVE)
    await observing.ticker.run()
    said = [*w.outcomes.written, *observing.outcomes.written]
    assert [each.reason for each in said] == ["frozen", "observe_mode"]
    assert said[0].outcome_id != said[1].outcome_id
