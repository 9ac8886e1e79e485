"""What nothing can put back: it is said everywhere, and no order to put it back is taken."""

from pathlib import Path

import pytest
from tests.fakes import REF, world
from tests.unit.test_pipeline import ENFORCE, operator
from tests.unit.test_runbook import MINIMAL, folder, load, problems

from logmend import catalog
from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.state import By
from logmend.model.struct import replace
from logmend.osconfig import assignment
from logmend.outcome import document
from logmend.outcome.reasons import IRREVERSIBLE, next_step
from logmend.settings import Settings

__all__ = ["folder"]

LASTING = MINIMAL | {"irreversible": True}


@pytest.fixture
def lasting(folder: Path) -> Path:
    """Make a folder without a way back."""
    for each in ("validate.sh", "enforce.sh"):
        (folder / "revert" / each).unlink()
    (folder / "revert").rmdir()
    return folder


def test_it_has_two_scripts_and_no_assignment_of_a_way_back(lasting: Path) -> None:
    """And its digest is over what there is."""
    found = load(lasting, LASTING)
    assert found.irreversible
    assert list(found.scripts.by_file) == ["validate.sh", "enforce.sh"]
    assert assignment.actions(found) == (Action.CHECK, Action.ENFORCE)
    assert assignment.actions(replace(found, irreversible=False)) == assignment.ACTIONS


def test_a_way_back_of_what_is_irreversible_is_a_contradiction(folder: Path) -> None:
    """One of the two is wrong."""
    assert problems(folder, LASTING) == ["revert: irreversible, but there is a revert"]


def test_without_the_word_a_way_back_is_demanded(lasting: Path) -> None:
    """A folder that was forgotten is no decision."""
    assert len(problems(lasting, MINIMAL)) == 2


async def test_every_outcome_says_it_and_a_revert_is_refused_without_a_login() -> None:
    """Nobody is told how to undo it; what an approval binds has it, too."""
    w = world(**ENFORCE)
    lasting = replace(w.pipeline.runbooks["workload-cert-refresh"], irreversible=True)
    pipeline = replace(w.pipeline, runbooks={lasting.name: lasting})
    outcome = await pipeline.work(operator())
    assert (outcome.result, outcome.notes[0]) == (Result.REMEDIATED, IRREVERSIBLE)
    assert document.document(outcome)["next_step"] is None
    opened = w.fleet.opened
    outcome = await pipeline.work(operator(Action.REVERT, "o-2"))
    assert (outcome.result, outcome.reason) == (Result.REFUSED, "no_way_back")
    assert IRREVERSIBLE in outcome.notes
    assert w.fleet.opened == opened


async def test_what_failed_does_not_name_a_way_back_either() -> None:
    """The step is to find out, and no more."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.fix_works = False
    lasting = replace(w.pipeline.runbooks["workload-cert-refresh"], irreversible=True)
    outcome = await replace(w.pipeline, runbooks={lasting.name: lasting}).work(operator())
    assert outcome.reason == "still_faulty"
    assert "revert" not in next_step(outcome)
    assert "revert" in next_step(replace(outcome, notes=()))


async def test_an_event_waits_for_a_persons_word_in_mode_enforce_and_the_plan_says_why(
    tmp_path: Path,
) -> None:
    """One VM, one approval; what was approved is bound to the guard that says it, and is then carried out."""
    path = tmp_path / "logmend.yaml"
    path.write_text("runbooks: {dpkg-interrupted: {enabled: true}}")
    found = catalog.read_all(Settings(runbooks=path, mode=Mode.ENFORCE))
    w = world(mode=Mode.ENFORCE)
    worker = replace(w.pipeline.worker, policies=found.policies)
    pipeline = replace(w.pipeline, policies=found.policies, runbooks=found.runbooks, worker=worker)
    ticker = replace(w.ticker, pipeline=pipeline)
    order = replace(
        operator(intent_id="m-1"), runbook="dpkg-interrupted", origin=Origin.INCIDENT, requested_by=None
    )
    planned = await pipeline.work(order)
    assert (planned.result, planned.mode) == (Result.PLANNED, Mode.APPROVE)
    assert planned.notes[0] == IRREVERSIBLE
    assert planned.approval_id is not None
    (waiting,) = [each async for each in w.controls.approvals()]
    assert waiting.plan is not None
    assert waiting.plan.guards["irreversible"] == "go on; its changes cannot be undone"
    assert w.fleet.vms[REF.instance_id].enforcements == 0

    await w.controls.approve(planned.approval_id, By("ann", w.clock.now()))
    w.clock.tick(minutes=5)
    await ticker.run()
    assert w.outcomes.results[-1] == "remediated"
    assert w.outcomes.written[-1].notes[0] == IRREVERSIBLE
