"""Questions that wait at the same time, asked together: what keeps a storm inside an API's quota."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Together(Generic[K, V]):
    """Ask ``ask`` for many keys at once.

    A question that meets no other is asked at once, alone. While others are being asked, or right after many
    were, it waits until ``pace`` seconds have passed since the last call began; all that wait by then are
    asked in one call. A call that hangs holds up nobody else. Each answer is younger than its question.

    ``ask`` answers each key with a value or an exception. If it raises, everyone whom it was asked for gets
    what it raised.
    """

    def __init__(
        self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]], *, pace: float
    ) -> None:
        self._ask = ask
        self._pace = pace
        self._last = float("-inf")
        self._crowded = False
        self._asking = 0
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: K) -> V:
        """Return the answer for one key, or raise it. A caller that is cancelled takes nobody with it."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
            if len(self._waiting) == 1:
                task = asyncio.create_task(self._turn())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._waiting[key])

    def close(self) -> None:
        """Ask no more; whoever still waits is cancelled."""
        for task in self._tasks:
            task.cancel()
        for future in self._waiting.values():
            future.cancel()

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._asking or self._crowded:
            await asyncio.sleep(max(0.0, self._last + self._pace - clock()))
        waiting, self._waiting = self._waiting, {}
        self._last, self._crowded = clock(), len(waiting) > 1
        self._asking += 1
        try:
            answers = await self._ask(list(waiting))
            for key, future in waiting.items():
                _answer(future, answers[key])
        except Exception as error:  # noqa: BLE001  whoever asked is told, whatever it is
            for future in waiting.values():
                _answer(future, error)
        finally:
            self._asking -= 1
            for future in waiting.values():
                future.cancel()  # nothing, unless this task was cancelled


def _answer(future: asyncio.Future[V], answer: V | Exception) -> None:
    if future.done():
        return
    if not isinstance(answer, Exception):
        future.set_result(answer)
        return
    future.set_exception(answer)
    future.exception()  # looked at, in case nobody waits for it any longer
