"""Who said a log line, and what: the payload texts in the one form that runbooks match.

The same line reaches Cloud Logging bare, behind a syslog, journal or kernel prefix, with terminal colours
or with its control characters spelled out. Runbooks see all of them as ``PROGRAM: MESSAGE``, or as
``MESSAGE`` alone where nothing says which program wrote it, so that a pattern anchored at the start cannot
be met by another program that merely quotes the line.
"""

import re
from datetime import datetime
from typing import Any

from logmend.model.struct import Struct
from logmend.stages.decode.payload import instant

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2}|\\[0-7]{3})+|\\[abfnrtv\"'\\]")
_BYTE = re.compile(r"\\x([0-9a-fA-F]{2})|\\([0-7]{3})")
_NAMED = dict(zip("abfnrtv\"'\\", "\a\b\f\n\r\t\v\"'\\", strict=True))

_ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_RFC3164 = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"  # local time without a zone or a year: never read
_PROGRAM = r"(?P<program>[^\s\[\]:]{1,128})"
_DATED = re.compile(rf"(?:(?P<time>{_ISO})|{_RFC3164}) (?:\S{{1,255}} )??{_PROGRAM}(?:\[\d+\])?: ")
_UNDATED = re.compile(rf"{_PROGRAM}\[\d+\]: ")
_KERNEL = re.compile(r"\[ *\d+\.\d+\] ")
_PRIORITY = re.compile(r"<\d{1,3}>")


class Line(Struct, frozen=True):
    """One line: the program that its prefix names, what it said, and the time where its zone is known."""

    program: str | None
    message: str
    time: datetime | None = None

    @property
    def text(self) -> str:
        """``PROGRAM: MESSAGE``, or the message alone."""
        return f"{self.program}: {self.message}" if self.program else self.message


def read(text: str, *, program: str | None = None, escaped: bool = False) -> Line:
    """Read one payload text.

    ``program`` is what a field of its own names (journal, fluentd): it is believed over any prefix, which
    is then part of the message. ``escaped`` says that the serial console's label ``is_text_escaped`` is set.
    """
    if escaped:
        text = unescape(text)
    text = _ANSI.sub("", text).strip("\r\n\t \0")
    if program:
        return Line(program, text)
    rest = text
    for skipped in (_KERNEL, _PRIORITY):
        if found := skipped.match(rest):
            rest = rest[found.end() :]
    if found := _DATED.match(rest):
        return Line(found["program"], rest[found.end() :], instant(found["time"]))
    if found := _UNDATED.match(rest):
        return Line(found["program"], rest[found.end() :])
    return Line(None, rest)


def unescape(text: str) -> str:
    r"""Undo the serial console's escaping: ``\r\n``, ``\"``, ``\x1b``, and UTF-8 spelled byte by byte."""
    return _ESCAPES.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    spelled = found[0]
    if spelled[1] in _NAMED:
        return _NAMED[spelled[1]]
    parts = _BYTE.findall(spelled)
    return bytes(int(h, 16) if h else int(o, 8) & 0xFF for h, o in parts).decode("utf-8", "replace")


def of_entry(raw: dict[str, Any]) -> list[Line]:
    """Return the lines of a LogEntry's payload, in the order in which they are searched.

    ``jsonPayload.message`` (Ops Agent, google-fluentd), ``jsonPayload.MESSAGE`` (journal), ``textPayload``
    (google-fluentd, serial console). The program's own field is ``SYSLOG_IDENTIFIER`` or ``ident``.
    """
    payload = raw.get("jsonPayload") or {}
    named = payload.get("SYSLOG_IDENTIFIER") or payload.get("ident")
    program = named if isinstance(named, str) else None
    lines = [
        read(payload[key], program=program)
        for key in ("message", "MESSAGE")
        if isinstance(payload.get(key), str)
    ]
    if isinstance(text := raw.get("textPayload"), str):
        labels = raw.get("labels")
        escaped = isinstance(labels, dict) and labels.get("is_text_escaped") == "true"
        lines.append(read(text, escaped=escaped))
    return lines
