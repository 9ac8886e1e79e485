"""What a person undid stays undone, until an order that knows of it."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import ANN, REF, START, World, entry, evidence, push, world
from tests.unit.test_pipeline import ENFORCE, operator
from tests.unit.test_requests import agents_world

from logmend.errors import Transient
from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.state import Act, Breaker, By, Freeze, Subject
from logmend.model.struct import replace
from logmend.model.values import Evidence, InstanceFacts, InstanceRef
from logmend.settings import Budget
from logmend.stages import decide

RUNBOOK = "workload-cert-refresh"


async def reverted(w: World, name: str = "o-revert") -> None:
    assert (await w.pipeline.work(operator(Action.REVERT, name))).result is Result.REVERTED


async def later(w: World, **by: float) -> None:
    w.clock.tick(**(by or {"minutes": 10}))
    await w.ticker.run()


async def test_an_older_parked_order_does_not_undo_a_newer_revert() -> None:
    """Freeze, order, resume, revert, tick: the order is told that the revert came after it."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    await w.deliver(push(entry()))
    await w.controls.freeze_instance(REF, RUNBOOK, Freeze("sre", START))
    assert (await w.pipeline.work(operator(intent_id="o-older"))).reason == "frozen"
    await w.controls.resume_instance(REF, RUNBOOK, ANN)
    await reverted(w)
    await later(w)
    assert w.outcomes.results[-1] == "skipped:superseded_by_revert"
    assert w.outcomes.written[-1].intent_id == "o-older"
    assert vm.faulty
    await later(w)
    assert w.outcomes.results[-1] == "skipped:superseded_by_revert", "said once, and final"


async def test_an_older_approval_does_not_undo_a_newer_revert() -> None:
    """Whether it is clicked before the revert or after it."""
    w = world(mode=Mode.APPROVE)
    w.fleet.vms[REF.instance_id].faulty = True
    planned = await w.deliver(push(entry()))
    assert planned.approval_id
    assert (await w.pipeline.work(operator())).result is Result.REMEDIATED
    await reverted(w)
    await w.controls.approve(planned.approval_id, By("sre", w.clock.now()))
    await later(w)
    assert w.outcomes.results[-1] == "skipped:superseded_by_revert"


async def test_a_revert_that_the_vm_refuses_in_computes_words_supersedes_all_the_same() -> None:
    """Only Compute can say that a VM is gone, of which nothing is to be kept: its own check has said no."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    await w.controls.freeze_instance(REF, RUNBOOK, Freeze("sre", START))
    assert (await w.pipeline.work(operator(intent_id="o-older"))).reason == "frozen"
    await w.controls.resume_instance(REF, RUNBOOK, ANN)
    vm.on_check = [evidence(102, reason="instance_gone")]
    refused = await w.pipeline.work(operator(Action.REVERT, "o-revert"))
    assert (refused.result, refused.reason) == (Result.REFUSED, "instance_gone")
    await later(w)
    assert w.outcomes.results[-1] == "skipped:superseded_by_revert"
    assert vm.enforcements == 0


async def test_an_order_that_names_the_revert_enforces_and_ends_the_hold() -> None:
    """It was given by someone who knew of it."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    await reverted(w)
    knowing = replace(operator(intent_id="o-again"), overrides="o-revert")
    assert (await w.pipeline.work(knowing)).result is Result.REMEDIATED
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert (subject.held, subject.held_by) == (False, None)


async def test_an_order_that_names_an_earlier_revert_does_not_take_back_a_later_one() -> None:
    """Only what it knew of."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    await reverted(w, "o-first")
    again = replace(operator(intent_id="o-again"), overrides="o-first")
    assert (await w.pipeline.work(again)).result is Result.REMEDIATED
    await reverted(w, "o-second")
    late = replace(operator(intent_id="o-late"), overrides="o-first")
    assert (await w.pipeline.work(late)).reason == "superseded_by_revert"


async def test_a_revert_between_the_look_and_the_commit_point_is_heard() -> None:
    """The last moment counts here, too."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    real = w.fleet.facts

    async def facts(ref: object) -> object:
        if vm.checks:
            await w.store.transact(
                [("subjects", f"{REF.project_id}~{REF.zone}~{REF.instance_id}~{RUNBOOK}")], hold
            )
        return await real(REF)

    w.fleet.facts = facts  # type: ignore[method-assign,assignment]
    assert (await w.pipeline.work(operator())).reason == "superseded_by_revert"
    assert vm.enforcements == 0


def hold(found: Any) -> Any:
    """Mark the VM as held by a revert, as one that ended in the middle would."""
    ((key, document),) = found.items()
    return {key: replace(document, data=document.data | {"held": True, "held_by": "o-revert"})}, None


async def parked_order(w: World) -> None:
    """Have an order to enforce wait behind a freeze that is lifted then."""
    await w.controls.freeze_instance(REF, RUNBOOK, Freeze("sre", START))
    assert (await w.pipeline.work(operator(intent_id="o-older"))).reason == "frozen"
    await w.controls.resume_instance(REF, RUNBOOK, ANN)


@pytest.mark.parametrize(
    "found",
    [evidence(102, reason="no_previous_state"), evidence(1), Transient("unreachable", "no answer")],
)
async def test_a_revert_supersedes_older_orders_whatever_it_finds(found: Evidence | Transient) -> None:
    """A person took the order back. That there was nothing to put back yet does not carry it out."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    await parked_order(w)
    vm.on_check.append(found)
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).result is not Result.REVERTED
    await w.ticker.run()
    mine = [each for each in w.outcomes.written if each.intent_id == "o-older"]
    assert (mine[-1].result, mine[-1].reason) == (Result.SKIPPED, "superseded_by_revert")
    assert "o-revert" in mine[-1].detail
    assert vm.enforcements == 0


async def test_a_revert_that_waits_supersedes_older_orders_before_it_is_carried_out() -> None:
    """When the freeze is lifted, the VM is not changed first and put back then."""
    w = world(**ENFORCE)
    await w.controls.freeze(FIRST)
    assert (await w.pipeline.work(operator(intent_id="o-older"))).reason == "frozen"
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).reason == "frozen"
    await w.controls.resume(ANN)
    await later(w)
    ended = {each.intent_id: each.reason or each.result for each in w.outcomes.written}
    assert ended["o-older"] == "superseded_by_revert"


async def test_a_revert_takes_back_a_request_that_an_agent_has_not_carried_out() -> None:
    """It does not wait until the agent did what is to be undone: one label goes, the other comes."""
    w, agents = agents_world()
    assert (await w.pipeline.work(operator(intent_id="o-older"))).result is Result.REQUESTED
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).reason == "busy"
    await later(w)
    assert w.outcomes.results[-2:] == ["skipped:superseded_by_revert", "requested"]
    assert agents.label() == "revert"


async def test_a_revert_with_nothing_to_put_back_holds_no_automatic_work_off() -> None:
    """It undid nothing, so that nothing could undo it; the next line is acted on as before."""
    w = world(**ENFORCE)
    w.fleet.vms[REF.instance_id].on_check.append(evidence(102, reason="no_previous_state"))
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).reason == "no_previous_state"
    await later(w, days=1)
    line = await w.deliver(push(entry(at=w.clock.now()), at=w.clock.now()))
    assert line.result is Result.REMEDIATED
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.held_by == "o-revert", "automatic work knows of no revert, and takes none back"


async def test_a_later_order_names_the_revert_that_found_nothing() -> None:
    """It is carried out, and what it took back is forgotten."""
    w = world(**ENFORCE)
    w.fleet.vms[REF.instance_id].on_check.append(evidence(102, reason="no_previous_state"))
    await w.pipeline.work(operator(Action.REVERT, "o-revert"))
    again = replace(operator(intent_id="o-again"), overrides="o-revert")
    assert (await w.pipeline.work(again)).result is Result.REMEDIATED
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.held_by is None


async def test_a_plan_made_after_a_revert_that_found_nothing_is_carried_out_once_approved() -> None:
    """Who approves it saw the VM as it was after the revert; one from before it is superseded."""
    w = world(mode=Mode.APPROVE)
    first = await w.deliver(push(entry()))
    w.fleet.vms[REF.instance_id].on_check.append(evidence(102, reason="no_previous_state"))
    await w.pipeline.work(operator(Action.REVERT, "o-revert"))
    w.clock.tick(days=2)
    second = await w.deliver(push(entry(at=w.clock.now()), "m2", at=w.clock.now()))
    assert first.approval_id
    assert second.approval_id
    await w.controls.approve(second.approval_id, By("sre", w.clock.now()))
    await later(w)
    assert w.outcomes.results[-1] == "remediated"


async def test_a_look_at_what_a_revert_would_do_supersedes_nothing() -> None:
    """Only an order to put something back takes another back."""
    w = world(**ENFORCE)
    await parked_order(w)
    await w.pipeline.work(replace(operator(Action.REVERT, "o-look"), look_only=True))
    await later(w)
    assert w.outcomes.results[-1] == "remediated"


async def test_a_revert_of_a_vm_that_is_gone_leaves_nothing_in_the_ledger() -> None:
    """Anybody may name a VM that never was, and have it wait behind a freeze first."""
    w = world(**ENFORCE)
    w.fleet.facts_of.clear()
    await w.controls.freeze(FIRST)
    assert (await w.pipeline.work(operator(Action.REVERT, "o-early"))).reason == "frozen"
    await w.controls.resume(ANN)
    await later(w)
    assert await w.controls.subject(REF, RUNBOOK) is None
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).reason == "instance_gone"
    assert await w.controls.subject(REF, RUNBOOK) is None


@pytest.mark.parametrize("origin", [Origin.OPERATOR, Origin.APPROVAL])
async def test_a_hold_of_an_older_version_still_gives_way_to_a_person(origin: Origin) -> None:
    """It does not say which revert it was."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    await reverted(w)

    def forget(subject: Subject) -> tuple[Subject, list[Act]]:
        return replace(subject, held_by=None), []

    await w.controls._change_subject(REF, RUNBOOK, forget, START)
    w.clock.tick(seconds=timedelta(days=2).total_seconds())
    order = replace(operator(intent_id="o-again"), origin=origin)
    facts, runbook = w.fleet.facts_of[REF.instance_id], w.pipeline.runbooks[RUNBOOK]
    order = replace(order, approved=decide.plan(order, runbook, facts, evidence(101), w.settings))
    assert (await w.pipeline.work(order)).result is Result.REMEDIATED


# Through a freeze, and stopped by one


def knowing(*marks: str, name: str = "o-back", **more: Any) -> Any:
    return replace(operator(Action.REVERT, name), passes=marks, **more)


async def fixed(*refs: InstanceRef, **settings: Any) -> World:
    """Give a world in which VMs were mended, the runbook being frozen afterwards."""
    w = world(**(ENFORCE | settings))
    for number, ref in enumerate(refs or (REF,)):
        if ref != REF:
            w.fleet.add(ref)
        at = w.clock.now()
        assert (await w.deliver(push(entry(ref, at=at), f"m{number}", at=at))).result is Result.REMEDIATED
    return w


FIRST = Freeze("sre", START, "it broke something")


@pytest.mark.parametrize("scope", ["everything", "runbook", "vm"])
async def test_a_revert_goes_on_through_the_freeze_that_it_names(scope: str) -> None:
    """Freeze, revert, find the cause: a way back is not what a freeze is for."""
    w = await fixed()
    if scope == "vm":
        await w.controls.freeze_instance(REF, RUNBOOK, FIRST)
    else:
        await w.controls.freeze(FIRST, runbook=RUNBOOK if scope == "runbook" else None)
    assert (await w.pipeline.work(knowing(name="o-blind"))).reason == "frozen"
    assert (await w.pipeline.work(knowing(FIRST.mark))).result is Result.REVERTED


async def test_the_next_freeze_stops_a_revert_that_was_ordered_before_it() -> None:
    """A broken revert must be stoppable, and one resume gives back the first freeze, not freedom."""
    w = await fixed()
    await w.controls.freeze(FIRST)
    await w.controls.freeze(Freeze("sre", START + timedelta(minutes=1), "the revert is broken"))
    stopped = await w.pipeline.work(knowing(FIRST.mark))
    assert (stopped.result, stopped.reason) == (Result.PARKED, "frozen")
    assert "the revert is broken" in stopped.detail
    await w.controls.resume(ANN)
    assert (await w.controls.fleet()).frozen == FIRST
    await later(w)
    assert w.outcomes.results[-1] == "reverted"


async def test_a_freeze_between_look_and_commit_stops_a_revert() -> None:
    """The last moment counts."""
    w = await fixed()
    await w.controls.freeze(FIRST)
    looked = w.fleet.facts

    async def facts(ref: InstanceRef) -> InstanceFacts:
        if w.fleet.vms[REF.instance_id].checks > 2:  # two by the fix, one by the revert
            await w.controls.freeze(Freeze("boss", START, "stop that"))
        return await looked(ref)

    w.fleet.facts = facts  # type: ignore[method-assign]
    assert (await w.pipeline.work(knowing(FIRST.mark))).reason == "frozen"
    assert not w.fleet.vms[REF.instance_id].faulty


async def test_a_revert_passes_the_breaker_and_takes_no_place_of_the_budget() -> None:
    """What went wrong on many VMs is put back on all of them at once, and later fixes have their places."""
    refs = [InstanceRef(REF.project_id, REF.zone, str(3000 + n)) for n in range(4)]
    w = await fixed(*refs, disruption_budget=Budget.parse("4/10m"))
    opened = Breaker(START, 5, 5)
    await w.controls.open_breaker(RUNBOOK, opened)
    for ref in refs:
        order = replace(knowing(opened.mark, name=f"o-{ref.instance_id}"), instance=ref)
        assert (await w.pipeline.work(order)).result is Result.REVERTED
    await w.controls.resume(ANN, runbook=RUNBOOK)
    w.clock.tick(minutes=11)
    assert (await w.deliver(push(entry(at=w.clock.now()), "new", at=w.clock.now()))).result is (
        Result.REMEDIATED
    )


async def test_a_revert_has_a_limit_of_its_own() -> None:
    """So many VMs in a window; the rest waits for the tick."""
    refs = [InstanceRef(REF.project_id, REF.zone, str(3000 + n)) for n in range(4)]
    w = await fixed(*refs)
    for ref in refs:
        await w.pipeline.work(replace(knowing(name=f"o-{ref.instance_id}", at_most=2), instance=ref))
    assert w.outcomes.results[4:] == ["reverted"] * 2 + ["parked:budget_exhausted"] * 2
    await later(w, minutes=11)
    assert w.outcomes.results[8:] == ["reverted"] * 2


@pytest.mark.parametrize("origin", [Origin.LOG_ENTRY, Origin.APPROVAL, Origin.OPERATOR])
async def test_nothing_but_a_persons_revert_passes_a_freeze(origin: Origin) -> None:
    """Whatever an order says that it knows of."""
    w = world(**ENFORCE)
    await w.controls.freeze(FIRST)
    order = replace(operator(), origin=origin, passes=(FIRST.mark,))
    assert (await w.pipeline.work(order)).reason == "frozen"
    assert w.fleet.vms[REF.instance_id].enforcements == 0


async def test_observing_refuses_a_revert_whatever_it_names() -> None:
    """There is no root there."""
    w = world()
    await w.controls.freeze(FIRST)
    assert (await w.pipeline.work(knowing(FIRST.mark))).reason == "observe_mode"


async def test_an_agents_revert_goes_on_under_the_freeze_that_it_names_and_not_under_the_next() -> None:
    """The tick takes no label away that was asked for in knowledge of the freeze."""
    w, agents = agents_world()
    await w.controls.freeze(FIRST)
    assert (await w.pipeline.work(knowing(FIRST.mark))).result is Result.REQUESTED
    await w.tick()
    assert agents.label() == "revert"
    await w.controls.freeze(Freeze("boss", START, "stop that"))
    await w.tick()
    assert (agents.label(), w.outcomes.results[-1]) == (None, "parked:frozen")


async def test_freezes_stack_and_each_is_lifted_by_itself() -> None:
    """However many people froze; beyond ten the latest replaces the one before."""
    w = world(**ENFORCE)
    for number in range(14):
        await w.controls.freeze(Freeze(f"p{number}", START))
        await w.controls.freeze(Freeze(f"p{number}", START), runbook=RUNBOOK)
        await w.controls.freeze_instance(REF, RUNBOOK, Freeze(f"p{number}", START))
    fleet, subject = await w.controls.fleet(), await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    for top in (fleet.frozen, fleet.frozen_runbooks[RUNBOOK], subject.frozen):
        assert top is not None
        assert [each.by for each in top.stack] == ["p13", *(f"p{n}" for n in range(8, -1, -1))]
    for _ in range(9):
        await w.controls.resume(ANN)
        assert (await w.controls.fleet()).frozen is not None
    await w.controls.resume(ANN)
    assert (await w.controls.fleet()).frozen is None
