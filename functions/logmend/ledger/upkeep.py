"""What the ledger needs now and then: orphans freed, VMs forgotten, places ended that nobody gives back."""

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
    """Looks after what attempts left; ``lease`` is how long what cannot be seen may still be at work."""

    def __init__(self, store: Store, lease: timedelta) -> None:
        self._store = store
        self._lease = lease

    async def record(self, intent_id: str) -> Record | None:
        """Read one intent's record."""
        documents = await self._store.get([intent_key(intent_id)])
        return unpack(Record, documents[intent_key(intent_id)]) if documents else None

    async def free(self, instance: InstanceRef, runbook: str, now: datetime) -> str | None:
        """Free a VM of a lease that has run out and whose intent is gone; say which it was."""
        return await damage.free(self._store, subject_key(instance, runbook), expired_by=now)

    async def forget(self, subject: Subject) -> bool:
        """Remove what is remembered of a VM that Compute no longer knows; False if it was written anew."""
        key, contact_at = subject_key(subject.instance, subject.runbook), contact_key(subject.instance)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            same = _is(subject, key, documents)
            return ({key: None, **contacts.without(documents, subject.instance)} if same else {}), same

        return await self._store.transact([key, contact_at], step)

    async def keep(self, subject: Subject, now: datetime) -> None:
        """Ask Compute again in a month for a VM that it still knows."""
        key = subject_key(subject.instance, subject.runbook)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], None]:
            return ({key: subject_document(subject, now)} if _is(subject, key, documents) else {}), None

        await self._store.transact([key], step)

    async def last_failure(self, runbook: str) -> datetime | None:
        """Return when a VM failed last, as far as the breaker's samples go."""
        documents = await self._store.get([shard_key("samples", runbook, shard) for shard in range(SHARDS)])
        failed = [at for each in documents.values() for at, failing in each.data.values() if failing]
        return max(map(datetime.fromisoformat, failed), default=None)

    async def left_behind(
        self, now: datetime, patience: timedelta, unreadable: Unreadable
    ) -> Sequence[Record]:
        """Look after places that are held for longer than ``patience`` until their intent's end.

        Returns the intents that would not be taken up otherwise: their message was given up. The place of an
        intent that is at its end, or that nobody can read, is held for one lease more, and then counted.
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
