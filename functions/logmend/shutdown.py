"""Release what outlives the process (a key in an OS Login profile) when the instance is stopped.

Cloud Run sends SIGTERM and kills ten seconds later. The server's own handler, set when it began to serve,
lets requests finish and then ends the process without asking anyone; a handler set before it is reset. So
this one is put in front of it with the first request: it waits for the requests under way, releases, and
only then hands the signal on.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from types import FrameType

log = logging.getLogger(__name__)

DRAIN = 4.0
"""Seconds that requests under way are waited for."""
RELEASE = 4.0
"""Seconds that releasing may take."""


class Shutdown:
    """Counts requests; ``release`` is awaited once, in an event loop and thread of its own."""

    def __init__(self, release: Callable[[], Awaitable[None]]) -> None:
        self._release = release
        self._under_way = 0
        self._armed = False
        self._next: Callable[[int, FrameType | None], object] | int | None = signal.SIG_DFL

    def __enter__(self) -> None:
        """Hold the shutdown off while a request is dealt with."""
        if not self._armed and threading.current_thread() is threading.main_thread():
            self._armed = True
            self._next = signal.signal(signal.SIGTERM, self._stop)
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        """Let the shutdown go on, if this was the last request under way."""
        self._under_way -= 1

    def _stop(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, self._next)  # a second signal is the server's at once
        threading.Thread(target=self._farewell, args=(number, frame), daemon=True).start()

    def _farewell(self, number: int, frame: FrameType | None) -> None:
        until = time.monotonic() + DRAIN
        while self._under_way and time.monotonic() < until:
            time.sleep(0.02)
        try:
            asyncio.run(asyncio.wait_for(self._released(), RELEASE))
        except Exception:
            log.exception("not everything could be released")
        if callable(self._next):
            self._next(number, frame)
        else:
            signal.raise_signal(number)

    async def _released(self) -> None:
        await self._release()
