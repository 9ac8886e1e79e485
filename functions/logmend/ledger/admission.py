"""Admission: an intent takes the lease on its VM, or the journal records why not."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from logmend.ledger import changes, repeats
from logmend.ledger.changes import Judge
from logmend.ledger.documents import (
    FLEET,
    KEEP,
    claim_key,
    event_key,
    intent_key,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.migrate import migrate
from logmend.ledger.upkeep import Documents, Upkeep
from logmend.model.enums import Origin, Result
from logmend.model.state import (
    Admission,
    Admitted,
    Expired,
    Finished,
    Lease,
    Record,
    State,
    Turned,
    View,
)
from logmend.model.struct import replace
from logmend.model.values import Intent, Outcome, Verdict
from logmend.outcome.reasons import ABOUT, About
from logmend.ports import Document, Key, Step, Store
from logmend.settings import Budget

Compose = Callable[[Verdict, View], Outcome]


class Admissions(Upkeep):
    """Admits intents to their VMs. If the store has an older schema, it is migrated first."""

    def __init__(
        self,
        store: Store,
        *,
        owner: str,
        lease: timedelta,
        budgets: Mapping[str, Budget] = MappingProxyType({}),
    ) -> None:
        super().__init__(store, lease)
        self.owner = owner
        self._budgets = budgets
        self.counts = repeats.Counts(store)

    async def admit(
        self,
        intent: Intent,
        judge: Judge,
        compose: Compose,
        now: datetime,
        *,
        resume: bool = False,
        day: repeats.Day | None = None,
        counting: bool = False,
    ) -> Admission:
        """Take the lease on an intent's VM, or journal why not, in one transaction.

        The tick sets ``resume`` to take up intents whose outcome a redelivered message would only emit again.
        An event that an earlier delivery counted on its ``day`` stays counted. If ``counting``, an event
        that only repeats what was recorded is counted there and not journalled.
        ``judge`` and ``compose`` are pure and may be called more than once; ``judge`` also rules on a live
        lease.
        """
        mine = intent_key(intent.intent_id)
        subject_at = subject_key(intent.instance, intent.runbook)
        told = intent.origin is Origin.INCIDENT and intent.replay_of is None  # a replay is sent on purpose
        claim = intent.source.incident_id if told else None
        claim_at = claim_key(claim, intent.runbook, intent.instance) if claim else None
        claimed = Document({"intent_id": intent.intent_id}, expire_at=now + KEEP)
        originals = await self._originals(intent)
        keys = [mine, subject_at, FLEET, *([claim_at] if claim_at else []), *originals]
        keys += [*changes.after_keys(intent), *([day.key] if day else [])]

        def step(documents: Documents) -> tuple[dict[Key, Document | None], Admission]:
            record = unpack(Record, documents[mine]) if mine in documents else None
            subject = changes.subject_of(documents, subject_at, intent.instance, intent.runbook)
            view = View(record, subject, changes.migrated(documents))
            if record is not None and changes.settled(record, resume=resume):
                freed = changes.without_lease(subject, intent)
                return ({} if freed == subject else {subject_at: subject_document(freed, now)}), Finished(
                    record
                )
            if record is None and (known := repeats.met(documents, day, intent.intent_id)) is not None:
                return {}, Turned(compose(known, view), counted=True)
            if (verdict := changes.claimed(documents, claim_at, intent) or judge(view)) is not None:
                return _turn(view, verdict, documents)
            lease = subject.lease
            if lease is not None and lease.intent_id != intent.intent_id:
                return {}, Expired(lease.intent_id)  # a live one was judged above
            was = record.state if record else None
            taken = Lease(self.owner, subject.fence + 1, intent.intent_id, now + self._lease)
            started = replace(
                record or Record(intent, State.RUNNING),
                state=State.RUNNING,
                attempt=(record.attempt if record else 0) + 1,
            )
            after = replace(subject, fence=taken.fence, lease=taken)
            writes: dict[Key, Document | None] = {
                mine: changes.opened(started),
                subject_at: subject_document(after, now),
            }
            if claim_at:
                writes[claim_at] = claimed
            return writes, Admitted(taken, started, after, was, interrupted=lease)

        def _turn(
            view: View, verdict: Verdict, documents: Documents
        ) -> tuple[dict[Key, Document | None], Admission]:
            outcome = compose(verdict, view)
            record = view.record or Record(intent, State.WAITING)
            if outcome.result is Result.DEFERRED and view.record is not None:
                return {}, Turned(outcome)  # in hand elsewhere: only its holder may write the record
            outcome, said_before = changes.said_again(record.outcome, outcome)
            state = changes.STATES.get(outcome.result, State.DONE)
            turned = replace(record, state=state, outcome=outcome, busy_since=None)
            due = verdict.not_before or now if verdict.result is Result.PARKED else None
            writes: dict[Key, Document | None] = {
                # An acknowledged message (the tick's) is not redelivered, so the outcome has to be listed.
                mine: changes.filed(turned, due, now, emitted=intent.message_id is not None and not resume)
            }
            of_event = ABOUT.get(outcome.reason or "") is About.EVENT  # a forgery claims no incident
            if claim_at and claim_at not in documents and not of_event:
                writes[claim_at] = claimed
            after = changes.turned_away(view.subject, intent, outcome, turned.state)
            if after != view.subject:
                writes[subject_at] = subject_document(after, now)
            writes |= changes.coming_back(intent, outcome, documents, now)
            writes |= changes.replayed(intent, outcome, originals, documents, now)
            if day is not None and counting and repeats.countable(outcome, view.record):
                said = repeats.Said(day, turned, outcome, view.subject.fence, now)
                return writes, Turned(outcome, counted=repeats.noted(documents, said, writes, keys))
            return writes, Turned(outcome, said_before)

        try:
            return await self._admission(keys, step, now)
        except repeats.Unread:
            assert day is not None
            keys.append(day.before.key)
            return await self._admission(keys, step, now)

    async def _admission(self, keys: Sequence[Key], step: Step[Admission], now: datetime) -> Admission:
        try:
            return await self._store.transact(keys, step)
        except changes.Older:
            await migrate(self._store, now, self._budgets)
            return await self._store.transact(keys, step)

    async def _originals(self, intent: Intent) -> list[Key]:
        """Return the keys of records that an intent may replay: by the given message id and by the event."""
        if intent.replay_of is None:
            return []
        event_at = event_key(intent)
        known = (await self._store.get([event_at])).get(event_at)
        return changes.originals(intent, str(known.data["intent_id"]) if known else None)
