"""The osconfig executor on both APIs: labels set and taken back, reports read, calls counted."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.osconfig_v1.types import OSPolicyAssignment
from google.cloud.osconfig_v1.types import OSPolicyAssignmentReport as Report
from tests.contract.http_fake import serving
from tests.contract.osconfig_server import Kept, OsConfigServer

from logmend.adapters.google.compute import ComputeApi
from logmend.adapters.google.osconfig import CALLS_A_MINUTE, OsConfigExecutor
from logmend.adapters.google.quota import Quota
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action
from logmend.model.struct import replace
from logmend.model.values import Asked, InstanceRef
from logmend.osconfig import assignment
from logmend.runbook import load_all
from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.instance import PretendInstance

PROJECT, ZONE = "web-prod", "us-west1-a"
REF = InstanceRef(PROJECT, ZONE, "4775836342981993096")
RUNBOOK = load_all()["workload-cert-refresh"]
SINCE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EXEMPT = ("logmend", "off")
COMPLIANCE = Report.OSPolicyCompliance
RESOURCE = COMPLIANCE.OSPolicyResourceCompliance
STEP = RESOURCE.OSPolicyResourceConfigStep


def vm(**changes: Any) -> PretendInstance:
    parts: dict[str, Any] = {
        "project_id": PROJECT,
        "zone": ZONE,
        "instance_id": REF.instance_id,
        "name": "web-1",
        "labels": {"env": "prod"},
        "metadata": {"enable-osconfig": "TRUE"},
        "service_account": "vm@web-prod.iam.gserviceaccount.com",
    }
    return PretendInstance(**(parts | changes))


def report(
    action: Action = Action.ENFORCE, *, at: datetime = SINCE + timedelta(minutes=9), enforced: bool = True
) -> Any:
    """Give the report of a run that found the fault and mended it, or found nothing to mend."""
    kinds = [STEP.Type.VALIDATION, STEP.Type.DESIRED_STATE_CHECK]
    if enforced:
        kinds += [STEP.Type.DESIRED_STATE_ENFORCEMENT, STEP.Type.DESIRED_STATE_CHECK_POST_ENFORCEMENT]
    resource = RESOURCE(
        os_policy_resource_id="script",
        config_steps=[STEP(type_=kind) for kind in kinds],
        compliance_state=RESOURCE.ComplianceState.COMPLIANT,
        exec_resource_output={"enforcement_output": b"changed=yes\n"} if enforced else None,
    )
    name = assignment.assignment_id(RUNBOOK.name, action)
    return Report(
        instance="web-1",
        os_policy_assignment=f"projects/4711/locations/{ZONE}/osPolicyAssignments/{name}@rev-1",
        os_policy_compliances=[
            COMPLIANCE(
                os_policy_id=name,
                compliance_state=COMPLIANCE.ComplianceState.COMPLIANT,
                os_policy_resource_compliances=[resource],
            )
        ],
        update_time=at,
        last_run_id="run-1",
    )


@dataclass
class Cloud:
    """Both APIs and the executor between them."""

    compute_api: PretendCompute
    server: OsConfigServer
    compute: ComputeApi
    executor: OsConfigExecutor

    def deploy(self, *actions: Action, **changes: Any) -> None:
        """Put assignments in the zone, rolled out."""
        for action in actions or assignment.ACTIONS:
            name = assignment.assignment_id(RUNBOOK.name, action)
            wanted = assignment.assignment(RUNBOOK, action, EXEMPT) | changes
            revision = {"revisionId": "rev-1"}
            kept = Kept([OSPolicyAssignment.from_json(json.dumps(wanted | revision))])
            self.server.kept[f"{assignment.parent(PROJECT, ZONE)}/osPolicyAssignments/{name}"] = kept


@asynccontextmanager
async def cloud(*instances: PretendInstance, calls_a_minute: int = 10_000) -> AsyncIterator[Cloud]:
    pretend, server = PretendCompute(instances or [vm()]), OsConfigServer()
    async with serving(pretend.app) as compute_url, serving(server.app) as url:
        compute = ComputeApi(compute_url)
        executor = OsConfigExecutor(compute, EXEMPT, load_all(), url, calls_a_minute=calls_a_minute)
        try:
            yield Cloud(pretend, server, compute, executor)
        finally:
            await executor.aclose()
            await compute.aclose()


def asked(action: Action = Action.ENFORCE, ref: InstanceRef = REF) -> Asked:
    return Asked(ref, RUNBOOK.name, action, SINCE)


async def test_a_request_is_a_label_beside_those_of_others_and_goes_again() -> None:
    """Set once however often it is asked for; nobody else's label is lost."""
    async with cloud() as c:
        c.deploy()
        facts = await c.compute.facts(REF)
        await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)
        await c.executor.request(facts, RUNBOOK, Action.ENFORCE)
        [instance] = c.compute_api.instances
        assert instance.labels == {"env": "prod", "logmend-workload-cert-refresh": "enforce"}
        instance.labels["theirs"] = "new"
        instance.generation += 1
        await c.executor.request(facts, RUNBOOK, Action.ENFORCE)
        await c.executor.withdraw(REF, RUNBOOK.name)
        assert instance.labels == {"env": "prod", "theirs": "new"}
        await c.executor.withdraw(REF, RUNBOOK.name)


async def test_a_vm_that_is_gone_has_no_label_to_take_back() -> None:
    """Withdrawing is about the label, not about the VM."""
    async with cloud() as c:
        c.compute_api.instances.clear()
        await c.executor.withdraw(REF, RUNBOOK.name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metadata": {}}, "osconfig_disabled"),
        ({"metadata": {"enable-osconfig": "false"}}, "osconfig_disabled"),
        ({"service_account": None}, "no_service_account"),
    ],
)
async def test_what_a_vm_lacks_is_named_without_a_call(changes: dict[str, Any], reason: str) -> None:
    """Each precondition has a reason of its own, and its remedy."""
    async with cloud(vm(**changes)) as c:
        facts = await c.compute.facts(REF)
        with pytest.raises(Permanent) as raised:
            await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)
        assert raised.value.reason == reason
        assert c.server.calls == []


async def test_the_project_may_enable_the_agent_and_the_instance_has_the_last_word() -> None:
    """As the guest sees it."""
    async with cloud(vm(metadata={})) as c:
        c.deploy()
        c.compute_api.project_metadata[PROJECT] = {"enable-osconfig": "true"}
        await c.executor.ready(await c.compute.facts(REF), RUNBOOK, Action.CHECK)
        c.compute_api.instances[0].metadata["enable-osconfig"] = "FALSE"
        with pytest.raises(Permanent, match="osconfig_disabled"):
            await c.executor.ready(await c.compute.facts(REF), RUNBOOK, Action.CHECK)


async def test_what_the_zone_lacks_is_named() -> None:
    """No API, no assignment, or one that is not made of these scripts."""
    async with cloud() as c:
        facts = await c.compute.facts(REF)
        c.server.disable(PROJECT)
        with pytest.raises(Permanent, match="osconfig_api_disabled"):
            await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)
        c.server.failures.clear()
        with pytest.raises(Permanent, match="assignment_missing"):
            await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)
        c.deploy(
            Action.ENFORCE, osPolicies=assignment.assignment(RUNBOOK, Action.REVERT, EXEMPT)["osPolicies"]
        )
        with pytest.raises(Permanent, match="assignment_outdated"):
            await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)


async def test_a_runbook_whose_scripts_no_policy_takes_is_never_asked_for() -> None:
    """No label is set for an assignment that cannot exist, or that its author does not want."""
    scripts = replace(RUNBOOK.scripts, validate=RUNBOOK.scripts.validate + "#" * 1024)
    async with cloud() as c:
        facts = await c.compute.facts(REF)
        with pytest.raises(Permanent, match=r"validate\.sh has 2,") as refused:
            await c.executor.ready(facts, replace(RUNBOOK, scripts=scripts), Action.CHECK)
        assert refused.value.reason == "scripts_too_long"
        with pytest.raises(Permanent, match="executors") as refused:
            await c.executor.ready(facts, replace(RUNBOOK, executors=("ssh",)), Action.CHECK)
        assert refused.value.reason == "needs_ssh"


async def test_an_assignment_is_looked_at_once_for_many_vms() -> None:
    """The quota is for reports."""
    async with cloud() as c:
        c.deploy()
        facts = await c.compute.facts(REF)
        for _ in range(20):
            await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)
        assert len(c.server.calls) == 1


async def test_a_report_counts_from_the_request_on() -> None:
    """The same second is not after it."""
    async with cloud() as c:
        c.deploy()
        assert await c.executor.report(asked()) is None
        c.server.put_report(PROJECT, ZONE, REF.instance_id, report(at=SINCE))
        assert await c.executor.report(asked()) is None
        c.server.put_report(PROJECT, ZONE, REF.instance_id, report())
        done = await c.executor.report(asked())
        assert done is not None
        assert done.before is not None
        assert done.after is not None
        assert done.enforcement is not None
        assert (done.before.exit_code, done.enforced, done.after.exit_code) == (101, True, 100)
        assert done.enforcement.values == {"changed": "yes"}
        assert done.after.instance_id == REF.instance_id
        assert await c.executor.report(asked(Action.REVERT)) is None


async def test_a_report_of_other_scripts_proves_nothing() -> None:
    """Changed behind our back within the ten minutes, or gone since: that is not the runbook."""
    async with cloud() as c:
        c.deploy()
        facts = await c.compute.facts(REF)
        await c.executor.ready(facts, RUNBOOK, Action.ENFORCE)
        other = assignment.assignment(RUNBOOK, Action.REVERT, EXEMPT) | {"revisionId": "rev-2"}
        (kept,) = [each for name, each in c.server.kept.items() if name.endswith("-enforce")]
        kept.revisions.append(OSPolicyAssignment.from_json(json.dumps(other)))
        name = assignment.assignment_id(RUNBOOK.name, Action.ENFORCE)
        for revision, why in (("rev-2", "differs in osPolicies"), ("rev-3", "it is gone")):
            c.server.put_report(PROJECT, ZONE, REF.instance_id, said := report())
            said.os_policy_assignment = (
                f"projects/4711/locations/{ZONE}/osPolicyAssignments/{name}@{revision}"
            )
            done = await c.executor.report(asked())
            assert done is not None
            assert done.trouble is not None
            assert (done.before, done.enforced, done.after) == (None, False, None)
            assert (done.trouble.transient, done.trouble.reason) == (True, "assignment_outdated")
            assert f"revision {revision} of {name}" in done.trouble.detail
            assert why in done.trouble.detail
        said.os_policy_assignment = said.os_policy_assignment.partition("@")[0]
        with pytest.raises(Transient, match="names no revision"):
            await c.executor.report(asked())
        c.server.put_report(PROJECT, ZONE, REF.instance_id, report())
        done = await c.executor.report(asked())
        assert done is not None
        assert done.enforced, "what ran rev-1 ran our scripts, though rev-2 is the newest"


async def test_a_thousand_open_requests_are_read_in_ten_calls() -> None:
    """A hundred each: at 60 calls a minute ten thousand in less than two minutes, whatever was reported."""
    async with cloud() as c:
        c.deploy()
        refs = [InstanceRef(PROJECT, ZONE, str(number)) for number in range(1_000)]
        for ref in refs[:990]:
            c.server.put_report(PROJECT, ZONE, ref.instance_id, report())
        await c.executor.prefetch([asked(ref=ref) for ref in refs])
        listed = len(c.server.calls)
        found = [await c.executor.report(asked(ref=ref)) for ref in refs]
        assert listed == 10
        assert len(c.server.calls) == 11, "and one for the revision that they are all of"
        assert sum(done is not None for done in found) == 990
        minutes = 10 * listed / CALLS_A_MINUTE
        assert minutes < 2


async def test_a_listing_ends_with_the_last_report_that_is_wanted_and_few_are_read_by_themselves() -> None:
    """A zone's history of labelled VMs costs nothing while a handful is open."""
    async with cloud() as c:
        refs = [InstanceRef(PROJECT, ZONE, f"{number:04}") for number in range(1_000)]
        for ref in refs:
            c.server.put_report(PROJECT, ZONE, ref.instance_id, report())
        await c.executor.prefetch([asked(ref=ref) for ref in refs[:50]])
        assert len(c.server.calls) == 1
        c.server.calls.clear()
        await c.executor.prefetch([asked(ref=ref) for ref in refs[-3:]])
        assert len(c.server.calls) == 3
        assert all("/instances/-/" not in call for call in c.server.calls)


async def test_a_listing_that_names_vms_otherwise_costs_calls_and_no_report() -> None:
    """The reference says numeric ids; should it be names, each report is asked for by itself."""
    async with cloud() as c:
        c.deploy()
        refs = [InstanceRef(PROJECT, ZONE, f"{number:04}") for number in range(12)]
        for ref in refs:
            c.server.put_report(PROJECT, ZONE, ref.instance_id, named := report())
            named.name = named.name.replace(
                f"/instances/{ref.instance_id}/", f"/instances/vm-{ref.instance_id}/"
            )
        await c.executor.prefetch([asked(ref=ref) for ref in refs])
        found = [await c.executor.report(asked(ref=ref)) for ref in refs]
        assert all(done is not None and done.enforced for done in found)
        assert len(c.server.calls) == 1 + len(refs) + 1


async def test_a_report_of_another_vm_is_not_believed() -> None:
    """Whatever answered, it is not about this VM."""
    async with cloud() as c:
        c.server.put_report(PROJECT, ZONE, REF.instance_id, other := report())
        other.name = other.name.replace(REF.instance_id, "999")
        with pytest.raises(Transient, match="another VM"):
            await c.executor.report(asked())


async def test_a_refused_listing_is_told_for_each_and_asked_once() -> None:
    """Ten thousand retries would not help the quota."""
    async with cloud() as c:
        refs = [InstanceRef(PROJECT, ZONE, str(number)) for number in range(100)]
        c.server.fail("/reports", 429, "Quota exceeded for quota metric")
        await c.executor.prefetch([asked(ref=ref) for ref in refs])
        for ref in refs:
            with pytest.raises(Transient, match="rate_limited"):
                await c.executor.report(asked(ref=ref))
        assert len(c.server.calls) == 1


async def test_a_forbidden_report_names_the_permission() -> None:
    """What to grant."""
    async with cloud() as c:
        c.server.fail("/report", 403, "Permission denied")
        with pytest.raises(Permanent, match=r"osconfig\.osPolicyAssignmentReports"):
            await c.executor.report(asked())


async def test_the_quota_is_kept_in_any_minute() -> None:
    """Places are given in order; who would wait too long is told so at once."""
    clock, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    quota = Quota(3, 60.0, now=lambda: clock[0], sleep=sleep)
    for _ in range(3):
        await quota.take(60)
    clock[0] = 10.0
    await quota.take(60)
    assert slept == [50.0]
    for _ in range(2):
        await quota.take(60)
    with pytest.raises(Transient) as raised:
        await quota.take(60)
    assert raised.value.retry_after is not None
    assert raised.value.retry_after > 60
    clock[0] = 200.0
    await quota.take(0)
