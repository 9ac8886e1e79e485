"""The breaker is for changes of ours that go wrong; VMs that cannot be reached are counted where they are."""

from typing import Any

import pytest
from tests.fakes import REF, World, entry, evidence, push, world
from tests.unit.test_pipeline import ENFORCE
from tests.unit.test_requests import agents_world

from logmend.errors import Permanent, Transient
from logmend.model.enums import Action
from logmend.model.values import Attempt, InstanceRef
from logmend.outcome.reasons import REASONS, UNREACHED
from logmend_cli.status.fleet_state import Unreached
from logmend_cli.status.summing import Summing

RUNBOOK = "workload-cert-refresh"
DARK = [InstanceRef("dark-project", "us-west1-b", str(2000 + n)) for n in range(8)]


async def breakers(w: World) -> set[str]:
    return set((await w.controls.fleet()).breakers)


async def tell(w: World, ref: InstanceRef, name: str) -> str:
    at = w.clock.now()
    return (await w.deliver(push(entry(ref, at=at), name, at=at))).result


@pytest.mark.parametrize("error", [Transient("unreachable"), Permanent("host_key_mismatch")])
async def test_dark_vms_of_one_project_stop_nobody_else(error: Exception) -> None:
    """None of them was changed, so that another project's VM is mended as ever."""
    w = world(**ENFORCE, unreachable_tries=1)
    for ref in DARK:
        w.fleet.add(ref)
        w.fleet.on_open = [error]
        assert await tell(w, ref, ref.instance_id) == "failed"
    assert await breakers(w) == set()
    assert await tell(w, REF, "other") == "remediated"


async def test_vms_that_are_lost_after_the_commit_point_open_it() -> None:
    """A change that cuts a VM off is just what the breaker is for."""
    w = world(**ENFORCE)
    for ref in DARK:
        w.fleet.add(ref).on_enforce = [Transient("connection_lost")]
    told = [await tell(w, ref, ref.instance_id) for ref in DARK]
    assert told == ["unverified"] * 5 + ["skipped"] * 3
    assert await breakers(w) == {RUNBOOK}


async def test_scripts_that_err_before_anything_was_committed_open_nothing() -> None:
    """A check that fails says nothing about enforcing."""
    w = world(**ENFORCE)
    for ref in DARK:
        w.fleet.add(ref).on_check = [evidence(1)]
        assert await tell(w, ref, ref.instance_id) == "failed"
    assert await breakers(w) == set()


async def test_silent_agents_open_nothing() -> None:
    """Of an agent that never reported nobody knows whether it runs."""
    w, _ = agents_world()
    for ref in DARK:
        w.fleet.add(ref, metadata={"enable-osconfig": "TRUE"}, service_account="vm@example.com")
        assert await tell(w, ref, ref.instance_id) == "requested"
    await w.tick(hours=3)
    assert w.outcomes.results.count("unverified:no_report") == len(DARK)
    assert await breakers(w) == set()


async def test_agents_that_report_a_failure_open_it() -> None:
    """They were heard of, and our change did not help."""
    w, agents = agents_world()
    for ref in DARK:
        w.fleet.add(ref, metadata={"enable-osconfig": "TRUE"}, service_account="vm@example.com")
        await tell(w, ref, ref.instance_id)
    w.clock.tick(minutes=1)
    for ref in DARK:
        failed = evidence(1, instance_id=None)
        seen = evidence(101, instance_id=ref.instance_id)
        done = Attempt("osconfig", before=seen, enforced=True, enforcement=failed, after=seen)
        agents.says(Action.ENFORCE, done, ref)
    await w.tick()
    assert w.outcomes.results.count("failed:script_error") == len(DARK)
    assert await breakers(w) == {RUNBOOK}


async def test_status_counts_vms_that_cannot_be_reached_by_project_and_zone() -> None:
    """Of how many that were tried there; a VM that answers again is no longer counted."""
    w = world(**ENFORCE, unreachable_tries=1)
    for ref in DARK[:4]:
        w.fleet.add(ref)
        w.fleet.on_open = [Transient("unreachable")]
        await tell(w, ref, ref.instance_id)
    await tell(w, REF, "fine")
    w.clock.tick(days=1)
    assert await tell(w, DARK[0], "again") == "remediated"
    summing = Summing(await w.controls.fleet())
    async for subject in w.ticker.queues.subjects():
        summing.subject(subject)
    state = summing.state()
    assert state.unreached == [Unreached("dark-project", "us-west1-b", 3, 4)]
    row: dict[str, Any] = state.document()["unreached"][0]
    assert row == {"project_id": "dark-project", "zone": "us-west1-b", "instances": 3, "of": 4}


def test_what_counts_as_not_reached_is_a_reason() -> None:
    """A misspelt one would never be counted."""
    assert REASONS.keys() >= UNREACHED
