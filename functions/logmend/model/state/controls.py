"""Controls and who used them: freezes, breakers, waves, approvals; and the fleet's document."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from logmend.model.state.kept import Kept
from logmend.model.struct import Struct, field
from logmend.model.values import Evidence, InstanceRef, Intent, Plan


class Freeze(Struct, frozen=True):
    """Who froze, when and why. ``over`` is the earlier freeze, which stays when this one is lifted.

    After ``until`` (None: no end) the next tick lifts it, and records that.
    """

    by: str
    at: datetime
    why: str = ""
    over: "Freeze | None" = None
    until: datetime | None = None

    @property
    def mark(self) -> str:
        """Return a name for this freeze, for an intent that names it."""
        return f"freeze {self.at.isoformat()} {self.by}"

    @property
    def name(self) -> str:
        """Return the name by which a person lifts it. Everything that one command froze has one name."""
        return f"freeze-{hashlib.sha256(self.mark.encode()).hexdigest()[:6]}"

    @property
    def stack(self) -> "tuple[Freeze, ...]":
        """Return every freeze in the stack, the latest first."""
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
        """Return a name for this opening, for an intent that names it."""
        return f"breaker {self.opened_at.isoformat()}"

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.failing} of {self.seen} VMs failed by {self.opened_at:%FT%TZ}"


class Wave(Struct, frozen=True):
    """How far a runbook's waves have come: ``step`` counts from 0, ``held`` says who holds it there."""

    digest: str
    step: int
    since: datetime
    held: "By | None" = None


class Declined(Struct, frozen=True):
    """A person rejected a plan for a VM: no automatic work until then or, if None, until a release."""

    by: str
    at: datetime
    until: datetime | None = None
    why: str = ""

    def __str__(self) -> str:
        """Return who, since when, until when and why, for a person."""
        until = f" until {self.until:%FT%TZ}" if self.until else ""
        return f"rejected by {self.by} at {self.at:%FT%TZ}{until} {self.why}".strip()


class Scope(Struct, frozen=True):
    """What a freeze covers: everything, a runbook, or a runbook on one VM."""

    runbook: str | None = None
    instance: InstanceRef | None = None

    def __str__(self) -> str:
        """Return it in words."""
        if self.instance is not None:
            return f"{self.instance} ({self.runbook})"
        return f"runbook {self.runbook}" if self.runbook else "everything"


class Counting(Struct, frozen=True):
    """Since when every instance counts repeats, according to the latest tick that did, at ``tick``."""

    since: datetime
    tick: datetime


class Fleet(Kept, frozen=True):
    """The controls for all VMs: the global freeze, the runbooks' freezes, and open breakers.

    ``schema`` is the ledger's version: a revision that knows only lower ones neither reads nor writes it,
    one that knows higher ones migrates it before it enforces anything. ``thawing`` are VMs with a freeze
    that has an end, for the tick to find them. ``last_tick_by`` names the instance as its leases do.
    ``queued`` are runbooks whose intents a tick left waiting for a place in the budget: until that time,
    when they are tried again, new intents do not overtake them. ``counting`` applies if the last tick was
    one that counts.
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
        """Return since when every instance counts; None if the last tick's instance does not, or is older."""
        return self.counting.since if self.counting and self.counting.tick == self.last_tick else None


class By(Struct, frozen=True):
    """Who uses a control, when and why. The name is only what the ledger was told."""

    who: str
    at: datetime
    why: str = ""


class Act(Struct, frozen=True):
    """One use of a control, by a person or (``by`` None) by logmend itself, as its outcome will tell it."""

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
    """What one transaction did to controls. It is stored with that, and the next tick reports it."""

    acts_id: str
    acts: tuple[Act, ...]


class Approval(Kept, frozen=True):
    """A plan that waits for a person: the intent as it was judged, the evidence, and what became of it.

    ``plan`` is what an approval is bound to; None if an older version made it: such an approval is bound to
    nothing and permits nothing. ``name`` and ``labels`` are the VM's at that time. ``warned`` says that
    people were told that it is about to expire.
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
        """Return when to warn people that it is undecided: after three quarters of its time."""
        return self.expires_at - (self.expires_at - self.created_at) / 4
