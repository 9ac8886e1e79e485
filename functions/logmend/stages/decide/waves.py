"""Waves: how much of its budget a runbook may use until its changes have lasted for a while. Pure.

A wave is a limit beside the budget, for what no person requested. It belongs to a runbook's digest: another
text begins with the first wave again. The tick moves it on, or opens the breaker, which pauses it.
"""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.state import Act, Breaker, Fleet, Wave
from logmend.model.struct import replace
from logmend.model.values import Intent, Verdict
from logmend.runbook import Runbook
from logmend.settings import Budget, Settings
from logmend.stages.decide.ceiling import by_person
from logmend.stages.decide.cohorts import Cohort
from logmend.stages.decide.limits import BUDGET_EXHAUSTED, budget, budget_exhausted, hold_back

WAVE = "wave"
"""The name of the cohort of everything that a runbook changes while its waves last."""


def wave(runbook: Runbook, fleet: Fleet, settings: Settings, now: datetime) -> Wave | None:
    """Return the wave that a runbook is in, the first if none is recorded; None if they are over or off."""
    if settings.waves is None:
        return None
    kept = fleet.waves.get(runbook.name)
    if kept is None or kept.digest != runbook.digest:
        return Wave(runbook.digest, 0, now)
    return kept if kept.step < len(settings.waves.steps) else None


def allowed(runbook: Runbook, settings: Settings, step: int) -> int:
    """Return how many VMs a wave lets be changed in a window of the budget."""
    assert settings.waves is not None
    return settings.waves.count(step, budget(runbook, settings).count)


def of_wave(
    intent: Intent, runbook: Runbook, fleet: Fleet, settings: Settings, now: datetime
) -> tuple[Cohort, ...]:
    """Name the limit of the wave that a runbook is in; what a person requested has none."""
    current = None if by_person(intent) else wave(runbook, fleet, settings, now)
    if current is None:
        return ()
    own = Budget(allowed(runbook, settings, current.step), budget(runbook, settings).window)
    return (Cohort(WAVE, own, budget_exhausted(intent, own, now, f" of wave {current.step + 1}")),)


def wave_full(intent: Intent, until: datetime) -> Verdict:
    """Return the verdict of a wave that was found full."""
    return hold_back(intent, BUDGET_EXHAUSTED, f"the wave has no place until {until:%FT%TZ}", until)


def wave_in_words(current: Wave, runbook: Runbook, settings: Settings) -> str:
    """Say in words how far a runbook's waves have come."""
    assert settings.waves is not None
    steps = len(settings.waves.steps)
    if current.step >= steps:
        return "the changes of all waves have lasted; the whole budget is open"
    count = allowed(runbook, settings, current.step)
    return f"wave {current.step + 1} of {steps}: at most {count} VMs in a window of the budget"


def wave_act(current: Wave, runbook: Runbook, settings: Settings, now: datetime) -> Act:
    """Return the detail for a wave that begins."""
    return Act("wave_begun", now, detail=wave_in_words(current, runbook, settings), runbook=runbook.name)


def moved(
    current: Wave,
    runbook: Runbook,
    settings: Settings,
    samples: Mapping[str, bool],
    recent: Mapping[str, bool],
    now: datetime,
) -> Wave | Breaker:
    """Return the wave that comes next, or the breaker that pauses it; the same wave if it goes on.

    ``samples`` are of the VMs that were changed in this wave, whether each went wrong, ``recent`` those of
    the latest ``soak``. A change has lasted if it went well before that, and nothing was changed on the VM
    since.
    """
    assert settings.waves is not None
    failing = sum(samples.values())
    if failing and failing >= settings.breaker_ratio * len(samples):
        return Breaker(now, failing, len(samples))
    standing = sum(not failed for vm, failed in samples.items() if vm not in recent)
    if current.held is not None or standing < allowed(runbook, settings, current.step):
        return current
    return replace(current, step=current.step + 1, since=now)
