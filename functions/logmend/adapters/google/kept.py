"""A cache of answers; concurrent callers share one request."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from logmend.errors import Transient

V = TypeVar("V")


class Answers(Generic[V]):
    """The answers for the last ``most`` keys.

    Concurrent callers for a key wait for the same answer. If there is none now (``Transient``), all of them
    get that error, rather than each trying in turn, and it is not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, tuple[float, V | Transient]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, key: str, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """Return a key's answer. If it is not kept, ``ask`` returns it and how many seconds to keep it."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._locks.setdefault(key, asyncio.Lock()):
            if found := self._kept.get(key):
                until, kept = found
                if isinstance(kept, Transient):
                    if asked < until:
                        raise kept
                elif until > clock():
                    return kept
            try:
                answer, ttl = await ask()
            except Transient as error:
                self._keep(key, clock(), error)
                raise
            self._keep(key, clock() + ttl, answer)
            return answer

    def _keep(self, key: str, until: float, answer: V | Transient) -> None:
        """Keep an answer until then; a ``Transient`` is only for the callers that asked before."""
        self._kept.pop(key, None)
        self._kept[key] = until, answer
        while len(self._kept) > self._most:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest)
            self._locks.pop(oldest, None)
