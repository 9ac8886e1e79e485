"""``cast(FIELD, TYPE[, TIMEZONE("zone")])``: values turned into values of another type.

If no value of the field's type can be cast, compiling the filter raises an error. At run time a value that
cannot be cast counts as missing. Where Google's page is silent, the narrow reading applies: a number with a
fraction cannot be cast to INT64 (rounding is not documented), and a timestamp cast to STRING is written as
RFC 3339 with 0, 3, 6 or 9 digits of fraction (only the order of its parts is documented, by examples).
"""

import datetime as dt
from collections.abc import Callable

from logmend.lql import values
from logmend.lql.errors import FilterError
from logmend.lql.lookup import ABSENT
from logmend.lql.nodes import Position
from logmend.lql.schema import OBJECTS, Kind

KINDS = {
    "STRING": Kind.STRING,
    "INT64": Kind.INT64,
    "FLOAT64": Kind.DOUBLE,
    "BOOL": Kind.BOOL,
    "TIMESTAMP": Kind.TIMESTAMP,
    "DURATION": Kind.DURATION,
}
# The types that a value can be cast to besides STRING and its own.
_ALLOWED = {
    Kind.STRING: set(KINDS.values()),
    Kind.DYNAMIC: set(KINDS.values()),
    Kind.BOOL: {Kind.INT64},
    Kind.INT32: {Kind.INT64, Kind.DOUBLE, Kind.BOOL},
    Kind.INT64: {Kind.DOUBLE, Kind.BOOL},
    Kind.DOUBLE: {Kind.INT64, Kind.BOOL},
    Kind.SEVERITY: {Kind.INT64},
    Kind.TIMESTAMP: set(),
    Kind.DURATION: set(),
}
_DATE = "0000-00-00"


def converter(
    kind: Kind, type_name: str, zone: str | None, name: str, at: Position
) -> Callable[[object], object]:
    """Return the conversion of JSON values from ``kind`` to the type; it returns ABSENT if it fails."""
    target = KINDS[type_name]
    if kind in OBJECTS or target not in _ALLOWED[kind] | {Kind.STRING, kind}:
        raise FilterError(f"{name} is a {kind.name.lower()} and cannot be cast to {type_name}", *at)
    place = _zone(zone, kind, target, at)
    if target is Kind.STRING:
        return lambda value: _string(value, kind, place)
    if target is Kind.TIMESTAMP:
        return lambda value: _timestamp(value, place)
    return {
        Kind.INT64: _integer,
        Kind.DOUBLE: _double,
        Kind.BOOL: _boolean,
        Kind.DURATION: lambda value: _checked(value, values.duration),
    }[target]


def _zone(zone: str | None, kind: Kind, target: Kind, at: Position) -> dt.tzinfo:
    if zone is None:
        return dt.UTC
    if Kind.TIMESTAMP not in {kind, target} or {kind, target} == {Kind.TIMESTAMP}:
        raise FilterError("TIMEZONE applies to casts from or to TIMESTAMP", *at)
    import zoneinfo  # noqa: PLC0415  only a filter that names a zone needs it

    try:
        return zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise FilterError(
            f"unknown time zone {zone}",
            *at,
            "a name of the IANA time zone database",
            'as in "America/New_York"',
        ) from None


def _string(value: object, kind: Kind, zone: dt.tzinfo) -> object:
    if kind is Kind.TIMESTAMP:
        return ABSENT if not isinstance(value, str) else _written(values.timestamp(value), zone)
    if kind is Kind.SEVERITY and not isinstance(value, str):
        names = {number: name for name, number in values.SEVERITIES.items()}
        return names.get(value, ABSENT) if isinstance(value, int) else ABSENT
    if isinstance(value, str):
        return value.upper() if kind is Kind.SEVERITY else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        number = values.number_of(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else str(number)
    return ABSENT


def _written(nanoseconds: int | None, zone: dt.tzinfo) -> object:
    if nanoseconds is None:
        return ABSENT
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    try:
        moment = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)).astimezone(zone)
    except OverflowError:
        return ABSENT
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    offset = moment.strftime("%z")
    shown = "Z" if offset in {"+0000", ""} else f"{offset[:3]}:{offset[3:5]}"
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + (f".{digits}" if digits else "") + shown


def _timestamp(value: object, zone: dt.tzinfo) -> object:
    """Return a time. A text without its own zone, or a bare date, is local to ``zone``."""
    if not isinstance(value, str):
        return ABSENT
    date, _, clock = value.upper().partition("T")
    own_zone = "Z" in clock or "+" in clock or "-" in clock
    if own_zone:
        return value if values.timestamp(value) is not None else ABSENT
    whole = f"{date}T{clock or '00:00:00'}Z"
    if (nanoseconds := values.timestamp(whole)) is None:
        return ABSENT
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    try:
        naive = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
        local = naive.replace(tzinfo=zone)
        offset = local.utcoffset() or dt.timedelta()
    except OverflowError:
        return ABSENT
    return _written((seconds - int(offset.total_seconds())) * 1_000_000_000 + fraction, dt.UTC)


def _integer(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        number = values.severity(value) if value.isalpha() else values.integer(value)
        return ABSENT if number is None else number
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**63 else ABSENT
    return value if isinstance(value, int) and abs(value) < 2**63 else ABSENT


def _double(value: object) -> object:
    if isinstance(value, str):
        number = values.double(value)
        return ABSENT if number is None else number
    return (
        values.number_of(value) if isinstance(value, int | float) and not isinstance(value, bool) else ABSENT
    )


def _boolean(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if (number := values.integer(value)) is not None:
            return number != 0
        truth = values.boolean(value)
        return ABSENT if truth is None else truth
    return value != 0 if isinstance(value, int | float) else ABSENT


def _checked(value: object, parse: Callable[[str], object]) -> object:
    return value if isinstance(value, str) and parse(value) is not None else ABSENT
