"""The store in one SQLite file: durable, and safe between processes of one machine.

WAL journal with full synchronisation: what a transaction wrote survives a killed process and a power cut.
WAL needs shared memory, so the file must be on a local disk, not on a network file system.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar, cast

from logmend.adapters.stores import documents
from logmend.adapters.stores.sqlite_file import Identity, OpenFile, classify, connect
from logmend.ports import Clock, Document, Key, Step, T

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COLUMNS = "id, data, queue, due, expire_at"

TRIES = 4
"""Tries of one call before other processes' transactions count as ``ledger_contention``."""
PURGE_EVERY = 3600.0
"""Seconds between two removals of expired documents."""
PURGE_AFTER = timedelta(days=1)
"""How long a document outlives its expiry, so that a clock stepped forward for a moment costs nothing."""

_Columns = tuple[str, str, str | None, int | None, int | None]
_R = TypeVar("_R")


class SqliteStore:
    """A :class:`~logmend.ports.Store` in one SQLite file, opened when first used.

    One thread owns the one connection: tasks of this process queue for it instead of contending, other
    processes are kept apart by ``BEGIN IMMEDIATE``. A cancelled caller's transaction is done or not begun.
    With a ``clock``, documents that expired a day ago are removed now and then; without, never.

    Reasons: ``ledger_contention``, ``ledger_unavailable`` (disk full, I/O error) and ``ledger_replaced`` are
    transient. The last is for a file that was removed or replaced since this process opened it: it takes
    neither the new one nor makes one, since what it had seen and written there would be forgotten;
    ``ledger_missing`` (no such directory), ``ledger_forbidden``, ``ledger_corrupt``, ``ledger_schema``
    (written by a newer logmend) and ``ledger_rejected`` permanent.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock
        self._purged = -PURGE_EVERY
        self._worker: _Worker | None = None

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        """See :meth:`logmend.ports.Store.transact`. The step runs in the store's thread, under its lock."""
        wanted = documents.checked_keys(keys)
        answer = await self._run(lambda file: _transact(file, wanted, step))
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
        """Close the file. A later call opens it again."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    async def _listed(self, query: str, values: tuple[str | int, ...]) -> Sequence[tuple[str, Document]]:
        rows: list[_Columns] = await self._run(lambda file: file.connection.execute(query, values).fetchall())
        return [(documents.original_id(row[0]), _document(row)) for row in rows]

    async def _run(self, work: Callable[[OpenFile], _R]) -> _R:
        if self._worker is None:
            self._worker = _Worker(self.path)
        return await self._worker.run(work)


class _Worker:
    """A thread and the connection that only this thread touches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="logmend-sqlite")
        self._file: OpenFile | None = None
        self._was: Identity | None = None

    async def run(self, work: Callable[[OpenFile], _R]) -> _R:
        # Exceptions travel as values: a future replaces some of them (TimeoutError) by copies of its own.
        answer, error = await asyncio.get_running_loop().run_in_executor(self._thread, self._tried, work)
        if error is not None:
            raise error
        return cast("_R", answer)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _tried(self, work: Callable[[OpenFile], _R]) -> tuple[_R | None, Exception | None]:
        try:
            return self._attempt(work), None
        except Exception as error:  # noqa: BLE001 (raised again where it is awaited)
            return None, error

    def _attempt(self, work: Callable[[OpenFile], _R]) -> _R:
        """Work on the connection; wait and try again if other processes hold the lock."""
        for tries_left in reversed(range(TRIES)):
            try:
                if self._file is None:
                    self._file = connect(self._path, self._was)
                    self._was = self._file.identity
                self._file.demand()
                return work(self._file)
            except sqlite3.Error as error:
                verdict = classify(error, self._path)
                if verdict.reason != "ledger_contention":
                    self._disconnect()
                    raise verdict from error
                if not tries_left:
                    raise verdict from error
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 (spreads tries, guards nothing)
        raise AssertionError("the last try returns or raises")

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.connection.close()


def _transact(file: OpenFile, keys: Sequence[Key], step: Step[T]) -> T:
    connection = file.connection
    connection.execute("BEGIN IMMEDIATE")
    try:
        writes, answer = step(_read(connection, keys))
        for key, row in documents.rows(keys, writes).items():
            _write(connection, key, row)
        file.demand()  # at the last moment: the lock may have been waited for
        connection.execute("COMMIT")
    except BaseException:
        # A failed statement may have ended the transaction already (disk full): then there is none.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
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
