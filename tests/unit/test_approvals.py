"""An approval is good for what the person saw, and for nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import REF, World, entry, evidence, push, world
from tests.unit.test_requests import agents_world

from logmend.errors import ConfigError
from logmend.model.enums import Action, Finding, Mode, Result
from logmend.model.state import Approval, By
from logmend.model.struct import replace
from logmend.model.values import Attempt, Outcome
from logmend.runbook import BUILT_IN, load

RUNBOOK = "workload-cert-refresh"
SEEN = {"timer_enabled": "enabled", "timer_active": "active", "config_status": "404"}


async def planned(**seen: str) -> tuple[World, str]:
    """Give a world with one plan that waits, made of evidence of the VM."""
    w = world(mode=Mode.APPROVE)
    says(w, **(SEEN | seen))
    said = await w.deliver(push(entry()))
    assert said.approval_id
    return w, said.approval_id


def says(w: World, **seen: str) -> None:
    """Let the next check of the VM see the fault, and say so with these values."""
    w.fleet.vms[REF.instance_id].on_check = [lambda: evidence(101, w.clock.now(), **seen)]


async def carried_out(w: World, approval_id: str) -> Outcome:
    await w.controls.approve(approval_id, By("ann", w.clock.now()))
    w.clock.tick(minutes=5)
    await w.ticker.run()
    return w.outcomes.written[-1]


async def pending(w: World) -> list[Approval]:
    return [each async for each in w.controls.approvals() if each.state == "pending"]


async def test_a_plan_keeps_what_the_person_is_shown() -> None:
    """Action, digest, finding, each guard's verdict, and the evidence that the runbook names; no more."""
    w, _ = await planned(mark="abc", timer_since="12:00")
    (waiting,) = await pending(w)
    assert waiting.plan is not None
    assert (waiting.plan.action, waiting.plan.finding) == (Action.ENFORCE, Finding.FAULTY)
    assert waiting.plan.digest == w.pipeline.runbooks[RUNBOOK].digest
    assert waiting.plan.guards["instance_running"] == "go on; status is RUNNING"
    assert {key: value for key, value in waiting.plan.evidence.items() if value} == SEEN
    assert waiting.plan.evidence["lasts"] is None


async def test_what_is_as_it_was_approved_is_carried_out() -> None:
    """Values that change by themselves are not bound."""
    w, plan = await planned(timer_since="12:00")
    says(w, **SEEN, timer_since="12:10")
    assert (await carried_out(w, plan)).result is Result.REMEDIATED


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"config_status": "000"}, "evidence config_status was '404', is '000'"),
        ({"lasts": "until_reboot"}, "evidence lasts was absent, is 'until_reboot'"),
    ],
)
async def test_other_evidence_needs_a_new_approval(seen: dict[str, str], told: str) -> None:
    """Nothing is enforced; a new plan waits, and the outcome says what differs."""
    w, plan = await planned()
    says(w, **(SEEN | seen))
    said = await carried_out(w, plan)
    assert (said.result, said.reason) == (Result.PLANNED, "approval_differs")
    assert told in said.detail
    assert w.fleet.vms[REF.instance_id].enforcements == 0
    (waiting,) = await pending(w)
    assert waiting.approval_id == said.approval_id != plan
    says(w, **(SEEN | seen))
    assert (await carried_out(w, waiting.approval_id)).result is Result.REMEDIATED


async def test_another_runbook_needs_a_new_approval() -> None:
    """An upgrade between plan and approval, or between approval and tick."""
    w, plan = await planned()
    upgraded = replace(w.pipeline.runbooks[RUNBOOK], digest="sha256:other")
    w = with_runbook(w, upgraded)
    says(w, **SEEN)
    said = await carried_out(w, plan)
    assert (said.result, said.reason) == (Result.PLANNED, "approval_differs")
    assert "runbook digest was sha256:" in said.detail
    assert "is sha256:other" in said.detail
    assert w.fleet.vms[REF.instance_id].enforcements == 0


def with_runbook(w: World, runbook: Any) -> World:
    pipeline = replace(w.pipeline, runbooks=dict(w.pipeline.runbooks) | {RUNBOOK: runbook})
    w.pipeline, w.ticker = pipeline, replace(w.ticker, pipeline=pipeline)
    return w


async def test_another_verdict_of_a_guard_needs_a_new_approval() -> None:
    """It still says go on, but on another ground."""
    w, plan = await planned()
    w.fleet.facts_of[REF.instance_id] = replace(
        w.fleet.facts_of[REF.instance_id], partner_namespaces=None, unknown={"partner_namespaces": "503"}
    )
    says(w, **SEEN)
    said = await carried_out(w, plan)
    assert said.reason == "approval_differs"
    assert "guard workload_certificates_unused was" in said.detail


async def test_an_approval_of_an_older_version_is_good_for_nothing() -> None:
    """Nobody knows what was shown; a new plan says it."""
    w, plan = await planned()

    def forget(found: Any) -> Any:
        ((key, document),) = found.items()
        return {key: replace(document, data=dict(document.data) | {"plan": None})}, None

    await w.store.transact([("approvals", plan)], forget)
    says(w, **SEEN)
    assert (await carried_out(w, plan)).reason == "approval_differs"
    assert len(await pending(w)) == 1


async def test_through_an_agent_the_runbook_and_the_guards_are_bound() -> None:
    """It looks by itself right before it enforces, so that nobody sees its evidence in between."""
    w, agents = agents_world(mode=Mode.APPROVE)
    await w.deliver(push(entry()))
    w.clock.tick(minutes=6)
    agents.says(Action.CHECK, Attempt("osconfig", before=evidence(101, w.clock.now(), **SEEN)))
    await w.tick()
    (waiting,) = await pending(w)
    other = with_runbook(w, replace(w.pipeline.runbooks[RUNBOOK], digest="sha256:other"))
    said = await carried_out(other, waiting.approval_id)
    assert (said.result, said.reason) == (Result.PLANNED, "approval_differs")
    (again,) = await pending(other)
    assert again.plan is not None
    assert waiting.plan is not None
    assert again.plan.evidence == waiting.plan.evidence
    assert (await carried_out(other, again.approval_id)).result is Result.REQUESTED


def test_a_key_that_the_check_never_says_is_a_problem_of_the_runbook(tmp_path: Path) -> None:
    """It would be absent then and now, and bind nothing."""
    folder = tmp_path / RUNBOOK
    shutil.copytree(BUILT_IN / RUNBOOK, folder)
    file = folder / "runbook.yaml"
    file.write_text(file.read_text().replace("approval_keys: [unit,", "approval_keys: [colour,"))
    with pytest.raises(ConfigError, match="never says colour"):
        load(folder)
