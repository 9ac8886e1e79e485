"""The work lists of the tick: what is due, oldest first, one page at a time."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from logmend.ledger.documents import unpack
from logmend.ports import Store
from logmend.records import Record, Subject


class Queues:
    """Reads the store's work lists. What it gives is checked again when it is taken up."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def parked(self, now: datetime, limit: int) -> Sequence[Record]:
        """Intents that wait for their time."""
        return await self._records("parked", now, limit)

    async def requested(self, now: datetime, limit: int) -> Sequence[Record]:
        """Intents whose work was handed over and whose next look is due."""
        return await self._records("requested", now, limit)

    async def unverified(self, now: datetime, limit: int) -> Sequence[Record]:
        """Intents whose second check is still missing and whose next look is due."""
        return await self._records("unverified", now, limit)

    async def unemitted(self, now: datetime, limit: int) -> Sequence[Record]:
        """Finished intents whose outcome may not have reached its log."""
        return await self._records("unemitted", now, limit)

    async def expired(self, now: datetime, limit: int) -> Sequence[Subject]:
        """Subjects whose lease has run out."""
        found = await self._store.due("subjects", "leased", now, limit)
        return [unpack(Subject, document) for _, document in found]

    async def subjects(self, page: int = 500) -> AsyncIterator[Subject]:
        """Walk through every subject, in order of id."""
        after: str | None = None
        while found := await self._store.scan("subjects", after, page):
            for _, document in found:
                yield unpack(Subject, document)
            after = found[-1][0]

    async def records(self, page: int = 500) -> AsyncIterator[Record]:
        """Walk through every intent, in order of id."""
        after: str | None = None
        while found := await self._store.scan("intents", after, page):
            for _, document in found:
                yield unpack(Record, document)
            after = found[-1][0]

    async def _records(self, queue: str, now: datetime, limit: int) -> Sequence[Record]:
        found = await self._store.due("intents", queue, now, limit)
        return [unpack(Record, document) for _, document in found]
