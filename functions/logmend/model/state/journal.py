"""The journal of an intent."""

from datetime import datetime
from enum import StrEnum

from logmend.model.enums import Action
from logmend.model.state.kept import Kept
from logmend.model.values import Asked, Evidence, Intent, Outcome


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
