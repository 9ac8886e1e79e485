"""Read the program, host and message of a log line, and give payload texts the one form that runbooks match.

The same line reaches Cloud Logging bare, after a header of a syslog daemon, the journal or the kernel
(:mod:`logmend.stages.decode.header`), with terminal colours, or with escaped control characters. Runbooks
always see ``PROGRAM: MESSAGE``, or just ``MESSAGE`` if nothing says which program wrote it. Therefore another
program that merely quotes the line cannot match a pattern anchored at the start.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache

from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.stages.decode import header
from logmend.stages.decode.payload import instant, unix_seconds

MESSAGE_FIELDS = ("message", "MESSAGE", "log", "msg")
"""Fields of ``jsonPayload`` that contain the line, in the order in which they are searched.

``message``: the Ops Agent (its tail and syslog inputs set ``Key message``), google-fluentd, Vector;
``MESSAGE``: the journal (systemd.journal-fields(7)), by the Ops Agent's systemd_journald receiver, and
syslog-ng's format-json; ``log``: Fluent Bit (the default ``key`` of its tail input, plugins/in_tail/tail.c)
and Docker; ``msg``: rsyslog's property of that name."""

PROGRAM_FIELDS = (
    "SYSLOG_IDENTIFIER",  # systemd.journal-fields(7)
    "syslog_identifier",  # the same with fluent-bit's and fluentd's lower-case options, and in BigQuery
    "ident",  # Fluent Bit's conf/parsers.conf (syslog-rfc3164, -rfc5424), fluentd's syslog parser
    "programname",  # rsyslog's properties
    "syslogtag",
    "program",  # Logstash
    "PROGRAM",  # syslog-ng's format-json
    "appname",  # Vector's and OpenTelemetry's syslog sources
)
"""Fields of ``jsonPayload`` that name the program. All that are present count."""

HOST_FIELDS = ("_HOSTNAME", "hostname", "host", "HOST", "HOSTNAME")
"""Fields of ``jsonPayload`` that name the line's host, from the same sources."""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2}|\\[0-7]{3})+|\\[abfnrtv\"'\\]")
_BYTE = re.compile(r"\\x([0-9a-fA-F]{2})|\\([0-7]{3})")
_NAMED = dict(zip("abfnrtv\"'\\", "\a\b\f\n\r\t\v\"'\\", strict=True))

_TAG = r"(?P<program>[^\s\[\]:]{1,256})"
_ELEMENT = r"""\[[^\s=\]"]+(?: [^\s=\]"]+="(?:[^"\\]|\\.)*")*\]"""
_DATA = rf"(?P<data>-|(?:{_ELEMENT})+)"


_PROGRAM_FIELDS = frozenset(PROGRAM_FIELDS)
_HOST_FIELDS = frozenset(HOST_FIELDS)


def _portable(pattern: str) -> re.Pattern[str]:
    """Compile one of the header's patterns. Python warns that ``[[]`` looks like a nested set."""
    return re.compile(pattern.replace("[[]", r"\["))


def _named(time: str) -> str:
    return header.named(_TAG, time=f"(?P<time>{time})", host=f"(?P<host>{header.HOST})", data=_DATA)


_BEFORE = _portable(header.before())
_HEADER = _portable(header.before() + _named(header.TIME))
_PID = re.compile(r"(?:\[[^\]]*\])?:?\Z")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
_ZONED = re.compile(r"(?:[A-Z][a-z]{2},? )?(\d{4}-\S+[ T]\S+?)(?: (UTC)| ([+-]\d\d:?\d\d))?:?")


class Line(Struct, frozen=True):
    """One line: the program and host from its header, the message, and the time if its zone is known."""

    program: str | None
    message: str
    time: datetime | None = None
    host: str | None = None

    @property
    def text(self) -> str:
        """Return ``PROGRAM: MESSAGE``, or the message alone."""
        return f"{self.program}: {self.message}" if self.program else self.message


def read(text: str, *, program: str | None = None, escaped: bool = False) -> Line:
    """Read one payload text.

    ``program`` is the name from a separate field (journal, fluentd). It overrides any header, which
    is then part of the message unless it names the same program. ``escaped`` says that the serial console's
    label ``is_text_escaped`` is set.
    """
    if escaped:
        text = unescape(text)
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    text = text.strip("\r\n\t \0")
    found = _header(text) if program is None or program in text else None
    if found is not None:
        named = named_by(found["program"])
        if program in (None, named) or named is None:
            message = text[found.end() :].removeprefix("\ufeff")
            return Line(named or program, message, _time(found["time"]), host(found["host"]))
    start = _BEFORE.match(text)
    return Line(program, text[start.end() :] if start else text)


@cache  # it takes milliseconds to compile, and the form is rare
def _since_start() -> re.Pattern[str]:
    return _portable(header.before().replace(")?", ")??") + _named(header.UPTIME))


def _header(text: str) -> re.Match[str] | None:
    found = _HEADER.match(text)
    if found is not None and _names(found):
        return found
    found = _since_start().match(text) if "] " in text[:64] else None
    return found if found is not None and _names(found) else None


def _names(found: re.Match[str]) -> bool:
    """Return whether it is a header: any word may precede a colon, so it takes a time, a PID or a path."""
    time, data = found["time"], found["data"]
    if (time is not None and not time.startswith("[")) or (data is not None and found["host"] is not None):
        return True
    return data is None and (found["program"].startswith("/") or found[0].rstrip(" ").endswith("]:"))


def named_by(tag: str) -> str | None:
    """Return a tag's program: ``gce_x`` for ``/usr/bin/gce_x[929]:``; None for ``-``, which names none."""
    if tag.endswith((":", "]")):
        tag = _PID.sub("", tag)
    name = tag.rpartition("/")[2] if tag.startswith("/") else tag
    return None if name in ("", "-") else name


def host(value: object) -> str | None:
    """Return a host's name or address; None for anything else, or if it says nothing."""
    if not isinstance(value, str) or not _HOST.fullmatch(value) or value.partition(".")[0] == "localhost":
        return None
    return value


def _time(stamp: str | None) -> datetime | None:
    """Return a header's time. It is unknown without a zone (RFC 3164 has none) or if counted since boot."""
    if stamp is None:
        return None
    if found := _ZONED.fullmatch(stamp):
        return instant(found[1] + ("Z" if found[2] else found[3] or ""))
    return unix_seconds(float(stamp)) if stamp[0].isdigit() and "-" not in stamp else None


def unescape(text: str) -> str:
    r"""Undo the serial console's escaping: ``\r\n``, ``\"``, ``\x1b``, and UTF-8 byte by byte."""
    return _ESCAPES.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    spelled = found[0]
    if spelled[1] in _NAMED:
        return _NAMED[spelled[1]]
    parts = _BYTE.findall(spelled)
    return bytes(int(h, 16) if h else int(o, 8) & 0xFF for h, o in parts).decode("utf-8", "replace")


def of_entry(raw: JsonObject) -> list[Line]:
    """Return the lines in a LogEntry's payload, in the order in which they are searched.

    They come from :data:`MESSAGE_FIELDS` and ``textPayload`` (google-fluentd, serial console, OpenTelemetry).
    If several fields name a program, the first counts.
    """
    lines = []
    if payload := raw.get("jsonPayload"):
        program = program_of(payload)
        for key in MESSAGE_FIELDS:
            if isinstance(said := payload.get(key), str):
                lines.append(read(said, program=program))  # noqa: PERF401  few fields, and this is hot
    if isinstance(text := raw.get("textPayload"), str):
        labels = raw.get("labels")
        escaped = isinstance(labels, dict) and labels.get("is_text_escaped") == "true"
        lines.append(read(text, escaped=escaped))
    return lines


def program_of(payload: Mapping[str, object]) -> str | None:
    """Return the program from the first of :data:`PROGRAM_FIELDS` that names one; None if none does."""
    if _PROGRAM_FIELDS.isdisjoint(payload):
        return None
    for key in PROGRAM_FIELDS:
        if isinstance(said := payload.get(key), str) and (named := named_by(said)):
            return named
    return None


def programs_of(raw: JsonObject, said: list[Line]) -> tuple[str, ...]:
    """Return the programs that an entry's lines name, or that its payload names if it has no lines."""
    if said:
        return tuple(dict.fromkeys([line.program for line in said if line.program]))
    named = program_of(raw.get("jsonPayload") or {})
    return (named,) if named else ()


def time_of(said: list[Line]) -> datetime | None:
    """Return the first time in an entry's lines; None if there is none."""
    for line in said:
        if line.time is not None:
            return line.time
    return None


def host_of(raw: JsonObject, said: list[Line]) -> str | None:
    """Return the host named by an entry's lines or payload; None if neither does."""
    for line in said:
        if line.host is not None:
            return line.host
    payload = raw.get("jsonPayload")
    if not payload or _HOST_FIELDS.isdisjoint(payload):
        return None
    for key in HOST_FIELDS:
        if named := host(payload.get(key)):
            return named
    return None
