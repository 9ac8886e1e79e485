"""The fleet's state, summed up from what the ledger keeps and from outcomes. Pure; ``status`` shows it.

The ledger knows what is: what waits, what stands still, who needs a person. Outcomes know what was: how
often, how fast, what failed. Either alone is enough for the part that it knows; if there is no ledger, the
latest outcome about a VM stands for it.
"""

import heapq
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from logmend.ledger import places
from logmend.ledger.freezes import of_fleet
from logmend.model.enums import Mode, Result
from logmend.model.state import Approval, Fleet, Freeze, Record, Scope, State, Subject, Wave
from logmend.model.struct import Struct, replace
from logmend.model.values import InstanceRef, Outcome
from logmend.outcome import document as outcome_json
from logmend.outcome import reasons
from logmend.settings import Budget, Settings
from logmend.stages import decide
from logmend_cli import output
from logmend_cli.alike import Alike, Causes
from logmend_cli.closed import Shut

KEPT = 1000
"""Rows that each list keeps; counts are of everything."""
FAILURES = 50
"""Failures, and uses of controls, that are kept, the latest."""

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
    waiting: list[Record] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    freezes: list[tuple[Scope, Freeze]] = field(default_factory=list)
    closed: list[Shut] = field(default_factory=list)
    waves: list[Mapping[str, Any]] = field(default_factory=list)
    held: list[Subject] = field(default_factory=list)
    budgets: list[Spent] = field(default_factory=list)
    owners: list[Mapping[str, Any]] = field(default_factory=list)
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

    def document(self) -> dict[str, Any]:
        """Return the state as JSON data; times in milliseconds, ``p50`` and the like by nearest rank."""
        return {
            "instances": self.instances,
            "results": dict(self.by_result.most_common()),
            "outcomes": dict(self.outcomes.most_common()),
            "first_outcome": _time(self.first),
            "last_outcome": _time(self.last),
            "stopped": self.stopped,
            "freezes": [_freeze(*each) for each in self.freezes],
            "closed": [each._asdict() | {"opens": _time(each.opens)} for each in self.closed],
            "waves": self.waves,
            "held": [_held(each) for each in self.held],
            "budgets": [
                {"runbook": each.runbook, "used": each.used, "limit": each.limit, "frees": _time(each.frees)}
                for each in self.budgets
            ],
            "last_tick": _time(self.last_tick),
            "unreached": [
                {"project_id": each.project_id, "zone": each.zone, "instances": each.instances, "of": each.of}
                for each in self.unreached
            ],
            "owners": self.owners,
            "needs_human": [_subject(each) for each in self.needs_human],
            "relapsed": [_subject(each) for each in self.relapsed],
            "controls": [_control(each) for each in self.controls],
            "causes": [_cause(each) for each in self.causes],
            "alike": [each.row for each in self.alike],
            "failures": [failure(each) for each in self.failures],
            "intents": dict(sorted(self.by_state.items())),
            "waiting": [_record(each) for each in self.waiting],
            "approvals": [_approval(each) for each in self.approvals],
            "latency_ms": {name: quantiles(values) for name, values in self.latencies.items()},
        }


class Summing:
    """Takes subjects, records and outcomes one by one, so that a fleet of any size takes bounded memory.

    Beside a ledger, outcomes may come in any order: it tells them by id, and their time decides. Without one
    they come oldest first, as logs and files have them, since each VM's state is made up from them. One that
    comes again counts once. ``since`` bounds what is counted; what stands still or waits now is told whatever
    its age. ``settings`` say after how many failures a VM is left to a person.
    """

    def __init__(
        self, fleet: Fleet | None = None, since: datetime | None = None, settings: Settings | None = None
    ) -> None:
        self._ledger, self._since, self._settings = fleet is not None, since, settings or Settings()
        self._state = FleetState()
        if fleet is not None:
            self._state.last_tick, self._state.stopped = fleet.last_tick, _stopped(fleet)
            self._state.freezes = of_fleet(fleet, lambda _: True)[1]
        self._last = dict[int, tuple[datetime | None, str | None]]()
        self._causes = dict[tuple[Result, str | None], tuple[int, set[int], Outcome]]()
        self._alike = Causes()
        self._met: set[int] = set()
        self._failures: list[tuple[datetime, int, Outcome]] = []
        self._controls: list[tuple[datetime, int, Outcome]] = []
        self._subjects: dict[tuple[InstanceRef, str], Subject] = {}
        self._owners = defaultdict[str | None, defaultdict[str, set[int]]](lambda: defaultdict(set))
        self._tried = defaultdict[tuple[str, str], set[int]](set)
        self._unreached = defaultdict[tuple[str, str], set[int]](set)

    def subject(self, subject: Subject) -> None:
        """Count one VM under one runbook."""
        state = self._state
        for freeze in subject.frozen.stack if subject.frozen else ():
            state.stopped.append(f"{subject.instance} ({subject.runbook}) {freeze}")
            _keep(state.freezes, (Scope(subject.runbook, subject.instance), freeze))
        if subject.held or subject.declined:
            _keep(state.held, subject)
        if self._since is not None and (subject.last_at is None or subject.last_at < self._since):
            return
        where, vm = (subject.instance.project_id, subject.instance.zone), hash(subject.instance)
        self._tried[where].add(vm)
        if subject.last_reason in reasons.UNREACHED:
            self._unreached[where].add(vm)
        known, word = self._last.get(vm, (None, None)), None
        if subject.last_result is not None:
            word = output.word(subject.last_result, subject.last_reason)
        if known[0] is None or (subject.last_at is not None and subject.last_at > known[0]):
            self._last[vm] = subject.last_at, word or known[1]
        for what, holds in (
            ("instances", True),
            ("needs_human", subject.needs_human),
            ("failed", subject.last_result is Result.FAILED),
        ):
            if holds:
                self._owners[subject.owner][what].add(vm)
        if subject.needs_human:
            _keep(state.needs_human, subject)
        if subject.relapses:
            _keep(state.relapsed, subject)

    def record(self, record: Record) -> None:
        """Count one intent; those that wait are listed."""
        if self._since is None or record.state is not State.DONE or record.intent.created_at >= self._since:
            self._state.by_state[record.state] += 1
        if record.state is not State.DONE:
            _keep(self._state.waiting, record)

    def budget(self, spent: Spent) -> None:
        """Keep what is used of a runbook's budget."""
        self._state.budgets.append(spent)

    def wave(self, runbook: str, said: str, wave: Wave) -> None:
        """Keep how far a runbook's waves have come."""
        held = f"{wave.held.who} at {wave.held.at:%FT%TZ} {wave.held.why}".strip() if wave.held else None
        row = {"runbook": runbook, "wave": said, "since": _time(wave.since), "held_by": held}
        self._state.waves.append(row)

    def closed(self, shut: Iterable[Shut]) -> None:
        """Keep which windows are closed."""
        self._state.closed += shut

    def approval(self, approval: Approval, now: datetime) -> None:
        """Keep a plan that a person has yet to decide on."""
        if approval.state == "pending" and approval.expires_at > now:
            _keep(self._state.approvals, approval)

    def outcome(self, outcome: Outcome) -> None:
        """Count one outcome, and what it says of its VM."""
        state = self._state
        if (met := hash(outcome.outcome_id)) in self._met:
            return
        self._met.add(met)
        state.outcomes[output.word(outcome.result, outcome.reason)] += outcome.count
        state.first = min(state.first or outcome.at, outcome.at)
        state.last = max(state.last or outcome.at, outcome.at)
        for name, values in state.latencies.items():
            if (value := getattr(outcome.latency, name)) is not None:
                values.append(value)
        if outcome.result is Result.CONTROLLED:
            self._keep_latest(self._controls, outcome)
        self._alike.outcome(outcome)
        if outcome.result in BAD:
            cause = outcome.result, outcome.reason
            number, vms, latest = self._causes.get(cause, (0, set[int](), outcome))
            vms.add(hash(outcome.instance))
            self._causes[cause] = number + 1, vms, max(outcome, latest, key=lambda each: each.at)
            self._keep_latest(self._failures, outcome)
        if not self._ledger and outcome.instance is not None and outcome.runbook is not None:
            key = outcome.instance, outcome.runbook
            self._subjects[key] = noted(self._subjects.get(key) or Subject(*key), outcome, self._settings)

    def _keep_latest(self, kept: list[tuple[datetime, int, Outcome]], outcome: Outcome) -> None:
        """Keep an outcome if it is among the latest ``FAILURES``."""
        heapq.heappush(kept, (outcome.at, len(self._met), outcome))
        if len(kept) > FAILURES:
            heapq.heappop(kept)

    def state(self) -> FleetState:
        """Return the sum of everything."""
        for subject in self._subjects.values():
            self.subject(subject)
        self._subjects.clear()
        self._state.instances = len(self._last)
        if any(self._owners):
            self._state.owners = [
                {"owner": owner} | {key: len(vms[key]) for key in ("instances", "needs_human", "failed")}
                for owner, vms in sorted(self._owners.items(), key=lambda each: -len(each[1]["instances"]))
            ]
        self._state.by_result = Counter(word for _, word in self._last.values() if word)
        self._state.alike = self._alike.rows()
        self._state.causes = [
            CauseCount(result.value, reason, number, len(vms), latest)
            for (result, reason), (number, vms, latest) in sorted(
                self._causes.items(), key=lambda each: (-len(each[1][1]), -each[1][0])
            )
        ]
        self._state.unreached = [
            Unreached(*where, len(vms), len(self._tried[where]))
            for where, vms in sorted(self._unreached.items(), key=lambda each: -len(each[1]))
        ]
        self._state.controls = [outcome for _, _, outcome in sorted(self._controls, reverse=True)]
        self._state.failures = [outcome for _, _, outcome in sorted(self._failures, reverse=True)]
        return self._state


def noted(subject: Subject, outcome: Outcome, settings: Settings) -> Subject:
    """Return a VM's state after an outcome as the ledger notes it, as far as outcomes tell.

    Being skipped says nothing new of a VM, nor does a count of what an outcome before it said.
    """
    if outcome.first_at is not None:
        return subject
    if outcome.result is Result.CONTROLLED:
        released = outcome.reason == "vm_resumed"
        return replace(subject, needs_human=False, failures=0, relapses=0) if released else subject
    if outcome.result is Result.SKIPPED and outcome.reason != "needs_human" and subject.last_result:
        return subject
    return decide.noted(subject, outcome, settings)


def quantiles(values: Iterable[int]) -> dict[str, int | None]:
    """Return count, median, 95th percentile and maximum, by nearest rank; null if there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "p50": None, "p95": None, "max": None}

    def at(share: float) -> int:
        return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 100) // 100) - 1))]

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "max": ordered[-1]}


def failure(outcome: Outcome) -> dict[str, Any]:
    """Return the row of one outcome that is bad, with what a person does next."""
    return {
        "at": _time(outcome.at),
        "instance": str(outcome.instance) if outcome.instance else None,
        "name": outcome.instance_name,
        "runbook": outcome.runbook,
        "result": outcome.result.value,
        "reason": outcome.reason,
        "detail": outcome.told,
        "next_step": reasons.next_step(outcome) or None,
        "outcome_id": outcome.outcome_id,
    }


def spent(
    shards: Mapping[str, list[places.Shard]], budgets: Mapping[str, Budget], now: datetime
) -> Iterable[Spent]:
    """Sum up budgets by runbook. How many places there are, the settings at hand say, not the ledger."""
    for runbook, budget in budgets.items():
        every = [places.current(each, budget.window, now) for each in shards.get(runbook, ())]
        used = sum(map(places.taken, every))
        frees = [at for each in every if (at := places.frees(each, budget.window))]
        yield Spent(runbook, used, budget.count, min(frees, default=None) if used >= budget.count else None)


def spent_by_cohorts(
    shards: Mapping[str, list[places.Shard]],
    budgets: Mapping[str, Budget],
    limits: Mapping[str, Mapping[str, int]],
    now: datetime,
) -> Iterable[Spent]:
    """Sum up the limits of zones, groups and labels in which a place is taken, the fullest first.

    ``limits`` are by runbook what ``LOGMEND_DISRUPTION_LIMITS`` says; a cohort without one is left out.
    """
    found = []
    for name, (shard, *_) in shards.items():
        runbook = name.partition("~")[0]
        limit = limits.get(runbook, {}).get(shard.name.partition(" ")[0])
        if not shard.name or limit is None or runbook not in budgets:
            continue
        known = places.current(shard, budgets[runbook].window, now)
        used, frees = places.taken(known), places.frees(known, budgets[runbook].window)
        if used:
            found.append(Spent(f"{runbook}, {shard.name}", used, limit, frees if used >= limit else None))
    return sorted(found, key=lambda each: each.limit - each.used)


def _freeze(scope: Scope, freeze: Freeze) -> Mapping[str, Any]:
    return {
        "name": freeze.name,
        "scope": str(scope),
        "by": freeze.by,
        "since": _time(freeze.at),
        "until": _time(freeze.until),
        "why": freeze.why,
    }


def _held(subject: Subject) -> Mapping[str, Any]:
    return {
        "instance": str(subject.instance),
        "name": subject.name,
        "runbook": subject.runbook,
        "held_by": subject.held_by if subject.held else str(subject.declined),
        "next_step": f"logmend resume --instance {subject.instance} --runbook {subject.runbook}",
    }


def _control(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "at": _time(outcome.at),
        "reason": outcome.reason,
        "by": outcome.requested_by,
        "identity": outcome_json.CLAIMED if outcome.requested_by else None,
        "runbook": outcome.runbook,
        "instance": str(outcome.instance) if outcome.instance else None,
        "approval_id": outcome.approval_id,
        "detail": outcome.detail,
        "outcome_id": outcome.outcome_id,
    }


def _cause(cause: CauseCount) -> Mapping[str, Any]:
    return {
        "result": cause.result,
        "reason": cause.reason,
        "outcomes": cause.outcomes,
        "instances": cause.instances,
        "last_at": _time(cause.latest.at),
        "next_step": reasons.next_step(cause.latest) or None,
    }


def _keep(rows: list[Any], row: Any) -> None:
    if len(rows) < KEPT:
        rows.append(row)


def _time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else None


def _stopped(fleet: Fleet) -> list[str]:
    found = []
    for scope, frozen in (("everything", fleet.frozen), *fleet.frozen_runbooks.items()):
        found += [f"{scope} {freeze}" for freeze in (frozen.stack if frozen else ())]
    found += [
        f"{name}: breaker open since {each.opened_at:%FT%TZ}, {each.failing} of {each.seen} VMs failed"
        for name, each in fleet.breakers.items()
    ]
    return found


def _subject(subject: Subject) -> Mapping[str, Any]:
    return {
        "instance": str(subject.instance),
        "name": subject.name,
        "owner": subject.owner,
        "runbook": subject.runbook,
        "result": subject.last_result.value if subject.last_result else None,
        "reason": subject.last_reason,
        "at": _time(subject.last_at),
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


def _record(record: Record) -> Mapping[str, Any]:
    return {
        "intent_id": record.intent.intent_id,
        "instance": str(record.intent.instance),
        "runbook": record.intent.runbook,
        "action": record.intent.action.value,
        "state": record.state.value,
        "reason": record.outcome.reason if record.outcome else None,
        "detail": record.outcome.detail if record.outcome else None,
        "requested_by": record.intent.requested_by,
        "created_at": _time(record.intent.created_at),
    }


def _approval(approval: Approval) -> Mapping[str, Any]:
    return {
        "approval_id": approval.approval_id,
        "instance": str(approval.intent.instance),
        "runbook": approval.intent.runbook,
        "action": approval.intent.action.value,
        "expires_at": _time(approval.expires_at),
    }
