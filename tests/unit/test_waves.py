"""Waves: a budget opens step by step, each after what the one before changed has stood for a while."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import ANN, REF, World, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend import catalog
from logmend.errors import ConfigError
from logmend.ledger.conclusion import SAMPLES
from logmend.ledger.documents import FLEET, SHARDS, fleet_of
from logmend.model.state import Act, Wave
from logmend.model.struct import replace
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key
from logmend.settings import MOST_IN_SOAK, Budget, Settings, Waves
from logmend.wiring import application

RUNBOOK = "workload-cert-refresh"
BUDGET = Budget(40, timedelta(minutes=10))


def fleet(size: int, waves: str = "1,10%,50%/1h", **more: Any) -> tuple[World, list[InstanceRef]]:
    """Give a world with so many faulty VMs whose budget opens in waves."""
    w = world(**ENFORCE, disruption_budget=BUDGET, waves=Waves.parse(waves), **more)
    refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + number)) for number in range(size)]
    for ref in refs:
        w.fleet.add(ref)
    return w, refs


async def storm(w: World, refs: list[InstanceRef]) -> None:
    """Let all complain at once, by alerts, which do not repeat."""
    await asyncio.gather(
        *(w.deliver(push(incident(ref, incident_id=ref.instance_id), ref.instance_id)) for ref in refs)
    )


def enforced(w: World) -> int:
    return sum(vm.enforcements for vm in w.fleet.vms.values())


async def step(w: World) -> int | None:
    wave = (await w.controls.fleet()).waves.get(RUNBOOK)
    return wave.step if wave else None


async def begun(w: World) -> list[str]:
    return [
        each.detail
        for each in w.outcomes.controlled
        if (each.reason, each.runbook) == ("wave_begun", RUNBOOK)
    ]


async def test_the_budget_opens_step_by_step_until_all_of_it_is_open() -> None:
    """1 in a window, then 4, then 20, then 40; and each wave is told once."""
    w, refs = fleet(80, "1,10%,50%/12m")
    await w.tick(seconds=1)
    await storm(w, refs)
    assert enforced(w) == 1
    most = {0: 1, 1: 4, 2: 20, 3: 40}
    changed, seen = [enforced(w)], {0}
    while enforced(w) < len(refs):
        await w.tick(minutes=2)
        changed.append(enforced(w))
        at = await step(w)
        assert at is not None
        seen.add(at)
        assert changed[-1] - changed[max(0, len(changed) - 6)] <= most[at], "in any window"
    assert seen == {0, 1, 2, 3}
    assert await begun(w) == [
        "wave 1 of 3: at most 1 VMs in a window of the budget",
        "wave 2 of 3: at most 4 VMs in a window of the budget",
        "wave 3 of 3: at most 20 VMs in a window of the budget",
        "the changes of all waves have lasted; the whole budget is open",
    ]


async def test_a_wave_begins_when_the_one_before_has_stood() -> None:
    """Not a tick sooner; a VM on which something was changed anew has not stood."""
    w, refs = fleet(1)
    await w.tick(seconds=1)
    await storm(w, refs)
    await w.tick(minutes=59)
    assert await step(w) == 0
    w.fleet.vms[refs[0].instance_id].faulty = True
    again = await w.pipeline.work(replace(operator(intent_id="o-again"), instance=refs[0]))
    assert again.result == "remediated"
    await w.tick(minutes=2)
    assert await step(w) == 0
    await w.tick(minutes=60)
    assert await step(w) == 1


async def test_a_wave_that_fails_is_paused_and_goes_on_where_it_was() -> None:
    """Of a wave of one, one failure is enough; resuming forgets it."""
    w, refs = fleet(30)
    await w.tick(seconds=1)
    w.fleet.vms[refs[0].instance_id].fix_works = False
    await w.deliver(push(incident(refs[0])))
    await w.tick()
    assert RUNBOOK in (await w.controls.fleet()).breakers
    assert "breaker_opened" in [each.reason for each in w.outcomes.controlled]
    await storm(w, refs[1:])
    assert enforced(w) == 1
    await w.controls.resume(ANN, runbook=RUNBOOK)
    await w.tick(minutes=15)
    assert (enforced(w), await step(w)) == (2, 0)


async def test_a_wave_that_is_held_stays_and_goes_on_when_it_is_released() -> None:
    """What it allows goes on meanwhile. Who holds it and lets it go is on record."""
    w, refs = fleet(20)
    await w.tick(seconds=1)
    await storm(w, refs)
    assert await w.controls.hold_wave(RUNBOOK, ANN, hold=True)
    assert not await w.controls.hold_wave(RUNBOOK, ANN, hold=True)
    for _ in range(8):
        await w.tick(minutes=11)
    assert await step(w) == 0
    assert enforced(w) == 9
    assert await w.controls.hold_wave(RUNBOOK, ANN, hold=False)
    await w.tick()
    assert await step(w) == 1
    told = [(each.reason, each.requested_by) for each in w.outcomes.controlled]
    assert ("wave_held", "ann") in told
    assert ("wave_released", "ann") in told


async def test_a_wave_that_moves_while_a_person_holds_it_is_held_all_the_same() -> None:
    """The tick moves it on while the command is at work: nobody is told of a hold that is none."""
    w, _ = fleet(1)
    await w.tick(seconds=1)
    read = w.store.get

    async def moved_meanwhile(keys: Sequence[Key]) -> Mapping[Key, Document]:
        found = await read(keys)
        known = fleet_of(await read([FLEET])).waves[RUNBOOK]
        if known.held is None:
            await w.controls.set_wave(RUNBOOK, known, replace(known, step=1), Act("wave_begun", ANN.at))
        return found

    w.store.get = moved_meanwhile  # type: ignore[method-assign]
    assert await w.controls.hold_wave(RUNBOOK, ANN, hold=True)
    held = (await w.controls.fleet()).waves[RUNBOOK]
    assert held.held is not None
    assert not await w.controls.hold_wave(RUNBOOK, ANN, hold=True)


async def test_another_digest_begins_with_the_first_wave() -> None:
    """What is known of the old text says nothing of the new one."""
    w, refs = fleet(5)

    def later(wave: Wave) -> Wave:
        return replace(wave, digest="sha256:old", step=3)

    await w.tick(seconds=1)
    known = (await w.controls.fleet()).waves[RUNBOOK]
    await w.controls.set_wave(RUNBOOK, known, later(known), Act("wave_begun", ANN.at))
    await storm(w, refs)
    assert enforced(w) == 1
    await w.tick()
    assert await step(w) == 0


async def test_what_a_person_orders_is_not_held_by_a_wave() -> None:
    """They know what they do; the budget holds."""
    w, refs = fleet(6)
    await storm(w, refs[:2])
    for ref in refs[2:]:
        order = replace(operator(intent_id=f"o-{ref.instance_id}"), instance=ref)
        assert (await w.pipeline.work(order)).result == "remediated"
    assert enforced(w) == 5


async def test_a_vm_that_a_full_wave_holds_back_costs_no_login() -> None:
    """At 8,000 VMs a wave of one would be 7,999 checks in vain, each ten minutes."""
    w, refs = fleet(50)
    await storm(w, refs[:2])
    opened = w.fleet.opened
    await storm(w, refs[2:])
    assert w.fleet.opened == opened


@pytest.mark.parametrize("text", ["1,5%,25%", "100%/1h", "0/1h", "1,x/1h", "1/soon", "/1h", "1,/1h"])
def test_what_are_no_waves_is_an_error(text: str) -> None:
    """At the start."""
    with pytest.raises(ValueError, match="expected"):
        Waves.parse(text)


def test_waves_that_change_more_than_is_remembered_while_they_stand_are_refused() -> None:
    """30 VMs in ten minutes are 4,350 in a day: none would ever be seen to have stood."""

    def misfits(waves: str, budget: str) -> list[str]:
        chosen = Settings(waves=Waves.parse(waves), disruption_budget=Budget.parse(budget))
        return chosen.misfits(cloud=False)

    (problem,) = misfits("25%/1d", "120/10m")
    assert "LOGMEND_WAVES" in problem
    assert "30 places in 10m, so 4350 VMs could be changed while it has to stand for 1d" in problem
    for waves, budget in (("1,5%,25%/1h", "20/10m"), ("1,5%,25%/1h", "120/10m"), ("1,5%/1d", "120/10m")):
        assert misfits(waves, budget) == []


def test_a_runbooks_own_waves_have_to_fit_its_own_budget(tmp_path: Path) -> None:
    """So say the start and, before it, each command that reads the file; one that is off needs none."""
    file = tmp_path / "runbooks.json"
    own: dict[str, Any] = {"waves": "25%/1d", "disruption_budget": "120/10m"}
    file.write_text(json.dumps({"runbooks": {RUNBOOK: own}}))
    said = f"the waves of {RUNBOOK} do not fit its budget: a step opens 30"
    for reads in (catalog.read_all, application):
        with pytest.raises(ConfigError, match=said):
            reads(Settings(runbooks=file))
    file.write_text(json.dumps({"runbooks": {RUNBOOK: own | {"enabled": False}}}))
    assert RUNBOOK in catalog.read_all(Settings(runbooks=file), every=True).runbooks


def test_what_waves_may_change_is_less_than_what_the_ledger_keeps() -> None:
    """With a quarter to spare, since VMs meet in its documents by chance."""
    assert MOST_IN_SOAK <= 0.75 * SAMPLES * SHARDS
