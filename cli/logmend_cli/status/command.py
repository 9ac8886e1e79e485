"""``logmend status``: blocked work, VMs that need attention, recent outcomes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from logmend import windows
from logmend.errors import ConfigError
from logmend.ledger.places import Shard
from logmend.ledger.repeats import pending
from logmend.model.state import Fleet
from logmend.settings import Budget, Settings
from logmend.stages import decide, outcomes
from logmend_cli import inputs, outcome_source, output
from logmend_cli.application import opened
from logmend_cli.documented import Command
from logmend_cli.outcome_source import NOTHING, OutcomeQuery
from logmend_cli.status.closed import now_closed
from logmend_cli.status.fleet_state import FleetState, Spent
from logmend_cli.status.spent import spent, spent_by_cohorts
from logmend_cli.status.summing import Summing
from logmend_cli.status.text import show
from logmend_cli.status.waiting import Queue

if TYPE_CHECKING:
    from logmend.wiring import Application


@click.command(
    "status",
    cls=Command,
    examples=(
        "logmend status",
        "logmend status --cloud --since 7d",
        "logmend status out/demo/outcomes.jsonl --format json",
    ),
)
@outcome_source.options
@output.format_option("table", "json")
def command(file: str | None, cloud: bool, since: str | None, shape: str) -> None:
    """Show the state of the fleet: from the ledger, from outcomes, or from both.

    The ledger (LOGMEND_STATE) knows what waits, what is frozen and which VMs need a person. Outcomes come
    from FILE (- is standard input), from Cloud Logging (--cloud), or from where LOGMEND_OUTCOMES puts them;
    otherwise from the ledger. --since limits all counts; what is frozen, held or waiting now is always shown.
    A VM counts once, however many runbooks know it.
    """
    settings = inputs.settings()
    source = outcome_source.chosen(settings, file, cloud=cloud, since=since)
    ledger = settings.state != "memory:"
    if not ledger and source.name is None:
        raise ConfigError([NOTHING])
    state = asyncio.run(_sum(settings, source, ledger=ledger))
    if shape == "json":
        sources = {"ledger": settings.state if ledger else None, "outcomes": source.name}
        output.show_json({"sources": sources, **state.document()})
    else:
        show(state.document(), datetime.now(UTC), ledger=ledger)


async def _sum(settings: Settings, source: OutcomeQuery, *, ledger: bool) -> FleetState:
    with output.progress("documents") as more:
        if ledger:
            summing = await _ledger(settings, source, more)
        else:
            summing = Summing(settings=settings)
        async for outcome in outcome_source.read(source, settings):
            summing.outcome(outcome)
            more(1)
    return summing.state()


async def _ledger(settings: Settings, source: OutcomeQuery, more: Callable[[int], None]) -> Summing:
    async with opened(settings) as app:
        return await summed(app, source, datetime.now(UTC), more)


async def summed(
    app: "Application", source: OutcomeQuery, now: datetime, more: Callable[[int], None]
) -> Summing:
    """Sum up what the ledger knows at a moment; ``more`` is called for each document."""
    settings = app.settings
    fleet = await app.controls.fleet()
    summing = Summing(fleet, source.since, settings)
    async for subject in app.queues.subjects():
        summing.subject(subject)
        more(1)
    async for each, due in app.queues.dated():
        summing.record(each, due)
        kept = each.outcome
        if kept is not None and source.name is None and (source.since is None or kept.at >= source.since):
            summing.outcome(kept)
        more(1)
    async for approval in app.controls.approvals():
        summing.approval(approval, now)
    async for acts in app.queues.acts():
        summing.document("acts")
        for number, act in enumerate(acts.acts):
            if source.since is None or act.at >= source.since:
                summing.outcome(outcomes.of_act(acts, number, settings))
    async for found in app.queues.repeats():
        summing.document("repeats")
        more(1)
        told = outcomes.of_repeats(found, settings) if source.name is None else pending(found)
        for count in told:
            if source.since is None or count.at >= source.since:
                summing.outcome(count)
    shards = defaultdict[str, list[Shard]](list)
    async for (_, name), shard in app.queues.places():
        shards[name.rpartition("~")[0]].append(shard)
        summing.place(shard, now)
    policies, runbooks = app.pipeline.policies, app.pipeline.runbooks
    budgets = {name: decide.budget(runbook, policies.of(name)) for name, runbook in runbooks.items()}
    own = list(spent(shards, budgets, now))
    for used in [*own, *spent_by_cohorts(shards, budgets, _limits(app), now)]:
        summing.budget(used)
    summing.waits({used.runbook: _queue(app, fleet, used, budgets, now) for used in own}, now)
    for name, runbook in app.pipeline.runbooks.items():
        policy = app.pipeline.policies.of(name)
        if (wave := decide.wave(runbook, fleet, policy, now)) is not None:
            summing.wave(name, decide.wave_in_words(wave, runbook, policy), wave)
    summing.closed(now_closed(app.pipeline.policies, app.pipeline.runbooks, now))
    return summing


def _queue(
    app: "Application", fleet: Fleet, used: Spent, budgets: Mapping[str, Budget], now: datetime
) -> Queue:
    policy = app.pipeline.policies.of(used.runbook)
    shut = windows.closed(policy.windows, policy.blackouts, None, now)
    window, opens = budgets[used.runbook].window, shut.opens if shut else None
    return Queue(fleet, policy, used.used, used.limit, window, used.frees, opens)


def _limits(app: "Application") -> Mapping[str, Mapping[str, int]]:
    policies, names = app.pipeline.policies, app.pipeline.runbooks
    return {name: dict(policies.of(name).disruption_limits) for name in names}
