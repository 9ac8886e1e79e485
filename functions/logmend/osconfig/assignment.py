"""Runbooks as OS policy assignments: three static documents per zone and runbook, selected by one label.

``check`` only checks (``VALIDATION`` mode); ``enforce`` and ``revert`` carry both scripts of their kind. None
names a VM: a VM is opted in by its label ``logmend-RUNBOOK`` = the action. Pure. ``deploy/osconfig.tf`` makes
the same documents, and a test compares them.

The documents have the form of the REST API and of
``gcloud compute os-config os-policy-assignments create --file``
(cloud.google.com/compute/docs/osconfig/rest/v1/projects.locations.osPolicyAssignments).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from logmend.model.enums import Action, Mode
from logmend.model.json import JsonObject
from logmend.runbook import Runbook

ACTIONS = (Action.CHECK, Action.ENFORCE, Action.REVERT)
"""Actions that have an assignment each."""

CHANGING = (Action.ENFORCE, Action.REVERT)
"""Actions whose assignments can change a VM; they are not deployed in observe mode."""


def actions(runbook: Runbook) -> tuple[Action, ...]:
    """Return the actions for which a runbook has an assignment: an irreversible one has no revert."""
    return tuple(each for each in ACTIONS if not (runbook.irreversible and each is Action.REVERT))


def of_mode(runbook: Runbook, mode: Mode) -> tuple[Action, ...]:
    """Return the actions for which a runbook has an assignment in a mode: only check in observe mode."""
    return (Action.CHECK,) if mode is Mode.OBSERVE else actions(runbook)


def label(runbook: str) -> str:
    """Return the key of the label that opts a VM in."""
    return f"logmend-{runbook}"


def assignment_id(runbook: str, action: Action) -> str:
    """Return the id of an assignment within its zone, which is also the id of its only policy."""
    return f"logmend-{runbook}-{action}"


def parent(project_id: str, zone: str) -> str:
    """Return the parent resource of a zone's assignments."""
    return f"projects/{project_id}/locations/{zone}"


def output_file(runbook: str) -> str:
    """Return the file on the VM in which ``enforce.sh`` leaves its evidence for the agent to report."""
    return f"/var/lib/logmend/{runbook}.out"


def assignment(runbook: Runbook, action: Action, exempt: tuple[str, str]) -> dict[str, Any]:
    """Return one assignment's document. VMs with the label ``exempt`` (key, value) are left out."""
    name, scripts = assignment_id(runbook.name, action), runbook.scripts
    undo = action is Action.REVERT
    run: dict[str, object] = {"validate": _shell(scripts.revert_validate if undo else scripts.validate)}
    if action in CHANGING:
        enforce = _shell(scripts.revert_enforce if undo else scripts.enforce)
        run["enforce"] = enforce | {"outputFilePath": output_file(runbook.name)}
    return {
        "description": f"logmend: {action} of {runbook.name}, for VMs that are labelled so.",
        "osPolicies": [
            {
                "id": name,
                "mode": "ENFORCEMENT" if action in CHANGING else "VALIDATION",
                "resourceGroups": [{"resources": [{"id": "script", "exec": run}]}],
            }
        ],
        "instanceFilter": {
            "inclusionLabels": [{"labels": {label(runbook.name): action.value}}],
            "exclusionLabels": [{"labels": dict([exempt])}],
        },
        # All at once: the function's disruption budget limits how many VMs change at the same time.
        "rollout": {"disruptionBudget": {"percent": 100}, "minWaitDuration": "0s"},
    }


def differences(wanted: Mapping[str, object], deployed: Mapping[str, object]) -> tuple[str, ...]:
    """Return the parts in which an assignment is not as it should be; what the API adds does not count."""
    ours, theirs = _essence(wanted), _essence(deployed)
    return tuple(part for part in ours if ours[part] != theirs[part])


def _shell(script: str) -> dict[str, object]:
    return {"interpreter": "SHELL", "script": script}


def _essence(document: JsonObject) -> dict[str, object]:
    """Return what an assignment does, with defaults filled in."""
    chosen = document.get("instanceFilter") or {}
    rollout = document.get("rollout") or {}
    return {
        "osPolicies": [_policy(each) for each in document.get("osPolicies") or ()],
        "instanceFilter": (
            bool(chosen.get("all")),
            _labels(chosen.get("inclusionLabels")),
            _labels(chosen.get("exclusionLabels")),
            list(chosen.get("inventories") or ()),
        ),
        "rollout": (
            (rollout.get("disruptionBudget") or {}).get("percent"),
            str(rollout.get("minWaitDuration", "0s")).rstrip("s") or "0",
        ),
    }


def _policy(policy: JsonObject) -> tuple[object, ...]:
    resources = [
        resource
        for group in policy.get("resourceGroups") or ()
        for resource in (*(group.get("resources") or ()), {"inventories": group.get("inventoryFilters")})
    ]
    return policy.get("id"), policy.get("mode"), [_resource(each) for each in resources]


def _resource(resource: JsonObject) -> tuple[object, ...]:
    run = resource.get("exec") or {}
    parts = [run.get(name) or {} for name in ("validate", "enforce")]
    return (
        resource.get("id"),
        resource.get("inventories") or None,
        [(each.get("interpreter"), each.get("script"), each.get("outputFilePath") or None) for each in parts],
    )


def _labels(sets: Sequence[JsonObject] | None) -> list[dict[str, str]]:
    return [dict(each.get("labels") or {}) for each in sets or ()]
