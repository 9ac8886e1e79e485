"""Find damage in a ledger, document by document, and repair what can be repaired.

Normally none of this is needed: an orphaned lease is freed when it is next met, and a place by the tick. A
document that cannot be read is never repaired, because it may be a hold.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

from logmend.errors import Permanent
from logmend.ledger import places
from logmend.ledger.documents import every, intent_key, subject_document, unpack
from logmend.ledger.places import Shard, Work
from logmend.model.state import Record, Repeats, Subject
from logmend.model.struct import Struct, replace
from logmend.ports import Document, Key, Store

LISTS: tuple[tuple[str, str, type[Record | Repeats]], ...] = (
    *(("intents", each, Record) for each in ("parked", "requested", "unverified", "unemitted")),
    ("repeats", "counted", Repeats),
)


class Damage(Struct, frozen=True):
    """One damaged document: which, what is wrong, and whether it can be repaired."""

    where: str
    what: str
    repairable: bool


async def find(store: Store, now: datetime) -> AsyncIterator[Damage]:
    """Walk through subjects, budgets and work lists, and yield the damage."""
    async for key, document in every(store, "subjects"):
        try:
            subject = unpack(Subject, document)
        except Permanent as error:
            yield _unreadable(key, error)
            continue
        if subject.lease is None:
            continue
        if (why := await _gone(store, subject)) is not None:
            what = (
                f"its lease until {subject.lease.expires_at:%FT%TZ} is for {subject.lease.intent_id}, {why}"
            )
            yield Damage("/".join(key), what, repairable=True)
        elif document.queue != "leased":
            yield Damage("/".join(key), "its lease is not on a work list", repairable=True)
    async for key, document in every(store, "places"):
        try:
            shard = unpack(Shard, document)
        except Permanent as error:
            yield _unreadable(key, error)
            continue
        for intent_id, out in shard.out.items():
            if out.until is None and not await store.get([intent_key(intent_id)]):
                what = f"a place since {out.since:%FT%TZ} is for {intent_id}, which does not exist"
                yield Damage("/".join(key), what, repairable=True)
    for collection, queue, kind in LISTS:
        for name, document in await store.due(collection, queue, now + timedelta(days=3650), 10_000):
            try:
                unpack(kind, document)
            except Permanent as error:
                yield _unreadable((collection, name), error)


async def repair(store: Store, now: datetime, longest: timedelta) -> list[Damage]:
    """Repair what can be repaired and return it; ``longest`` is how long a place's work may still go on."""
    done = []
    async for damage in find(store, now):
        if damage.repairable:
            collection, _, name = damage.where.partition("/")
            if collection == "subjects":
                await free(store, (collection, name), lists=True)
            else:
                await _end(store, (collection, name), now, longest)
            done.append(damage)
    return done


async def free(
    store: Store, key: Key, *, expired_by: datetime | None = None, lists: bool = False
) -> str | None:
    """Free a VM from a lease whose intent is gone, and return which one.

    With ``expired_by``, a lease that runs out after that time is left alone. With ``lists``, an intact lease
    is put on the tick's work list.
    """
    documents = await store.get([key])
    subject = unpack(Subject, documents[key]) if documents else None
    if subject is None or subject.lease is None:
        return None
    lease, why = subject.lease, await _gone(store, subject)
    if why is None and not lists:
        return None

    def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], str | None]:
        held = unpack(Subject, documents[key]) if key in documents else None
        if held is None or held.lease != lease or (expired_by and lease.expires_at > expired_by):
            return {}, None
        if why is None:
            return {key: subject_document(held, now=lease.expires_at)}, None
        freed = subject_document(replace(held, lease=None), lease.expires_at)
        return {key: freed}, f"lease for {lease.intent_id}, {why}"

    return await store.transact([key], step)


async def _gone(store: Store, subject: Subject) -> str | None:
    """Return why the intent that a lease is for cannot be finished; None if it can."""
    assert subject.lease is not None
    key = intent_key(subject.lease.intent_id)
    documents = await store.get([key])
    if key not in documents:
        return "which does not exist"
    try:
        intent = unpack(Record, documents[key]).intent
    except Permanent as error:
        return f"which cannot be read: {error.detail}"
    if (intent.instance, intent.runbook) != (subject.instance, subject.runbook):
        return f"which is for {intent.instance} ({intent.runbook})"
    return None


async def _end(store: Store, key: Key, now: datetime, longest: timedelta) -> None:
    """Settle the places of a document whose intents do not exist."""
    read = await store.get([key])
    shard = unpack(Shard, read[key]) if read else Shard()
    lost = [
        each for each, out in shard.out.items() if not out.until and not await store.get([intent_key(each)])
    ]

    def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
        if key not in documents:
            return {}, None
        shard = unpack(Shard, documents[key])
        for intent_id in lost:
            shard = places.settle(shard, intent_id, Work.UNKNOWN, longest, now)
        return {key: places.budget_document(shard)}, None

    await store.transact([key], step)


def _unreadable(key: Key, error: Permanent) -> Damage:
    return Damage("/".join(key), f"it cannot be read: {error.detail}", repairable=False)
