"""A storm under every limit at once: VMs in 40 zones and in managed instance groups of 2 to 508 VMs.

Whole groups complain together, and each VM again every ten minutes until it is remediated; two instances work
on sixteen events at once. Limits: budget, zone, group, label, a group's share and its last healthy VM, waves,
a maintenance window, a label's blackout, a freeze. A VM is not healthy for five minutes after it is changed.
The benchmark counts what was done to the VMs, not what the ledger says; a refusal is false if nothing
prevented a change at that moment. The executor is a stand-in and the ledger is in memory. ``python -m
bench.blast VMS`` prints the result; 100,000 VMs are in 900 groups.
"""

import asyncio
import heapq
import json
import random
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count, cycle

from tests.fakes import FakeFleet, FakeSession, ManualClock, World, entry, push, world

from bench.figures import Figure, plain
from bench.processes import alone, memory
from logmend import windows
from logmend.adapters.stores.memory import MemoryStore
from logmend.model.enums import Action, Mode
from logmend.model.state import By, Freeze
from logmend.model.values import Evidence, Group, InstanceFacts, InstanceRef
from logmend.runbook import Runbook, load_all
from logmend.settings import Budget, Waves
from logmend.stages import decide

BENCH = "blast"
GAINS = "No limit is passed, and no group loses its last healthy VM, in the worst storm."
SIZE = 4_000
"""VMs in a full run, which has to stay within its time."""
ZONES, ROLES = 40, 20
SIZES = (2, 3, 5, 20, 50, 100, 200, 508)
"""VMs in a group, in turn: 111 on average."""
WINDOW = 600.0
BUDGET, ZONE, MIG, ROLE, SHARE = 1500, 60, 40, 90, 0.25
"""Most changes in a window: in all, per zone, per group, per role, and as a share of a group."""
WAVES = Waves.parse("1,5%,25%/30m")
OPEN, CLOSED = windows.opening("00:00-23:00 UTC"), windows.spans("label:role=r3 14:00-16:00 UTC")
FROZEN = (3 * 3600.0, 4 * 3600.0)
"""Seconds into the storm at which the fleet is frozen and resumed."""
ARRIVALS = 3.0
"""New VMs that complain in a second: more than the budget allows to change."""
AGAIN, ILL, TICK = 600.0, 300.0, 300.0
AT_ONCE = 16
FORGET = 20_000
"""Drop the ledger's finished messages after this many events: it would keep each for a month."""


class Session(FakeSession):
    """A session that lets other tasks run between the commit and the change."""

    async def enforce(self, mark: str) -> Evidence:
        """Change the VM, a little later."""
        await asyncio.sleep(0)
        return await super().enforce(mark)


class Fleet(FakeFleet):
    """VMs in groups; a VM is not healthy for a while after it was changed."""

    members: dict[str, frozenset[str]]
    ill: dict[str, deque[tuple[float, str]]]

    def well(self, path: str) -> frozenset[str]:
        """Return the healthy VMs of a group."""
        ill, now = self.ill[path], self.clock.now().timestamp()
        while ill and ill[0][0] <= now:
            ill.popleft()
        return self.members[path] - {vm for _, vm in ill}

    async def group(self, path: str, project_id: str) -> Group | None:  # noqa: ARG002
        """Return a group as it is now."""
        return Group(len(self.members[path]), self.members[path], self.well(path))

    @asynccontextmanager
    async def open(
        self,
        facts: InstanceFacts,
        runbook: Runbook,  # noqa: ARG002
        action: Action,
    ) -> AsyncIterator[FakeSession]:
        """Log in to a VM."""
        yield Session(self.vms[facts.ref.instance_id], action, self.clock)


class Spans:
    """Counts the changes within a window, by cohort."""

    def __init__(self) -> None:
        self.times: dict[str, deque[float]] = defaultdict(deque)
        self.most: Counter[str] = Counter()

    def add(self, name: str, at: float) -> None:
        """Note that a VM of this cohort is changed."""
        self.times[name].append(at)
        self.most[name] = max(self.most[name], self.now(name, at))

    def now(self, name: str, at: float) -> int:
        """Return how many changes there were in the window that ends now."""
        times = self.times[name]
        while times and times[0] <= at - WINDOW:
            times.popleft()
        return len(times)


class Storm:
    """The fleet, two instances, and a count of what was really done."""

    def __init__(self) -> None:
        self.clock, self.spans, self.said = ManualClock(), Spans(), Counter[str]()
        self.began = self.clock.now().timestamp()
        self.fleet = Fleet(self.clock)
        self.fleet.members, self.fleet.ill = {}, defaultdict(deque)
        self.store, self.runbook = MemoryStore(), load_all()["workload-cert-refresh"]
        self.instances = [self._instance(owner) for owner in ("one", "two")]
        self.turns = cycle(self.instances)
        self.fleet.vms.clear()
        self.cohorts: dict[str, tuple[str, ...]] = {}
        self.bounds = {"": 1}
        self.flying: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.frozen, self.refused, self.false, self.touched = False, 0, 0, 0

    def _instance(self, owner: str) -> World:
        return world(
            owner=owner,
            store=self.store,
            clock=self.clock,
            fleet=self.fleet,
            mode=Mode.ENFORCE,
            disruption_budget=Budget(BUDGET, timedelta(seconds=WINDOW)),
            disruption_limits=(("zone", ZONE), ("mig", MIG), ("label:role", ROLE)),
            group_share=SHARE,
            waves=WAVES,
            windows=OPEN,
            blackouts=CLOSED,
        )

    def add_group(self, number: int, first: int) -> Iterator[InstanceRef]:
        """Add a group; each zone gets groups of every size."""
        members, zone = SIZES[number % len(SIZES)], f"zone us-west{(number + number // ZONES) % ZONES}-a"
        path = f"projects/1/zones/{zone.split()[1]}/instanceGroupManagers/g{number}"
        vms = [str(10**18 + first + each) for each in range(members)]
        self.fleet.members[path] = frozenset(vms)
        self.bounds |= {zone: ZONE, path: min(MIG, max(1, int(SHARE * members)))}
        for vm in vms:
            ref, role = InstanceRef("demo-project", zone.split()[1], vm), f"r{int(vm) % ROLES}"
            self.fleet.add(ref, metadata={"created-by": path}, labels={"role": role})
            self.cohorts[vm] = ("", zone, path, f"role {role}")
            self.bounds[f"role {role}"] = ROLE
            self.fleet.vms[vm].on_enforce.append(lambda vm=vm: self._enforced(vm))  # type: ignore[misc]
            yield ref

    def _enforced(self, vm: str) -> None:
        at, path = self.clock.now().timestamp(), self.cohorts[vm][2]
        self.touched += 1
        self.wrong["last healthy VM touched"] += not self.fleet.well(path) - {vm}
        self.wrong["out of its window, or frozen"] += self._shut(vm)
        self.fleet.ill[path].append((at + ILL, vm))
        for name in self.cohorts[vm]:
            self.spans.add(name, at)
            self.wrong["limit exceeded"] += self.spans.now(name, at) > self.bounds[name]

    def _shut(self, vm: str) -> bool:
        """Return whether no VM like this one may be changed now, by the clock and not by the settings."""
        hour = self.clock.now().hour
        return self.frozen or hour == 23 or (self.cohorts[vm][3] == "role r3" and 14 <= hour < 16)

    async def control(self) -> None:
        """Freeze, resume, and let a tick's step advance the wave; nothing is in flight meanwhile."""
        now, controls = self.clock.now(), self.instances[0].controls
        frozen = FROZEN[0] <= now.timestamp() - self.began < FROZEN[1]
        if frozen and not self.frozen:
            await controls.freeze(Freeze("ann", now))
        if self.frozen and not frozen:
            await controls.resume(By("ann", now))
        self.frozen = frozen
        await self.instances[0].pipeline.worker.breakers.move_wave(self.runbook, await controls.fleet(), now)
        settings = self.instances[0].settings
        wave = decide.wave(self.runbook, await controls.fleet(), settings, now)
        self.bounds[""] = BUDGET if wave is None else decide.allowed(self.runbook, settings, wave.step)

    async def deliver(self, ref: InstanceRef, name: str) -> bool:
        """Deliver what a VM logs now; return whether it will log it again."""
        vm, instance, now = ref.instance_id, next(self.turns), self.clock.now()
        self.flying.update(self.cohorts[vm])
        outcome = await instance.deliver(push(entry(ref, at=now), name, at=now))
        self.flying.subtract(self.cohorts[vm])
        self.said[f"{outcome.result}: {outcome.reason}"] += 1
        instance.outcomes.written.clear()
        if not self.fleet.vms[vm].faulty:
            return False
        self.refused += 1
        self.false += not self._shut(vm) and not any(self._full(each, vm) for each in self.cohorts[vm])
        return True

    def _full(self, name: str, vm: str) -> bool:
        at = self.clock.now().timestamp()
        out = self.spans.now(name, at) + self.flying[name]
        lone = name == self.cohorts[vm][2] and len(self.fleet.well(name) - {vm}) <= out
        return out >= self.bounds[name] or lone

    def forget(self) -> None:
        """Drop the messages that the ledger has finished; none of them comes again here."""
        rows = self.store._rows  # noqa: SLF001
        self.store._rows = {k: row for k, row in rows.items() if k[0] != "intents" or row.due}  # noqa: SLF001


async def storm(size: int) -> dict[str, float]:
    """Let all VMs complain until all are remediated; return the numbers that :func:`measure` shows."""
    it, chance = Storm(), random.Random(1)  # noqa: S311  a storm that can be repeated
    queue = list[tuple[float, int, InstanceRef]]()
    for number in count():
        if (first := len(queue)) >= size:
            break
        for ref in it.add_group(number, first):
            at = it.began + first / ARRIVALS + 120 * chance.random()
            queue.append((at, int(ref.instance_id), ref))
    heapq.heapify(queue)
    vms, controlled, events, began = len(queue), 0.0, 0, time.perf_counter()
    while queue:
        at = queue[0][0]
        it.clock.tick(seconds=max(0.0, at - it.clock.now().timestamp()))
        if at >= controlled + TICK:
            controlled = at
            await it.control()
        together = [heapq.heappop(queue) for _ in range(AT_ONCE) if queue and queue[0][0] <= at + 1]
        again = await asyncio.gather(*(it.deliver(ref, f"{order}-{at}") for at, order, ref in together))
        for (at, order, ref), ill in zip(together, again, strict=True):
            if ill:
                heapq.heappush(queue, (at + AGAIN, order, ref))
        if events // FORGET < (events := events + len(together)) // FORGET:
            it.forget()
    return {
        "vms": vms,
        "remediated": sum(vm.changes == 1 and not vm.faulty for vm in it.fleet.vms.values()),
        "enforcements": it.touched,
        "events": events,
        "most": it.spans.most[""],
        "most_in_zone": max(most for name, most in it.spans.most.items() if name.startswith("zone")),
        "most_of_role": max(most for name, most in it.spans.most.items() if name.startswith("role")),
        "full_groups": sum(it.spans.most[path] == it.bounds[path] for path in it.fleet.members),
        "refused": it.refused,
        "false": it.false,
        "groups": len(it.fleet.members),
        "hours": (it.clock.now().timestamp() - it.began) / 3600,
        "seconds": time.perf_counter() - began,
        "peak_mib": memory("self", "VmHWM"),
        **{f"wrong: {what}": number for what, number in it.wrong.items()},
        **{f"said {verdict}": number for verdict, number in it.said.items()},
    }


def measure() -> Iterator[Figure]:
    """Run it once, in its own process."""
    one: dict[str, float] = alone(BENCH, SIZE, timeout=1800)
    wrong = sum(number for name, number in one.items() if name.startswith("wrong: "))
    yield plain(
        BENCH,
        f"{SIZE:,} VMs: changes over a limit, out of a window, of a last healthy VM",
        f"{wrong:.0f}",
        aim="0",
        met=not wrong and one["remediated"] == one["vms"] == one["enforcements"],
        note=f"most: {one['most']:.0f} of all, {one['most_in_zone']:.0f} of a zone; {one['seconds']:.0f} s",
    )
    yield plain(
        BENCH,
        "refusals while nothing stood against a change",
        f"{one['false'] / max(1.0, one['refused']):.2%}",
        note=f"{one['refused']:,.0f} refusals, {one['hours']:.1f} h of the storm's own time",
    )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(storm(int(sys.argv[1])))))
