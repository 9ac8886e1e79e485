"""What commands read: files of events, settings, times. Input that cannot be used is a ConfigError."""

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from logmend.errors import ConfigError
from logmend.model.enums import Mode
from logmend.model.struct import Struct, replace
from logmend.model.values import Delivery, Event, Undecodable
from logmend.settings import PREFIX, Settings, duration
from logmend.stages import decode
from logmend.stages.decode.payload import instant
from logmend.stages.decode.stream import Passing
from logmend_cli import profiles

STDIN = "-"
EMPTY_ARRAY = "an empty array"


class Input(Struct, frozen=True):
    """One document of a file: its place (``FILE``, or ``FILE:N`` counted from 1), and its content.

    ``number`` is None if the file is that one document. ``payload`` is the JSON document itself.
    """

    file: str
    number: int | None
    delivery: Delivery | None
    event: Event | Undecodable
    payload: object

    @property
    def where(self) -> str:
        """``FILE`` or ``FILE:N``."""
        return self.file if self.number is None else f"{self.file}:{self.number}"


def documents(file: str, passing: Passing | None = None) -> Iterator[Input]:
    """Yield the documents of a file (``-`` is standard input) one by one, in bounded memory.

    An empty file yields one document that says so (``no_data``). Entries that pass ``passing`` are counted,
    not yielded.
    """
    passing = passing or Passing()
    with opened(file) as stream:
        numbered = _begins_an_array(stream)
        items = decode.entries(stream, passing)
        first, before = next(items, None), passing.passed
        if first is None:
            if not before:
                nothing = EMPTY_ARRAY if numbered else "empty"
                yield Input(file, None, None, Undecodable("no_data", nothing), None)
            return
        second = next(items, None)
        numbered = numbered or second is not None or passing.passed > 0
        yield Input(file, before + 1 if numbered else None, *first)
        if second is not None:
            yield Input(file, passing.passed + 2, *second)
            for number, (delivery, event, payload) in enumerate(items, 3):
                yield Input(file, passing.passed + number, delivery, event, payload)


@contextmanager
def opened(file: str) -> Iterator[io.BufferedReader]:
    """Open a file for reading bytes; ``-`` is standard input."""
    try:
        if file == STDIN:
            yield _buffered(sys.stdin.buffer)
            return
        with open(file, "rb") as stream:  # noqa: PTH123  the name is printed as it was given
            yield stream
    except (OSError, io.UnsupportedOperation) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise ConfigError([f"{file}: cannot be read: {error.strerror or error}"]) from error


def settings(mode: Mode | None = None) -> Settings:
    """Return the settings; ``mode`` replaces the one that is set.

    The environment takes precedence over the profile in use, whose fleet is named on standard error.
    """
    used = profiles.current()
    read = Settings.from_environment(_over(used))
    if used is not None:
        click.echo(f"logmend: {used.announcement}", err=True)
    return read if mode is None else replace(read, mode=mode)


def environment() -> Mapping[str, str]:
    """Return the variables of the profile in use, overridden by the environment."""
    return _over(profiles.current())


def _over(used: profiles.Profile | None) -> Mapping[str, str]:
    return os.environ if used is None else {**used.variables, **os.environ}


def is_set(name: str) -> bool:
    """Return whether the environment or the profile has this setting."""
    return PREFIX + name.upper() in environment()


def time(text: str | None) -> datetime | None:
    """Read a time as an option gives it: RFC 3339 with its zone, or ``now``."""
    if text is None:
        return None
    if text == "now":
        return datetime.now(UTC)
    if (found := instant(text)) is None:
        raise ConfigError([f"{text!r} is not a time: write 2026-01-31T12:00:00Z (with a zone), or now"])
    return found


def since(text: str | None, now: datetime) -> datetime | None:
    """Read a time as an option gives it: ``7d`` is that long before ``now``; otherwise like :func:`time`."""
    try:
        return None if text is None else now - duration(text)
    except (ValueError, OverflowError):
        if (found := instant(text)) is None and text != "now":
            problem = f"{text!r} is not a time: write 7d, 36h or 90m (that long ago), or 2026-01-31T12:00:00Z"
            raise ConfigError([problem]) from None
        return found or now


def _begins_an_array(stream: io.BufferedReader) -> bool:
    return stream.peek(256)[:256].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"[")


def _buffered(stream: BinaryIO) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[arg-type]


_LOOK = 32 * 1024 * 1024


def position(file: str) -> Iterator[str]:
    """Yield the places where a file stops being JSON, one by one; empty if a place is not known.

    The file is read again, up to a size; standard input cannot be.
    """
    path = Path(file)
    if file == STDIN or not path.is_file() or path.stat().st_size > _LOOK:
        return
    data = path.read_bytes()
    text = data.decode(json.detect_encoding(data), "replace")
    whole = _stops(text)
    if whole is not None and whole.msg != "Extra data":
        yield f" (line {whole.lineno}, column {whole.colno})"
    elif whole is not None:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and (error := _stops(line)) is not None:
                yield f" (line {number}, column {error.colno})"


def _stops(text: str) -> json.JSONDecodeError | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error
    except (ValueError, RecursionError):
        return None
    return None
