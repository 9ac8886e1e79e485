"""Judge an attempt at a VM that answers, or that was asked through its agent just now. Pure."""

from logmend.model.enums import Finding, Result
from logmend.model.state import Record
from logmend.model.values import Attempt, Intent, Verdict
from logmend.stages.intents import SILENCE
from logmend.stages.verify import proof


def result_of(
    intent: Intent, attempt: Attempt, record: Record, *, detached: bool = False, held: bool = False
) -> Verdict:
    """Judge an attempt. ``record`` says what earlier ones of this intent saw, and if one committed itself.

    Enforcement may then have begun before, so a clean check now can complete the fix.
    ``detached`` says that the runbook's enforcement goes on after the attempt, ``held`` that a revert holds
    the VM by now.
    """
    prior = record.before if record.committed else None
    if attempt.requested:
        return Verdict(
            Result.REQUESTED, None, f"handed over by {attempt.executor}; the tick reads the report"
        )
    if attempt.enforced:
        return proof.after_enforcing(intent, attempt, record, detached=detached)
    if attempt.trouble is not None:
        if prior is not None:
            return Verdict(Result.UNVERIFIED, attempt.trouble.reason, attempt.trouble.detail)
        result = Result.DEFERRED if attempt.trouble.transient else Result.FAILED
        return Verdict(result, attempt.trouble.reason, attempt.trouble.detail)
    if attempt.before is None and attempt.halted is not None:
        return attempt.halted  # of work that would have been handed over
    if attempt.before is None:
        return Verdict(Result.FAILED, "no_evidence", "the attempt gave no evidence")
    if (mistaken := proof.elsewhere(intent, attempt.before)) is not None:
        if prior is not None and attempt.before.instance_id is None:
            return Verdict(Result.UNVERIFIED, mistaken.reason, mistaken.detail)
        return mistaken
    match attempt.before.finding:
        case Finding.BUSY:
            return proof.busy(attempt.before, record)
        case Finding.DESIRED if prior is not None:
            return proof.completed(intent, prior, attempt.before, record)
        case Finding.DESIRED:
            return Verdict(Result.NOTHING_TO_DO, None, "the check on the VM found the desired state")
        case Finding.ERROR if prior is not None and detached:
            return proof.ended(attempt.before)
        case Finding.LEAVE_ALONE | Finding.ERROR if prior is not None:
            return Verdict(Result.UNVERIFIED, "check_failed", proof.exit_and_error(attempt.before))
        case Finding.LEAVE_ALONE:
            return Verdict(Result.REFUSED, *proof.reason_and_detail(attempt.before))
        case Finding.ERROR:
            return Verdict(Result.FAILED, "script_error", proof.exit_and_error(attempt.before))
        case Finding.FAULTY if attempt.halted is not None:
            return attempt.halted
        case Finding.FAULTY if prior is not None and (
            verdict := proof.still_there(intent, attempt.before, record, held)
        ):
            return proof.at_work() if verdict.reason == "still_faulty" and detached else verdict
        case _ if intent.source.kind == SILENCE:
            return proof.goes_on(intent, attempt.before)
        case _:
            return Verdict(Result.PLANNED, None, f"would {intent.action}: {proof.key_values(attempt.before)}")
