"""How long the parts of an attempt took."""

import time
from datetime import datetime, timedelta

from logmend.model.values import Latency


class Stopwatch:
    """Milliseconds between the points of an attempt, by the monotonic clock."""

    def __init__(self, now: datetime, published: datetime | None) -> None:
        self._queue = max(now - published, timedelta()) if published else None
        self._marks = [time.monotonic()]
        self._lookup: int | None = None
        self._act: int | None = None

    def looked_up(self) -> None:
        """Note that the facts are there."""
        self._lookup = self._lap()

    def acted(self) -> None:
        """Note that the work on the VM is over."""
        self._act = self._lap()

    def _lap(self) -> int:
        self._marks.append(time.monotonic())
        return round(1000 * (self._marks[-1] - self._marks[-2]))

    def latency(self) -> Latency:
        """Return the milliseconds until now."""
        queue = round(1000 * self._queue.total_seconds()) if self._queue is not None else None
        return Latency(queue, self._lookup, self._act, round(1000 * (time.monotonic() - self._marks[0])))
