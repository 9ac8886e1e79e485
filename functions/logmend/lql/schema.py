"""The fields of a LogEntry, their types, and the path that a filter names.

Sources: https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry (fields and types) and the list
of identifiers of the query language's page. ``errorGroups`` and the ``apphub`` fields are in the former
only; they are not known to filters and so are refused. Names of LogEntry's own fields ignore case and may
be written in snake_case, as any protocol buffer's; keys of ``jsonPayload`` and of label maps are data and
keep theirs.
"""

import difflib
import re
from enum import Enum, auto

from logmend.lql.errors import FilterError
from logmend.lql.nodes import Field, Position
from logmend.model.struct import Struct


class Kind(Enum):
    """How a field's values are compared."""

    STRING = auto()
    BOOL = auto()
    INT32 = auto()
    INT64 = auto()
    DOUBLE = auto()
    SEVERITY = auto()
    TIMESTAMP = auto()
    DURATION = auto()
    MESSAGE = auto()  # an object of LogEntry with fixed fields
    LABELS = auto()  # a map from string to string
    STRUCT = auto()  # free JSON
    PROTO = auto()  # JSON of a protocol buffer; keys ignore case
    DYNAMIC = auto()  # a value inside the last three: its type is that of the JSON value


OBJECTS = frozenset({Kind.MESSAGE, Kind.LABELS, Kind.STRUCT, Kind.PROTO})
# The values, in proto-JSON, as which absent fields of LogEntry are compared.
DEFAULTS: dict[Kind, str | bool | int] = {
    Kind.STRING: "",
    Kind.BOOL: False,
    Kind.INT32: 0,
    Kind.INT64: 0,
    Kind.SEVERITY: "DEFAULT",
    Kind.TIMESTAMP: "1970-01-01T00:00:00Z",
    Kind.DURATION: "0s",
}

_S, _B, _I, _L = Kind.STRING, Kind.BOOL, Kind.INT32, Kind.INT64
LOG_ENTRY: "dict[str, Kind | dict[str, Kind]]" = {
    "httpRequest": {
        "cacheFillBytes": _L,
        "cacheHit": _B,
        "cacheLookup": _B,
        "cacheValidatedWithOriginServer": _B,
        "latency": Kind.DURATION,
        "protocol": _S,
        "referer": _S,
        "remoteIp": _S,
        "requestMethod": _S,
        "requestSize": _L,
        "requestUrl": _S,
        "responseSize": _L,
        "serverIp": _S,
        "status": _I,
        "userAgent": _S,
    },
    "insertId": _S,
    "jsonPayload": Kind.STRUCT,
    "labels": Kind.LABELS,
    "logName": _S,
    "metadata": {"systemLabels": Kind.STRUCT, "userLabels": Kind.LABELS},
    "operation": {"id": _S, "producer": _S, "first": _B, "last": _B},
    "protoPayload": Kind.PROTO,
    "receiveTimestamp": Kind.TIMESTAMP,
    "resource": {"type": _S, "labels": Kind.LABELS},
    "severity": Kind.SEVERITY,
    "sourceLocation": {"file": _S, "line": _L, "function": _S},
    "spanId": _S,
    "split": {"uid": _S, "index": _I, "totalSplits": _I},
    "textPayload": _S,
    "timestamp": Kind.TIMESTAMP,
    "trace": _S,
    "traceSampled": _B,
}

# Fields of the two protocol buffers found in protoPayload (audit logs, App Engine request logs) whose JSON is
# a string though their type is not: the value's own type would not tell. Keys in lower case.
PROTO_KINDS: dict[tuple[str, ...], Kind] = {
    ("numresponseitems",): _L,
    ("requestmetadata", "requestattributes", "size"): _L,
    ("requestmetadata", "requestattributes", "time"): Kind.TIMESTAMP,
    ("requestmetadata", "destinationattributes", "port"): _L,
    ("starttime",): Kind.TIMESTAMP,
    ("endtime",): Kind.TIMESTAMP,
    ("latency",): Kind.DURATION,
    ("pendingtime",): Kind.DURATION,
    ("megacycles",): _L,
    ("responsesize",): _L,
    ("line", "time"): Kind.TIMESTAMP,
    ("line", "severity"): Kind.SEVERITY,
    ("line", "sourcelocation", "line"): _L,
}


class Located(Struct, frozen=True):
    """A field's place: ``fixed`` names of LogEntry, then ``free`` keys in the payload or map ``holder``."""

    fixed: tuple[str, ...]
    free: tuple[str, ...]
    holder: Kind | None
    kind: Kind


def canonical(segments: tuple[str, ...], at: Position) -> Field:
    """Return the path with LogEntry's own names as in proto-JSON. Raises FilterError if it is undefined."""
    level: dict[str, Kind] | dict[str, Kind | dict[str, Kind]] | None = LOG_ENTRY
    spelled: list[str] = []
    for n, segment in enumerate(segments):
        if level is None:
            raise FilterError(
                f"undefined field {'.'.join(segments)}",
                *at,
                hint=f"{'.'.join(spelled)} is a plain value and has no fields",
            )
        if (name := _names(level).get(segment.lower())) is None:
            raise _undefined(segments, spelled, segment, level, at)
        spelled.append(name)
        below = level[name]
        if isinstance(below, dict):
            level = below
        elif below in OBJECTS:
            return Field((*spelled, *segments[n + 1 :]), at)
        else:
            level = None
    return Field(tuple(spelled), at)


def locate(field: Field) -> Located:
    """Return the place and type of a canonical path."""
    below: Kind | dict[str, Kind] | dict[str, Kind | dict[str, Kind]] = LOG_ENTRY
    for n, segment in enumerate(field.segments):
        if not isinstance(below, dict):
            fixed, free = field.segments[:n], field.segments[n:]
            kind = Kind.DYNAMIC
            if below is Kind.PROTO:
                kind = PROTO_KINDS.get(tuple(key.lower() for key in free), kind)
            return Located(fixed, free, below, kind)
        below = below[segment]
    return Located(field.segments, (), None, Kind.MESSAGE if isinstance(below, dict) else below)


def _names(level: dict[str, Kind] | dict[str, Kind | dict[str, Kind]]) -> dict[str, str]:
    names = {}
    for name in level:
        names[name.lower()] = name
        names[re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()] = name
    return names


def _undefined(
    segments: tuple[str, ...],
    spelled: list[str],
    segment: str,
    level: dict[str, Kind] | dict[str, Kind | dict[str, Kind]],
    at: Position,
) -> FilterError:
    close = difflib.get_close_matches(segment.lower(), [name.lower() for name in level], 1)
    if close:
        hint = f"did you mean {'.'.join([*spelled, _names(level)[close[0]]])}?"
    elif spelled:
        hint = f"{'.'.join(spelled)} has the fields {', '.join(level)}"
    else:
        hint = f"the first name must be a field of LogEntry, as in jsonPayload.{'.'.join(segments)}"
    return FilterError(f"undefined field {'.'.join(segments)}", *at, "a field of LogEntry", hint)
