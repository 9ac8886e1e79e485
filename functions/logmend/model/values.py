"""The values that travel through the pipeline. All frozen; no behaviour beyond naming themselves."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from logmend.model.enums import INTERIM_RESULTS, Action, Finding, Mode, Origin, Result
from logmend.model.json import JsonObject
from logmend.model.struct import Struct, field

_ORIGINAL = re.compile(r"[!-~]{1,512}")


class InstanceRef(Struct, frozen=True, order=True):
    """Identity of a VM: the only three things that are trusted to name it.

    Construct through :func:`logmend.stages.identify.instance`, which validates all three.
    """

    project_id: str
    zone: str
    instance_id: str

    def __str__(self) -> str:
        """``PROJECT/ZONE/INSTANCE_ID``, as commands take and print it."""
        return f"{self.project_id}/{self.zone}/{self.instance_id}"

    @property
    def region(self) -> str:
        """The zone without its last part: ``us-west1`` of ``us-west1-a``."""
        return self.zone.rpartition("-")[0]


class Delivery(Struct, frozen=True):
    """One delivery of one message, as Pub/Sub (or a person with a file) handed it over."""

    message_id: str
    publish_time: datetime | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    subscription: str | None = None
    delivery_attempt: int | None = None

    @property
    def replay_of(self) -> str | None:
        """Id of the original, if this message was republished by ``logmend replay``; no other text."""
        said = self.attributes.get("logmend_replay_of", "")
        return said if _ORIGINAL.fullmatch(said) else None


class LogEntry(Struct, frozen=True):
    """A LogEntry in proto-JSON form, with the fields that every stage needs already read.

    ``raw`` is the whole entry (camelCase keys, int64 as strings). ``texts`` are the payload fields that
    can carry the line, in the order in which they are searched. ``line_time`` is the line's own time as
    far as its zone is known (None otherwise). ``programs`` are those that headers and fields name, ``host``
    is the host: of both only the syntax is known to be right.
    """

    raw: JsonObject
    log_name: str
    insert_id: str | None
    timestamp: datetime | None
    receive_timestamp: datetime | None
    resource_type: str
    resource_labels: Mapping[str, str]
    texts: tuple[str, ...] = ()
    line_time: datetime | None = None
    programs: tuple[str, ...] = ()
    host: str | None = None

    @property
    def log_id(self) -> str:
        """The part of the log name that :func:`log_id_of` gives."""
        return log_id_of(self.log_name)


def log_id_of(log_name: str) -> str:
    """Return the decoded part after ``/logs/`` of a log's name; empty if there is none."""
    return log_name.partition("/logs/")[2].replace("%2F", "/").replace("%2f", "/")


class Incident(Struct, frozen=True):
    """A Cloud Monitoring incident (Pub/Sub notification channel, schema 1.2; also the test message)."""

    raw: JsonObject
    incident_id: str | None
    state: str
    is_test: bool
    policy_name: str | None
    runbook: str | None
    resource_type: str
    resource_labels: Mapping[str, str]
    scoping_project_id: str | None
    started_at: datetime | None
    url: str | None = None


class Tick(Struct, frozen=True):
    """The scheduler's message ``{"logmend": "tick"}``; when Pub/Sub published it, if that is known."""

    published_at: datetime | None = None


class Undecodable(Struct, frozen=True):
    """A body that is no event and never will be: why, and what of it could be read."""

    reason: str
    detail: str


Event = LogEntry | Incident | Tick


class Source(Struct, frozen=True):
    """Where an intent's event came from.

    ``kind`` is ``log_entry``, ``incident``, ``operator`` or ``silence`` (:mod:`logmend.silence`).
    """

    kind: str
    log_name: str | None = None
    insert_id: str | None = None
    timestamp: datetime | None = None
    incident_id: str | None = None


class Plan(Struct, frozen=True):
    """What a person is shown to approve, and all that an approval of it is good for.

    ``guards`` has each guard's verdict in words, ``evidence`` what the check said under the runbook's
    ``approval_keys`` (None: it did not say it).
    """

    action: Action
    digest: str
    finding: Finding | None = None
    guards: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, str | None] = field(default_factory=dict)


class Intent(Struct, frozen=True):
    """What is to be done: one action on one VM with one runbook.

    ``intent_id`` names it in the ledger: ``m-MESSAGE_ID`` for what came as a message, another prefix for
    what an operator, an approval or a follow-up wrote. ``event_time`` is what staleness is judged by.
    ``line_host`` is the host that the line names if that is not ``shipped_by``, the agent's own.
    ``repeats`` says that the source repeats itself if nothing is done. ``overrides`` names the revert that a
    person knew of and takes back. ``approved`` is what the person who approved it saw, and nothing else may
    be done under that approval. A person's revert goes on through the freezes and the breaker that it names
    in ``passes`` (an order to enforce: through the breaker and what windows close), on at most ``at_most``
    VMs in a window of the budget (None: no limit). ``why`` is the reason that the person gave.
    ``back_to`` are the runbooks that this one goes before, the last of which comes again once this one is
    through; ``gone_first`` are all that went first, none does so twice.
    ``ends`` is all that is left to say of it, without a look at the VM: what went first did not help.
    """

    intent_id: str
    runbook: str
    action: Action
    instance: InstanceRef
    origin: Origin
    source: Source
    created_at: datetime
    event_time: datetime | None = None
    line_time: datetime | None = None
    line_host: str | None = None
    shipped_by: str | None = None
    message_id: str | None = None
    variant: str | None = None
    repeats: bool = False
    requested_by: str | None = None
    replay_of: str | None = None
    allow_stale: bool = False
    look_only: bool = False
    approval_id: str | None = None
    overrides: str | None = None
    passes: tuple[str, ...] = ()
    why: str = ""
    at_most: int | None = None
    approved: Plan | None = None
    back_to: tuple[str, ...] = ()
    gone_first: tuple[str, ...] = ()
    ends: "Verdict | None" = None

    @property
    def puts_back(self) -> bool:
        """A person undoes what was done: freezes and the budget of what it undoes do not apply."""
        return self.action is Action.REVERT and self.origin is Origin.OPERATOR

    @property
    def automatic(self) -> bool:
        """No person stands behind it: cooldowns and holds bind it."""
        return self.origin not in (Origin.OPERATOR, Origin.APPROVAL)


class Lineage(Struct, frozen=True):
    """What a VM was made from, as far as its own look-up tells; None means that nothing is said of it.

    ``group`` and ``template`` are paths (``projects/…``) that a managed instance group leaves in the metadata
    of its VMs, ``image`` the first licence that the image gave the boot disk, ``PROJECT/NAME``.
    """

    group: str | None = None
    template: str | None = None
    image: str | None = None


class Group(Struct, frozen=True):
    """A managed instance group: how many VMs it has or is to have, their ids, and those of healthy ones."""

    size: int
    members: frozenset[str]
    healthy: frozenset[str]


_GROUP = re.compile(r"projects/[\w.:-]{1,99}/(?:zones|regions)/[\w-]{1,63}/instanceGroupManagers/[\w-]{1,63}")
_TEMPLATE = re.compile(r"projects/[\w.:-]{1,99}/(?:global|regions/[\w-]{1,63})/instanceTemplates/[\w-]{1,63}")


class InstanceFacts(Struct, frozen=True):
    """What the Compute API says of a VM. None always means *unknown*, never *no*.

    ``metadata`` are the instance's own items, ``project_metadata`` the project's common ones.
    ``partner_namespaces`` are the namespaces of ``partnerMetadata`` (REST ``view=FULL`` only).
    ``licenses`` are those that its image gave the boot disk, ``PROJECT/NAME``; an instance names no image.
    ``unknown`` says of fields that were asked for and not answered why not.
    """

    ref: InstanceRef
    name: str
    status: str
    labels: Mapping[str, str] = field(default_factory=dict)
    label_fingerprint: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    project_metadata: Mapping[str, str] | None = None
    identity_certificate_enabled: bool | None = None
    partner_namespaces: tuple[str, ...] | None = None
    internal_ip: str | None = None
    external_ip: str | None = None
    service_account: str | None = None
    licenses: tuple[str, ...] | None = None
    machine_type: str | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)

    def effective(self, key: str) -> str | None:
        """Value of a metadata item as the guest sees it: the instance's own, else the project's."""
        own = self.metadata.get(key)
        return own if own is not None else (self.project_metadata or {}).get(key)

    @property
    def lineage(self) -> Lineage:
        """Group, template and image that it was made from; the first two as its group wrote them down."""
        group, template = self.metadata.get("created-by", ""), self.metadata.get("instance-template", "")
        return Lineage(
            group=group if _GROUP.fullmatch(group) else None,
            template=template if _TEMPLATE.fullmatch(template) else None,
            image=next(iter(self.licenses or ()), None),
        )


_FINDINGS = {
    100: Finding.DESIRED,
    101: Finding.FAULTY,
    102: Finding.LEAVE_ALONE,
    103: Finding.BUSY,
}


class Evidence(Struct, frozen=True):
    """What a script said on the VM: exit code, ``key=value`` lines (4 KiB at most), of a no stderr's end."""

    exit_code: int
    values: Mapping[str, str]
    at: datetime
    error: str = ""

    @property
    def finding(self) -> Finding:
        """OS Config's exec contract: 100 desired, 101 faulty; ours: 102 leave alone, 103 busy; else error."""
        return _FINDINGS.get(self.exit_code, Finding.ERROR)

    @property
    def instance_id(self) -> str | None:
        """The id that the VM's own metadata server gave, or None."""
        return self.values.get("instance_id") or None


UNKNOWN = "unknown"
"""The cause of a diagnosis that names none."""

Concerns = Literal["owner", "fleet", "logmend"]
"""Whose a cause is: who runs the VM; network, image or policy; or a runbook that remediates it."""


class Diagnosis(Struct, frozen=True):
    """Why a VM has its fault, as ``diagnose.sh`` found: a cause that its runbook declares, or ``unknown``.

    ``evidence`` are lines for people. ``why`` is a word for an unknown cause: what kept it from being known
    (:data:`logmend.runbook.diagnosis.WHYS`). ``next_step`` is what to do about the cause, ``runbook`` the
    runbook that would remediate it.
    """

    cause: str
    concerns: Concerns | None = None
    evidence: tuple[str, ...] = ()
    next_step: str = ""
    runbook: str | None = None
    why: str | None = None

    def __str__(self) -> str:
        """Say it in a line: ``cause disk_full (owner): disk: /var``."""
        said = self.concerns or self.why
        return f"cause {self.cause}{f' ({said})' if said else ''}: {'; '.join(self.evidence)}".rstrip(": ")


class Verdict(Struct, frozen=True):
    """What stands against going on, or what came of it: a result with its reason and text for people.

    Where a stage is asked whether to go on, None means yes. ``not_before`` is when the tick takes up what is
    parked; None for the next tick.
    """

    result: Result
    reason: str | None = None
    detail: str = ""
    not_before: datetime | None = None


class Trouble(Struct, frozen=True):
    """An error as a value: ``transient`` or not, its reason, and text for people."""

    transient: bool
    reason: str
    detail: str = ""
    retry_after: float | None = None


HostKeySource = Literal["published", "pinned", "first_seen", "known_hosts", "insecure"]
"""How a VM's SSH host key was known; ``first_seen``: it was pinned in this very attempt."""

CredentialKind = Literal["certificate", "imported_key", "static"]
"""What a VM's SSH server let us in with."""


class Login(Struct, frozen=True):
    """How a session got in: how the server's key was known, and what it accepted of us."""

    host_key: HostKeySource
    credential: CredentialKind


class Attempt(Struct, frozen=True):
    """What was seen and done on a VM in one go; ``verify`` turns it into a result.

    ``enforced`` is true from the moment at which enforcement may have begun. ``requested`` says that the
    work was handed over (OS Config label set) and will be closed by the tick. ``trouble`` is what ended
    the attempt early, ``halted`` what the commit point answered if it did not let the attempt enforce.
    ``asked`` is what an agent was asked to do, if the work was handed over to one. ``committed`` says that
    this attempt passed the commit point; ``login`` is how a session got in, if one did; ``diagnosis`` is
    what keeps a fault there, if the runbook can say it.
    """

    executor: str
    before: Evidence | None = None
    enforced: bool = False
    enforcement: Evidence | None = None
    after: Evidence | None = None
    requested: bool = False
    halted: Verdict | None = None
    trouble: Trouble | None = None
    asked: Action | None = None
    committed: bool = False
    login: Login | None = None
    diagnosis: Diagnosis | None = None


class Asked(Struct, frozen=True):
    """What an agent on a VM was asked to do: only what it reported after ``since`` counts."""

    instance: InstanceRef
    runbook: str
    action: Action
    since: datetime


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
    def told(self) -> str:
        """What a person reads of it: the detail, and why the fault is there."""
        return "; ".join(filter(None, (self.detail, str(self.diagnosis) if self.diagnosis else "")))
