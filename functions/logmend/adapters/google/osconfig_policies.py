"""Apply, read and delete OS policy assignments for operators, through google-cloud-os-config.

Applying is idempotent: an assignment that is already correct is left alone, and a changed one is updated
under its etag. A rollout takes minutes (twenty to forty are reported); waiting for it is optional.
"""

import json
from typing import TYPE_CHECKING

from logmend.adapters.google import errors
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.osconfig import assignment

if TYPE_CHECKING:
    from google.api_core.operation import Operation
    from google.cloud.osconfig_v1 import OSPolicyAssignment

TIMEOUT = 30.0
"""Seconds that a call may take."""
_TRIES = 3
_READS = "roles/osconfig.osPolicyAssignmentViewer"
_WRITES = "roles/osconfig.osPolicyAssignmentAdmin"


class AssignmentPlace(Struct, frozen=True):
    """Where an assignment lives."""

    project_id: str
    zone: str
    assignment_id: str

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"{assignment.parent(self.project_id, self.zone)}/osPolicyAssignments/{self.assignment_id}"


class DeployedAssignment(Struct, frozen=True):
    """A deployed assignment: the parts in which it differs, its rollout's state and its revision."""

    differences: tuple[str, ...]
    rollout: str
    revision: str


class Applied(Struct, frozen=True):
    """What was done with an assignment: ``created``, ``updated``, ``unchanged``, ``deleted`` or ``absent``.

    If there is a ``rollout``, :meth:`Assignments.wait` waits for it.
    """

    place: AssignmentPlace
    change: str
    rollout: "Operation | None" = None


class Assignments:
    """The assignments in any project and zone. Blocking; ``endpoint`` replaces the public one."""

    def __init__(self, endpoint: str | None = None) -> None:
        with ALONE:
            from google.api_core.client_options import ClientOptions
            from google.auth.credentials import AnonymousCredentials
            from google.cloud import osconfig_v1

        unsigned = endpoint is not None and endpoint.startswith("http://")
        try:
            self._client = osconfig_v1.OsConfigZonalServiceClient(
                credentials=AnonymousCredentials() if unsigned else None,  # type: ignore[no-untyped-call]
                transport="rest",
                client_options=ClientOptions(api_endpoint=endpoint) if endpoint is not None else None,
            )
        except Exception as error:
            raise errors.classify(error) from error
        self._type = osconfig_v1.OSPolicyAssignment

    def find(self, place: AssignmentPlace, wanted: JsonObject) -> DeployedAssignment | None:
        """Look up an assignment and compare it with ``wanted``; None if it does not exist."""
        current = self._get(place)
        if current is None:
            return None
        state = self._type.RolloutState(current.rollout_state).name.lower()
        return DeployedAssignment(self._differences(wanted, current), state, current.revision_id)

    def apply(self, place: AssignmentPlace, wanted: JsonObject) -> Applied:
        """Create or update an assignment. A concurrent change is never overwritten unseen.

        ``Transient("conflict")`` if a rollout is in progress, or other writers keep winning.
        """
        for left in reversed(range(_TRIES)):
            current = self._get(place)
            try:
                return (
                    self._create(place, wanted) if current is None else self._update(place, wanted, current)
                )
            except (Transient, Permanent) as error:
                if error.reason not in ("conflict", "already_exists") or not left:
                    raise
        raise AssertionError("unreachable")

    def delete(self, place: AssignmentPlace) -> Applied:
        """Delete an assignment; ``absent`` if it does not exist. VMs keep what was enforced."""
        try:
            rollout = self._client.delete_os_policy_assignment(name=place.name, timeout=TIMEOUT)
        except Exception as error:
            trouble = errors.classify(error, needs=_WRITES)
            if trouble.reason == "not_found":
                return Applied(place, "absent")
            raise trouble from error
        return Applied(place, "deleted", rollout)

    def wait(self, applied: Applied, timeout: float) -> None:
        """Wait for a rollout; ``Transient("rollout_in_progress")`` if it takes over ``timeout`` seconds."""
        import concurrent.futures

        rollout: Operation | None = applied.rollout
        if rollout is None:
            return
        try:
            rollout.result(timeout=timeout)  # type: ignore[no-untyped-call]
        except concurrent.futures.TimeoutError as error:
            detail = f"{applied.place.name} is {applied.change}, but not rolled out after {timeout:g} s"
            raise Transient("rollout_in_progress", detail) from error
        except Exception as error:
            raise errors.classify(error, needs=_WRITES) from error

    def close(self) -> None:
        """Close connections."""
        self._client.transport.close()  # type: ignore[no-untyped-call]

    def _get(self, place: AssignmentPlace) -> "OSPolicyAssignment | None":
        try:
            return self._client.get_os_policy_assignment(name=place.name, timeout=TIMEOUT)
        except Exception as error:
            trouble = errors.classify(error, needs=_READS)
            if trouble.reason == "not_found":
                return None
            raise trouble from error

    def _create(self, place: AssignmentPlace, wanted: JsonObject) -> Applied:
        try:
            rollout = self._client.create_os_policy_assignment(
                parent=assignment.parent(place.project_id, place.zone),
                os_policy_assignment=self._type.from_json(json.dumps(wanted)),
                os_policy_assignment_id=place.assignment_id,
                timeout=TIMEOUT,
            )
        except Exception as error:
            raise errors.classify(error, needs=_WRITES) from error
        return Applied(place, "created", rollout)

    def _update(self, place: AssignmentPlace, wanted: JsonObject, current: "OSPolicyAssignment") -> Applied:
        differences = self._differences(wanted, current)
        if not differences:
            return Applied(place, "unchanged")
        body = self._type.from_json(json.dumps({**wanted, "name": place.name, "etag": current.etag}))
        try:
            rollout = self._client.update_os_policy_assignment(
                os_policy_assignment=body, update_mask={"paths": _snake(differences)}, timeout=TIMEOUT
            )
        except Exception as error:
            raise errors.classify(error, needs=_WRITES) from error
        return Applied(place, "updated", rollout)

    def _differences(self, wanted: JsonObject, current: "OSPolicyAssignment") -> tuple[str, ...]:
        document = json.loads(self._type.to_json(current, use_integers_for_enums=False))
        return assignment.differences(wanted, document)


def _snake(names: tuple[str, ...]) -> list[str]:
    return ["".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in names]
