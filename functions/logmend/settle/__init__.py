"""What an attempt leaves behind when it ends: outcome, next check, counters, approval, follow-up. Pure.

Part of the pipeline: it combines verify's verdict with decide's rules and builds the outcome.
"""

import hashlib
from datetime import datetime

from logmend import silence
from logmend.ledger import Conclusion
from logmend.model.enums import Mode, Result
from logmend.model.state import Approval
from logmend.model.struct import replace
from logmend.model.values import Intent, Outcome, Verdict
from logmend.settle.ending import Ending, closes, starts, work
from logmend.settle.verdicts import Settled, objected, of_error, settled, unknown_runbook, without_facts
from logmend.stages import act, decide, intents, outcomes

__all__ = ["Ending", "closes", "conclusion", "objected", "of_error", "unknown_runbook", "without_facts"]


def conclusion(end: Ending) -> Conclusion | None:
    """Return an attempt's conclusion; None if work is requested or unverified and there is nothing new."""
    if (last := settled(end)) is None:
        return None
    approval = _plan(end, last.verdict)
    outcome = _outcome(end, last, approval)
    asked = end.attempt.asked if end.attempt and outcome.result is Result.REQUESTED else None
    return Conclusion(
        outcome=outcome,
        aftermath=decide.aftermath(end.intent, outcome, end.settings),
        due=last.due if not outcome.final else None,
        tries=last.tries,
        looks=last.looks,
        requested_at=end.now if starts(end, outcome) else None,
        asked=asked,
        reported=end.reported,
        failing=decide.sample(outcome, end.settings, changing=end.changing),
        approval=approval,
        follow_up=_follow_up(end, last.verdict),
        work=work(end, outcome),
        busy_since=last.busy_since,
        uncommitted=end.changed_nothing,
        longest=end.settings.lease,
        watch=_watch(end, outcome),
    )


def _outcome(end: Ending, last: Settled, approval: Approval | None) -> Outcome:
    outcome = outcomes.of_intent(
        end.intent,
        replace(last.verdict, detail=last.verdict.detail + end.left),
        end.settings,
        end.now,
        runbook=end.runbook,
        number=end.prior.attempt,
        attempt=end.attempt,
        prior=end.prior,
        facts=end.facts,
        subject=end.held.subject,
        approval=approval,
        latency=end.latency,
    )
    notes = decide.notes(end.intent, outcome, end.held.subject, end.facts, end.settings)
    return replace(outcome, notes=(*outcome.notes, *notes))


def _plan(end: Ending, verdict: Verdict) -> Approval | None:
    """Return the plan for a person to approve, with an id short enough to read out; None if there is none.

    A plan waits because of the mode, or because it differs from what was approved.
    """
    waits = verdict.reason == decide.DIFFERS or (end.settings.mode is Mode.APPROVE and end.intent.automatic)
    if verdict.result is not Result.PLANNED or end.runbook is None or not waits:
        return None
    before = end.attempt.before if end.attempt else None
    name = f"{end.intent.intent_id} {end.now.isoformat()}"
    return Approval(
        approval_id=hashlib.sha256(name.encode()).hexdigest()[:12],
        intent=replace(end.intent, overrides=end.held.subject.held_by),  # the plan is newer than that revert
        before=before,
        created_at=end.now,
        expires_at=end.now + end.settings.approval_ttl,
        plan=decide.plan(end.intent, end.runbook, end.facts, before, end.settings),
        name=end.facts.name if end.facts else None,
        labels=end.facts.labels if end.facts else {},
    )


def _watch(end: Ending, outcome: Outcome) -> tuple[Intent, datetime] | None:
    """Return the intent that looks for the line after a fix, and when; None unless the operator opted in."""
    if end.runbook is None or not end.settings.confirm_silence:
        return None
    return silence.of_fix(end.intent, outcome, end.runbook, end.now)


def _follow_up(end: Ending, verdict: Verdict) -> Intent | None:
    runbook, facts, intent = end.runbook, end.facts, end.intent
    cause = end.attempt.diagnosis if end.attempt else None
    if runbook is None:
        return None
    if act.gives_way(verdict) and (first := cause.runbook if cause else runbook.after) is not None:
        return intents.goes_first(intent, first, end.now)
    if intent.back_to or verdict.result is not Result.REMEDIATED or facts is None:
        return None  # the runbook that let it go first comes next: the ledger queues it
    if runbook.follow_up is None or not decide.wants_follow_up(runbook, facts, end.settings):
        return None
    return intents.follow_up(intent, runbook.follow_up, end.now)
