"""Whether an intent may be worked on, as far as the ledger knows: asked before anything is looked up.

logmend does not log in to a VM for an intent that could not go on: stale, cooling down, stopped, leased
elsewhere, or waiting for a place in the budget.
"""

from datetime import datetime, timedelta

from logmend.model.enums import Mode, Origin, Result
from logmend.model.state import Cooldown, Record, State, Subject, View
from logmend.model.struct import replace
from logmend.model.values import Intent, Verdict
from logmend.settings import Lone, Settings
from logmend.stages.decide.ceiling import by_person, ceiling, only_checks
from logmend.stages.decide.cohorts import ONE
from logmend.stages.decide.limits import BUDGET_EXHAUSTED, RECHECK, hold_back
from logmend.stages.decide.stops import reverted_since, stopped, waiting

RELEASE = timedelta(hours=1)
"""How soon at the latest the tick asks again for what waits out a cooldown: a person may have ended it."""


def admission(
    intent: Intent, view: View, settings: Settings, now: datetime, full_until: datetime | None = None
) -> Verdict | None:
    """Return whether this intent may be worked on, as far as the ledger knows.

    ``full_until`` is when the runbook's budget, found full, may have a place again. Until then logmend does
    not log in to VMs in vain; a person's request is checked all the same.
    """
    subject, lease, record = view.subject, view.subject.lease, view.record
    if lease is not None and lease.intent_id == intent.intent_id and lease.expires_at > now:
        return Verdict(Result.DEFERRED, "in_hand", "an earlier delivery of this message is still in progress")
    if record is not None and record.asked and record.state is State.PARKED:
        # A request that was taken back is not said again by anyone: it waits, whatever its source.
        stop = waiting(stopped(intent, subject, view.fleet, settings, now))
        if stop is not None:
            return replace(stop, not_before=stop.not_before or now + RECHECK)
    if record is not None and _begun(record):
        # What was begun is finished, if not now, then later; commit asks again.
        return _held_elsewhere(intent, record, subject, now)
    return (
        _not_by_mode(intent, record, settings, now)
        or (None if record is not None else _stale(intent, settings, now))
        or reverted_since(intent, subject)
        or (_left_alone(intent, subject, settings, now) if intent.automatic else None)
        or stopped(intent, subject, view.fleet, settings, now)
        or _requested_elsewhere(intent, subject, now)
        or _in_hand(intent, subject, now)
        or _without_a_place(intent, view, settings, now, full_until)
    )


def _not_by_mode(intent: Intent, record: Record | None, settings: Settings, now: datetime) -> Verdict | None:
    """Return a no to a person's request to change a VM in observe mode; a request accepted before waits."""
    if only_checks(intent) or not by_person(intent) or settings.mode is not Mode.OBSERVE:
        return None
    if _was_accepted(intent, record):
        return Verdict(Result.PARKED, "observe_mode", "it waits until the mode allows it", now + RELEASE)
    return Verdict(Result.REFUSED, "observe_mode", "the function's mode is observe: it makes no changes")


def _left_alone(intent: Intent, subject: Subject, settings: Settings, now: datetime) -> Verdict | None:
    """Return why automatic work leaves the VM alone: for a person, by a rejection, or in a cooldown."""
    if subject.needs_human:
        return Verdict(Result.SKIPPED, "needs_human", "left to a person after repeated failure or relapse")
    declined, cooldown = subject.declined, subject.cooldown
    if declined is not None and (declined.until is None or declined.until > now):
        return Verdict(Result.SKIPPED, "declined", str(declined))
    if cooldown and cooldown.until > now and not _passes_cooldown(intent, subject, cooldown, settings):
        return hold_back(
            intent,
            "cooling_down",
            f"after {cooldown.result} until {cooldown.until:%FT%TZ}",
            min(cooldown.until, now + RELEASE),
        )
    return None


def _requested_elsewhere(intent: Intent, subject: Subject, now: datetime) -> Verdict | None:
    """Return what to do if an agent is working for another intent."""
    if subject.open_request in (None, intent.intent_id):
        return None
    if intent.repeats:
        return Verdict(Result.SKIPPED, "already_requested", f"requested as {subject.open_request}")
    return Verdict(Result.PARKED, "busy", f"requested as {subject.open_request}", now + RECHECK)


def _without_a_place(
    intent: Intent, view: View, settings: Settings, now: datetime, full_until: datetime | None
) -> Verdict | None:
    """Return a no to automatic work that may change the VM while the budget is known to have no place."""
    if not intent.automatic or not ceiling(intent, settings):
        return None
    queued = view.fleet.queued.get(intent.runbook)
    if view.record is None and queued is not None and now < queued:
        return hold_back(intent, BUDGET_EXHAUSTED, "older intents wait for a place", queued)
    if full_until is not None and now < full_until:
        return hold_back(intent, BUDGET_EXHAUSTED, f"no place until {full_until:%FT%TZ}", full_until)
    return None


def _was_accepted(intent: Intent, record: Record | None) -> bool:
    """Return whether an intent was accepted in a mode that let it act: a change of mode loses none."""
    return record is not None and (record.outcome is not None or intent.origin is Origin.APPROVAL)


_LOOKED_AT = frozenset({State.REQUESTED, State.UNVERIFIED})


def _in_hand(intent: Intent, subject: Subject, now: datetime) -> Verdict | None:
    """Return what to do if another intent's attempt holds the VM."""
    if (lease := subject.lease) is not None and lease.expires_at > now:
        if intent.repeats:
            return Verdict(Result.SKIPPED, "duplicate", f"in hand as {lease.intent_id}")
        return Verdict(Result.PARKED, "busy", f"in hand as {lease.intent_id}", lease.expires_at)
    return None


def _begun(record: Record) -> bool:
    """Return whether this intent may have enforced, or may have a request out whose reader has died."""
    asked = record.asked is not None and record.state is State.RUNNING
    return record.committed or asked or record.state in _LOOKED_AT


def _held_elsewhere(intent: Intent, record: Record, subject: Subject, now: datetime) -> Verdict | None:
    """Make begun work wait while another intent has the lease on the VM, or its one label.

    A dead attempt is the exception: the next intent has to finish it first.
    """
    if (lease := subject.lease) is not None and lease.expires_at > now:
        return Verdict(Result.DEFERRED, "busy", f"in hand as {lease.intent_id}")
    if record.state is not State.RUNNING and subject.open_request not in (None, intent.intent_id):
        return Verdict(Result.DEFERRED, "busy", f"requested as {subject.open_request}")
    return None


def in_turn(intent: Intent) -> tuple[bool, datetime, str]:
    """Return the order in which parked intents are processed: people's first, then by age."""
    return not by_person(intent), intent.created_at, intent.intent_id


def _passes_cooldown(intent: Intent, subject: Subject, cooldown: Cooldown, settings: Settings) -> bool:
    """Return whether a cooldown does not apply: to check, in a mode that may now act, or to go first.

    Another runbook waits for the one that goes first, and its own cooldown limits how often. That all was
    well here the last time is no reason to keep it waiting.
    """
    well = intent.back_to and cooldown.result in (Result.REMEDIATED, Result.NOTHING_TO_DO)
    return only_checks(intent) or bool(well) or _outgrown(subject, settings)


def _outgrown(subject: Subject, settings: Settings) -> bool:
    """Return whether a cooldown from a mere check is void because the mode may act now."""
    cooldown = subject.cooldown
    return (
        cooldown is not None
        and cooldown.mode is not settings.mode
        and (cooldown.reason != ONE or settings.groups_of_one is Lone.ENFORCE)
        and (cooldown.mode is Mode.OBSERVE or cooldown.result is Result.PLANNED)
    )


def _span(span: timedelta) -> str:
    """Return a span in its two largest units: `1d 2h`, or `1h 30m` for 90 minutes."""
    left, parts = int(span.total_seconds()), list[str]()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def _stale(intent: Intent, settings: Settings, now: datetime) -> Verdict | None:
    """Return a no if the event is too old, by the older of the entry's time and the line's own."""
    times = [time for time in (intent.event_time, intent.line_time) if time is not None]
    if intent.allow_stale or not times or now - min(times) <= settings.max_event_age:
        return None
    age, most = _span(now - min(times)), _span(settings.max_event_age)
    return Verdict(Result.SKIPPED, "stale", f"the event is {age} old, more than {most}")
