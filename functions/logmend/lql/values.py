"""Conversions of values: of the filter's text and of an entry's JSON to what is compared.

Every function returns None if the value cannot be converted; the comparison is then false. Timestamps and
durations are whole nanoseconds (of the Unix era, resp. of length), so nothing is lost to floating point.
"""

import datetime as dt
import math
import re
from collections.abc import Callable

from logmend.lql.schema import Kind

SEVERITIES = {
    "DEFAULT": 0,
    "DEBUG": 100,
    "INFO": 200,
    "NOTICE": 300,
    "WARNING": 400,
    "ERROR": 500,
    "CRITICAL": 600,
    "ALERT": 700,
    "EMERGENCY": 800,
}
_EPOCH = dt.date(1970, 1, 1).toordinal()
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2})))?"
)
_DURATION = re.compile(r"([+-]?)([0-9]{1,20})?(?:\.([0-9]{1,20}))?(ns|us|ms|s|m|h)")
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPECIAL = {"nan": math.nan, "infinity": math.inf, "+infinity": math.inf, "-infinity": -math.inf}


def timestamp(text: str) -> int | None:
    """Return the nanoseconds since 1970 of an RFC 3339 time, or of midnight UTC of an ISO 8601 date."""
    if not (match := _TIMESTAMP.fullmatch(text)):
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    try:
        days = dt.date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    if hour is None:
        return days * 86_400_000_000_000
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        return None
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if sign:
        if int(zone_hours) > 23 or int(zone_minutes) > 59:
            return None
        offset = int(zone_hours) * 3_600 + int(zone_minutes) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def duration(text: str) -> int | None:
    """Return the nanoseconds of a signed decimal number with a unit, cut off below a nanosecond."""
    match = _DURATION.fullmatch(text)
    if not match or (match[2] is None and match[3] is None):
        return None
    unit, fraction = _UNITS[match[4]], match[3] or ""
    length: int = int(match[2] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
    return -length if match[1] == "-" else length


def integer(text: str, bits: int = 64) -> int | None:
    """Read a signed integer that fits in ``bits``."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(1 << bits - 1) <= value < 1 << bits - 1 else None


def double(text: str) -> float | None:
    """Read a number with sign and exponent, or NaN, Infinity, -Infinity in any case."""
    return float(text) if _NUMBER.fullmatch(text) else _SPECIAL.get(text.lower())


def boolean(text: str) -> bool | None:
    """Read ``true`` or ``false`` in any case."""
    return {"true": True, "false": False}.get(text.lower())


def severity(text: str) -> int | None:
    """Return the number of a severity's name in any case."""
    return SEVERITIES.get(text.upper())


def _integer32(text: str) -> int | None:
    return integer(text, 32)


FROM_TEXT: dict[Kind, Callable[[str], object]] = {
    Kind.BOOL: boolean,
    Kind.INT32: _integer32,
    Kind.INT64: integer,
    Kind.DOUBLE: double,
    Kind.SEVERITY: severity,
    Kind.TIMESTAMP: timestamp,
    Kind.DURATION: duration,
}


def number_of(value: int | float) -> float:  # noqa: PYI041 - JSON gives either
    """Return a JSON number as the double that Logging stores; beyond the range of doubles it is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _json_boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _json_integer(value: object) -> int | None:
    if isinstance(value, str):
        return integer(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json_double(value: object) -> float | None:
    if isinstance(value, str):
        return double(value)
    return number_of(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _json_severity(value: object) -> int | None:
    return severity(value) if isinstance(value, str) else _json_integer(value)


def _json_timestamp(value: object) -> int | None:
    return timestamp(value) if isinstance(value, str) else None


def _json_duration(value: object) -> int | None:
    return duration(value) if isinstance(value, str) else None


def _json_string(value: object) -> str | None:
    return value if isinstance(value, str) else None


FROM_JSON: dict[Kind, Callable[[object], object]] = {
    Kind.STRING: _json_string,
    Kind.BOOL: _json_boolean,
    Kind.INT32: _json_integer,
    Kind.INT64: _json_integer,
    Kind.DOUBLE: _json_double,
    Kind.SEVERITY: _json_severity,
    Kind.TIMESTAMP: _json_timestamp,
    Kind.DURATION: _json_duration,
}
