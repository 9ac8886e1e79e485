"""What stops an intent whatever the VM says: a freeze, an open breaker, a closed window, a revert.

The intent is skipped if its source repeats, parked if it would be lost.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from logmend import windows
from logmend.model.enums import Action, Origin, Result
from logmend.model.state import Fleet, Subject
from logmend.model.struct import Struct, replace
from logmend.model.values import Asked, InstanceFacts, Intent, Verdict
from logmend.settings import Settings
from logmend.stages.decide.ceiling import by_person, ceiling, only_checks
from logmend.stages.decide.limits import hold_back

SETTLED = timedelta(days=1)
"""How soon at the latest the tick asks again for what waits for a window: somebody may have moved it."""

REVERT_HOLDS = "a revert of {runbook} set a hold on this VM; `logmend resume --instance` ends it"


def recall(
    intent: Intent, asked: Asked, subject: Subject, fleet: Fleet, settings: Settings, now: datetime
) -> Verdict | None:
    """Return why work handed to an agent must stop: a freeze, a breaker, a window, or the mode.

    No source repeats a withdrawn request, so it waits.
    """
    if asked.action is not Action.CHECK and not ceiling(intent, settings):
        return Verdict(Result.REFUSED, "observe_mode", f"the mode is now {settings.mode}")
    if asked.action is Action.ENFORCE and (no := reverted_since(intent, subject)) is not None:
        return no
    return waiting(stopped(intent, subject, fleet, settings, now))


def waiting(stop: Verdict | None) -> Verdict | None:
    """Let a withdrawn request wait: no source repeats it."""
    return stop and replace(stop, result=Result.PARKED)


def reverted_since(intent: Intent, subject: Subject) -> Verdict | None:
    """Return what the latest revert of the VM means for this intent; None if it does not stop it.

    Of people's requests only one that names the revert takes it back: any other is older, or knows nothing
    of it. Automatic work is held off by a revert that put something back, or found it so.
    """
    if intent.action is Action.REVERT:
        return None
    if intent.automatic:
        held = Verdict(Result.SKIPPED, "reverted", REVERT_HOLDS.format(runbook=intent.runbook))
        return held if subject.held else None
    if only_checks(intent) or subject.held_by in (None, intent.overrides):
        return None
    return Verdict(
        Result.SKIPPED, "superseded_by_revert", f"the request does not know of the revert {subject.held_by}"
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

    A person's revert passes those that it names, as they were when it was requested; the next stops it.
    A request to enforce may name the open breaker (a canary) and what is closed, never a freeze. No
    window closes to a revert.
    """
    if only_checks(intent) and by_person(intent):
        return None  # an operator may always check
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
    """Return when this intent may change the VM; None if it may now, since a window is open to it.

    Checks and plans go on at any time; so does a person's revert, and a person's request through what it
    names, until that opens. Without facts, what holds for labels is not asked. It waits for the
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
