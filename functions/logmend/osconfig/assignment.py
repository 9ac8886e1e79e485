"""Runbooks as OS policy assignments: three static documents per zone and runbook, told apart by one label.

``check`` only checks (``VALIDATION`` mode), ``enforce`` and ``revert`` carry both scripts of their kind; none
names a VM. A VM is opted in by its label ``logmend-RUNBOOK`` = the action. Pure; ``deploy/osconfig.tf`` makes
the same documents, which a test compares.

The form is that of REST and of ``gcloud compute os-config os-policy-assignments create --file``
(cloud.google.com/compute/docs/osconfig/rest/v1/projects.locations.osPolicyAssignments).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from logmend.model.enums import Action, Mode
from logmend.model.json import JsonObject
from logmend.runbook import Runbook

ACTIONS = (Action.CHECK, Action.ENFORCE, Action.REVERT)
"""Each has an assignment of its own."""

CHANGING = (Action.ENFORCE, Action.REVERT)
"""Assignments that can change a VM; in observe mode they are not deployed."""


def actions(runbook: Runbook) -> tuple[Action, ...]:
    """Return the actions that a runbook has an assignment for: an irreversible one has no revert."""
    return tuple(each for each in ACTIONS if not (runbook.irreversible and each is Action.REVERT))


def of_mode(runbook: Runbook, mode: Mode) -> tuple[Action, ...]:
    """Return the actions that a runbook has an assignment for in a mode: in observe mode, only check."""
    return (Action.CHECK,) if mode is Mode.OBSERVE else actions(runbook)


def label(runbook: str) -> str:
    """Key of the label by which a VM is opted in."""
    return f"logmend-{runbook}"


def assignment_id(runbook: str, action: Action) -> str:
    """Id of an assignment within its zone, and of the one policy in it."""
    return f"logmend-{runbook}-{action}"


def parent(project_id: str, zone: str) -> str:
    """Resource name of a zone's assignments."""
    return f"projects/{project_id}/locations/{zone}"


def output_file(runbook: str) -> str:
    """File on the VM to which ``enforce.sh`` writes its evidence, for the agent to report."""
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
        # At once: what may change at the same time is the disruption budget's business, kept by the function.
        "rollout": {"disruptionBudget": {"percent": 100}, "minWaitDuration": "0s"},
    }


def differences(wanted: Mapping[str, object], deployed: Mapping[str, object]) -> tuple[str, ...]:
    """Return in which parts an assignment is not what it should be; what the API adds does not count."""
    ours, theirs = _essence(wanted), _essence(deployed)
    return tuple(part for part in ours if ours[part] != theirs[part])


def _shell(script: str) -> dict[str, object]:
    return {"interpreter": "SHELL", "script": script}


def _essence(document: JsonObject) -> dict[str, object]:
    """Reduce an assignment to what it does, with defaults filled in."""
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
