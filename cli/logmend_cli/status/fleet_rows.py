"""Rows of the fleet's state as JSON: failures, freezes, holds, plans, causes, VMs. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from logmend.model.enums import Mode, Result
from logmend.model.state import Approval, Freeze, Scope, Subject, Wave
from logmend.model.values import Intent, Outcome
from logmend.outcome import document as outcome_json
from logmend.outcome import reasons
from logmend_cli.output import seconds

if TYPE_CHECKING:
    from logmend_cli.status.fleet_state import CauseCount


def quantiles(values: Iterable[int]) -> dict[str, int | None]:
    """Return count, median, 95th percentile and maximum, by nearest rank; null if there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "p50": None, "p95": None, "max": None}

    def at(share: float) -> int:
        return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 100) // 100) - 1))]

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "max": ordered[-1]}


def failure(outcome: Outcome) -> dict[str, object]:
    """Return the row of one bad outcome, with what a person does next."""
    return {
        "at": seconds(outcome.at),
        "instance": str(outcome.instance) if outcome.instance else None,
        "name": outcome.instance_name,
        "labels": dict(outcome.labels),
        "runbook": outcome.runbook,
        "result": outcome.result.value,
        "reason": outcome.reason,
        "detail": outcome.detail_and_cause,
        "next_step": reasons.next_step(outcome) or None,
        "outcome_id": outcome.outcome_id,
    }


def freeze(scope: Scope, freeze: Freeze) -> Mapping[str, object]:
    """Return the row of a freeze."""
    return {
        "name": freeze.name,
        "scope": str(scope),
        "by": freeze.by,
        "identity": outcome_json.CLAIMED,
        "since": seconds(freeze.at),
        "until": seconds(freeze.until),
        "why": freeze.why,
    }


def wave(runbook: str, said: str, wave: Wave) -> Mapping[str, object]:
    """Return the row of a runbook's wave."""
    held = (
        f"{wave.held.who} ({outcome_json.CLAIMED}) at {wave.held.at:%FT%TZ} {wave.held.why}".strip()
        if wave.held
        else None
    )
    return {"runbook": runbook, "wave": said, "since": seconds(wave.since), "held_by": held}


def held(subject: Subject, revert: Intent | None) -> Mapping[str, object]:
    """Return the row of a VM with a hold: by a revert, whose request the ledger knows, or a rejection."""
    declined = None if subject.held else subject.declined
    since = declined.at if declined else revert.created_at if revert else None
    by = declined.by if declined else revert.requested_by if revert else None
    return {
        "instance": str(subject.instance),
        "name": subject.name,
        "runbook": subject.runbook,
        "held_by": subject.held_by if subject.held else str(subject.declined),
        "by": by,
        "identity": outcome_json.CLAIMED if by else None,
        "since": seconds(since),
        "until": seconds(declined.until) if declined else None,
        "why": (declined.why if declined else revert.why if revert else "") or None,
        "next_step": f"logmend resume --instance {subject.instance} --runbook {subject.runbook}",
    }


def control(outcome: Outcome) -> Mapping[str, object]:
    """Return the row of the use of a control."""
    return {
        "at": seconds(outcome.at),
        "reason": outcome.reason,
        "by": outcome.requested_by,
        "identity": outcome_json.CLAIMED if outcome.requested_by else None,
        "runbook": outcome.runbook,
        "instance": str(outcome.instance) if outcome.instance else None,
        "approval_id": outcome.approval_id,
        "detail": outcome.detail,
        "outcome_id": outcome.outcome_id,
    }


def cause(cause: "CauseCount") -> Mapping[str, object]:
    """Return the row of failures with the same cause, with what a person does next."""
    return {
        "result": cause.result,
        "reason": cause.reason,
        "outcomes": cause.outcomes,
        "instances": cause.instances,
        "last_at": seconds(cause.latest.at),
        "next_step": reasons.next_step(cause.latest) or None,
    }


def subject(subject: Subject) -> Mapping[str, object]:
    """Return the row of a VM, with what a person does next."""
    return {
        "instance": str(subject.instance),
        "name": subject.name,
        "owner": subject.owner,
        "labels": dict(subject.labels),
        "runbook": subject.runbook,
        "result": subject.last_result.value if subject.last_result else None,
        "reason": subject.last_reason,
        "at": seconds(subject.last_at),
        "failures": subject.failures,
        "relapses": subject.relapses,
        "next_step": _next(subject),
        "outcome_id": subject.last_outcome_id,
    }


def _next(subject: Subject) -> str | None:
    """Return what a person does next about a VM, in the words of the reasons' table."""
    if subject.last_result is None and not subject.needs_human:
        return None
    known = (
        (Result.SKIPPED, "needs_human") if subject.needs_human else (subject.last_result, subject.last_reason)
    )
    result, reason = known
    assert result is not None
    at = subject.last_at or datetime.min.replace(tzinfo=UTC)
    said = Outcome(
        result,
        reason,
        "",
        at,
        "",
        Mode.OBSERVE,
        outcome_json.LOG_ID,
        subject.runbook,
        instance=subject.instance,
    )
    return reasons.next_step(said) or None


def approval(approval: Approval) -> Mapping[str, object]:
    """Return the row of a plan that waits."""
    return {
        "approval_id": approval.approval_id,
        "instance": str(approval.intent.instance),
        "runbook": approval.intent.runbook,
        "action": approval.intent.action.value,
        "expires_at": seconds(approval.expires_at),
    }
