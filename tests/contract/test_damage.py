"""Leases and places whose intent is gone, documents that cannot be read: nobody waits for them for ever."""

import asyncio
from datetime import timedelta

import pytest
from tests.fakes import ANN, REF, World, entry, push, world

from logmend.ledger.documents import intent_key, pack, shard_key, subject_key
from logmend.ledger.places import Out, Shard
from logmend.model.enums import Mode, Result
from logmend.model.state import Lease, Subject
from logmend.model.values import InstanceRef, Outcome
from logmend.ports import Document, Key, Store

RUNBOOK = "workload-cert-refresh"
SUBJECT = subject_key(REF, RUNBOOK)
LOST = intent_key("m-lost")


@pytest.fixture
def w(store: Store) -> World:
    return world(store=store, mode=Mode.ENFORCE)


async def put(store: Store, writes: dict[Key, Document | None]) -> None:
    await store.transact(list(writes), lambda _: (writes, None))


async def orphaned(w: World, *, listed: bool = True, hold: bool = False, **left: float) -> None:
    """Leave a lease for an intent that nobody knows."""
    lease = Lease("dead", 7, "m-lost", w.clock.now() + timedelta(**(left or {"minutes": 10})))
    subject = Subject(REF, RUNBOOK, fence=7, lease=lease, held=hold)
    queue = ("leased", lease.expires_at) if listed else (None, None)
    await put(w.store, {SUBJECT: Document(pack(subject), *queue)})


async def line(w: World, name: str = "1") -> Outcome:
    return await w.deliver(push(entry(at=w.clock.now()), name, at=w.clock.now()))


DAMAGED: list[Document | None] = [
    None,
    Document({"state": "dreaming"}),
    Document(pack({"intent": None, "state": "done"})),
]


@pytest.mark.parametrize("left", DAMAGED, ids=["missing", "unreadable", "empty"])
@pytest.mark.parametrize("listed", [True, False])
async def test_a_lease_runs_out_whatever_its_intent_is(
    w: World, left: Document | None, *, listed: bool
) -> None:
    """The VM's next line is worked on: it was `deferred: ledger_contention` for ever."""
    await orphaned(w, listed=listed)
    await put(w.store, {LOST: left})
    assert (await line(w)).reason == "duplicate", "until it has run out it is a lease like any other"
    w.clock.tick(minutes=10)
    assert (await line(w, "2")).result is Result.REMEDIATED
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert (subject.lease, subject.fence) == (None, 8)


async def test_a_lease_for_another_vms_intent_is_an_orphan_too(w: World) -> None:
    """Finishing that intent would never free this VM."""
    other = InstanceRef(REF.project_id, REF.zone, "77")
    w.fleet.add(other)
    await w.deliver(push(entry(other, at=w.clock.now()), "lost", at=w.clock.now()))
    await orphaned(w)
    w.clock.tick(minutes=10)
    assert (await line(w)).result is Result.REMEDIATED


async def test_the_tick_frees_an_orphan_and_counts_it(w: World) -> None:
    """Without waiting for the VM to complain again."""
    await orphaned(w, hold=True)
    w.clock.tick(minutes=10)
    tally = await w.ticker.run()
    assert tally.document()["freed"] == 1
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert (subject.lease, subject.held) == (None, True)
    assert (await w.ticker.run()).freed == 0


async def test_resuming_an_instance_clears_an_orphaned_lease_and_says_which(w: World) -> None:
    """Also before it has run out; one whose attempt may be at work stays."""
    await orphaned(w, hours=100)
    said = await w.controls.resume_instance(REF, RUNBOOK, ANN)
    assert said == "lease for m-lost, which does not exist"
    assert (await line(w)).result is Result.REMEDIATED
    assert await w.controls.resume_instance(REF, RUNBOOK, ANN) is None


async def everything_amiss(w: World) -> None:
    await orphaned(w, hours=100, hold=True)
    broken = subject_key(InstanceRef(REF.project_id, REF.zone, "6"), RUNBOOK)
    place = shard_key("places", RUNBOOK, 3)
    out = Shard(600.0, {"m-gone": Out(w.clock.now(), None), "m-ends": Out(w.clock.now(), w.clock.now())})
    parked = intent_key("m-odd")
    await put(
        w.store,
        {
            broken: Document({"fence": "high"}),
            place: Document(pack(out)),
            parked: Document({"state": 7}, "parked", w.clock.now()),
            ("repeats", "odd~1"): Document({"day": "one"}, "counted", w.clock.now()),
        },
    )


async def test_everything_amiss_is_named_and_what_can_be_repaired_is(w: World) -> None:
    """A document that cannot be read may be a hold: it is named, and left."""
    await everything_amiss(w)
    named = {
        (each.where.partition("/")[0], each.repairable) for each in await w.controls.damage(w.clock.now())
    }
    kept = {(each, False) for each in ("subjects", "intents", "repeats")}
    assert named == {("subjects", True), ("places", True), *kept}
    repaired = await w.controls.repair(w.clock.now(), timedelta(minutes=10))
    assert [(each.where, "m-lost" in each.what or "m-gone" in each.what) for each in repaired] == [
        (f"subjects/{SUBJECT[1]}", True),
        (f"places/{RUNBOOK}~3", True),
    ]
    left = await w.controls.damage(w.clock.now())
    assert {each.repairable for each in left} == {False}
    assert len(left) == len(kept)
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert (subject.lease, subject.held) == (None, True)


async def test_a_ledger_in_order_has_nothing_amiss(w: World) -> None:
    """Neither in the middle of an attempt nor after one."""
    w.fleet.vms[REF.instance_id].on_enforce = [asyncio.CancelledError()]  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await line(w)
    assert await w.controls.damage(w.clock.now()) == []
    w.clock.tick(minutes=11)
    await w.ticker.run()
    assert await w.controls.damage(w.clock.now()) == []


async def test_a_lease_on_no_work_list_is_put_on_it(w: World) -> None:
    """The tick finds it again."""
    await line(w)
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    lease = Lease("dead", 9, "m-1", w.clock.now() + timedelta(minutes=1))
    changed = Document(pack(Subject(REF, RUNBOOK, fence=9, lease=lease)))
    await put(w.store, {SUBJECT: changed})
    assert len(await w.controls.repair(w.clock.now(), timedelta(minutes=10))) == 1
    assert len(await w.ticker.queues.expired(lease.expires_at, 10)) == 1
    w.clock.tick(minutes=2)
    await w.ticker.run()
    assert await w.controls.damage(w.clock.now()) == []
