"""The final verdict on an attempt: verify's, or what waiting, retries and limits turn it into. Pure.

The verdict is replaced at most once, by the one function that handles its result.
"""

from datetime import datetime

from logmend.errors import Permanent
from logmend.model.enums import Finding, Result
from logmend.model.state import Record, State
from logmend.model.struct import Struct
from logmend.model.values import Intent, Trouble, Verdict
from logmend.settle.ending import Ending, overdue
from logmend.stages import act, decide


class Settled(Struct, frozen=True):
    """The last verdict, when to come back if it is not final, and the counters until then."""

    verdict: Verdict
    due: datetime | None = None
    tries: int = 0
    looks: int = 0
    busy_since: datetime | None = None


def of_error(error: Exception, *, waiting: bool = False) -> Verdict:
    """Return the verdict on an error before the VM was reached: skipped if it is gone, refused without facts.

    ``waiting`` says that work was requested: after a transient error, the next tick reads again.
    """
    trouble = act.trouble(error)
    if waiting and trouble.transient:
        return Verdict(Result.REQUESTED, trouble.reason, trouble.detail)
    if trouble.transient:
        return Verdict(Result.DEFERRED, trouble.reason, trouble.detail)
    return without_facts(error) or Verdict(Result.FAILED, trouble.reason, trouble.detail)


def without_facts(error: Exception) -> Verdict | None:
    """Return the verdict if Compute has no facts about a VM; None if the error is about something else."""
    match error:
        case Permanent(reason="instance_gone"):
            return Verdict(Result.SKIPPED, error.reason, error.detail)
        case Permanent(reason="opt_in_unknown"):
            return Verdict(Result.REFUSED, error.reason, error.detail)
        case _:
            return None


def objected(no: Verdict, prior: Record) -> Verdict:
    """Return the verdict for a guard's objection at the commit point.

    If enforcing may have begun before, the objection is not final: the intent is unverified.
    """
    if not _begun(prior) or no.result not in (Result.SKIPPED, Result.REFUSED) or no.reason == "instance_gone":
        return no
    detail = f"the fault is still seen, and enforcing may have begun before: {no.detail}"
    return Verdict(Result.UNVERIFIED, no.reason, detail)


def unknown_runbook(intent: Intent) -> Verdict:
    """Return the verdict on an intent for a runbook that this version does not have."""
    return Verdict(Result.REFUSED, "unknown_runbook", f"no runbook {intent.runbook}")


def settled(end: Ending) -> Settled | None:
    """Return the final verdict; None if work is requested or not yet verified and there is nothing new."""
    verdict, was = end.verdict, end.held.was
    match verdict.result:
        case Result.DEFERRED if was in (State.REQUESTED, State.UNVERIFIED):
            return None  # trouble before a check says nothing about the VM: check again later
        case Result.DEFERRED:
            return _deferred(end)
        case Result.REQUESTED if overdue(end):
            return _overdue(end)
        case Result.REQUESTED if was is State.REQUESTED:
            return None
        case Result.REQUESTED:
            return Settled(verdict, end.now + decide.RECHECK, looks=end.prior.looks)
        case Result.SKIPPED | Result.REFUSED if _unchecked(end):
            detail = f"enforced, but not checked since: {verdict.detail}"
            return _unverified(end, Verdict(Result.UNVERIFIED, verdict.reason, detail))
        case Result.UNVERIFIED:
            return _unverified(end, verdict)
        case Result.PARKED if (since := _busy_since(end)) is not None:
            return _busy(end, verdict, since)
        case Result.PARKED:
            return Settled(verdict, verdict.not_before or end.now + decide.RECHECK)
        case _:
            return Settled(verdict)


def _deferred(end: Ending) -> Settled:
    """Wait for a redelivery or the tick after a transient error, unless the tries are used up."""
    verdict, attempt = end.verdict, end.attempt
    trouble = attempt.trouble if attempt else None
    trouble = trouble or Trouble(True, verdict.reason or "", verdict.detail)
    tries = end.prior.tries + (1 if trouble.reason in decide.VM_TROUBLES else 0)
    acknowledged = end.held.was not in (None, State.WAITING)
    again = decide.retry(
        end.intent,
        tries,
        trouble,
        end.settings,
        end.now,
        acknowledged=acknowledged,
        begun=_may_have_begun(end),
    )
    if decide.no_route(trouble, end.settings):
        detail = f"{verdict.detail}; OS Config is not enabled there"
        again = Verdict(Result.FAILED, "no_route", detail)
    elif again is None:
        again = Verdict(Result.FAILED, verdict.reason, f"tried {tries} times: {verdict.detail}")
    return Settled(again, again.not_before, tries, busy_since=end.prior.busy_since)


def _overdue(end: Ending) -> Settled:
    """End requested work that has been out for too long; an agent's silence is not a failure of the VM."""
    verdict, allowed = end.verdict, decide.request_deadline(end.runbook, end.prior, end.settings)
    if verdict.reason is None:
        detail = f"not done {allowed} after it was started"
        return Settled(Verdict(Result.FAILED, "still_faulty", detail))
    detail = f"not closed {allowed} after it was asked: {verdict.detail}"
    return _unverified(end, Verdict(Result.UNVERIFIED, verdict.reason, detail))


def _unchecked(end: Ending) -> bool:
    """Return whether the attempt ended before the check although enforcement may have begun earlier.

    Skipped and refused would claim that nothing was done. A VM that is gone has nothing left to check.
    """
    return end.attempt is None and _begun(end.prior) and end.verdict.reason != "instance_gone"


def _begun(prior: Record) -> bool:
    return prior.committed and prior.before is not None


def _unverified(end: Ending, verdict: Verdict) -> Settled:
    """Check again later, unless the allowed checks are used up."""
    if (since := _busy_since(end)) is not None:
        return _busy(end, verdict, since)
    looks = end.prior.looks + 1
    if looks > end.settings.unverified_looks:
        detail = f"{end.prior.looks} more checks gave no evidence: {verdict.detail}"
        return Settled(Verdict(Result.FAILED, "unverifiable", detail), looks=looks)
    return Settled(verdict, end.now + decide.RECHECK, looks=looks)


def _busy_since(end: Ending) -> datetime | None:
    """Return since when every check has found the VM busy; None if this one did not."""
    attempt = end.attempt
    evidence = (attempt.before, attempt.enforcement, attempt.after) if attempt else ()
    busy = any(each and each.finding is Finding.BUSY for each in evidence)
    return (end.prior.busy_since or end.now) if busy else None


def _may_have_begun(end: Ending) -> bool:
    """Return whether enforcing may have begun, in this attempt or an earlier one."""
    begun = end.prior.committed or (end.attempt is not None and end.attempt.enforced)
    return begun and not end.changed_nothing


def _busy(end: Ending, verdict: Verdict, since: datetime) -> Settled:
    """Wait for a busy VM, unless the wait has been long enough or the event will come again."""
    last = decide.busy(end.intent, verdict, since, end.settings, end.now, begun=_may_have_begun(end))
    due = decide.busy_until(since, end.now)
    if last.result not in (Result.PARKED, Result.UNVERIFIED):
        return Settled(last, busy_since=since)
    looks = end.prior.looks if last.result is Result.UNVERIFIED else 0
    return Settled(last, due, looks=looks, busy_since=since)
