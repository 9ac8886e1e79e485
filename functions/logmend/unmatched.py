"""Counts events that match no runbook, by process and hour: approximate, since it is not in the ledger.

The first of each kind in an hour is recorded; the rest are recorded together when the hour is over, with the
next request, or when the process ends. A process that is killed loses its count, and an event that is
delivered twice counts twice. Kinds are distinguished by the detail, which contains no text of an event.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from logmend.model.values import Outcome
from logmend.stages import outcomes

HOUR = timedelta(hours=1)
KINDS = 100
"""Kinds that are counted at most; whatever is of more kinds has an entry each."""


@dataclass(slots=True)
class Hour:
    """Events of one kind that have no entry of their own, in the hour that ends at ``until``."""

    until: datetime
    first_at: datetime
    latest: Outcome
    count: int = 0

    @property
    def outcome(self) -> Outcome:
        """The outcome that counts them."""
        return outcomes.of_tally(self.latest, self.count, self.first_at, outcomes.APPROXIMATE)


class Unmatched:
    """The count of one process."""

    def __init__(self) -> None:
        self._kinds: dict[str, Hour] = {}

    def counted(self, outcome: Outcome) -> bool:
        """Count an event of a kind that was recorded in this hour; False if it has to be recorded itself."""
        if (kind := self._kinds.get(outcome.detail)) is None:
            return False
        kind.first_at = min(kind.first_at, outcome.at) if kind.count else outcome.at
        kind.latest = outcome
        kind.count += 1
        return True

    def recorded(self, outcome: Outcome, now: datetime) -> None:
        """Begin the hour of a kind with an event that was recorded."""
        if len(self._kinds) < KINDS:
            self._kinds.setdefault(outcome.detail, Hour(now + HOUR, outcome.at, outcome))

    def over(self, now: datetime | None = None) -> list[Hour]:
        """Take out kinds whose hour is over by ``now`` (None: all), and return those with a count."""
        ended = [each for each in self._kinds.values() if now is None or each.until <= now]
        for each in ended:
            del self._kinds[each.latest.detail]
        return [each for each in ended if each.count]

    def back(self, kinds: Iterable[Hour]) -> None:
        """Put back what could not be recorded, for the next time."""
        for each in kinds:
            if (since := self._kinds.setdefault(each.latest.detail, each)) is not each:
                since.first_at, since.count = each.first_at, since.count + each.count
