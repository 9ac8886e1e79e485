"""Make of a judged attempt what it leaves behind: outcome, next look, counters, approval, follow-up. Pure.

Part of the pipeline: it joins what verify said with what decide rules and how record writes it down.
"""

import hashlib
from datetime import datetime

from logmend import silence
from logmend.errors import Permanent
from logmend.ledger import Conclusion, Work
from logmend.model.enums import Action, Finding, Mode, Origin, Result
from logmend.model.state import Admitted, Approval, Record, State
from logmend.model.struct import replace
from logmend.model.values import Attempt, InstanceFacts, Intent, Latency, Outcome, Trouble, Verdict
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages import act, decide, outcomes


def of_error(error: Exception, *, waiting: bool = False) -> Verdict:
    """Judge an error on the way to the VM: a VM that is gone is skipped, an unknown fact refused.

    ``waiting`` says that work is out: what could not be read now is read by the next tick.
    """
    trouble = act.trouble(error)
    if waiting and trouble.transient:
        return Verdict(Result.REQUESTED, trouble.reason, trouble.detail)
    if trouble.transient:
        return Verdict(Result.DEFERRED, trouble.reason, trouble.detail)
    if (no := without_facts(error)) is not None:
        return no
    return Verdict(Result.FAILED, trouble.reason, trouble.detail)


def without_facts(error: Exception) -> Verdict | None:
    """Say what it means that Compute has no facts of a VM, None if the error is about something else."""
    match error:
        case Permanent(reason="instance_gone"):
            return Verdict(Result.SKIPPED, error.reason, error.detail)
        case Permanent(reason="opt_in_unknown"):
            return Verdict(Result.REFUSED, error.reason, error.detail)
        case _:
            return None


def unknown_runbook(intent: Intent) -> Verdict:
    """Refuse an intent of a runbook that this version does not carry."""
    return Verdict(Result.REFUSED, "unknown_runbook", f"no runbook {intent.runbook}")


def overdue(said: Verdict, held: Admitted, runbook: Runbook, settings: Settings, now: datetime) -> Verdict:
    """Judge requested work that is out for too long; silence in the end is no failure of the VM."""
    asked_at = held.record.requested_at
    allowed = decide.request_deadline(runbook, held.record, settings)
    out = said.result is Result.REQUESTED and held.was is State.REQUESTED and asked_at is not None
    if not out or asked_at is None or now < asked_at + allowed:
        return said
    if said.reason is None:
        return Verdict(Result.FAILED, "still_faulty", f"not done {allowed} after it was started")
    return Verdict(Result.UNVERIFIED, said.reason, f"not closed {allowed} after it was asked: {said.detail}")


def attempt(
    held: Admitted,
    runbook: Runbook | None,
    facts: InstanceFacts | None,
    done: Attempt | None,
    said: Verdict,
    settings: Settings,
    now: datetime,
    latency: Latency,
) -> Conclusion | None:
    """Conclude an attempt; None where work is out, or not yet verified, and there is nothing new to say."""
    prior, intent = held.record, held.record.intent
    if said.result is Result.DEFERRED and held.was in (State.REQUESTED, State.UNVERIFIED):
        return None  # trouble on the way to a look says nothing of the VM: look again later
    said = _enforced_before(said, prior) if done is None else said
    due, tries, looks, approval = None, 0, 0, None
    busy_since = _busy_since(prior, done, said, now)
    if busy_since is not None and said.result is not Result.DEFERRED:
        begun = prior.committed or (done is not None and done.enforced)
        begun = begun and not _changed_nothing(held, done)
        said = decide.busy(intent, said, busy_since, settings, now, begun=begun)
    if said.result is Result.REQUESTED and held.was is State.REQUESTED:
        return None
    match said.result:
        case Result.DEFERRED:
            trouble = done.trouble if done and done.trouble else Trouble(True, said.reason or "", said.detail)
            tries = prior.tries + (1 if trouble.reason in decide.VM_TROUBLES else 0)
            acknowledged = held.was not in (None, State.WAITING)
            verdict = decide.retry(intent, tries, trouble, settings, now, acknowledged=acknowledged)
            if decide.no_route(trouble, settings):
                said = Verdict(Result.FAILED, "no_route", f"{said.detail}; OS Config is not enabled there")
            elif verdict is None:
                said = Verdict(Result.FAILED, said.reason, f"tried {tries} times: {said.detail}")
            else:
                said = verdict
                due = verdict.not_before
        case Result.PARKED:
            due = done.halted.not_before if done and done.halted else None
            due = due or (decide.busy_until(busy_since, now) if busy_since else now + decide.RECHECK)
        case Result.UNVERIFIED if busy_since is not None:
            looks, due = prior.looks, decide.busy_until(busy_since, now)
        case Result.UNVERIFIED:
            looks, due = prior.looks + 1, now + decide.RECHECK
            if looks > settings.unverified_looks:
                said = Verdict(
                    Result.FAILED, "unverifiable", f"{prior.looks} more looks gave no evidence: {said.detail}"
                )
        case Result.REQUESTED:
            looks, due = prior.looks, now + decide.RECHECK
        case Result.PLANNED if runbook is not None and _wants_approval(intent, said, settings):
            approval = _plan(intent, runbook, facts, done, settings, now)
        case _:
            pass
    return _conclusion(
        held,
        _outcome(held, said, runbook, facts, done, settings, now, latency, approval),
        done,
        settings,
        now,
        due=due,
        tries=tries,
        looks=looks,
        approval=approval,
        follow_up=_follow_up(intent, runbook, facts, said, settings, now),
        runbook=runbook,
        busy_since=busy_since,
    )


def _busy_since(prior: Record, done: Attempt | None, said: Verdict, now: datetime) -> datetime | None:
    """Say since when each look has found the VM busy; None if it is not. A look that failed says neither."""
    seen = (done.before, done.enforcement, done.after) if done else ()
    if said.result is Result.DEFERRED:
        return prior.busy_since
    if said.result not in (Result.PARKED, Result.UNVERIFIED):
        return None
    return (prior.busy_since or now) if any(each and each.finding is Finding.BUSY for each in seen) else None


def _changed_nothing(held: Admitted, done: Attempt | None) -> bool:
    """Say whether what was committed to is undone: the VM was busy, and nothing was changed (103).

    An agent's run replaces its report of the one before, so that nothing of an earlier run may be on record.
    """
    prior, told = held.record, None
    if done is not None:
        told = done.enforcement if done.enforced else done.before
    if done is None or told is None or told.finding is not Finding.BUSY:
        return False
    if done.asked not in (None, Action.CHECK) and held.was is State.REQUESTED:
        return prior.before is None and prior.enforcement is None
    return done.committed and not prior.committed


def _enforced_before(said: Verdict, prior: Record) -> Verdict:
    """Call a no that came before the look a missing second check where enforcement may have begun.

    Skipped and refused say that nothing was done. A VM that is gone has nothing left to look at.
    """
    begun = prior.committed and prior.before is not None
    if not begun or said.result not in (Result.SKIPPED, Result.REFUSED) or said.reason == "instance_gone":
        return said
    return Verdict(Result.UNVERIFIED, said.reason, f"enforced, and not looked at since: {said.detail}")


def _conclusion(
    held: Admitted,
    outcome: Outcome,
    done: Attempt | None,
    settings: Settings,
    now: datetime,
    *,
    due: datetime | None,
    tries: int,
    looks: int,
    approval: Approval | None,
    follow_up: Intent | None,
    runbook: Runbook | None,
    busy_since: datetime | None,
) -> Conclusion:
    listens = settings.confirm_silence and runbook is not None
    asked = done.asked if done and outcome.result is Result.REQUESTED else None
    return Conclusion(
        outcome=outcome,
        aftermath=decide.aftermath(held.record.intent, outcome, settings, now),
        due=due if not outcome.final else None,
        tries=tries,
        looks=looks,
        requested_at=now if _starts(held, outcome, asked) else None,
        asked=asked,
        reported=reported(held, done),
        failing=decide.sample(outcome, settings, changing=_changing(held.record, done)),
        approval=approval,
        follow_up=follow_up,
        work=work(held, done, outcome),
        busy_since=busy_since,
        uncommitted=_changed_nothing(held, done),
        longest=settings.lease,
        watch=silence.of_fix(held.record.intent, outcome, runbook, now) if listens and runbook else None,
    )


def work(held: Admitted, done: Attempt | None, outcome: Outcome) -> Work:
    """Say what became of enforcing, for the budget; where that cannot be seen, it may still be at work.

    An earlier attempt of the intent that died may have begun what this one knows nothing of.
    """
    prior, agent = held.record, done is not None and done.asked not in (None, Action.CHECK)
    if _changed_nothing(held, done):
        return Work.NONE
    if outcome.result is Result.REQUESTED or done is None:
        return Work.OUT if outcome.result is Result.REQUESTED else Work.UNKNOWN
    if agent and not done.requested and not done.enforced and outcome.result in _AGAIN:
        return Work.OUT  # the label may have been set
    if agent and held.was is State.REQUESTED:
        # Never none: a run that found nothing to do replaced the report of the one before, which may have.
        last = done.after if done.enforced else done.before
        return Work.OVER if last and last.finding is Finding.DESIRED else Work.UNKNOWN
    if not done.enforced:
        return Work.UNKNOWN if prior.committed or agent else Work.NONE
    if done.enforcement is None or (prior.requested_at is not None and prior.executor != done.executor):
        return Work.UNKNOWN
    changed_nothing = outcome.result is Result.REFUSED and not prior.committed
    return Work.NONE if changed_nothing else Work.OVER


_AGAIN = frozenset({Result.DEFERRED, Result.PARKED})


def _changing(prior: Record, done: Attempt | None) -> bool:
    """Say whether enforcing was committed to on a VM that was heard of since.

    An agent is asked unseen. Of one that never reported, nobody knows whether it runs at all.
    """
    committed = prior.committed or (done is not None and done.committed)
    heard = prior.before or prior.enforcement or (done and (done.before or done.enforcement))
    return committed and heard is not None


def reported(held: Admitted, done: Attempt | None) -> Attempt | None:
    """Give the attempt if it is what an agent reported of a request, or has the enforcing script's word."""
    if done is None or done.requested or _changed_nothing(held, done):
        return None
    return done if done.enforcement or (done.asked and held.was is State.REQUESTED) else None


def _starts(held: Admitted, outcome: Outcome, asked: Action | None) -> bool:
    """Say whether requested work began just now. Where it may change the VM, it began at the commit point."""
    if outcome.result is not Result.REQUESTED or asked not in (None, Action.CHECK):
        return False
    return held.record.requested_at is None or (asked is Action.CHECK and held.was is not State.RUNNING)


def _outcome(
    held: Admitted,
    said: Verdict,
    runbook: Runbook | None,
    facts: InstanceFacts | None,
    done: Attempt | None,
    settings: Settings,
    now: datetime,
    latency: Latency,
    approval: Approval | None,
) -> Outcome:
    outcome = outcomes.of_intent(
        held.record.intent,
        said,
        settings,
        now,
        runbook=runbook,
        number=held.record.attempt,
        attempt=done,
        prior=held.record,
        facts=facts,
        name=held.subject.name,
        approval=approval,
        latency=latency,
    )
    notes = decide.notes(held.record.intent, outcome, held.subject, facts, settings)
    return replace(outcome, notes=(*outcome.notes, *notes))


def _wants_approval(intent: Intent, said: Verdict, settings: Settings) -> bool:
    """Say whether a plan waits for a person: by the mode, or since it is not what was approved."""
    return said.reason == decide.DIFFERS or (settings.mode is Mode.APPROVE and intent.automatic)


def _plan(
    intent: Intent,
    runbook: Runbook,
    facts: InstanceFacts | None,
    done: Attempt | None,
    settings: Settings,
    now: datetime,
) -> Approval:
    """Make the plan that waits for a person, with an id that can be read out."""
    before = done.before if done else None
    return Approval(
        approval_id=hashlib.sha256(f"{intent.intent_id} {now.isoformat()}".encode()).hexdigest()[:12],
        intent=intent,
        before=before,
        created_at=now,
        expires_at=now + settings.approval_ttl,
        plan=decide.plan(intent, runbook, facts, before, settings),
    )


def _follow_up(
    intent: Intent,
    runbook: Runbook | None,
    facts: InstanceFacts | None,
    said: Verdict,
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
        approved=None,
    )
