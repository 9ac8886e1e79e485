"""The work lists of the tick: what is due, oldest first, one page at a time."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from logmend.errors import Permanent
from logmend.ledger.documents import every, unpack
from logmend.ledger.places import Shard
from logmend.model.state import Acts, Approval, Record, Repeats, Subject
from logmend.ports import Document, Key, Store

T = TypeVar("T")

Unreadable = Callable[[str, Permanent], None]
"""Called with the id of a document that cannot be read (another version wrote it, say) and the error."""


def refuse(name: str, error: Permanent) -> None:
    """Raise the error: one unreadable document then makes its whole list unreadable."""
    del name
    raise error


class Queues:
    """Reads the store's work lists. Each item is checked again when it is taken up."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def parked(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Record]:
        """Return parked intents that are due."""
        return _read(Record, await self._store.due("intents", "parked", now, limit), unreadable)

    async def requested(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Record]:
        """Return intents whose work was requested and whose next check is due."""
        return _read(Record, await self._store.due("intents", "requested", now, limit), unreadable)

    async def unverified(
        self, now: datetime, limit: int, unreadable: Unreadable = refuse
    ) -> Sequence[Record]:
        """Return intents that still lack the second check and whose next check is due."""
        return _read(Record, await self._store.due("intents", "unverified", now, limit), unreadable)

    async def unemitted(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Record]:
        """Return finished intents whose outcome may not have reached its log."""
        return _read(Record, await self._store.due("intents", "unemitted", now, limit), unreadable)

    async def expired(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Subject]:
        """Return subjects whose lease has run out."""
        return _read(Subject, await self._store.due("subjects", "leased", now, limit), unreadable)

    async def kept(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Subject]:
        """Return VMs not heard of for so long that Compute is asked whether they still exist."""
        return _read(Subject, await self._store.due("subjects", "kept", now, limit), unreadable)

    async def untold(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Acts]:
        """Return acts on controls that may not have reached the log of outcomes."""
        return _read(Acts, await self._store.due("acts", "untold", now, limit), unreadable)

    async def counted(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Repeats]:
        """Return counts of repeated events that are to be recorded by now."""
        return _read(Repeats, await self._store.due("repeats", "counted", now, limit), unreadable)

    async def overdue(self, now: datetime, limit: int, unreadable: Unreadable = refuse) -> Sequence[Approval]:
        """Return undecided plans that have expired or are so close to it that people are to be told."""
        return _read(Approval, await self._store.due("approvals", "pending", now, limit), unreadable)

    async def repeats(self) -> AsyncIterator[Repeats]:
        """Walk through every VM's days on which something was counted."""
        async for _, document in every(self._store, "repeats"):
            yield unpack(Repeats, document)

    async def acts(self) -> AsyncIterator[Acts]:
        """Walk through the acts on controls, oldest first."""
        async for _, document in every(self._store, "acts"):
            yield unpack(Acts, document)

    async def places(self, unreadable: Unreadable = refuse) -> AsyncIterator[tuple[Key, Shard]]:
        """Walk through the documents of every budget."""
        async for key, document in every(self._store, "places"):
            for shard in _read(Shard, [(key[1], document)], unreadable):
                yield key, shard

    async def subjects(self) -> AsyncIterator[Subject]:
        """Walk through every subject, in order of id."""
        async for _, document in every(self._store, "subjects"):
            yield unpack(Subject, document)

    async def records(self) -> AsyncIterator[Record]:
        """Walk through every intent, in order of id."""
        async for record, _ in self.dated():
            yield record

    async def dated(self) -> AsyncIterator[tuple[Record, datetime | None]]:
        """Walk through every intent, each with its next due time; None if it is on no list."""
        async for _, document in every(self._store, "intents"):
            yield unpack(Record, document), document.due


def _read(kind: type[T], found: Sequence[tuple[str, Document]], unreadable: Unreadable) -> list[T]:
    readable = []
    for name, document in found:
        try:
            readable.append(unpack(kind, document))
        except Permanent as error:
            unreadable(name, error)
    return readable
