"""Convert a parsed JSON document to an event."""

from typing import Any

from logmend.model.values import Event, Incident, LogEntry, Tick, Undecodable
from logmend.stages.decode import lines
from logmend.stages.decode.payload import instant, string, strings, too_deep, unix_seconds

RUNBOOK_LABEL = "logmend-runbook"
"""The user label with which an alert policy names its runbook."""

TICK = {"logmend": "tick"}

OUTCOME = frozenset({"outcome_id", "result", "version"})
"""Keys that every outcome has and no event does."""

_SHAPES = {"logName": str, "resource": dict, "labels": dict, "jsonPayload": dict, "textPayload": str}
_KINDS = {str: "a string", dict: "an object"}


def document(value: Any, *, shallow: bool = False) -> Event | Undecodable:
    """Return the event that a JSON value (dict, list, str, …) is, or why it is not one.

    ``shallow`` says that it is known not to nest too deeply. Unreadable timestamps become None (unknown): the
    pipeline then judges staleness by the message's publish time.
    """
    if not isinstance(value, dict):
        return Undecodable("not_an_event", "not a JSON object")
    if not shallow and too_deep(value):
        return Undecodable("malformed", "JSON is nested too deeply")
    if "logmend" in value:
        return Tick() if value == TICK else Undecodable("malformed", 'a tick is exactly {"logmend": "tick"}')
    if "incident" in value:
        return _incident(value)
    if value.get("logName") is not None:
        return _log_entry(value)
    if value.keys() >= OUTCOME:
        return Undecodable("own_entry", "one of logmend's own outcomes, not an event")
    return Undecodable("not_an_event", "neither a LogEntry (logName), an incident nor a tick")


def _log_entry(raw: dict[str, Any]) -> LogEntry | Undecodable:
    for name, kind in _SHAPES.items():
        if (part := raw.get(name)) is not None and not isinstance(part, kind):
            return Undecodable("malformed", f"{name} is not {_KINDS[kind]}")
    resource = raw.get("resource") or {}
    said = lines.of_entry(raw)
    return LogEntry(
        raw=raw,
        log_name=raw["logName"],
        insert_id=string(raw.get("insertId")),
        timestamp=instant(raw.get("timestamp")),
        receive_timestamp=instant(raw.get("receiveTimestamp")),
        resource_type=string(resource.get("type")) or "",
        resource_labels=strings(resource.get("labels")),
        texts=tuple(dict.fromkeys([line.text for line in said])),
        line_time=lines.time_of(said),
        programs=lines.programs_of(raw, said),
        host=lines.host_of(raw, said),
    )


def _incident(raw: dict[str, object]) -> Incident | Undecodable:
    incident = raw["incident"]
    if not isinstance(incident, dict):
        return Undecodable("malformed", "incident is not an object")
    resource = incident.get("resource")
    resource = resource if isinstance(resource, dict) else {}
    return Incident(
        raw=raw,
        incident_id=string(incident.get("incident_id")),
        state=(string(incident.get("state")) or "").lower(),
        is_test=(string(raw.get("version")) or "").lower() == "test",
        policy_name=string(incident.get("policy_name")),
        runbook=strings(incident.get("policy_user_labels")).get(RUNBOOK_LABEL),
        resource_type=string(resource.get("type")) or "",
        resource_labels=strings(resource.get("labels")),
        scoping_project_id=string(incident.get("scoping_project_id")),
        started_at=unix_seconds(incident.get("started_at")),
        url=string(incident.get("url")),
    )
