"""A rejection lasts, an approval can be withdrawn, and what waits can be cancelled; on each store."""

from datetime import timedelta

import pytest
from tests.fakes import REF, World, entry, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.errors import Permanent
from logmend.model.enums import Mode, Result
from logmend.model.state import By, Freeze, State
from logmend.ports import Store

RUNBOOK = "workload-cert-refresh"


async def line(w: World, name: str) -> str:
    said = await w.deliver(push(entry(at=w.clock.now()), name, at=w.clock.now()))
    return f"{said.result}:{said.reason}" if said.reason else str(said.result)


def ann(w: World, why: str = "") -> By:
    return By("ann", w.clock.now(), why)


async def plan(w: World) -> str:
    (waiting,) = [each async for each in w.controls.approvals() if each.state == "pending"]
    return waiting.approval_id


def approving(store: Store) -> World:
    return world(store=store, mode=Mode.APPROVE, cooldown_planned=timedelta())


async def test_a_rejection_lasts_until_the_vm_is_released(store: Store) -> None:
    """No plan is made anew, however long it takes; who rejected it and why is in each outcome."""
    w = approving(store)
    assert await line(w, "1") == "planned"
    await w.controls.reject(await plan(w), ann(w, "it is being replaced"))
    w.clock.tick(days=20)
    assert await line(w, "2") == "skipped:declined"
    assert "rejected by ann" in w.outcomes.written[-1].detail
    assert "it is being replaced" in w.outcomes.written[-1].detail
    assert (await w.pipeline.work(operator(intent_id="o-person"))).result is Result.REMEDIATED, "a person may"
    w.fleet.vms[REF.instance_id].faulty = True
    await w.controls.resume_instance(REF, RUNBOOK, ann(w))
    assert await line(w, "3") == "planned"
    await w.ticker.run()
    assert "rejected by ann" in w.outcomes.controlled[-1].detail, "the release says of what"


async def test_a_rejection_for_a_time_ends_by_itself(store: Store) -> None:
    """At that moment, without a tick."""
    w = approving(store)
    await line(w, "1")
    await w.controls.reject(await plan(w), ann(w), w.clock.now() + timedelta(hours=2))
    w.clock.tick(minutes=119)
    assert await line(w, "2") == "skipped:declined"
    w.clock.tick(minutes=1)
    assert await line(w, "3") == "planned"


async def test_an_approval_is_withdrawn_before_it_is_acted_on(store: Store) -> None:
    """Nothing is done, once it is told, and a withdrawn plan is not approved again."""
    w = approving(store)
    await line(w, "1")
    approval_id = await plan(w)
    await w.controls.approve(approval_id, ann(w))
    await w.journal.cancel(f"a-{approval_id}", By("bob", w.clock.now(), "too early"), w.settings)
    for _ in range(2):
        await w.ticker.run()
    (said,) = [each for each in w.outcomes.written if each.reason == "cancelled"]
    assert (said.result, said.requested_by, said.approval_id) == (Result.SKIPPED, "bob", approval_id)
    assert said.detail == "by bob, requested by ann too early"
    assert w.fleet.vms[REF.instance_id].changes == 0
    (known,) = [each async for each in w.controls.approvals()]
    assert (known.state, known.decided_by) == ("withdrawn", "bob")
    with pytest.raises(Permanent, match="withdrawn by bob"):
        await w.controls.approve(approval_id, ann(w))


async def test_what_was_acted_on_is_not_cancelled(store: Store) -> None:
    """It says where it stands; so does what never was."""
    w = approving(store)
    await line(w, "1")
    approval_id = await plan(w)
    await w.controls.approve(approval_id, ann(w))
    await w.ticker.run()
    assert w.fleet.vms[REF.instance_id].changes == 1
    for name, reason in ((f"a-{approval_id}", "order_in_hand"), ("o-none", "no_such_order")):
        with pytest.raises(Permanent) as refused:
            await w.journal.cancel(name, ann(w), w.settings)
        assert refused.value.reason == reason


async def test_what_is_parked_is_cancelled_whatever_it_came_from(store: Store) -> None:
    """An order and an incident; neither is done after the freeze, and a redelivery only says it again."""
    w = world(store=store, **ENFORCE)
    await w.controls.freeze(Freeze("ann", w.clock.now()))
    body = push(incident(), "9")
    assert (await w.deliver(body)).result is Result.PARKED
    assert (await w.pipeline.work(operator(intent_id="o-1"))).result is Result.PARKED
    for name in ("m-9", "o-1"):
        await w.journal.cancel(name, ann(w), w.settings)
    await w.controls.resume(ann(w))
    await w.ticker.run()
    assert [each.reason for each in w.outcomes.written].count("cancelled") == 2
    assert (await w.deliver(body)).reason == "cancelled"
    assert w.fleet.vms[REF.instance_id].checks == 0
    states = {each.intent.intent_id: each.state async for each in w.ticker.queues.records()}
    assert states == {"m-9": State.DONE, "o-1": State.DONE}
