"""``logmend report``: one self-contained HTML file with charts."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from logmend.errors import ConfigError
from logmend.model.values import Outcome
from logmend.settings import Settings
from logmend.stages.outcomes import of_repeats
from logmend_cli import inputs, outcome_source, output
from logmend_cli.application import opened
from logmend_cli.documented import Command
from logmend_cli.outcome_source import NOTHING, OutcomeQuery
from logmend_cli.report.data import Report


@click.command(
    "report",
    cls=Command,
    examples=(
        "logmend report --cloud --since 7d",
        "logmend report out/demo/outcomes.jsonl --out report.html",
    ),
)
@outcome_source.options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("logmend-report.html"),
    show_default=True,
    help="The file to write.",
)
def command(file: str | None, cloud: bool, since: str | None, out: Path) -> None:
    """Write one HTML file: from events to verified fixes, over time, by zone and runbook, VM by VM.

    The page needs no network, and has a dark mode and a layout for phones. Outcomes come from FILE (- is
    standard input), from Cloud Logging (--cloud), from where LOGMEND_OUTCOMES puts them, or from the ledger.
    """
    settings = inputs.settings()
    source = outcome_source.chosen(settings, file, cloud=cloud, since=since)
    if source.name is None and settings.state == "memory:":
        raise ConfigError([NOTHING])
    report = asyncio.run(_collect(settings, source))
    if not report.outcomes:
        raise ConfigError([f"{report.source}: no outcome to report on"])
    save(report, out)
    click.echo(f"{report.outcomes} outcomes of {len(report.vms)} VMs: {out}")


def write(outcomes: Iterable[Outcome], out: Path, source: str) -> None:
    """Write a report on outcomes, oldest first, from ``source``; for other commands."""
    report = Report(source, datetime.now(UTC))
    for outcome in outcomes:
        report.add(outcome)
    save(report, out)


def save(report: Report, out: Path) -> None:
    """Write the page; raise ConfigError if the file cannot be written."""
    from logmend_cli.report.page import render

    page = render(report)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError([f"{out}: cannot be written: {error.strerror or error}"]) from error


async def _collect(settings: Settings, source: OutcomeQuery) -> Report:
    report = Report(source.name or f"ledger {settings.state}", datetime.now(UTC))
    with output.progress("outcomes") as more:
        if source.name is None:
            for outcome in await _kept(settings, source.since):
                report.add(outcome)
                more(1)
        else:
            async for outcome in outcome_source.read(source, settings):
                report.add(outcome)
                more(1)
    return report


async def _kept(settings: Settings, since: datetime | None) -> list[Outcome]:
    """Return the latest outcome of each intent that the ledger still knows, and its counts, oldest first."""
    async with opened(settings) as app:
        found = [record.outcome async for record in app.queues.records() if record.outcome is not None]
        async for day in app.queues.repeats():
            found += of_repeats(day, settings)
    return sorted((each for each in found if since is None or each.at >= since), key=lambda each: each.at)
