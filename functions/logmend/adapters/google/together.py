"""Combine concurrent requests into one call, to keep a storm within an API's quota."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Together(Generic[K, V]):
    """Calls ``ask`` for many keys at once.

    A single request is made at once. While other calls are running, or right after one for many keys, it
    waits until ``pace`` seconds have passed since the last call began; all requests waiting by then share one
    call. A call that hangs delays no other. Each answer is newer than its request.

    ``ask`` returns a value or an exception for each key. If it raises, all its callers get that exception.
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
        """Return or raise the answer for one key. Cancelling one caller does not affect the others."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
            if len(self._waiting) == 1:
                task = asyncio.create_task(self._turn())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._waiting[key])

    def close(self) -> None:
        """Make no more calls; waiting callers are cancelled."""
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
        except Exception as error:  # noqa: BLE001  the callers get it, whatever it is
            for future in waiting.values():
                _answer(future, error)
        finally:
            self._asking -= 1
            for future in waiting.values():
                future.cancel()  # no effect unless this task was cancelled


def _answer(future: asyncio.Future[V], answer: V | Exception) -> None:
    if future.done():
        return
    if not isinstance(answer, Exception):
        future.set_result(answer)
        return
    future.set_exception(answer)
    future.exception()  # retrieved, in case no caller is waiting any longer
