"""Say what an attempt amounts to. The only place that may say ``remediated`` or ``reverted``.

A fix counts when a read-only check before it saw the fault and the same check after it did not, both on
the VM that is meant. Everything else has another name.
"""

from logmend.model import (
    Action,
    Attempt,
    Evidence,
    Finding,
    Intent,
    Judgement,
    Proceed,
    Result,
)


def attempt(intent: Intent, done: Attempt, prior: Evidence | None, *, detached: bool = False) -> Judgement:
    """Judge an attempt. ``prior`` is the evidence on which an earlier one of this intent committed itself.

    With ``prior``, enforcement may have begun before, so that a clean look now completes the fix.
    ``detached`` says that the runbook's enforcement goes on after the attempt.
    """
    if done.requested:
        return Judgement(Result.REQUESTED, None, f"handed over by {done.executor}; the tick reads the report")
    if done.enforced:
        return _after_enforcing(intent, done, detached=detached)
    if done.trouble is not None:
        if prior is not None:
            return Judgement(Result.UNVERIFIED, done.trouble.reason, done.trouble.detail)
        result = Result.DEFERRED if done.trouble.transient else Result.FAILED
        return Judgement(result, done.trouble.reason, done.trouble.detail)
    if done.before is None:
        return Judgement(Result.FAILED, "no_evidence", "the attempt brought no evidence")
    if (mistaken := _elsewhere(intent, done.before)) is not None:
        return mistaken
    match done.before.finding:
        case Finding.DESIRED if prior is not None:
            return _fixed(intent, f"{_changes(prior, done.before)}; an earlier attempt enforced")
        case Finding.DESIRED:
            return Judgement(Result.NOTHING_TO_DO, None, "the check on the VM found the desired state")
        case Finding.ERROR if prior is not None and detached:
            return Judgement(Result.FAILED, "script_error", _said(done.before))
        case Finding.LEAVE_ALONE | Finding.ERROR if prior is not None:
            return Judgement(Result.UNVERIFIED, "check_failed", _said(done.before))
        case Finding.LEAVE_ALONE:
            return Judgement(Result.REFUSED, *_no(done.before))
        case Finding.ERROR:
            return Judgement(Result.FAILED, "script_error", _said(done.before))
        case Finding.FAULTY if done.halted is not None:
            halted = done.halted
            if isinstance(halted, Proceed):
                raise TypeError("an attempt that may proceed is not halted")
            return Judgement.of(halted)
        case Finding.FAULTY if prior is not None and detached:
            return _at_work()
        case Finding.FAULTY if prior is not None:
            return Judgement(Result.FAILED, "still_faulty", "the fault is still seen after enforcing")
        case _:
            return Judgement(Result.PLANNED, None, f"would {intent.action}: {_values(done.before)}")


def _after_enforcing(intent: Intent, done: Attempt, *, detached: bool) -> Judgement:
    enforcement = done.enforcement
    if enforcement is not None and enforcement.finding is Finding.LEAVE_ALONE:
        # It looked under its lock and changed nothing: that is its word, whatever a second check sees.
        reason = enforcement.values.get("reason", "leave_alone")
        return Judgement(Result.REFUSED, reason, "enforcing itself said no, and changed nothing")
    if done.after is None:
        reason = done.trouble.reason if done.trouble else "no_second_check"
        detail = done.trouble.detail if done.trouble else ""
        return Judgement(
            Result.UNVERIFIED, reason, f"enforced, but the second check did not run. {detail}".strip()
        )
    if done.before is None or done.before.finding is not Finding.FAULTY:
        return Judgement(Result.UNVERIFIED, "no_evidence", "enforced without the fault on record")
    if _elsewhere(intent, done.after) is not None:
        return Judgement(
            Result.UNVERIFIED, "no_evidence", "the second check does not name the VM that is meant"
        )
    match done.after.finding:
        case Finding.DESIRED:
            return _fixed(intent, _changes(done.before, done.after))
        case Finding.LEAVE_ALONE:
            reason = done.after.values.get("reason", "leave_alone")
            return Judgement(
                Result.UNVERIFIED, reason, "enforced, but the second check says to leave the VM alone"
            )
        case Finding.ERROR:
            return Judgement(Result.UNVERIFIED, "check_failed", _said(done.after))
        case _:
            return _still_faulty(done, detached=detached)


def _still_faulty(done: Attempt, *, detached: bool) -> Judgement:
    enforcement = done.enforcement
    if enforcement is not None and enforcement.finding is not Finding.DESIRED:
        return Judgement(Result.FAILED, "script_error", _said(enforcement))
    if detached:
        return _at_work()
    return Judgement(Result.FAILED, "still_faulty", "enforced, and the fault is still seen")


def _at_work() -> Judgement:
    return Judgement(Result.REQUESTED, None, "started on the VM and still at work; the tick looks again")


def _fixed(intent: Intent, detail: str) -> Judgement:
    return Judgement(Result.REVERTED if intent.action is Action.REVERT else Result.REMEDIATED, None, detail)


def _elsewhere(intent: Intent, evidence: Evidence) -> Judgement | None:
    """Say so where evidence does not come from the VM that is meant, or does not say where from.

    A no (exit 102) and an error need no name: they claim nothing good of any VM.
    """
    meant = intent.instance.instance_id
    if evidence.instance_id is not None and evidence.instance_id != meant:
        return Judgement(
            Result.FAILED,
            "wrong_instance",
            f"instance {evidence.instance_id} answered where {meant} was meant",
        )
    if evidence.instance_id is None and evidence.finding in (Finding.DESIRED, Finding.FAULTY):
        return Judgement(Result.FAILED, "no_evidence", "the VM's check did not say which instance it ran on")
    return None


def _no(evidence: Evidence) -> tuple[str, str]:
    """Give the reason of a check that says to leave the VM alone, and what it saw."""
    return evidence.values.get("reason", "leave_alone"), f"the check on the VM says no: {_values(evidence)}"


def _changes(before: Evidence, after: Evidence) -> str:
    """Say what differs between two pieces of evidence."""
    changed = [
        f"{name} {before.values[name]} → {value}"
        for name, value in after.values.items()
        if name in before.values and before.values[name] != value
    ]
    return ", ".join(changed) or "fault seen before, not seen after"


def _values(evidence: Evidence) -> str:
    told = [
        f"{name}={value}" for name, value in evidence.values.items() if name not in ("instance_id", "reason")
    ]
    return " ".join(told) or f"exit {evidence.exit_code}"


def _said(evidence: Evidence) -> str:
    return f"exit {evidence.exit_code}: {evidence.error or evidence.values.get('reason', 'no message')}"
