"""What became of an event."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.enums import INTERIM_RESULTS, Action, Mode, Result
from logmend.model.struct import Struct, field
from logmend.model.values.attempt import Diagnosis, Evidence
from logmend.model.values.event import Source
from logmend.model.values.instance import InstanceRef, Lineage


class Latency(Struct, frozen=True):
    """Milliseconds from publish to start, for the facts look-up, on the VM, and from start to outcome."""

    queue: int | None = None
    lookup: int | None = None
    act: int | None = None
    total: int | None = None


class Outcome(Struct, frozen=True):
    """The record of what became of an event. It never contains the matched text.

    ``committed`` says that enforcing may have begun, in this attempt or an earlier one. ``diagnosis`` is why
    the fault is there, ``lineage`` what the VM was made from. ``owner`` is the value of the VM's label that
    ``LOGMEND_OWNER_LABEL`` names, ``labels`` those of the labels in ``LOGMEND_OUTCOME_LABELS``. ``why`` and
    ``passes`` come from the order: the reason given, and what it was to pass. ``count`` is the number of
    events that the outcome covers: if these are repeats since ``first_at``, ``message_id`` and ``source``
    are the latest one's.
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
        """Return whether no other outcome of the same event follows."""
        return self.result not in INTERIM_RESULTS

    @property
    def detail_and_cause(self) -> str:
        """Return the text for people: the detail, and why the fault is there."""
        return "; ".join(filter(None, (self.detail, str(self.diagnosis) if self.diagnosis else "")))
