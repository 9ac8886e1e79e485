"""Requests per second of events that end early, by ledger, against a no-op and against bare client calls."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.cloud import firestore

from bench import vms
from bench.figures import Figure, paired, plain
from bench.load import load
from bench.processes import (
    ROOT,
    Served,
    ask,
    beside,
    free_port,
    noop,
    ours,
    push,
    served,
    workshop,
)
from logmend_cli.pretend import emulator
from logmend_cli.pretend.entries import incident

BENCH = "rate"
ROUNDS = 4
CONNECTIONS = 16
VMS = 50
COUNTS = {"memory": 2000, "sqlite": 1000, "firestore": 200}


def measure() -> Iterator[Figure]:
    """Measure each ledger in turn; each round runs ours and the alternative one after the other."""
    with vms.crowd(workshop() / "rate") as crowd:
        folder = workshop() / "rate"
        settings = crowd.settings() | {"mode": "observe"}
        states = {"memory": "memory:", "sqlite": f"sqlite:{folder / 'ledger'}"}
        yield from _unmatched(settings)
        for name, state in states.items():
            yield from _ledger(name, settings | {"state": state}, folder)
        if not emulator.installed("cloud-firestore-emulator"):
            yield plain(BENCH, "skipped: firestore: this machine lacks Java or the Cloud SDK's emulator", "")
            return
        with emulator.running(emulator.firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST"):
            yield from _ledger("firestore", settings | {"state": "firestore:bench-project"}, folder)


def _unmatched(settings: dict[str, object]) -> Iterator[Figure]:
    unmatched = vms.line(1, form="done")
    with served(noop()) as other, served(ours(), **settings) as function:
        _warm(other, function)
        mine, theirs = [], []
        for number in range(ROUNDS):
            bodies = [push(unmatched, f"{number}-{each}") for each in range(COUNTS["memory"])]
            theirs.append(_rate(other, bodies, "nothing"))
            mine.append(_rate(function, bodies, "unmatched"))
        yield paired(BENCH, "unmatched events", "no-op function", mine, theirs, unit="/s", least=0.7)


def _ledger(name: str, settings: dict[str, object], folder: Path) -> Iterator[Figure]:
    with served(noop()) as other, served(ours(), **settings) as function:
        _warm(other, function)
        seen = range(vms.OPTED_IN, vms.OPTED_IN + VMS)  # over so many VMs the events are spread
        for vm in seen:
            assert ask(function.port, push(_incident(vm), f"first-{vm}"))[1]["result"] == "refused"
        for kind, document, said in (
            ("duplicate", _incident, "skipped: duplicate"),
            ("cooling-down", vms.line, "skipped: cooling_down"),
        ):
            mine, plainly, bare = [], [], []
            for number in range(ROUNDS):
                count = COUNTS[name]
                bodies = [
                    push(document(seen[each % VMS]), f"{kind}-{number}-{each}") for each in range(count)
                ]
                plainly.append(_rate(other, bodies, "nothing"))
                mine.append(_rate(function, bodies, said))
                if name != "memory":
                    bare.append(_bare(name, folder, count, f"{kind}-{number}"))
            yield paired(BENCH, f"{kind} events, {name} ledger", "no-op function", mine, plainly, unit="/s")
            if bare:
                what = "bare google-cloud-firestore" if name == "firestore" else "bare sqlite3"
                yield paired(
                    BENCH,
                    f"{kind} events, {name} ledger",
                    f"{what}: one transaction, three documents read, one written, same concurrency",
                    mine,
                    bare,
                    unit="/s",
                )


def _incident(vm: int) -> dict[str, Any]:
    return incident((vms.PROJECT, vms.ZONE, str(vms.FIRST + vm)), f"inc-{vm}")


def _warm(*functions: Served) -> None:
    for each in functions:
        for number in range(50):
            ask(each.port, push(vms.line(1, form="done"), f"warm-{number}"))


def _rate(function: Served, bodies: list[bytes], expected: str) -> float:
    found = load(function.port, bodies, CONNECTIONS)
    if set(found["said"]) != {f"200 {expected}"}:
        raise AssertionError(f"{found['said']}, not {expected}")
    return float(len(bodies) / found["seconds"])


def _bare(name: str, folder: Path, count: int, prefix: str) -> float:
    """Run the alternative in a process of its own; give transactions per second."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.rate", name, str(folder / f"bare-{free_port()}"), str(count), prefix],
        cwd=ROOT,
        env=beside(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return float(json.loads(done.stdout))


def _bare_sqlite(path: Path, count: int) -> float:
    """Do it with sqlite3 alone, as safely (WAL, full synchronisation)."""
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


async def _bare_firestore(count: int, prefix: str) -> float:
    client = firestore.AsyncClient("bench-project", database="bare")
    text = json.dumps({"of": "about the size of a record " * 40})

    @firestore.async_transactional
    async def one(transaction: firestore.AsyncTransaction, number: int) -> None:
        mine = client.document(f"intents/{prefix}-{number}")
        others = [client.document("subjects/1"), client.document("fleet/1")]
        async for _ in client.get_all([mine, *others], transaction=transaction):
            pass
        transaction.set(mine, {"data": text})

    waiting = iter(range(-16, count))
    started = 0.0

    async def some() -> None:
        nonlocal started
        for number in waiting:
            if number == 0:
                started = time.perf_counter()
            await one(client.transaction(), number)

    await asyncio.gather(*(some() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    where, total = Path(sys.argv[2]), int(sys.argv[3])
    print(
        _bare_sqlite(where, total)
        if sys.argv[1] == "sqlite"
        else asyncio.run(_bare_firestore(total, sys.argv[4] + str(os.getpid())))
    )
