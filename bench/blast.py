"""A storm under every limit at once: VMs in 40 zones and in managed instance groups of 2 to 508 VMs.

Whole groups complain together, and each VM again every ten minutes until it is remediated. A VM is not
healthy for five minutes after it is changed. What is counted is what was done to the VMs, not what the ledger
says; a refusal is false if no limit was reached at that moment. Pretend executor, ledger in memory:
``python -m bench.blast VMS`` prints what came of it; 100,000 VMs are in 900 groups.
"""

import asyncio
import heapq
import json
import random
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from datetime import timedelta

from tests.fakes import FakeFleet, ManualClock, entry, push, world

from bench.figures import Figure, plain
from bench.processes import alone
from logmend.adapters.stores.memory import MemoryStore
from logmend.model.enums import Mode
from logmend.model.values import Group, InstanceRef
from logmend.settings import Budget

BENCH = "blast"
GAINS = "That no limit is passed, and no group loses its last healthy VM, in the worst storm."
SIZE = 10_000
"""VMs of a run of everything, which has to stay within its time."""
ZONES = 40
SIZES = (2, 3, 5, 20, 50, 100, 200, 508)
"""VMs of the groups, in turn: 111 on average."""
WINDOW = 600.0
BUDGET, ZONE, SHARE = 1500, 60, 0.25
"""Most in a window: of all, of a zone, and of a group."""
ARRIVALS = 2.0
"""New VMs that complain in a second."""
AGAIN = 600.0
ILL = 300.0


class Fleet(FakeFleet):
    """VMs in groups, each not healthy for a while after it was changed."""

    members: dict[str, frozenset[str]]
    ill: dict[str, deque[tuple[float, str]]]

    def well(self, path: str) -> frozenset[str]:
        """Give the healthy VMs of a group."""
        ill, now = self.ill[path], self.clock.now().timestamp()
        while ill and ill[0][0] <= now:
            ill.popleft()
        return self.members[path] - {vm for _, vm in ill}

    async def group(self, path: str, project_id: str) -> Group | None:  # noqa: ARG002
        """Give a group as it is now."""
        return Group(len(self.members[path]), self.members[path], self.well(path))


class Spans:
    """Counts what is done within a window, by what VMs have in common."""

    def __init__(self) -> None:
        self.times: dict[str, deque[float]] = defaultdict(deque)
        self.most: Counter[str] = Counter()

    def add(self, name: str, at: float) -> None:
        """Note that a VM of this cohort is changed."""
        self.times[name].append(at)
        self.most[name] = max(self.most[name], self.now(name, at))

    def now(self, name: str, at: float) -> int:
        """Count what was done in the window that ends now."""
        times = self.times[name]
        while times and times[0] <= at - WINDOW:
            times.popleft()
        return len(times)


def measure() -> Iterator[Figure]:
    """Run it once, in a process of its own."""
    one: dict[str, float] = alone(BENCH, SIZE, timeout=1800)
    yield plain(
        BENCH,
        f"{SIZE:,} VMs: limits exceeded at any moment; last healthy VMs touched",
        f"{one['exceeded']:.0f}; {one['last_touched']:.0f}",
        aim="0; 0",
        met=not one["exceeded"] and not one["last_touched"] and one["remediated"] == one["vms"],
        note=f"most: {one['most']:.0f} of all, {one['most_in_zone']:.0f} of a zone; {one['seconds']:.0f} s",
    )
    yield plain(
        BENCH,
        "refusals while no limit was reached",
        f"{one['false'] / max(1.0, one['refused']):.2%}",
        note=f"{one['refused']:,.0f} refusals, {one['hours']:.1f} h of the storm's own time",
    )


async def storm(size: int) -> dict[str, float]:
    """Let all of them complain until all are remediated; the numbers that :func:`measure` tells."""
    clock, chance = ManualClock(), random.Random(1)  # noqa: S311  a storm that can be repeated
    fleet = Fleet(clock)
    fleet.members, fleet.ill = {}, defaultdict(deque)
    around = world(
        store=MemoryStore(),
        clock=clock,
        fleet=fleet,
        mode=Mode.ENFORCE,
        disruption_budget=Budget(BUDGET, timedelta(seconds=WINDOW)),
        disruption_limits=(("zone", ZONE),),
        group_share=SHARE,
    )
    fleet.vms.clear()
    spans, said = Spans(), Counter[str]()
    paths: dict[str, str] = {}
    bounds = {"": BUDGET}
    last_touched = 0

    def cohorts(ref: InstanceRef) -> tuple[str, str, str]:
        return "", ref.zone, paths[ref.instance_id]

    def enforced(ref: InstanceRef) -> None:
        nonlocal last_touched
        at, path = clock.now().timestamp(), paths[ref.instance_id]
        last_touched += not fleet.well(path) - {ref.instance_id}
        fleet.ill[path].append((at + ILL, ref.instance_id))
        for name in cohorts(ref):
            spans.add(name, at)

    queue, number, start = list[tuple[float, int, InstanceRef]](), 0, clock.now().timestamp()
    while number < size:
        members = SIZES[len(fleet.members) % len(SIZES)]
        zone = f"us-west{len(fleet.members) % ZONES}-a"
        path = f"projects/1/zones/{zone}/instanceGroupManagers/g{len(fleet.members)}"
        ids = [str(10**18 + number + each) for each in range(members)]
        fleet.members[path] = frozenset(ids)
        bounds |= {zone: ZONE, path: max(1, int(SHARE * members))}
        for vm in ids:
            ref = InstanceRef("demo-project", zone, vm)
            fleet.add(ref, metadata={"created-by": path})
            paths[vm] = path
            fleet.vms[vm].on_enforce.append(lambda ref=ref: enforced(ref))  # type: ignore[misc]
            queue.append((start + number / ARRIVALS + 120 * chance.random(), int(vm), ref))
        number += members
    heapq.heapify(queue)
    false, refused, began = 0, 0, time.perf_counter()
    while queue:
        at, order, ref = heapq.heappop(queue)
        clock.tick(seconds=max(0.0, at - clock.now().timestamp()))
        outcome = await around.deliver(push(entry(ref, at=clock.now()), f"{order}-{at}", at=clock.now()))
        said[f"{outcome.result}: {outcome.reason}"] += 1
        around.outcomes.written.clear()
        if fleet.vms[ref.instance_id].faulty:
            refused, now = refused + 1, clock.now().timestamp()
            if all(spans.now(name, now) < bounds[name] for name in cohorts(ref)):
                path = paths[ref.instance_id]
                false += len(fleet.well(path) - {ref.instance_id}) > spans.now(path, now)
            heapq.heappush(queue, (at + AGAIN, order, ref))
    return {
        "vms": number,
        "remediated": sum(vm.changes == 1 and not vm.faulty for vm in fleet.vms.values()),
        "exceeded": sum(spans.most[name] > bound for name, bound in bounds.items()),
        "last_touched": last_touched,
        "most": spans.most[""],
        "most_in_zone": max(spans.most[f"us-west{each}-a"] for each in range(ZONES)),
        "full_groups": sum(spans.most[path] == bounds[path] for path in fleet.members),
        "refused": refused,
        "false": false,
        "groups": len(fleet.members),
        "hours": (clock.now().timestamp() - start) / 3600,
        "seconds": time.perf_counter() - began,
        **{f"said {verdict}": count for verdict, count in said.items()},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(storm(int(sys.argv[1])))))
