"""How much of the budgets and limits is used. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from logmend.ledger import places
from logmend.settings import Budget
from logmend_cli.status.fleet_state import Spent


def spent(
    shards: Mapping[str, list[places.Shard]], budgets: Mapping[str, Budget], now: datetime
) -> Iterable[Spent]:
    """Sum up budgets by runbook. The number of places comes from this command's settings, not the ledger."""
    for runbook, budget in budgets.items():
        every = [places.current(each, budget.window, now) for each in shards.get(runbook, ())]
        used = sum(map(places.taken, every))
        frees = [at for each in every if (at := places.frees(each, budget.window))]
        yield Spent(runbook, used, budget.count, min(frees, default=None) if used >= budget.count else None)


def spent_by_cohorts(
    shards: Mapping[str, list[places.Shard]],
    budgets: Mapping[str, Budget],
    limits: Mapping[str, Mapping[str, int]],
    now: datetime,
) -> Iterable[Spent]:
    """Sum up the limits of zones, groups and labels with a taken place, the fullest first.

    ``limits`` is ``LOGMEND_DISRUPTION_LIMITS`` by runbook; a cohort without a limit is left out.
    """
    cohorts = []
    for name, (shard, *_) in shards.items():
        runbook = name.partition("~")[0]
        limit = limits.get(runbook, {}).get(shard.name.partition(" ")[0])
        if not shard.name or limit is None or runbook not in budgets:
            continue
        known = places.current(shard, budgets[runbook].window, now)
        used, frees = places.taken(known), places.frees(known, budgets[runbook].window)
        if used:
            cohorts.append(Spent(f"{runbook}, {shard.name}", used, limit, frees if used >= limit else None))
    return sorted(cohorts, key=lambda each: each.limit - each.used)
