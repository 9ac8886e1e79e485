"""One VM in a report: its latest outcomes, each as a line."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from logmend.model.struct import Struct
from logmend.model.values import Evidence, InstanceRef, Outcome
from logmend.outcome import document as outcome_json
from logmend.outcome import reasons
from logmend_cli.status.fleet_state import BAD

HISTORY = 15
"""Most outcomes of a VM that are shown: the latest."""
_TEXT = 600


class HistoryLine(Struct, frozen=True):
    """One outcome in a VM's history; ``before`` and ``after`` are its evidence in words.

    ``again`` says that it counts repeats of an earlier outcome.
    """

    at: datetime
    result: str
    reason: str | None
    detail: str
    means: str
    before: str
    after: str
    next_step: str
    mode: str
    by: str
    milliseconds: int | None
    again: bool = False


@dataclass(slots=True)
class Vm:
    """One VM under one runbook: its events, their outcomes, and the latest of these."""

    instance: InstanceRef
    runbook: str
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 0
    entries: int = 0
    fixes: int = 0
    lines: deque[HistoryLine] = field(default_factory=lambda: deque(maxlen=HISTORY))

    @property
    def latest(self) -> HistoryLine:
        """Its latest outcome, without skips and counts, which say nothing new about a VM."""
        news = (line for line in reversed(self.lines) if line.result != "skipped" and not line.again)
        return next(news, self.lines[-1])

    @property
    def labelled(self) -> str:
        """Its labels in words, ``team=web env=prod``."""
        return " ".join(f"{key}={value}" for key, value in self.labels.items())

    @property
    def troubled(self) -> bool:
        """Whether a person may want to look."""
        return self.latest.result in BAD or any(line.reason == "needs_human" for line in self.lines)


def history_line(outcome: Outcome) -> HistoryLine:
    """Return an outcome as a line."""
    return HistoryLine(
        at=outcome.at,
        result=outcome.result.value,
        reason=outcome.reason,
        detail=outcome.detail_and_cause[:_TEXT],
        means=reasons.meaning(outcome.result, outcome.reason),
        before=_evidence(outcome.before),
        after=_evidence(outcome.after),
        next_step=reasons.next_step(outcome),
        mode=outcome.mode.value,
        by=f"{outcome.requested_by} ({outcome_json.CLAIMED})"
        if outcome.requested_by
        else (outcome.source.kind.replace("_", " ") if outcome.source else ""),
        milliseconds=outcome.latency.total,
        again=outcome.first_at is not None,
    )


def _evidence(evidence: Evidence | None) -> str:
    if evidence is None:
        return ""
    values = " ".join(f"{key}={value}" for key, value in sorted(evidence.values.items()))
    return f"{evidence.finding.value}: {values}"[:_TEXT]
