"""What a report shows, from outcomes one by one. Pure; memory grows with VMs and events, not outcomes."""

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from logmend.model.enums import Result
from logmend.model.values import InstanceRef, Outcome
from logmend_cli.alike import Alike, Causes
from logmend_cli.report.buckets import histogram, in_buckets, moments
from logmend_cli.report.funnel import ENDS, STEPS, FunnelEvent, reached
from logmend_cli.report.vm import HistoryLine, Vm, history_line
from logmend_cli.status.fleet_state import LATENCIES

VMS = 2000
"""Most VMs that are shown: those with trouble first, then the latest."""
SHARES = 15
"""Most zones or runbooks that are shown: the busiest."""

CHANGES = 6
"""Most changes on the first screen: the latest."""
TROUBLES = 5
"""Most kinds of trouble on the first screen: those with the most VMs."""


@dataclass(slots=True)
class Report:
    """Everything that the page shows. ``over_time`` is by second; see :meth:`buckets`."""

    source: str
    made_at: datetime
    outcomes: int = 0
    results: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    by_zone: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_runbook: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_group: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_owner: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_label: dict[str, dict[str, Counter[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )
    changes: deque[tuple[str, HistoryLine]] = field(default_factory=lambda: deque(maxlen=CHANGES))
    over_time: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    latencies: "dict[str, array[int]]" = field(
        default_factory=lambda: {name: array("q") for name in LATENCIES}
    )
    vms: dict[tuple[InstanceRef, str], Vm] = field(default_factory=dict)
    causes: Causes = field(default_factory=Causes)
    causes_over_time: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _met: set[int] = field(default_factory=set)
    _events: dict[str, FunnelEvent] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Take in one outcome, oldest first; a repeated one counts once."""
        met = hash(outcome.outcome_id)
        if met in self._met or outcome.result is Result.CONTROLLED:  # a use of a control is not an event
            return
        self._met.add(met)
        result = outcome.result.value
        self.outcomes += outcome.count
        self.results[result] += outcome.count
        self.reasons[result, outcome.reason] += outcome.count
        for second, count in moments(outcome):
            self.over_time[second][result] += count
        self.by_runbook[outcome.runbook or "no runbook"][result] += outcome.count
        self.causes.outcome(outcome)
        if outcome.diagnosis is not None:
            self.causes_over_time[int(outcome.at.timestamp())][outcome.diagnosis.cause] += 1
        if outcome.instance is not None:
            self.by_zone[outcome.instance.zone][result] += outcome.count
        if outcome.owner is not None:
            self.by_owner[outcome.owner][result] += outcome.count
        for key, worth in outcome.labels.items():
            self.by_label[key][worth][result] += outcome.count
        for name, values in self.latencies.items():
            if (value := getattr(outcome.latency, name)) is not None:
                values.append(value)
        if (step := reached(outcome)) is not None:
            single = outcome.intent_id or outcome.message_id
            event = outcome.outcome_id if outcome.first_at or single is None else single
            before = self._events.get(event)
            self._events[event] = FunnelEvent(
                max(step, before.step) if before else step, result, outcome.count
            )
        if outcome.lineage.group is not None:
            self.by_group[outcome.lineage.group.rpartition("/")[2]][result] += outcome.count
        if outcome.instance is not None and outcome.runbook is not None:
            self._note(outcome.instance, outcome.runbook, outcome)

    def _note(self, instance: InstanceRef, runbook: str, outcome: Outcome) -> None:
        vm = self.vms.setdefault((instance, runbook), Vm(instance, runbook))
        vm.name = outcome.instance_name or vm.name
        vm.labels = outcome.labels or vm.labels
        vm.count += outcome.count
        vm.entries += 1
        vm.fixes += outcome.result is Result.REMEDIATED
        vm.lines.append(line := history_line(outcome))
        if outcome.result in (Result.REMEDIATED, Result.REVERTED):
            self.changes.append((vm.name or instance.instance_id, line))

    @property
    def first(self) -> datetime | None:
        """Time of the oldest outcome."""
        return datetime.fromtimestamp(min(self.over_time), UTC) if self.over_time else None

    @property
    def last(self) -> datetime | None:
        """Time of the newest outcome."""
        return datetime.fromtimestamp(max(self.over_time), UTC) if self.over_time else None

    def funnel(self) -> list[tuple[str, int]]:
        """Return how many events reached each step."""
        reached_by = Counter[int]()
        for event in self._events.values():
            reached_by[event.step] += event.count
        return [
            (name, sum(count for step, count in reached_by.items() if step >= number))
            for number, name in enumerate(STEPS)
        ]

    def ends(self) -> list[tuple[str, str, int]]:
        """Return how the events ended: the words, colour and number of each end; the numbers add up."""
        ended = Counter[str]()
        for event in self._events.values():
            ended[event.result] += event.count
        return [(words, tone, sum(ended[each] for each in results)) for words, tone, results in ENDS]

    def troubles(self) -> list[tuple[HistoryLine, int]]:
        """Return what a person may have to act on: one outcome of each kind, with its number of VMs."""
        kinds = defaultdict[tuple[str, str | None], list[HistoryLine]](list)
        for vm in self.vms.values():
            if vm.troubled:
                kinds[vm.latest.result, vm.latest.reason].append(vm.latest)
        return [(lines[-1], len(lines)) for lines in sorted(kinds.values(), key=len, reverse=True)]

    @property
    def awaiting(self) -> int:
        """The number of VMs with a plan that waits for approval."""
        latest = (vm.latest for vm in self.vms.values())
        return sum(line.result == "planned" and line.mode == "approve" for line in latest)

    def buckets(self) -> tuple[int, list[tuple[datetime, Counter[str]]]]:
        """Return outcomes over time: the seconds of a bucket, and each bucket that is not empty."""
        return in_buckets(self.over_time)

    def cause_buckets(self) -> tuple[int, list[tuple[datetime, Counter[str]]]]:
        """Return the causes that were found over time, likewise."""
        return in_buckets(self.causes_over_time)

    def alike(self) -> list[Alike]:
        """Return the groups of VMs with the same cause and origin, the largest first."""
        return self.causes.rows()[:SHARES]

    def histogram(self, name: str) -> list[tuple[str, int]]:
        """Return the number of durations between 1-2-5 edges, from the shortest to the longest."""
        return histogram(self.latencies[name])

    def shares(self, of: Mapping[str, Counter[str]]) -> list[tuple[str, Counter[str]]]:
        """Return the busiest zones or runbooks, the busiest last (the order of horizontal bars)."""
        return sorted(of.items(), key=lambda item: (item[1].total(), item[0]))[-SHARES:]

    def rows(self) -> Sequence[Vm]:
        """Return the VMs: those with trouble first, then the latest. A page shows the first ``VMS``."""
        return sorted(self.vms.values(), key=lambda vm: (not vm.troubled, -vm.latest.at.timestamp()))
