"""Whether an intent may go on, as the pipeline asks: at admission, on the facts, before enforcing.

What a freeze, an open breaker or a closed window holds back is skipped if its source will say it again,
parked if it would be lost.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from logmend import conditions, windows
from logmend import guards as guards_
from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.state import Cooldown, Fleet, Record, State, Subject, View
from logmend.model.struct import Struct, replace
from logmend.model.values import Asked, InstanceFacts, Intent, Verdict
from logmend.runbook import Runbook
from logmend.settings import Lone, Settings
from logmend.stages.decide.limits import BUDGET_EXHAUSTED, ONE, RECHECK, hold_back

RELEASE = timedelta(hours=1)
"""How soon at the latest the tick asks again for what waits out a cooldown: a person may have ended it."""

SETTLED = timedelta(days=1)
"""How soon at the latest the tick asks again for what waits for a window: somebody may have moved it."""

FRESH = timedelta(seconds=5)
"""How old the facts may be on which guards are judged when enforcing is committed to."""

OLD_FACTS = Verdict(
    Result.DEFERRED, "compute_unavailable", f"the VM's facts took more than {FRESH.seconds} s to be judged on"
)

REVERT_HOLDS = "a revert of {runbook} holds it off this VM; `logmend resume --instance` lets it go"


RELAPSE_HINT = (
    "A timer comes back when the guest agent is purged (rpm: removed) and installed again, on a rollback from"
    " the plugin agent, with metadata enable-guest-agent-core-plugin=false, on a recreated VM or a new disk,"
    " and at the first boot of an image without machine-id. Mend the image or the start-up script, or use a"
    " guest agent of 20231011 or later, which is silent unless the owner opted in."
)


def event(intent: Intent, runbook: Runbook, settings: Settings) -> Verdict | None:
    """Return the verdict of the first guard that objects without facts of the VM; None if none does.

    It is asked of an event that the ledger does not know, and leaves nothing behind there: an entry can be
    forged, so that what it says must not be remembered of the VM that it names.
    """
    answers = (judged.answer for judged in judge_guards(intent, runbook, None, settings))
    return next((answer for answer in answers if isinstance(answer, Verdict)), None)


def admission(
    intent: Intent, view: View, settings: Settings, now: datetime, full_until: datetime | None = None
) -> Verdict | None:
    """Return whether this intent may be worked on, as far as the ledger knows.

    ``full_until`` is when the runbook's budget, found full, may have a place again. Until then nobody logs in
    to VMs for nothing; what a person asks for is checked all the same.
    """
    subject, lease = view.subject, view.subject.lease
    if lease is not None and lease.intent_id == intent.intent_id and lease.expires_at > now:
        return Verdict(Result.DEFERRED, "in_hand", "an earlier delivery of this message is still at work")
    if view.record is not None and view.record.asked and view.record.state is State.PARKED:
        # A request that was taken back is not said again by anyone: it waits, whatever its source.
        stop = waiting(stopped(intent, subject, view.fleet, settings, now))
        if stop is not None:
            return replace(stop, not_before=stop.not_before or now + RECHECK)
    if view.record is not None and _begun(view.record):
        # What was begun is finished, if not now, then later; commit asks again.
        return _held_elsewhere(intent, view.record, subject, now)
    if not only_looks(intent) and by_person(intent) and settings.mode is Mode.OBSERVE:
        if _was_accepted(intent, view.record):
            return Verdict(
                Result.PARKED, "observe_mode", "it waits until the mode lets it go on", now + RELEASE
            )
        return Verdict(
            Result.REFUSED, "observe_mode", "the function's mode is observe: it changes nothing for anyone"
        )
    if view.record is None and not intent.allow_stale and (age := _stale(intent, settings, now)):
        return Verdict(
            Result.SKIPPED,
            "stale",
            f"the event is {_said(age)} old, more than {_said(settings.max_event_age)}",
        )
    if (no := reverted_since(intent, subject)) is not None:
        return no
    if intent.automatic:
        if subject.needs_human:
            return Verdict(
                Result.SKIPPED, "needs_human", "left to a person after repeated failure or relapse"
            )
        declined = subject.declined
        if declined is not None and (declined.until is None or declined.until > now):
            return Verdict(Result.SKIPPED, "declined", str(declined))
        cooldown = subject.cooldown
        if cooldown and cooldown.until > now and not _passes_cooldown(intent, subject, cooldown, settings):
            return hold_back(
                intent,
                "cooling_down",
                f"after {cooldown.result} until {cooldown.until:%FT%TZ}",
                min(cooldown.until, now + RELEASE),
            )
    if (stop := stopped(intent, subject, view.fleet, settings, now)) is not None:
        return stop
    if subject.open_request not in (None, intent.intent_id):
        if intent.repeats:
            return Verdict(Result.SKIPPED, "already_requested", f"requested as {subject.open_request}")
        return Verdict(Result.PARKED, "busy", f"requested as {subject.open_request}", now + RECHECK)
    if (elsewhere := _in_hand(intent, subject, now)) is not None:
        return elsewhere
    queued = view.fleet.queued.get(intent.runbook)
    fresh = view.record is None and intent.automatic and ceiling(intent, settings)
    if fresh and queued is not None and now < queued:
        return hold_back(intent, BUDGET_EXHAUSTED, "older ones wait for a place", queued)
    if full_until is not None and now < full_until and intent.automatic and ceiling(intent, settings):
        return hold_back(intent, BUDGET_EXHAUSTED, f"no place until {full_until:%FT%TZ}", full_until)
    return None


class Judged(Struct, frozen=True):
    """One guard's answer."""

    guard: str
    answer: guards_.Answer


def judge_guards(
    intent: Intent, runbook: Runbook, facts: InstanceFacts | None, settings: Settings
) -> list[Judged]:
    """Ask the guards of every runbook, then its own in its order, even after one has objected.

    Last come ``unless`` and ``only``, which the runbook writes itself.
    """
    known = guards_.Basis(intent.instance, intent.source.log_name, facts, settings, intent.action)
    own = (*runbook.guards, guards_.irreversible.__name__) if runbook.irreversible else runbook.guards
    named = [(name, guards_.GUARDS[name](known)) for name in guards_.asked(own)]
    return [Judged(*each) for each in (*named, *conditions.judged(known, runbook))]


def guards(intent: Intent, runbook: Runbook, facts: InstanceFacts, settings: Settings) -> Verdict | None:
    """Return the verdict of the first guard that objects; a guard that is still pending objects too."""
    for judged in judge_guards(intent, runbook, facts, settings):
        match judged.answer:
            case Verdict() as verdict:
                return verdict
            case guards_.Pending(why, reason):
                return Verdict(Result.REFUSED, reason, f"{judged.guard}: {why}")
            case guards_.Passed():
                pass
    return None


def ceiling(intent: Intent, settings: Settings) -> bool:
    """Return whether the mode lets this intent change the VM; if not, the attempt ends after looking."""
    if only_looks(intent):
        return False
    match settings.mode:
        case Mode.ENFORCE:
            return True
        case Mode.APPROVE:
            return by_person(intent)
        case _:
            return False


def commit(
    intent: Intent,
    view: View,
    settings: Settings,
    now: datetime,
    facts: InstanceFacts | None,
    age: timedelta = timedelta(),
) -> Verdict | None:
    """Ask once more, with the fault seen on the VM a moment ago: all that may stop it, mode and relapses.

    ``age`` is that of the facts on which the guards had nothing against it.
    """
    if not timedelta() <= age <= FRESH:
        return OLD_FACTS
    if (no := reverted_since(intent, view.subject)) is not None:
        return no
    if (stop := stopped(intent, view.subject, view.fleet, settings, now, facts)) is not None:
        return stop
    if not ceiling(intent, settings):
        return Verdict(Result.REFUSED, "observe_mode", "the mode does not let it enforce")
    relapses = view.subject.relapses + (1 if view.subject.fixed_at else 0)
    if intent.automatic and view.subject.fixed_at and relapses >= settings.needs_human_after:
        return Verdict(
            Result.SKIPPED,
            "needs_human",
            f"the fault came back {relapses} times after a verified fix. {RELAPSE_HINT}",
        )
    return None


def recall(
    intent: Intent, asked: Asked, subject: Subject, fleet: Fleet, settings: Settings, now: datetime
) -> Verdict | None:
    """Return why work that an agent was asked for must not go on: a freeze, a breaker, a window, or the mode.

    What is taken back is not said again by anyone, so that it waits, whatever its source.
    """
    if asked.action is not Action.CHECK and not ceiling(intent, settings):
        return Verdict(Result.REFUSED, "observe_mode", f"the mode is {settings.mode} by now")
    if asked.action is Action.ENFORCE and (no := reverted_since(intent, subject)) is not None:
        return no
    return waiting(stopped(intent, subject, fleet, settings, now))


def waiting(stop: Verdict | None) -> Verdict | None:
    """Let what was taken back wait: nobody says it again."""
    return stop and replace(stop, result=Result.PARKED)


def reverted_since(intent: Intent, subject: Subject) -> Verdict | None:
    """Return what the latest revert of the VM means for this intent; None if nothing stands against it.

    Of persons' orders only one that names the revert takes it back: any other is older, or knows nothing of
    it. Automatic work is held off by a revert that put something back, or found it so.
    """
    if intent.action is Action.REVERT:
        return None
    if intent.automatic:
        held = Verdict(Result.SKIPPED, "reverted", REVERT_HOLDS.format(runbook=intent.runbook))
        return held if subject.held else None
    if only_looks(intent) or subject.held_by in (None, intent.overrides):
        return None
    return Verdict(
        Result.SKIPPED, "superseded_by_revert", f"the order does not know of the revert {subject.held_by}"
    )


def stopped(
    intent: Intent,
    subject: Subject,
    fleet: Fleet,
    settings: Settings,
    now: datetime,
    facts: InstanceFacts | None = None,
) -> Verdict | None:
    """Return what a freeze, an open breaker or a closed window means for this intent; None if there is none.

    A person's revert passes those that it names, as they were there when it was ordered; the next stops it.
    An order to enforce may name the open breaker (a canary) and what is closed, never a freeze. No window
    closes to a revert.
    """
    if only_looks(intent) and by_person(intent):
        return None  # an operator may always look
    for stop in _stops(intent, subject, fleet):
        if stop.mark not in (intent.passes if stop.passed else ()):
            return hold_back(intent, stop.reason, stop.detail)
    return outside(intent, settings, now, facts)


class _Stop(Struct, frozen=True):
    """What a person or logmend has stopped, by a name that this intent may have been told (``passed``)."""

    reason: str
    mark: str
    detail: str
    passed: bool


def _stops(intent: Intent, subject: Subject, fleet: Fleet) -> Iterator[_Stop]:
    for scope in (fleet.frozen, fleet.frozen_runbooks.get(intent.runbook), subject.frozen):
        for freeze in scope.stack if scope else ():
            yield _Stop("frozen", freeze.mark, str(freeze), intent.puts_back)
    if (breaker := fleet.breakers.get(intent.runbook)) is not None:
        yield _Stop("breaker_open", breaker.mark, str(breaker), intent.origin is Origin.OPERATOR)


def outside(
    intent: Intent, settings: Settings, now: datetime, facts: InstanceFacts | None = None
) -> Verdict | None:
    """Return when this intent may change the VM if it may not now; None if a window is open to it.

    Looking at a VM, and planning, go on at any time; so does a person's revert, and a person's order through
    what it names, until that opens. Without facts, what holds for labels is not asked. It waits for the
    opening, and is asked again in between, as settings may change.
    """
    if intent.puts_back or not ceiling(intent, settings):
        return None
    labels = None if facts is None else facts.labels
    passed = intent.passes if intent.origin is Origin.OPERATOR else ()
    shut = windows.closed(settings.windows, settings.blackouts, labels, now, passed)
    if shut is None:
        return None
    return hold_back(intent, "outside_window", str(shut), min(shut.opens or now + SETTLED, now + SETTLED))


def _was_accepted(intent: Intent, record: Record | None) -> bool:
    """Return whether an intent was accepted in a mode that lets it act: a change of the mode loses none."""
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
    """Return whether enforcement, or a request whose reader has died, may be out for this intent."""
    asked = record.asked is not None and record.state is State.RUNNING
    return record.committed or asked or record.state in _LOOKED_AT


def _held_elsewhere(intent: Intent, record: Record, subject: Subject, now: datetime) -> Verdict | None:
    """Have what was begun wait where it stands while another intent has the VM in hand, or its one label.

    But for a dead attempt, which whoever comes next has to finish first.
    """
    if (lease := subject.lease) is not None and lease.expires_at > now:
        return Verdict(Result.DEFERRED, "busy", f"in hand as {lease.intent_id}")
    if record.state is not State.RUNNING and subject.open_request not in (None, intent.intent_id):
        return Verdict(Result.DEFERRED, "busy", f"requested as {subject.open_request}")
    return None


def only_looks(intent: Intent) -> bool:
    """Return whether nothing is to be changed, whatever is seen."""
    return intent.look_only or intent.action is Action.CHECK


def by_person(intent: Intent) -> bool:
    """Return whether a person asked for it."""
    return not intent.automatic


def in_turn(intent: Intent) -> tuple[bool, datetime, str]:
    """Return the order in which parked intents are taken up: persons' first, then by age."""
    return not by_person(intent), intent.created_at, intent.intent_id


def _passes_cooldown(intent: Intent, subject: Subject, cooldown: Cooldown, settings: Settings) -> bool:
    """Return whether a cooldown does not bind: to look, in a mode that may act by now, or to go first.

    Another runbook waits for what goes first, and its own cooldown bounds how often: all being well here the
    last time is no reason to leave it waiting.
    """
    well = intent.back_to and cooldown.result in (Result.REMEDIATED, Result.NOTHING_TO_DO)
    return only_looks(intent) or bool(well) or _outgrown(subject, settings)


def _outgrown(subject: Subject, settings: Settings) -> bool:
    """Return whether a cooldown from looking only is void because the mode may act now."""
    cooldown = subject.cooldown
    return (
        cooldown is not None
        and cooldown.mode is not settings.mode
        and (cooldown.reason != ONE or settings.groups_of_one is Lone.ENFORCE)
        and (cooldown.mode is Mode.OBSERVE or cooldown.result is Result.PLANNED)
    )


def _said(span: timedelta) -> str:
    """Return a span in its two largest units: `1d 2h`, or `1h 30m` for 90 minutes."""
    left, parts = int(span.total_seconds()), list[str]()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def _stale(intent: Intent, settings: Settings, now: datetime) -> timedelta | None:
    """Age of the event if it is too old: the older of the entry's time and the line's own."""
    times = [time for time in (intent.event_time, intent.line_time) if time is not None]
    if not times or now - min(times) <= settings.max_event_age:
        return None
    return timedelta(seconds=int((now - min(times)).total_seconds()))
