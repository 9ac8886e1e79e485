"""What waits in the ledger: the order in which the tick processes it, and when to expect it. Pure."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from logmend.model.state import Fleet, Record, State, Subject
from logmend.model.struct import Struct
from logmend.model.values import InstanceRef
from logmend.outcome import document as outcome_json
from logmend.settings import Settings
from logmend.stages import decide
from logmend_cli.output import seconds

KEPT = 1000
"""Most rows of each list of status, in this one the first in turn; counts include everything."""

_STOPPED = frozenset({"frozen", "breaker_open"})


class Queue(Struct, frozen=True):
    """What holds up a runbook's intents now: stops, and its budget, by this command's settings.

    ``frees`` is when the first place becomes free, if none is; ``opens`` is when a closed window opens.
    """

    fleet: Fleet
    policy: Settings
    used: int
    limit: int
    window: timedelta
    frees: datetime | None = None
    opens: datetime | None = None


class Backlog:
    """Takes subjects, then records, one by one; keeps those that wait or are at work, the first in turn."""

    def __init__(self) -> None:
        self._found: list[tuple[Record, datetime | None]] = []
        self._frozen = dict[tuple[InstanceRef, str], Subject]()

    def subject(self, subject: Subject) -> None:
        """Keep a VM that is frozen."""
        if subject.frozen:
            self._frozen[subject.instance, subject.runbook] = subject

    def record(self, record: Record, due: datetime | None) -> None:
        """Keep a record that is not done; ``due`` is when the tick looks at it next."""
        if record.state is not State.DONE:
            self._found.append((record, due))
        if len(self._found) >= 2 * KEPT:
            self._found = self._first()

    def _first(self) -> list[tuple[Record, datetime | None]]:
        return sorted(self._found, key=lambda each: decide.in_turn(each[0].intent))[:KEPT]

    def rows(self, queues: Mapping[str, Queue], now: datetime) -> list[Mapping[str, object]]:
        """Return each with its position among its runbook's parked intents, and when to expect it.

        None of those before it in turn is left out, so positions are exact.
        """
        before, rows = Counter[str](), list[Mapping[str, object]]()
        for record, due in self._first():
            runbook, position = record.intent.runbook, None
            if record.state is State.PARKED:
                before[runbook] += 1
                position = before[runbook]
            queue, at = queues.get(runbook), None
            if position and queue and not self._stopped(record, queue, now):
                at = expected(record, position, due, queue, now)
            rows.append(_row(record) | {"position": position, "due": seconds(due), "expected": seconds(at)})
        return rows

    def _stopped(self, record: Record, queue: Queue, now: datetime) -> bool:
        """Return whether it waits for a person to act, at an unknown time."""
        if record.outcome and record.outcome.reason == "observe_mode":
            return True
        key = record.intent.instance, record.intent.runbook
        subject = self._frozen.get(key) or Subject(*key)
        stop = decide.stopped(record.intent, subject, queue.fleet, queue.policy, now)
        return stop is not None and stop.reason in _STOPPED


def expected(
    record: Record, position: int, due: datetime | None, queue: Queue, now: datetime
) -> datetime | None:
    """Return the earliest time for a parked intent, if all before it take a place; None if not known."""
    if record.outcome and record.outcome.reason == "outside_window":
        return queue.opens
    asked = max(due or now, now)
    late = position - max(0, queue.limit - queue.used)
    if late <= 0:
        return asked
    if queue.frees is None:  # that depends on an outcome
        return None
    return max(asked, queue.frees + (late - 1) // queue.limit * queue.window)


def _row(record: Record) -> dict[str, object]:
    by = record.intent.requested_by
    return {
        "intent_id": record.intent.intent_id,
        "instance": str(record.intent.instance),
        "runbook": record.intent.runbook,
        "action": record.intent.action.value,
        "state": record.state.value,
        "reason": record.outcome.reason if record.outcome else None,
        "detail": record.outcome.detail if record.outcome else None,
        "requested_by": by,
        "identity": outcome_json.CLAIMED if by else None,
        "why": record.intent.why or None,
        "created_at": seconds(record.intent.created_at),
    }
