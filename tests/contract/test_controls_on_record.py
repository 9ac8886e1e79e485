"""What a person or logmend does to controls is an outcome: once, and whatever dies in between."""

import asyncio
from datetime import timedelta

import pytest
from tests.contract.stores import Backend
from tests.fakes import ANN, REF, START, World, entry, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.errors import Transient
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import Breaker, By, Freeze, Scope
from logmend.model.struct import replace
from logmend.outcome import document
from logmend.ports import Store

RUNBOOK = "workload-cert-refresh"


async def told(w: World) -> list[tuple[str | None, str | None]]:
    """Run a tick and give what it told anew of controls: reason, and who."""
    before = len(w.outcomes.controlled)
    tally = await w.ticker.run()
    assert tally.errors == {}
    return [(each.reason, each.requested_by) for each in w.outcomes.controlled[before:]]


async def planned(w: World, name: str = "1") -> str:
    """Let a line become a plan, and give its approval's id."""
    said = await w.deliver(push(entry(at=w.clock.now()), name, at=w.clock.now()))
    assert said.approval_id is not None
    return said.approval_id


async def test_freezing_and_resuming_are_told_by_the_next_tick_with_who_and_why(store: Store) -> None:
    """Of everything, of a runbook, of a VM; each lifting names the freeze that it lifted."""
    w = world(store=store, **ENFORCE)
    freeze = Freeze("ann", START, "change window")
    await w.controls.freeze(freeze)
    await w.controls.freeze(freeze, runbook=RUNBOOK)
    await w.controls.freeze_instance(REF, RUNBOOK, freeze)
    assert await told(w) == [("freeze_set", "ann")] * 3
    assert {each.instance for each in w.outcomes.controlled} == {None, REF}
    assert all("change window" in each.detail for each in w.outcomes.controlled)
    bob = By("bob", w.clock.now(), "window over")
    await w.controls.resume(bob)
    await w.controls.lift(lambda each: each.name == freeze.name, bob, [Scope(RUNBOOK, REF)])
    assert await told(w) == [("freeze_lifted", "bob")] * 3
    assert all(
        freeze.name in each.detail and "window over" in each.detail for each in w.outcomes.controlled[3:]
    )
    assert await told(w) == [], "told once"
    await w.controls.resume(bob)
    assert await told(w) == [], "nothing was lifted"


async def test_a_name_that_the_ledger_was_given_is_called_a_claim(store: Store) -> None:
    """Nothing proves who wrote it; what logmend does by itself has no name."""
    w = world(store=store, **ENFORCE)
    await w.controls.freeze(Freeze("ann", START))
    await w.controls.open_breaker(RUNBOOK, Breaker(START, 5, 6))
    await w.ticker.run()
    said = {each.reason: document.document(each) for each in w.outcomes.controlled}
    assert (said["freeze_set"]["requested_by"], said["freeze_set"]["identity"]) == ("ann", "claimed")
    assert (said["breaker_opened"]["requested_by"], said["breaker_opened"]["identity"]) == (None, None)


async def test_a_breaker_is_told_when_it_opens_and_when_it_is_closed(store: Store) -> None:
    """A second opening of an open one is none."""
    w = world(store=store, **ENFORCE)
    await w.controls.open_breaker(RUNBOOK, Breaker(START, 5, 6))
    await w.controls.open_breaker(RUNBOOK, Breaker(START, 7, 8))
    assert await told(w) == [("breaker_opened", None)]
    await w.controls.resume(ANN, runbook=RUNBOOK)
    assert await told(w) == [("breaker_closed", "ann")]
    assert "5 of 6 VMs failed" in w.outcomes.controlled[-1].detail


async def test_what_becomes_of_a_plan_is_told(store: Store) -> None:
    """Approved, rejected, or that nobody decided in time; the last at its own time and once."""
    w = world(store=store, mode=Mode.APPROVE, cooldown_planned=timedelta(), cooldown_remediated=timedelta())
    first = await planned(w, "1")
    await w.controls.approve(first, ANN)
    assert await told(w) == [("plan_approved", "ann")]
    assert w.outcomes.controlled[-1].approval_id == first
    w.fleet.vms[REF.instance_id].faulty = True
    await w.controls.reject(await planned(w, "2"), By("bob", w.clock.now(), "not this one"))
    assert await told(w) == [("plan_rejected", "bob")]
    assert "not this one" in w.outcomes.controlled[-1].detail
    await w.controls.resume_instance(REF, RUNBOOK, By("ann", w.clock.now()))
    await told(w)
    third = await planned(w, "3")
    (waiting,) = [each async for each in w.controls.approvals() if each.approval_id == third]
    w.clock.tick(seconds=w.settings.approval_ttl.total_seconds() + 7)
    assert await told(w) == [("approval_expired", None)]
    assert w.outcomes.controlled[-1].at == waiting.expires_at
    assert await told(w) == []
    states = {each.approval_id: each.state async for each in w.controls.approvals()}
    assert states[third] == "expired"


async def test_a_plan_that_nobody_decides_on_is_told_of_once_before_it_expires(store: Store) -> None:
    """Whichever of two ticks at once comes to it, with when it ends, for whom, and how to decide."""
    w = world(store=store, mode=Mode.APPROVE, owner_label="team")
    w.fleet.facts_of[REF.instance_id] = replace(w.fleet.facts_of[REF.instance_id], labels={"team": "web"})
    plan = await planned(w)
    w.clock.tick(hours=17)
    assert await told(w) == [], "three quarters of its day are not over"
    w.clock.tick(hours=2)
    beside = world(store=store, clock=w.clock, fleet=w.fleet, mode=Mode.APPROVE, owner_label="team")
    await asyncio.gather(w.ticker.run(), beside.ticker.run())
    both = [*w.outcomes.controlled, *beside.outcomes.controlled]
    assert {(each.outcome_id, each.reason, each.owner, each.instance) for each in both} == {
        (both[0].outcome_id, "approval_expiring", "web", REF)  # the alert asks for what is of a VM
    }
    assert "until 2026-03-02T12:00:00Z" in both[0].detail
    assert plan in document.document(both[0])["next_step"]
    assert await told(w) == []
    await w.controls.approve(plan, By("ann", w.clock.now()))
    assert await told(w) == [("plan_approved", "ann")]


async def test_a_plan_whose_whole_time_passed_without_a_tick_is_only_told_to_have_expired(
    store: Store,
) -> None:
    """Nobody can decide on it any more."""
    w = world(store=store, mode=Mode.APPROVE)
    await planned(w)
    w.clock.tick(hours=30)
    assert await told(w) == [("approval_expired", None)]


async def test_the_release_of_a_vm_says_of_what(store: Store) -> None:
    """A VM of which there is nothing to release has no outcome, and no document."""
    w = world(store=store, **ENFORCE)
    await w.controls.resume_instance(REF, RUNBOOK, ANN)
    assert await told(w) == []
    await w.deliver(push(entry()))
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).result is Result.REVERTED
    await w.controls.resume_instance(REF, RUNBOOK, By("ann", w.clock.now(), "fixed by hand"))
    assert await told(w) == [("vm_resumed", "ann")]
    assert "held by the revert o-revert" in w.outcomes.controlled[-1].detail
    assert "fixed by hand" in w.outcomes.controlled[-1].detail


async def test_a_log_that_is_away_loses_nothing_and_what_is_told_again_is_the_same(store: Store) -> None:
    """Also where it was written and nobody noted it: the same id and time, so that a log has one entry."""
    w = world(store=store, **ENFORCE)
    await w.controls.freeze(Freeze("ann", START))
    w.outcomes.on_write = [Transient("outcome_log_unavailable")] * 2
    assert (await w.ticker.run()).errors == {"outcome_log_unavailable": 2}
    assert w.outcomes.controlled == []

    noted = w.controls.told

    async def dies(_: object) -> None:
        raise Transient("ledger_unavailable")

    w.controls.told = dies  # type: ignore[method-assign, assignment]
    await w.ticker.run()
    first = w.outcomes.controlled[0]
    w.controls.told = noted  # type: ignore[method-assign]
    await w.ticker.run()
    again = w.outcomes.controlled[-1]
    assert (again.outcome_id, again.at) == (first.outcome_id, first.at)
    count = len(w.outcomes.controlled)
    await w.ticker.run()
    assert len(w.outcomes.controlled) == count


async def test_who_sees_the_switch_sees_its_record(backend: Backend) -> None:
    """Both are in one transaction: another client that reads the freeze finds what is to be told of it."""
    one, two = backend.open(), backend.open()
    try:
        await world(store=one, **ENFORCE).controls.freeze(Freeze("ann", START))
        w = world(store=two, **ENFORCE)
        assert (await w.controls.fleet()).frozen
        (acts,) = await w.ticker.queues.untold(START, 10)
        assert [(each.reason, each.by) for each in acts.acts] == [("freeze_set", "ann")]
        assert [each.acts_id async for each in w.ticker.queues.acts()] == [acts.acts_id]
    finally:
        await one.aclose()
        if two is not one:
            await two.aclose()


@pytest.mark.parametrize("many", [1, 3])
async def test_freezes_whose_time_is_over_are_told_as_of_that_time(store: Store, many: int) -> None:
    """However many end at once, and however late the tick comes."""
    w = world(store=store, **ENFORCE)
    for number in range(many):
        await w.controls.freeze(Freeze(f"p{number}", START, until=START + timedelta(hours=1)))
    await w.ticker.run()
    w.clock.tick(hours=5)
    assert [reason for reason, _ in await told(w)] == ["freeze_over"] * many
    assert {each.at for each in w.outcomes.controlled[many:]} == {START + timedelta(hours=1)}
