"""The store in a Firestore database (Native mode), shared by the function's instances and the operators.

Each document has the fields ``data`` (JSON text), ``queue``, ``due``, ``expire_at`` and ``schema``. ``data``
is text and not a map: text keeps the order of keys, so an outcome that is emitted again is the same byte for
byte, and it can hold what a map cannot (lists in lists, keys like ``__x__`` in the output of a hostile VM,
21 levels).

The database also needs, created by ``deploy/``:

* a composite index (``queue`` ascending, ``due`` ascending) on each collection that has queues;
* a TTL policy on ``expire_at`` of each collection whose documents expire (deletion lags by up to a day);
* no indexes on single fields: none is queried by itself, ``data`` begins with an id, and times rise.

``queue`` is stored with one of a few suffixes, and ids that rise with time get one of a few prefixes
(:mod:`logmend.adapters.stores.spread`), which spreads the writes of a storm over several ranges.

If ``FIRESTORE_EMULATOR_HOST`` is set, everything goes to an emulator, as with Google's own clients.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from logmend.adapters.google import errors
from logmend.adapters.libraries import ALONE
from logmend.adapters.stores import documents
from logmend.adapters.stores.remembered import Remembered
from logmend.adapters.stores.turns import Turns
from logmend.errors import Permanent, Transient
from logmend.ports import Document, Key, Step, T

if TYPE_CHECKING:
    from logmend.adapters.stores.firestore_documents import Stored, Version
    from logmend.adapters.stores.firestore_wire import Database

DEADLINE = 20.0
"""Seconds after which no new try is begun."""
TRIES = 12
"""How often a transaction is tried before it fails with ``ledger_contention``."""
READ_TRIES = 3
"""How often a read, or the beginning of a transaction, is tried if Firestore does not answer."""
READ_DEADLINE = 5.0
"""Seconds after which a read is not tried again; so a call that timed out is not repeated."""
CLOSE_GRACE = 10.0
"""Seconds that calls in flight get when their connection is replaced."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Upper bound of the random pause between tries, in seconds; doubled each time up to the longest."""

ROLE = "roles/datastore.user"

_PERMANENT = {
    "not_found": "ledger_missing",
    "not_permitted": "ledger_forbidden",
    "api_disabled": "ledger_forbidden",
    "no_credentials": "ledger_forbidden",
    "credentials_unusable": "ledger_forbidden",
}
_R = TypeVar("_R")


class _Contention(Transient):
    """Another transaction came first: nothing was written, and this one may be tried again."""

    def __init__(self, detail: str) -> None:
        super().__init__("ledger_contention", detail)


def classify(error: Exception) -> Transient | Permanent:
    """Return an error of Firestore's client as an error of the ledger."""
    verdict = errors.classify(error, needs=ROLE)
    detail = f"{verdict.reason}: {verdict.detail}"
    if verdict.reason in {"conflict", "already_exists"}:
        return _Contention(detail)
    if isinstance(verdict, Transient):
        return Transient("ledger_unavailable", detail, retry_after=verdict.retry_after)
    if verdict.reason == "invalid_request" and "transaction" in verdict.detail.lower():
        # "The referenced transaction has expired or is no longer valid": it took too long.
        return _Contention(detail)
    return Permanent(_PERMANENT.get(verdict.reason, "ledger_rejected"), detail)


class FirestoreStore:
    """A :class:`~logmend.ports.Store` in one Firestore database, which is dialled on first use.

    Each try sends its commit once. If the answer to a commit is lost, ``transact`` raises
    ``Transient("ledger_unavailable")``; then either all writes were made or none.

    Reasons: ``ledger_contention`` and ``ledger_unavailable`` are transient; ``ledger_missing`` (no such
    database), ``ledger_forbidden``, ``ledger_schema`` (a document of another version) and ``ledger_rejected``
    (a document is too big or an index is missing: the detail says which) are permanent.
    """

    def __init__(self, project: str, database: str = "(default)", *, endpoint: str | None = None) -> None:
        self._project = project
        self._database = database or "(default)"
        self._endpoint = endpoint
        self._open: tuple[asyncio.AbstractEventLoop, Database] | None = None
        self._background: set[asyncio.Task[None] | asyncio.Task[bool]] = set()
        self._turns = Turns()
        self._remembered = Remembered()
        self._obeys: bool | None = None
        self._asking: asyncio.Task[bool] | None = None

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        """See :meth:`logmend.ports.Store.transact`."""
        wanted = documents.checked_keys(keys)
        if not wanted:
            writes, answer = step({})
            documents.rows(wanted, writes)
            return answer
        now = asyncio.get_running_loop().time
        deadline, tries = now() + DEADLINE, 0
        while True:
            tries += 1
            async with self._turns.of(wanted):
                known = self._remembered.of(wanted, now()) if tries == 1 else None
                if known is not None and (done := await self._ventured(wanted, known, step)) is not None:
                    return done[0]
                read = await self._reading(lambda db: db.read(wanted))
                self._remembered.corrected(known or {}, read)
                writes, answer = step({key: stored.document for key, stored in read.items()})
                rows = documents.rows(wanted, writes)
                try:
                    await self._written(wanted, read, rows)
                except _Contention:
                    if tries == TRIES or now() > deadline:
                        raise
                else:
                    return answer
            self._turns.queue(tuple(rows))
            await _pause(tries)

    async def get(self, keys: Sequence[Key]) -> Mapping[Key, Document]:
        """See :meth:`logmend.ports.Store.get`."""
        wanted = documents.checked_keys(keys)
        read = await self._reading(lambda db: db.read(wanted)) if wanted else {}
        return {key: stored.document for key, stored in read.items()}

    async def read_ahead(self, keys: Sequence[Key]) -> None:
        """See :meth:`logmend.ports.Store.read_ahead`. Usable remembered ones are not read."""
        now = asyncio.get_running_loop().time
        if not (missing := self._remembered.missing(documents.checked_keys(keys), now())):
            return
        with contextlib.suppress(Transient, Permanent):  # if it lasts, the transaction will raise it
            read = await self._call(lambda db: db.read_small(missing))
            self._remembered.keep(read, read_at=now())

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.due`. Equal times come in order of id."""
        name, latest = documents.checked_collection(collection), documents.utc(before)
        return await self._reading(lambda db: db.due(name, queue, latest, limit))

    async def scan(self, collection: str, after: str | None, limit: int) -> Sequence[tuple[str, Document]]:
        """See :meth:`logmend.ports.Store.scan`."""
        name = documents.checked_collection(collection)
        if after is not None:
            documents.stored_id(after)
        return await self._reading(lambda db: db.scan(name, after, limit))

    async def aclose(self) -> None:
        """Close the connection. The next call dials again."""
        loop = asyncio.get_running_loop()
        # Tasks of another loop end there: a stopping function closes its ports in a loop of its own.
        mine = [task for task in self._background if not task.done() and task.get_loop() is loop]
        await asyncio.gather(*mine, return_exceptions=True)
        held, self._open = self._open, None
        if held is not None and held[0] is loop:
            await held[1].close()

    async def _ventured(
        self, keys: Sequence[Key], known: "Mapping[Key, Stored]", step: Step[T]
    ) -> tuple[T] | None:
        """Try a step on remembered documents; None if nothing was done and they have to be read first.

        The commit succeeds only if none of them has changed. An error, or an answer without a write, is not
        used, because it may be based on outdated documents.
        """
        try:
            writes, answer = step({key: stored.document for key, stored in known.items()})
            rows = documents.rows(keys, writes)
        except Exception:  # noqa: BLE001  if it is real, the step raises it again on what is read
            return None
        if not rows:
            return None
        try:
            await self._written(keys, known, rows)
        except _Contention:
            return None
        return (answer,)

    async def _written(
        self,
        keys: Sequence[Key],
        read: "Mapping[Key, Stored]",
        rows: Mapping[Key, documents.StoredRow | None],
    ) -> None:
        """Write a step's writes, if nothing that it read has changed."""
        # Deleting what does not exist only requires that it still does not, like anything that was only read.
        changed = {key: row for key, row in rows.items() if row is not None or key in read}
        unchanged = [key for key in keys if key not in changed]
        if not changed:
            return  # all that the step needed was a consistent view of one moment
        self._remembered.forget(changed)
        # Shielded: a transaction that is cancelled halfway would stay open for a minute.
        task = asyncio.create_task(self._commit(unchanged, read, changed))
        self._in_background(task)
        await asyncio.shield(task)

    async def _commit(
        self,
        unchanged: Sequence[Key],
        read: "Mapping[Key, Stored]",
        rows: Mapping[Key, documents.StoredRow | None],
    ) -> None:
        """Commit on condition that no document has changed, whether it is written or only read.

        Conditions need no locks, so rivals for a document never wait for each other. For documents that are
        only read, the condition is Firestore's operation ``verify``. If a server does not obey that, they are
        read again in a transaction, whose commit fails if one has changed.
        """
        if not unchanged or await self._obeyed():
            written = await self._call(lambda db: db.commit(read, rows, unchanged), committing=True)
        else:
            written = await self._in_transaction(unchanged, read, rows)
        self._remembered.keep({key: read[key] for key in unchanged if key in read} | written)

    async def _obeyed(self) -> bool:
        """Return whether the server obeys ``verify``, which is tested before anything depends on it.

        Concurrent callers share one test and its answer or error, since an instance starts with many events.
        """
        if self._obeys is not None:
            return self._obeys
        asking = self._asking
        if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
            asking = self._asking = asyncio.create_task(self._asked())
            self._in_background(asking)
        return await asyncio.shield(asking)

    async def _asked(self) -> bool:
        """Ask the server and keep the answer.

        If the test is aborted, there is no answer: both a false condition (firebase-js-sdk,
        packages/firestore/src/core/transaction_runner.ts) and contention may abort a transaction.
        """
        try:
            self._obeys = await self._reading(lambda db: db.obeys())
        except (_Contention, Permanent) as error:
            if _not_understood(error.__cause__):
                self._obeys = False
            elif isinstance(error, Permanent):
                raise
        return self._obeys is True

    async def _in_transaction(
        self,
        unchanged: Sequence[Key],
        read: "Mapping[Key, Stored]",
        rows: Mapping[Key, documents.StoredRow | None],
    ) -> "dict[Key, Stored]":
        versions, transaction = await self._reading(lambda db: db.begin(unchanged))
        try:
            _compare({key: read[key].version if key in read else None for key in unchanged}, versions)
            return await self._call(
                lambda db: db.commit(read, rows, transaction=transaction), committing=True
            )
        except BaseException:
            with contextlib.suppress(Transient, Permanent):
                await self._call(lambda db: db.rollback(transaction))
            raise

    def _in_background(self, task: asyncio.Task[None] | asyncio.Task[bool]) -> None:
        """Keep a task until it ends, and retrieve its exception to keep asyncio from logging it."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _reading(self, call: "Callable[[Database], Awaitable[_R]]") -> _R:
        """Make a call that writes nothing, and repeat it if Firestore is unavailable."""
        now = asyncio.get_running_loop().time
        deadline, tries = now() + READ_DEADLINE, 0
        while True:
            tries += 1
            try:
                return await self._call(call)
            except Transient as error:
                if error.reason != "ledger_unavailable" or tries == READ_TRIES or now() > deadline:
                    raise
            await _pause(tries)

    async def _call(self, call: "Callable[[Database], Awaitable[_R]]", *, committing: bool = False) -> _R:
        database = None
        try:
            database = self._connected()
            return await call(database)
        except Permanent:
            raise
        except Exception as error:
            verdict = classify(error)
            if committing and database is not None and database.missed(error):
                verdict = _Contention(str(error))
            if database is not None and verdict.reason == "ledger_unavailable":
                self._drop(database)
            raise verdict from error

    def _connected(self) -> "Database":
        """Return the running event loop's connection; gRPC binds a channel to the loop that made it."""
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop:
            with ALONE:
                from logmend.adapters.stores.firestore_wire import Database

            self._open = loop, Database(self._project, self._database, self._endpoint)
        return self._open[1]

    def _drop(self, database: "Database") -> None:
        """Make the next call dial again: a connection may be dead long before the kernel notices."""
        if self._open is not None and self._open[1] is database:
            self._open = None
            self._in_background(asyncio.create_task(database.close(grace=CLOSE_GRACE)))


def _compare(unchanged: "Mapping[Key, Version | None]", versions: "Mapping[Key, Version]") -> None:
    for key, version in unchanged.items():
        if versions.get(key) != version:
            raise _Contention(f"{key} was read and has changed")


def _not_understood(error: BaseException | None) -> bool:
    """Return whether a server refused a request for its form or content; then nothing was written."""
    with ALONE:
        from google.api_core import exceptions

    refusals = exceptions.InvalidArgument | exceptions.MethodNotImplemented | exceptions.Forbidden
    return isinstance(error, refusals)


async def _pause(tries: int) -> None:
    """Wait for a random time, longer after more tries, so rivals do not collide again."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries)
    await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 (spreads tries, guards nothing)
