"""Migrate a ledger to this version's schema while instances of the previous version may still be running.

Schema 1 (until 2026-11-28) kept the time of each reservation in ``budgets``. Since schema 2, places in
``places`` are held until the work is over.

1. Stamp the fleet's switches. Every instance reads them in the transaction that admits or commits an intent,
   and an instance of schema 1 cannot read the stamped ones (Firestore; in SQLite its tables are gone). From
   then on it fails closed and makes no more reservations in ``budgets``.
2. Carry over reservations and work that may be running. If an instance is killed here, the next one that
   wants to admit an intent carries on.
3. Record that the ledger has schema 2. Only now do instances of this version admit or commit.

Several instances may take a step at once, or take it twice: at worst, a place is held for longer.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from logmend.errors import Permanent
from logmend.ledger.documents import FLEET, every, fleet_of, intent_key, pack, shard_key, unpack
from logmend.ledger.places import Out, Shard, budget_document, shards
from logmend.ledger.queues import Queues
from logmend.model.enums import Action
from logmend.model.state import SCHEMA, Record, State
from logmend.model.struct import replace
from logmend.ports import Document, Key, Store
from logmend.settings import Budget

EVERY = 100_000
"""The most items of one work list that are carried over."""
PAGE = 100
RESERVED = timedelta(minutes=10)
"""How long after its reservation an attempt of schema 1 may be running: the default length of its lease."""


async def migrate(store: Store, now: datetime, budgets: Mapping[str, Budget]) -> None:
    """Migrate the ledger to :data:`~logmend.model.state.SCHEMA`; ``ledger_schema`` if it is newer.

    ``budgets`` holds each runbook's budget by the runbook's name.
    """
    if await _stamped(store, None) >= SCHEMA:
        return
    places: defaultdict[str, dict[str, Out]] = defaultdict(dict)
    reservations = await _reservations(store)
    for name, times in reservations.items():
        reserved = {each: datetime.fromisoformat(at[0]) for each, at in times.items()}
        places[name.rpartition("~")[0]] |= {each: Out(at, at + RESERVED) for each, at in reserved.items()}
    at_work = await _at_work(store, now)
    for record in at_work:
        places[record.intent.runbook][record.intent.intent_id] = Out(now, None)
    for runbook, held in places.items():
        await _hold(store, runbook, held, shards(budgets[runbook]) if runbook in budgets else 1)
    for name in reservations:
        await _write(store, {("budgets", name): None})
    await _stamped(store, SCHEMA)


async def _stamped(store: Store, schema: int | None) -> int:
    """Write the fleet's switches in this version's form, with ``schema`` if given; return their schema."""

    def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], int]:
        fleet = fleet_of(found)
        stamped = replace(fleet, schema=max(schema or 1, fleet.schema))
        done = fleet.schema >= SCHEMA
        return ({} if done else {FLEET: Document(pack(stamped))}), stamped.schema

    return await store.transact([FLEET], step)


async def _reservations(store: Store) -> dict[str, Mapping[str, list[str]]]:
    """Return every document of schema 1's budgets, by its name."""
    return {name: document.data async for (_, name), document in every(store, "budgets", PAGE)}


async def _at_work(store: Store, now: datetime) -> list[Record]:
    """Return the intents that may be changing a VM now: those requested, and those with a lease."""
    queues, later = Queues(store), now + timedelta(days=3650)
    asked = await queues.requested(later, EVERY, _left)
    leased = [each.lease for each in await queues.expired(later, EVERY, _left) if each.lease]
    found = await _records(store, [lease.intent_id for lease in leased])
    out = [each for each in asked if each.asked is not Action.CHECK]
    out += [each for each in found.values() if each.state is not State.DONE]
    return [each for each in out if each.committed]


async def _records(store: Store, intent_ids: list[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for start in range(0, len(intent_ids), PAGE):
        documents = await store.get([intent_key(each) for each in intent_ids[start : start + PAGE]])
        for document in documents.values():
            try:
                record = unpack(Record, document)
            except Permanent:
                continue  # reported when it is taken up
            found[record.intent.intent_id] = record
    return found


def _left(name: str, error: Permanent) -> None:
    """Skip a document that cannot be read; it is reported when it is taken up."""


async def _hold(store: Store, runbook: str, held: Mapping[str, Out], count: int) -> None:
    """Put each place into the emptiest document of the budget, and note in the record which one that is.

    If as many places are held as the budget has, all documents end up full, because earlier documents never
    have less room than later ones.
    """
    spread: list[dict[str, Out]] = [{} for _ in range(count)]
    for name, place in sorted(held.items(), key=lambda item: (item[1].since, item[0])):
        min(spread, key=len)[name] = place
    for number, added in enumerate(spread):
        key = shard_key("places", runbook, number)

        def step(
            found: Mapping[Key, Document], key: Key = key, added: Mapping[str, Out] = added
        ) -> tuple[dict[Key, Document | None], None]:
            shard = unpack(Shard, found[key]) if key in found else Shard()
            shard = replace(shard, out=dict(added) | dict(shard.out))
            return {key: budget_document(shard)}, None

        if added:
            await store.transact([key], step)
        for record in (await _records(store, list(added))).values():
            if record.state is not State.DONE:
                await _place(store, record.intent.intent_id, number)


async def _place(store: Store, intent_id: str, number: int) -> None:
    key = intent_key(intent_id)

    def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
        if key not in found:
            return {}, None
        record = replace(unpack(Record, found[key]), place=number)
        return {key: replace(found[key], data=pack(record))}, None

    await store.transact([key], step)


async def _write(store: Store, writes: Mapping[Key, Document | None]) -> None:
    await store.transact(list(writes), lambda _: (writes, None))
