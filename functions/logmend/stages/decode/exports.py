"""Convert log entries from the formats of various exports to LogEntry's proto-JSON. Pure.

* ``{"entries": […]}``: a response of ``entries.list`` (Cloud Logging's REST reference);
* rows of a BigQuery sink (cloud.google.com/logging/docs/export/bigquery): LogEntry's own names, null for
  missing values, payload keys in lower case, times in UTC without a zone (bq query) or with ``UTC`` (bq
  extract);
* rows of Log Analytics (cloud.google.com/logging/docs/analyze), also through a linked dataset: names in
  snake_case, JSON columns as objects or as text. Python's MessageToDict gives the same names;
* the Node client's entries as JSON (nodejs-logging, src/entry.ts, src/utils/common.ts): a payload as
  google.protobuf.Struct, ``{"fields": {"message": {"stringValue": …}}}``, times as seconds and nanos, or an
  Entry's own ``{"metadata": …, "data": …}``.

Anything else is left unchanged, including entries as Google's tools print them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_SNAKE = {
    "log_name": "logName",
    "insert_id": "insertId",
    "text_payload": "textPayload",
    "json_payload": "jsonPayload",
    "proto_payload": "protoPayload",
    "receive_timestamp": "receiveTimestamp",
    "http_request": "httpRequest",
    "span_id": "spanId",
    "trace_sampled": "traceSampled",
    "source_location": "sourceLocation",
}
_TIMES = ("timestamp", "receiveTimestamp")
_OBJECTS = frozenset(
    ("resource", "labels", "jsonPayload", "protoPayload", "httpRequest", "operation", "sourceLocation")
)
_UTC = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: ?UTC)?")
_SEVERITIES = {0: "DEFAULT", 100: "DEBUG", 200: "INFO", 300: "NOTICE", 400: "WARNING", 500: "ERROR"}
_SEVERITIES |= {600: "CRITICAL", 700: "ALERT", 800: "EMERGENCY"}
_KINDS = ("stringValue", "numberValue", "boolValue", "nullValue", "structValue", "listValue")

_PARTS = frozenset(("textPayload", "jsonPayload", "text_payload", "json_payload", "insertId", "insert_id"))
_FLOAT = re.compile(r"\d\.\d{1,17}E9")
"""Seconds since 1970 as BigQuery's API writes a TIMESTAMP."""

HOW = (
    "export log entries with gcloud logging read … --format=json, as JSON from Logs Explorer, or whole rows"
    " of a BigQuery sink or of Log Analytics with bq query --format=json"
)


def unpacked(value: object) -> Iterator[object]:
    """Yield the entries of an ``entries.list`` response, or any other value as it is."""
    if isinstance(value, dict) and "logName" not in value and isinstance(value.get("entries"), list):
        yield from value["entries"]
    else:
        yield value


def entry(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object in one of these formats as a LogEntry; any other object as it is."""
    metadata, data = value.get("metadata"), value.get("data")
    if isinstance(metadata, dict) and "logName" in metadata and isinstance(data, str | dict):
        said = {"textPayload" if isinstance(data, str) else "jsonPayload": data}
        value = {key: each for key, each in metadata.items() if key != "payload"} | said
    if "log_name" in value and "logName" not in value:
        value = {_SNAKE.get(key, key): each for key, each in value.items()}
    if not isinstance(value.get("logName"), str) or not _foreign(value):
        return value
    read = {key: each for key, each in value.items() if each is not None}
    for key in _OBJECTS:
        if isinstance(column := read.get(key), str):
            read[key] = _parsed(column)
    if isinstance(resource := read.get("resource"), dict) and isinstance(
        labels := resource.get("labels"), str
    ):
        read["resource"] = resource | {"labels": _parsed(labels)}
    for key in _TIMES:
        if key in read:
            read[key] = _time(read[key])
    if isinstance(payload := read.get("jsonPayload"), dict) and _is_struct(payload):
        read["jsonPayload"] = _fields(payload["fields"])
    if isinstance(number := read.get("severity"), int) and not isinstance(number, bool):
        read["severity"] = _SEVERITIES.get(number, "DEFAULT")
    return read


def hint(value: object) -> str:
    """Return a hint about which export to use instead of a JSON value that is not an event."""
    if isinstance(value, dict):
        if not _PARTS.isdisjoint(value):
            return f"a log entry without its log name and resource: select all columns; {HOW}"
        if "rows" in value and "schema" in value:
            return f"an answer of BigQuery's API, whose rows do not name their columns; {HOW}"
        if "resourceLogs" in value:
            return f"OpenTelemetry's own form; {HOW}"
    return HOW


def _foreign(value: Mapping[str, object]) -> bool:
    """Return whether anything in it differs from proto-JSON as Google's own tools print it."""
    for key, said in value.items():
        if said is None:
            return True
        if isinstance(said, str):
            if key in _OBJECTS or (key in _TIMES and _zoneless(said)):
                return True
        elif key in _TIMES and isinstance(said, dict):
            return True
    payload, resource = value.get("jsonPayload"), value.get("resource")
    return (
        (isinstance(payload, dict) and _is_struct(payload))
        or (isinstance(resource, dict) and isinstance(resource.get("labels"), str))
        or isinstance(value.get("severity"), int)
    )


def _zoneless(said: str) -> bool:
    return not said.endswith("Z") and bool(_UTC.fullmatch(said) or _FLOAT.fullmatch(said))


def _time(said: object) -> object:
    """Return RFC 3339 for a row's UTC or a protobuf's seconds and nanos; anything else as it is."""
    if isinstance(said, dict):
        seconds, nanos = said.get("seconds"), said.get("nanos") or 0
        if isinstance(seconds, dict):  # a Long from protobuf.js
            seconds = seconds.get("low")
        try:
            at = datetime.fromtimestamp(int(seconds), UTC)  # type: ignore[arg-type]
            return f"{at:%Y-%m-%dT%H:%M:%S}.{int(nanos):09}Z"
        except (TypeError, ValueError, OverflowError, OSError):
            return None
    if not isinstance(said, str):
        return said
    if found := _UTC.fullmatch(said):
        return f"{found[1]}T{found[2]}Z"
    return (
        f"{datetime.fromtimestamp(float(said), UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        if _FLOAT.fullmatch(said)
        else said
    )


def _parsed(said: str) -> object:
    """Parse a JSON column. Text that is not an object stays text, and decode rejects it."""
    try:
        read = json.loads(said)
    except (ValueError, RecursionError):
        return said
    return read if isinstance(read, dict) else said


def _is_struct(payload: Mapping[str, object]) -> bool:
    fields = payload.get("fields")
    return (
        fields is not None
        and len(payload) == 1
        and isinstance(fields, dict)
        and bool(fields)
        and all(isinstance(each, dict) and not each.keys().isdisjoint(_KINDS) for each in fields.values())
    )


def _fields(fields: object) -> object:
    return {key: _plain(each) for key, each in fields.items()} if isinstance(fields, dict) else {}


def _plain(value: object) -> object:
    """Return the JSON value of a google.protobuf.Value."""
    if not isinstance(value, dict):
        return None
    if isinstance(struct := value.get("structValue"), dict):
        return _fields(struct.get("fields"))
    if isinstance(several := value.get("listValue"), dict):
        values = several.get("values")
        return [_plain(each) for each in values] if isinstance(values, list) else []
    return next((value[kind] for kind in _KINDS[:3] if value.get(kind) is not None), None)
