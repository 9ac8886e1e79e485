"""Managed instance groups of which VMs are being changed, or held back for the group's sake. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from logmend.ledger import places
from logmend.ledger.places import Shard
from logmend.model.state import Record, State, Subject
from logmend.model.values import Outcome
from logmend.stages import decide
from logmend_cli.output import seconds


class GroupWaits:
    """Takes subjects, then records and places, one by one; keeps what is held back alone.

    How large a group is, and so its limit, only Compute knows: why a VM waits says it as of then.
    """

    def __init__(self) -> None:
        self._latest = set[str | None]()
        self._waiting = dict[tuple[str, str], list[Outcome]]()
        self._used = dict[str, tuple[int, datetime | None]]()

    def subject(self, subject: Subject) -> None:
        """Note the latest outcome of a VM, if it may be that its group holds it back."""
        if subject.last_reason in decide.OF_GROUP:
            self._latest.add(subject.last_outcome_id)

    def record(self, record: Record) -> None:
        """Keep what waits, and what is the latest of its VM though its event has ended."""
        outcome = record.outcome
        if outcome is None or not decide.held_by_group(outcome):
            return
        if record.state is State.PARKED or outcome.outcome_id in self._latest:
            assert outcome.lineage.group is not None
            self._waiting.setdefault((outcome.lineage.group, record.intent.runbook), []).append(outcome)

    def place(self, shard: Shard, now: datetime) -> None:
        """Keep how many places of a group are taken, and when the first gets free at the latest."""
        window = timedelta(seconds=shard.window)
        if shard.name.startswith(decide.GROUP):
            known = places.current(shard, window, now)
            if used := places.taken(known):
                self._used[shard.name.removeprefix(decide.GROUP)] = used, places.frees(known, window)

    def rows(self) -> list[Mapping[str, Any]]:
        """Return each group and runbook with its VMs that wait, those of most first; then groups in use."""
        found = [self._row(group, runbook, outcomes) for (group, runbook), outcomes in self._waiting.items()]
        idle = self._used.keys() - {group for group, _ in self._waiting}
        return sorted(found, key=lambda each: -each["waiting"]) + [
            self._row(group, None, []) for group in sorted(idle)
        ]

    def _row(self, group: str, runbook: str | None, outcomes: list[Outcome]) -> Mapping[str, Any]:
        used, frees = self._used.get(group, (0, None))
        latest = max(outcomes, key=lambda each: each.at, default=None)
        return {
            "group": group,
            "runbook": runbook,
            "waiting": len({each.instance for each in outcomes}),
            "reason": latest.reason if latest else None,
            "why": latest.detail if latest else None,
            "used": used,
            "frees": seconds(frees),
        }
