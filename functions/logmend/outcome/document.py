"""The canonical document of an outcome: what is logged, printed, stored in files and read back. Pure.

Every key is always there, null if it does not apply. ``before`` and ``after`` hold the script's own
``key=value`` pairs beside ``exit_code``, ``finding``, ``at`` and ``error``. ``timestamp`` and ``outcome_id``
make an entry deterministic: writing the same outcome twice leaves one entry in Cloud Logging. Never holds
the matched text.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from logmend.errors import in_words
from logmend.model.enums import Action, Mode, Result
from logmend.model.evidence import RESERVED
from logmend.model.json import JsonObject
from logmend.model.values import Diagnosis, Evidence, InstanceRef, Latency, Lineage, Outcome, Source
from logmend.outcome import reasons

LOG_ID = "logmend"
"""Log that outcomes are written to: ``projects/P/logs/logmend``."""

CLAIMED = "claimed"
"""What is known of who ``requested_by`` is: whoever may write the ledger can write any name into it. No order
comes through the function with an identity token, so that none is verified; the audit log of Firestore is."""

_SEVERITIES: Mapping[Result, str] = {
    Result.REMEDIATED: "NOTICE",
    Result.REVERTED: "NOTICE",
    Result.PLANNED: "NOTICE",
    Result.NOTHING_TO_DO: "NOTICE",
    Result.REQUESTED: "NOTICE",
    Result.CONTROLLED: "NOTICE",
    Result.UNMATCHED: "INFO",
    Result.REFUSED: "INFO",
    Result.SKIPPED: "INFO",
    Result.PARKED: "INFO",
    Result.REJECTED: "WARNING",
    Result.INTERRUPTED: "WARNING",
    Result.DEFERRED: "WARNING",
    Result.UNVERIFIED: "WARNING",
    Result.FAILED: "ERROR",
}

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_INSERT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def severity(outcome: Outcome) -> str:
    """Cloud Logging severity: NOTICE good, INFO left alone, WARNING unsettled, ERROR for a person.

    CRITICAL is for one thing: a fix that was called verified, and did not last.
    """
    if outcome.reason == "needs_human" and reasons.FIRST_NEEDS_HUMAN in outcome.notes:
        return "ERROR"
    if outcome.reason == "unknown_runbook":  # a typing error in an alert policy: nobody else would tell
        return "ERROR"
    if outcome.reason == "line_goes_on":
        return "CRITICAL"  # the one time that logmend has to take its word back
    return _SEVERITIES[outcome.result]


def insert_id(outcome: Outcome) -> str:
    """Cloud Logging insertId: the outcome's id, or its digest if it holds other than ``A-Za-z0-9._-``."""
    if _INSERT_ID.fullmatch(outcome.outcome_id):
        return outcome.outcome_id
    return hashlib.sha256(outcome.outcome_id.encode("utf-8", "backslashreplace")).hexdigest()[:40]


def labels(outcome: Outcome) -> dict[str, str]:
    """Labels for log-based metrics and filters; what does not apply is left out. All are of closed lists."""
    every = {"result": outcome.result.value, "reason": outcome.reason, "runbook": outcome.runbook}
    every |= {"cause": outcome.diagnosis.cause if outcome.diagnosis else None}
    return {key: _clean(value) for key, value in every.items() if value}


def document(outcome: Outcome) -> dict[str, Any]:
    """Turn an outcome into its JSON document. :func:`from_json` gives the same outcome back."""
    return {key: value if value is None else _clean(value) for key, value in _document(outcome).items()}


def _document(outcome: Outcome) -> dict[str, object]:
    return {
        "timestamp": _time(outcome.at),
        "severity": severity(outcome),
        "result": outcome.result.value,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "next_step": reasons.next_step(outcome) or None,
        "runbook": outcome.runbook,
        "runbook_digest": outcome.runbook_digest,
        "variant": outcome.variant,
        "action": None if outcome.action is None else outcome.action.value,
        "mode": outcome.mode.value,
        "executor": outcome.executor,
        "host_key": outcome.host_key,
        "credential": outcome.credential,
        "instance": _instance(outcome),
        "owner": outcome.owner,
        "attempt": outcome.attempt,
        "committed": outcome.committed,
        "before": _evidence(outcome.before),
        "after": _evidence(outcome.after),
        **(_cause(outcome.diagnosis) if outcome.diagnosis else _NO_CAUSE),
        "message_id": outcome.message_id,
        "source": _source(outcome.source),
        "replay_of": outcome.replay_of,
        "requested_by": outcome.requested_by,
        "identity": CLAIMED if outcome.requested_by else None,
        "why": outcome.why or None,
        "passes": list(outcome.passes),
        "approval": _approval(outcome),
        "notes": list(outcome.notes),
        "latency_ms": {
            "queue": outcome.latency.queue,
            "lookup": outcome.latency.lookup,
            "act": outcome.latency.act,
            "total": outcome.latency.total,
        },
        "outcome_id": outcome.outcome_id,
        "intent_id": outcome.intent_id,
        "count": outcome.count,
        "first_at": None if outcome.first_at is None else _time(outcome.first_at),
        "version": outcome.version,
    }


def line(outcome: Outcome) -> str:
    """Return the document as one line of ASCII JSON, without a line end; the same bytes every time."""
    try:
        return msgspec.json.encode(_document(outcome)).decode("ascii")
    except UnicodeError:  # other than ASCII, or a lone surrogate
        return _ENCODER.encode(document(outcome))


def brief(outcome: Outcome) -> dict[str, object]:
    """Return what answers a delivery: enough for a person at a terminal, nothing of the event's own text."""
    return {
        "result": outcome.result.value,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "outcome_id": outcome.outcome_id,
        "message_id": outcome.message_id,
        "instance": str(outcome.instance) if outcome.instance else None,
        "runbook": outcome.runbook,
    }


def from_json(document: JsonObject) -> Outcome:
    """Read a document back; ValueError if it is not one. Keys of later versions are ignored.

    Whoever may write to a log can write there what only looks like one: every value has to be of its type.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(_outcome(document)), Outcome)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not an outcome of logmend: {in_words(error)}") from error


def _outcome(document: JsonObject) -> Outcome:
    instance = document.get("instance")
    approval = document.get("approval")
    source = document.get("source")
    action = document.get("action")
    return Outcome(
        result=Result(document["result"]),
        reason=document.get("reason"),
        detail=document.get("detail") or "",
        at=_parsed(document["timestamp"]),
        outcome_id=document["outcome_id"],
        mode=Mode(document["mode"]),
        version=document["version"],
        runbook=document.get("runbook"),
        runbook_digest=document.get("runbook_digest"),
        variant=document.get("variant"),
        action=None if action is None else Action(action),
        executor=document.get("executor"),
        instance=None
        if instance is None
        else InstanceRef(instance["project_id"], instance["zone"], instance["instance_id"]),
        instance_name=None if instance is None else instance.get("name"),
        attempt=_whole(document.get("attempt", 1)),
        before=_seen(document.get("before")),
        after=_seen(document.get("after")),
        intent_id=document.get("intent_id"),
        message_id=document.get("message_id"),
        source=None if source is None else _from(source),
        replay_of=document.get("replay_of"),
        requested_by=document.get("requested_by"),
        approval_id=None if approval is None else approval["id"],
        approval_expires_at=None if approval is None else _maybe(approval.get("expires_at")),
        notes=tuple(document.get("notes") or ()),
        latency=_latency(document.get("latency_ms") or {}),
        host_key=document.get("host_key"),
        credential=document.get("credential"),
        committed=bool(document.get("committed")),
        owner=document.get("owner"),
        labels=dict((instance or {}).get("labels") or {}),
        why=document.get("why") or "",
        passes=tuple(document.get("passes") or ()),
        count=_whole(document.get("count", 1)),
        first_at=_maybe(document.get("first_at")),
        diagnosis=_diagnosis(document),
        lineage=Lineage(*((instance or {}).get(key) for key in ("group", "template", "image"))),
    )


def _cause(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "cause": diagnosis.cause or None,
        "cause_why": diagnosis.why,
        "cause_concerns": diagnosis.concerns,
        "cause_evidence": list(diagnosis.evidence),
        "cause_step": diagnosis.next_step or None,
        "cause_runbook": diagnosis.runbook,
    }


_NO_CAUSE = _cause(Diagnosis(""))


def _diagnosis(document: JsonObject) -> Diagnosis | None:
    if not (cause := document.get("cause")):
        return None
    return Diagnosis(
        cause=cause,
        concerns=document.get("cause_concerns"),
        evidence=tuple(document.get("cause_evidence") or ()),
        next_step=document.get("cause_step") or "",
        runbook=document.get("cause_runbook"),
        why=document.get("cause_why"),
    )


def _instance(outcome: Outcome) -> dict[str, object] | None:
    if (ref := outcome.instance) is None:
        return None
    return {
        "project_id": ref.project_id,
        "zone": ref.zone,
        "instance_id": ref.instance_id,
        "name": outcome.instance_name,
        "group": outcome.lineage.group,
        "template": outcome.lineage.template,
        "image": outcome.lineage.image,
        "labels": dict(outcome.labels),
    }


def _evidence(evidence: Evidence | None) -> dict[str, object] | None:
    if evidence is None:
        return None
    return {
        **{key: value for key, value in sorted(evidence.values.items()) if key not in RESERVED},
        "exit_code": evidence.exit_code,
        "finding": evidence.finding.value,
        "at": _time(evidence.at),
        "error": evidence.error,
    }


def _seen(evidence: JsonObject | None) -> Evidence | None:
    if evidence is None:
        return None
    return Evidence(
        exit_code=_whole(evidence["exit_code"]),
        values={key: value for key, value in evidence.items() if key not in RESERVED},
        at=_parsed(evidence["at"]),
        error=evidence.get("error") or "",
    )


def _source(source: Source | None) -> dict[str, object] | None:
    if source is None:
        return None
    return {
        "kind": source.kind,
        "log_name": source.log_name,
        "insert_id": source.insert_id,
        "timestamp": None if source.timestamp is None else _time(source.timestamp),
        "incident_id": source.incident_id,
    }


def _from(source: JsonObject) -> Source:
    return Source(
        kind=source["kind"],
        log_name=source.get("log_name"),
        insert_id=source.get("insert_id"),
        timestamp=_maybe(source.get("timestamp")),
        incident_id=source.get("incident_id"),
    )


def _approval(outcome: Outcome) -> dict[str, object] | None:
    if outcome.approval_id is None:
        return None
    expires_at = outcome.approval_expires_at
    return {"id": outcome.approval_id, "expires_at": None if expires_at is None else _time(expires_at)}


def _latency(latency: JsonObject) -> Latency:
    queue, lookup, act, total = (
        None if latency.get(key) is None else _whole(latency[key])
        for key in ("queue", "lookup", "act", "total")
    )
    return Latency(queue, lookup, act, total)


def _whole(number: Any) -> int:
    """Return a number as an integer of 64 bits, which is what sums hold; Cloud Logging hands back doubles."""
    whole = int(number)
    if whole.bit_length() > 63:
        raise ValueError("a number of more than 64 bits")
    return whole


def _time(at: datetime) -> str:
    """RFC 3339 in UTC, always with six digits, so that text sorts as time does."""
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    if at.microsecond:  # then msgspec writes six digits, in a tenth of the time
        return str(msgspec.to_builtins(at))
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parsed(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return at.astimezone(UTC)


def _maybe(text: str | None) -> datetime | None:
    return None if text is None else _parsed(text)


def _clean(value: Any) -> Any:
    """Replace lone surrogates, which JSON can smuggle in and UTF-8 cannot carry on."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode()
        case dict():
            return {_clean(key): _clean(each) for key, each in value.items()}
        case list():
            return [_clean(each) for each in value]
        case _:
            return value
