"""Freezes that end by themselves, and freezes that are lifted by name."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import ANN, REF, START, World, entry, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.adapters.stores.memory import MemoryStore
from logmend.ledger.documents import subject_key
from logmend.model.enums import Action, Result
from logmend.model.state import Freeze, Scope
from logmend.model.values import InstanceRef
from logmend.ports import Document

RUNBOOK = "workload-cert-refresh"
HOURS = timedelta(hours=2)


async def works(w: World, name: str) -> bool:
    """Say whether the next line of the VM gets through to a fix."""
    w.fleet.vms[REF.instance_id].faulty = True
    said = await w.deliver(push(entry(at=w.clock.now()), name, at=w.clock.now()))
    return said.result is Result.REMEDIATED


def brief(by: str = "ann", **more: object) -> Freeze:
    return Freeze(by, START, "change window", until=START + HOURS)


async def test_a_freeze_for_a_time_is_lifted_by_the_tick_and_told() -> None:
    """Who, when and why is in the outcome; another freeze stays."""
    w = world(**ENFORCE)
    await w.controls.freeze(Freeze("bob", START), runbook=RUNBOOK)
    await w.controls.freeze(brief())
    await w.controls.freeze(brief("eve"), runbook=RUNBOOK)
    w.clock.tick(minutes=119)
    await w.ticker.run()
    assert [each.reason for each in w.outcomes.controlled] == ["freeze_set"] * 3
    w.outcomes.controlled.clear()
    w.clock.tick(minutes=2)
    await w.ticker.run()
    told = [(each.reason, each.runbook, each.requested_by) for each in w.outcomes.controlled]
    assert told == [("freeze_over", None, "ann"), ("freeze_over", RUNBOOK, "eve")]
    assert "everything: frozen by ann" in w.outcomes.controlled[0].detail
    assert "change window" in w.outcomes.controlled[0].detail
    assert w.outcomes.controlled[0].at == START + HOURS
    assert not await works(w, "1")
    fleet = await w.controls.fleet()
    assert fleet.frozen is None
    assert [each.by for each in fleet.frozen_runbooks[RUNBOOK].stack] == ["bob"]
    await w.ticker.run()
    assert [each.reason for each in w.outcomes.controlled] == ["freeze_over", "freeze_over"], "told once"


async def test_a_freeze_of_a_vm_ends_as_well() -> None:
    """The tick finds it without a look at every VM."""
    w = world(**ENFORCE)
    await w.controls.freeze_instance(REF, RUNBOOK, brief())
    assert (await w.controls.fleet()).thawing == (Scope(RUNBOOK, REF),)
    assert not await works(w, "1")
    w.clock.tick(minutes=121)
    await w.ticker.run()
    assert w.outcomes.controlled[-1].instance == REF
    assert await works(w, "2")
    assert (await w.controls.fleet()).thawing == ()


async def nothing() -> None:
    """Happen if nothing is to."""


class Between(MemoryStore):
    """A ledger in which something else happens before the n-th access."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.happens = 0, nothing

    async def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            await self.happens()

    async def transact(self, keys: Any, step: Any) -> Any:
        await self._count()
        return await super().transact(keys, step)

    async def get(self, keys: Any) -> Any:
        await self._count()
        return await super().get(keys)


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("freezes", [True, False])
async def test_a_freeze_ends_whatever_a_tick_does_meanwhile(number: int, *, freezes: bool) -> None:
    """A tick thaws while the VM is frozen, or the VM is frozen anew while a tick thaws it."""
    store = Between()
    w = world(store=store, **ENFORCE)
    await w.controls.freeze_instance(REF, RUNBOOK, brief())
    w.clock.tick(minutes=121)
    anew = Freeze("eve", w.clock.now(), until=w.clock.now() + HOURS)

    async def freeze() -> None:
        await w.controls.freeze_instance(REF, RUNBOOK, anew)

    async def thaw() -> None:
        await w.controls.thaw(w.clock.now())

    first, store.happens = (freeze, thaw) if freezes else (thaw, freeze)
    store.left = number
    await first()
    after, store.left = store.left > 0, 0
    if after:
        await store.happens()
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.frozen is not None
    assert "eve" in [each.by for each in subject.frozen.stack]
    w.clock.tick(minutes=121)
    await w.ticker.run()
    assert await works(w, "1")
    told = [(each.reason, each.requested_by) for each in w.outcomes.controlled]
    assert sorted(told) == [(f"freeze_{what}", who) for what in ("over", "set") for who in ("ann", "eve")]
    assert (await w.controls.fleet()).thawing == ()


async def test_a_vm_that_cannot_be_read_keeps_no_other_frozen() -> None:
    """Nor does it end the tick; it stays on the list."""
    w = world(**ENFORCE)
    odd = InstanceRef(REF.project_id, REF.zone, "4711")
    await w.controls.freeze_instance(odd, RUNBOOK, brief())
    await w.controls.freeze_instance(REF, RUNBOOK, brief())
    key = subject_key(odd, RUNBOOK)
    await w.store.transact([key], lambda _: ({key: Document({"fence": "high"})}, None))
    w.clock.tick(minutes=121)
    await w.ticker.run()
    assert await works(w, "1")
    assert (await w.controls.fleet()).thawing == (Scope(RUNBOOK, odd),)


async def test_one_of_several_is_lifted_by_its_name() -> None:
    """Whichever was put there last."""
    w = world(**ENFORCE)
    first, second = Freeze("ann", START), Freeze("bob", START + timedelta(seconds=1))
    for each in (first, second):
        await w.controls.freeze(each)
        await w.controls.freeze_instance(REF, RUNBOOK, each)
    assert first.name != second.name
    lifted = await w.controls.lift(lambda each: each.name == first.name, ANN, [Scope(RUNBOOK, REF)])
    assert [str(scope) for scope, _ in lifted] == ["everything", f"{REF} ({RUNBOOK})"]
    fleet, subject = await w.controls.fleet(), await w.controls.subject(REF, RUNBOOK)
    assert fleet.frozen
    assert subject
    assert subject.frozen
    assert [[each.by for each in top.stack] for top in (fleet.frozen, subject.frozen)] == [["bob"], ["bob"]]


async def test_a_hold_names_the_runbook_and_holds_no_other_off() -> None:
    """What was reverted is not done again; what has nothing to do with it is."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).result is Result.REVERTED
    said = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert said.reason == "reverted"
    assert f"a revert of {RUNBOOK} set a hold on this VM" in said.detail
    other = await w.controls.subject(REF, "ops-agent")
    assert other is None or not other.held
