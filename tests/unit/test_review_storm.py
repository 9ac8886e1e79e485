"""Storms on fakes: random events, orders, faults, crashes; afterwards nothing is lost, stuck or told twice.

Seeded and bounded: a failure names its seed. What crashes is taken over by the next process.
"""

import asyncio
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.examples import seeds
from tests.fakes import (
    ANN,
    REF,
    FakeAgentFleet,
    FakeSession,
    ManualClock,
    World,
    entry,
    evidence,
    incident,
    push,
    world,
)
from tests.unit.test_requests import by_agent, fixed

from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action, Finding, Mode, Origin, Result
from logmend.model.state import By, Freeze, State
from logmend.model.struct import replace
from logmend.model.values import Attempt, Evidence, InstanceRef, Intent, Outcome, Source
from logmend.outcome import ack
from logmend.settings import Budget, ExecutorChoice

RUNBOOK = "workload-cert-refresh"
REFS = [InstanceRef(REF.project_id, REF.zone, str(1000 + number)) for number in range(3)]
BUDGET = Budget(2, timedelta(minutes=10))


class Crash(BaseException):
    """The process is gone."""


class Shaky(MemoryStore):
    """A ledger that fails before a transaction, after it, or takes the process with it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.chance = 0.0

    async def transact(self, keys: Any, step: Any) -> Any:
        before, after = self._rng.random(), self._rng.random()
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)  # others get their turn
        if before < self.chance:
            raise self._rng.choice([Transient("ledger_unavailable"), Crash()])
        answered = await super().transact(keys, step)
        if after < self.chance:
            raise self._rng.choice([Transient("ledger_unavailable"), Crash()])
        return answered


class Storm:
    """One fleet, and what a storm does to it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)  # noqa: S311  damage, not secrets
        self.store, self.clock = Shaky(rng), ManualClock()
        self.fleet = FakeAgentFleet(self.clock, ssh_first=rng.random() < 0.5)
        self.settings: dict[str, Any] = {
            "mode": rng.choice([Mode.ENFORCE, Mode.ENFORCE, Mode.APPROVE, Mode.OBSERVE]),
            "executor": ExecutorChoice.AUTO if self.fleet.ssh_first else ExecutorChoice.OSCONFIG,
            "disruption_budget": BUDGET,
            "breaker_minimum": rng.choice([2, 100]),
            "needs_human_after": rng.choice([2, 100]),
        }
        self.ssh_only = rng.random() < 0.5
        self.calm = False
        self.owners = 0
        self.written: list[Outcome] = []
        self.enforced: list[tuple[datetime, str]] = []
        self.unacked: dict[str, Mapping[str, Any]] = {}
        self.acked: dict[str, Mapping[str, Any]] = {}
        self.numbers = 0
        for ref in REFS:
            self.fleet.add(ref, metadata={"enable-osconfig": "TRUE"}, service_account="vm@example.com")
        self.w = self.process()

    def process(self) -> World:
        """Start a process anew on the same ledger."""
        self.owners += 1
        w = world(
            store=self.store, fleet=self.fleet, clock=self.clock, owner=f"p{self.owners}", **self.settings
        )
        w.outcomes.written = self.written
        return w

    def odd(self, chance: float) -> bool:
        return not self.calm and self.rng.random() < chance

    def faults(self) -> None:
        """Bend what the next piece of work sees."""
        rng, fleet = self.rng, self.fleet
        self.store.chance = 0.02 if not self.calm and rng.random() < 0.5 else 0.0
        self.w.outcomes.on_write = [Transient("outcome_log_unavailable")] if self.odd(0.1) else []
        fleet.on_facts = [Transient("compute_unavailable")] if self.odd(0.1) else []
        fleet.on_open = (
            [rng.choice([Transient("unreachable"), Permanent("not_permitted")])] if self.odd(0.2) else []
        )
        fleet.agents.on_withdraw = [Transient("compute_unavailable")] if self.odd(0.1) else []
        fleet.agents.on_ready = [Permanent("assignment_missing")] if self.odd(0.05) else []
        for vm in fleet.vms.values():
            vm.on_check = [self.look() for _ in range(2)] if self.odd(0.2) else []
            broken: list[Any] = [rng.choice([Crash(), Transient("connection_lost"), None])]
            vm.on_enforce = broken if self.odd(0.2) else []
            vm.fix_works = not self.odd(0.1)
            if self.odd(0.1):
                vm.faulty = True

    def look(self) -> Any:
        return self.rng.choice(
            [None, None, evidence(1, instance_id=None), Transient("connection_lost"), Crash()]
        )

    async def doing(self, work: Any) -> Any:
        """Do it; where the process ends with it, another one begins."""
        self.faults()
        try:
            return await work
        except Crash:
            self.w = self.process()
        except (Transient, Permanent):
            pass
        return None

    async def deliver(self, message_id: str, body: Mapping[str, Any]) -> None:
        self.unacked[message_id] = body
        outcome = await self.doing(self.w.deliver(body))
        if outcome is not None and ack.status(outcome.result) == ack.ACKNOWLEDGED:
            self.acked[message_id] = self.unacked.pop(message_id)

    async def order(self, action: Action, ref: InstanceRef) -> None:
        self.numbers += 1
        intent = Intent(
            f"o-{self.numbers}", RUNBOOK, action, ref, Origin.OPERATOR, Source("operator"), self.clock.now(),
            requested_by="sre",
        )  # fmt: skip
        await self.doing(self.w.journal.write(intent, self.clock.now()))

    def agents_work(self) -> None:
        """Let agents do what their label says, and report it."""
        for ref in REFS:
            label, vm = self.fleet.agents.label(ref), self.fleet.vms[ref.instance_id]
            if label is None or self.odd(0.4):
                continue
            action = Action(label)
            faulty = vm.faulty is (action is not Action.REVERT)
            seen = replace(by_agent(101 if faulty else 100), values=_named(ref), at=self.clock.now())
            done = Attempt("osconfig", before=seen)
            if faulty and action is not Action.CHECK:
                vm.faulty = action is Action.REVERT
                after = replace(by_agent(100), values=_named(ref), at=self.clock.now())
                done = replace(fixed(after, ref.instance_id), before=seen)
            self.fleet.agents.says(action, done, ref)

    async def step(self) -> None:
        rng, ref = self.rng, self.rng.choice(REFS)
        self.numbers += 1
        name, now = str(self.numbers), self.clock.now()
        match rng.randrange(16):
            case 0 | 1 | 2:
                await self.deliver(name, push(entry(ref, at=now), name, at=now))
            case 3 | 4:
                told = incident(ref, incident_id=f"i{name}", started_at=int(now.timestamp()))
                await self.deliver(name, push(told, name, at=now))
            case 5:
                for each, body in list(self.unacked.items()):
                    await self.deliver(each, body)
            case 6 if self.acked:
                await self.doing(self.w.deliver(rng.choice(list(self.acked.values()))))
            case 7:
                await self.order(Action.ENFORCE, ref)
            case 8 if rng.random() < 0.3:
                await self.order(Action.REVERT, ref)
            case 9 if rng.random() < 0.3:
                await self.doing(self.w.controls.freeze(Freeze("sre", now)))
            case 10:
                await self.doing(self.w.controls.resume(ANN))
                await self.doing(self.w.controls.resume_instance(ref, RUNBOOK, ANN))
            case 11:
                await self.approve()
            case 12:
                self.agents_work()
            case 13 | 14:
                await self.at_once(name, ref)
            case _:
                await self.doing(self.w.ticker.run())
        self.clock.tick(minutes=rng.choice([0, 1, 3, 6, 12]))

    async def at_once(self, name: str, ref: InstanceRef) -> None:
        """Let two instances work at the same time: ticks, a burst from one VM, what is delivered again."""
        now, other = self.clock.now(), self.process()
        again = [self.deliver(*each) for each in list(self.unacked.items())[:3]]
        burst = [
            self.deliver(f"{name}-{n}", push(entry(ref, at=now), f"{name}-{n}", at=now)) for n in range(3)
        ]
        told = push(
            incident(ref, incident_id=f"i{name}", started_at=int(now.timestamp())), f"{name}-i", at=now
        )
        ticks = [self.doing(self.w.ticker.run()), self.doing(other.ticker.run())]
        await asyncio.gather(*again, *burst, self.deliver(f"{name}-i", told), *ticks)

    async def approve(self) -> None:
        plans = [each.approval_id async for each in self.w.controls.approvals() if each.state == "pending"]
        if plans:
            await self.doing(self.w.controls.approve(self.rng.choice(plans), By("ann", self.clock.now())))

    async def open(self) -> dict[str, State]:
        """Give the intents that have not come to their end."""
        every = [each async for each in self.w.ticker.queues.records()]
        return {each.intent.intent_id: each.state for each in every if each.state is not State.DONE}

    async def settle(self) -> None:
        """Let the storm pass: no faults, everything released, time to finish."""
        self.calm = True
        for number in range(300):
            if not self.unacked and not await self.open():
                break
            for ref in REFS:
                await self.doing(self.w.controls.resume_instance(ref, RUNBOOK, ANN))
            await self.doing(self.w.controls.resume(ANN))
            await self.doing(self.w.controls.resume(ANN, runbook=RUNBOOK))
            for each, body in list(self.unacked.items()):
                await self.deliver(each, body)
            self.agents_work()
            await self.doing(self.w.ticker.run())
            self.clock.tick(minutes=11 if number < 40 else 300)


def _named(ref: InstanceRef) -> dict[str, str]:
    return {"instance_id": ref.instance_id, "seen_by": "osconfig_agent"}


def watch(storm: Storm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look on whenever something is enforced over SSH: allowed, and within the budget."""
    real = FakeSession.enforce

    async def enforce(self: FakeSession, mark: str) -> Evidence:
        fleet = await storm.w.controls.fleet()
        assert fleet.frozen is None, "enforced in a freeze"
        assert storm.settings["mode"] is not Mode.OBSERVE, "enforced while observing"
        storm.enforced.append((storm.clock.now(), self.vm.ref.instance_id))
        recent = {vm for at, vm in storm.enforced if at > storm.clock.now() - BUDGET.window}
        assert len(recent) <= BUDGET.count, f"more than the budget: {recent}"
        return await real(self, mark)

    monkeypatch.setattr(FakeSession, "enforce", enforce)


@pytest.mark.parametrize("seed", seeds(12))
async def test_after_a_storm_every_event_has_its_one_outcome(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged is finished, finished is logged, fixed is proved; no lease, request or label is left."""
    storm = Storm(seed)
    if storm.ssh_only:
        monkeypatch.setattr(FakeAgentFleet, "__call__", lambda self, *_: [self])
    watch(storm, monkeypatch)
    for _ in range(120):
        await storm.step()
    await storm.settle()
    assert storm.unacked == {}
    finals: dict[str, set[str]] = {}
    for outcome in storm.written:
        if outcome.final and outcome.intent_id is not None:
            finals.setdefault(outcome.intent_id, set()).add(outcome.outcome_id)
        if outcome.result in (Result.REMEDIATED, Result.REVERTED):
            assert outcome.before is not None
            assert outcome.after is not None
            assert (outcome.before.finding, outcome.after.finding) == (Finding.FAULTY, Finding.DESIRED)
    assert await storm.open() == {}
    async for each in storm.w.ticker.queues.records():
        assert each.outcome is not None
        assert finals.get(each.intent.intent_id) == {each.outcome.outcome_id}, each.intent.intent_id
    async for subject in storm.w.ticker.queues.subjects():
        assert (subject.lease, subject.open_request) == (None, None)
    assert [storm.fleet.agents.label(ref) for ref in REFS] == [None] * len(REFS)
