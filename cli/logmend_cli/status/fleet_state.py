"""The fleet's state: counts and lists for a person, and as JSON. Pure; ``status`` shows it."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from logmend.model.enums import Result
from logmend.model.json import JsonObject
from logmend.model.state import Approval, Freeze, Scope, Subject, Wave
from logmend.model.struct import Struct
from logmend.model.values import Intent, Outcome
from logmend_cli.alike import Alike
from logmend_cli.output import seconds
from logmend_cli.status import fleet_rows
from logmend_cli.status.closed import Shut

BAD = (Result.FAILED, Result.UNVERIFIED, Result.REJECTED)
LATENCIES = ("queue", "lookup", "act", "total")


class Unreached(Struct, frozen=True):
    """How many VMs (out of how many) of a project and zone could not be reached at the last try."""

    project_id: str
    zone: str
    instances: int
    of: int


class Spent(Struct, frozen=True):
    """A runbook's budget: places taken, the limit by this command's settings, and until when.

    ``frees`` is the latest time at which the first place becomes free; None if one is free, or if that
    depends on an outcome.
    """

    runbook: str
    used: int
    limit: int
    frees: datetime | None


class CauseCount(Struct, frozen=True):
    """Failures with the same cause: how many, on how many VMs, and the latest."""

    result: str
    reason: str | None
    outcomes: int
    instances: int
    latest: Outcome


@dataclass(slots=True)
class FleetState:
    """Counts and lists for a person. ``stopped`` says what is stopped, and since when.

    ``instances`` counts VMs, whatever the number of their runbooks; ``by_result`` counts them by their latest
    result, ``outcomes`` counts every outcome; ``failures`` and ``controls`` have the latest first;
    ``alike`` has VMs by the cause of their fault and what they were made from.
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
            "freezes": [fleet_rows.freeze(*each) for each in self.freezes],
            "closed": [each._asdict() | {"opens": seconds(each.opens)} for each in self.closed],
            "waves": [fleet_rows.wave(*each) for each in self.waves],
            "held": [fleet_rows.held(each, self.holds.get(each.held_by or "")) for each in self.held],
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
            "needs_human": [fleet_rows.subject(each) for each in self.needs_human],
            "relapsed": [fleet_rows.subject(each) for each in self.relapsed],
            "controls": [fleet_rows.control(each) for each in self.controls],
            "causes": [fleet_rows.cause(each) for each in self.causes],
            "alike": [each.row for each in self.alike],
            "failures": [fleet_rows.failure(each) for each in self.failures],
            "intents": dict(sorted(self.by_state.items())),
            "waiting": self.waiting,
            "documents": dict(self.documents),
            "approvals": [fleet_rows.approval(each) for each in self.approvals],
            "latency_ms": {name: fleet_rows.quantiles(values) for name, values in self.latencies.items()},
        }
