"""Third stage: identify the VM. Pure.

Only ``resource.labels`` are trusted, and only if all three fully match their patterns: with most agents the
name in ``labels."compute.googleapis.com/resource_name"`` is the operating system's host name.
"""

import re

from logmend.errors import ConfigError
from logmend.model.enums import INSTANCE_ID_PATTERN, PROJECT_PATTERN, ZONE_PATTERN, Result
from logmend.model.struct import Struct
from logmend.model.values import Incident, InstanceRef, LogEntry, Verdict

NAME_PATTERN = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""An instance's name (RFC 1035; cloud.google.com/compute/docs/naming-resources)."""

_PATH = re.compile(
    r"(?:https://(?:www\.googleapis\.com|compute\.googleapis\.com)/compute/[a-z0-9]+/|//compute\.googleapis\.com/)?"
    r"projects/([^/]+)/zones/([^/]+)/instances/([^/]+)"
)
_SHORT = re.compile(r"([^/]+)/([^/]+)/([^/]+)")
_MAX_ID = 2**64 - 1
_PARTS = re.compile(f"(?:{PROJECT_PATTERN.pattern})\n(?:{ZONE_PATTERN.pattern})\n[1-9][0-9]{{0,18}}")
"""The three parts of nearly every VM, line by line. An id of 19 digits cannot exceed 64 bits."""


class NameRef(Struct, frozen=True):
    """A VM named by an operator; its numeric id has to be looked up."""

    project_id: str
    zone: str
    name: str


def instance(project_id: object, zone: object, instance_id: object) -> InstanceRef | Verdict:
    """Return the VM for three strictly checked parts. Only here does untrusted text become an InstanceRef.

    An id is an unsigned 64-bit number other than 0, without leading zeros: a VM has one spelling, and so one
    lease.
    """
    if not isinstance(project_id, str) or not PROJECT_PATTERN.fullmatch(project_id):
        return _rejected("project_id is missing or not a project id")
    if not isinstance(zone, str) or not ZONE_PATTERN.fullmatch(zone):
        return _rejected("zone is missing or not a zone")
    if not isinstance(instance_id, str) or not INSTANCE_ID_PATTERN.fullmatch(instance_id):
        return _rejected("instance_id is missing or not a number")
    if instance_id.startswith("0") or int(instance_id) > _MAX_ID:
        return _rejected("instance_id is not an unsigned 64-bit number without leading zeros")
    return InstanceRef(project_id, zone, instance_id)


def event(event: LogEntry | Incident) -> InstanceRef | Verdict:
    """Return the VM that an event is about, only from its monitored resource; else ``bad_identity``."""
    if event.resource_type != "gce_instance":
        return _rejected("the resource is not a gce_instance")
    labels = event.resource_labels
    parts = (labels.get("project_id", ""), labels.get("zone", ""), labels.get("instance_id", ""))
    if _PARTS.fullmatch("\n".join(parts)):
        return InstanceRef(*parts)
    return instance(labels.get("project_id"), labels.get("zone"), labels.get("instance_id"))


def _rejected(detail: str) -> Verdict:
    return Verdict(Result.REJECTED, "bad_identity", detail)


def parse(text: str) -> InstanceRef | NameRef:
    """Return the instance that an operator typed; ConfigError if it is not one.

    Accepted are ``PROJECT/ZONE/ID``, ``projects/P/zones/Z/instances/ID`` and a self link, each with the
    numeric id or, as :class:`NameRef`, with the name.
    """
    match = _PATH.fullmatch(text.strip()) or _SHORT.fullmatch(text.strip())
    if match is None:
        raise ConfigError([f"{text!r}: an instance is PROJECT/ZONE/ID, PROJECT/ZONE/NAME or its self link"])
    project_id, zone, last = match.groups()
    if NAME_PATTERN.fullmatch(last):
        if PROJECT_PATTERN.fullmatch(project_id) and ZONE_PATTERN.fullmatch(zone):
            return NameRef(project_id, zone, last)
        last = "1"  # the name is valid: let the check below say which other part is not
    checked = instance(project_id, zone, last)
    if isinstance(checked, Verdict):
        raise ConfigError([f"{text!r}: {checked.detail}"])
    return checked
