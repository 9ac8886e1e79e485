"""Where ``status`` and ``report`` read outcomes: a file, Cloud Logging, or the ledger."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click

from logmend.errors import ConfigError
from logmend.model.struct import Struct
from logmend.model.values import Outcome, Undecodable
from logmend.outcome import document
from logmend.settings import Settings
from logmend.stages.decode.stream import values
from logmend_cli import inputs
from logmend_cli.documented import together
from logmend_cli.errors import warn

NOTHING = (
    "nothing to read: name the ledger (LOGMEND_STATE=firestore:PROJECT/DATABASE or sqlite:PATH), a file of"
    " outcomes, or --cloud"
)


class OutcomeQuery(Struct, frozen=True):
    """Where outcomes come from: a file (``-`` is standard input), a project's log, or else the ledger.

    ``since`` limits what is read from a log, and what is counted from other sources.
    """

    file: str | None
    project: str | None
    since: datetime | None

    @property
    def name(self) -> str | None:
        """The source in a word or two; None for the ledger."""
        if self.file is not None:
            return "standard input" if self.file == inputs.STDIN else self.file
        return f"log {document.LOG_ID} of project {self.project}" if self.project else None


options = together(
    click.argument("file", metavar="[FILE]", required=False),
    click.option("--cloud", is_flag=True, help="Read Cloud Logging: log logmend of LOGMEND_PROJECT."),
    click.option("--since", metavar="TIME", help="Only from then on: 7d, 36h, or RFC 3339."),
)
"""The options that select where outcomes come from."""


def chosen(settings: Settings, file: str | None, *, cloud: bool, since: str | None) -> OutcomeQuery:
    """Return the source that the options select; without any, that of LOGMEND_OUTCOMES, else the ledger."""
    if file is not None and cloud:
        raise click.UsageError("give FILE or --cloud, not both")
    begin = inputs.since(since, datetime.now(UTC))
    kind, _, where = settings.outcomes.partition(":")
    if file is None and not cloud:
        cloud = kind == "cloud"
        file = where if kind == "file" and Path(where).is_file() else None
    if cloud and settings.project is None:
        raise ConfigError(["--cloud reads the log of a project: set LOGMEND_PROJECT"])
    return OutcomeQuery(file, settings.project if cloud else None, begin)


async def read(source: OutcomeQuery, settings: Settings) -> AsyncIterator[Outcome]:
    """Yield outcomes, oldest first. A warning counts other items; a file with no outcome is an error."""
    if source.file is not None:
        for outcome in _interruptible(of_file(source.file)):
            if source.since is None or outcome.at >= source.since:
                yield outcome
    elif source.project is not None:
        async for outcome in _of_log(source.project, source.since, settings):
            yield outcome


def _interruptible(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Let Ctrl-C end a command that waits for a pipe; asyncio's handler waits for the read to return.

    asyncio replaces only Python's own handler (``asyncio.Runner.run``), so this one stays during each run.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # a background job of a script: Ctrl-C is not meant for it
        yield from outcomes
        return
    signal.signal(signal.SIGINT, _interrupted)
    try:
        yield from outcomes
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(number: int, frame: FrameType | None) -> None:
    signal.default_int_handler(number, frame)


def of_file(file: str) -> Iterator[Outcome]:
    """Read a file of outcomes: JSON lines, an array, or the output of `gcloud logging read --format=json`."""
    good = bad = 0
    why = "it is empty"
    with inputs.opened(file) as stream:
        for value in values(stream):
            try:
                yield _outcome(value)
                good += 1
            except ValueError as error:
                bad, why = bad + 1, str(error)
    if not good and (bad or os.fspath(file) != inputs.STDIN):
        raise ConfigError([f"{file}: no outcome in it: {why}"])
    if bad:
        warn(f"{file}: {bad} items are not outcomes ({why})")


async def _of_log(project: str, since: datetime | None, settings: Settings) -> AsyncIterator[Outcome]:
    from logmend.adapters.google.log_entries import LogEntries

    logs = LogEntries(
        settings.logging_endpoint, waiting=lambda seconds, why: warn(f"{why}: waiting {seconds:g} s")
    )
    where = f'logName="projects/{project}/logs/{document.LOG_ID}"'
    if since is not None:
        where += f' AND timestamp >= "{since.isoformat()}"'
    bad = 0
    try:
        async for page in logs.pages([f"projects/{project}"], where):
            for entry in page:
                try:
                    yield _outcome(entry)
                except ValueError:
                    bad += 1
    finally:
        await logs.aclose()
    if bad:
        warn(f"{bad} entries of the log {document.LOG_ID} are not outcomes")


def _outcome(value: object) -> Outcome:
    """Read an outcome, or the LogEntry that carries one; raise ValueError if it is neither."""
    if isinstance(value, Undecodable):
        raise ValueError(value.detail)  # noqa: TRY004  one error for whatever is no outcome
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004
    payload = value.get("jsonPayload")
    if isinstance(payload, dict):  # Cloud Run takes `timestamp` out of what it reads from standard output
        value = {"timestamp": value.get("timestamp"), **payload}
    return document.from_json(value)
