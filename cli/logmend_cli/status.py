"""``logmend status``: blocked work, VMs that need attention, recent outcomes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from logmend import windows
from logmend.errors import ConfigError
from logmend.ledger.places import Shard
from logmend.ledger.repeats import pending
from logmend.model.json import JsonObject
from logmend.model.state import Fleet
from logmend.settings import Budget, Settings
from logmend.stages import decide, outcomes
from logmend_cli import inputs, outcome_source, output
from logmend_cli.application import opened
from logmend_cli.closed import now_closed
from logmend_cli.documented import Command
from logmend_cli.fleet_state import FleetState, Spent
from logmend_cli.outcome_source import NOTHING, OutcomeQuery
from logmend_cli.summing import Summing, spent, spent_by_cohorts
from logmend_cli.waiting import KEPT, Queue

if TYPE_CHECKING:
    from logmend.wiring import Application

SHOWN = 10
"""Rows of a list that the tables show; JSON has more."""


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
        _show(state.document(), datetime.now(UTC), ledger=ledger)


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
    """Sum up what the ledger knows at a moment; ``more`` is told of each document."""
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


def _show(found: JsonObject, now: datetime, *, ledger: bool) -> None:
    for line in found["stopped"]:
        click.echo(f"{click.style('STOPPED', fg='red', bold=True)} {output.printable(line)}")
    if ledger:
        click.echo(_tick(found["last_tick"], now))
        counted = ", ".join(f"{kind} {count:,}" for kind, count in found["documents"].items())
        click.echo(f"Documents of the ledger: {counted or 'none'}")
    span = f", {found['first_outcome']} to {found['last_outcome']}" if found["first_outcome"] else ""
    click.echo(f"{found['instances']} VMs, {sum(found['outcomes'].values())} outcomes{span}\n")
    freezes = ("name", "scope", "by", "since", "until", "why")
    _rows("Frozen (logmend resume NAME)", found["freezes"], freezes)
    shut = [each | {"runbooks": ", ".join(each["runbooks"])} for each in found["closed"]]
    _rows("Closed now, by the windows set here", shut, ("scope", "runbooks", "closed", "opens"))
    _rows("Waves, by the settings here", found["waves"], ("runbook", "wave", "since", "held_by"))
    held = ("instance", "name", "runbook", "by", "since", "until", "why", "held_by")
    _rows("Held by a revert or a rejection (logmend resume --instance)", found["held"], held)
    _rows("Budget, by the settings here", found["budgets"], ("runbook", "used", "limit", "frees"))
    groups = ("group", "runbook", "waiting", "used", "frees", "why")
    _rows("Managed instance groups: in use, and held back", found["groups"], groups)
    columns = ("result", "reason", "outcomes", "VMs whose last it is")
    ended = [
        (*_split(word), found["outcomes"].get(word), found["results"].get(word))
        for word in dict.fromkeys([*found["outcomes"], *found["results"]])
    ]
    output.show_table(columns, ended, empty="no outcome yet")
    _rows("VMs that cannot be reached", found["unreached"], ("project_id", "zone", "instances", "of"))
    _rows("By owner", found["owners"], ("owner", "instances", "needs_human", "failed"))
    for key, rows in found["labels"].items():
        _rows(f"By label {key}", rows, ("value", "instances", "needs_human", "failed"))
    _blocks("Left to a person", found["needs_human"])
    _blocks("Came back after a verified fix", found["relapsed"])
    causes = ("result", "reason", "instances", "outcomes", "last_at", "next_step")
    _rows("What went wrong, by cause", found["causes"], causes)
    alike = ("cause", "instances", "group", "template", "image", "next_step")
    _rows("Why the fault is there, by what VMs are made from", found["alike"], alike)
    _blocks("Recent failures", found["failures"])
    at_work = ("position", "state", "reason", "action", "instance", "runbook", "created_at", "expected")
    _rows("Waiting for the tick, or at work", found["waiting"], (*at_work, "intent_id"))
    approvals = ("approval_id", "action", "instance", "runbook", "expires_at")
    _rows("Plans that wait for a person", found["approvals"], approvals)
    _rows("Controls, as they were used", found["controls"], ("at", "reason", "by", "detail"))
    timed = [
        (name, each["count"], *(output.duration_text(each[key]) for key in ("p50", "p95", "max")))
        for name, each in found["latency_ms"].items()
        if each["count"]
    ]
    if timed:
        output.show_table(("latency", "number", "median", "95 %", "longest"), timed, title="Latencies")


def _blocks(title: str, rows: Sequence[JsonObject]) -> None:
    """Print what takes whole sentences: which VM, what came of it, what to do next."""
    if not rows:
        return
    click.secho(title + _more(rows), bold=True)
    for row in rows[:SHOWN]:
        word = output.word(str(row["result"]), row["reason"])
        vm = " ".join(filter(None, (row["name"], row["instance"]))) or "no VM"
        painted = word.replace(row["result"], output.coloured(row["result"]), 1) if row["result"] else ""
        click.echo(f"  {row['at']}  {output.printable(vm)}  {painted}")
        counted = [f"{row[key]} {key}" for key in ("failures", "relapses") if row.get(key)]
        for text in filter(None, (", ".join(counted), row.get("detail"))):
            click.echo(f"    {output.printable(text)}")
        if row["next_step"]:
            click.echo(f"    next: {output.printable(row['next_step'])}")
    click.echo()


def _rows(title: str, rows: Sequence[dict[str, object]], columns: Sequence[str]) -> None:
    if not rows:
        return
    named = {
        "next_step": "next",
        "created_at": "since",
        "expires_at": "expires",
        "instance": "VM",
        "project_id": "project",
        "instances": "VMs",
        "runbooks": "for",
        "of": "of those tried",
        "limit": "of",
        "frees": "next place free by",
        "last_at": "last",
        "waiting": "VMs that wait",
        "position": "in turn",
        "expected": "expected, at the earliest",
        "by": "by (claimed)",
    }
    headings = [named.get(column, column.replace("_", " ")) for column in columns]
    cells = [[row[column] for column in columns] for row in rows[:SHOWN]]
    output.show_table(headings, cells, title=title + _more(rows))


def _more(rows: Sequence[object]) -> str:
    many = f"{KEPT:,} or more" if len(rows) >= KEPT else f"{len(rows)}"
    return f" ({SHOWN} of {many}; --format json has more)" if len(rows) > SHOWN else ""


def _tick(last: str | None, now: datetime) -> str:
    if last is None:
        return "The tick has never run on this ledger: is the scheduler set up? (logmend tick runs it once)"
    age = now - datetime.fromisoformat(last)
    late = "  It is late: it should run every five minutes." if age.total_seconds() > 15 * 60 else ""
    return f"Last tick {output.duration_text(int(age.total_seconds() * 1000))} ago ({last}).{late}"


def _split(word: str) -> tuple[str, str]:
    result, _, reason = word.partition(": ")
    return result, reason
