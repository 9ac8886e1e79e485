"""``logmend filter``: the filter that selects log entries, for the sink and the function."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from logmend.errors import ConfigError
from logmend.model.values import Undecodable
from logmend.settings import Settings
from logmend_cli import inputs
from logmend_cli.documented import CommandGroup, runbook_names
from logmend_cli.errors import BAD, DONE, UNUSABLE, warn


@click.group("filter", cls=CommandGroup, short_help="The filters that select log entries: show, match.")
def command() -> None:
    """Show and try the filters that select log entries.

    The text is the Logging query language, the same in the sink, in the function and here.
    """


@command.command(
    "show", short_help="Print the sink's filter.", examples=("logmend filter show > sink/filter.lql",)
)
def show() -> None:
    """Print the sink's filter: the runbooks' filters, and the guard against loops."""
    from logmend import catalog, sink_filter

    click.echo(sink_filter.compose(catalog.load(inputs.settings())))


@command.command(
    "match",
    short_help="Say which log entries a filter selects.",
    examples=(
        "logmend filter match --filter 'severity >= ERROR' entries.json",
        "gcloud logging read … --format=json | logmend filter match --runbook workload-cert-refresh -",
    ),
    may_be_empty=("text",),  # a filter without conditions, which selects every entry
)
@click.option("--runbook", shell_complete=runbook_names, metavar="NAME", help="The filter of a runbook.")
@click.option("--filter", "text", metavar="TEXT", help="A filter.")
@click.option("--filter-file", type=click.Path(path_type=Path), metavar="F", help="A file with a filter.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def match(runbook: str | None, text: str | None, filter_file: Path | None, files: tuple[str, ...]) -> int:
    """Print match FILE or no-match FILE for each log entry in the files (- is standard input).

    Files contain entries in any shape that gcloud prints; in arrays and JSON lines an entry is FILE:N,
    counted from 1. Nothing is looked up. Exit status: 0 if any entry matches, 1 if none does, 2 on an error.
    """
    from logmend import lql

    where = "--filter" if text is not None else str(filter_file) if filter_file else f"runbook {runbook}"
    try:
        selects = lql.compile(_chosen(runbook, text, filter_file))
    except lql.FilterError as error:
        raise ConfigError([f"{where}: {error}"]) from error
    status, broken = BAD, False
    for found in _entries(files):
        if isinstance(found, str):
            warn(found)
            broken = True
            continue
        matches = selects.matches(found.payload)
        sys.stdout.write(f"{'match' if matches else 'no-match'} {found.where}\n")
        status = DONE if matches else status
    return UNUSABLE if broken else status


def _entries(files: tuple[str, ...]) -> Iterator[inputs.Input | str]:
    """Yield the entries; for one that cannot be read, a ``str`` says why."""
    for file in files:
        at = inputs.position(file)
        try:
            for found in inputs.documents(file):
                event = found.event
                if isinstance(event, Undecodable) and event.reason == "no_data" and found.payload is None:
                    warn(f"{found.where}: {event.detail}")
                elif isinstance(event, Undecodable) and (
                    event.reason != "not_an_event" or not isinstance(found.payload, dict)
                ):
                    yield f"{found.where}: {event.detail}{next(at, '')}"
                else:
                    yield found
        except ConfigError as error:
            yield from error.problems


def _chosen(runbook: str | None, text: str | None, filter_file: Path | None) -> str:
    if sum(each is not None for each in (runbook, text, filter_file)) != 1:
        raise click.UsageError("give one of --runbook, --filter and --filter-file")
    if text is not None:
        return text
    if filter_file is not None:
        try:
            return filter_file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            raise ConfigError([f"{filter_file}: cannot be read: {why}"]) from error
    assert runbook is not None
    return _of_runbook(runbook, inputs.settings())


def _of_runbook(name: str, settings: Settings) -> str:
    from logmend import catalog
    from logmend.runbook.decode import suggestion

    loaded = catalog.load(settings)
    if (found := loaded.get(name)) is None:
        raise ConfigError([f"no runbook {name!r}; {suggestion(name, loaded)}"])
    if found.filter is None:
        raise ConfigError(
            [f"runbook {name} has no filter: it runs by incident or by an operator's request only"]
        )
    return found.filter
