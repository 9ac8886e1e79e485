"""Terms shared by settings, events, ledger and outcomes: enumerations, and patterns that identify a VM.

It uses only the standard library, like everything it needs from :mod:`logmend.settings`:
``deploy/gcloud.sh`` runs :mod:`logmend.permissions` with the Python on the operator's machine.
"""

import re
from enum import StrEnum


class Action(StrEnum):
    """What an intent asks for. ``CHECK`` only checks; the other two change a VM."""

    CHECK = "check"
    ENFORCE = "enforce"
    REVERT = "revert"


class Mode(StrEnum):
    """The most that the function may do."""

    OBSERVE = "observe"
    APPROVE = "approve"
    ENFORCE = "enforce"


class Origin(StrEnum):
    """Where an intent comes from. Only the first two arrive as messages."""

    LOG_ENTRY = "log_entry"
    INCIDENT = "incident"
    OPERATOR = "operator"
    APPROVAL = "approval"
    FOLLOW_UP = "follow_up"


class Result(StrEnum):
    """What became of an event (docs/outcomes.md has the table)."""

    UNMATCHED = "unmatched"
    REJECTED = "rejected"
    REFUSED = "refused"
    SKIPPED = "skipped"
    PARKED = "parked"
    PLANNED = "planned"
    NOTHING_TO_DO = "nothing_to_do"
    REQUESTED = "requested"
    REMEDIATED = "remediated"
    REVERTED = "reverted"
    UNVERIFIED = "unverified"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DEFERRED = "deferred"
    CONTROLLED = "controlled"


class Finding(StrEnum):
    """What a run of ``validate.sh`` or ``enforce.sh`` found, from its exit code."""

    DESIRED = "desired"
    FAULTY = "faulty"
    LEAVE_ALONE = "leave_alone"
    BUSY = "busy"
    ERROR = "error"


INTERIM_RESULTS = frozenset(
    {Result.PARKED, Result.REQUESTED, Result.UNVERIFIED, Result.INTERRUPTED, Result.DEFERRED}
)
"""Results after which the same event has another outcome."""

PROJECT_PATTERN = re.compile(r"(?:[a-z][a-z0-9.-]{0,61}[a-z0-9]:)?[a-z][a-z0-9-]{4,61}[a-z0-9]")
"""A project id, optionally with its legacy domain prefix (cloud.google.com/resource-manager/docs)."""
ZONE_PATTERN = re.compile(r"[a-z]{1,16}(?:-[a-z0-9]{1,32}){1,3}-[a-z][a-z0-9]{0,4}")
"""A zone such as ``us-west1-a``, ``northamerica-northeast1-b`` or ``us-south1-ai1b``."""
INSTANCE_ID_PATTERN = re.compile(r"[0-9]{1,20}")
"""The numeric instance id (an unsigned 64-bit integer in decimal)."""
