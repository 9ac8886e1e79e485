"""Queues for documents that tasks of one process contend for."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from logmend.ports import Key


class Turns:
    """Tasks of this process queue for a document once they have contended for it, as long as any waits.

    Fifty tasks that try again and again would make a thousand calls, a queue makes a hundred. Only documents
    that a step wrote are queued for, so that those which everybody reads stay free.
    """

    def __init__(self) -> None:
        self._locks: dict[Key, asyncio.Lock] = {}
        self._users: Counter[Key] = Counter()

    def queue(self, keys: Sequence[Key]) -> None:
        """Let whoever wants one of these from now on wait for the one before."""
        for key in keys:
            self._locks.setdefault(key, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def of(self, keys: Sequence[Key]) -> AsyncIterator[None]:
        """Wait for one's turn at those of the keys that have a queue. The order of keys prevents deadlock."""
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
