"""What a report shows, out of outcomes one by one. Pure; memory grows with VMs and events, not with outcomes.

The funnel counts events, each by how far it ever came; a step counts only if the one before it does, so
that it never widens. Reverts are no events of it.
"""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from logmend.model.enums import Action, Finding, Result
from logmend.model.struct import Struct
from logmend.model.values import Evidence, InstanceRef, Outcome
from logmend.outcome import document as outcome_json
from logmend.outcome import reasons
from logmend_cli.alike import Alike, Causes
from logmend_cli.fleet_state import BAD, LATENCIES
from logmend_cli.output import duration_text

STEPS = (
    "events",
    "match a runbook",
    "let through by the guards",
    "looked at on the VM",
    "fault seen",
    "enforced",
    "fix verified",
)
HISTORY = 15
"""Outcomes of a VM that are shown, the latest."""
VMS = 2000
"""VMs that are shown: those with trouble first, then the latest."""
SHARES = 15
"""Zones and runbooks that are shown, the busiest."""

ENDS = (
    ("fix verified", "remediated", frozenset({"remediated"})),
    ("nothing to do", "nothing_to_do", frozenset({"nothing_to_do"})),
    (
        "planned or waiting",
        "planned",
        frozenset({"planned", "parked", "requested", "deferred", "interrupted"}),
    ),
    ("left alone", "refused", frozenset({"refused", "skipped"})),
    ("no runbook's", "unmatched", frozenset({"unmatched"})),
    ("failed, unverified, rejected", "failed", frozenset({"failed", "unverified", "rejected"})),
)
"""How an event may have ended: in words, in which colour, by which results. Every event is in one of them."""
CHANGES = 6
"""Changes that the first screen shows, the latest."""
TROUBLES = 5
"""Kinds of trouble that the first screen shows, those of most VMs."""

_TRIED = frozenset({"script_error", "still_faulty", "unverifiable", "check_failed", "no_second_check"})
_BUCKETS = 48
_SIZES = (1, 5, 15, 60, 300, 900, 3600, 10_800, 21_600, 86_400, 7 * 86_400, 30 * 86_400)
_EDGES = tuple(step * 10**power for power in range(1, 8) for step in (1, 2, 5))
_TEXT = 600


class HistoryLine(Struct, frozen=True):
    """One outcome in a VM's history; ``before`` and ``after`` are its evidence in words.

    ``again`` says that it counts what said the same as an outcome before it.
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
    """One VM under one runbook: its events, the outcomes that tell of them, and the latest of these."""

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
        """What came of it last, skipping aside: being skipped, or a count, says nothing new of a VM."""
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


class _Event(Struct, frozen=True):
    """How far an event ever came in ``STEPS``, its latest result, and of how many it tells."""

    step: int
    result: str
    count: int


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
    _events: dict[str, _Event] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Take in one outcome, oldest first; one that comes again counts once."""
        met = hash(outcome.outcome_id)
        if met in self._met or outcome.result is Result.CONTROLLED:  # that is no event
            return
        self._met.add(met)
        result = outcome.result.value
        self.outcomes += outcome.count
        self.results[result] += outcome.count
        self.reasons[result, outcome.reason] += outcome.count
        for second, count in _moments(outcome):
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
            known = self._events.get(event)
            self._events[event] = _Event(max(step, known.step) if known else step, result, outcome.count)
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
        vm.lines.append(line := _line(outcome))
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
        """Return how many events came so far, step by step."""
        reached_by = Counter[int]()
        for event in self._events.values():
            reached_by[event.step] += event.count
        return [
            (name, sum(count for step, count in reached_by.items() if step >= number))
            for number, name in enumerate(STEPS)
        ]

    def ends(self) -> list[tuple[str, str, int]]:
        """Return how the events ended, each in words and colour with its number; the numbers add up."""
        ended = Counter[str]()
        for event in self._events.values():
            ended[event.result] += event.count
        return [(words, tone, sum(ended[each] for each in results)) for words, tone, results in ENDS]

    def troubles(self) -> list[tuple[HistoryLine, int]]:
        """Return what a person may have to do: one outcome of each kind, with its number of VMs."""
        kinds = defaultdict[tuple[str, str | None], list[HistoryLine]](list)
        for vm in self.vms.values():
            if vm.troubled:
                kinds[vm.latest.result, vm.latest.reason].append(vm.latest)
        return [(lines[-1], len(lines)) for lines in sorted(kinds.values(), key=len, reverse=True)]

    @property
    def awaiting(self) -> int:
        """How many VMs have a plan that waits for a person's approval."""
        latest = (vm.latest for vm in self.vms.values())
        return sum(line.result == "planned" and line.mode == "approve" for line in latest)

    def buckets(self) -> tuple[int, list[tuple[datetime, Counter[str]]]]:
        """Return outcomes over time: the seconds of a bucket, and each bucket that is not empty."""
        return _buckets(self.over_time)

    def cause_buckets(self) -> tuple[int, list[tuple[datetime, Counter[str]]]]:
        """Return the causes that were found over time, likewise."""
        return _buckets(self.causes_over_time)

    def alike(self) -> list[Alike]:
        """Return the VMs that have one cause and one origin, those of most VMs first."""
        return self.causes.rows()[:SHARES]

    def histogram(self, name: str) -> list[tuple[str, int]]:
        """Return how many took how long, between 1-2-5 edges, from the shortest to the longest."""
        counts = Counter(bisect_left(_EDGES, value) for value in self.latencies[name])
        if not counts:
            return []
        return [(_between(slot), counts[slot]) for slot in range(min(counts), max(counts) + 1)]

    def shares(self, of: Mapping[str, Counter[str]]) -> list[tuple[str, Counter[str]]]:
        """Return the busiest of zones or runbooks, the busiest last (as horizontal bars want it)."""
        return sorted(of.items(), key=lambda item: (item[1].total(), item[0]))[-SHARES:]

    def rows(self) -> Sequence[Vm]:
        """Return the VMs: those with trouble first, then the latest. A page shows the first ``VMS``."""
        return sorted(self.vms.values(), key=lambda vm: (not vm.troubled, -vm.latest.at.timestamp()))


def _moments(outcome: Outcome) -> Iterator[tuple[int, int]]:
    """Yield seconds, each with how many events it had; of a count only the first and the last are known."""
    last = int(outcome.at.timestamp())
    first = int(outcome.first_at.timestamp()) if outcome.first_at else last
    parts = min(outcome.count, _BUCKETS)
    for part in range(parts):
        share = outcome.count * (part + 1) // parts - outcome.count * part // parts
        yield first + (last - first) * part // max(parts - 1, 1) if parts > 1 else last, share


def _buckets(over_time: Mapping[int, Counter[str]]) -> tuple[int, list[tuple[datetime, Counter[str]]]]:
    if not over_time:
        return 1, []
    begin, end = min(over_time), max(over_time)
    size = next((size for size in _SIZES if (end - begin) / size <= _BUCKETS), _SIZES[-1])
    merged = defaultdict[int, Counter[str]](Counter)
    for second, counts in over_time.items():
        merged[second // size * size].update(counts)
    return size, [(datetime.fromtimestamp(at, UTC), merged[at]) for at in sorted(merged)]


def reached(outcome: Outcome) -> int | None:
    """Return how far in ``STEPS`` an outcome shows its event to have come; None for a revert."""
    if outcome.action is Action.REVERT:
        return None
    if outcome.runbook is None or outcome.result in (Result.UNMATCHED, Result.REJECTED):
        return 0
    if outcome.before is None:
        held = outcome.result in (Result.REFUSED, Result.SKIPPED, Result.PARKED, Result.DEFERRED)
        return 1 if held else 2
    if outcome.before.finding is not Finding.FAULTY:
        return 3
    if outcome.result is Result.REMEDIATED:
        return 6
    tried = outcome.after is not None or outcome.result is Result.UNVERIFIED or outcome.reason in _TRIED
    return 5 if tried else 4


def _line(outcome: Outcome) -> HistoryLine:
    return HistoryLine(
        at=outcome.at,
        result=outcome.result.value,
        reason=outcome.reason,
        detail=outcome.told[:_TEXT],
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


def _between(slot: int) -> str:
    if slot == 0:
        return f"to {duration_text(_EDGES[0])}"
    if slot == len(_EDGES):
        return f"over {duration_text(_EDGES[-1])}"
    return f"to {duration_text(_EDGES[slot])}"
