"""The end of an attempt: journal its outcome, release its VM and places, and wake the intents that wait."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from logmend.errors import Transient
from logmend.ledger import changes, contacts, places
from logmend.ledger.commit import Commits
from logmend.ledger.documents import (
    KEEP,
    SHARDS,
    approval_key,
    contact_key,
    intent_key,
    pack,
    recent,
    shard_key,
    shard_of,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.places import Shard, Work, budget_document
from logmend.ledger.upkeep import Documents
from logmend.model.enums import Action
from logmend.model.state import (
    Admitted,
    Approval,
    Record,
    State,
    Subject,
)
from logmend.model.struct import Struct, replace
from logmend.model.values import Attempt, InstanceRef, Intent, Outcome
from logmend.ports import Document, Key
from logmend.stages.decide import gone

SAMPLES = 250
"""How many VMs one document keeps samples of: the latest, so a storm cannot make it grow without limit."""


class Conclusion(Struct, frozen=True):
    """What an attempt leaves behind: its outcome, when to come back if it is not final, and side effects.

    ``aftermath`` turns the old subject into the new one. ``asked`` is what an agent was asked to do, and
    ``reported`` what it has reported so far. ``failing`` is the breaker's sample of the VM (None: no sample).
    ``approval`` and ``follow_up`` are written in the same transaction. ``work`` is what became of the
    committed enforcement, and ``longest`` how long it may go on unseen. ``busy_since`` is when the VM was
    first found busy. ``uncommitted`` undoes the commit, since the VM reported that nothing was changed.
    """

    outcome: Outcome
    aftermath: Callable[[Subject], Subject]
    due: datetime | None = None
    tries: int = 0
    looks: int = 0
    requested_at: datetime | None = None
    asked: Action | None = None
    reported: Attempt | None = None
    failing: bool | None = None
    approval: Approval | None = None
    follow_up: Intent | None = None
    work: Work = Work.UNKNOWN
    longest: timedelta = timedelta()
    watch: tuple[Intent, datetime] | None = None
    busy_since: datetime | None = None
    uncommitted: bool = False


class Conclusions(Commits):
    """Concludes attempts and keeps the breaker's samples."""

    async def conclude(self, held: Admitted, conclusion: Conclusion, now: datetime) -> None:
        """Journal an attempt's outcome and release the VM. ``Superseded`` if a newer attempt holds it."""
        intent, outcome = held.record.intent, conclusion.outcome
        mine, subject_at = intent_key(intent.intent_id), subject_key(intent.instance, intent.runbook)
        keys = [mine, subject_at]
        sample_at = None
        if conclusion.failing is not None:
            sample_at = shard_key("samples", intent.runbook, shard_of(str(intent.instance), SHARDS))
            keys.append(sample_at)
        keys += [approval_key(conclusion.approval.approval_id)] if conclusion.approval else []
        keys += [intent_key(conclusion.follow_up.intent_id)] if conclusion.follow_up else []
        places_at = self._places_of(held.record) if conclusion.work is not Work.OUT else []
        self._places.pop(intent.intent_id, None)
        keys += places_at
        keys += [intent_key(conclusion.watch[0].intent_id)] if conclusion.watch else []
        keys += [contact_key(intent.instance)] if gone(outcome) else []
        originals, again = await self._originals(intent), changes.coming_again(intent, outcome, now)
        keys += [*again, *originals, *changes.after_keys(intent)]

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            record, subject = changes.held_by(documents, mine, subject_at, held.lease, None)
            state = changes.STATES.get(outcome.result, State.DONE)
            concluded = replace(
                record,
                state=state,
                outcome=outcome,
                tries=conclusion.tries,
                looks=conclusion.looks,
                executor=outcome.executor or record.executor,
                requested_at=conclusion.requested_at or record.requested_at,
                asked=conclusion.asked or record.asked,
                busy_since=conclusion.busy_since,
            )
            if conclusion.uncommitted:
                concluded = replace(concluded, committed=False, before=None, mark=None, place=None)
            concluded = changes.with_report(concluded, conclusion.reported)
            after = replace(
                conclusion.aftermath(subject),
                lease=None,
                open_request=changes.request_out(subject, intent, state),
            )
            writes: dict[Key, Document | None] = {
                mine: changes.filed(concluded, conclusion.due, now, emitted=False),
                subject_at: None if changes.unknown(outcome, after) else subject_document(after, now),
            }
            if writes[subject_at] is None:
                writes |= contacts.without(documents, intent.instance)
            if sample_at:
                samples = dict(documents[sample_at].data) if sample_at in documents else {}
                samples.pop(str(intent.instance), None)  # the order of the keys is the samples' own
                samples[str(intent.instance)] = [now.isoformat(), conclusion.failing]
                latest = dict(list(samples.items())[-SAMPLES:])
                writes[sample_at] = Document(latest, expire_at=now + KEEP)
            if conclusion.approval:
                writes[approval_key(conclusion.approval.approval_id)] = Document(
                    pack(conclusion.approval),
                    queue="pending",
                    due=conclusion.approval.warn_at,
                    expire_at=conclusion.approval.expires_at + KEEP,
                )
            if conclusion.follow_up and intent_key(conclusion.follow_up.intent_id) not in documents:
                writes[intent_key(conclusion.follow_up.intent_id)] = changes.parked(conclusion.follow_up, now)
            for place_at in filter(documents.__contains__, places_at):
                shard = unpack(Shard, documents[place_at])
                shard = places.settle(shard, intent.intent_id, conclusion.work, conclusion.longest, now)
                writes[place_at] = budget_document(shard)
            if conclusion.watch and intent_key(conclusion.watch[0].intent_id) not in documents:
                writes[intent_key(conclusion.watch[0].intent_id)] = changes.parked(*conclusion.watch)
            writes |= again
            writes |= changes.coming_back(intent, outcome, documents, now)
            writes |= changes.replayed(intent, outcome, originals, documents, now)
            return writes, bool(after.waiting)

        if await self._store.transact(keys, step):
            await self._wake(intent.instance, intent.runbook, now)

    def _places_of(self, record: Record) -> list[Key]:
        """Return the keys of the documents in which an intent holds a place; empty if it never committed."""
        kept = [] if record.place is None else [changes.place_key(record.intent, record.place)]
        kept += [changes.cohort_key(record.intent, name) for name in record.cohorts]
        return list(dict.fromkeys([*self._places.get(record.intent.intent_id, []), *kept]))

    async def _wake(self, instance: InstanceRef, runbook: str, now: datetime) -> None:
        """Make intents that wait for a VM due now; if the ledger does not answer, their due time stays."""
        with suppress(Transient):
            await self._woken(subject_key(instance, runbook), instance, runbook, now)

    async def _woken(self, subject_at: Key, instance: InstanceRef, runbook: str, now: datetime) -> None:
        documents = await self._store.get([subject_at])
        waiting = changes.subject_of(documents, subject_at, instance, runbook).waiting

        def step(documents: Documents) -> tuple[dict[Key, Document | None], None]:
            subject = changes.subject_of(documents, subject_at, instance, runbook)
            left = tuple(each for each in subject.waiting if each not in waiting)
            writes: dict[Key, Document | None] = {}
            if (kept := documents.get(subject_at)) is not None:  # or it was forgotten meanwhile
                writes[subject_at] = replace(kept, data=pack(replace(subject, waiting=left)))
            for mine in map(intent_key, waiting):
                document = documents.get(mine)
                if document is not None and document.queue == State.PARKED.value:
                    writes[mine] = replace(document, due=min(document.due or now, now))
            return writes, None

        if waiting:
            await self._store.transact([subject_at, *map(intent_key, waiting)], step)

    async def postpone(self, held: Admitted, due: datetime, reported: Attempt | None = None) -> None:
        """Release a VM and return its intent to its earlier state, to be checked again at ``due``.

        ``reported`` is what an agent has reported meanwhile.
        """
        intent = held.record.intent
        mine, subject_at = intent_key(intent.intent_id), subject_key(intent.instance, intent.runbook)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            record, subject = changes.held_by(documents, mine, subject_at, held.lease, None)
            back = changes.with_report(replace(record, state=held.was or record.state), reported)
            return {
                mine: changes.filed(back, due, due, emitted=True),
                subject_at: subject_document(replace(subject, lease=None), due),
            }, bool(subject.waiting) and subject.open_request is None

        if await self._store.transact([mine, subject_at], step):
            await self._wake(intent.instance, intent.runbook, due)

    async def samples(self, runbook: str, window: timedelta, now: datetime) -> Mapping[str, bool]:
        """Return, for each VM tried within ``window``, whether its latest sample is a failure.

        At most :data:`SHARDS` times :data:`SAMPLES` VMs are kept, the latest ones.
        """
        keys = [shard_key("samples", runbook, shard) for shard in range(SHARDS)]
        documents = await self._store.get(keys)
        latest: dict[str, bool] = {}
        for document in documents.values():
            latest |= {vm: value[1] for vm, value in recent(document.data, window, now).items()}
        return latest
