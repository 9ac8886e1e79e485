"""The fleet's state, summed up from what the ledger keeps. Pure; ``status`` and ``report`` show it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from logmend.model import Result
from logmend.records import Fleet, Record, State, Subject


@dataclass(slots=True)
class FleetState:
    """Counts and lists for a person. ``stopped`` says what stands still, and since when."""

    instances: int = 0
    by_result: Counter[str] = field(default_factory=Counter)
    by_state: Counter[str] = field(default_factory=Counter)
    needs_human: list[Subject] = field(default_factory=list)
    relapsed: list[Subject] = field(default_factory=list)
    failed: list[Subject] = field(default_factory=list)
    waiting: list[Record] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    last_tick: datetime | None = None

    def document(self) -> dict[str, Any]:
        """Give the state as JSON data."""
        return {
            "instances": self.instances,
            "by_result": dict(sorted(self.by_result.items())),
            "intents": dict(sorted(self.by_state.items())),
            "needs_human": [_subject(each) for each in self.needs_human],
            "relapsed": [_subject(each) for each in self.relapsed],
            "failed": [_subject(each) for each in self.failed],
            "waiting": [_record(each) for each in self.waiting],
            "stopped": self.stopped,
            "last_tick": self.last_tick.isoformat() if self.last_tick else None,
        }


KEPT = 1000
"""Rows that each list keeps; counts are of everything."""


class Summing:
    """Takes subjects and records one by one, so that a fleet of any size is summed up in bounded memory."""

    def __init__(self, fleet: Fleet) -> None:
        self.state = FleetState(last_tick=fleet.last_tick, stopped=_stopped(fleet))

    def subject(self, subject: Subject) -> None:
        """Count one VM under one runbook."""
        state = self.state
        state.instances += 1
        if subject.last_result is not None:
            reason = f": {subject.last_reason}" if subject.last_reason else ""
            state.by_result[f"{subject.last_result}{reason}"] += 1
        if subject.frozen is not None:
            state.stopped.append(f"{subject.instance} ({subject.runbook}) frozen by {subject.frozen.by}")
        if subject.needs_human:
            _keep(state.needs_human, subject)
        if subject.relapses:
            _keep(state.relapsed, subject)
        if subject.last_result in (Result.FAILED, Result.UNVERIFIED):
            _keep(state.failed, subject)

    def record(self, record: Record) -> None:
        """Count one intent; those that wait are listed."""
        self.state.by_state[record.state] += 1
        if record.state is not State.DONE:
            _keep(self.state.waiting, record)

    def sum(self, subjects: Iterable[Subject], records: Iterable[Record]) -> FleetState:
        """Sum everything up."""
        for subject in subjects:
            self.subject(subject)
        for record in records:
            self.record(record)
        return self.state


def _keep(rows: list[Any], row: Any) -> None:
    if len(rows) < KEPT:
        rows.append(row)


def _stopped(fleet: Fleet) -> list[str]:
    found = []
    if fleet.frozen is not None:
        found.append(f"everything frozen by {fleet.frozen.by} at {fleet.frozen.at:%FT%TZ} {fleet.frozen.why}".strip())
    found += [f"{name} frozen by {each.by} at {each.at:%FT%TZ}" for name, each in fleet.frozen_runbooks.items()]
    found += [
        f"{name}: breaker open since {each.opened_at:%FT%TZ}, {each.failing} of {each.seen} VMs failed"
        for name, each in fleet.breakers.items()
    ]
    return found


def _subject(subject: Subject) -> Mapping[str, Any]:
    return {
        "instance": str(subject.instance),
        "name": subject.name,
        "runbook": subject.runbook,
        "result": subject.last_result.value if subject.last_result else None,
        "reason": subject.last_reason,
        "at": subject.last_at.isoformat() if subject.last_at else None,
        "failures": subject.failures,
        "relapses": subject.relapses,
        "outcome_id": subject.last_outcome_id,
    }


def _record(record: Record) -> Mapping[str, Any]:
    return {
        "intent_id": record.intent.intent_id,
        "instance": str(record.intent.instance),
        "runbook": record.intent.runbook,
        "action": record.intent.action.value,
        "state": record.state.value,
        "reason": record.outcome.reason if record.outcome else None,
        "detail": record.outcome.detail if record.outcome else None,
        "created_at": record.intent.created_at.isoformat(),
    }
