"""VMs that share a zone, a label or a managed instance group: no more than a few change at once."""

from datetime import datetime, timedelta

from logmend.model.enums import Mode, Result
from logmend.model.struct import Struct, replace
from logmend.model.values import Group, InstanceFacts, Intent, Outcome, Verdict
from logmend.runbook import Runbook
from logmend.settings import MOST_IN_COHORT, Budget, Lone, Settings
from logmend.stages.decide.limits import BUDGET_EXHAUSTED, RECHECK, budget, budget_exhausted, hold_back


class Cohort(Struct, frozen=True):
    """VMs that have something in common, and the budget that they share beside the runbook's own.

    ``name`` is what they have in common (``zone us-west1-a``), ``full`` the answer if no place is free.
    """

    name: str
    budget: Budget
    full: Verdict


def cohorts(
    intent: Intent,
    runbook: Runbook,
    facts: InstanceFacts,
    settings: Settings,
    now: datetime,
    group: Group | None = None,
) -> tuple[Cohort, ...]:
    """Name the cohorts of a VM that have a limit (``LOGMEND_DISRUPTION_LIMITS``); a revert has none.

    A VM outside of any managed instance group has no cohort of that kind. VMs without a label share one.
    ``group`` is the VM's managed instance group, of which no more than a share is changed; None: not known.
    """
    if intent.puts_back:
        return ()
    window = budget(runbook, settings, intent).window
    bounds = []
    for kind, count in settings.disruption_limits:
        value = _common(kind, facts)
        if value is not None:
            name, own = f"{kind} {value}".rstrip(), Budget(count, window)
            bounds.append(Cohort(name, own, budget_exhausted(intent, own, now, f" of {name}")))
    if asks_for_group(facts, settings):
        bounds.append(_share(intent, facts, settings, group, window, now))
    return tuple(bounds)


ONE = "group_of_one"
"""Why there is a plan although the mode is to enforce: nothing else does the VM's work meanwhile."""

SHRUNK = Verdict(Result.DEFERRED, "conflict", "its group now consists of this VM alone")

GROUP = "group "
"""How the name of the cohort begins that is a managed instance group, whichever runbook changes its VMs."""


def asks_for_group(facts: InstanceFacts, settings: Settings) -> bool:
    """Return whether a VM's managed instance group limits what may be done to it."""
    return facts.lineage.group is not None and settings.group_share < 1


def of_group(settings: Settings, group: Group | None) -> Settings:
    """Return the settings for a VM of this group: the only one of a group needs an approval, or a setting."""
    if group is None or group.size != 1 or settings.mode is not Mode.ENFORCE:
        return settings
    return replace(settings, mode=Mode.APPROVE) if settings.groups_of_one is Lone.APPROVE else settings


def told_of_group(verdict: Verdict, settings: Settings, general: Settings) -> Verdict:
    """Say why there is a plan although the mode is enforce."""
    if verdict.result is not Result.PLANNED or settings.mode is general.mode:
        return verdict
    return replace(verdict, reason=ONE, detail=f"the only VM of its group; {verdict.detail}")


def _share(
    intent: Intent,
    facts: InstanceFacts,
    settings: Settings,
    group: Group | None,
    window: timedelta,
    now: datetime,
) -> Cohort:
    """Bound what is changed of a group: a share of it, and what leaves one healthy VM untouched.

    Of a group that is not known, or that does not name this VM, one at a time is changed.
    """
    name, vm = f"{GROUP}{facts.lineage.group}", facts.ref.instance_id
    if group is None or vm not in group.members:
        own = Budget(1, window)
        why = f" of {name}, whose size is not known"
        return Cohort(name, own, budget_exhausted(intent, own, now, why))
    share = max(1, min(int(settings.group_share * group.size), MOST_IN_COHORT))
    others = len(group.healthy - {vm})
    spare = others if vm in group.healthy else max(1, others)
    own = Budget(share if group.size == 1 else min(share, spare), window)
    if own.count == 0:
        detail = f"none of the other {group.size - 1} VMs of {name.removeprefix(GROUP)} is healthy"
        return Cohort(name, own, hold_back(intent, "last_healthy", detail, now + RECHECK))
    why = f" of {name} with {group.size} VMs, {len(group.healthy)} of them healthy,"
    return Cohort(name, own, budget_exhausted(intent, own, now, why))


OF_GROUP = frozenset({BUDGET_EXHAUSTED, "last_healthy", ONE})
"""Reasons that a managed instance group may be behind."""


def held_by_group(outcome: Outcome) -> bool:
    """Return whether a VM was held back for the sake of its managed instance group."""
    group = outcome.lineage.group
    if group is None or outcome.reason not in OF_GROUP:
        return False
    return outcome.reason != BUDGET_EXHAUSTED or f" of {GROUP}{group}" in outcome.detail  # by :func:`_share`


def _common(kind: str, facts: InstanceFacts) -> str | None:
    if kind == "zone":
        return facts.ref.zone
    if kind == "mig":
        return facts.lineage.group
    return facts.labels.get(kind.removeprefix("label:"), "")
