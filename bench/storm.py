"""A storm: every VM complains six times, some messages come twice, all out of order. Pretend executor.

The pipeline, its ledger in memory and its clock are real or stand-ins of our own ports (tests/fakes.py); each
size runs in a process of its own: ``python -m bench.storm VMS`` prints what came of it.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import timedelta

from tests.fakes import FakeFleet, ManualClock, entry, push, world

from bench.figures import Figure, paired, plain
from bench.processes import alone, memory
from logmend.adapters.stores.memory import MemoryStore
from logmend.model.enums import Mode
from logmend.model.values import InstanceRef
from logmend.settings import Budget

BENCH = "storm"
GAINS = "Whether a VM costs the same when 100,000 complain."
SIZES = (1_000, 10_000, 100_000)
ENTRIES = 6
AGAIN = 0.1
"""Share of the messages that are delivered twice."""
REACH = 600
"""How many places a message may be out of order."""
PER_MINUTE = 120
"""New VMs that complain in a minute of the storm's own time."""
BUDGET = 150
"""Enforcements in a minute that the budget allows."""


def measure() -> Iterator[Figure]:
    """Run each size against the smallest, in turns as far as the time allows."""
    found: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    for size in (1_000, 10_000, 1_000, 10_000, 1_000, 100_000):
        found[size].append(alone(BENCH, size, timeout=900))
    for size in SIZES[1:]:
        large = [each["us_per_event"] for each in found[size]]
        small = [each["us_per_event"] for each in found[1_000]][-len(large) :]
        yield paired(BENCH, f"CPU per event, {size:,} VMs", "1,000 VMs", large, small, unit="µs", most=1.1)
    for size in SIZES:
        one = found[size][-1]
        right = one["enforced_vms"] == one["vms"] == one["enforcements"] and one["most_in_window"] <= BUDGET
        yield plain(
            BENCH,
            f"{size:,} VMs: enforcements, most in any minute",
            f"{one['enforcements']:,.0f}, {one['most_in_window']:.0f}",
            aim=f"one per VM, ≤ {BUDGET} a minute",
            met=right,
            note=f"{one['events']:,.0f} events, {one['seconds']:.0f} s",
        )
        yield plain(
            BENCH,
            f"{size:,} VMs: memory beyond the ledger's documents and the fake VMs, per event",
            f"{one['left_bytes_per_event']:.0f} B",
            note=f"peak {one['peak_mib']:.0f} MiB, of which documents {one['documents_mib']:.0f} MiB",
        )


async def _storm(size: int) -> dict[str, float]:
    clock, chance = ManualClock(), random.Random(1)  # noqa: S311  a storm that can be repeated
    fleet = FakeFleet(clock)
    store = MemoryStore()
    around = world(
        store=store,
        clock=clock,
        fleet=fleet,
        mode=Mode.ENFORCE,
        disruption_budget=Budget(BUDGET, timedelta(minutes=1)),
    )
    fleet.vms.clear()
    enforced: list[float] = []
    said: Counter[str] = Counter()

    def messages() -> Iterator[tuple[InstanceRef, str]]:
        for number in range(size):
            ref = InstanceRef("demo-project", "us-west1-a", str(10**18 + number))
            fleet.add(ref)
            fleet.vms[ref.instance_id].on_enforce.append(lambda: enforced.append(clock.now().timestamp()))
            for each in range(ENTRIES):
                yield ref, f"{number}-{each}"
                if chance.random() < AGAIN:
                    yield ref, f"{number}-{each}"

    def shuffled() -> Iterator[tuple[InstanceRef, str]]:
        kept: deque[tuple[InstanceRef, str]] = deque()
        for each in messages():
            kept.append(each)
            if len(kept) > REACH:
                place = chance.randrange(REACH)
                kept[place], kept[0] = kept[0], kept[place]
                yield kept.popleft()
        rest = list(kept)
        chance.shuffle(rest)
        yield from rest

    step = 60 / (PER_MINUTE * ENTRIES * (1 + AGAIN))
    events, begun = 0, time.process_time()
    began = time.perf_counter()
    before = memory("self")
    for ref, message_id in shuffled():
        body = push(entry(ref, at=clock.now()), message_id, at=clock.now())
        outcome = await around.deliver(body)
        said[f"{outcome.result}: {outcome.reason}"] += 1
        around.outcomes.written.clear()
        events += 1
        clock.tick(seconds=step)
    for ref in [each.ref for each in fleet.vms.values() if each.faulty]:  # it complains again, ten minutes on
        clock.tick(seconds=60 / PER_MINUTE)
        await around.deliver(push(entry(ref, at=clock.now()), f"{ref.instance_id}-last", at=clock.now()))
        events += 1
    spent, took = time.process_time() - begun, time.perf_counter() - began
    in_window, most = deque[float](), 0
    for at in enforced:
        in_window.append(at)
        while in_window[0] <= at - 60:
            in_window.popleft()
        most = max(most, len(in_window))
    gc.collect()
    documents = sum(
        sys.getsizeof(row) + sys.getsizeof(row.text) + sys.getsizeof(key) + sys.getsizeof(key[1]) + 160
        for key, row in store._rows.items()  # noqa: SLF001
    )
    vms = len(fleet.vms) * 3_000
    after = memory("self")
    return {
        "vms": size,
        "events": events,
        "seconds": took,
        "us_per_event": spent / events * 1e6,
        "enforcements": sum(vm.enforcements for vm in fleet.vms.values()),
        "enforced_vms": sum(vm.changes == 1 and vm.enforcements == 1 for vm in fleet.vms.values()),
        "most_in_window": most,
        "documents_mib": documents / 2**20,
        "left_bytes_per_event": max(0.0, (after - before) * 2**20 - documents - vms) / events,
        "peak_mib": memory("self", "VmHWM"),
        **{f"said {verdict}": count for verdict, count in said.items()},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_storm(int(sys.argv[1])))))
