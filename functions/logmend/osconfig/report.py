"""Read an OS Config agent's report about an OS policy as an attempt. Pure.

On exit codes 100 and 101 the agent drops a script's output, so the evidence is made from the report's steps
and marked ``seen_by=osconfig_agent``. On any other exit code the step's error holds the output (cut to 512
bytes). ``enforce.sh`` leaves its evidence in a file, which is reported.

==================================  ====================================================================
report                              becomes
==================================  ====================================================================
check step with an error            ``before`` with that exit code and output; 102: the script refused
enforcement step                    ``before`` 101 (the agent enforces after 101 only), ``enforced``
check step after it                 ``after``: its error, or 100 or 101 by the compliance state
no enforcement step                 ``before``: 100 COMPLIANT, 101 NON_COMPLIANT
UNKNOWN without any of these        ``trouble``, by the reason for being unknown
==================================  ====================================================================

Sources: OSPolicyAssignmentReport of google-cloud-os-config 1.26; config/exec_resource.go and
agentendpoint/config_task.go of GoogleCloudPlatform/osconfig.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime

from logmend.model import evidence
from logmend.model.json import JsonObject
from logmend.model.values import Attempt, Evidence, Trouble

EXECUTOR = "osconfig"
SEEN_BY = {"seen_by": "osconfig_agent"}
"""Marks evidence that comes from the agent and not from a script's own output."""

NO_EXIT_CODE = -1
"""The number that the agent reports for a script that could not be run."""

_CHECK, _ENFORCEMENT, _CHECK_AFTER = (
    "DESIRED_STATE_CHECK",
    "DESIRED_STATE_ENFORCEMENT",
    "DESIRED_STATE_CHECK_POST_ENFORCEMENT",
)

_UNKNOWN: Mapping[str, Trouble] = {
    "no-agent-detected": Trouble(False, "no_agent_detected"),
    "vm-not-running": Trouble(False, "not_running"),
    "os-policies-not-supported-by-agent": Trouble(False, "agent_too_old"),
    "task-timeout": Trouble(True, "task_timeout"),
    "unexpected-agent-state": Trouble(True, "unexpected_agent_state"),
    "internal-service-errors": Trouble(True, "internal_service_errors"),
    "resource-execution-errors": Trouble(True, "resource_execution_errors"),
}
"""Reasons for an unknown compliance state. The agent tries again by itself after the transient ones."""

_ERROR = re.compile(
    r"unexpected return code from (?:validate|enforce): (-?\d{1,4}), stdout: (.*?)(, stderr: .*)?", re.DOTALL
)
_REVISION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)/instances/([^/]+)/osPolicyAssignments/([^/]+)/report")


def key(report: JsonObject) -> tuple[str, str] | None:
    """Return the instance and assignment in a report's name; None if the name has another form."""
    match = _NAME.fullmatch(str(report.get("name", "")))
    return (match[3], match[4]) if match else None


def updated(report: Mapping[str, object]) -> datetime:
    """Return when a report was generated. ValueError if it does not say."""
    at = datetime.fromisoformat(str(report.get("updateTime", "")))
    if at.tzinfo is None:
        raise ValueError("updateTime has no zone")
    return at


def revision(report: Mapping[str, object]) -> str:
    """Return the assignment's revision that a report is about. ValueError if it does not say.

    It follows the ``@`` in ``osPolicyAssignment`` (OSPolicyAssignmentReport, google-cloud-os-config 1.26).
    """
    _, at, digits = str(report.get("osPolicyAssignment", "")).rpartition("@")
    if not at or not _REVISION.fullmatch(digits):
        raise ValueError("osPolicyAssignment names no revision")
    return digits


def read(report: JsonObject, assignment_id: str, instance_id: str) -> Attempt:
    """Return a report about one of our assignments on a VM as an attempt; without its policy, as trouble."""
    at = updated(report)
    policy = next(
        (each for each in report.get("osPolicyCompliances") or () if each.get("osPolicyId") == assignment_id),
        None,
    )
    if policy is None:
        return Attempt(EXECUTOR, trouble=Trouble(True, "no_report", "the report names none of our policies"))
    resource: JsonObject = next(iter(policy.get("osPolicyResourceCompliances") or ()), {})
    steps = {str(step.get("type")): str(step.get("errorMessage") or "") for step in _steps(resource)}
    state = str(policy.get("complianceState") or "UNKNOWN")

    def seen(code: int) -> Evidence:
        return Evidence(code, {"instance_id": instance_id} | SEEN_BY, at)

    by_state = {"COMPLIANT": seen(100), "NON_COMPLIANT": seen(101)}.get(state)
    if error := steps.get(_CHECK) or steps.get("VALIDATION"):
        return Attempt(EXECUTOR, before=_failure(error, at))
    if _ENFORCEMENT not in steps:
        if by_state is None:
            return Attempt(EXECUTOR, trouble=_trouble(policy))
        return Attempt(EXECUTOR, before=by_state)
    failed = steps[_ENFORCEMENT]
    enforcement = _failure(failed, at) if failed else Evidence(100, evidence.values(_output(resource)), at)
    after = None
    if _CHECK_AFTER in steps:
        after = _failure(steps[_CHECK_AFTER], at) if steps[_CHECK_AFTER] else by_state
    return Attempt(EXECUTOR, before=seen(101), enforced=True, enforcement=enforcement, after=after)


def _steps(resource: JsonObject) -> list[JsonObject]:
    return list(resource.get("configSteps") or ())


def _failure(error: str, at: datetime) -> Evidence:
    """Return a step's error as evidence. If it was cut within the output, the last line is dropped."""
    match = _ERROR.search(error) and _ERROR.fullmatch(error[error.index("unexpected return code") :])
    if not match:
        return Evidence(NO_EXIT_CODE, {}, at, evidence.error_text(error.encode()))
    output = match[2] if match[3] is not None else match[2].rpartition("\n")[0]
    stderr = (match[3] or "").removeprefix(", stderr: ")
    return Evidence(int(match[1]), evidence.values(output.encode()), at, evidence.error_text(stderr.encode()))


def _output(resource: JsonObject) -> bytes:
    text = str((resource.get("execResourceOutput") or {}).get("enforcementOutput") or "")
    try:
        return base64.b64decode(
            text + "=" * (-len(text) % 4), altchars=b"-_" if set(text) & {*"-_"} else None
        )
    except binascii.Error:
        return b""


def _trouble(policy: Mapping[str, object]) -> Trouble:
    why = str(policy.get("complianceStateReason") or "no reason given")
    trouble = _UNKNOWN.get(why) or Trouble(True, "no_report")
    detail = evidence.error_text(f"the OS Config service says: {why}".encode())[:200]
    return Trouble(trouble.transient, trouble.reason, detail)
