"""Outcomes for tests of what is told of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from logmend.model.enums import Action, Mode, Result
from logmend.model.values import Evidence, InstanceRef, Latency, Outcome
from logmend.outcome import document

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REF = InstanceRef("demo-project", "us-west1-a", "4775836342981993096")


def outcome(
    number: int = 1, result: Result = Result.REMEDIATED, reason: str | None = None, **changes: Any
) -> Outcome:
    """Give an outcome; `number` makes it another one, a minute later."""
    at = changes.pop("at", START + timedelta(minutes=number))
    seen = Evidence(101, {"timer_enabled": "enabled"}, at)
    known: dict[str, Any] = {
        "detail": "",
        "outcome_id": f"m-{number}-1-{result.value}",
        "mode": Mode.ENFORCE,
        "version": "0.1.0",
        "runbook": "workload-cert-refresh",
        "variant": "not_configured",
        "action": Action.ENFORCE,
        "executor": "ssh",
        "instance": REF,
        "instance_name": "web-1",
        "intent_id": f"m-{number}",
        "message_id": str(number),
        "latency": Latency(queue=100 * number, lookup=10, act=1000, total=1200),
        "before": seen if result in (Result.REMEDIATED, Result.PLANNED, Result.UNVERIFIED) else None,
        "after": Evidence(100, {"timer_enabled": "disabled"}, at) if result is Result.REMEDIATED else None,
    }
    return Outcome(result, reason, at=at, **(known | changes))


def lines(*outcomes: Outcome) -> str:
    """Give them as a file has them."""
    return "".join(document.line(each) + "\n" for each in outcomes)
