"""Judge an agent's report about work that was handed over. Pure."""

from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Record
from logmend.model.struct import replace
from logmend.model.values import Attempt, Intent, Trouble, Verdict
from logmend.stages.intents import SILENCE
from logmend.stages.verify import proof


def report(
    intent: Intent,
    attempt: Attempt,
    record: Record,
    stop: Verdict | None,
    *,
    detached: bool = False,
    held: bool = False,
) -> Verdict:
    """Judge an agent's report; ``requested`` again, with what is missing, if it has to be waited for.

    ``record`` keeps what its earlier reports showed. ``stop`` says that nothing may be enforced any more: a
    request that no report closes is then withdrawn, and parked or closed as
    ``stop`` says. ``detached`` and ``held`` as in :func:`~logmend.stages.verify.result_of`.
    """
    verdict = _reported(intent, attempt, record, detached=detached, held=held)
    if verdict.result is not Result.REQUESTED or stop is None:
        return verdict
    detail = f"the request is withdrawn; an agent that has begun goes on: {stop.detail}"
    return replace(stop, detail=detail)


def _reported(intent: Intent, attempt: Attempt, record: Record, *, detached: bool, held: bool) -> Verdict:
    if attempt.requested:
        why = f" ({attempt.trouble.reason}: {attempt.trouble.detail})" if attempt.trouble else ""
        return Verdict(Result.REQUESTED, "no_report", f"no report since it was asked{why}")
    if attempt.enforced:
        return _reported_enforcing(intent, attempt, record, detached=detached)
    if attempt.before is None:
        return _reported_trouble(attempt, record)
    if (mistaken := proof.elsewhere(intent, attempt.before)) is not None:
        return mistaken
    shown = record.before is not None and record.committed
    match attempt.before.finding:
        case Finding.BUSY:
            return proof.busy(attempt.before, record)
        case Finding.DESIRED if not shown:
            return Verdict(
                Result.NOTHING_TO_DO, None, "the agent found the desired state and changed nothing"
            )
        case Finding.DESIRED if record.before is not None and "seen_by" not in record.before.values:
            return proof.completed(intent, record.before, attempt.before, record)
        case Finding.DESIRED:
            detail = "the fault was reported and is gone, but no report shows that it was enforced"
            return Verdict(Result.UNVERIFIED, "no_evidence", detail)
        case Finding.LEAVE_ALONE | Finding.ERROR if shown:
            return Verdict(Result.UNVERIFIED, "check_failed", proof.exit_and_error(attempt.before))
        case Finding.LEAVE_ALONE:
            return Verdict(Result.REFUSED, *proof.reason_and_detail(attempt.before))
        case Finding.ERROR:
            return Verdict(Result.FAILED, "script_error", proof.exit_and_error(attempt.before))
        case _ if intent.source.kind == SILENCE:
            return proof.goes_on(intent, attempt.before)
        case _ if attempt.asked is not Action.CHECK:
            return Verdict(
                Result.REQUESTED, "not_enforced", "the agent sees the fault and has not enforced yet"
            )
        case _ if record.committed:
            unproved = f"the agent still sees the fault; {proof.NOT_PROVED}"
            verdict = proof.still_there(intent, attempt.before, record, held)
            return verdict or Verdict(Result.FAILED, "not_enforced", unproved)
        case _:
            return Verdict(Result.PLANNED, None, f"the agent sees the fault; would {intent.action}")


def _reported_enforcing(intent: Intent, attempt: Attempt, record: Record, *, detached: bool) -> Verdict:
    """Judge a report that shows enforcing: it counts if it has our output, from the right VM."""
    enforcement = attempt.enforcement
    if enforcement is None or enforcement.instance_id not in (None, intent.instance.instance_id):
        return Verdict(Result.UNVERIFIED, "no_evidence", "the output of enforcing does not name the right VM")
    if enforcement.finding is Finding.DESIRED and not enforcement.values:
        return Verdict(Result.UNVERIFIED, "no_evidence", "the report has no output of enforcing")
    if attempt.after is None and enforcement.finding is Finding.ERROR:
        return Verdict(Result.UNVERIFIED, "script_error", proof.exit_and_error(enforcement))
    return proof.after_enforcing(intent, attempt, record, detached=detached)


def _reported_trouble(attempt: Attempt, record: Record) -> Verdict:
    """Judge a report that shows nothing about the VM."""
    trouble = attempt.trouble or Trouble(transient=True, reason="no_report")
    if trouble.transient:
        return Verdict(Result.REQUESTED, trouble.reason, trouble.detail)
    if record.committed and record.before is not None:
        return Verdict(Result.UNVERIFIED, trouble.reason, trouble.detail)
    result = Result.SKIPPED if trouble.reason == "not_running" else Result.FAILED
    return Verdict(result, trouble.reason, trouble.detail)
