"""OS policy assignments: the runbooks' very scripts, three documents, one label."""

import json
import re

import pytest

from logmend.model.enums import Action
from logmend.osconfig import assignment
from logmend.runbook import load_all

RUNBOOKS = load_all()
EXEMPT = ("logmend", "off")


@pytest.mark.parametrize("name", RUNBOOKS)
@pytest.mark.parametrize("action", assignment.ACTIONS)
def test_an_assignment_carries_the_scripts_as_they_are_and_chooses_by_one_label(
    name: str, action: Action
) -> None:
    """What is reviewed in the runbook's folder is what the agent runs, on labelled VMs only."""
    runbook = RUNBOOKS[name]
    document = assignment.assignment(runbook, action, EXEMPT)
    [rule] = document["osPolicies"]
    [resource] = rule["resourceGroups"][0]["resources"]
    run = resource["exec"]
    scripts = runbook.scripts
    undo = action is Action.REVERT
    assert run["validate"]["script"] == (scripts.revert_validate if undo else scripts.validate)
    assert document["instanceFilter"]["inclusionLabels"] == [{"labels": {f"logmend-{name}": action.value}}]
    assert document["instanceFilter"]["exclusionLabels"] == [{"labels": {"logmend": "off"}}]
    if action is Action.CHECK:
        assert rule["mode"] == "VALIDATION"
        assert "enforce" not in run
    else:
        assert rule["mode"] == "ENFORCEMENT"
        assert run["enforce"]["script"] == (scripts.revert_enforce if undo else scripts.enforce)
        assert run["enforce"]["outputFilePath"] == f"/var/lib/logmend/{name}.out"


@pytest.mark.parametrize("name", RUNBOOKS)
def test_the_output_file_is_the_one_that_the_scripts_write(name: str) -> None:
    """Otherwise the agent would call every enforcement an error."""
    scripts = RUNBOOKS[name].scripts
    for script in filter(None, (scripts.enforce, scripts.revert_enforce)):
        short = re.search(r"^n=(\S+)$", script, re.MULTILINE)
        assert f"var/lib/logmend/{name}" in script.replace("$n", short[1] if short else "")
        assert "tee $f.out" in script
        assert re.search(r'cd "\$(?:LOGMEND_ROOT|\{LOGMEND_ROOT:-\})/"', script)


def test_what_the_api_adds_is_no_difference_and_what_a_person_changes_is() -> None:
    """An assignment that somebody edited must not be taken for ours."""
    wanted = assignment.assignment(RUNBOOKS["workload-cert-refresh"], Action.ENFORCE, EXEMPT)
    found = json.loads(json.dumps(wanted)) | {
        "name": "projects/1/locations/z/osPolicyAssignments/a",
        "etag": "e",
        "revisionId": "r",
        "rolloutState": "SUCCEEDED",
        "baseline": True,
    }
    found["instanceFilter"]["all"] = False
    assert assignment.differences(wanted, found) == ()
    found["osPolicies"][0]["resourceGroups"][0]["resources"][0]["exec"]["enforce"]["script"] += "# me\n"
    assert assignment.differences(wanted, found) == ("osPolicies",)
    found["instanceFilter"]["inclusionLabels"].append({"labels": {"all": "mine"}})
    found["rollout"]["disruptionBudget"] = {"fixed": 1}
    assert assignment.differences(wanted, found) == ("osPolicies", "instanceFilter", "rollout")
    assert assignment.differences(wanted, {}) == ("osPolicies", "instanceFilter", "rollout")
