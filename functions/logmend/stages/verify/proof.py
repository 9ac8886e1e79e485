"""What evidence proves, and what each finding means, for attempts and reports alike. Pure."""

from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Record
from logmend.model.values import Attempt, Evidence, Intent, Verdict
from logmend.outcome.reasons import ABOUT, About

TAKEN_BACK = "line_goes_on"
NOT_PROVED = "an attempt had been committed, but nothing shows that it began to enforce"


def marked(record: Record, seen: Evidence) -> bool:
    """Return whether the VM's latest change is that of the last commit: it left the mark."""
    return record.mark is not None and seen.values.get("mark") == record.mark


def began(record: Record, seen: Evidence) -> bool:
    """Return whether enforcing is proved: by the mark, or by the script's word that it changed something."""
    told = record.enforcement
    changed = told is not None and told.finding is Finding.DESIRED and not unchanged(told)
    return changed or marked(record, seen)


def still_there(intent: Intent, seen: Evidence, record: Record, held: bool) -> Verdict | None:
    """Judge a fault that is seen after an attempt had been committed; None if an attempt is still to come.

    Only proof of enforcing makes it a failed fix. Otherwise the reason is a revert that came meanwhile, or
    the obstacle that kept us from knowing.
    """
    failed = Verdict(Result.FAILED, "still_faulty", "the check still sees the fault after enforcing")
    if marked(record, seen):
        return failed
    if held and intent.action is Action.ENFORCE:
        return Verdict(Result.SKIPPED, "reverted", "reverted before a check saw the result of enforcing")
    if began(record, seen):
        return failed
    if record.outcome is None or record.outcome.result is not Result.UNVERIFIED:
        return None
    why = record.outcome.reason or "no_evidence"
    return Verdict(Result.FAILED, why, f"the check still sees the fault; {NOT_PROVED}")


def unchanged(enforcement: Evidence) -> bool:
    """Return whether enforcing checked under its lock and found nothing to change."""
    return enforcement.values.get("changed") == "no"


def completed(intent: Intent, prior: Evidence, seen: Evidence, record: Record) -> Verdict:
    """Judge a clean check after an attempt had been committed: someone else may have repaired the VM."""
    if began(record, seen):
        return fixed(intent, f"{changes(prior, seen)}; an earlier attempt enforced", seen)
    return Verdict(Result.NOTHING_TO_DO, None, f"the check on the VM found the desired state; {NOT_PROVED}")


def busy(seen: Evidence, record: Record) -> Verdict:
    """Judge a VM that is busy now (103): nothing was learned, so its state stays as it was."""
    detail = f"the VM is busy with something else: {key_values(seen)}"
    if record.committed and record.outcome is not None and record.outcome.result is Result.UNVERIFIED:
        return Verdict(Result.UNVERIFIED, record.outcome.reason, detail)
    return Verdict(Result.PARKED, "busy", detail)


def goes_on(intent: Intent, seen: Evidence) -> Verdict:
    """Judge a verified fix that did not last, by the log and now by the VM itself."""
    fixed = f" at {intent.source.timestamp:%FT%TZ}" if intent.source.timestamp else ""
    detail = (
        f"fixed and verified{fixed}; the line continued, and the check sees the fault: {key_values(seen)}"
    )
    return Verdict(Result.FAILED, TAKEN_BACK, detail)


def after_enforcing(intent: Intent, attempt: Attempt, record: Record, *, detached: bool) -> Verdict:
    """Judge an attempt, or a report, in which enforcing may have begun."""
    enforcement = attempt.enforcement
    if enforcement is not None and enforcement.finding is Finding.LEAVE_ALONE:
        # It looked under its lock and changed nothing: that is its word, whatever a second check sees.
        reason, rest = reason_given(enforcement, "leave_alone")
        return Verdict(Result.REFUSED, reason, f"the enforcing script refused, and changed nothing{rest}")
    if enforcement is not None and enforcement.finding is Finding.BUSY:
        return Verdict(Result.PARKED, "busy", f"enforcing found the VM busy: {key_values(enforcement)}")
    if attempt.after is None:
        reason = attempt.trouble.reason if attempt.trouble else "no_second_check"
        why = f": {attempt.trouble.detail}" if attempt.trouble and attempt.trouble.detail else ""
        return Verdict(Result.UNVERIFIED, reason, f"enforced, but the second check did not run{why}")
    if attempt.before is None or attempt.before.finding is not Finding.FAULTY:
        return Verdict(Result.UNVERIFIED, "no_evidence", "enforced, but there is no record of the fault")
    if elsewhere(intent, attempt.after) is not None:
        return Verdict(Result.UNVERIFIED, "no_evidence", "the second check does not name the right VM")
    match attempt.after.finding:
        case Finding.DESIRED if enforcement is not None and unchanged(enforcement):
            if record.committed and began(record, attempt.after):
                return completed(intent, record.before or attempt.before, attempt.after, record)
            detail = (
                "the fault was gone when the enforcing script checked under its lock; nothing was changed"
            )
            return Verdict(Result.NOTHING_TO_DO, None, detail)
        case Finding.DESIRED:
            return fixed(intent, changes(attempt.before, attempt.after), attempt.after)
        case Finding.LEAVE_ALONE:
            reason, rest = reason_given(attempt.after, "leave_alone")
            detail = f"enforced, but the second check says to leave the VM alone{rest}"
            return Verdict(Result.UNVERIFIED, reason, detail)
        case Finding.BUSY if detached:  # with what was started, for all that can be seen
            return at_work()
        case Finding.BUSY:
            return Verdict(
                Result.UNVERIFIED, "busy", f"enforced; the VM is busy now: {key_values(attempt.after)}"
            )
        case Finding.ERROR if detached:  # what was started has ended already, and says why
            return ended(attempt.after)
        case Finding.ERROR:
            return Verdict(Result.UNVERIFIED, "check_failed", exit_and_error(attempt.after))
        case _:
            return still_faulty(attempt, detached=detached)


def still_faulty(attempt: Attempt, *, detached: bool) -> Verdict:
    """Judge an attempt after which the fault is still seen."""
    enforcement = attempt.enforcement
    if enforcement is not None and enforcement.finding is not Finding.DESIRED:
        return Verdict(Result.FAILED, "script_error", exit_and_error(enforcement))
    if detached:
        return at_work()
    return Verdict(Result.FAILED, "still_faulty", "enforced, but the check still sees the fault")


def ended(seen: Evidence) -> Verdict:
    """Judge an enforcement without success: the check says whether the fault came back or something broke."""
    still = seen.values.get("reason") == "still_faulty"
    return Verdict(Result.FAILED, "still_faulty" if still else "script_error", exit_and_error(seen))


def at_work() -> Verdict:
    """Return the verdict on work that was started and continues."""
    return Verdict(Result.REQUESTED, None, "started on the VM and still in progress; the tick checks again")


def fixed(intent: Intent, detail: str, after: Evidence) -> Verdict:
    """Return the result of a proved fix; ``lasts`` is how long it lasts, by the check."""
    lasts = after.values.get("lasts")
    detail += f"; lasts {lasts.replace('_', ' ')}" if lasts else ""
    return Verdict(Result.REVERTED if intent.action is Action.REVERT else Result.REMEDIATED, None, detail)


def elsewhere(intent: Intent, evidence: Evidence) -> Verdict | None:
    """Return a verdict if evidence comes from another VM, or does not say which VM it comes from.

    A no (exit 102) and an error need no name: they claim no success for any VM.
    """
    meant = intent.instance.instance_id
    if evidence.instance_id is not None and evidence.instance_id != meant:
        return Verdict(
            Result.FAILED,
            "wrong_instance",
            f"instance {evidence.instance_id} answered instead of {meant}",
        )
    if evidence.instance_id is None and evidence.finding in (Finding.DESIRED, Finding.FAULTY):
        reason, rest = reason_given(evidence, "no_evidence")
        return Verdict(Result.FAILED, reason, f"the VM's check did not say which instance it ran on{rest}")
    return None


def reason_and_detail(evidence: Evidence) -> tuple[str, str]:
    """Return why a check says to leave the VM alone, what it saw, and its complaint."""
    verdict = f" ({evidence.error})" if evidence.error else ""
    reason, rest = reason_given(evidence, "leave_alone")
    return reason, f"the check on the VM refuses: {key_values(evidence)}{verdict}{rest}"


def reason_given(evidence: Evidence, otherwise: str) -> tuple[str, str]:
    """Return the reason that a script on the VM gives: a word of its own, or one for what is seen there.

    A reason that only logmend may give is not accepted from a script on the VM, since it could call a person;
    it is returned for the detail instead.
    """
    reason = evidence.values.get("reason", otherwise)
    if ABOUT.get(reason) is About.LOGMEND or reason == TAKEN_BACK:
        return otherwise, f"; it gave {reason}, a reason that only logmend may give"
    return reason, ""


def changes(before: Evidence, after: Evidence) -> str:
    """Return what differs between two pieces of evidence."""
    changed = [
        f"{name} {before.values[name]} → {value}"
        for name, value in after.values.items()
        if name in before.values and before.values[name] != value and name != "mark"
    ]
    return ", ".join(changed) or "fault seen before, not seen after"


def key_values(evidence: Evidence) -> str:
    """Return what a script printed, as ``key=value`` words."""
    told = [
        f"{name}={value}"
        for name, value in evidence.values.items()
        if name not in ("instance_id", "reason", "mark")
    ]
    return " ".join(told) or f"exit {evidence.exit_code}"


def exit_and_error(evidence: Evidence) -> str:
    """Return a script's exit code and its last output."""
    return f"exit {evidence.exit_code}: {evidence.error or evidence.values.get('reason', 'no message')}"
