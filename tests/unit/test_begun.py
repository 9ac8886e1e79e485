"""An attempt that died once it was committed, and what stands against its intent when it is taken over."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import ANN, REF, World, entry, push, world
from tests.unit.test_group_shares import GROUP, MADE
from tests.unit.test_pipeline import ENFORCE
from tests.unit.test_windows import NIGHT

from logmend.model.state import Breaker, Freeze
from logmend.model.values import Group, InstanceRef, Outcome
from logmend.settings import Budget, Waves


def others(w: World, number: int) -> list[InstanceRef]:
    """Add other VMs with the fault, of the same group."""
    refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + each)) for each in range(number)]
    for ref in refs:
        w.fleet.add(ref, metadata=MADE)
    return refs


async def begun(w: World) -> World:
    """Let an attempt for a log entry, which repeats itself, die once it is committed; the fault stays."""
    w.fleet.add(REF, metadata=MADE)
    w.fleet.groups[GROUP] = None
    vm = w.fleet.vms[REF.instance_id]
    vm.on_enforce = [asyncio.CancelledError()]  # type: ignore[list-item]
    vm.fix_works = False
    with pytest.raises(asyncio.CancelledError):
        await w.deliver(push(entry(), "begun"))
    vm.fix_works = True
    w.clock.tick(minutes=40)
    return w


async def taken_over(w: World) -> Outcome:
    """Give what the tick makes of it."""
    await w.ticker.run()
    return [each for each in w.outcomes.written if each.message_id == "begun"][-1]


def later(w: World, **settings: Any) -> World:
    """Give the function after a deployment with other settings."""
    return world(store=w.store, fleet=w.fleet, clock=w.clock, owner="two", **ENFORCE | settings)


@pytest.mark.parametrize("what", ["frozen", "breaker_open"])
async def test_it_waits_for_what_stops_it_and_is_then_finished(what: str) -> None:
    """Nobody can say that nothing was done, so it is not left to the VM's next line."""
    w = await begun(world(**ENFORCE))
    if what == "frozen":
        await w.controls.freeze(Freeze("sre", w.clock.now()))
    else:
        await w.controls.open_breaker("workload-cert-refresh", Breaker(w.clock.now(), 9, 9))
    said = await taken_over(w)
    assert (said.result, said.reason, said.committed) == ("parked", what, True)
    await w.controls.resume(ANN, runbook="workload-cert-refresh" if what == "breaker_open" else None)
    w.clock.tick(minutes=10)
    assert (await taken_over(w)).result == "remediated"


async def test_it_waits_for_a_window() -> None:
    """One that was closed since: it opens in 34 hours."""
    w = later(await begun(world(**ENFORCE)), windows=NIGHT)
    said = await taken_over(w)
    assert (said.result, said.reason) == ("parked", "outside_window")
    for _ in range(3):
        w.clock.tick(hours=12)
        said = await taken_over(w)
    assert said.result == "remediated"


async def test_it_waits_while_its_vm_is_the_last_healthy_one() -> None:
    """Its place of the first attempt has been given back by then."""
    w = await begun(world(**ENFORCE))
    every = frozenset({REF.instance_id, "1000"})
    w.fleet.groups[GROUP] = Group(2, every, frozenset({REF.instance_id}))
    said = await taken_over(w)
    assert (said.result, said.reason) == ("parked", "last_healthy")
    w.fleet.groups[GROUP] = Group(2, every, every)
    w.clock.tick(minutes=10)
    assert (await taken_over(w)).result == "remediated"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {"disruption_budget": Budget(1, timedelta(minutes=10)), "group_share": 1.0}, id="budget"
        ),
        pytest.param({"disruption_limits": (("zone", 1),), "group_share": 1.0}, id="limit"),
        pytest.param({}, id="group"),
        pytest.param({"waves": Waves.parse("1,50%/1h"), "group_share": 1.0}, id="wave"),
    ],
)
async def test_it_waits_for_a_place(settings: dict[str, Any]) -> None:
    """Another VM took the only one after its own was given back."""
    w = await begun(world(**ENFORCE | settings))
    (other,) = others(w, 1)
    done = await w.deliver(push(entry(other, at=w.clock.now()), "other", at=w.clock.now()))
    assert done.result == "remediated"
    said = await taken_over(w)
    assert (said.result, said.reason) == ("parked", "budget_exhausted")
    w.clock.tick(minutes=15)
    assert (await taken_over(w)).result == "remediated"


async def test_a_guard_that_objects_at_the_last_moment_does_not_say_that_nothing_was_done() -> None:
    """The owner exempts the VM while it is checked: it is changed no more, and a person hears of it."""
    w = await begun(world(**ENFORCE))
    vm = w.fleet.vms[REF.instance_id]

    def exempted() -> None:
        w.fleet.add(REF, metadata=MADE, labels={"logmend": "off"})
        w.fleet.vms[REF.instance_id] = vm

    vm.on_check = [exempted]
    said = await taken_over(w)
    assert (said.result, said.reason, vm.enforcements) == ("unverified", "exempt", 1)
    for _ in range(4):
        w.clock.tick(minutes=6)
        said = await taken_over(w)
    assert (said.result, said.reason, vm.enforcements) == ("failed", "unverifiable", 1)
