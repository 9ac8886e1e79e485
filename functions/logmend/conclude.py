"""Make of a judged attempt what it leaves behind: outcome, next look, counters, approval, follow-up. Pure.

Part of the pipeline: it joins what verify said with what decide rules and how record writes it down.
"""

import hashlib
from dataclasses import replace
from datetime import datetime

from logmend import act, decide, record
from logmend.ledger import Conclusion
from logmend.model import (
    Attempt,
    InstanceFacts,
    Intent,
    Judgement,
    Latency,
    Mode,
    Origin,
    Outcome,
    Park,
    Refuse,
    Result,
    Skip,
    Trouble,
)
from logmend.records import Admitted, Approval, State
from logmend.runbook import Runbook
from logmend.settings import Settings


def of_error(error: Exception) -> Judgement:
    """Judge an error on the way to the VM: a VM that is gone is skipped, an unknown fact refused."""
    trouble = act.trouble(error)
    if trouble.transient:
        return Judgement(Result.DEFERRED, trouble.reason, trouble.detail)
    if trouble.reason == "instance_gone":
        return Judgement.of(Skip(trouble.reason, trouble.detail))
    if trouble.reason == "opt_in_unknown":
        return Judgement.of(Refuse(trouble.reason, trouble.detail))
    return Judgement(Result.FAILED, trouble.reason, trouble.detail)


def unknown_runbook(intent: Intent) -> Refuse:
    """Refuse an intent of a runbook that this version does not carry."""
    return Refuse("unknown_runbook", f"no runbook {intent.runbook}")


def attempt(
    held: Admitted,
    runbook: Runbook | None,
    facts: InstanceFacts | None,
    done: Attempt | None,
    said: Judgement,
    settings: Settings,
    now: datetime,
    latency: Latency,
) -> Conclusion | None:
    """Conclude an attempt; None where work is still out, or not yet verified, and nothing new is to be said."""
    prior, intent = held.record, held.record.intent
    if said.result is Result.DEFERRED and held.was in (State.REQUESTED, State.UNVERIFIED):
        return None  # trouble on the way to a look says nothing of the VM: look again later
    due, tries, looks, approval = None, 0, 0, None
    match said.result:
        case Result.DEFERRED:
            tries = prior.tries + 1
            trouble = done.trouble if done and done.trouble else Trouble(True, said.reason or "", said.detail)
            acknowledged = held.was not in (None, State.WAITING)
            verdict = decide.retry(intent, tries, trouble, settings, now, acknowledged=acknowledged)
            if verdict is None:
                said = Judgement(Result.FAILED, said.reason, f"tried {tries}x: {said.detail}")
            else:
                said = Judgement.of(verdict)
                due = verdict.not_before if isinstance(verdict, Park) else None
        case Result.PARKED:
            due = done.halted.not_before if done and isinstance(done.halted, Park) else None
            due = due or now + decide.RECHECK
        case Result.UNVERIFIED:
            looks, due = prior.looks + 1, now + decide.RECHECK
            if looks > settings.unverified_looks:
                said = Judgement(
                    Result.FAILED, "unverifiable", f"{prior.looks} more looks gave no evidence: {said.detail}"
                )
        case Result.REQUESTED:
            due = now + decide.RECHECK
            if held.was is State.REQUESTED:
                allowed = decide.request_deadline(runbook, prior, settings)
                if prior.requested_at is None or now < prior.requested_at + allowed:
                    return None
                said = Judgement(Result.FAILED, "still_faulty", f"not done {allowed} after it was started")
        case Result.PLANNED if settings.mode is Mode.APPROVE and intent.automatic:
            approval = _plan(intent, done, settings, now)
        case _:
            pass
    return _conclusion(
        held,
        _outcome(held, said, runbook, facts, done, settings, now, latency, approval),
        settings,
        now,
        due=due,
        tries=tries,
        looks=looks,
        approval=approval,
        follow_up=_follow_up(intent, runbook, facts, said, settings, now),
    )


def _conclusion(
    held: Admitted,
    outcome: Outcome,
    settings: Settings,
    now: datetime,
    *,
    due: datetime | None,
    tries: int,
    looks: int,
    approval: Approval | None,
    follow_up: Intent | None,
) -> Conclusion:
    return Conclusion(
        outcome=outcome,
        aftermath=decide.aftermath(held.record.intent, outcome, settings, now),
        due=due if not outcome.final else None,
        tries=tries,
        looks=looks,
        requested_at=now if outcome.result is Result.REQUESTED and held.record.requested_at is None else None,
        failing=decide.sample(outcome, settings),
        approval=approval,
        follow_up=follow_up,
    )


def _outcome(
    held: Admitted,
    said: Judgement,
    runbook: Runbook | None,
    facts: InstanceFacts | None,
    done: Attempt | None,
    settings: Settings,
    now: datetime,
    latency: Latency,
    approval: Approval | None,
) -> Outcome:
    notes = decide.notes(held.record.intent, said, held.subject, facts, settings)
    outcome = record.of_intent(
        held.record.intent,
        said,
        runbook,
        settings,
        now,
        number=held.record.attempt,
        attempt=done,
        prior=held.record,
        facts=facts,
        approval=approval,
        notes=notes,
        latency=latency,
    )
    return replace(outcome, instance_name=outcome.instance_name or held.subject.name)


def _plan(intent: Intent, done: Attempt | None, settings: Settings, now: datetime) -> Approval:
    """Make the plan that waits for a person, with an id that can be read out."""
    return Approval(
        approval_id=hashlib.sha256(f"{intent.intent_id} {now.isoformat()}".encode()).hexdigest()[:12],
        intent=intent,
        before=done.before if done else None,
        created_at=now,
        expires_at=now + settings.approval_ttl,
    )


def _follow_up(
    intent: Intent,
    runbook: Runbook | None,
    facts: InstanceFacts | None,
    said: Judgement,
    settings: Settings,
    now: datetime,
) -> Intent | None:
    if said.result is not Result.REMEDIATED or runbook is None or facts is None:
        return None
    if runbook.follow_up is None or not decide.wants_follow_up(runbook, facts, settings):
        return None
    return replace(
        intent,
        intent_id=f"f-{intent.intent_id}",
        runbook=runbook.follow_up,
        origin=Origin.FOLLOW_UP,
        created_at=now,
        event_time=None,
        line_time=None,
        message_id=None,
        variant=None,
        repeats=False,
        approval_id=None,
    )
