"""Make outcomes for events that go no further, for intents, and for what happens without either. Pure."""

from collections.abc import Iterator
from datetime import datetime

from logmend import __version__, relay
from logmend.model.enums import Result
from logmend.model.state import Acts, Approval, Lease, Record, Repeats, Subject, View
from logmend.model.struct import replace
from logmend.model.values import (
    Attempt,
    Diagnosis,
    InstanceFacts,
    Intent,
    Latency,
    Lineage,
    LogEntry,
    Outcome,
    Undecodable,
    Verdict,
)
from logmend.outcome.reasons import FIRST_NEEDS_HUMAN, IRREVERSIBLE
from logmend.runbook import Runbook, diagnosis
from logmend.settings import Settings
from logmend.stages.intake import Intake
from logmend.stages.intents import event_id, source


def of_waiting(record: Record, settings: Settings, now: datetime) -> Outcome:
    """Return the outcome of an intent that waits in the ledger and was never started."""
    verdict = Verdict(Result.PARKED, "retry", "written; the tick processes it")
    return of_intent(record.intent, verdict, settings, now, number=record.attempt, prior=record)


def of_act(acts: Acts, number: int, settings: Settings) -> Outcome:
    """Return the outcome of one use of a control. It is the same whichever process makes it."""
    act = acts.acts[number]
    return Outcome(
        result=Result.CONTROLLED,
        reason=act.reason,
        detail=act.detail,
        at=act.at,
        outcome_id=f"c-{acts.acts_id}-{number}",
        mode=settings.mode,
        version=__version__,
        runbook=act.runbook,
        instance=act.instance,
        attempt=0,
        intent_id=act.intent_id,
        requested_by=act.by,
        approval_id=act.approval_id,
        owner=act.owner,
    )


def of_replayed(waiting: Record, replayed: Outcome) -> Outcome:
    """Return the last outcome of an abandoned message, made from its replay's outcome."""
    intent = waiting.intent
    reason = f": {replayed.reason}" if replayed.reason else ""
    return Outcome(
        result=Result.SKIPPED,
        reason="replayed",
        detail=f"replayed as {replayed.intent_id}, {replayed.result}{reason}",
        at=replayed.at,
        outcome_id=f"{intent.intent_id}-{waiting.attempt}-{Result.SKIPPED}",
        mode=replayed.mode,
        version=replayed.version,
        runbook=intent.runbook,
        runbook_digest=replayed.runbook_digest,
        variant=intent.variant,
        action=intent.action,
        instance=intent.instance,
        instance_name=replayed.instance_name,
        attempt=waiting.attempt,
        intent_id=intent.intent_id,
        message_id=intent.message_id,
        source=intent.source,
        requested_by=replayed.requested_by,
    )


COUNTED = "counted, without an entry of its own"
"""The answer to a delivery that repeats what is already recorded."""
APPROXIMATE = "approximate: one process counted it, and an event that came twice counts twice"
"""Note on a count that is not kept in the ledger."""


def counted(outcome: Outcome) -> Outcome:
    """Return the outcome that answers a counted event."""
    return replace(outcome, detail=relay.joined(outcome.detail, COUNTED))


def of_tally(latest: Outcome, count: int, first_at: datetime, *notes: str) -> Outcome:
    """Return the outcome that counts many repeats; ``latest`` is the latest of them.

    Each repeat is in one count only, so the latest one's id can name the count.
    """
    counted = f"{count} more like the one recorded before, from {first_at:%FT%TZ} to {latest.at:%FT%TZ}"
    return replace(
        latest,
        outcome_id=f"n-{latest.outcome_id}",
        detail=relay.joined(latest.detail, counted),
        intent_id=None,
        count=count,
        first_at=first_at,
        notes=(*latest.notes, *notes),
    )


def of_repeats(repeats: Repeats, settings: Settings) -> Iterator[Outcome]:
    """Yield outcomes for the repeats of one day of a VM, recorded or not, for readers of the ledger alone."""
    for word, tally in repeats.tallies.items():
        if tally.ids:
            result, _, reason = word.partition(" ")
            yield Outcome(
                result=Result(result),
                reason=reason or None,
                detail=f"{len(tally.ids)} counted, without entries of their own",
                at=tally.heard,
                outcome_id=f"n-{repeats.instance}-{repeats.runbook}-{repeats.day}-{word}",
                mode=settings.mode,
                version=__version__,
                runbook=repeats.runbook,
                instance=repeats.instance,
                count=len(tally.ids),
                first_at=tally.heard,
            )


def of_event(read: Intake, verdict: Verdict, settings: Settings, now: datetime) -> Outcome:
    """Return the outcome of an event that never became an intent.

    The event is not in the ledger, so the outcome has the message's time: a redelivery gives the same
    outcome. If the event is rejected or unmatched, the outcome names no runbook and no VM.
    """
    delivery, event = read.delivery, None if isinstance(read.event, Undecodable) else read.event
    nameless = verdict.result in (Result.REJECTED, Result.UNMATCHED)
    shown = Intake(delivery, read.event) if nameless else read
    relayed = ""
    if shown.runbook is not None and isinstance(event, LogEntry) and (line_host := relay.host(event)):
        relayed = relay.note([line_host], relay.shipped_by(event))
    at = delivery.publish_time or (source(event).timestamp if event else None) or now
    return Outcome(
        result=verdict.result,
        reason=verdict.reason,
        detail=relay.joined(verdict.detail, relayed),
        at=at,
        outcome_id=f"{event_id(delivery)}-0-{verdict.result}",
        mode=settings.mode,
        version=__version__,
        runbook=shown.runbook.name if shown.runbook else None,
        runbook_digest=shown.runbook.digest if shown.runbook else None,
        variant=shown.variant.name if shown.variant else None,
        instance=shown.instance,
        attempt=0,
        message_id=delivery.message_id,
        source=source(event) if event else None,
        replay_of=delivery.replay_of,
        diagnosis=_cause_of_line(shown),
    )


def _cause_of_line(read: Intake) -> Diagnosis | None:
    """Return the cause that the entry itself names; another project's log is not believed about the VM."""
    if read.runbook is None or read.instance is None or not isinstance(read.event, LogEntry):
        return None
    own = read.event.log_name.startswith(f"projects/{read.instance.project_id}/logs/")
    return diagnosis.of_line(read.runbook, read.variant) if own else None


def of_intent(
    intent: Intent,
    verdict: Verdict,
    settings: Settings,
    now: datetime,
    *,
    runbook: Runbook | None = None,
    number: int = 0,
    attempt: Attempt | None = None,
    prior: Record | None = None,
    facts: InstanceFacts | None = None,
    subject: Subject | None = None,
    approval: Approval | None = None,
    notes: tuple[str, ...] = (),
    latency: Latency | None = None,
) -> Outcome:
    """Return an outcome of an intent. ``number`` counts attempts from 1; 0 means that it was never admitted.

    ``subject`` is what the ledger knows about the VM, used if there are no facts. If an earlier attempt
    passed the commit point, the evidence from before is that attempt's.
    """
    name = subject.name if subject else None
    before = (
        prior.before if prior and prior.committed and prior.before else attempt.before if attempt else None
    )
    after = attempt.after if attempt else None
    if attempt and after is None and before is not attempt.before:
        after = attempt.before
    return Outcome(
        result=verdict.result,
        reason=verdict.reason,
        detail=relay.joined(verdict.detail, relay.of_intent(intent, facts, name)),
        at=now,
        outcome_id=_named(intent, number, verdict.result, now),
        mode=settings.mode,
        version=__version__,
        runbook=intent.runbook,
        runbook_digest=runbook.digest if runbook else None,
        variant=intent.variant,
        action=intent.action,
        executor=attempt.executor if attempt else prior.executor if prior else None,
        instance=intent.instance,
        instance_name=facts.name if facts else name,
        attempt=number,
        before=before,
        after=after,
        intent_id=intent.intent_id,
        message_id=intent.message_id,
        source=intent.source,
        replay_of=intent.replay_of,
        requested_by=intent.requested_by,
        why=intent.why,
        passes=intent.passes,
        approval_id=approval.approval_id if approval else intent.approval_id,
        approval_expires_at=approval.expires_at if approval else None,
        notes=(IRREVERSIBLE, *notes) if runbook and runbook.irreversible else notes,
        latency=latency or Latency(),
        host_key=attempt.login.host_key if attempt and attempt.login else None,
        credential=attempt.login.credential if attempt and attempt.login else None,
        owner=settings.owner_of(facts.labels) if facts else subject.owner if subject else None,
        labels=settings.labels_of(facts.labels if facts else subject.labels if subject else {}),
        committed=bool((prior and prior.committed) or (attempt and attempt.committed)),
        diagnosis=attempt.diagnosis if attempt else None,
        lineage=facts.lineage if facts else Lineage(),
    )


def of_turned(
    intent: Intent, verdict: Verdict, view: View, runbook: Runbook | None, settings: Settings, now: datetime
) -> Outcome:
    """Return the outcome of an intent that the ledger did not admit."""
    first = verdict.reason == "needs_human" and not view.subject.human_told
    return of_intent(
        intent,
        verdict,
        settings,
        now,
        runbook=runbook,
        number=view.record.attempt if view.record else 0,
        prior=view.record,
        subject=view.subject,
        notes=(FIRST_NEEDS_HUMAN,) if first else (),
    )


def interrupted(record: Record, lease: Lease, settings: Settings) -> Outcome:
    """Return the outcome of an attempt that died. Its time is the end of its lease, whenever it is found."""
    detail = f"the attempt of {lease.owner} did not end before {lease.expires_at:%FT%TZ}"
    verdict = Verdict(Result.INTERRUPTED, None, detail)
    number = max(record.attempt - 1, 1)
    return of_intent(record.intent, verdict, settings, lease.expires_at, number=number, prior=record)


def _named(intent: Intent, number: int, result: Result, now: datetime) -> str:
    """Return an outcome's id. An intent parked again before its next attempt gets another one."""
    again = f"-{now:%Y%m%dT%H%M%S%fZ}" if result is Result.PARKED else ""
    return f"{intent.intent_id}-{number}-{result}{again}"
