"""Make intents for events and operators, and from earlier intents. No other module makes any."""

import hashlib
import re
from datetime import datetime

from logmend import relay
from logmend.model.enums import Action, Origin, Result
from logmend.model.state import Approval, By
from logmend.model.struct import replace
from logmend.model.values import (
    Delivery,
    Incident,
    InstanceRef,
    Intent,
    LogEntry,
    Outcome,
    Source,
    Verdict,
)
from logmend.runbook import Runbook, Variant

FIRST_FAILED = "first_failed"
"""Reason of an intent that does not begin because the runbook that went first did not help."""
SILENCE = "silence"
"""Kind of source for a check that logmend itself makes after a fix (:mod:`logmend.silence`)."""
REPLAY_ID = "logmend_replay_id"
"""Attribute in which ``logmend replay`` names the event it republishes, the same each time."""
_LONGEST = 1024
"""Characters, at most: a log id has up to 511, an insertId 512 (cloud.google.com/logging/docs/reference)."""
_REPLAY_ID = re.compile(r"[0-9a-f]{40}")


def event_id(delivery: Delivery) -> str:
    """Return an event's id for ledger and outcomes: ``m-MESSAGE_ID``, or ``r-…`` for a replayed one.

    A replay interrupted between publishing and acknowledging publishes the same event again, in a message
    with a different id; both get the same id here. No attribute can give a message another message's
    ``m-…``.
    """
    replay = delivery.attributes.get(REPLAY_ID, "")
    return f"r-{replay}" if _REPLAY_ID.fullmatch(replay) else f"m-{delivery.message_id}"


def source(event: LogEntry | Incident) -> Source:
    """Return where an event came from. Names longer than any of Google's are cut."""
    at = own_time(event)
    match event:
        case LogEntry():
            return Source("log_entry", _short(event.log_name), _short(event.insert_id), at)
        case Incident():
            return Source("incident", timestamp=at, incident_id=_short(event.incident_id))


def own_time(event: LogEntry | Incident) -> datetime | None:
    """Return when an event happened according to Google; None if it does not say."""
    return event.timestamp or event.receive_timestamp if isinstance(event, LogEntry) else event.started_at


def bare(event: LogEntry | Incident) -> LogEntry | Incident:
    """Return an event with only what an intent needs once VM and runbook are known, without its content."""
    if isinstance(event, Incident):
        return replace(event, raw={}, incident_id=_short(event.incident_id))
    return LogEntry(
        raw={"labels": relay.agents_labels(event) if event.host else {}},
        log_name=event.log_name[:_LONGEST],
        insert_id=_short(event.insert_id),
        timestamp=event.timestamp,
        receive_timestamp=event.receive_timestamp,
        resource_type="",
        resource_labels={},
        line_time=event.line_time,
        host=event.host,
    )


def _short(name: str | None) -> str | None:
    return name and name[:_LONGEST]


def of_event(
    delivery: Delivery,
    event: LogEntry | Incident,
    runbook: Runbook,
    variant: Variant | None,
    instance: InstanceRef,
    now: datetime,
) -> Intent:
    """Return the intent to remediate the VM that an event names, with the runbook that matched.

    Only a fresh entry repeats itself, if its runbook says so; incidents and replayed entries do not.
    """
    entry = event if isinstance(event, LogEntry) else None
    said = source(event)
    return Intent(
        intent_id=_intent_id(delivery, runbook, instance),
        runbook=runbook.name,
        action=Action.ENFORCE,
        instance=instance,
        origin=Origin.LOG_ENTRY if entry else Origin.INCIDENT,
        source=said,
        created_at=now,
        event_time=said.timestamp or delivery.publish_time,
        line_time=entry.line_time if entry else None,
        line_host=relay.host(entry) if entry else None,
        shipped_by=relay.shipped_by(entry) if entry and entry.host else None,
        message_id=delivery.message_id,
        variant=variant.name if variant else None,
        repeats=entry is not None and runbook.repeats is not None and delivery.replay_of is None,
        replay_of=delivery.replay_of,
    )


def of_operator(
    action: Action,
    instance: InstanceRef,
    runbook: str,
    by: str | None,
    now: datetime,
    *,
    intent_id: str,
    look_only: bool = False,
    overrides: str | None = None,
    passes: tuple[str, ...] = (),
    why: str = "",
    at_most: int | None = None,
) -> Intent:
    """Return a person's intent; :class:`~logmend.model.values.Intent` says what it may pass."""
    return Intent(
        intent_id=f"o-{intent_id}",
        runbook=runbook,
        action=action,
        instance=instance,
        origin=Origin.OPERATOR,
        source=Source("operator"),
        created_at=now,
        requested_by=by,
        look_only=look_only,
        overrides=overrides,
        passes=passes,
        why=why,
        at_most=at_most,
    )


def of_replay(intent: Intent, replay_id: str, original: str, by: str, now: datetime) -> Intent:
    """Return the intent that a person requests in place of an event, however old that is."""
    return replace(
        intent,
        intent_id=f"o-replay-{replay_id}",
        origin=Origin.OPERATOR,
        created_at=now,
        message_id=None,
        repeats=False,
        allow_stale=True,
        requested_by=by,
        replay_of=original,
        approval_id=None,
    )


def approved_id(approval_id: str) -> str:
    """Return the id of the intent that an approved plan becomes."""
    return f"a-{approval_id}"


def of_approval(approval: Approval, by: By) -> Intent:
    """Return the intent for a plan that a person approved. It allows nothing but that plan."""
    return replace(
        _next(approval.intent, approved_id(approval.approval_id), Origin.APPROVAL, by.at),
        requested_by=by.who,
        why=by.why,
        approval_id=approval.approval_id,
        approved=approval.plan,
        source=replace(approval.intent.source, incident_id=None),
    )


def follow_up_id(intent: Intent) -> str:
    """Return the id of the intent that follows this one, for the next runbook. There is at most one."""
    return f"f-{intent.intent_id}"


def follow_up(intent: Intent, runbook: str, now: datetime) -> Intent:
    """Return the intent for the runbook that comes next: a follow-up, or one that let another go first."""
    following = _next(intent, follow_up_id(intent), Origin.FOLLOW_UP, now)
    return replace(following, runbook=runbook, variant=None, approval_id=None, approved=None, ends=None)


def goes_first(intent: Intent, runbook: str, now: datetime) -> Intent:
    """Return the intent for a runbook that goes first; the given intent's own comes again after it."""
    before = follow_up(intent, runbook, now)
    back_to, gone_first = (*intent.back_to, intent.runbook), (*intent.gone_first, runbook)
    return replace(before, back_to=back_to, gone_first=gone_first)


HELPED = frozenset({Result.REMEDIATED, Result.NOTHING_TO_DO})
"""Results of a runbook that went first after which the waiting runbook comes again."""


def back(intent: Intent, outcome: Outcome, now: datetime) -> Intent:
    """Return the intent for the runbook that let this one go first. If that did not help, it only says so.

    In that case what stopped it is still there, and enforcing would change the VM in vain.
    """
    then = replace(follow_up(intent, intent.back_to[-1], now), back_to=intent.back_to[:-1])
    if outcome.result in HELPED:
        return then
    result = outcome.result if outcome.result in (Result.FAILED, Result.REFUSED) else Result.SKIPPED
    ended = f"{outcome.result}{f': {outcome.reason}' if outcome.reason else ''}"
    detail = relay.joined(f"{intent.runbook} went first and ended {ended}", outcome.detail)
    return replace(then, ends=Verdict(result, FIRST_FAILED, detail))


def of_silence(intent: Intent, now: datetime) -> Intent:
    """Return the intent that listens after a verified fix. It only checks, and no intent follows it."""
    listening = _next(intent, f"s-{intent.intent_id}", Origin.FOLLOW_UP, now)
    source = Source(SILENCE, intent.source.log_name, timestamp=now)
    listening = replace(listening, action=Action.CHECK, source=source, approval_id=None)
    return replace(listening, back_to=(), gone_first=())


def _next(intent: Intent, intent_id: str, origin: Origin, now: datetime) -> Intent:
    """Return an intent made from an earlier one on the same VM, without a message or entry of its own."""
    return replace(
        intent,
        intent_id=intent_id,
        origin=origin,
        created_at=now,
        event_time=None,
        line_time=None,
        message_id=None,
        repeats=False,
        passes=(),
    )


def _intent_id(delivery: Delivery, runbook: Runbook, instance: InstanceRef) -> str:
    """Return an intent's id: its event's. An id from an attribute is bound to the runbook and VM."""
    name = event_id(delivery)
    if not name.startswith("r-"):
        return name
    return f"{name}-{hashlib.sha256(f'{instance}/{runbook.name}'.encode()).hexdigest()[:12]}"
