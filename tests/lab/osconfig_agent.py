"""An OS Config agent for lab machines: the guest agent's published behaviour, really running the scripts.

As root, from a file, under ``/bin/sh``, in a service's environment. All policies are checked first, then
those that need it are enforced, then all are checked again if anything was enforced; an error ends its
policy. On 100 and 101 what a check printed is dropped; on any other code it becomes the step's error; after
an enforcement that ended with 100 the output file is read. Sources: ``config/exec_resource.go`` and
``agentendpoint/config_task.go`` of GoogleCloudPlatform/osconfig; that the service cuts errors to 512 bytes is
in its reports' reference.

What it is not: the service's timing, its task protocol, or its download of policies. Which assignments apply
is asked of the server by the labels that the Compute API holds.
"""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.cloud.osconfig_v1.types import OSPolicy, OSPolicyAssignmentReport

from logmend_cli.pretend.compute_api import PretendCompute
from tests.contract.osconfig_server import OsConfigServer
from tests.lab.machines import Machine

ENVIRONMENT = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What systemd gives a service (systemd.exec(5))."""
ERROR_LIMIT = 512
OUTPUT_LIMIT = 100 * 1024
COMPLIANCE = OSPolicyAssignmentReport.OSPolicyCompliance
RESOURCE = COMPLIANCE.OSPolicyResourceCompliance
STEP = RESOURCE.OSPolicyResourceConfigStep
STATE = COMPLIANCE.ComplianceState

_RUNS = itertools.count(1)


@dataclass
class _Policy:
    """One policy of a run: its steps so far, the state it was last seen in, its output."""

    policy: Any
    steps: list[Any] = field(default_factory=list)
    desired: bool = False
    failed: bool = False
    output: bytes | None = None

    @property
    def run(self) -> Any:
        """The exec resource; ours have one each."""
        return self.policy.resource_groups[0].resources[0].exec_

    def step(self, kind: Any, error: str = "") -> None:
        self.failed = self.failed or bool(error)
        self.steps.append(STEP(type_=kind, error_message=error[:ERROR_LIMIT]))


async def run(machine: Machine, server: OsConfigServer, compute: PretendCompute) -> list[str]:
    """Let a machine's agent do one run and report it; gives the assignments that applied.

    The agent reports for the instance that the metadata server says it is on, and knows no other.
    """
    instance_id = machine.metadata.attributes["instance/id"]
    instance = next((each for each in compute.instances if each.instance_id == instance_id), None)
    if instance is None:
        return []
    project, zone = instance.project_id, instance.zone
    assignments = server.targeting(project, zone, instance.labels)
    every = [(each, [_Policy(policy) for policy in each.os_policies]) for each in assignments]
    policies = [policy for _, of_one in every for policy in of_one]
    for each in policies:
        each.step(STEP.Type.VALIDATION)
    for each in policies:
        await _check(machine, each, STEP.Type.DESIRED_STATE_CHECK)
    enforced = [await _enforce(machine, each) for each in policies]
    for each in policies:
        if any(enforced) and not each.failed:
            await _check(machine, each, STEP.Type.DESIRED_STATE_CHECK_POST_ENFORCEMENT)
    for assignment, of_one in every:
        report = OSPolicyAssignmentReport(
            instance=instance.name,
            os_policy_assignment=f"{assignment.name}@{assignment.revision_id}",
            os_policy_compliances=[_compliance(each) for each in of_one],
            update_time=datetime.now(UTC),
            last_run_id=f"run-{next(_RUNS)}",
        )
        server.put_report(project, zone, instance_id, report)
    return [each.name.rpartition("/")[2] for each in assignments]


async def _check(machine: Machine, policy: _Policy, kind: Any) -> None:
    rc, out, err = await _script(machine, policy.run.validate)
    policy.desired = rc == 100
    said = ""
    if rc not in (100, 101):
        said = (
            "Error running desired state check: unexpected return code from validate:"
            f" {rc}, stdout: {out}, stderr: {err}"
        )
    policy.step(kind, said)


async def _enforce(machine: Machine, policy: _Policy) -> bool:
    """Enforce where the check said 101; gives whether that was begun."""
    if policy.failed or policy.desired or policy.policy.mode != OSPolicy.Mode.ENFORCEMENT:
        return False
    rc, out, err = await _script(machine, policy.run.enforce)
    said = ""
    if rc == 100:
        read = await machine.run(["cat", policy.run.enforce.output_file_path])
        policy.output = read.out.encode()[:OUTPUT_LIMIT] if read.rc == 0 else None
        said = "" if read.rc == 0 else f"Error running enforcement: error opening OutputFilePath: {read.err}"
    else:
        said = (
            "Error running enforcement: unexpected return code from enforce:"
            f" {rc}, stdout: {out}, stderr: {err}"
        )
    policy.step(STEP.Type.DESIRED_STATE_ENFORCEMENT, said)
    return True


async def _script(machine: Machine, script: Any) -> tuple[int, str, str]:
    """Run a script from a file, as the agent does; its standard input is empty."""
    await machine.output("rm -rf /run/osconfig_exec_resource; mkdir -m 700 /run/osconfig_exec_resource")
    path = "/run/osconfig_exec_resource/script.sh"
    await machine.run(["sh", "-c", f"cat >{path}"], stdin=script.script.encode())
    ran = await machine.run(["env", "-i", ENVIRONMENT, "/bin/sh", path], timeout=120)
    await machine.output("rm -rf /run/osconfig_exec_resource")
    return ran.rc, ran.out, ran.err


def _compliance(policy: _Policy) -> Any:
    state = STATE.UNKNOWN if policy.failed else STATE.COMPLIANT if policy.desired else STATE.NON_COMPLIANT
    output = {"enforcement_output": policy.output} if policy.output is not None else None
    return COMPLIANCE(
        os_policy_id=policy.policy.id,
        compliance_state=state,
        compliance_state_reason="resource-execution-errors" if policy.failed else "",
        os_policy_resource_compliances=[
            RESOURCE(
                os_policy_resource_id="script",
                config_steps=policy.steps,
                compliance_state=int(state),
                compliance_state_reason="execution-errors" if policy.failed else "",
                exec_resource_output=output,
            )
        ],
    )


def unknown(server: OsConfigServer, machine: Machine, assignment_id: str, reason: str) -> None:
    """Report what the service says by itself of a VM whose agent it cannot work with."""
    ref = machine.ref
    name = f"projects/{ref.project_id}/locations/{ref.zone}/osPolicyAssignments/{assignment_id}"
    report = OSPolicyAssignmentReport(
        instance=machine.name,
        os_policy_assignment=f"{name}@rev",
        os_policy_compliances=[
            COMPLIANCE(
                os_policy_id=assignment_id,
                compliance_state=STATE.UNKNOWN,
                compliance_state_reason=reason,
            )
        ],
        update_time=datetime.now(UTC),
    )
    server.put_report(ref.project_id, ref.zone, ref.instance_id, report)
