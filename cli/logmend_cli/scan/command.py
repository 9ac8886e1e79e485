"""``logmend scan``: which VMs have the fault, and what would be done to each. Read only."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from logmend import catalog, sink_filter
from logmend.errors import ConfigError, Permanent
from logmend.explain import Rules
from logmend.model.enums import PROJECT_PATTERN
from logmend.model.values import Event, LogEntry, Undecodable
from logmend.settings import Policies, Settings
from logmend.stages import decode
from logmend_cli import inputs, output, scanned
from logmend_cli.documented import Command
from logmend_cli.errors import BAD, NO_CREDENTIALS, status_of, warn
from logmend_cli.scan import document
from logmend_cli.scan import text as scan_text
from logmend_cli.scan.groups import Groups
from logmend_cli.scan.sieve import EVERY, Sieve

if TYPE_CHECKING:
    from logmend_cli.scan.facts import FactsByVm

CSV = (
    "project_id", "zone", "instance_id", "name", "runbook", "count", "first_seen", "last_seen", "log_paths",
    "variants", "result", "reason", "detail", "pending_guards", "group", "template", "image", "owner",
)  # fmt: skip


@click.command(
    "scan",
    cls=Command,
    examples=(
        "gcloud logging read gce_workload_cert_refresh --freshness=1d --format=json | logmend scan -",
        "logmend scan --project my-project --since 7d",
        "logmend scan --organization 123456789012 --format json > scan.json",
    ),
)
@click.argument("file", metavar="[FILE]", required=False)
@click.option(
    "--project",
    "projects",
    multiple=True,
    shell_complete=scanned.complete_projects,
    help="Read this project's logs; may be repeated.",
)
@click.option("--folder", help="Read the logs of every project below this folder (its number).")
@click.option("--organization", help="Read the logs of every project of this organization (its number).")
@click.option(
    "--since",
    metavar="TIME",
    help="From when: 90m, 7d, or RFC 3339. Default: 1d of Cloud Logging, all of a FILE.",
)
@click.option("--until", metavar="TIME", help="Until when, likewise. Default: now.")
@click.option("--offline", is_flag=True, help="Do not look VMs up with the Compute Engine API.")
@click.option(
    "--label-column",
    "columns",
    multiple=True,
    metavar="KEY",
    help="Also show this label of the VMs, and count by it, beside those of LOGMEND_OUTCOME_LABELS; may be"
    " repeated.",
)
@output.format_option("table", "json", "csv")
def command(
    file: str | None,
    projects: Sequence[str],
    folder: str | None,
    organization: str | None,
    since: str | None,
    until: str | None,
    offline: bool,
    columns: Sequence[str],
    shape: str,
) -> int:
    """Find the VMs that have the fault, and show what would be done to each, and why.

    Reads exported log entries from FILE (- is standard input), as gcloud, entries.list, BigQuery, Log
    Analytics or the Node client give them in JSON, or Cloud Logging itself. Nothing is deployed, written or
    changed. VMs are looked up with the Compute Engine API unless --offline; the function's own code decides.
    planned means that no guard objects so far: the check on the VM itself is still to come, with
    `logmend run --from`. Entries that contain the line's words in a form that no filter knows are counted,
    and one is shown; the exit status is then 1.
    """
    settings = inputs.settings()
    columns = tuple(dict.fromkeys((*settings.outcome_labels, *columns)))
    found = catalog.read_all(settings)
    groups = Groups(Rules.of(found.runbooks, found.policies))
    remote = [each for each in (*projects, folder, organization) if each]
    if (file is None) == (not remote):
        raise click.UsageError(
            "give a FILE (- is standard input), or one of --project, --folder, --organization"
        )
    span = _span(since, until, datetime.now(UTC))
    if file is not None:
        _from_file(file, groups, span if since or until else None)
    else:
        parents = ([f"folders/{folder}"] if folder else []) + (
            [f"organizations/{organization}"] if organization else []
        )
        asyncio.run(_from_logging(groups, settings, list(projects), parents, span))
    facts: FactsByVm = {}
    if not offline:
        facts, offline = asyncio.run(_facts(groups, found.policies))
    judged = list(groups.judged(facts, found.policies))
    scanned.keep((each.seen.instance, each.name) for each in judged)
    instances = [document.instance(each, columns) for each in judged]
    totals = document.totals(groups, judged, "none" if offline else "compute", columns)
    _show(instances, totals, shape, columns)
    return BAD if groups.spoken.entries else status_of(each.verdict.result for each in judged)


def _from_file(file: str, groups: Groups, span: tuple[datetime, datetime] | None) -> None:
    waiting, trouble, outside = 0, None, 0
    with output.progress("entries") as more:
        sieve = None if span else Sieve(groups.rules, more)
        for found in inputs.documents(file, sieve):
            if span and not _within(found.event, span):
                outside += 1
            else:
                groups.add(found.delivery, found.event, found.where)
            if trouble is None and isinstance(found.event, Undecodable):
                trouble = found
            waiting += 1
            if waiting == EVERY:
                more(waiting)
                waiting = 0
        more(waiting)
        groups.passed(sieve.passed if sieve else 0)
    if outside:
        warn(f"{outside} entries are outside --since and --until: not counted")
    if trouble is None or groups.entries or outside:
        return
    event = trouble.event
    assert isinstance(event, Undecodable)
    if event.reason == "no_data" and event.detail == inputs.EMPTY_ARRAY:
        groups.ill_formed.clear()  # gcloud found no entry
        return
    place = next(inputs.position(file), "")
    hint = (
        ""
        if "--format=json" in event.detail
        else "; expected what `gcloud logging read … --format=json` prints"
    )
    raise ConfigError([f"{trouble.where}: not a log entry: {event.detail}{place}{hint}"])


async def _from_logging(
    groups: Groups,
    settings: Settings,
    projects: Sequence[str],
    parents: Sequence[str],
    span: tuple[datetime, datetime],
) -> None:
    from logmend.adapters.google.log_entries import LogEntries

    if wrong := [each for each in projects if not PROJECT_PATTERN.fullmatch(each)]:
        raise ConfigError([f"{each!r} is not a project id" for each in wrong])
    if wrong := [each for each in parents if not each.rpartition("/")[2].isdecimal()]:
        raise ConfigError([f"{each}: a folder or an organization is named by its number" for each in wrong])
    logs = LogEntries(
        settings.logging_endpoint,
        settings.resourcemanager_endpoint,
        waiting=lambda seconds, why: warn(f"{why}: waiting {seconds:g} s"),
    )
    where = _where(groups.rules, span)
    try:
        every = list(projects)
        for parent in parents:
            every += await logs.projects(parent)
        every = list(dict.fromkeys(every))
        if parents:
            warn(f"reading the logs of {len(every)} projects")
        with output.progress("entries") as more:
            async for page in logs.pages([f"projects/{each}" for each in every], where):
                for entry in page:
                    groups.add(None, decode.document(entry))
                more(len(page))
    finally:
        await logs.aclose()


def _where(rules: Rules, span: tuple[datetime, datetime]) -> str:
    """Return the sink's filter, widened by the runbooks' words in any form, for a span of time."""
    composed = sink_filter.widened({runbook.name: runbook for runbook, _ in rules.filters})
    begin, end = (at.isoformat().replace("+00:00", "Z") for at in span)
    return f'{composed}\nAND timestamp >= "{begin}"\nAND timestamp < "{end}"'


def _span(since: str | None, until: str | None, now: datetime) -> tuple[datetime, datetime]:
    end = inputs.since(until, now) or now
    begin = inputs.since(since, now) or end - timedelta(days=1)
    if begin >= end:
        raise ConfigError([f"--since {since or '1d'} is not before --until {until or 'now'}"])
    return begin, end


def _within(event: Event | Undecodable, span: tuple[datetime, datetime]) -> bool:
    """Return whether an entry is in that span; one without a time is."""
    at = event.timestamp if isinstance(event, LogEntry) else None
    return at is None or span[0] <= at < span[1]


async def _facts(groups: Groups, policies: Policies) -> "tuple[FactsByVm, bool]":
    """Look the VMs up; without credentials, go on without facts and say so."""
    from logmend import wiring
    from logmend_cli.scan.facts import Lookups

    wanted = list(groups.wanted(policies))
    if not wanted:
        return {}, False
    compute = wiring.open_compute(policies.general)
    try:
        with output.progress("VMs looked up", len(wanted)) as more:
            return await Lookups(compute, more).of(wanted), False
    except Permanent as error:
        if error.reason not in NO_CREDENTIALS:
            raise
        warn(
            "no Google credentials, so VMs are not looked up and guards stay pending:"
            " gcloud auth application-default login (or use --offline)"
        )
        return {}, True
    finally:
        await compute.aclose()


def _show(
    instances: Sequence[dict[str, object]], totals: dict[str, object], shape: str, columns: Sequence[str]
) -> None:
    if shape == "json":
        output.show_json({"instances": list(instances), "totals": totals})
        return
    if shape == "csv":
        keys = (*CSV, *document.by_label(dict.fromkeys(columns)))
        output.show_rows("csv", {key: key for key in keys}, [document.flat(each) for each in instances])
        for line in scan_text.spoken(totals):
            warn(line.strip())
        return
    scan_text.show([document.row(each) for each in instances], empty=scan_text.empty(totals))
    for line in scan_text.summary(totals):
        click.echo(line)
