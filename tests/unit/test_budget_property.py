"""The budget's promise, on a simulated clock: whatever happens when, no span of the window sees too many.

Processes, VMs and agents are coroutines of one loop; time passes only when none of them has anything to do.
What is checked is the truth on the VMs (from when to when something was enforced), not the ledger's view.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.fakes import (
    REF,
    START,
    FakeAgentFleet,
    FakeSession,
    KeptOutcomes,
    ManualClock,
    World,
    entry,
    evidence,
    push,
    world,
)

from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Transient
from logmend.model.enums import Action, Mode
from logmend.model.values import Attempt, Evidence, InstanceFacts, InstanceRef
from logmend.runbook import Runbook
from logmend.settings import Budget, ExecutorChoice

RUNBOOK = "workload-cert-refresh"
WINDOW = timedelta(minutes=10)
LONGEST = 240.0
"""Seconds that a script takes at most: the timeouts in ``enforce.sh`` add up to less."""
REQUEST_DEADLINE = timedelta(minutes=40)


class SimClock(ManualClock):
    """Time that passes when everybody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        until = self.now() + timedelta(seconds=seconds)
        heapq.heappush(self._waiting, (until, next(self._numbers), future))
        await future

    async def run(self, until: datetime) -> None:
        while self.now() < until:
            await asyncio.sleep(0)
            while _busy():  # noqa: ASYNC110  somebody has something to do
                await asyncio.sleep(0)
            if not self._waiting or self._waiting[0][0] > until:
                self._now = until
                return
            at, _, future = heapq.heappop(self._waiting)
            self._now = max(self._now, at)
            if not future.done():
                future.set_result(None)


def _busy() -> bool:
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    return bool(ready)


@dataclass
class Span:
    """When something was at work on a VM."""

    vm: str
    start: datetime
    end: datetime


class SimFleet(FakeAgentFleet):
    """VMs that take their time, and agents that look when they like, or never."""

    def __init__(self, clock: SimClock, rng: Random) -> None:
        super().__init__(clock)
        self.time, self.rng = clock, rng
        self.spans: list[Span] = []
        self.silent = 0.0

    @asynccontextmanager
    async def open(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> AsyncIterator[Any]:
        if self.rng.random() < 0.1:
            raise Transient("unreachable")
        yield SimSession(self.vms[facts.ref.instance_id], action, self.clock, fleet=self)

    async def at_work(self, ref: InstanceRef, seconds: float) -> None:
        """Enforce on the VM, whatever becomes of whoever asked for it."""
        start = self.clock.now()
        self.spans.append(Span(ref.instance_id, start, start + timedelta(seconds=seconds)))
        await self.time.sleep(seconds)
        self.vms[ref.instance_id].faulty = False

    async def agent(self, ref: InstanceRef) -> None:  # type: ignore[override]
        """Look at the label now and then; do what it says, and report it."""
        if self.rng.random() < self.silent:
            return
        while True:
            await self.time.sleep(self.rng.choice([5, 60, 600, 3000]) * self.rng.random())
            if self.agents.label(ref) is None:
                continue
            action, vm = Action(self.agents.label(ref) or "check"), self.vms[ref.instance_id]
            seen = evidence(
                101 if vm.faulty else 100, self.clock.now(), ref.instance_id, seen_by="osconfig_agent"
            )
            done = Attempt("osconfig", before=seen)
            await self.time.sleep(30 * self.rng.random())  # it has read its label, and goes on
            if vm.faulty and action is Action.ENFORCE:
                await self.at_work(ref, LONGEST * self.rng.random())
                said = evidence(100, self.clock.now(), ref.instance_id, changed="yes")
                after = evidence(100, self.clock.now(), ref.instance_id, seen_by="osconfig_agent")
                done = Attempt("osconfig", before=seen, enforced=True, enforcement=said, after=after)
            if self.rng.random() < 0.8:
                self.agents.says(action, done, ref)


@dataclass
class SimSession(FakeSession):
    fleet: SimFleet = field(kw_only=False, default=None)  # type: ignore[assignment]

    async def check(self) -> Evidence:
        await self.fleet.time.sleep(2 * self.fleet.rng.random())
        return await super().check()

    async def enforce(self, mark: str) -> Evidence:
        """Let the script begin up to 85 s after the commit; it may outlive its connection."""
        rng, ref = self.fleet.rng, self.vm.ref
        await self.fleet.time.sleep(85 * rng.random() ** 3)
        task = asyncio.ensure_future(self.fleet.at_work(ref, LONGEST * rng.random() ** 2))
        patience = asyncio.ensure_future(self.fleet.time.sleep(90 * rng.random()))
        await asyncio.wait([task, patience], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Transient("connection_lost")
        return evidence(100, self.clock.now(), None)


class Simulation:
    """Two processes over one ledger, some of which are killed."""

    def __init__(
        self,
        rng: Random,
        executor: ExecutorChoice,
        count: int,
        limits: tuple[tuple[str, int], ...] = (),
        share: float = 1.0,
    ) -> None:
        self.rng, self.clock, self.store = rng, SimClock(), MemoryStore()
        self.fleet = SimFleet(self.clock, rng)
        self.executor, self.count, self.limits, self.share = executor, count, limits, share
        self.refs = [
            InstanceRef(REF.project_id, f"us-west1-{'abc'[n % 3]}", str(1000 + n))
            for n in range(3 * count + 3)
        ]
        self.tasks: list[list[asyncio.Task[Any]]] = [[], []]
        self.free: list[asyncio.Task[Any]] = []
        self.starts = 0
        for ref in self.refs:
            metadata = {"enable-osconfig": "TRUE"} | ({"created-by": group(ref)} if group(ref) else {})
            self.fleet.add(ref, metadata=metadata, service_account="vm@example.com")
        self.worlds = [self.process(), self.process()]

    def process(self) -> World:
        self.starts += 1
        w = world(
            store=self.store, fleet=self.fleet, clock=self.clock, owner=f"p{self.starts}", mode=Mode.ENFORCE,
            executor=self.executor, disruption_budget=Budget(self.count, WINDOW), breaker_minimum=10_000,
            disruption_limits=self.limits, group_share=self.share,
            request_deadline=REQUEST_DEADLINE, unreachable_tries=100,
        )  # fmt: skip
        w.outcomes.written = KeptOutcomes().written
        return replace_executors(w, self.fleet, self.executor)

    def start(self, which: int, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks[which].append(asyncio.ensure_future(_quiet(work)))

    async def complain(self, ref: InstanceRef) -> None:
        """Say that the fault is there, again and again."""
        while True:
            await self.clock.sleep(900 * self.rng.random())
            if self.fleet.vms[ref.instance_id].faulty:
                which, name = self.rng.randrange(2), f"{ref.instance_id}-{self.clock.now().timestamp()}"
                body = push(entry(ref, at=self.clock.now()), name, at=self.clock.now())
                self.start(which, self.worlds[which].deliver(body))

    async def tick(self) -> None:
        while True:
            await self.clock.sleep(300)
            which = self.rng.randrange(2)
            self.start(which, self.worlds[which].ticker.run())

    async def kill(self) -> None:
        """Kill a process now and then, and start it anew."""
        while True:
            await self.clock.sleep(1500 * self.rng.random())
            which = self.rng.randrange(2)
            for task in self.tasks[which]:
                task.cancel()
            self.tasks[which] = []
            self.worlds[which] = self.process()

    async def run(self, hours: float) -> None:
        """Let it all happen."""
        works = [self.complain(ref) for ref in self.refs] + [self.tick(), self.kill()]
        if self.executor is ExecutorChoice.OSCONFIG:
            works += [self.fleet.agent(ref) for ref in self.refs]
        self.free = [asyncio.ensure_future(_quiet(each)) for each in works]
        try:
            await self.clock.run(START + timedelta(hours=hours))
        finally:
            for task in [*self.free, *self.tasks[0], *self.tasks[1]]:
                task.cancel()
            await asyncio.gather(*self.free, *self.tasks[0], *self.tasks[1], return_exceptions=True)

    def most_in_a_window(self, common: Callable[[InstanceRef], object] = lambda _: None) -> int:
        """Count the VMs of the worst span of the window: it begins at some end.

        ``common`` says what VMs have in common; only those that share it are counted together.
        """
        shared = {ref.instance_id: common(ref) for ref in self.refs}
        return max((self._most(vms) for vms in _groups(shared)), default=0)

    def _most(self, vms: set[str]) -> int:
        spans = [each for each in self.fleet.spans if each.vm in vms]
        return max(
            (
                len({s.vm for s in spans if s.end >= first.end and s.start < first.end + WINDOW})
                for first in spans
            ),
            default=0,
        )


def group(ref: InstanceRef) -> str | None:
    """Name the managed instance group of a VM: every fourth is in none, the others are in one of two."""
    number = int(ref.instance_id) % 4
    path = f"projects/123/zones/us-west1-a/instanceGroupManagers/web-{number % 2}"
    return path if number else None


def _groups(shared: dict[str, object]) -> list[set[str]]:
    return [{vm for vm, what in shared.items() if what == each} for each in set(shared.values())]


def replace_executors(w: World, fleet: SimFleet, executor: ExecutorChoice) -> World:
    """Let the pipeline see ssh alone, or agents alone."""
    w.pipeline = replace_pipeline(w, Ways(fleet, executor))
    w.ticker = type(w.ticker)(w.pipeline, w.ticker.queues)
    return w


def replace_pipeline(w: World, ways: "Ways") -> Any:
    from logmend.model.struct import replace

    return replace(w.pipeline, worker=replace(w.pipeline.worker, executors=ways))


@dataclass
class Ways:
    """One way to VMs."""

    fleet: SimFleet
    executor: ExecutorChoice

    def __call__(self, facts: InstanceFacts, runbook: str) -> list[Any]:
        return [self.fleet.agents if self.executor is ExecutorChoice.OSCONFIG else self.fleet]

    def agent(self, name: str | None) -> Any:
        return self.fleet.agents if name == "osconfig" else None

    async def aclose(self) -> None:
        return


async def _quiet(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  a process that fails delivers again
        return


@pytest.mark.parametrize("executor", [ExecutorChoice.SSH, ExecutorChoice.OSCONFIG])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 5), silent=st.sampled_from([0.0, 0.3, 0.8]))
@examples(10)
def test_no_span_of_the_window_sees_more_vms_enforced_than_the_budget(
    executor: ExecutorChoice, seed: int, count: int, silent: float
) -> None:
    """Slow scripts, lost connections, killed processes, agents that come late: the VMs' own times count."""

    async def run() -> Simulation:
        simulation = Simulation(Random(seed), executor, count)  # noqa: S311  damage, not secrets
        simulation.fleet.silent = silent
        await simulation.run(4)
        return simulation

    simulation = asyncio.run(run())
    assert simulation.most_in_a_window() <= count


@pytest.mark.parametrize("executor", [ExecutorChoice.SSH, ExecutorChoice.OSCONFIG])
@given(seed=st.integers(0, 2**32), zone=st.integers(1, 3), mig=st.integers(1, 2))
@examples(10)
def test_no_span_of_the_window_sees_more_vms_of_a_zone_or_group_enforced_than_their_limits(
    executor: ExecutorChoice, seed: int, zone: int, mig: int
) -> None:
    """The budget of all is not what binds here; a VM outside of any group is bound by its zone alone."""

    async def run() -> Simulation:
        limits = (("zone", zone), ("mig", mig))
        simulation = Simulation(Random(seed), executor, 5, limits)  # noqa: S311  damage, not secrets
        await simulation.run(4)
        return simulation

    simulation = asyncio.run(run())
    assert simulation.most_in_a_window(lambda ref: ref.zone) <= zone
    assert simulation.most_in_a_window(lambda ref: group(ref) or ref) <= mig
    assert simulation.fleet.spans


@pytest.mark.parametrize("executor", [ExecutorChoice.SSH, ExecutorChoice.OSCONFIG])
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.2, 0.25, 0.45]))
@examples(10)
def test_no_span_of_the_window_sees_more_than_a_share_of_a_group_enforced(
    executor: ExecutorChoice, seed: int, share: float
) -> None:
    """With killed processes and late agents as above; the budget of all is not what binds here."""

    async def run() -> Simulation:
        simulation = Simulation(Random(seed), executor, 5, share=share)  # noqa: S311  damage, not secrets
        await simulation.run(4)
        return simulation

    simulation = asyncio.run(run())
    sizes = [len(vms) for name, vms in _members(simulation.refs).items() if name]
    assert simulation.most_in_a_window(lambda ref: group(ref) or ref) <= max(1, int(share * max(sizes)))
    assert simulation.fleet.spans


def _members(refs: list[InstanceRef]) -> dict[str | None, list[InstanceRef]]:
    return {name: [ref for ref in refs if group(ref) == name] for name in map(group, refs)}
