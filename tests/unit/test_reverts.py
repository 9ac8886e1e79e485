"""What a person undid stays undone, until an order that knows of it."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import REF, START, World, entry, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.state import Freeze, Subject
from logmend.model.struct import replace

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
    await w.controls.resume_instance(REF, RUNBOOK)
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
    await w.controls.approve(planned.approval_id, "sre", w.clock.now())
    await later(w)
    assert w.outcomes.results[-1] == "skipped:superseded_by_revert"


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


@pytest.mark.parametrize("origin", [Origin.OPERATOR, Origin.APPROVAL])
async def test_a_hold_of_an_older_version_still_gives_way_to_a_person(origin: Origin) -> None:
    """It does not say which revert it was."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    await reverted(w)

    def forget(subject: Subject) -> Subject:
        return replace(subject, held_by=None)

    await w.controls._change_subject(REF, RUNBOOK, forget)
    w.clock.tick(seconds=timedelta(days=2).total_seconds())
    order = replace(operator(intent_id="o-again"), origin=origin)
    assert (await w.pipeline.work(order)).result is Result.REMEDIATED
