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

from logmend.adapters import documents
from logmend.errors import Permanent, Transient
from logmend.ports import Clock, Document, Key, Step, T

SCHEMA = 1
"""Version of the tables below. A file with a newer one is refused; an older one would be migrated."""

_TABLES = """
CREATE TABLE logmend_schema (version INTEGER NOT NULL);
CREATE TABLE documents (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,        -- as documents.stored_id spells it
    data TEXT NOT NULL,      -- JSON
    queue TEXT,
    due INTEGER,             -- microseconds since 1970-01-01 UTC, like expire_at
    expire_at INTEGER,
    PRIMARY KEY (collection, id)
);
CREATE INDEX documents_due ON documents (collection, queue, due, id) WHERE queue IS NOT NULL;
CREATE INDEX documents_expire_at ON documents (expire_at) WHERE expire_at IS NOT NULL;
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COLUMNS = "id, data, queue, due, expire_at"

BUSY_TIMEOUT = 5.0
"""Seconds that SQLite itself waits for another process's transaction, per try."""
TRIES = 4
"""Tries of one call before other processes' transactions count as ``ledger_contention``."""
PURGE_EVERY = 3600.0
"""Seconds between two removals of expired documents."""
PURGE_AFTER = timedelta(days=1)
"""How long a document outlives its expiry, so that a clock stepped forward for a moment costs nothing."""

_Columns = tuple[str, str, str | None, int | None, int | None]
_R = TypeVar("_R")


def classify(error: sqlite3.Error) -> Transient | Permanent:
    """Say what a caller should do about an SQLite error; unknown ones are transient."""
    # The low byte is the primary result code (https://sqlite.org/rescode.html); errors that the Python
    # module raises by itself (ProgrammingError and the like) have none.
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    match primary:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Transient("ledger_contention", str(error))
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_FORMAT:
            return Permanent("ledger_corrupt", f"not a readable SQLite database: {error}")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return Permanent("ledger_forbidden", str(error))
        case sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH:
            return Permanent("ledger_rejected", str(error))
        case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_MISUSE | sqlite3.SQLITE_RANGE | sqlite3.SQLITE_NOTFOUND:
            # No such table or column: a database, but not a ledger.
            return Permanent("ledger_corrupt", str(error))
        case None if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError):
            return Permanent("ledger_rejected", str(error))
        case _:  # SQLITE_FULL, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_NOMEM, …
            return Transient("ledger_unavailable", str(error))


class SqliteStore:
    """A :class:`~logmend.ports.Store` in one SQLite file, opened when first used.

    One thread owns the one connection: tasks of this process queue for it instead of contending, other
    processes are kept apart by ``BEGIN IMMEDIATE``. A cancelled caller's transaction is done or not begun.
    With a ``clock``, documents that expired a day ago are removed now and then; without, never.

    Reasons: ``ledger_contention`` and ``ledger_unavailable`` (disk full, I/O error) are transient;
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
        answer = await self._run(lambda connection: _transact(connection, wanted, step))
        if self._clock is not None and time.monotonic() - self._purged > PURGE_EVERY:
            self._purged = time.monotonic()
            expired = _micros(self._clock.now() - PURGE_AFTER)
            await self._run(
                lambda connection: (
                    connection.execute("DELETE FROM documents WHERE expire_at < ?", (expired,)).rowcount
                )
            )
        return answer

    async def get(self, keys: Sequence[Key]) -> Mapping[Key, Document]:
        """See :meth:`logmend.ports.Store.get`."""
        wanted = documents.checked_keys(keys)
        return await self._run(lambda connection: _read(connection, wanted))

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.due`. Equal times come in order of id."""
        return await self._listed(
            f"SELECT {_COLUMNS} FROM documents WHERE collection = ? AND queue = ? AND due <= ?"  # noqa: S608
            " ORDER BY due, id LIMIT ?",
            (documents.checked_collection(collection), queue, _micros(before), limit),
        )

    async def scan(self, collection: str, after: str | None, limit: int) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.scan`."""
        return await self._listed(
            f"SELECT {_COLUMNS} FROM documents WHERE collection = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
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
        rows: list[_Columns] = await self._run(
            lambda connection: connection.execute(query, values).fetchall()
        )
        return [(documents.original_id(row[0]), _document(row)) for row in rows]

    async def _run(self, work: Callable[[sqlite3.Connection], _R]) -> _R:
        if self._worker is None:
            self._worker = _Worker(self.path)
        return await self._worker.run(work)


class _Worker:
    """A thread and the connection that only this thread touches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="logmend-sqlite")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], _R]) -> _R:
        # Exceptions travel as values: a future replaces some of them (TimeoutError) by copies of its own.
        answer, error = await asyncio.get_running_loop().run_in_executor(self._thread, self._tried, work)
        if error is not None:
            raise error
        return cast("_R", answer)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _tried(self, work: Callable[[sqlite3.Connection], _R]) -> tuple[_R | None, Exception | None]:
        try:
            return self._attempt(work), None
        except Exception as error:  # noqa: BLE001 (raised again where it is awaited)
            return None, error

    def _attempt(self, work: Callable[[sqlite3.Connection], _R]) -> _R:
        """Work on the connection; wait and try again where other processes hold the lock."""
        for tries_left in reversed(range(TRIES)):
            try:
                if self._connection is None:
                    self._connection = _connect(self._path)
                return work(self._connection)
            except sqlite3.Error as error:
                verdict = classify(error)
                if verdict.reason != "ledger_contention":
                    self._disconnect()
                    raise verdict from error
                if not tries_left:
                    raise verdict from error
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 (spreads tries, guards nothing)
        raise AssertionError("the last try returns or raises")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    if not path.parent.is_dir():
        raise Permanent("ledger_missing", f"the directory {path.parent} does not exist")
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; refuse a file that is not a ledger of this version."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        problem = _schema_problem(connection, path)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if problem is not None:
        raise problem


def _schema_problem(connection: sqlite3.Connection, path: Path) -> Permanent | None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO logmend_schema VALUES (?)", (SCHEMA,))
    elif "logmend_schema" not in tables:
        return Permanent("ledger_corrupt", f"{path} is an SQLite database of something else")
    (version,) = connection.execute("SELECT max(version) FROM logmend_schema").fetchone()
    if version != SCHEMA:
        advice = "use the newer logmend that wrote it"
        return Permanent("ledger_schema", f"{path} has schema {version}, known is {SCHEMA}: {advice}")
    return None


def _transact(connection: sqlite3.Connection, keys: Sequence[Key], step: Step[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        writes, answer = step(_read(connection, keys))
        for key, row in documents.rows(keys, writes).items():
            _write(connection, key, row)
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
            f"SELECT {_COLUMNS} FROM documents WHERE collection = ? AND id = ?",  # noqa: S608 (constant text)
            (key[0], documents.stored_id(key[1])),
        ).fetchone()
        if row is not None:
            found[key] = _document(row)
    return found


def _write(connection: sqlite3.Connection, key: Key, row: documents.Row | None) -> None:
    collection, document_id = key[0], documents.stored_id(key[1])
    if row is None:
        connection.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (collection, document_id))
        return
    connection.execute(
        "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)",
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
    return documents.Row(
        text,
        queue,
        None if due is None else _EPOCH + due * _MICROSECOND,
        None if expire_at is None else _EPOCH + expire_at * _MICROSECOND,
    ).document()


def _micros(moment: datetime) -> int:
    return (documents.utc(moment) - _EPOCH) // _MICROSECOND
