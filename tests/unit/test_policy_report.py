"""Reports of OS Config agents: what each shows, and that nothing becomes a fix that is none."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import REF, START

from logmend.model import evidence
from logmend.model.values import Attempt
from logmend.osconfig import report as policy_report

NAME = "logmend-workload-cert-refresh-enforce"
OUTPUT = "timer_enabled=disabled\ntimer_active=inactive\nchanged=yes\n"
ERROR = "unexpected return code from {script}: {code}, stdout: {out}, stderr: {err}"


def report(
    state: str = "COMPLIANT",
    *,
    why: str = "",
    output: str | None = None,
    policy_id: str = NAME,
    **steps: str,
) -> dict[str, Any]:
    """Give a report of our policy; steps by name (check, enforce, after), each with its error message."""
    kinds = {
        "validation": "VALIDATION",
        "check": "DESIRED_STATE_CHECK",
        "enforce": "DESIRED_STATE_ENFORCEMENT",
        "after": "DESIRED_STATE_CHECK_POST_ENFORCEMENT",
    }
    resource: dict[str, Any] = {
        "osPolicyResourceId": "script",
        "configSteps": [
            {"type": kinds[each]} | ({"errorMessage": error} if error else {})
            for each, error in ({"validation": ""} | steps).items()
        ],
        "complianceState": state,
    }
    if output is not None:
        resource["execResourceOutput"] = {"enforcementOutput": base64.b64encode(output.encode()).decode()}
    return {
        "name": f"projects/1/locations/{REF.zone}/instances/{REF.instance_id}"
        f"/osPolicyAssignments/{NAME}/report",
        "instance": "vm",
        "osPolicyCompliances": [
            {
                "osPolicyId": policy_id,
                "complianceState": state,
                "complianceStateReason": why,
                "osPolicyResourceCompliances": [resource],
            }
        ],
        "updateTime": "2026-03-01T12:00:00.123456789Z",
        "lastRunId": "run-1",
    }


def read(document: dict[str, Any]) -> Attempt:
    return policy_report.read(document, NAME, REF.instance_id)


def test_enforcing_with_our_output_between_two_checks_is_the_whole_story() -> None:
    """The fault is the agent's word, the output our own, the state after it the agent's again."""
    done = read(report(check="", enforce="", after="", output=OUTPUT))
    assert done.before is not None
    assert done.enforcement is not None
    assert done.after is not None
    assert (done.before.exit_code, done.enforced, done.after.exit_code) == (101, True, 100)
    assert done.before.instance_id == done.after.instance_id == REF.instance_id
    assert done.before.values["seen_by"] == "osconfig_agent"
    assert done.enforcement.values["changed"] == "yes"
    assert done.after.at > START


def test_the_scripts_own_no_carries_its_reason() -> None:
    """Exit 102 is an error to the agent, with what was printed."""
    said = ERROR.format(
        script="validate", code=102, out="config_status=200\nreason=certificates_in_use\n", err=""
    )
    done = read(
        report("UNKNOWN", why="resource-execution-errors", check=f"Error running desired state check: {said}")
    )
    assert done.before is not None
    assert (done.before.exit_code, done.before.values["reason"]) == (102, "certificates_in_use")
    assert not done.enforced


def test_half_a_line_at_the_cut_is_no_evidence() -> None:
    """An error is cut to 512 bytes; half a reason would be another reason."""
    said = ERROR.format(script="validate", code=102, out="config_status=200\nreason=certificates_i", err="")
    done = read(report("UNKNOWN", check=said.partition(", stderr")[0]))
    assert done.before is not None
    assert done.before.values == {"config_status": "200"}


def test_an_error_without_an_exit_code_is_kept_as_words() -> None:
    """The agent could not even run the script."""
    done = read(report("UNKNOWN", check="Error running desired state check: fork/exec /bin/sh: no such file"))
    assert done.before is not None
    assert done.before.exit_code == policy_report.NO_EXIT_CODE
    assert "fork/exec" in done.before.error


def test_a_failed_enforcement_has_no_check_after_it() -> None:
    """The agent stops at an error."""
    said = ERROR.format(script="enforce", code=1, out="", err="Failed to disable unit")
    done = read(report("UNKNOWN", check="", enforce=f"Error running enforcement: {said}"))
    assert done.enforced
    assert done.enforcement is not None
    assert (done.enforcement.exit_code, done.enforcement.error) == (1, "Failed to disable unit")
    assert done.after is None


@pytest.mark.parametrize(("state", "code"), [("COMPLIANT", 100), ("NON_COMPLIANT", 101)])
def test_without_enforcing_the_state_is_what_the_check_saw(state: str, code: int) -> None:
    """Also where another policy's enforcement made the agent check again."""
    for steps in ({"check": ""}, {"check": "", "after": ""}):
        done = read(report(state, **steps))
        assert done.before is not None
        assert (done.before.exit_code, done.enforced) == (code, False)


@pytest.mark.parametrize(
    ("why", "transient", "reason"),
    [
        ("no-agent-detected", False, "no_agent_detected"),
        ("vm-not-running", False, "not_running"),
        ("os-policies-not-supported-by-agent", False, "agent_too_old"),
        ("task-timeout", True, "task_timeout"),
        ("unexpected-agent-state", True, "unexpected_agent_state"),
        ("something\x1b[31m-new", True, "no_report"),
    ],
)
def test_a_report_that_shows_nothing_says_why(why: str, transient: bool, reason: str) -> None:
    """What the agent tries again by itself is waited for."""
    trouble = read(report("UNKNOWN", why=why)).trouble
    assert trouble is not None
    assert (trouble.transient, trouble.reason) == (transient, reason)
    assert trouble.detail.isprintable()


def test_a_report_of_other_policies_shows_nothing_of_ours() -> None:
    """Ids decide, not positions."""
    assert read(report(check="", policy_id="goog-ops-agent-policy")).trouble is not None
    assert read(report() | {"osPolicyCompliances": []}).trouble is not None


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "osPolicyCompliances",
                    "osPolicyId",
                    "complianceState",
                    "osPolicyResourceCompliances",
                    "configSteps",
                    "type",
                    "errorMessage",
                    "execResourceOutput",
                    "enforcementOutput",
                ]
            ),
            inner | st.sampled_from([NAME, "COMPLIANT", "DESIRED_STATE_ENFORCEMENT"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.lists(SHAPES, max_size=3))
def test_whatever_is_reported_is_read_or_refused_and_is_small(compliances: list[Any]) -> None:
    """A report is of a machine that nobody vouches for."""
    try:
        done = read(report() | {"osPolicyCompliances": compliances})
    except (AttributeError, KeyError, TypeError, ValueError):
        return
    for evidence_ in (done.before, done.enforcement, done.after):
        assert evidence_ is None or len(evidence_.error) <= evidence.ERROR_LIMIT
    assert not done.enforced or done.before is not None


def test_output_that_cannot_be_read_is_no_output() -> None:
    """It then counts for nothing."""
    document = report(check="", enforce="", after="")
    [compliance] = document["osPolicyCompliances"][0]["osPolicyResourceCompliances"]
    for broken in ("a", "@@@@", None):
        compliance["execResourceOutput"] = {"enforcementOutput": broken}
        enforcement = read(document).enforcement
        assert enforcement is not None
        assert enforcement.values == {}
