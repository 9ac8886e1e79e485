"""The three stores for the contract suite, and launchers that let sixteen rivals race for one document."""

import asyncio
import multiprocessing
import os
import threading
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from logmend.adapters.stores import firestore_calls
from logmend.adapters.stores.firestore import FirestoreStore
from logmend.adapters.stores.memory import MemoryStore
from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ledger.documents import every, unpack
from logmend.model.state import Repeats
from logmend.ports import Store

START_TIMEOUT = 240.0
"""Sixteen processes that import everything anew: seconds, or minutes on a host that is busy otherwise."""
RACE_TIMEOUT = 300
"""What pytest gives a race, in seconds: longer than it waits for its rivals."""

Rival = Callable[[Store, int], Any]
"""A coroutine function at module level: the store and the rival's number → its result."""


def open_named(name: str) -> Store:
    """Open ``sqlite:PATH`` or ``firestore:PROJECT/DATABASE``, as a process of its own would."""
    kind, _, rest = name.partition(":")
    if kind == "sqlite":
        return SqliteStore(Path(rest))
    project, _, database = rest.partition("/")
    return FirestoreStore(project, database)


async def counted_in(store: Store) -> dict[str, str]:
    """Name the messages that the ledger counts, each with ``RESULT: REASON``."""
    return {
        intent_id.removeprefix("m-"): word.replace(" ", ": ")
        async for _, document in every(store, "repeats")
        for word, said in unpack(Repeats, document).tallies.items()
        for intent_id in said.ids
    }


class Backend(Protocol):
    """One kind of store with a state of its own for the test."""

    name: str

    def open(self) -> Store:
        """Give a store on that state; a second one is another client of the same state."""
        ...

    def race(self, rival: Rival, rivals: int) -> list[Any]:
        """Start so many rivals at the same moment, each with its own store, and give their results."""
        ...


class MemoryBackend:
    """One object, rivals are threads: this store does not reach beyond its process."""

    name = "memory"

    def __init__(self) -> None:
        self._store = MemoryStore()

    def open(self) -> Store:
        return self._store

    def race(self, rival: Rival, rivals: int) -> list[Any]:
        barrier = threading.Barrier(rivals)
        results: list[Any] = [None] * rivals

        def body(number: int) -> None:
            barrier.wait(START_TIMEOUT)
            results[number] = asyncio.run(rival(self._store, number))

        threads = [threading.Thread(target=body, args=(number,)) for number in range(rivals)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(START_TIMEOUT)
        return results


@dataclass
class SharedBackend:
    """A state that several processes share; rivals are processes."""

    name: str
    address: str

    def open(self) -> Store:
        return open_named(self.address)

    def race(self, rival: Rival, rivals: int) -> list[Any]:
        return race_processes(self.address, rival, rivals)


def sqlite_backend(folder: Path) -> Backend:
    return SharedBackend("sqlite", f"sqlite:{folder / 'ledger.sqlite'}")


def firestore_backend() -> Backend:
    """Give a database that nobody else uses in the emulator that FIRESTORE_EMULATOR_HOST names."""
    assert os.environ.get("FIRESTORE_EMULATOR_HOST"), "the firestore_emulator fixture sets it"
    return SharedBackend("firestore", f"firestore:test-{uuid.uuid4().hex[:12]}/ledger")


def race_processes(address: str, rival: Rival, rivals: int) -> list[Any]:
    # spawn: a forked gRPC is undefined, and production's processes are not forks of each other either.
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(rivals), context.Queue()
    processes = [
        context.Process(target=_process, args=(address, rival, number, barrier, answers))
        for number in range(rivals)
    ]
    try:
        for each in processes:
            each.start()
        told: Sequence[tuple[int, Any, str | None]] = [answers.get(timeout=START_TIMEOUT) for _ in processes]
    finally:
        for each in processes:
            each.join(5)
            if each.is_alive():
                each.kill()
                each.join()
            each.close()
        answers.close()
        answers.join_thread()
    assert [trouble for _, _, trouble in told if trouble] == []
    return [result for _, result, _ in sorted(told, key=lambda one: one[0])]


def _process(address: str, rival: Rival, number: int, barrier: Any, answers: Any) -> None:
    async def body() -> Any:
        # A rival that gives a call up does not know whether it was made; the race is not about a busy host.
        firestore_calls.CALL_TIMEOUT = START_TIMEOUT
        store = open_named(address)
        try:
            # Imports, connections and tables are ready before the race: it is about the document alone.
            await store.get([("warm", "up")])
            await asyncio.to_thread(barrier.wait, START_TIMEOUT)
            return await rival(store, number)
        finally:
            await store.aclose()

    try:
        answers.put((number, asyncio.run(body()), None))
    except BaseException:  # noqa: BLE001 (told to the parent, which fails)
        barrier.abort()
        answers.put((number, None, traceback.format_exc()))
