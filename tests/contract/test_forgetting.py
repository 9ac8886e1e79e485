"""What is kept of VMs, and what is not: nothing of those that Compute does not know."""

import asyncio
from typing import Any

import pytest
from tests.fakes import ANN, REF, START, FakeFleet, ManualClock, World, entry, push, world

from logmend.errors import Permanent, Superseded, Transient
from logmend.ledger import Conclusion, Contacts
from logmend.ledger.contacts import Pin
from logmend.model.enums import Mode, Result
from logmend.model.state import Admitted, Freeze, Lease
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Outcome, Verdict
from logmend.ports import Store
from logmend.settings import Budget
from logmend.stages import outcomes

RUNBOOK = "workload-cert-refresh"


def vm(number: int) -> InstanceRef:
    return InstanceRef(REF.project_id, REF.zone, str(1000 + number))


@pytest.fixture
def w(store: Store) -> World:
    return opened(store)


def opened(store: Store, **settings: Any) -> World:
    fleet = FakeFleet(ManualClock())
    for number in range(20):
        fleet.add(vm(number))
    return world(store=store, clock=fleet.clock, fleet=fleet, **({"mode": Mode.ENFORCE} | settings))


async def line(w: World, number: int, name: str = "") -> Outcome:
    name = name or f"{number}-{w.clock.now():%FT%T}"
    return await w.deliver(push(entry(vm(number), at=w.clock.now()), name, at=w.clock.now()))


async def remembered(w: World) -> set[str]:
    return {each.instance.instance_id async for each in w.ticker.queues.subjects()}


async def test_forged_ids_leave_nothing_but_journals_that_expire(w: World, store: Store) -> None:
    """Two thousand of them made two thousand documents that never went."""
    for number in range(100, 130):
        assert (await line(w, number)).reason == "instance_gone"
    assert await remembered(w) == set()
    journals = await store.scan("intents", None, 100)
    assert len(journals) == 30
    assert all(document.expire_at for _, document in journals)


async def test_a_vm_that_was_only_seen_stopped_leaves_at_once_when_it_is_gone(store: Store) -> None:
    """Its name and its owner are of no use without it."""
    w = opened(store, owner_label="team")
    w.fleet.add(vm(100), labels={"team": "payments"}, status="TERMINATED")
    said = await line(w, 100)
    assert (said.reason, said.owner) == ("not_running", "payments")
    assert await remembered(w) == {vm(100).instance_id}
    del w.fleet.facts_of[vm(100).instance_id]
    assert (await line(w, 100, "again")).reason == "instance_gone"
    assert await remembered(w) == set()


async def test_a_vm_that_is_gone_leaves_after_a_month_with_all_that_was_held_of_it(w: World) -> None:
    """Fixed, frozen, left to a person: it is not there any more."""
    for number in range(3):
        await line(w, number)
    await w.controls.freeze_instance(vm(1), RUNBOOK, Freeze("ann", START))
    await w.controls.freeze_instance(vm(2), RUNBOOK, Freeze("ann", START))
    del w.fleet.facts_of[vm(0).instance_id], w.fleet.facts_of[vm(1).instance_id]
    w.clock.tick(days=31)
    await w.ticker.run()
    assert len(await remembered(w)) == 3
    w.clock.tick(days=18)
    assert (await w.ticker.run()).document()["forgotten"] == 2
    assert await remembered(w) == {vm(2).instance_id}


async def test_what_is_known_of_a_gone_vms_ssh_server_goes_with_it(w: World, store: Store) -> None:
    """The pin of one that is there stays, however long nothing is heard of it."""
    contacts = Contacts(store)
    for number in range(2):
        await line(w, number)
        await contacts.pin(vm(number), Pin("ssh-ed25519 AAAA", START))
    del w.fleet.facts_of[vm(0).instance_id]
    w.clock.tick(days=49)
    assert (await w.ticker.run()).document()["forgotten"] == 1
    assert [name for name, _ in await store.scan("contacts", None, 10)] == [vm(1).instance_id]


async def test_a_vm_that_is_found_gone_by_an_event_takes_its_contact_along(w: World, store: Store) -> None:
    """Nothing else is remembered of it, so that the tick would never review it."""
    await Contacts(store).pin(vm(100), Pin("ssh-ed25519 AAAA", START))
    assert (await line(w, 100)).reason == "instance_gone"
    assert await store.scan("contacts", None, 10) == []


async def test_a_real_id_in_a_zone_that_it_is_not_in_takes_no_pin_away(w: World, store: Store) -> None:
    """A forged event would else make the next contact a first one."""
    await Contacts(store).pin(vm(0), Pin("ssh-ed25519 AAAA", START))
    elsewhere = InstanceRef(REF.project_id, "europe-west9-z", vm(0).instance_id)
    del w.fleet.facts_of[vm(0).instance_id]  # the fake knows VMs by their number alone
    forged = push(entry(elsewhere, at=w.clock.now()), "forged", at=w.clock.now())
    assert (await w.deliver(forged)).reason == "instance_gone"
    await w.controls.freeze_instance(elsewhere, RUNBOOK, Freeze("ann", START))
    w.clock.tick(days=49)
    assert (await w.ticker.run()).document()["forgotten"] == 1
    assert (await Contacts(store).get(vm(0))).pin is not None


async def test_what_is_held_of_a_vm_that_is_there_is_never_forgotten(w: World) -> None:
    """However long nothing is heard of it."""
    w.fleet.vms[vm(1).instance_id].fix_works = False
    for _ in range(3):
        await line(w, 1)
        w.clock.tick(days=8)
    await w.controls.freeze_instance(vm(2), RUNBOOK, Freeze("ann", w.clock.now()))
    for _ in range(12):
        w.clock.tick(days=35)
        assert (await w.ticker.run()).errors == {}
    first, second = await w.controls.subject(vm(1), RUNBOOK), await w.controls.subject(vm(2), RUNBOOK)
    assert first is not None
    assert first.needs_human
    assert second is not None
    assert second.frozen is not None
    assert (await line(w, 1)).reason == "needs_human"


async def test_a_vm_that_cannot_be_asked_for_is_kept(w: World) -> None:
    """No answer, or none that we may have, is no word that it is gone."""
    await line(w, 1)
    for error in (Transient("compute_unavailable"), Permanent("opt_in_unknown")):
        w.fleet.on_facts = [error]
        w.clock.tick(days=49)
        await w.ticker.run()
        assert await remembered(w) == {vm(1).instance_id}
    assert w.fleet.on_facts == []


async def test_a_vm_that_was_forgotten_begins_anew_and_an_old_attempt_cannot_write(w: World) -> None:
    """Its fences begin at one again: it is the lease as a whole that is compared."""
    assert (await line(w, 100)).reason == "instance_gone"
    w.fleet.add(vm(100))
    outcome = await line(w, 100, "again")
    assert outcome.result is Result.REMEDIATED
    known = await w.journal.record("m-again")
    assert known is not None
    assert known.attempt == 1
    again = replace(known.intent, intent_id="m-more", message_id="more", event_time=w.clock.now())
    w.clock.tick(days=2)
    w.fleet.vms[vm(100).instance_id].on_check = [asyncio.CancelledError()]  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await line(w, 100, "more")
    subject = await w.controls.subject(vm(100), RUNBOOK)
    assert subject is not None
    stale = Admitted(Lease("dead", subject.fence, again.intent_id, START), known, subject, None)
    said = outcomes.of_intent(known.intent, Verdict(Result.FAILED), w.settings, START)
    with pytest.raises(Superseded):
        await w.journal.conclude(stale, Conclusion(said, lambda subject: subject), START)


async def test_resuming_a_vm_of_which_nothing_is_known_keeps_nothing(w: World) -> None:
    """A slip of the hand makes no document."""
    await w.controls.resume_instance(vm(5), RUNBOOK, ANN)
    assert await remembered(w) == set()


async def test_a_failure_whose_recorder_was_killed_before_it_looked_opens_the_breaker_with_the_tick(
    store: Store,
) -> None:
    """Between the conclusion and the look at the breaker there was nobody to look."""
    w = opened(store, breaker_minimum=3, disruption_budget=Budget(100, START - START.replace(year=2025)))
    for number in range(3):
        w.fleet.vms[vm(number).instance_id].fix_works = False
    for number in range(2):
        assert (await line(w, number)).result is Result.FAILED

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    real = w.journal.samples
    w.journal.samples = killed  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        await line(w, 2)
    w.journal.samples = real  # type: ignore[method-assign]
    assert (await w.controls.fleet()).breakers == {}
    w.clock.tick(minutes=5)
    await w.ticker.run()
    (breaker,) = (await w.controls.fleet()).breakers.values()
    assert (breaker.failing, breaker.seen, breaker.opened_at) == (3, 3, START)
    await w.controls.resume(ANN, runbook=RUNBOOK)
    await w.ticker.run()
    assert (await w.controls.fleet()).breakers == {}, "a person's word stands"


async def test_the_tick_opens_no_breaker_because_good_samples_have_aged(store: Store) -> None:
    """It looks as of the latest failure, as whoever recorded that did."""
    w = opened(store, breaker_minimum=3)
    for number in range(10):
        if number > 6:
            w.fleet.vms[vm(number).instance_id].fix_works = False
        await line(w, number)
        w.clock.tick(minutes=8 if number == 6 else 1)
    w.clock.tick(minutes=50)
    await w.ticker.run()
    assert (await w.controls.fleet()).breakers == {}
