"""The thread that owns a ledger's one connection, and one commit for all transactions that wait for it.

What a commit costs is the disk's answer, for one transaction as for many. So those that came while the last
commit ran are done in one: each step sees what the ones before it wrote, and nobody is answered before all of
it is on the disk.
"""

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar, cast

from logmend.adapters.stores.sqlite_file import Identity, OpenFile, classify, connect
from logmend.errors import Transient

TRIES = 4
"""Tries of one call before other processes' transactions count as ``ledger_contention``."""
TOGETHER = 64
"""Transactions in one commit at most: other processes wait for its end."""

_R = TypeVar("_R")
_Answer = tuple[_R | None, Exception | None]
"""Exceptions travel as values: a future replaces some of them (TimeoutError) by copies of its own."""


@dataclass(slots=True, eq=False)
class _Job(Generic[_R]):
    """Work on the connection; ``within`` a transaction, which the worker begins and commits."""

    work: Callable[[OpenFile], _R]
    within: bool
    future: "asyncio.Future[_Answer[_R]]"


class Writer:
    """A thread and the connection that only this thread touches, opened when first used.

    Work is done in the order in which it came; that of a caller who is cancelled before it begins, never.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="logmend-sqlite")
        self._file: OpenFile | None = None
        self._was: Identity | None = None
        self._jobs = deque[_Job[object]]()
        self._awake = False
        self._lock = threading.Lock()

    async def run(self, work: Callable[[OpenFile], _R], *, within: bool = False) -> _R:
        """Do the work in the thread, ``within`` a transaction or by itself."""
        job = _Job(work, within, asyncio.get_running_loop().create_future())
        with self._lock:
            self._jobs.append(cast("_Job[object]", job))
            wake, self._awake = not self._awake, True
        if wake:
            self._thread.submit(self._work_off)
        answer, error = await job.future
        if error is not None:
            raise error
        return cast("_R", answer)

    async def close(self) -> None:
        """Close the file once everything that waits is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _work_off(self) -> None:
        while jobs := self._taken():
            answers = self._group(jobs) if jobs[0].within else [self._tried(jobs[0].work)]
            for loop, told in groupby(
                zip(jobs, answers, strict=True), lambda each: each[0].future.get_loop()
            ):
                with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    loop.call_soon_threadsafe(_tell, list(told))

    def _taken(self) -> "list[_Job[object]]":
        """Take the next job, and as many transactions behind it as follow one another if it is one."""
        taken: list[_Job[object]] = []
        with self._lock:
            while self._jobs and len(taken) < TOGETHER:
                if taken and not (taken[0].within and self._jobs[0].within):
                    break
                job = self._jobs.popleft()
                if not job.future.cancelled():
                    taken.append(job)
            self._awake = bool(taken)
        return taken

    def _group(self, jobs: "Sequence[_Job[object]]") -> "list[_Answer[object]]":
        """Do transactions in one; each by itself if that fails, so that each fails by its own fault."""
        answers, error = self._tried(lambda file: _together(file, [job.work for job in jobs]))
        if answers is not None:
            return answers
        if len(jobs) == 1 or (isinstance(error, Transient) and error.reason == "ledger_contention"):
            return [(None, error)] * len(jobs)
        return [each for job in jobs for each in self._group([job])]

    def _tried(self, work: Callable[[OpenFile], _R]) -> _Answer[_R]:
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


def _together(file: OpenFile, every: Sequence[Callable[[OpenFile], _R]]) -> list[_Answer[_R]]:
    """Do all of it in one transaction.

    What raises before it has written is an answer like another; an error of SQLite's, or behind a
    write, ends all.
    """
    connection = file.connection
    connection.execute("BEGIN IMMEDIATE")
    answers: list[_Answer[_R]] = []
    try:
        for work in every:
            written = connection.total_changes
            try:
                answers.append((work(file), None))
            except sqlite3.Error:
                raise
            except Exception as error:
                if connection.total_changes != written:
                    raise
                answers.append((None, error))
        file.demand()  # at the last moment: the lock may have been waited for
        connection.execute("COMMIT")
    except BaseException:
        # A failed statement may have ended the transaction already (disk full): then there is none.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def _tell(answered: "Sequence[tuple[_Job[object], _Answer[object]]]") -> None:
    for job, answer in answered:
        if not job.future.done():
            job.future.set_result(answer)
