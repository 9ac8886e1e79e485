"""The fleet's state as tables and lines for a person."""

from collections.abc import Sequence
from datetime import datetime

import click

from logmend.model.json import JsonObject
from logmend_cli import output
from logmend_cli.status.waiting import KEPT

SHOWN = 10
"""Most rows of a list in the tables; JSON has more."""


def show(found: JsonObject, now: datetime, *, ledger: bool) -> None:
    """Print the state, as :meth:`FleetState.document` has it, at a moment."""
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
    _blocks("Fault came back after a verified fix", found["relapsed"])
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
    """Print rows that need whole sentences: the VM, its result, what to do next."""
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
