"""The fleet's state: counts and lists for a person, and as JSON. Pure; ``status`` shows it."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from logmend.model.enums import Mode, Result
from logmend.model.json import JsonObject
from logmend.model.state import Approval, Freeze, Scope, Subject, Wave
from logmend.model.struct import Struct
from logmend.model.values import Intent, Outcome
from logmend.outcome import document as outcome_json
from logmend.outcome import reasons
from logmend_cli.alike import Alike
from logmend_cli.closed import Shut
from logmend_cli.output import seconds

BAD = (Result.FAILED, Result.UNVERIFIED, Result.REJECTED)
LATENCIES = ("queue", "lookup", "act", "total")


class Unreached(Struct, frozen=True):
    """How many VMs of a project and zone could not be reached when they were last tried, of how many."""

    project_id: str
    zone: str
    instances: int
    of: int


class Spent(Struct, frozen=True):
    """A runbook's budget: how many places are taken, of how many by the settings at hand, until when.

    ``frees`` is when the first place gets free at the latest; None if one is free, or hangs on an outcome.
    """

    runbook: str
    used: int
    limit: int
    frees: datetime | None


class CauseCount(Struct, frozen=True):
    """What went wrong in the same way: how often, on how many VMs, and the latest of them."""

    result: str
    reason: str | None
    outcomes: int
    instances: int
    latest: Outcome


@dataclass(slots=True)
class FleetState:
    """Counts and lists for a person. ``stopped`` says what stands still, and since when.

    ``instances`` are VMs, however many runbooks know them; ``by_result`` counts them by what came of them
    last, ``outcomes`` every outcome; ``failures`` and ``controls`` are the latest first;
    ``alike`` are VMs by the cause of their fault and what they were made from.
    """

    instances: int = 0
    by_result: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    by_state: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)
    needs_human: list[Subject] = field(default_factory=list)
    relapsed: list[Subject] = field(default_factory=list)
    waiting: list[Mapping[str, object]] = field(default_factory=list)
    documents: Counter[str] = field(default_factory=Counter)
    approvals: list[Approval] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    freezes: list[tuple[Scope, Freeze]] = field(default_factory=list)
    closed: list[Shut] = field(default_factory=list)
    waves: list[tuple[str, str, Wave]] = field(default_factory=list)
    held: list[Subject] = field(default_factory=list)
    holds: dict[str, Intent] = field(default_factory=dict)
    budgets: list[Spent] = field(default_factory=list)
    owners: list[Mapping[str, object]] = field(default_factory=list)
    labels: Mapping[str, list[Mapping[str, object]]] = field(default_factory=dict)
    groups: list[Mapping[str, object]] = field(default_factory=list)
    controls: list[Outcome] = field(default_factory=list)
    causes: list[CauseCount] = field(default_factory=list)
    alike: list[Alike] = field(default_factory=list)
    unreached: list[Unreached] = field(default_factory=list)
    latencies: "dict[str, array[int]]" = field(
        default_factory=lambda: {name: array("q") for name in LATENCIES}
    )
    first: datetime | None = None
    last: datetime | None = None
    last_tick: datetime | None = None

    def document(self) -> JsonObject:
        """Return the state as JSON data; times in milliseconds, ``p50`` and the like by nearest rank."""
        return {
            "instances": self.instances,
            "results": dict(self.by_result.most_common()),
            "outcomes": dict(self.outcomes.most_common()),
            "first_outcome": seconds(self.first),
            "last_outcome": seconds(self.last),
            "stopped": self.stopped,
            "freezes": [_freeze(*each) for each in self.freezes],
            "closed": [each._asdict() | {"opens": seconds(each.opens)} for each in self.closed],
            "waves": [_wave(*each) for each in self.waves],
            "held": [_held(each, self.holds.get(each.held_by or "")) for each in self.held],
            "budgets": [
                {
                    "runbook": each.runbook,
                    "used": each.used,
                    "limit": each.limit,
                    "frees": seconds(each.frees),
                }
                for each in self.budgets
            ],
            "last_tick": seconds(self.last_tick),
            "unreached": [
                {"project_id": each.project_id, "zone": each.zone, "instances": each.instances, "of": each.of}
                for each in self.unreached
            ],
            "owners": self.owners,
            "labels": self.labels,
            "groups": self.groups,
            "needs_human": [_subject(each) for each in self.needs_human],
            "relapsed": [_subject(each) for each in self.relapsed],
            "controls": [_control(each) for each in self.controls],
            "causes": [_cause(each) for each in self.causes],
            "alike": [each.row for each in self.alike],
            "failures": [_failure(each) for each in self.failures],
            "intents": dict(sorted(self.by_state.items())),
            "waiting": self.waiting,
            "documents": dict(self.documents),
            "approvals": [_approval(each) for each in self.approvals],
            "latency_ms": {name: quantiles(values) for name, values in self.latencies.items()},
        }


def quantiles(values: Iterable[int]) -> dict[str, int | None]:
    """Return count, median, 95th percentile and maximum, by nearest rank; null if there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "p50": None, "p95": None, "max": None}

    def at(share: float) -> int:
        return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 100) // 100) - 1))]

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "max": ordered[-1]}


def _failure(outcome: Outcome) -> dict[str, object]:
    """Return the row of one outcome that is bad, with what a person does next."""
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


def _freeze(scope: Scope, freeze: Freeze) -> Mapping[str, object]:
    return {
        "name": freeze.name,
        "scope": str(scope),
        "by": freeze.by,
        "identity": outcome_json.CLAIMED,
        "since": seconds(freeze.at),
        "until": seconds(freeze.until),
        "why": freeze.why,
    }


def _wave(runbook: str, said: str, wave: Wave) -> Mapping[str, object]:
    held = (
        f"{wave.held.who} ({outcome_json.CLAIMED}) at {wave.held.at:%FT%TZ} {wave.held.why}".strip()
        if wave.held
        else None
    )
    return {"runbook": runbook, "wave": said, "since": seconds(wave.since), "held_by": held}


def _held(subject: Subject, revert: Intent | None) -> Mapping[str, object]:
    """Return the row of a VM that is held off: by a revert, whose order the ledger knows, or a rejection."""
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


def _control(outcome: Outcome) -> Mapping[str, object]:
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


def _cause(cause: CauseCount) -> Mapping[str, object]:
    return {
        "result": cause.result,
        "reason": cause.reason,
        "outcomes": cause.outcomes,
        "instances": cause.instances,
        "last_at": seconds(cause.latest.at),
        "next_step": reasons.next_step(cause.latest) or None,
    }


def _subject(subject: Subject) -> Mapping[str, object]:
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


def _approval(approval: Approval) -> Mapping[str, object]:
    return {
        "approval_id": approval.approval_id,
        "instance": str(approval.intent.instance),
        "runbook": approval.intent.runbook,
        "action": approval.intent.action.value,
        "expires_at": seconds(approval.expires_at),
    }
