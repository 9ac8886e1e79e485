"""The journal of intents: admit one under a lease, commit it to enforcing, conclude it.

Guarantees, each by one transaction over the intent, its subject and the fleet:

* an intent is admitted by at most one attempt at a time; a later attempt has a higher fence;
* only the attempt that holds the highest fence can commit or conclude (:class:`~logmend.errors.Superseded`
  for every other), and only before its lease has run out can it commit;
* what was committed (``before``, and that enforcement may have begun) is durable before anything is enforced;
* an intent that was committed has its place in the budget until its work is over and a window has passed
  (:mod:`logmend.ledger.places`).

Not guaranteed: that an attempt whose lease has run out has stopped working on the VM. There ``flock`` and
the scripts' second check stand between it and a second change.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from types import MappingProxyType

from logmend.errors import Permanent, Transient
from logmend.ledger import changes, contacts, places, repeats
from logmend.ledger.changes import Judge
from logmend.ledger.documents import (
    FLEET,
    KEEP,
    SHARDS,
    approval_key,
    claim_key,
    contact_key,
    decided,
    event_key,
    intent_key,
    pack,
    recent,
    shard_key,
    shard_of,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.migrate import migrate
from logmend.ledger.places import Shard, Work, budget_document
from logmend.ledger.upkeep import Documents, Upkeep
from logmend.model.enums import Action, Origin, Result
from logmend.model.state import (
    Admission,
    Admitted,
    Approval,
    By,
    Expired,
    Finished,
    Lease,
    Record,
    State,
    Subject,
    Turned,
    View,
)
from logmend.model.struct import Struct, replace
from logmend.model.values import Attempt, Evidence, InstanceRef, Intent, Outcome, Verdict
from logmend.outcome.reasons import ABOUT, About
from logmend.ports import Document, Key, Step, Store
from logmend.settings import Budget, Settings
from logmend.stages.decide import Cohort, gone
from logmend.stages.outcomes import of_intent

SAMPLES = 250
"""VMs of which one such document keeps a sample, the latest ones: a storm must not make it grow for ever."""

Compose = Callable[[Verdict, View], Outcome]


class Conclusion(Struct, frozen=True):
    """What an attempt leaves behind: its outcome, when to come back if it is not final, and side effects.

    ``aftermath`` makes the new subject of the old one; ``asked`` is what an agent was asked to do,
    ``reported`` what it reported of it so far; ``failing`` is the breaker's sample of the VM (None: no
    sample); ``approval`` and ``follow_up`` are written in the same transaction; ``work`` is what became of
    the enforcement that it committed itself to, and ``longest`` how long that may go on unseen.
    ``busy_since`` is since when the VM is busy; ``uncommitted`` takes the commit back, since the VM's own
    word is that nothing was changed.
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


class Journal(Upkeep):
    """Intents, leases, budgets and samples in a store.

    Holds no state of its own but which budgets it found full, so as not to ask for them again and again, and
    where the attempts in hand have their places.
    """

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
        self._full: dict[str, datetime] = {}
        self._places: dict[str, list[Key]] = {}
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
        """Take an intent's lease on its VM or journal why not, in one transaction.

        ``resume`` is the tick's: it takes up what a redelivery of the message would only emit again.
        What was counted on its ``day`` by an earlier delivery stays counted. If ``counting``, what only says
        again what was recorded is counted there, instead of being journalled.
        ``judge`` and ``compose`` are pure and may be called more than once; it is ``judge`` that sees a
        live lease.
        """
        mine = intent_key(intent.intent_id)
        subject_at = subject_key(intent.instance, intent.runbook)
        told = intent.origin is Origin.INCIDENT and intent.replay_of is None  # a replay is told on purpose
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
                return {}, Turned(outcome)  # in hand elsewhere: the record is the holder's to write
            outcome, said_before = changes.said_again(record.outcome, outcome)
            state = changes.STATES.get(outcome.result, State.DONE)
            turned = replace(record, state=state, outcome=outcome, busy_since=None)
            due = verdict.not_before or now if verdict.result is Result.PARKED else None
            writes: dict[Key, Document | None] = {
                # A message that was acknowledged (the tick takes it up) is not delivered again to emit it.
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

    async def commit(
        self,
        held: Admitted,
        before: Evidence | None,
        judge: Judge,
        budget: Budget,
        full: Verdict,
        now: datetime,
        *,
        mark: str | None = None,
        detached: timedelta = timedelta(),
        cohorts: Sequence[Cohort] = (),
    ) -> Verdict | None:
        """Pass the commit point: the fence, ``judge`` once more, a place, ``before`` and ``mark`` kept.

        None: it is committed; otherwise nothing is written. A full budget gives ``full``, and is remembered.
        The limits of ``cohorts`` are budgets as well: a place is taken in all of them or in none.
        Without ``before`` the work is an agent's, whose end only its outcome tells; a script's is over when
        the lease has run out at the latest, and what it left ``detached`` so much later. A ledger that cannot
        be read here says nothing of the VM: that is transient.
        """
        intent = held.record.intent
        until = None if before is None else held.lease.expires_at + detached
        frees = budget.retry_at(now)
        for shard in self._probed(held.record, budget):
            try:
                wanted = changes.places_wanted(intent, budget, shard, cohorts)
                answer = await self._store.transact(
                    self._keys(intent, FLEET, *(each.key for each in wanted)),
                    changes.committing(held, before, judge, wanted, shard, until, mark, now),
                )
            except Permanent as error:
                raise Transient(error.reason, error.detail) from error
            if isinstance(answer, changes.Full):
                frees = min(frees, answer.frees or frees)
                if answer.cohort is not None:
                    if answer.cohort.budget.count:  # no place at all: of this VM alone
                        self._full[f"{intent.runbook} {answer.cohort.name}"] = frees
                    return answer.cohort.full
                continue
            if answer is None:
                if not intent.puts_back:
                    self._full.pop(intent.runbook, None)
                self._places[intent.intent_id] = [each.key for each in wanted]
            return answer
        if not intent.puts_back:
            self._full[intent.runbook] = frees
        return full

    async def read_ahead(self, held: Admitted, budget: Budget, cohorts: Iterable[str]) -> None:
        """Let the store read what a commit will ask for, as far as that is known; ``cohorts`` are names."""
        intent, shard = held.record.intent, self._probed(held.record, budget)[0]
        beside = [changes.cohort_key(intent, name) for name in cohorts]
        await self._store.read_ahead(self._keys(intent, FLEET, changes.place_key(intent, shard), *beside))

    @staticmethod
    def _probed(record: Record, budget: Budget) -> list[int]:
        """Name the documents of the budget that are asked for a place; first the one that has it already."""
        count = places.shards(budget)
        first = shard_of(record.intent.intent_id, count)
        probed = [(first + offset) % count for offset in range(min(count, places.PROBES))]
        return probed if record.place is None else list(dict.fromkeys([record.place, *probed]))

    @staticmethod
    def _keys(intent: Intent, *more: Key) -> list[Key]:
        return [intent_key(intent.intent_id), subject_key(intent.instance, intent.runbook), *more]

    def full_until(self, runbook: str, cohort: str | None = None) -> datetime | None:
        """Return until when a budget is full, as far as this process has seen; None: never seen.

        It is the runbook's own, or that of a cohort by its name.
        """
        return self._full.get(runbook if cohort is None else f"{runbook} {cohort}")

    async def conclude(self, held: Admitted, conclusion: Conclusion, now: datetime) -> None:
        """Journal an attempt's outcome and give the VM back. ``Superseded`` if a newer attempt holds it."""
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

    async def _originals(self, intent: Intent) -> list[Key]:
        """Name the records of messages that an intent may be the replay of: by the id given, by the event."""
        if intent.replay_of is None:
            return []
        event_at = event_key(intent)
        known = (await self._store.get([event_at])).get(event_at)
        return changes.originals(intent, str(known.data["intent_id"]) if known else None)

    def _places_of(self, record: Record) -> list[Key]:
        """Name the documents that an intent has a place in; none if it never committed."""
        kept = [] if record.place is None else [changes.place_key(record.intent, record.place)]
        kept += [changes.cohort_key(record.intent, name) for name in record.cohorts]
        return list(dict.fromkeys([*self._places.get(record.intent.intent_id, []), *kept]))

    async def _wake(self, instance: InstanceRef, runbook: str, now: datetime) -> None:
        """Let what waits for a VM be taken up now; if the ledger is silent, it wakes at its own time."""
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
        """Give a VM back with its intent where it stood before, to be checked again at ``due``.

        ``reported`` is what an agent reported of it meanwhile.
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

    async def note_emitted(self, outcome: Outcome, now: datetime, *, done: bool = True) -> None:
        """Take a journalled outcome off the list of what still has to be emitted; not ``done``: put it there.

        Nothing is listed that the ledger does not keep as the outcome of an intent.
        """
        if outcome.intent_id is None:
            return
        mine = intent_key(outcome.intent_id)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], None]:
            document = documents.get(mine)
            if document is None or document.queue != ("unemitted" if done else None):
                return {}, None
            if done:
                return {mine: replace(document, queue=None, due=None)}, None
            record = unpack(Record, document)
            kept = record.outcome is not None and record.outcome.outcome_id == outcome.outcome_id
            return {mine: changes.filed(record, None, now, emitted=False)} if kept else {}, None

        await self._store.transact([mine], step)

    async def write(self, intent: Intent, now: datetime) -> bool:
        """Put an operator's intent in the ledger for the tick. False if that id is there already."""
        mine = intent_key(intent.intent_id)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            return ({}, False) if mine in documents else ({mine: changes.parked(intent, now)}, True)

        return await self._store.transact([mine], step)

    async def cancel(self, intent_id: str, by: By, settings: Settings) -> Outcome:
        """End an intent that waits and was not begun, with its outcome; an approval is withdrawn with it.

        ``Permanent`` says why not: there is none, or it is in hand or done.
        """
        mine, known = intent_key(intent_id), await self.record(intent_id)
        plan = known.intent.approval_id if known else None
        plan_at = approval_key(plan) if plan else None

        def step(found: Documents) -> tuple[dict[Key, Document | None], Outcome]:
            if mine not in found:
                raise Permanent("no_such_order", f"there is no {intent_id}")
            record = unpack(Record, found[mine])
            if record.state not in (State.PARKED, State.WAITING) or record.committed or record.asked:
                raise Permanent("order_in_hand", f"{intent_id} is {record.state}")
            asked = f", ordered by {record.intent.requested_by}" if record.intent.requested_by else ""
            said = Verdict(Result.SKIPPED, "cancelled", f"by {by.who}{asked} {by.why}".strip())
            outcome = of_intent(record.intent, said, settings, by.at, number=record.attempt, prior=record)
            outcome = replace(outcome, requested_by=by.who, why=by.why)
            ended = replace(record, state=State.DONE, outcome=outcome)
            writes: dict[Key, Document | None] = {mine: changes.filed(ended, None, by.at, emitted=False)}
            writes |= changes.coming_back(record.intent, outcome, found, by.at)
            if plan_at and plan_at in found:
                writes[plan_at] = decided(unpack(Approval, found[plan_at]), "withdrawn", by.at, by.who)
            return writes, outcome

        after = changes.after_keys(known.intent) if known else []
        return await self._store.transact([mine, *([plan_at] if plan_at else []), *after], step)

    async def samples(self, runbook: str, window: timedelta, now: datetime) -> Mapping[str, bool]:
        """Return for each VM tried within ``window`` whether it failed, by its latest sample.

        Of more than :data:`SHARDS` times :data:`SAMPLES` VMs in a window the latest count.
        """
        keys = [shard_key("samples", runbook, shard) for shard in range(SHARDS)]
        documents = await self._store.get(keys)
        latest: dict[str, bool] = {}
        for document in documents.values():
            latest |= {vm: value[1] for vm, value in recent(document.data, window, now).items()}
        return latest
