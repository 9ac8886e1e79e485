"""How much may be changed at once, and what stops a runbook: the budget and the breaker."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from logmend.model.enums import Mode, Result
from logmend.model.state import Breaker
from logmend.model.values import Intent, Outcome, Verdict
from logmend.runbook import Runbook
from logmend.settings import Budget, Settings

RECHECK = timedelta(minutes=5)
"""When the tick looks again at what is unverified, requested or waits for a retry."""

BUDGET_EXHAUSTED = "budget_exhausted"


UNLIMITED = 100_000
"""VMs in a window that a person's revert without a limit may put back: more than a fleet has."""


def budget(runbook: Runbook, settings: Settings, intent: Intent | None = None) -> Budget:
    """Return a budget within both the runbook's own and the settings'; a revert has its own.

    That is the tighter of the two by rate; if its burst is the larger one, in bursts of the other's size.
    """
    limits, general = runbook.limits, settings.disruption_budget
    if intent is not None and intent.puts_back:
        return Budget(intent.at_most or UNLIMITED, general.window)
    own = Budget(limits.disruption_budget or general.count, limits.budget_window or general.window)
    tight, other = sorted((own, general), key=lambda each: each.count / each.window.total_seconds())
    if tight.count <= other.count:
        return tight
    return Budget(other.count, tight.window * other.count / tight.count)


def budget_exhausted(intent: Intent, budget: Budget, now: datetime, among: str = "") -> Verdict:
    """Return the verdict of a full budget: come back when a tenth of the window has passed."""
    detail = f"all {budget.count} enforcements in {budget.window}{among} are used"
    return hold_back(intent, BUDGET_EXHAUSTED, detail, budget.retry_at(now))


def sample(outcome: Outcome, settings: Settings, *, changing: bool) -> bool | None:
    """Return whether an outcome counts for the breaker as a failing VM, as a good one, or (None) not at all.

    The breaker is for changes of ours that fail. ``changing`` says that one was committed to on a VM that
    answered. A VM that cannot be reached is counted separately (:data:`logmend.outcome.reasons.UNREACHED`),
    and one that was only checked, or is busy, proves nothing about enforcing.
    """
    if settings.mode is Mode.OBSERVE or not changing or outcome.reason == "busy":
        return None
    return {
        Result.REMEDIATED: False,
        Result.REVERTED: False,
        Result.FAILED: True,
        Result.UNVERIFIED: True,
    }.get(outcome.result)


def breaker(samples: Mapping[str, bool], settings: Settings, now: datetime) -> Breaker | None:
    """Open the breaker if enough distinct VMs were tried and too many of them fail."""
    failing = sum(samples.values())
    if len(samples) < settings.breaker_minimum or failing < settings.breaker_ratio * len(samples):
        return None
    return Breaker(now, failing, len(samples))


def hold_back(intent: Intent, reason: str, detail: str, until: datetime | None = None) -> Verdict:
    """Skip an event if its source repeats; park one that would be lost."""
    return (
        Verdict(Result.SKIPPED, reason, detail)
        if intent.repeats
        else Verdict(Result.PARKED, reason, detail, until)
    )
