"""Say what an attempt amounts to. The only place that may say ``remediated`` or ``reverted``.

A fix counts when a read-only check before it saw the fault and the same check after it did not, both on
the VM that is meant, and enforcing is proved in between: by the script's own word that it changed something,
or by the mark that it left on the VM. That enforcing may have begun proves nothing. Everything else has
another name.
"""

from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Record
from logmend.model.values import Attempt, Evidence, Intent, Trouble, Verdict
from logmend.stages.intents import SILENCE


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
        return _after_enforcing(intent, attempt, record, detached=detached)
    if attempt.trouble is not None:
        if prior is not None:
            return Verdict(Result.UNVERIFIED, attempt.trouble.reason, attempt.trouble.detail)
        result = Result.DEFERRED if attempt.trouble.transient else Result.FAILED
        return Verdict(result, attempt.trouble.reason, attempt.trouble.detail)
    if attempt.before is None and attempt.halted is not None:
        return attempt.halted  # of work that would have been handed over
    if attempt.before is None:
        return Verdict(Result.FAILED, "no_evidence", "the attempt brought no evidence")
    if (mistaken := _elsewhere(intent, attempt.before)) is not None:
        if prior is not None and attempt.before.instance_id is None:
            return Verdict(Result.UNVERIFIED, mistaken.reason, mistaken.detail)
        return mistaken
    match attempt.before.finding:
        case Finding.BUSY:
            return _busy(attempt.before, record)
        case Finding.DESIRED if prior is not None:
            return _completed(intent, prior, attempt.before, record)
        case Finding.DESIRED:
            return Verdict(Result.NOTHING_TO_DO, None, "the check on the VM found the desired state")
        case Finding.ERROR if prior is not None and detached:
            return _ended(attempt.before)
        case Finding.LEAVE_ALONE | Finding.ERROR if prior is not None:
            return Verdict(Result.UNVERIFIED, "check_failed", _said(attempt.before))
        case Finding.LEAVE_ALONE:
            return Verdict(Result.REFUSED, *_no(attempt.before))
        case Finding.ERROR:
            return Verdict(Result.FAILED, "script_error", _said(attempt.before))
        case Finding.FAULTY if attempt.halted is not None:
            return attempt.halted
        case Finding.FAULTY if prior is not None and (
            verdict := _still_there(intent, attempt.before, record, held)
        ):
            return _at_work() if verdict.reason == "still_faulty" and detached else verdict
        case _ if intent.source.kind == SILENCE:
            return _goes_on(intent, attempt.before)
        case _:
            return Verdict(Result.PLANNED, None, f"would {intent.action}: {_values(attempt.before)}")


_NOT_PROVED = "an attempt had been committed, and nothing shows that it began to enforce"


def _marked(record: Record, seen: Evidence) -> bool:
    """Return whether the VM's latest change is that of the last commit: it left the mark."""
    return record.mark is not None and seen.values.get("mark") == record.mark


def _began(record: Record, seen: Evidence) -> bool:
    """Return whether enforcing is proved: by the mark, or by the script's word that it changed something."""
    told = record.enforcement
    changed = told is not None and told.finding is Finding.DESIRED and not _unchanged(told)
    return changed or _marked(record, seen)


def _still_there(intent: Intent, seen: Evidence, record: Record, held: bool) -> Verdict | None:
    """Judge a fault that is seen after an attempt had been committed; None if one is still to come.

    It takes proof of enforcing to call it a failed fix. Else it is the revert that came meanwhile, or what
    kept us from knowing.
    """
    failed = Verdict(Result.FAILED, "still_faulty", "the fault is still seen after enforcing")
    if _marked(record, seen):
        return failed
    if held and intent.action is Action.ENFORCE:
        return Verdict(Result.SKIPPED, "reverted", "reverted before anyone saw what came of enforcing")
    if _began(record, seen):
        return failed
    if record.outcome is None or record.outcome.result is not Result.UNVERIFIED:
        return None
    why = record.outcome.reason or "no_evidence"
    return Verdict(Result.FAILED, why, f"the fault is still seen; {_NOT_PROVED}")


def _unchanged(enforcement: Evidence) -> bool:
    """Return whether enforcing checked under its lock and found nothing to change."""
    return enforcement.values.get("changed") == "no"


def _completed(intent: Intent, prior: Evidence, seen: Evidence, record: Record) -> Verdict:
    """Judge a clean check after an attempt had been committed: somebody else may have repaired the VM."""
    if _began(record, seen):
        return _fixed(intent, f"{_changes(prior, seen)}; an earlier attempt enforced", seen)
    return Verdict(Result.NOTHING_TO_DO, None, f"the check on the VM found the desired state; {_NOT_PROVED}")


def _busy(seen: Evidence, record: Record) -> Verdict:
    """Judge a VM that cannot be worked on now (103): nothing was learned, so that it stands as it stood."""
    detail = f"the VM is busy with something else: {_values(seen)}"
    if record.committed and record.outcome is not None and record.outcome.result is Result.UNVERIFIED:
        return Verdict(Result.UNVERIFIED, record.outcome.reason, detail)
    return Verdict(Result.PARKED, "busy", detail)


def _goes_on(intent: Intent, seen: Evidence) -> Verdict:
    """Take a verified fix back: the log says that it did not last, and now the VM itself does."""
    fixed = f" at {intent.source.timestamp:%FT%TZ}" if intent.source.timestamp else ""
    detail = f"fixed and verified{fixed}; the line went on, and the check sees the fault: {_values(seen)}"
    return Verdict(Result.FAILED, "line_goes_on", detail)


def _after_enforcing(intent: Intent, attempt: Attempt, record: Record, *, detached: bool) -> Verdict:
    enforcement = attempt.enforcement
    if enforcement is not None and enforcement.finding is Finding.LEAVE_ALONE:
        # It looked under its lock and changed nothing: that is its word, whatever a second check sees.
        reason = enforcement.values.get("reason", "leave_alone")
        return Verdict(Result.REFUSED, reason, "enforcing itself said no, and changed nothing")
    if enforcement is not None and enforcement.finding is Finding.BUSY:
        return Verdict(Result.PARKED, "busy", f"enforcing found the VM busy: {_values(enforcement)}")
    if attempt.after is None:
        reason = attempt.trouble.reason if attempt.trouble else "no_second_check"
        why = f": {attempt.trouble.detail}" if attempt.trouble and attempt.trouble.detail else ""
        return Verdict(Result.UNVERIFIED, reason, f"enforced, but the second check did not run{why}")
    if attempt.before is None or attempt.before.finding is not Finding.FAULTY:
        return Verdict(Result.UNVERIFIED, "no_evidence", "enforced without the fault on record")
    if _elsewhere(intent, attempt.after) is not None:
        return Verdict(
            Result.UNVERIFIED, "no_evidence", "the second check does not name the VM that is meant"
        )
    match attempt.after.finding:
        case Finding.DESIRED if enforcement is not None and _unchanged(enforcement):
            if record.committed and _began(record, attempt.after):
                return _completed(intent, record.before or attempt.before, attempt.after, record)
            detail = "the fault was gone when enforcing looked under its lock; nothing was changed"
            return Verdict(Result.NOTHING_TO_DO, None, detail)
        case Finding.DESIRED:
            return _fixed(intent, _changes(attempt.before, attempt.after), attempt.after)
        case Finding.LEAVE_ALONE:
            reason = attempt.after.values.get("reason", "leave_alone")
            return Verdict(
                Result.UNVERIFIED, reason, "enforced, but the second check says to leave the VM alone"
            )
        case Finding.BUSY if detached:  # with what was started, for all that can be seen
            return _at_work()
        case Finding.BUSY:
            return Verdict(
                Result.UNVERIFIED, "busy", f"enforced; the VM is busy now: {_values(attempt.after)}"
            )
        case Finding.ERROR if detached:  # what was started has ended already, and says why
            return _ended(attempt.after)
        case Finding.ERROR:
            return Verdict(Result.UNVERIFIED, "check_failed", _said(attempt.after))
        case _:
            return _still_faulty(attempt, detached=detached)


def _still_faulty(attempt: Attempt, *, detached: bool) -> Verdict:
    enforcement = attempt.enforcement
    if enforcement is not None and enforcement.finding is not Finding.DESIRED:
        return Verdict(Result.FAILED, "script_error", _said(enforcement))
    if detached:
        return _at_work()
    return Verdict(Result.FAILED, "still_faulty", "enforced, and the fault is still seen")


def _ended(seen: Evidence) -> Verdict:
    """Judge what ended without success: the check says whether the fault came back or something broke."""
    still = seen.values.get("reason") == "still_faulty"
    return Verdict(Result.FAILED, "still_faulty" if still else "script_error", _said(seen))


def _at_work() -> Verdict:
    return Verdict(Result.REQUESTED, None, "started on the VM and still at work; the tick looks again")


def _fixed(intent: Intent, detail: str, after: Evidence) -> Verdict:
    """Return the result of a proved fix; ``lasts`` is what the check has to say of how long."""
    lasts = after.values.get("lasts")
    detail += f"; lasts {lasts.replace('_', ' ')}" if lasts else ""
    return Verdict(Result.REVERTED if intent.action is Action.REVERT else Result.REMEDIATED, None, detail)


def _elsewhere(intent: Intent, evidence: Evidence) -> Verdict | None:
    """Return a verdict if evidence comes from another VM, or does not say which VM it comes from.

    A no (exit 102) and an error need no name: they claim nothing good of any VM.
    """
    meant = intent.instance.instance_id
    if evidence.instance_id is not None and evidence.instance_id != meant:
        return Verdict(
            Result.FAILED,
            "wrong_instance",
            f"instance {evidence.instance_id} answered where {meant} was meant",
        )
    if evidence.instance_id is None and evidence.finding in (Finding.DESIRED, Finding.FAULTY):
        reason = evidence.values.get("reason", "no_evidence")
        return Verdict(Result.FAILED, reason, "the VM's check did not say which instance it ran on")
    return None


def _no(evidence: Evidence) -> tuple[str, str]:
    """Return why a check says to leave the VM alone, what it saw, and what it complained of."""
    verdict = f" ({evidence.error})" if evidence.error else ""
    detail = f"the check on the VM says no: {_values(evidence)}{verdict}"
    return evidence.values.get("reason", "leave_alone"), detail


def _changes(before: Evidence, after: Evidence) -> str:
    """Return what differs between two pieces of evidence."""
    changed = [
        f"{name} {before.values[name]} → {value}"
        for name, value in after.values.items()
        if name in before.values and before.values[name] != value and name != "mark"
    ]
    return ", ".join(changed) or "fault seen before, not seen after"


def _values(evidence: Evidence) -> str:
    told = [
        f"{name}={value}"
        for name, value in evidence.values.items()
        if name not in ("instance_id", "reason", "mark")
    ]
    return " ".join(told) or f"exit {evidence.exit_code}"


def _said(evidence: Evidence) -> str:
    return f"exit {evidence.exit_code}: {evidence.error or evidence.values.get('reason', 'no message')}"


# What an agent reported of work that was handed over


def report(
    intent: Intent,
    attempt: Attempt,
    record: Record,
    stop: Verdict | None,
    *,
    detached: bool = False,
    held: bool = False,
) -> Verdict:
    """Judge what an agent reported; ``requested`` again, with what is missing, if it is to be waited for.

    ``record`` keeps what its earlier reports showed. ``stop`` says that nothing may be enforced any more:
    what no report closes is then taken back, and parked or closed as ``stop`` has it. ``detached`` and
    ``held`` as in :func:`result_of`.
    """
    verdict = _reported(intent, attempt, record, detached=detached, held=held)
    if verdict.result is not Result.REQUESTED or stop is None:
        return verdict
    return Verdict(
        stop.result, stop.reason, f"the request is withdrawn, an agent that had begun goes on: {stop.detail}"
    )


def _reported(intent: Intent, attempt: Attempt, record: Record, *, detached: bool, held: bool) -> Verdict:
    if attempt.requested:
        why = f" ({attempt.trouble.reason}: {attempt.trouble.detail})" if attempt.trouble else ""
        return Verdict(Result.REQUESTED, "no_report", f"no report since it was asked{why}")
    if attempt.enforced:
        return _reported_enforcing(intent, attempt, record, detached=detached)
    if attempt.before is None:
        return _reported_trouble(attempt, record)
    if (mistaken := _elsewhere(intent, attempt.before)) is not None:
        return mistaken
    shown = record.before is not None and record.committed
    match attempt.before.finding:
        case Finding.BUSY:
            return _busy(attempt.before, record)
        case Finding.DESIRED if not shown:
            return Verdict(
                Result.NOTHING_TO_DO, None, "the agent found the desired state and changed nothing"
            )
        case Finding.DESIRED if record.before is not None and "seen_by" not in record.before.values:
            return _completed(intent, record.before, attempt.before, record)
        case Finding.DESIRED:
            detail = "the fault was reported and is gone, but no report shows what was enforced"
            return Verdict(Result.UNVERIFIED, "no_evidence", detail)
        case Finding.LEAVE_ALONE | Finding.ERROR if shown:
            return Verdict(Result.UNVERIFIED, "check_failed", _said(attempt.before))
        case Finding.LEAVE_ALONE:
            return Verdict(Result.REFUSED, *_no(attempt.before))
        case Finding.ERROR:
            return Verdict(Result.FAILED, "script_error", _said(attempt.before))
        case _ if intent.source.kind == SILENCE:
            return _goes_on(intent, attempt.before)
        case _ if attempt.asked is not Action.CHECK:
            return Verdict(
                Result.REQUESTED, "not_enforced", "the agent sees the fault and has not enforced yet"
            )
        case _ if record.committed:
            unproved = f"the agent still sees the fault; {_NOT_PROVED}"
            verdict = _still_there(intent, attempt.before, record, held)
            return verdict or Verdict(Result.FAILED, "not_enforced", unproved)
        case _:
            return Verdict(Result.PLANNED, None, f"the agent sees the fault; would {intent.action}")


def _reported_enforcing(intent: Intent, attempt: Attempt, record: Record, *, detached: bool) -> Verdict:
    """Judge a report that shows enforcing: it counts with output of ours, from the VM that is meant."""
    enforcement = attempt.enforcement
    if enforcement is None or enforcement.instance_id not in (None, intent.instance.instance_id):
        return Verdict(
            Result.UNVERIFIED, "no_evidence", "what was enforced does not name the VM that is meant"
        )
    if enforcement.finding is Finding.DESIRED and not enforcement.values:
        return Verdict(Result.UNVERIFIED, "no_evidence", "the report carries no output of what was enforced")
    if attempt.after is None and enforcement.finding is Finding.ERROR:
        return Verdict(Result.UNVERIFIED, "script_error", _said(enforcement))
    return _after_enforcing(intent, attempt, record, detached=detached)


def _reported_trouble(attempt: Attempt, record: Record) -> Verdict:
    """Judge a report that shows nothing of the VM."""
    trouble = attempt.trouble or Trouble(transient=True, reason="no_report")
    if trouble.transient:
        return Verdict(Result.REQUESTED, trouble.reason, trouble.detail)
    if record.committed and record.before is not None:
        return Verdict(Result.UNVERIFIED, trouble.reason, trouble.detail)
    result = Result.SKIPPED if trouble.reason == "not_running" else Result.FAILED
    return Verdict(result, trouble.reason, trouble.detail)
