"""What became of an event."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.enums import INTERIM_RESULTS, Action, Mode, Result
from logmend.model.struct import Struct, field
from logmend.model.values.attempt import Diagnosis, Evidence
from logmend.model.values.event import Source
from logmend.model.values.instance import InstanceRef, Lineage


class Latency(Struct, frozen=True):
    """Milliseconds: publish to start, facts look-up, on the VM, start to outcome."""

    queue: int | None = None
    lookup: int | None = None
    act: int | None = None
    total: int | None = None


class Outcome(Struct, frozen=True):
    """The one honest record of what became of an event. Never holds the matched text.

    ``committed`` says that enforcing may have begun, in this attempt or an earlier one. ``diagnosis`` is why
    the fault is there, ``lineage`` what the VM was made from, ``owner`` what the label of it says that
    ``LOGMEND_OWNER_LABEL`` names, ``labels`` what those say that ``LOGMEND_OUTCOME_LABELS`` names. ``why``
    and ``passes`` are of the order: the reason that was given, and what it was to go through. ``count`` is of
    how many events it tells: if it tells of those since ``first_at`` that said the same again,
    ``message_id`` and ``source`` are the latest's.
    """

    result: Result
    reason: str | None
    detail: str
    at: datetime
    outcome_id: str
    mode: Mode
    version: str
    runbook: str | None = None
    runbook_digest: str | None = None
    variant: str | None = None
    action: Action | None = None
    executor: str | None = None
    instance: InstanceRef | None = None
    instance_name: str | None = None
    attempt: int = 1
    before: Evidence | None = None
    after: Evidence | None = None
    intent_id: str | None = None
    message_id: str | None = None
    source: Source | None = None
    replay_of: str | None = None
    requested_by: str | None = None
    approval_id: str | None = None
    approval_expires_at: datetime | None = None
    notes: tuple[str, ...] = ()
    latency: Latency = Latency()
    host_key: str | None = None  # a HostKeySource, or what a later version calls one
    credential: str | None = None  # a CredentialKind, likewise
    committed: bool = False
    diagnosis: Diagnosis | None = None
    lineage: Lineage = Lineage()
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    passes: tuple[str, ...] = ()
    count: int = 1
    first_at: datetime | None = None

    @property
    def final(self) -> bool:
        """No other outcome of the same event follows."""
        return self.result not in INTERIM_RESULTS

    @property
    def detail_and_cause(self) -> str:
        """What a person reads of it: the detail, and why the fault is there."""
        return "; ".join(filter(None, (self.detail, str(self.diagnosis) if self.diagnosis else "")))
