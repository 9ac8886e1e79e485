"""A ledger with an intent in every state, as this version writes it: ``python -m tests.ledger_fixture``.

Kept as ``tests/fixtures/ledger/schema-N.json`` for each released schema *before* the next one is made, so
that what is migrated is what was really written. Loaded into each store by ``tests/contract/old_ledgers.py``.
"""

import asyncio
import json
from datetime import datetime
from typing import Any

from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Transient
from logmend.model.enums import Action, Mode, Origin
from logmend.model.state import Breaker, Freeze
from logmend.model.values import InstanceRef, Intent, Source
from logmend.settings import ExecutorChoice
from tests.fakes import (
    ANN,
    REF,
    FakeAgentFleet,
    FakeFleet,
    ManualClock,
    World,
    entry,
    evidence,
    incident,
    push,
)
from tests.fakes import world as fake_world

RUNBOOK = "workload-cert-refresh"
AGENT = {"metadata": {"enable-osconfig": "TRUE"}, "service_account": "vm@example.com"}
COLLECTIONS = ("approvals", "budgets", "claims", "controls", "intents", "samples", "subjects")


def vm(number: int) -> InstanceRef:
    """Give one of the fixture's VMs, by what happens to it below."""
    return InstanceRef(REF.project_id, REF.zone, str(1000 + number))


(REMEDIATED, UNEMITTED, PARKED, LEASED, HELD, REQUESTED, UNVERIFIED, NEEDS_HUMAN, PLANNED, ADMITTED, WAITING,
 FROZEN, OUT_LONG) = range(1, 14)  # fmt: skip


async def _line(w: World, number: int) -> None:
    await w.deliver(push(entry(vm(number), at=w.clock.now()), f"70{number}", at=w.clock.now()))


async def _order(w: World, number: int, action: Action) -> None:
    intent = Intent(
        f"o-{action}-{number}", RUNBOOK, action, vm(number), Origin.OPERATOR, Source("operator"),
        w.clock.now(), requested_by="sre",
    )  # fmt: skip
    await w.pipeline.work(intent)


async def fill(store: MemoryStore) -> datetime:
    """Let one of everything happen; give the time at its end."""
    clock = ManualClock()
    fleet = FakeFleet(clock)
    enforce: dict[str, Any] = {"mode": Mode.ENFORCE, "store": store, "clock": clock}
    for number in range(1, 14):
        fleet.add(vm(number))
    w = fake_world(fleet=fleet, **enforce)
    agents = FakeAgentFleet(clock)
    for number in (REQUESTED, OUT_LONG):
        agents.add(vm(number), **AGENT)
    by_agent = fake_world(fleet=agents, executor=ExecutorChoice.OSCONFIG, owner="two", **enforce)

    await _line(by_agent, OUT_LONG)
    clock.tick(minutes=20)
    fleet.vms[vm(NEEDS_HUMAN).instance_id].fix_works = False
    for _ in range(3):
        await _order(w, NEEDS_HUMAN, Action.ENFORCE)
        clock.tick(seconds=1)
        await w.store.transact(
            [("intents", "o-enforce-8")], lambda _: ({("intents", "o-enforce-8"): None}, None)
        )
    await _line(w, REMEDIATED)
    w.outcomes.on_write = [Transient("outcome_log_unavailable")]
    await _line(w, UNEMITTED)
    await _line(w, HELD)
    clock.tick(seconds=1)
    await _order(w, HELD, Action.REVERT)
    await _line(by_agent, REQUESTED)
    fleet.vms[vm(UNVERIFIED).instance_id].on_check = [
        evidence(101, clock.now(), vm(UNVERIFIED).instance_id),
        evidence(1),
    ]
    await _line(w, UNVERIFIED)
    fleet.on_open = [Transient("unreachable")]
    await _line(w, WAITING)
    approving = fake_world(fleet=fleet, **(enforce | {"mode": Mode.APPROVE}))
    await approving.deliver(push(incident(vm(PLANNED), incident_id="inc-9"), "709", at=clock.now()))
    await w.controls.freeze_instance(vm(FROZEN), RUNBOOK, Freeze("ann", clock.now(), "by hand"))
    await w.controls.freeze(Freeze("ann", clock.now(), "release"), runbook="ops-agent")
    await w.controls.open_breaker("ops-agent", Breaker(clock.now(), 5, 6))
    await w.controls.freeze(Freeze("ann", clock.now(), "storm"))
    await w.deliver(push(incident(vm(PARKED), incident_id="inc-3"), "703", at=clock.now()))
    await w.controls.resume(ANN)
    await w.controls.note_tick(clock.now())
    for number, point in ((LEASED, "on_enforce"), (ADMITTED, "on_check")):
        getattr(fleet.vms[vm(number).instance_id], point).append(asyncio.CancelledError())
        try:
            await _line(w, number)
        except asyncio.CancelledError:
            clock.tick(seconds=1)
    return clock.now()


async def dump() -> dict[str, Any]:
    """Give every document of that ledger, and the time at which it was left."""
    store = MemoryStore()
    now = await fill(store)
    found = []
    for collection in COLLECTIONS:
        for name, document in await store.scan(collection, None, 1000):
            times = {
                key: value.isoformat() if (value := getattr(document, key)) else None
                for key in ("due", "expire_at")
            }
            found.append(
                {"collection": collection, "id": name, "data": document.data, "queue": document.queue} | times
            )
    return {"now": now.isoformat(), "documents": found}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(dump()), indent=1, sort_keys=False))
