"""The store in one SQLite file: durable, and safe to share between processes on one machine.

It uses a WAL journal with full synchronisation, so what a transaction wrote survives a killed process and a
power cut. WAL needs shared memory: the file must be on a local disk, not on a network file system.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from logmend.adapters.stores import documents
from logmend.adapters.stores.sqlite_file import OpenFile
from logmend.adapters.stores.sqlite_worker import Writer
from logmend.ports import Clock, Document, Key, Step, T

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COLUMNS = "id, data, queue, due, expire_at"

PURGE_EVERY = 3600.0
"""Seconds between removals of expired documents."""
PURGE_AFTER = timedelta(days=1)
"""How long a document outlives its expiry, so a clock briefly stepped forward does no harm."""

_Columns = tuple[str, str, str | None, int | None, int | None]
_R = TypeVar("_R")


class SqliteStore:
    """A :class:`~logmend.ports.Store` in one SQLite file, opened when first used.

    One thread owns the only connection: tasks of this process queue for it instead of contending, and waiting
    tasks share a commit. ``BEGIN IMMEDIATE`` keeps other processes apart. If a caller is cancelled, its
    transaction is either done completely or not begun.
    With a ``clock``, documents that expired a day ago are removed now and then; without one, never.

    Reasons: ``ledger_contention``, ``ledger_unavailable`` (disk full, I/O error) and ``ledger_replaced`` are
    transient. The last means that the file was removed or replaced after this process opened it; the process
    neither uses the new file nor creates one, since what it saw and wrote in the old one would be lost.
    ``ledger_missing`` (no such directory), ``ledger_forbidden``, ``ledger_corrupt``, ``ledger_schema``
    (written by a newer logmend) and ``ledger_rejected`` are permanent.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock
        self._purged = -PURGE_EVERY
        self._worker: Writer | None = None

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        """See :meth:`logmend.ports.Store.transact`. The step runs in the store's thread, under its lock."""
        wanted = documents.checked_keys(keys)
        answer = await self._run(lambda file: _stepped(file, wanted, step), within=True)
        if self._clock is not None and time.monotonic() - self._purged > PURGE_EVERY:
            self._purged = time.monotonic()
            expired = _micros(self._clock.now() - PURGE_AFTER)
            await self._run(
                lambda file: (
                    file.connection.execute("DELETE FROM ledger WHERE expire_at < ?", (expired,)).rowcount
                )
            )
        return answer

    async def get(self, keys: Sequence[Key]) -> Mapping[Key, Document]:
        """See :meth:`logmend.ports.Store.get`."""
        wanted = documents.checked_keys(keys)
        return await self._run(lambda file: _read(file.connection, wanted))

    async def read_ahead(self, keys: Sequence[Key]) -> None:
        """Do nothing: reading within the transaction is just as fast."""

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.due`. Equal times come in order of id."""
        return await self._listed(
            f"SELECT {_COLUMNS} FROM ledger WHERE collection = ? AND queue = ? AND due <= ?"  # noqa: S608
            " ORDER BY due, id LIMIT ?",
            (documents.checked_collection(collection), queue, _micros(before), limit),
        )

    async def scan(self, collection: str, after: str | None, limit: int) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.scan`."""
        return await self._listed(
            f"SELECT {_COLUMNS} FROM ledger WHERE collection = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
            (
                documents.checked_collection(collection),
                "" if after is None else documents.stored_id(after),
                limit,
            ),
        )

    async def aclose(self) -> None:
        """Close the file. The next call opens it again."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    async def _listed(self, query: str, values: tuple[str | int, ...]) -> Sequence[tuple[str, Document]]:
        rows: list[_Columns] = await self._run(lambda file: file.connection.execute(query, values).fetchall())
        return [(documents.original_id(row[0]), _document(row)) for row in rows]

    async def _run(self, work: Callable[[OpenFile], _R], *, within: bool = False) -> _R:
        if self._worker is None:
            self._worker = Writer(self.path)
        return await self._worker.run(work, within=within)


def _stepped(file: OpenFile, keys: Sequence[Key], step: Step[T]) -> T:
    """Do a step within a transaction."""
    writes, answer = step(_read(file.connection, keys))
    for key, row in documents.rows(keys, writes).items():
        _write(file.connection, key, row)
    return answer


def _read(connection: sqlite3.Connection, keys: Sequence[Key]) -> dict[Key, Document]:
    found = {}
    for key in keys:
        row: _Columns | None = connection.execute(
            f"SELECT {_COLUMNS} FROM ledger WHERE collection = ? AND id = ?",  # noqa: S608 (constant text)
            (key[0], documents.stored_id(key[1])),
        ).fetchone()
        if row is not None:
            found[key] = _document(row)
    return found


def _write(connection: sqlite3.Connection, key: Key, row: documents.StoredRow | None) -> None:
    collection, document_id = key[0], documents.stored_id(key[1])
    if row is None:
        connection.execute("DELETE FROM ledger WHERE collection = ? AND id = ?", (collection, document_id))
        return
    connection.execute(
        "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?)",
        (
            collection,
            document_id,
            row.text,
            row.queue,
            None if row.due is None else _micros(row.due),
            None if row.expire_at is None else _micros(row.expire_at),
        ),
    )


def _document(columns: _Columns) -> Document:
    _, text, queue, due, expire_at = columns
    return documents.StoredRow(
        text,
        queue,
        None if due is None else _EPOCH + due * _MICROSECOND,
        None if expire_at is None else _EPOCH + expire_at * _MICROSECOND,
    ).document()


def _micros(moment: datetime) -> int:
    return (documents.utc(moment) - _EPOCH) // _MICROSECOND
