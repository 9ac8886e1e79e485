"""The thread that owns a ledger's only connection and commits all waiting transactions together.

A commit costs one wait for the disk, however many transactions are in it. So transactions that arrive while
a commit is running are committed together next: each step sees what earlier steps wrote, and no caller gets
its answer before everything is on the disk.
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
"""How often a call is tried before other processes' transactions count as ``ledger_contention``."""
TOGETHER = 64
"""Most transactions in one commit: other processes have to wait for its end."""

_R = TypeVar("_R")
_Answer = tuple[_R | None, Exception | None]
"""Exceptions are passed as values, because a future replaces some of them (TimeoutError) with copies."""


@dataclass(slots=True, eq=False)
class _Job(Generic[_R]):
    """Work on the connection; if ``within``, in a transaction that the worker begins and commits."""

    work: Callable[[OpenFile], _R]
    within: bool
    future: "asyncio.Future[_Answer[_R]]"


class Writer:
    """A thread, and a connection that only this thread uses; it is opened on first use.

    Work is done in order of arrival. Work whose caller is cancelled before it begins is never done.
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
        """Do the work in the thread, and return its result; if ``within``, in a transaction."""
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
        """Close the file once all waiting work is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _work_off(self) -> None:
        while jobs := self._taken():
            answers = self._group(jobs) if jobs[0].within else [self._tried(jobs[0].work)]
            for loop, told in groupby(
                zip(jobs, answers, strict=True), lambda each: each[0].future.get_loop()
            ):
                with contextlib.suppress(RuntimeError):  # the loop was closed: its callers are gone
                    loop.call_soon_threadsafe(_tell, list(told))

    def _taken(self) -> "list[_Job[object]]":
        """Take the next job; if it is a transaction, also take those that directly follow it."""
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
        """Do transactions together; if that fails, do each alone, so each fails only for its own fault."""
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
        """Do the work; wait and try again if another process holds the lock."""
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
    """Do all the work in one transaction.

    An exception before a step has written anything becomes that step's answer. An SQLite error, or an
    exception after a write, ends the whole transaction.
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
        file.demand()  # at the last moment: waiting for the lock may have taken a while
        connection.execute("COMMIT")
    except BaseException:
        # A failed statement may have ended the transaction already (disk full).
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def _tell(answered: "Sequence[tuple[_Job[object], _Answer[object]]]") -> None:
    for job, answer in answered:
        if not job.future.done():
            job.future.set_result(answer)
