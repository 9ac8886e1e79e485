"""A client-side limit that keeps calls within an API's quota, so refusals by the API are rare."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from logmend.errors import Transient


class Quota:
    """Allows at most ``calls`` in any span of ``window`` seconds; further calls wait for a place, in order.

    It only counts this process: if others use up the API's quota, the API refuses calls.
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
        """Wait for a place for each of ``calls``; ``Transient("rate_limited")`` at once if it takes longer.

        ``patience`` is in seconds. A refused call takes no place.
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
