"""A managed instance group: a share of it at most is changed, and never its last healthy VM."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.fakes import REF, World, entry, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.errors import Transient
from logmend.model.enums import Action
from logmend.model.state import By
from logmend.model.struct import replace
from logmend.model.values import Group, InstanceRef, Intent
from logmend.settings import Budget, Lone
from logmend_cli.status.summing import Summing

GROUP = "projects/123/zones/us-west1-a/instanceGroupManagers/web"
MADE = {"created-by": GROUP}


def fleet(size: int, **settings: Any) -> tuple[World, list[InstanceRef]]:
    """Give a world with a group of so many VMs, all faulty."""
    w = world(**ENFORCE, **settings)
    refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + number)) for number in range(size)]
    for ref in refs:
        w.fleet.add(ref, metadata=MADE)
    return w, refs


def enforced(w: World) -> int:
    return sum(vm.enforcements for vm in w.fleet.vms.values())


async def storm(w: World, refs: list[InstanceRef], runbook: str = "workload-cert-refresh") -> None:
    """Let all complain at once, by alerts, which do not repeat."""
    labels = {"policy_user_labels": {"logmend-runbook": runbook}}
    await asyncio.gather(
        *(
            w.deliver(
                push(incident(ref, incident_id=f"{runbook} {ref}", **labels), f"{runbook}{ref.instance_id}")
            )
            for ref in refs
        )
    )


@pytest.mark.parametrize(
    ("size", "share", "most"), [(2, 0.25, 1), (9, 0.25, 2), (40, 0.25, 10), (10, 0.5, 5)]
)
async def test_a_share_of_a_group_is_changed_and_at_least_one(size: int, share: float, most: int) -> None:
    """The others wait, and go on a window later, until all are done."""
    w, refs = fleet(size, group_share=share)
    await storm(w, refs)
    assert enforced(w) == most
    assert w.outcomes.results.count("parked:budget_exhausted") == size - most
    while enforced(w) < size:
        before = enforced(w)
        await w.tick(minutes=11)
        assert before < enforced(w) <= before + most
    assert all(not w.fleet.vms[ref.instance_id].faulty for ref in refs)


async def test_two_runbooks_share_a_groups_places() -> None:
    """What one changes, the other does not change at the same time."""
    w, refs = fleet(8)
    await storm(w, refs[:4])
    await storm(w, refs[4:], "ops-agent")
    assert enforced(w) == 2


async def test_a_short_window_forgets_nothing_that_a_long_one_counts() -> None:
    """ops-agent may change two in an hour, however often another changes VMs of the group meanwhile."""
    w, refs = fleet(8, disruption_budget=Budget(40, timedelta(minutes=10)))
    await storm(w, refs[:2], "ops-agent")
    w.clock.tick(minutes=11)
    await storm(w, refs[2:3])
    assert enforced(w) == 3, "what the long window counts, the short one does not"
    w.clock.tick(minutes=1)
    await storm(w, refs[3:5], "ops-agent")
    assert enforced(w) == 3
    assert w.outcomes.results[-2:] == ["parked:budget_exhausted"] * 2
    await w.tick(minutes=50)
    assert enforced(w) == 4, "the other's lies in this window as well"
    await w.tick(minutes=10)
    assert enforced(w) == 5


@pytest.mark.parametrize("known", [None, Group(100, frozenset(), frozenset())])
async def test_of_a_group_that_is_not_known_one_at_a_time_is_changed(known: Group | None) -> None:
    """Since it may not be read; or since it does not name the VM, whatever that says of itself."""
    w, refs = fleet(6)
    w.fleet.groups[GROUP] = known
    await storm(w, refs)
    assert enforced(w) == 1
    assert any("whose size is not known" in each.detail for each in w.outcomes.written)


@pytest.mark.parametrize("trouble", ["compute_unavailable", "rate_limited"])
@pytest.mark.parametrize("at", ["first", "commit"])
async def test_a_group_that_cannot_be_asked_for_now_is_waited_for(trouble: str, at: str) -> None:
    """Its VM is not changed on no answer, neither before it is checked nor after."""
    w, (ref,) = fleet(1)
    w.fleet.groups[GROUP] = Group(2, frozenset({"1", ref.instance_id}), frozenset({"1", ref.instance_id}))
    real, vm = w.fleet.group, w.fleet.vms[ref.instance_id]

    async def away(path: str, project_id: str) -> Group | None:
        if at == "commit" and not vm.checks:
            return await real(path, project_id)
        raise Transient(trouble)

    w.fleet.group = away  # type: ignore[method-assign]
    outcome = await w.deliver(push(incident(ref)))
    assert (outcome.result, outcome.reason) in {("deferred", "compute_unavailable"), ("parked", "retry")}
    assert trouble in f"{outcome.reason} {outcome.detail}"
    assert enforced(w) == 0
    w.fleet.group = real  # type: ignore[method-assign]
    w.clock.tick(minutes=10)
    await w.deliver(push(incident(ref)))
    await w.ticker.run()
    assert enforced(w) == 1


async def test_the_last_healthy_one_is_not_touched_whoever_asks() -> None:
    """No login to it; a VM that is not healthy itself may be repaired, and then the other too."""
    w, refs = fleet(4)
    every = frozenset(ref.instance_id for ref in refs)
    w.fleet.groups[GROUP] = Group(4, every, frozenset({refs[0].instance_id}))
    outcome = await w.deliver(push(incident(refs[0])))
    assert (outcome.result, outcome.reason) == ("parked", "last_healthy")
    assert (await w.pipeline.work(order(refs[0]))).reason == "last_healthy"
    assert w.fleet.vms[refs[0].instance_id].enforcements == 0
    assert (await w.deliver(push(incident(refs[1], incident_id="other"), "2"))).result == "remediated"
    w.fleet.groups[GROUP] = Group(4, every, frozenset({refs[0].instance_id, refs[1].instance_id}))
    await w.tick(minutes=15)
    assert w.fleet.vms[refs[0].instance_id].enforcements == 1


def order(ref: InstanceRef) -> Intent:
    return replace(operator(intent_id=f"o-{ref.instance_id}"), instance=ref)


async def test_those_in_hand_count_as_not_healthy() -> None:
    """Two healthy of eight: one is changed, and the other is then the last."""
    w, refs = fleet(8)
    w.fleet.groups[GROUP] = Group(
        8, frozenset(ref.instance_id for ref in refs), frozenset(ref.instance_id for ref in refs[:2])
    )
    await storm(w, refs[:2])
    assert enforced(w) == 1


async def test_the_only_vm_of_a_group_waits_for_a_person() -> None:
    """Once a day, not with each line; approved, it is changed; and a setting says that it need not wait."""
    w, [ref] = fleet(1)
    planned = await w.deliver(push(entry(ref)))
    assert (planned.result, planned.reason, enforced(w)) == ("planned", "group_of_one", 0)
    w.clock.tick(minutes=10)
    again = await w.deliver(push(entry(ref, at=w.clock.now()), "2", at=w.clock.now()))
    assert (again.result, again.reason) == ("skipped", "cooling_down")
    assert planned.approval_id is not None
    await w.controls.approve(planned.approval_id, By("ann", w.clock.now()))
    await w.tick()
    assert (w.outcomes.results[-1], enforced(w)) == ("remediated", 1)
    w, [ref] = fleet(1, groups_of_one=Lone.ENFORCE)
    assert (await w.deliver(push(entry(ref)))).result == "remediated"


async def test_what_waits_for_a_healthy_group_is_told_once() -> None:
    """However often the tick asks whether another is healthy by now; then it goes on."""
    w, refs = fleet(2)
    every = frozenset(ref.instance_id for ref in refs)
    w.fleet.groups[GROUP] = Group(2, every, frozenset({refs[0].instance_id}))
    await w.deliver(push(incident(refs[0]), "1"))
    for _ in range(5):
        await w.tick(minutes=6)
    assert w.outcomes.results == ["parked:last_healthy"]
    w.fleet.groups[GROUP] = Group(2, every, every)
    await w.tick(minutes=6)
    assert w.outcomes.results == ["parked:last_healthy", "remediated"]


async def test_what_becomes_the_only_vm_during_the_check_is_planned_by_the_next_attempt() -> None:
    """It is not changed, and the Compute API, which gave its answer, is not blamed for it."""
    w, (ref, _) = fleet(2)
    vm, only = w.fleet.vms[ref.instance_id], frozenset({ref.instance_id})
    vm.on_check = [lambda: w.fleet.groups.update({GROUP: Group(1, only, only)})]
    message = push(incident(ref), "1")
    said = [await w.deliver(message) for _ in range(2)]
    assert [(each.result, each.reason) for each in said] == [
        ("deferred", "conflict"),
        ("planned", "group_of_one"),
    ]
    assert vm.enforcements == 0


async def groups_told(w: World) -> list[Any]:
    """Give what status says of groups, by the ledger alone."""
    summing = Summing(await w.controls.fleet())
    async for subject in w.ticker.queues.subjects():
        summing.subject(subject)
    async for record in w.ticker.queues.records():
        summing.record(record)
    async for _, shard in w.ticker.queues.places():
        summing.place(shard, w.clock.now())
    return list(summing.state().document()["groups"])


async def test_status_tells_which_group_is_held_back_why_and_when_a_place_is_free() -> None:
    """Places taken, VMs that wait, and until when; nothing once all are done and the window has passed."""
    w, refs = fleet(8)
    await storm(w, refs[:3])
    (row,) = await groups_told(w)
    assert (row["group"], row["runbook"], row["used"]) == (GROUP, "workload-cert-refresh", 2)
    assert (row["waiting"], row["reason"]) == (1, "budget_exhausted")
    assert "with 8 VMs, 8 of them healthy" in row["why"]
    frees = datetime.fromisoformat(row["frees"])
    assert w.clock.now() < frees <= w.clock.now() + w.settings.disruption_budget.window
    await w.tick(minutes=11)
    (row,) = await groups_told(w)
    assert (row["runbook"], row["used"], row["waiting"], row["why"]) == (None, 1, 0, None)
    w.clock.tick(minutes=11)
    assert await groups_told(w) == []


@pytest.mark.parametrize("source", [incident, entry])
async def test_status_tells_what_waits_for_a_healthy_group_whether_or_not_it_repeats(source: Any) -> None:
    """An event that is skipped holds its VM back as one that waits does, until the VM is mended."""
    w, refs = fleet(2)
    every = frozenset(ref.instance_id for ref in refs)
    w.fleet.groups[GROUP] = Group(2, every, frozenset({refs[0].instance_id}))
    await w.deliver(push(source(refs[0])))
    (row,) = await groups_told(w)
    assert (row["reason"], row["waiting"], row["used"], row["frees"]) == ("last_healthy", 1, 0, None)
    w.fleet.groups[GROUP] = Group(2, every, every)
    w.clock.tick(minutes=10)
    await w.deliver(push(entry(refs[0], at=w.clock.now()), "2", at=w.clock.now()))
    await w.ticker.run()
    assert [each["waiting"] for each in await groups_told(w)] == [0]


async def test_the_only_vm_of_a_group_is_told_while_its_plan_waits() -> None:
    """And a VM that waits for the runbook's own budget is not held back by its group."""
    w, [ref] = fleet(1)
    await w.deliver(push(entry(ref)))
    assert [(each["reason"], each["waiting"]) for each in await groups_told(w)] == [("group_of_one", 1)]
    w, refs = fleet(40, disruption_budget=Budget(1, timedelta(minutes=10)))
    await storm(w, refs[:2])
    assert [(each["used"], each["waiting"]) for each in await groups_told(w)] == [(1, 0)]


async def test_a_person_may_order_and_put_back_what_a_share_would_hold() -> None:
    """An order goes to the only VM of a group; a revert asks for no share."""
    w, [ref] = fleet(1)
    assert (await w.pipeline.work(order(ref))).result == "remediated"
    w, refs = fleet(4)
    await storm(w, refs)
    for each in refs:
        w.fleet.vms[each.instance_id].faulty = False
        done = await w.pipeline.work(
            replace(operator(Action.REVERT, f"o-back-{each.instance_id}"), instance=each)
        )
        assert done.result == "reverted"


async def test_with_a_share_of_one_groups_do_not_matter() -> None:
    """Nothing is looked up for it, and no permission is needed."""
    w, refs = fleet(5, group_share=1.0)

    async def never(path: str, project_id: str) -> Group | None:
        raise AssertionError(path)

    w.fleet.group = never  # type: ignore[method-assign]
    await storm(w, refs)
    assert enforced(w) == 5


async def test_observing_looks_no_group_up() -> None:
    """Its role may not."""
    w = world()
    w.fleet.add(REF, metadata=MADE)

    async def never(path: str, project_id: str) -> Group | None:
        raise AssertionError(path)

    w.fleet.group = never  # type: ignore[method-assign]
    assert (await w.deliver(push(entry()))).result == "planned"
