"""The store's requests to Firestore, as messages of its protocol.

Importing this module takes a third of a second, so :mod:`logmend.adapters.stores.firestore` does it on the
first call.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from google.api_core import exceptions
from google.cloud.firestore_v1 import types

from logmend.adapters.stores import documents, firestore_calls, spread
from logmend.adapters.stores.firestore_documents import (
    Stored,
    Value,
    Version,
    decoded,
    fields_of,
    ranges_of,
    stored_of,
    timestamp,
    version_of,
)
from logmend.adapters.stores.spread import Found
from logmend.ports import Document, Key

ASK_AGAIN = 600.0
"""Seconds between checks for documents whose ids older versions did not spread."""

BIG = 64_000
"""Size above which a document is not remembered, in bytes as read or characters as written."""

_NOTHING, _NOBODY = ("probe", "nothing"), ("probe", "nobody")
"""Documents that are never written."""

_VERIFY = bytes([5 << 3 | 2])
"""The byte with which Protocol Buffers begin a string in field 5."""


_Document: Any = types.Document.pb()
_Write: Any = types.Write.pb()
_Query: Any = types.StructuredQuery.pb()
_Array: Any = types.ArrayValue.pb()


class Database:
    """One connection to one Firestore database, bound to the event loop on which it was made.

    Methods raise the client's own errors: ``google.api_core.exceptions`` and ``google.auth.exceptions``.
    """

    def __init__(self, project: str, database: str, endpoint: str | None) -> None:
        self._calls = firestore_calls.Calls(project, database, endpoint)
        self._name = self._calls.name
        self._older, self._asked = True, -ASK_AGAIN

    async def read(self, keys: Sequence[Key]) -> dict[Key, Stored]:
        """Return the documents that exist, all as of one moment. Takes no locks."""
        found, _ = await self._batch_get(keys)
        return {key: stored_of(raw) for key, raw in found.items()}

    async def read_small(self, keys: Sequence[Key]) -> dict[Key, Stored]:
        """Return those documents that are not too big to be remembered."""
        found, _ = await self._batch_get(keys)
        return {key: stored_of(raw) for key, raw in found.items() if raw.ByteSize() <= BIG}

    async def begin(self, keys: Sequence[Key]) -> tuple[dict[Key, Version], bytes]:
        """Begin a transaction that reads these documents' versions; its commit fails if they change.

        It is explicitly optimistic, whatever the database's default is: nothing waits for a lock.
        """
        mode = types.TransactionOptions.ConcurrencyMode.OPTIMISTIC
        options = {
            "new_transaction": {"read_write": {"concurrency_mode": mode}},
            "mask": {"field_paths": ["schema"]},
        }
        found, transaction = await self._batch_get(keys, options)
        return {key: version_of(raw) for key, raw in found.items()}, transaction

    async def commit(
        self,
        read: Mapping[Key, Stored],
        rows: Mapping[Key, documents.StoredRow | None],
        unchanged: Sequence[Key] = (),
        *,
        transaction: bytes = b"",
    ) -> dict[Key, Stored]:
        """Write all of ``rows``, if neither they nor the ``unchanged`` documents have changed since ``read``.

        Return the documents that were written, except deleted and big ones.
        Raise ``AlreadyExists``, ``FailedPrecondition`` or ``NotFound`` if one has changed, ``Aborted`` if the
        transaction got in another's way.
        The commit is sent once: if the answer is lost, only a later read shows whether it was written.
        """
        writes = [self._write(key, row, read.get(key)) for key, row in rows.items()]
        conditions = [self._condition(key, read.get(key)) for key in unchanged]
        request = firestore_calls.Commit(
            database=self._name, transaction=transaction, writes=[*writes, *conditions]
        )
        answer = await self._calls.commit(request)
        return {
            key: Stored(
                row.document(), version_of(result), read[key].path if key in read else self._path(key)
            )
            for (key, row), result in zip(rows.items(), answer.write_results, strict=False)
            if row is not None and len(row.text) <= BIG and result.HasField("update_time")
        }

    async def obeys(self) -> bool:
        """Return whether the server obeys ``verify``, tested with commits that would change nothing.

        A false condition must stop the commit and a true one must not: a server that does not know ``verify``
        may reject both with the error for a false condition.
        """
        return await self._stopped(exists=True) and not await self._stopped(exists=False)

    async def _stopped(self, *, exists: bool) -> bool:
        nothing, condition = _Write(delete=self._path(_NOTHING)), self._condition(_NOBODY, None)
        condition.current_document.exists = exists
        request = firestore_calls.Commit(database=self._name, writes=[nothing, condition])
        try:
            await self._calls.commit(request)
        except Exception as error:
            if self.missed(error):
                return True
            raise
        return False

    @staticmethod
    def missed(error: Exception) -> bool:
        """Return whether a commit failed because a document has changed (NotFound: it was deleted)."""
        return isinstance(error, exceptions.NotFound | exceptions.FailedPrecondition)

    async def rollback(self, transaction: bytes) -> None:
        """Abandon a transaction to release its locks now instead of a minute later."""
        request = firestore_calls.Rollback(database=self._name, transaction=transaction)
        await self._calls.rollback(request)

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> list[tuple[str, Document]]:
        """List what is due, by a query over all ranges of the queue on the composite index (queue, due)."""
        ranges = ranges_of(queue)
        found = await self._due(collection, ranges, before, None, limit)
        if collection not in spread.COLLECTIONS:
            return _listed(found)
        if len(found) == limit:
            # More may be due at the same time, and ids are in order only within each range.
            parts = [partial(self._due, collection, [each], before) for each in ranges]
            found = await spread.merged(parts, limit)
        self._older = self._older or not all(spread.is_spread(each.stored) for each in found)
        return _listed(sorted(found, key=spread.order))

    async def scan(self, collection: str, after: str | None, limit: int) -> list[tuple[str, Document]]:
        """List a collection in order of id."""
        behind = None if after is None else documents.stored_id(after)
        spread_out = collection in spread.COLLECTIONS
        if not spread_out or behind is None:
            found = await self._page(collection, "", None, behind, None, limit)
            if not spread_out or len(found) < limit:
                return _listed(sorted(found, key=spread.order))
        parts = [partial(self._page, collection, *spread.bounds(n), behind) for n in range(spread.RANGES)]
        if await self._has_older():
            parts.append(partial(self._page, collection, spread.PLAIN, None, behind))
        return _listed(await spread.merged(parts, limit))

    async def _due(
        self, collection: str, ranges: Sequence[str], before: datetime, last: Found | None, limit: int
    ) -> list[Found]:
        query = _Query(limit={"value": limit})
        query.from_.add(collection_id=collection)
        where = query.where.composite_filter
        where.op = types.StructuredQuery.CompositeFilter.Operator.AND
        operator = types.StructuredQuery.FieldFilter.Operator
        of_queue = _Array(values=[Value(string_value=each) for each in ranges])
        for field, op, value in (
            ("queue", operator.IN, Value(array_value=of_queue)),
            ("due", operator.LESS_THAN_OR_EQUAL, Value(timestamp_value=timestamp(before))),
        ):
            each = where.filters.add().field_filter
            each.field.field_path, each.op = field, op
            each.value.CopyFrom(value)
        self._order_by(query, "due")
        self._order_by(query, "__name__")
        if last is not None and last.document.due is not None:
            query.start_at.values.add(timestamp_value=timestamp(last.document.due))
            query.start_at.values.add(reference_value=self._of(collection, last.stored))
        return [
            Found((document.due, _bare(stored)), stored, document)
            async for stored, document in self._run(query)
        ]

    async def _page(
        self,
        collection: str,
        first: str,
        end: str | None,
        behind: str | None,
        last: Found | None,
        limit: int,
    ) -> list[Found]:
        """List ids from ``first`` up to ``end`` (excluded), after the caller's id and the last one found."""
        query = _Query(limit={"value": limit})
        query.from_.add(collection_id=collection)
        self._order_by(query, "__name__")
        prefix = first if end else ""
        start = last.stored if last else prefix + behind if behind is not None else ""
        if start > first:
            query.start_at.values.add(reference_value=self._of(collection, start))
        elif first:
            query.start_at.values.add(reference_value=self._of(collection, first))
            query.start_at.before = True
        if end is not None:
            query.end_at.values.add(reference_value=self._of(collection, end))
            query.end_at.before = True
        return [Found((_bare(stored),), stored, document) async for stored, document in self._run(query)]

    async def _has_older(self) -> bool:
        """Return whether documents may be left that older versions stored under ids that are not spread.

        The last of them expire a month after the upgrade. Released versions that store such ids have schema 1
        and store none once the ledger is migrated, and the first spread id is stored only after that.
        Unreleased snapshots from before ids were spread may have schema 2 and can go on storing such ids.
        """
        now = asyncio.get_running_loop().time()
        if self._older and now >= self._asked + ASK_AGAIN:
            self._asked = now  # concurrent callers go on with what is known
            older = False
            for collection in spread.COLLECTIONS:
                left = await self._page(collection, spread.PLAIN, None, None, None, 1)
                begun = await self._page(collection, "", spread.PLAIN, None, None, 1)
                older = older or bool(left) or not begun
            self._older = older
        return self._older

    async def close(self, grace: float | None = None) -> None:
        """Close the connection; calls in flight get ``grace`` seconds."""
        await self._calls.close(grace)

    async def _batch_get(
        self, keys: Sequence[Key], options: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[dict[Key, Any], bytes]:
        older = any(key[0] in spread.COLLECTIONS for key in keys) and await self._has_older()
        keys_by_path = {self._of(key[0], documents.stored_id(key[1])): key for key in keys if older}
        keys_by_path |= {self._path(key): key for key in keys}
        request = firestore_calls.Get(database=self._name, documents=list(keys_by_path), **options)
        found, transaction = {}, b""
        async for raw in self._calls.get(request):
            transaction = raw.transaction or transaction
            if raw.HasField("found"):
                found[keys_by_path[raw.found.name]] = raw.found
        return found, transaction

    async def _run(self, query: Any) -> AsyncIterator[tuple[str, Document]]:
        request = firestore_calls.Run(parent=f"{self._name}/documents", structured_query=query)
        async for raw in self._calls.run(request):
            if raw.HasField("document"):
                yield raw.document.name.rpartition("/")[2], decoded(raw.document)

    def _write(self, key: Key, row: documents.StoredRow | None, read: Stored | None) -> Any:
        write, path = _Write(), read.path if read else self._path(key)
        if row is None:
            write.delete = path
        else:
            write.update.CopyFrom(_Document(name=path, fields=fields_of(key, row)))
        return _on_condition(write, read)

    def _condition(self, key: Key, read: Stored | None) -> Any:
        """Return a write that only requires that a document has not changed since it was read.

        It is a Write's field 5, ``verify``. Google does not publish that field with the service's own files,
        but with its web and mobile clients, whose transactions send it for documents that they only read
        (firebase-js-sdk, packages/firestore/src/protos/verify.patch and src/core/transaction.ts, 2026-11).
        See :meth:`obeys`.
        """
        path = read.path if read else self._path(key)
        delete: bytes = _Write(delete=path).SerializeToString()  # field 2, a string as well
        write = _Write()
        write.MergeFromString(_VERIFY + delete[1:])
        return _on_condition(write, read)

    def _path(self, key: Key) -> str:
        return self._of(key[0], spread.name(*key))

    def _of(self, collection: str, stored: str) -> str:
        return f"{self._name}/documents/{collection}/{stored}"

    @staticmethod
    def _order_by(query: Any, field: str) -> None:
        order = query.order_by.add(direction=types.StructuredQuery.Direction.ASCENDING)
        order.field.field_path = field


def _on_condition(write: Any, read: Stored | None) -> Any:
    if read is None:
        write.current_document.exists = False  # the first claim: create, never overwrite
    else:
        seconds, nanos = read.version
        write.current_document.update_time.seconds = seconds
        write.current_document.update_time.nanos = nanos
    return write


def _bare(stored: str) -> str:
    """Return the stored spelling of an id without its range; lists are sorted by it."""
    return documents.stored_id(spread.original(stored))


def _listed(found: Sequence[Found]) -> list[tuple[str, Document]]:
    return [(spread.original(each.stored), each.document) for each in found]
