"""Parse untrusted text into JSON values that the rest of the program can walk safely."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from logmend.model.values import Undecodable

MAX_ENTRY = 640 * 1024
"""Bytes of one decoded payload, at most, counting an escape such as ``\\u0007`` as the one byte it spells.

Cloud Logging accepts no entry over 256 KiB (cloud.google.com/logging/quotas), measured as protobuf. In JSON a
number takes up to 25 bytes for its 11, and an escaped quote two for one. An incident is a few KiB."""

MAX_SPELLED = 2 * 1024 * 1024
"""The most bytes of one decoded payload with escapes: 256 KiB of control characters take 1.5 MiB."""

MAX_DEPTH = 100
"""The deepest nesting of one payload: the limit of protobuf's own JSON parser, which no entry of Google's can
exceed. It keeps every later recursive walk far below Python's recursion limit."""

_DECODER = json.JSONDecoder()
_FAST = msgspec.json.Decoder()
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,12})?(?:[Zz]|[+-]\d\d:?\d\d)")
_NO_TIME = (ValueError, OverflowError, OSError)
"""What datetime raises for 30 February, second 60, year 0 or a value out of range."""
_NESTS = (dict, list)


def loads(text: bytes) -> Any | Undecodable:
    """Parse one JSON document in UTF-8; any error is ``malformed``.

    msgspec gives the same values as ``json``, three times as fast. What it does not read (lone surrogates, a
    byte order mark, errors) is left to ``json``, which handles or describes it better.
    """
    try:
        return _FAST.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _loads(text)


def complete(text: str) -> dict[str, Any] | None:
    """Parse a text as exactly one JSON object; None if ``json`` has to decide."""
    try:
        value = _FAST.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def too_large(text: bytes) -> Undecodable | None:
    """Return an error if a JSON document is larger than any that Google sends; else None."""
    size = len(text)
    if MAX_ENTRY < size <= MAX_SPELLED:
        size -= 5 * text.count(b"\\u00")
    if size <= MAX_ENTRY:
        return None
    return Undecodable(
        "too_large", f"{len(text)} bytes, the limit is {MAX_ENTRY}, each escape counted as one"
    )


def _loads(text: bytes) -> object | Undecodable:
    try:
        decoded = text.decode("utf-8-sig").strip(" \t\r\n")
    except UnicodeDecodeError:
        return Undecodable("malformed", "not UTF-8")
    value, end, _ = scan(decoded)
    if end < len(decoded) and not isinstance(value, Undecodable):
        return Undecodable("malformed", f"not JSON: more after its end (character {end})")
    return value


def scan(text: str) -> tuple[object | Undecodable, int, bool]:
    r"""Parse the JSON value at the start of a text; return it, its end, and whether it was cut off.

    Lone surrogates (``"\ud800"``), which JSON can express but UTF-8 cannot, become U+FFFD, so every string in
    the result can be encoded again.
    """
    try:
        value, end = _DECODER.raw_decode(text)
        if _SURROGATE_ESCAPE.search(text, 0, end):
            value = _encodable(value)
    except json.JSONDecodeError as error:
        # A truncated escape or literal is reported where it begins, a few characters earlier.
        cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(text) - len(
            "\\ud83d\\ude00"
        )
        return Undecodable("malformed", f"not JSON: {error.msg} (character {error.pos})"), error.pos, cut_off
    except RecursionError:
        return Undecodable("malformed", "JSON is nested too deeply"), len(text), False
    except ValueError:  # an integer with thousands of digits
        return Undecodable("malformed", "the JSON contains a number that is too long"), len(text), False
    return value, end, False


def too_deep(value: Any, left: int = MAX_DEPTH) -> bool:
    """Return whether ``value`` nests deeper than ``left``, without looking any deeper itself."""
    if type(value) not in _NESTS:
        return False
    for part in value.values() if type(value) is dict else value:
        if type(part) in _NESTS and (left == 0 or too_deep(part, left - 1)):
            return True
    return False


def instant(value: object) -> datetime | None:
    """Return the UTC time of an RFC 3339 string with a zone (also ``+0000``); None for anything else.

    Digits beyond microseconds are cut off: Python has no nanoseconds.
    """
    if not isinstance(value, str):
        return None
    try:
        as_google = 22 <= len(value) <= 30 and value[4:20:3] == "--T::." and value[-1] == "Z"
        # fromisoformat ignores everything after a NUL.
        if as_google and value.isascii() and value[20:-1].isdigit() and "\0" not in value:
            return datetime.fromisoformat(value)
        if not _TIMESTAMP.fullmatch(value):
            return None
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except _NO_TIME:
        return None


def unix_seconds(value: object) -> datetime | None:
    """Return the UTC time of seconds since 1970, as in incidents; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except _NO_TIME:
        return None


def strings(value: object) -> dict[str, str]:
    """Return a JSON object's members with string values; empty for anything else."""
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str)}


def string(value: object) -> str | None:
    """Return the value if it is a non-empty string, else None."""
    return value if isinstance(value, str) and value else None


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value
