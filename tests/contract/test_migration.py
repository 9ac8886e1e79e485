"""Ledgers of released versions open and are migrated, on each store; what limits and holds is kept."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests import ledger_fixture as was
from tests.contract.old_ledgers import put_back
from tests.contract.stores import Backend
from tests.fakes import ANN, REF, FakeAgentFleet, FakeFleet, ManualClock, World, entry, incident, push, world
from tests.ledger_fixture import AGENT, RUNBOOK, vm
from tests.unit.test_requests import by_agent, fixed

from logmend.errors import Permanent
from logmend.ledger import places
from logmend.ledger.documents import FLEET, pack, subject_key
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import SCHEMA, Approval, By, Fleet, Freeze, Record, Subject
from logmend.model.values import Outcome
from logmend.ports import Document, Key, Store
from logmend.settings import Budget, ExecutorChoice

WINDOW = timedelta(minutes=10)
AT_WORK = {"m-704", "m-706", "m-7013"}
"""Intents of the fixture that may be enforced at this moment: a script's and two agents'."""
RESERVED = {"m-701", "m-702", "m-704", "m-705", "m-706", "m-707", "o-enforce-8", "o-revert-5"}
STRANGER = 40


@pytest.fixture
async def now(backend: Backend) -> datetime:
    return await put_back(backend, 1)


def opened(store: Store, now: datetime, *, agents: bool = False, **settings: Any) -> World:
    """Start this version on that ledger."""
    clock = ManualClock(now)
    fleet = FakeAgentFleet(clock) if agents else FakeFleet(clock)
    for number in (*range(1, 14), *range(STRANGER, STRANGER + 30)):
        fleet.add(vm(number), **(AGENT if agents else {}))
    executor = ExecutorChoice.OSCONFIG if agents else ExecutorChoice.SSH
    chosen: dict[str, Any] = {"mode": Mode.ENFORCE, "executor": executor, "breaker_minimum": 1000} | settings
    return world(store=store, clock=clock, fleet=fleet, owner="new", **chosen)


async def line(w: World, number: int, name: str = "") -> Outcome:
    return await w.deliver(push(entry(vm(number), at=w.clock.now()), name or f"8{number}", at=w.clock.now()))


async def held(w: World) -> dict[str, places.Out]:
    return {name: out async for _, shard in w.ticker.queues.places() for name, out in shard.out.items()}


async def test_what_was_reserved_or_out_has_its_place(store: Store, now: datetime) -> None:
    """A reservation ends when its attempt cannot be at work any more; an agent's work with its own end."""
    w = opened(store, now)
    await line(w, STRANGER)
    found = await held(w)
    assert found.keys() >= RESERVED | AT_WORK
    assert {name for name in found if found[name].until is None} == AT_WORK
    assert await store.scan("budgets", None, 10) == []
    assert (await w.controls.fleet()).schema == SCHEMA


@pytest.mark.parametrize("count", [1, 5, 9, 12, 20, 4000])
async def test_the_limit_holds_over_the_migration(store: Store, now: datetime, count: int) -> None:
    """Nine are out or were reserved within the window: so many fewer are enforced now."""
    w = opened(store, now, disruption_budget=Budget(count, WINDOW))
    results = [(await line(w, number)).result for number in range(STRANGER, STRANGER + 15)]
    assert results.count(Result.REMEDIATED) <= max(0, count - 9)
    if count == 12:
        assert results.count(Result.REMEDIATED) == 3


async def test_holds_freezes_marks_and_claims_stand(store: Store, now: datetime) -> None:
    """What a person decided, and what is left to a person, is as it was."""
    w = opened(store, now)
    assert (await line(w, was.HELD)).reason == "reverted"
    assert (await line(w, was.FROZEN)).reason == "frozen"
    assert (await line(w, was.NEEDS_HUMAN)).reason == "needs_human"
    assert (await line(w, was.REMEDIATED)).reason == "cooling_down"
    assert (await line(w, was.REQUESTED)).reason == "already_requested"
    told = await w.deliver(push(incident(vm(was.PLANNED), incident_id="inc-9"), "988"))
    assert told.reason == "duplicate"
    fleet = await w.controls.fleet()
    assert set(fleet.frozen_runbooks) == set(fleet.breakers) == {"ops-agent"}
    (plan,) = [each async for each in w.controls.approvals()]
    assert (await w.controls.approve(plan.approval_id, By("ann", now))).instance == vm(was.PLANNED)


async def test_what_was_finished_is_said_again_and_not_done_again(store: Store, now: datetime) -> None:
    """A redelivery of an old message gives the very outcome that the old version recorded."""
    w = opened(store, now)
    outcome = await w.deliver(push(entry(vm(was.REMEDIATED)), "701"))
    assert (outcome.result, outcome.outcome_id) == (Result.REMEDIATED, "m-701-1-remediated")
    assert w.fleet.lookups == 0


async def test_the_tick_finishes_what_the_old_version_left(store: Store, now: datetime) -> None:
    """Parked, leased, unverified, not emitted: each comes to its end, and its place with it."""
    w = opened(store, now)
    w.fleet.vms[vm(was.LEASED).instance_id].faulty = False
    w.fleet.vms[vm(was.UNVERIFIED).instance_id].faulty = False
    w.clock.tick(minutes=11)
    await w.ticker.run()
    by_intent = {each.intent_id: each for each in w.outcomes.written if each.final}
    assert by_intent["m-702"].result is Result.REMEDIATED
    assert by_intent["m-703"].result is Result.REMEDIATED
    for unmarked in (
        "m-704",
        "m-707",
    ):  # that version left no mark, so nobody can say that the repair was its own
        assert by_intent[unmarked].result is Result.NOTHING_TO_DO
        assert "nothing shows that it began to enforce" in by_intent[unmarked].detail
    assert by_intent["m-7010"].result is Result.REMEDIATED
    assert (await held(w))["m-704"].until is not None


async def test_requests_of_the_old_version_are_read_and_their_places_end_with_them(
    store: Store, now: datetime
) -> None:
    """A request that was made before is closed by its report, or is overdue."""
    w = opened(store, now, agents=True)
    agents = w.fleet.agent("osconfig")
    assert agents is not None
    for number in (was.REQUESTED, was.OUT_LONG):
        await w.fleet.set_label(w.fleet.facts_of[vm(number).instance_id], f"logmend-{RUNBOOK}", "enforce")
    w.clock.tick(minutes=1)
    seen, named = by_agent(101), {"instance_id": vm(was.REQUESTED).instance_id, "seen_by": "osconfig_agent"}
    done = fixed(type(seen)(100, named, now), vm(was.REQUESTED).instance_id)
    agents.says(Action.ENFORCE, done, vm(was.REQUESTED))
    await line(w, STRANGER)
    w.clock.tick(minutes=5)
    await w.ticker.run()
    assert {"m-706", "m-7013"} & (await held(w)).keys() == {"m-7013"}
    w.clock.tick(hours=2)
    await w.ticker.run()
    assert (await held(w))["m-7013"].until is not None
    assert agents.label(vm(was.OUT_LONG)) is None


async def test_two_instances_that_migrate_at_once_make_one_ledger(
    backend: Backend, store: Store, now: datetime
) -> None:
    """And a third that comes upon a half-migrated one goes on with it."""
    other = backend.open()
    budget = Budget(12, WINDOW)
    first, second = opened(store, now, disruption_budget=budget), opened(other, now, disruption_budget=budget)
    both = await asyncio.gather(
        *(
            line(w, number)
            for number, w in zip(range(STRANGER, STRANGER + 6), [first, second] * 3, strict=True)
        )
    )
    results = [each.result for each in both]
    assert results.count(Result.REMEDIATED) <= 3
    assert (await held(first)).keys() >= AT_WORK
    await other.aclose()


@pytest.mark.parametrize(
    ("backend", "step"),
    # Every third step is enough of the slow one.
    [(kind, step) for kind in ("memory", "sqlite") for step in range(1, 12)]
    + [("firestore", step) for step in (3, 6, 9)],
    indirect=["backend"],
)
async def test_a_migration_that_is_cut_off_anywhere_is_gone_on_with(
    backend: Backend, now: datetime, step: int
) -> None:
    """Nobody commits before it is done; whoever comes next does the rest."""
    store = backend.open()
    cut = opened(_CutOff(store, step), now, disruption_budget=Budget(12, WINDOW))
    await line(cut, STRANGER)
    w = opened(store, now, disruption_budget=Budget(12, WINDOW))
    results = [(await line(w, number)).result for number in range(STRANGER + 1, STRANGER + 8)]
    done = [*results, *[each.result for each in cut.outcomes.written]].count(Result.REMEDIATED)
    assert done <= 3
    assert (await held(w)).keys() >= AT_WORK
    await store.aclose()


class _CutOff:
    """A store that is away from its n-th transaction on."""

    def __init__(self, store: Store, at: int) -> None:
        self._store, self._left = store, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, keys: Any, step: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Permanent("ledger_forbidden", "cut off")
        return await self._store.transact(keys, step)


# Newer than this version


async def test_a_ledger_of_a_newer_version_stops_this_one_and_it_says_so(store: Store) -> None:
    """A rollback: nothing is admitted, committed, frozen or shown as if it were known."""
    w = world(store=store, mode=Mode.ENFORCE)
    newer = {"schema": SCHEMA + 1, "frozen": {"in": "another shape"}}
    await store.transact([FLEET], lambda _: ({FLEET: Document(newer)}, None))
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == (Result.DEFERRED, "ledger_schema")
    assert "use the newer logmend" in outcome.detail
    for call in (w.controls.fleet(), w.controls.freeze(Freeze("ann", w.clock.now()))):
        with pytest.raises(Permanent, match="use the newer logmend"):
            await call


async def test_a_ledger_that_gets_newer_during_an_attempt_stops_it_at_the_commit(store: Store) -> None:
    """Deferred, not failed: that says nothing of the VM."""
    w = world(store=store, mode=Mode.ENFORCE)
    newer: dict[Key, Document | None] = {FLEET: Document({"schema": SCHEMA + 1})}

    real = w.journal.commit

    async def later(*args: Any, **more: Any) -> Any:
        await store.transact([FLEET], lambda _: (newer, None))
        return await real(*args, **more)

    w.journal.commit = later  # type: ignore[method-assign]
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == (Result.DEFERRED, "ledger_schema")
    assert w.fleet.vms[REF.instance_id].enforcements == 0


# Fields that a later revision adds


async def test_a_field_that_is_not_known_yet_is_kept_by_whoever_writes_the_document(store: Store) -> None:
    """Two revisions of one schema share a ledger: the older does not lose what the newer remembers."""
    w = world(store=store, mode=Mode.ENFORCE)
    key = subject_key(vm(1), RUNBOOK)
    w.fleet.add(vm(1))
    await line(w, 1)
    for each in (key, FLEET, ("intents", "m-81")):
        found = (await store.get([each]))[each]
        added = Document(dict(found.data) | {"later": {"n": 1}}, found.queue, found.due, found.expire_at)
        changed: dict[Key, Document | None] = {each: added}
        await store.transact([each], lambda _, changed=changed: (changed, None))  # type: ignore[misc]
    await w.controls.freeze(Freeze("ann", w.clock.now()))
    await w.controls.resume_instance(vm(1), RUNBOOK, ANN)
    await w.controls.resume(ANN)
    w.clock.tick(days=2)
    await line(w, 1, "99")
    await w.journal.write((await w.journal.record("m-81")).intent, w.clock.now())  # type: ignore[union-attr]
    for each in (key, FLEET, ("intents", "m-81")):
        assert (await store.get([each]))[each].data["later"] == {"n": 1}, each


def test_every_field_of_a_stored_value_has_a_default_but_for_those_of_the_first_schema() -> None:
    """So that what is stored without it can be read: the reason why another field needs no other schema."""
    required = {
        kind.__name__: {each.name for each in msgspec.structs.fields(kind) if each.required}
        for kind in (Record, Subject, Fleet, Approval)
    }
    assert required == {
        "Record": {"intent", "state"},
        "Subject": {"instance", "runbook"},
        "Fleet": set(),
        "Approval": {"approval_id", "intent", "before", "created_at", "expires_at"},
    }
    assert pack(Fleet()).keys() == {each.name for each in msgspec.structs.fields(Fleet)} - {"unknown"}
