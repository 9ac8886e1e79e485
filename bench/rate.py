"""What events that end early cost over a no-op on the same server, and ledgers against bare client calls."""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median

from google.cloud import firestore

from bench import vms
from bench.figures import Figure, paired, plain
from bench.load import load
from bench.processes import (
    Served,
    alone,
    ask,
    free_port,
    noop,
    ours,
    push,
    served,
    workshop,
)
from logmend.adapters.stores.firestore import FirestoreStore
from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ports import Document, Store
from logmend_cli.pretend import emulator

BENCH = "rate"
GAINS = "One instance takes in more VMs' complaints: a storm needs fewer of them, and costs less."
ROUNDS = 4
CONNECTIONS = 16
VMS = 50
COUNTS = {"unmatched": 5000, "sqlite": 1000, "firestore": 200}
MOST = 40.0
"""Microseconds of CPU that an event that concerns no runbook may cost more than a no-op."""


def measure() -> Iterator[Figure]:
    """Measure each in turn with its alternative."""
    with vms.crowd(workshop() / "rate") as crowd:
        folder = workshop() / "rate"
        settings = crowd.settings() | {"mode": "observe"}
        yield from _unmatched(settings | {"state": f"sqlite:{folder / 'ledger'}"})
        yield from _store("sqlite", folder, 3.0)
        if not emulator.installed("cloud-firestore-emulator"):
            yield plain(BENCH, "skipped: firestore: this machine lacks Java or the Cloud SDK's emulator", "")
            return
        with emulator.running(emulator.firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST"):
            yield from _cooling(settings | {"state": "firestore:bench-project"})
            yield from _store("firestore", folder, 1.0)


def _unmatched(settings: dict[str, object]) -> Iterator[Figure]:
    """Measure events that are only counted: there is a ledger, but they do not read it."""
    with served(noop()) as other, served(ours(), **settings) as function:
        _warm(other, function)
        document = vms.line(1, form="done")
        mine, bare = [], []
        for number in range(ROUNDS):
            bodies = [push(document, f"{number}-{each}") for each in range(COUNTS["unmatched"])]
            bare.append(_cpu(other, bodies, "nothing"))
            mine.append(_cpu(function, bodies, "unmatched"))
        yield from _above("an event of no runbook", mine, bare, MOST)


def _cooling(settings: dict[str, object]) -> Iterator[Figure]:
    with served(noop()) as other, served(ours(), **settings) as function:
        _warm(other, function)
        seen = range(vms.OPTED_IN, vms.OPTED_IN + VMS)  # the events are spread over these VMs
        for vm in seen:
            assert ask(function.port, push(vms.line(vm), f"first-{vm}"))[1]["result"] == "refused"
        mine, bare = [], []
        for number in range(ROUNDS):
            count = COUNTS["firestore"]
            bodies = [push(vms.line(seen[each % VMS]), f"{number}-{each}") for each in range(count)]
            bare.append(_cpu(other, bodies, "nothing"))
            mine.append(_cpu(function, bodies, "skipped: cooling_down"))
        yield from _above("an event of a VM that cools down, Firestore ledger", mine, bare, None)


def _above(what: str, mine: list[float], bare: list[float], most: float | None) -> Iterator[Figure]:
    """Yield the CPU in excess of a no-op's, by pairs, and how many events a core takes in a second."""
    above = [a - b for a, b in zip(mine, bare, strict=True)]
    against = f"no-op function on the same server: {median(bare):,.0f} µs"
    yield plain(
        BENCH,
        f"{what}: CPU above a no-op",
        f"{median(above):,.0f} µs",
        against=against,
        aim=f"≤ {most:g} µs" if most else "",
        met=median(above) <= most if most else None,
        note=f"{min(above):,.0f} to {max(above):,.0f}",
    )
    yield plain(
        BENCH,
        f"{what}: a second and core",
        f"{1e6 / median(mine):,.0f}",
        against=f"no-op function on the same server: {1e6 / median(bare):,.0f}",
        note="httptools",
    )


def _store(name: str, folder: Path, least: float) -> Iterator[Figure]:
    """Measure a ledger's transactions alone: each reads three documents and writes one; sixteen at once."""
    mine, bare = [], []
    for number in range(ROUNDS):
        count = COUNTS[name]
        bare.append(_transactions(f"bare {name}", folder, count, f"{number}"))
        mine.append(_transactions(f"our {name}", folder, count, f"{number}"))
    what = "google-cloud-firestore" if name == "firestore" else "sqlite3, one after the other"
    yield paired(
        BENCH,
        f"ledger transactions in the store alone, 16 at once: {name}",
        f"bare {what}: one transaction, three documents read, one written",
        mine,
        bare,
        unit="/s",
        least=least,
    )


def _warm(*functions: Served) -> None:
    for each in functions:
        for number in range(50):
            ask(each.port, push(vms.line(1, form="done"), f"warm-{number}"))


def _cpu(function: Served, bodies: list[bytes], expected: str) -> float:
    """Post the bodies; return the microseconds of CPU that each took."""
    used = function.cpu()
    found = load(function.port, bodies, CONNECTIONS)
    if set(found["said"]) != {f"200 {expected}"}:
        raise AssertionError(f"{found['said']}, not {expected}")
    return (function.cpu() - used) / len(bodies) * 1e6


def _transactions(way: str, folder: Path, count: int, prefix: str) -> float:
    """Run the transactions in their own process; return how many there are in a second."""
    store = folder / f"store-{free_port()}"
    return float(alone(BENCH, way, store, count, prefix, timeout=120, source=workshop() / "functions"))


def _bare_sqlite(path: Path, count: int) -> float:
    """Do the same with sqlite3 alone, as safely (WAL, full synchronisation)."""
    link = sqlite3.connect(path, isolation_level=None)
    link.execute("PRAGMA journal_mode=WAL")
    link.execute("PRAGMA synchronous=FULL")
    link.execute("CREATE TABLE documents (collection, id, data, PRIMARY KEY (collection, id))")
    text = json.dumps({"of": "about the size of a record " * 40})
    started = time.perf_counter()
    for number in range(count):
        link.execute("BEGIN IMMEDIATE")
        for key in (("intents", str(number)), ("subjects", "1"), ("fleet", "1")):
            link.execute("SELECT data FROM documents WHERE collection = ? AND id = ?", key).fetchone()
        link.execute("INSERT INTO documents VALUES (?, ?, ?)", ("intents", str(number), text))
        link.execute("COMMIT")
    return count / (time.perf_counter() - started)


async def _at_once(count: int, one: Callable[[int], Awaitable[None]]) -> float:
    """Run this many, some at a time, after a few to warm up; return how many there are in a second."""
    waiting = iter(range(-16, count))
    started = 0.0

    async def some() -> None:
        nonlocal started
        for number in waiting:
            if number == 0:
                started = time.perf_counter()
            await one(number)

    await asyncio.gather(*(some() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - started)


async def _ours(store: Store, count: int, prefix: str) -> float:
    data = {"of": "about the size of a record " * 40}

    async def one(number: int) -> None:
        mine = ("intents", f"{prefix}-{number}")
        await store.transact(
            [mine, ("subjects", "1"), ("fleet", "1")], lambda _: ({mine: Document(data)}, None)
        )

    rate = await _at_once(count, one)
    await store.aclose()
    return rate


async def _bare_firestore(count: int, prefix: str) -> float:
    client = firestore.AsyncClient("bench-project", database="bare")
    text = json.dumps({"of": "about the size of a record " * 40})

    @firestore.async_transactional
    async def written(transaction: firestore.AsyncTransaction, number: int) -> None:
        mine = client.document(f"intents/{prefix}-{number}")
        others = [client.document("subjects/1"), client.document("fleet/1")]
        async for _ in client.get_all([mine, *others], transaction=transaction):
            pass
        transaction.set(mine, {"data": text})

    async def one(number: int) -> None:
        await written(client.transaction(), number)

    return await _at_once(count, one)


def _alone(way: str, path: Path, count: int, prefix: str) -> float:
    match way:
        case "bare sqlite":
            return _bare_sqlite(path, count)
        case "our sqlite":
            return asyncio.run(_ours(SqliteStore(path), count, prefix))
        case "our firestore":
            return asyncio.run(_ours(FirestoreStore("bench-project", "ours"), count, prefix))
        case _:
            return asyncio.run(_bare_firestore(count, prefix))


if __name__ == "__main__":
    print(_alone(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] + str(os.getpid())))
