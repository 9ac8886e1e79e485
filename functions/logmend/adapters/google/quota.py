"""Keeping to an API's quota from this side, so that its own refusals stay the exception."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from logmend.errors import Transient


class Quota:
    """At most ``calls`` in any span of ``window`` seconds; whoever comes later waits for a place, in order.

    It knows of this process alone: others that share the API's quota show up as its refusals.
    """

    def __init__(
        self,
        calls: int,
        window: float = 60.0,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._calls = calls
        self._window = window
        self._now = now
        self._sleep = sleep
        self._taken: deque[float] = deque()

    async def take(self, patience: float, calls: int = 1) -> None:
        """Wait for a place for each of ``calls``; ``Transient("rate_limited")`` at once if that takes longer.

        ``patience`` is in seconds. Whoever is refused has taken no place.
        """
        now, calls = self._now(), min(calls, self._calls)
        while self._taken and self._taken[0] <= now - self._window:
            self._taken.popleft()
        over = len(self._taken) + calls - self._calls
        at = max(now, self._taken[over - 1] + self._window) if over > 0 else now
        if at - now > patience:
            raise Transient(
                "rate_limited", f"{self._calls} calls in {self._window:g} s are used", retry_after=at - now
            )
        self._taken.extend([at] * calls)
        if at > now:
            await self._sleep(at - now)
