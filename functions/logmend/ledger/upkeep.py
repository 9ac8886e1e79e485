"""Periodic upkeep of the ledger: free orphaned leases, forget VMs, settle places that were never returned."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from logmend.errors import Permanent
from logmend.ledger import contacts, damage, places
from logmend.ledger.documents import (
    SHARDS,
    contact_key,
    intent_key,
    shard_key,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.places import Shard, Work, budget_document
from logmend.ledger.queues import Queues, Unreadable
from logmend.model.state import Record, State, Subject
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key, Store

Documents = Mapping[Key, Document]


def _is(subject: Subject, key: Key, documents: Documents) -> bool:
    return key in documents and unpack(Subject, documents[key]) == subject


class Upkeep:
    """Cleans up after attempts; ``lease`` is how long unseen work may still be going on."""

    def __init__(self, store: Store, lease: timedelta) -> None:
        self._store = store
        self._lease = lease

    async def record(self, intent_id: str) -> Record | None:
        """Return one intent's record; None if there is none."""
        documents = await self._store.get([intent_key(intent_id)])
        return unpack(Record, documents[intent_key(intent_id)]) if documents else None

    async def free(self, instance: InstanceRef, runbook: str, now: datetime) -> str | None:
        """Free a VM from a lease that has run out and whose intent is gone; return which one."""
        return await damage.free(self._store, subject_key(instance, runbook), expired_by=now)

    async def forget(self, subject: Subject) -> bool:
        """Remove what is remembered about a VM that Compute no longer knows; False if that has changed."""
        key, contact_at = subject_key(subject.instance, subject.runbook), contact_key(subject.instance)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            same = _is(subject, key, documents)
            return ({key: None, **contacts.without(documents, subject.instance)} if same else {}), same

        return await self._store.transact([key, contact_at], step)

    async def keep(self, subject: Subject, now: datetime) -> None:
        """Schedule the next Compute lookup for a VM that still exists."""
        key = subject_key(subject.instance, subject.runbook)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], None]:
            return ({key: subject_document(subject, now)} if _is(subject, key, documents) else {}), None

        await self._store.transact([key], step)

    async def last_failure(self, runbook: str) -> datetime | None:
        """Return when a VM last failed, according to the breaker's samples."""
        documents = await self._store.get([shard_key("samples", runbook, shard) for shard in range(SHARDS)])
        failed = [at for each in documents.values() for at, failing in each.data.values() if failing]
        return max(map(datetime.fromisoformat, failed), default=None)

    async def left_behind(
        self, now: datetime, patience: timedelta, unreadable: Unreadable
    ) -> Sequence[Record]:
        """Look after places without a known end that have been held for longer than ``patience``.

        Return the intents that nothing else would take up, because their message was given up. If an intent
        is done, missing or unreadable, its place is held for one more lease and then counted.
        """
        waiting = []
        async for key, shard in Queues(self._store).places(unreadable):
            stuck = [each for each, out in shard.out.items() if not out.until and out.since + patience <= now]
            for intent_id in stuck:
                try:
                    record = await self.record(intent_id)
                except Permanent as error:
                    if error.reason != "ledger_corrupt":
                        raise
                    record = None
                if record is not None and record.state is State.WAITING:
                    waiting.append(record)
                elif record is None or record.state is State.DONE:
                    await self._settle(key, intent_id, now)
        return waiting

    async def _settle(self, key: Key, intent_id: str, now: datetime) -> None:
        def step(documents: Documents) -> tuple[dict[Key, Document | None], None]:
            if key not in documents:
                return {}, None
            shard = unpack(Shard, documents[key])
            return {
                key: budget_document(places.settle(shard, intent_id, Work.UNKNOWN, self._lease, now))
            }, None

        await self._store.transact([key], step)
