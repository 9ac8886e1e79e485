"""Managed instance groups with VMs that are being changed, or held back because of the group. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from logmend.ledger import places
from logmend.ledger.places import Shard
from logmend.model.state import Record, State, Subject
from logmend.model.values import Outcome
from logmend.stages import decide
from logmend_cli.output import seconds


class GroupWaits:
    """Takes subjects, then records and places, one by one; keeps only what is held back.

    Only Compute knows the size of a group, and so its limit: the reason why a VM waits has it as of then.
    """

    def __init__(self) -> None:
        self._latest = set[str | None]()
        self._waiting = dict[tuple[str, str], tuple[set[int], Outcome]]()
        self._used = dict[str, tuple[int, datetime | None]]()

    def subject(self, subject: Subject) -> None:
        """Note the latest outcome of a VM if its group may hold it back."""
        if subject.last_reason in decide.OF_GROUP:
            self._latest.add(subject.last_outcome_id)

    def record(self, record: Record) -> None:
        """Keep what waits, and a VM's latest record even if its event has ended."""
        outcome = record.outcome
        if outcome is None or not decide.held_by_group(outcome):
            return
        if record.state is State.PARKED or outcome.outcome_id in self._latest:
            assert outcome.lineage.group is not None
            key = outcome.lineage.group, record.intent.runbook
            vms, latest = self._waiting.get(key, (set[int](), outcome))
            vms.add(hash(outcome.instance))
            self._waiting[key] = vms, max(latest, outcome, key=lambda each: each.at)

    def place(self, shard: Shard, now: datetime) -> None:
        """Keep how many places of a group are taken, and the latest time at which the first becomes free."""
        window = timedelta(seconds=shard.window)
        if shard.name.startswith(decide.GROUP):
            current = places.current(shard, window, now)
            if used := places.taken(current):
                self._used[shard.name.removeprefix(decide.GROUP)] = used, places.frees(current, window)

    def rows(self) -> list[Mapping[str, object]]:
        """Return each group and runbook with its waiting VMs, the most first; then groups in use."""
        most_first = sorted(self._waiting.items(), key=lambda each: -len(each[1][0]))
        found = [
            self._row(group, runbook, len(vms), latest) for (group, runbook), (vms, latest) in most_first
        ]
        idle = self._used.keys() - {group for group, _ in self._waiting}
        return found + [self._row(group) for group in sorted(idle)]

    def _row(
        self, group: str, runbook: str | None = None, waiting: int = 0, latest: Outcome | None = None
    ) -> Mapping[str, object]:
        used, frees = self._used.get(group, (0, None))
        return {
            "group": group,
            "runbook": runbook,
            "waiting": waiting,
            "reason": latest.reason if latest else None,
            "why": latest.detail if latest else None,
            "used": used,
            "frees": seconds(frees),
        }
