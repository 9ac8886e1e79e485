"""Queues for documents for which tasks of one process contend."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from logmend.ports import Key


class Turns:
    """Makes tasks of this process queue for a document they have contended for, as long as any task waits.

    Fifty tasks that keep retrying would make a thousand calls; a queue makes a hundred. Only documents that
    a step wrote get a queue, so documents that every task reads stay free.
    """

    def __init__(self) -> None:
        self._locks: dict[Key, asyncio.Lock] = {}
        self._users: Counter[Key] = Counter()

    def queue(self, keys: Sequence[Key]) -> None:
        """Make tasks that want one of these from now on wait for each other."""
        for key in keys:
            self._locks.setdefault(key, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def of(self, keys: Sequence[Key]) -> AsyncIterator[None]:
        """Wait for a turn at those keys that have a queue. The order of keys prevents deadlock."""
        queued = [key for key in keys if key in self._locks]
        self._users.update(queued)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for key in queued:
                    await stack.enter_async_context(self._locks[key])
                yield
        finally:
            self._users.subtract(queued)
            for key in queued:
                if not self._users[key]:
                    del self._users[key], self._locks[key]
