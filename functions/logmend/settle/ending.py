"""What is known when an attempt ends, and what can be told about its enforcement."""

from datetime import datetime

from logmend.ledger import Work
from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Admitted, Record, State
from logmend.model.struct import Struct
from logmend.model.values import Attempt, InstanceFacts, Intent, Latency, Outcome, Verdict
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages import decide


class Ending(Struct, frozen=True):
    """An attempt that ended: where its intent stood (``held``), what was done, and verify's verdict.

    ``attempt`` is None if the VM was never reached; ``left`` says what could not be removed from the VM.
    """

    held: Admitted
    runbook: Runbook | None
    facts: InstanceFacts | None
    attempt: Attempt | None
    verdict: Verdict
    settings: Settings
    now: datetime
    latency: Latency = Latency()
    left: str = ""

    @property
    def prior(self) -> Record:
        """The intent's record as the attempt found it."""
        return self.held.record

    @property
    def intent(self) -> Intent:
        """The intent that the attempt was for."""
        return self.held.record.intent

    @property
    def by_agent(self) -> bool:
        """Whether an agent was asked to change the VM."""
        return self.attempt is not None and self.attempt.asked not in (None, Action.CHECK)

    @property
    def changed_nothing(self) -> bool:
        """Whether the commit is void: the VM was busy, and nothing was changed (exit code 103).

        An agent's run replaces the report of its previous run, so this holds for an agent only if the record
        has nothing from an earlier run.
        """
        if (attempt := self.attempt) is None:
            return False
        last = attempt.enforcement if attempt.enforced else attempt.before
        if last is None or last.finding is not Finding.BUSY:
            return False
        if self.by_agent and self.held.was is State.REQUESTED:
            return self.prior.before is None and self.prior.enforcement is None
        return attempt.committed and not self.prior.committed

    @property
    def changing(self) -> bool:
        """Whether enforcing was committed on a VM that has reported.

        An agent is asked unseen: as long as it has not reported, it may not be running at all.
        """
        prior, attempt = self.prior, self.attempt
        committed = prior.committed or (attempt is not None and attempt.committed)
        evidence = prior.before or prior.enforcement or (attempt and (attempt.before or attempt.enforcement))
        return committed and evidence is not None

    @property
    def reported(self) -> Attempt | None:
        """The attempt, if it is an agent's report on a request or has evidence from the enforcing script."""
        attempt = self.attempt
        if attempt is None or attempt.requested or self.changed_nothing:
            return None
        asked = attempt.asked and self.held.was is State.REQUESTED
        return attempt if attempt.enforcement or asked else None


def overdue(end: Ending) -> bool:
    """Return whether requested work has been out for too long."""
    asked_at = end.prior.requested_at
    if end.attempt is None or end.held.was is not State.REQUESTED or asked_at is None:
        return False
    return end.now >= asked_at + decide.request_deadline(end.runbook, end.prior, end.settings)


def closes(end: Ending) -> bool:
    """Return whether the intent's request, if there is one, is to be closed."""
    return end.verdict.result is not Result.REQUESTED or overdue(end)


def work(end: Ending, outcome: Outcome) -> Work:
    """Return, for the budget, what became of enforcing; if that cannot be seen, it may still be going on.

    An earlier attempt that died may have begun enforcing without this one knowing.
    """
    prior, attempt = end.prior, end.attempt
    if end.changed_nothing:
        return Work.NONE
    if outcome.result is Result.REQUESTED or attempt is None:
        return Work.OUT if outcome.result is Result.REQUESTED else Work.UNKNOWN
    if end.by_agent and not attempt.requested and not attempt.enforced and outcome.result in _AGAIN:
        return Work.OUT  # the label may have been set
    if end.by_agent and end.held.was is State.REQUESTED:
        # Never NONE: the report may have replaced one of an earlier run that did change something.
        last = attempt.after if attempt.enforced else attempt.before
        return Work.OVER if last and last.finding is Finding.DESIRED else Work.UNKNOWN
    if not attempt.enforced:
        return Work.UNKNOWN if prior.committed or end.by_agent else Work.NONE
    elsewhere = prior.requested_at is not None and prior.executor != attempt.executor
    if attempt.enforcement is None or elsewhere:
        return Work.UNKNOWN
    return Work.NONE if outcome.result is Result.REFUSED and not prior.committed else Work.OVER


_AGAIN = frozenset({Result.DEFERRED, Result.PARKED})


def starts(end: Ending, outcome: Outcome) -> bool:
    """Return whether requested work began now. Work that may change the VM began at the commit point."""
    asked = end.attempt.asked if end.attempt else None
    if outcome.result is not Result.REQUESTED or asked not in (None, Action.CHECK):
        return False
    return end.prior.requested_at is None or (asked is Action.CHECK and end.held.was is not State.RUNNING)
