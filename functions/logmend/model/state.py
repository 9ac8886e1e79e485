"""What the ledger remembers, as values: one record per intent, one subject per VM and runbook, one fleet.

``docs/ledger.md`` says which collection holds what and what is guaranteed about it. A new field needs a
default and nothing else: what is stored without it reads as the default, and a revision that does not know it
yet keeps it as it found it (:class:`Kept`). What cannot be said so is another :data:`SCHEMA`.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from logmend.model.enums import Action, Mode, Result
from logmend.model.json import JsonObject
from logmend.model.struct import Struct, field
from logmend.model.values import Asked, Evidence, InstanceRef, Intent, Outcome, Plan

SCHEMA = 2
"""Version of the ledger as a whole, kept with the fleet's switches: each admission and commit reads it."""


class Kept(Struct, frozen=True, kw_only=True):
    """A value that is stored as a document of its own.

    ``unknown`` are the fields of a newer revision, written back as they were found.
    """

    unknown: JsonObject = field(default_factory=dict)


class State(StrEnum):
    """Where an intent stands."""

    RUNNING = "running"
    WAITING = "waiting"  # deferred: its message will be delivered again
    PARKED = "parked"
    REQUESTED = "requested"
    UNVERIFIED = "unverified"
    DONE = "done"


class Record(Kept, frozen=True):
    """The journal of one intent.

    ``outcome`` is the latest one (what a redelivery re-emits), ``attempt`` counts leases, ``tries`` the
    transient failures of the VM in a row, ``looks`` the re-checks of an unverified or requested one.
    ``committed`` says that enforcement may have begun with ``before`` as the evidence for it; it is
    written before anything is enforced, and taken back only on the VM's own word that nothing was changed
    (103). ``requested_at`` is when work was handed over, ``asked`` what an agent was asked to do; of what it
    reported so far, ``before`` keeps the fault and ``enforcement`` what became of enforcing. ``place`` is the
    document of the budget that its place was taken in, ``cohorts`` names those whose limits it counts for as
    well. ``mark`` is what the last commit's enforcing leaves on the VM: found there, it proves that it began.
    ``busy_since`` is since when each check has found the VM busy. ``counted`` says that its end has no entry
    of its own, but counts.
    """

    intent: Intent
    state: State
    outcome: Outcome | None = None
    attempt: int = 0
    tries: int = 0
    looks: int = 0
    before: Evidence | None = None
    committed: bool = False
    executor: str | None = None
    requested_at: datetime | None = None
    asked: Action | None = None
    enforcement: Evidence | None = None
    place: int | None = None
    cohorts: tuple[str, ...] = ()
    mark: str | None = None
    busy_since: datetime | None = None
    counted: bool = False

    @property
    def request(self) -> Asked | None:
        """What an agent was asked to do last; None if it never was."""
        if self.asked is None or self.requested_at is None:
            return None
        return Asked(self.intent.instance, self.intent.runbook, self.asked, self.requested_at)


class Lease(Struct, frozen=True):
    """The right to work on one VM with one runbook, until it expires or a higher fence exists."""

    owner: str
    fence: int
    intent_id: str
    expires_at: datetime


class Cooldown(Struct, frozen=True):
    """Quiet time for automatic intents, and what it came from."""

    until: datetime
    result: Result
    reason: str | None
    mode: Mode


class Freeze(Struct, frozen=True):
    """Who froze, when and why. ``over`` is the freeze from before, which stays when this one is lifted.

    After ``until`` (None: for good) the next tick lifts it, and says so.
    """

    by: str
    at: datetime
    why: str = ""
    over: "Freeze | None" = None
    until: datetime | None = None

    @property
    def mark(self) -> str:
        """A name of this freeze, for an intent that knows of it."""
        return f"freeze {self.at.isoformat()} {self.by}"

    @property
    def name(self) -> str:
        """Return the name by which a person lifts it. What one command froze has one name."""
        return f"freeze-{hashlib.sha256(self.mark.encode()).hexdigest()[:6]}"

    @property
    def stack(self) -> "tuple[Freeze, ...]":
        """Every freeze of the stack, the latest first."""
        return (self, *(self.over.stack if self.over else ()))

    def __str__(self) -> str:
        """Return who, since when, until when and why, for a person."""
        until = f" until {self.until:%FT%TZ}" if self.until else ""
        return f"frozen by {self.by} at {self.at:%FT%TZ}{until} {self.why}".strip() + f" ({self.name})"


class Breaker(Struct, frozen=True):
    """An open breaker: since when, and on how many failing of how many distinct VMs."""

    opened_at: datetime
    failing: int
    seen: int

    @property
    def mark(self) -> str:
        """A name of this opening, for an intent that knows of it."""
        return f"breaker {self.opened_at.isoformat()}"

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.failing} of {self.seen} VMs failed by {self.opened_at:%FT%TZ}"


class Wave(Struct, frozen=True):
    """How far a runbook's waves have come: ``step`` counts from 0, ``held`` says who keeps it there."""

    digest: str
    step: int
    since: datetime
    held: "By | None" = None


class Declined(Struct, frozen=True):
    """A person rejected a plan for a VM: automatic work is held off until then, or (None) a release."""

    by: str
    at: datetime
    until: datetime | None = None
    why: str = ""

    def __str__(self) -> str:
        """Return who, since when, until when and why, for a person."""
        until = f" until {self.until:%FT%TZ}" if self.until else ""
        return f"rejected by {self.by} at {self.at:%FT%TZ}{until} {self.why}".strip()


class Subject(Kept, frozen=True):
    """One VM under one runbook.

    ``held`` is set by a revert that put something back and keeps automatic intents away. ``held_by`` is the
    latest revert, whatever it found: what a person asks for without naming it is older, or knows nothing of
    it. ``failures`` counts failures in a row, ``relapses`` how often the fault came back after a verified fix
    and was remediated again. ``human_told`` says that the one ERROR about it was recorded, ``open_request``
    which intent's requested work is still out. ``waiting`` are intents that are parked until the one in hand
    is done. ``labels`` are those that outcomes tell, as the VM was looked up last.
    """

    instance: InstanceRef
    runbook: str
    name: str | None = None
    fence: int = 0
    lease: Lease | None = None
    cooldown: Cooldown | None = None
    held: bool = False
    frozen: Freeze | None = None
    failures: int = 0
    relapses: int = 0
    needs_human: bool = False
    human_told: bool = False
    open_request: str | None = None
    last_result: Result | None = None
    last_reason: str | None = None
    last_at: datetime | None = None
    last_outcome_id: str | None = None
    fixed_at: datetime | None = None
    held_by: str | None = None
    waiting: tuple[str, ...] = ()
    declined: Declined | None = None
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class Repetition(Struct, frozen=True):
    """How often one VM said again what one result and reason stand for, since that was recorded.

    ``fence`` is the VM's when it began (0 if nothing of the VM was asked), ``heard`` when it was said last,
    by our clock. ``ids`` are the intents that were counted, ``begun`` those that have an entry of their own.
    ``count``, ``first_at`` and ``latest`` are of what is yet to be told.
    """

    fence: int
    heard: datetime
    ids: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    count: int = 0
    first_at: datetime | None = None
    latest: Outcome | None = None


class Repeats(Kept, frozen=True):
    """What one VM said again under one runbook, of messages that were published on one day of the VM.

    ``tallies`` are by result and reason; ``untold`` are counts that the tick has yet to record.
    """

    instance: InstanceRef
    runbook: str
    day: int
    tallies: Mapping[str, Repetition] = field(default_factory=dict)
    untold: tuple[Outcome, ...] = ()


class Scope(Struct, frozen=True):
    """What a freeze holds for: everything, a runbook, or a runbook on one VM."""

    runbook: str | None = None
    instance: InstanceRef | None = None

    def __str__(self) -> str:
        """Return it in words."""
        if self.instance is not None:
            return f"{self.instance} ({self.runbook})"
        return f"runbook {self.runbook}" if self.runbook else "everything"


class Counting(Struct, frozen=True):
    """Since when every instance counts what is said again, as of the latest tick that did, at ``tick``."""

    since: datetime
    tick: datetime


class Fleet(Kept, frozen=True):
    """What holds for every VM: the global freeze, those of runbooks, and open breakers.

    ``schema`` is the ledger's version: a revision that knows only lower ones neither reads nor writes it, one
    that knows higher ones migrates it before it enforces anything. ``thawing`` are VMs on which a freeze has
    an end, so that the tick finds them. ``last_tick_by`` names the instance as its leases do.
    ``queued`` are runbooks of which a tick left intents waiting for a place in the budget: until that time,
    by when they are asked for again, what comes anew does not overtake them. ``counting`` holds if the last
    tick was one that counts.
    """

    frozen: Freeze | None = None
    frozen_runbooks: Mapping[str, Freeze] = field(default_factory=dict)
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    last_tick: datetime | None = None
    schema: int = 1
    thawing: tuple[Scope, ...] = ()
    last_tick_by: str | None = None
    queued: Mapping[str, datetime] = field(default_factory=dict)
    waves: Mapping[str, Wave] = field(default_factory=dict)
    counting: Counting | None = None

    @property
    def counts_since(self) -> datetime | None:
        """Since when every instance counts; None if the last tick was of one that does not, or is older."""
        return self.counting.since if self.counting and self.counting.tick == self.last_tick else None


class By(Struct, frozen=True):
    """Who uses a control, when and why. The name is what the ledger was told: a claim."""

    who: str
    at: datetime
    why: str = ""


class Act(Struct, frozen=True):
    """One use of a control, by a person or (``by`` None) by logmend itself: what its outcome will say."""

    reason: str
    at: datetime
    by: str | None = None
    detail: str = ""
    runbook: str | None = None
    instance: InstanceRef | None = None
    approval_id: str | None = None
    intent_id: str | None = None
    owner: str | None = None


class Acts(Kept, frozen=True):
    """What one transaction did to controls. It is kept with what it did, and told by the next tick."""

    acts_id: str
    acts: tuple[Act, ...]


class Approval(Kept, frozen=True):
    """A plan that waits for a person: the intent as it was judged, the evidence, and what became of it.

    ``plan`` is what an approval is bound to; None if an older version made it, which is bound to nothing
    and so good for nothing. ``name`` and ``labels`` are the VM's, as they were then. ``warned`` says
    that people were told that it is about to expire.
    """

    approval_id: str
    intent: Intent
    before: Evidence | None
    created_at: datetime
    expires_at: datetime
    state: str = "pending"  # pending, approved, rejected, withdrawn, expired
    decided_by: str | None = None
    decided_at: datetime | None = None
    plan: Plan | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    warned: bool = False

    @property
    def warn_at(self) -> datetime:
        """When to tell people that nobody has decided yet: once three quarters of its time are over."""
        return self.expires_at - (self.expires_at - self.created_at) / 4


class View(Struct, frozen=True):
    """What decide sees of the ledger at one moment: the intent's record, its subject and the fleet."""

    record: Record | None
    subject: Subject
    fleet: Fleet


# What an admission may answer


class Admitted(Struct, frozen=True):
    """The lease is held. ``was`` is where the intent stood before, None for a new one.

    ``interrupted`` is the lease of this intent's earlier attempt, if one died.
    """

    lease: Lease
    record: Record
    subject: Subject
    was: State | None
    interrupted: Lease | None = None


class Finished(Struct, frozen=True):
    """The very message was dealt with before: its outcome is to be emitted again."""

    record: Record


class Turned(Struct, frozen=True):
    """Not admitted: the outcome that was journalled for it, and whether it only says again what was said.

    ``counted`` says that it has no entry of its own.
    """

    outcome: Outcome
    said_before: bool = False
    counted: bool = False


class Expired(Struct, frozen=True):
    """Another intent's lease has run out: finish that intent first, then come again."""

    intent_id: str


Admission = Admitted | Finished | Turned | Expired
