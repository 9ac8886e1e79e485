"""The store in this process's memory, for the demo, tests and one-off commands. It ends with the process."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime

from logmend.adapters.stores import documents
from logmend.ports import Document, Key, Step, T


class MemoryStore:
    """A :class:`~logmend.ports.Store` over a dict, safe between tasks and threads."""

    def __init__(self) -> None:
        self._rows: dict[Key, documents.StoredRow] = {}
        self._lock = threading.Lock()

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        """See :meth:`logmend.ports.Store.transact`. There is no contention: steps run one after the other."""
        wanted = documents.checked_keys(keys)
        with self._lock:
            writes, answer = step(self._read(wanted))
            for key, row in documents.rows(wanted, writes).items():
                if row is None:
                    self._rows.pop(key, None)
                else:
                    self._rows[key] = row
        return answer

    async def get(self, keys: Sequence[Key]) -> Mapping[Key, Document]:
        """See :meth:`logmend.ports.Store.get`."""
        wanted = documents.checked_keys(keys)
        with self._lock:
            return self._read(wanted)

    async def read_ahead(self, keys: Sequence[Key]) -> None:
        """Do nothing: everything is in memory already."""

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.due`. Equal times come in order of id."""
        documents.checked_collection(collection)
        latest = documents.utc(before)
        with self._lock:
            found = [
                (row.due, documents.stored_id(key[1]), key[1], row)
                for key, row in self._rows.items()
                if key[0] == collection and row.queue == queue and row.due is not None and row.due <= latest
            ]
            found.sort(key=lambda item: item[:2])
            return [(document_id, row.document()) for _, _, document_id, row in found[:limit]]

    async def scan(self, collection: str, after: str | None, limit: int) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.scan`."""
        documents.checked_collection(collection)
        start = "" if after is None else documents.stored_id(after)
        with self._lock:
            stored = sorted(documents.stored_id(key[1]) for key in self._rows if key[0] == collection)
            ids = [documents.original_id(each) for each in stored if each > start][:limit]
            return [(each, self._rows[collection, each].document()) for each in ids]

    async def aclose(self) -> None:
        """Do nothing: what is stored stays."""

    def _read(self, keys: Sequence[Key]) -> dict[Key, Document]:
        return {key: self._rows[key].document() for key in keys if key in self._rows}
