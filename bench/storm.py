"""A storm: all VMs complain within ten minutes, some messages come twice, out of order. Pretend executor.

The budget is never used up, so its window holds as many changes as there are VMs: the question is whether an
event and a remediation still cost the same then.

The pipeline, its ledger in memory and its clock are real or stand-ins for our own ports (tests/fakes.py).
Each run has its own process: ``python -m bench.storm VMS`` prints the result.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

from tests.fakes import FakeFleet, ManualClock, entry, push, world

from bench.figures import Figure, paired, plain
from bench.processes import alone, memory
from logmend.adapters.stores.memory import MemoryStore
from logmend.model.enums import Mode
from logmend.model.values import InstanceRef
from logmend.settings import Budget

BENCH = "storm"
GAINS = "A VM costs the same to remediate, and its lines the same to answer, when 100,000 complain."
FEW, MANY = 1_000, 100_000
TURNS = 5
"""Runs of the small storm before the large one, and as many after it."""
ENTRIES = 3
AGAIN = 0.1
"""Share of the messages that are delivered twice."""
REACH = 600
"""The number of places by which a message may be out of order."""
SPAN = 600.0
"""Seconds of the storm's own time in which every VM complains."""
WINDOW = timedelta(seconds=SPAN)
MOST = 1.05


def measure() -> Iterator[Figure]:
    """Run the large storm between small ones."""
    small = [_run(FEW) for _ in range(TURNS)]
    large = _run(MANY)
    small += [_run(FEW) for _ in range(TURNS)]
    for what in ("event", "remediation"):
        key = f"us_per_{what}"
        few = [each[key] for each in small]
        yield paired(
            BENCH,
            f"CPU per {what}, {MANY:,} VMs, budget not binding",
            f"{FEW:,} VMs, {len(few)} storms",
            [large[key]],
            [median(few)],
            unit="µs",
            most=MOST,
            note=f"small storms {min(few):.0f} to {max(few):.0f} µs",
        )
    right = large["enforced_vms"] == large["vms"] == large["enforcements"]
    yield plain(
        BENCH,
        f"{MANY:,} VMs: enforcements",
        f"{large['enforcements']:,.0f}",
        aim="one per VM",
        met=right,
        note=f"{large['events']:,.0f} events, {large['seconds']:.0f} s; peak {large['peak_mib']:.0f} MiB, "
        f"of which the ledger's documents {large['documents_mib']:.0f} MiB",
        gain="No VM is changed twice, and none is forgotten.",
    )


def _run(size: int) -> dict[str, float]:
    found: dict[str, float] = alone(BENCH, size, timeout=900)
    return found


async def _storm(size: int) -> dict[str, float]:
    clock, chance = ManualClock(), random.Random(1)  # noqa: S311  a storm that can be repeated
    fleet = FakeFleet(clock)
    store = MemoryStore()
    around = world(
        store=store,
        clock=clock,
        fleet=fleet,
        mode=Mode.ENFORCE,
        disruption_budget=Budget(10 * MANY, WINDOW),
    )
    fleet.vms.clear()
    costs: dict[str, list[float]] = {"remediation": [], "other": []}

    def messages() -> Iterator[tuple[InstanceRef, str]]:
        for number in range(size):
            ref = InstanceRef("demo-project", "us-west1-a", str(10**18 + number))
            fleet.add(ref)
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

    async def deliver(ref: InstanceRef, message_id: str) -> None:
        at = clock.now()
        vm, body = fleet.vms[ref.instance_id], push(entry(ref, at=at), message_id, at=at)
        before, begun = vm.enforcements, time.process_time()
        await around.deliver(body)
        spent = time.process_time() - begun
        costs["remediation" if vm.enforcements > before else "other"].append(spent)
        around.outcomes.written.clear()

    step, began = SPAN / (size * ENTRIES * (1 + AGAIN)), time.perf_counter()
    for ref, message_id in shuffled():
        await deliver(ref, message_id)
        clock.tick(seconds=step)
    took = time.perf_counter() - began
    documents = sum(
        sys.getsizeof(row) + sys.getsizeof(row.text) + sys.getsizeof(key) + sys.getsizeof(key[1]) + 160
        for key, row in store._rows.items()  # noqa: SLF001
    )
    events, remediations = sum(map(len, costs.values())), costs["remediation"]
    return {
        "vms": size,
        "events": events,
        "seconds": took,
        "us_per_event": sum(map(sum, costs.values())) / events * 1e6,
        "us_per_remediation": sum(remediations) / len(remediations) * 1e6,
        "enforcements": sum(vm.enforcements for vm in fleet.vms.values()),
        "enforced_vms": sum(vm.changes == 1 and vm.enforcements == 1 for vm in fleet.vms.values()),
        "documents_mib": documents / 2**20,
        "peak_mib": memory("self", "VmHWM"),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_storm(int(sys.argv[1])))))
