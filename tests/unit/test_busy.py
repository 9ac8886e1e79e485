"""Exit 103: the VM has something else in hand. It waits its turn, and costs nothing but a look."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import (
    ANN,
    REF,
    FakeAgentFleet,
    FakeAgents,
    ManualClock,
    World,
    entry,
    evidence,
    incident,
    push,
    world,
)
from tests.unit.test_pipeline import operator

from logmend.ledger.documents import unpack
from logmend.ledger.places import Shard, taken
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import Freeze, Record, State
from logmend.model.struct import replace
from logmend.model.values import Attempt, Evidence
from logmend.settings import Budget

ENFORCE: dict[str, Any] = {"mode": Mode.ENFORCE, "disruption_budget": Budget(1, timedelta(hours=1))}
HELD = {"lock": "/var/lib/dpkg/lock-frontend"}


def busy() -> Evidence:
    """Give what a script says that finds a lock taken."""
    return evidence(103, instance_id=None, lock=HELD["lock"])


async def places(w: World) -> int:
    """Count the places of the budget that are taken."""
    return sum([taken(unpack(Shard, found)) for _, found in await w.store.scan("places", None, 100)])


async def record(w: World, intent_id: str = "m-1") -> Record:
    """Read an intent's journal."""
    found = await w.journal.record(intent_id)
    assert found is not None
    return found


async def test_a_busy_check_waits_for_the_tick_and_is_remediated_when_the_vm_is_free() -> None:
    """Parked with a backoff, no failure, no cooldown, and then done under the same intent."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [busy(), busy()]
    first = await w.deliver(push(incident()))
    assert (first.result, first.reason) == (Result.PARKED, "busy")
    assert "lock=/var/lib/dpkg/lock-frontend" in first.detail
    await w.tick(minutes=4)
    assert vm.checks == 1, "not before its time"
    await w.tick(minutes=1)
    assert (vm.checks, vm.enforcements, await places(w)) == (2, 0, 0)
    await w.tick(minutes=5)
    assert w.outcomes.results == ["parked:busy", "parked:busy", "remediated"]
    subject = await w.controls.subject(REF, "workload-cert-refresh")
    assert subject is not None
    assert subject.failures == 0


async def test_busy_enforcing_gives_its_place_back_and_takes_the_commit_back() -> None:
    """It changed nothing: another VM may have the place, and nobody counts a failure."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_enforce, vm.fix_works = [busy()], False
    outcome = await w.deliver(push(incident()))
    assert (outcome.result, outcome.reason) == (Result.PARKED, "busy")
    assert await places(w) == 0
    kept = await record(w)
    assert (kept.state, kept.committed, kept.mark, kept.before) == (State.PARKED, False, None, None)
    assert await w.journal.samples("workload-cert-refresh", timedelta(hours=1), w.clock.now()) == {}
    vm.fix_works = True
    await w.tick(minutes=5)
    assert w.outcomes.results[-1] == "remediated"
    assert (vm.enforcements, await places(w)) == (2, 1)


async def test_it_is_asked_less_and_less_often_and_after_a_day_it_has_failed() -> None:
    """A lock that is held for a day is a person's business, not a failure of the fix."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [busy() for _ in range(100)]
    await w.deliver(push(incident()))
    for _ in range(12 * 25):
        await w.tick(minutes=5)
    assert w.outcomes.results[-1] == "failed:busy"
    assert set(w.outcomes.results[:-1]) == {"parked:busy"}
    assert 24 < vm.checks < 36
    assert "the same at every check since" in w.outcomes.written[-1].detail
    assert vm.enforcements == 0
    assert await w.journal.samples("workload-cert-refresh", timedelta(days=2), w.clock.now()) == {}
    subject = await w.controls.subject(REF, "workload-cert-refresh")
    assert subject is not None
    assert (subject.failures, subject.cooldown) == (0, None)


async def test_a_freeze_in_between_is_not_counted_as_busy() -> None:
    """What waited out a freeze for days is asked anew when that is over."""
    w = world(**ENFORCE)
    w.fleet.vms[REF.instance_id].on_check = [busy(), busy()]
    await w.deliver(push(incident()))
    await w.controls.freeze(Freeze("ops", w.clock.now()))
    await w.tick(minutes=5)
    w.clock.tick(days=2)
    await w.controls.resume(ANN)
    await w.tick(minutes=5)
    assert w.outcomes.results == ["parked:busy", "parked:frozen", "parked:busy"]


@pytest.mark.parametrize("how", ["repeats", "look"])
async def test_who_says_it_again_or_only_looked_need_not_wait(how: str) -> None:
    """The next line asks again; a person who only looked is answered now."""
    w = world(**ENFORCE)
    w.fleet.vms[REF.instance_id].on_check = [busy()]
    if how == "repeats":
        outcome = await w.deliver(push(entry()))
    else:
        outcome = await w.pipeline.work(replace(operator(), look_only=True))
    assert (outcome.result, outcome.reason) == (Result.SKIPPED, "busy")
    assert (await record(w, outcome.intent_id or "")).state is State.DONE


async def test_a_second_check_that_finds_the_vm_busy_leaves_the_fix_unverified_and_is_no_failure() -> None:
    """Neither the looks that it has nor the breaker are spent on it."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [None, *(busy() for _ in range(6))]
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == (Result.UNVERIFIED, "busy")
    assert await w.journal.samples("workload-cert-refresh", timedelta(hours=1), w.clock.now()) == {}
    for _ in range(60):
        await w.tick(minutes=5)
    assert w.outcomes.results[-1] == "remediated"
    assert vm.enforcements == 1


async def test_a_crash_after_the_commit_and_then_a_busy_vm_loses_nothing() -> None:
    """What may have begun keeps its commit, waits whatever its source, and is finished by its mark."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]

    def die() -> Evidence:
        raise KeyboardInterrupt

    vm.on_enforce = [die]
    with pytest.raises(KeyboardInterrupt):
        await w.deliver(push(entry()))
    vm.on_check = [busy()]
    await w.tick(minutes=11)
    assert w.outcomes.results[-1] == "parked:busy"
    assert (await record(w)).committed
    await w.tick(minutes=5)
    assert w.outcomes.results[-1] == "remediated"
    assert vm.changes == 1


def by_agents(**settings: Any) -> tuple[World, FakeAgents]:
    """Make a world that is reached by its agents."""
    clock = ManualClock()
    fleet = FakeAgentFleet(clock)
    return world(clock=clock, fleet=fleet, **(ENFORCE | settings)), fleet.agents


def said(w: World, *, enforcing: bool) -> Attempt:
    """Give a report in which the check, or enforcing, found the VM busy."""
    found = Evidence(103, HELD, w.clock.now())
    fault = Evidence(101, {"instance_id": REF.instance_id, "seen_by": "osconfig_agent"}, w.clock.now())
    if enforcing:
        return Attempt("osconfig", before=fault, enforced=True, enforcement=found)
    return Attempt("osconfig", before=found)


@pytest.mark.parametrize("enforcing", [False, True])
async def test_over_os_config_the_label_is_withdrawn_and_set_again_by_the_tick(*, enforcing: bool) -> None:
    """The agent leaves off meanwhile, the place is free, and an older report does not count."""
    w, agents = by_agents()
    await w.deliver(push(incident()))
    assert (agents.label(), await places(w)) == ("enforce", 1)
    w.clock.tick(minutes=3)
    agents.says(Action.ENFORCE, said(w, enforcing=enforcing))
    await w.tick(minutes=2)
    assert w.outcomes.results == ["requested", "parked:busy"]
    assert (agents.label(), await places(w)) == (None, 0)
    assert not (await record(w)).committed
    await w.tick(minutes=5)
    assert (agents.label(), await places(w)) == ("enforce", 1)
    w.clock.tick(minutes=3)
    fault, done = said(w, enforcing=True).before, Evidence(100, {"changed": "yes"}, w.clock.now())
    clean = Evidence(100, {"instance_id": REF.instance_id}, w.clock.now())
    agents.says(
        Action.ENFORCE, Attempt("osconfig", before=fault, enforced=True, enforcement=done, after=clean)
    )
    await w.tick(minutes=2)
    assert w.outcomes.results == ["requested", "parked:busy", "requested", "remediated"]


async def test_an_agent_that_was_seen_to_enforce_keeps_its_place_when_it_is_busy_later() -> None:
    """Its 103 is about that run alone."""
    w, agents = by_agents()
    await w.deliver(push(incident()))
    w.clock.tick(minutes=3)
    fault = said(w, enforcing=True).before
    wrong = Evidence(100, {}, w.clock.now())  # no word of ours in it: unverified, and looked at again
    agents.says(Action.ENFORCE, Attempt("osconfig", before=fault, enforced=True, enforcement=wrong))
    await w.tick(minutes=2)
    assert w.outcomes.results[-1].startswith("unverified")
    await w.tick(minutes=5)
    w.clock.tick(minutes=1)
    agents.says(Action.CHECK, said(w, enforcing=False))
    await w.tick(minutes=5)
    assert w.outcomes.results[-1].startswith("unverified")
    assert await places(w) == 1
    assert (await record(w)).committed


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.APPROVE])
async def test_observing_waits_for_a_busy_vm_as_well(mode: Mode) -> None:
    """What would be said is not known before it has looked."""
    w = world(mode=mode)
    w.fleet.vms[REF.instance_id].on_check = [busy()]
    await w.deliver(push(incident()))
    await w.tick(minutes=5)
    assert w.outcomes.results == ["parked:busy", "planned"]
