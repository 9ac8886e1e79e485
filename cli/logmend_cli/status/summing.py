"""Sum up the fleet's state from the ledger and from outcomes. Pure.

The ledger has the present: what waits, what is stopped, which VMs need a person. Outcomes have the past: how
often, how fast, what failed. Either alone is enough for its part; without a ledger, the latest outcome about
a VM gives its state.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from logmend.ledger import places
from logmend.ledger.freezes import of_fleet
from logmend.model.enums import Result
from logmend.model.state import Approval, Fleet, Record, Scope, State, Subject, Wave
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Outcome
from logmend.outcome import reasons
from logmend.settings import Settings
from logmend.stages import decide
from logmend_cli import output
from logmend_cli.alike import Causes
from logmend_cli.status.closed import Shut
from logmend_cli.status.fleet_state import BAD, CauseCount, FleetState, Spent, Unreached
from logmend_cli.status.group_waits import GroupWaits
from logmend_cli.status.shares import Shares
from logmend_cli.status.waiting import KEPT, Backlog, Queue

T = TypeVar("T")

FAILURES = 50
"""Most failures, and most uses of controls, that are kept: the latest."""


class Summing:
    """Takes subjects, records and outcomes one by one: a fleet of any size takes bounded memory.

    With a ledger, outcomes may come in any order: they are recognised by id and ordered by time. Without one
    they come oldest first, as in logs and files, since each VM's state is built from them. A repeated outcome
    counts once. ``since`` limits what is counted; what is stopped or waits now is shown whatever its age.
    ``settings`` say after how many failures a VM needs a person.
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
        self._reverts = set[str | None]()
        self._failures: list[tuple[datetime, int, Outcome]] = []
        self._controls: list[tuple[datetime, int, Outcome]] = []
        self._subjects: dict[tuple[InstanceRef, str], Subject] = {}
        self._groups, self._waiting = GroupWaits(), Backlog()
        self._owners = Shares()
        self._labels = defaultdict[str, Shares](Shares)
        self._tried = defaultdict[tuple[str, str], set[int]](set)
        self._unreached = defaultdict[tuple[str, str], set[int]](set)

    def document(self, kind: str) -> None:
        """Count a document of the ledger."""
        self._state.documents[kind] += 1

    def subject(self, subject: Subject) -> None:
        """Count one VM under one runbook."""
        state = self._state
        if self._ledger:
            self.document("subjects")
        self._groups.subject(subject)
        self._waiting.subject(subject)
        for freeze in subject.frozen.stack if subject.frozen else ():
            state.stopped.append(f"{subject.instance} ({subject.runbook}) {freeze}")
            _keep(state.freezes, (Scope(subject.runbook, subject.instance), freeze))
        if subject.held or subject.declined:
            _keep(state.held, subject)
            self._reverts |= {subject.held_by} - {None}
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
        self._owners.add(subject.owner, subject, vm)
        for key, value in subject.labels.items():
            self._labels[key].add(value, subject, vm)
        if subject.needs_human:
            _keep(state.needs_human, subject)
        if subject.relapses:
            _keep(state.relapsed, subject)

    def record(self, record: Record, due: datetime | None = None) -> None:
        """Count one intent; those that wait are listed. ``due`` is when the tick asks for it next."""
        self.document("intents")
        if record.intent.intent_id in self._reverts:
            self._state.holds[record.intent.intent_id] = record.intent
        if self._since is None or record.state is not State.DONE or record.intent.created_at >= self._since:
            self._state.by_state[record.state] += 1
        self._waiting.record(record, due)
        self._groups.record(record)

    def place(self, shard: places.Shard, now: datetime) -> None:
        """Keep what is used of a managed instance group, if these places belong to one."""
        self.document("places")
        self._groups.place(shard, now)

    def budget(self, spent: Spent) -> None:
        """Keep how much of a runbook's budget is used."""
        self._state.budgets.append(spent)

    def wave(self, runbook: str, said: str, wave: Wave) -> None:
        """Keep how far a runbook's waves have come."""
        self._state.waves.append((runbook, said, wave))

    def waits(self, queues: Mapping[str, Queue], now: datetime) -> None:
        """Keep what waits, in turn, with what is known about each runbook's budget."""
        self._state.waiting = self._waiting.rows(queues, now)

    def closed(self, shut: Iterable[Shut]) -> None:
        """Keep which windows are closed."""
        self._state.closed += shut

    def approval(self, approval: Approval, now: datetime) -> None:
        """Keep a plan that a person has yet to decide on."""
        self.document("approvals")
        if approval.state == "pending" and approval.expires_at > now:
            _keep(self._state.approvals, approval)

    def outcome(self, outcome: Outcome) -> None:
        """Count one outcome, and take in what it says about its VM."""
        state = self._state
        if (met := hash(outcome.outcome_id)) in self._met:
            return
        self._met.add(met)
        state.outcomes[output.word(outcome.result, outcome.reason)] += outcome.count
        began = outcome.first_at or outcome.at
        state.first = min(state.first or began, began)
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
        if any(self._owners.vms):
            self._state.owners = self._owners.rows("owner")
        for shares in self._labels.values():
            shares.complete(self._owners)
        self._state.labels = {key: shares.rows("value") for key, shares in sorted(self._labels.items())}
        self._state.groups = self._groups.rows()
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
    """Return a VM's state after an outcome as the ledger would note it, as far as outcomes show it.

    A skip says nothing new about a VM, nor does a count of repeats.
    """
    if outcome.first_at is not None:
        return subject
    if outcome.result is Result.CONTROLLED:
        released = outcome.reason == "vm_resumed"
        return replace(subject, needs_human=False, failures=0, relapses=0) if released else subject
    if outcome.result is Result.SKIPPED and outcome.reason != "needs_human" and subject.last_result:
        return subject
    return decide.noted(subject, outcome, settings)


def _stopped(fleet: Fleet) -> list[str]:
    stopped = []
    for scope, frozen in (("everything", fleet.frozen), *fleet.frozen_runbooks.items()):
        stopped += [f"{scope} {freeze}" for freeze in (frozen.stack if frozen else ())]
    stopped += [
        f"{name}: breaker open since {each.opened_at:%FT%TZ}, {each.failing} of {each.seen} VMs failed"
        for name, each in fleet.breakers.items()
    ]
    return stopped


def _keep(rows: list[T], row: T) -> None:
    if len(rows) < KEPT:
        rows.append(row)
