"""The journal of an intent."""

from datetime import datetime
from enum import StrEnum

from logmend.model.enums import Action
from logmend.model.state.kept import Kept
from logmend.model.values import Asked, Evidence, Intent, Outcome


class State(StrEnum):
    """Where an intent stands."""

    RUNNING = "running"
    WAITING = "waiting"  # deferred: its message will be redelivered
    PARKED = "parked"
    REQUESTED = "requested"
    UNVERIFIED = "unverified"
    DONE = "done"


class Record(Kept, frozen=True):
    """The journal of one intent.

    ``outcome`` is the latest one, which a redelivery emits again. ``attempt`` counts leases, ``tries`` the
    VM's transient failures in a row, and ``looks`` the re-checks if the intent is unverified or requested.
    ``committed`` says that enforcement may have begun, with ``before`` as the evidence for it. It is written
    before anything is enforced, and undone only if the VM itself says that nothing was changed (103).
    ``requested_at`` is when work was requested, and ``asked`` what an agent was asked to do. Of the agent's
    reports so far, ``before`` keeps the fault and ``enforcement`` the result of enforcing. ``place`` is the
    budget's document in which its place was taken; ``cohorts`` are those whose limits it also counts
    towards. ``mark`` is what enforcing after the last commit leaves on the VM, as proof that it began.
    ``busy_since`` is since when every check has found the VM busy. ``counted`` says that its end is counted,
    without an entry of its own.
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
        """Return what an agent was last asked to do; None if it never was."""
        if self.asked is None or self.requested_at is None:
            return None
        return Asked(self.intent.instance, self.intent.runbook, self.asked, self.requested_at)
