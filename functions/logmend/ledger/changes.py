"""What an admission, a commit and a conclusion change in a record, a VM and a budget. Pure.

Each is a part of a transaction's step (:data:`logmend.ports.Step`) of :mod:`~logmend.ledger.admission`,
:mod:`~logmend.ledger.commit` or :mod:`~logmend.ledger.conclusion`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from logmend.errors import Superseded, Transient
from logmend.ledger import places
from logmend.ledger.documents import (
    KEEP,
    event_key,
    fleet_of,
    intent_key,
    pack,
    shard_key,
    subject_key,
    unpack,
)
from logmend.ledger.places import Shard, budget_document
from logmend.ledger.upkeep import Documents
from logmend.model.enums import Finding, Result
from logmend.model.state import (
    SCHEMA,
    Admitted,
    Fleet,
    Lease,
    Record,
    State,
    Subject,
    View,
)
from logmend.model.struct import Struct, replace
from logmend.model.values import Attempt, Evidence, InstanceRef, Intent, Outcome, Verdict
from logmend.ports import Document, Key
from logmend.settings import Budget
from logmend.stages.act import gives_way
from logmend.stages.decide import GROUP, Cohort, gone, superseding
from logmend.stages.intents import back, follow_up_id
from logmend.stages.outcomes import of_replayed

Judge = Callable[[View], Verdict | None]


class Older(Transient):
    """The ledger has an older schema and is to be migrated before the next try."""

    def __init__(self) -> None:
        super().__init__("ledger_schema", "it has an older schema")


STATES = {
    Result.PARKED: State.PARKED,
    Result.REQUESTED: State.REQUESTED,
    Result.UNVERIFIED: State.UNVERIFIED,
    Result.DEFERRED: State.WAITING,
}


class Full(Struct, frozen=True):
    """A document of the budget or of a cohort has no free place; ``frees`` is when it may have one again."""

    frees: datetime | None
    cohort: Cohort | None = None


class Wanted(Struct, frozen=True):
    """A place that a commit needs: in which document, of how many, and for which window."""

    key: Key
    room: int
    window: timedelta
    cohort: Cohort | None = None

    @property
    def name(self) -> str:
        """The cohort whose VMs share the places; empty for a runbook's own budget."""
        return self.cohort.name if self.cohort else ""


def places_wanted(intent: Intent, budget: Budget, number: int, cohorts: Sequence[Cohort]) -> list[Wanted]:
    """Return the places that a commit takes: one in a document of the budget, one in each cohort's limit."""
    own = Wanted(place_key(intent, number), places.room(budget, number), budget.window)
    beside = [
        Wanted(cohort_key(intent, each.name), each.budget.count, each.budget.window, each) for each in cohorts
    ]
    return [own, *beside]


def committing(
    held: Admitted,
    before: Evidence | None,
    judge: Judge,
    wanted: Sequence[Wanted],
    number: int,
    until: datetime | None,
    mark: str | None,
    now: datetime,
) -> Callable[[Documents], tuple[dict[Key, Document | None], Verdict | Full | None]]:
    """Return the commit's step for one document of the budget; it answers None if the commit is written."""
    intent = held.record.intent
    mine, subject_at = intent_key(intent.intent_id), subject_key(intent.instance, intent.runbook)

    def step(documents: Documents) -> tuple[dict[Key, Document | None], Verdict | Full | None]:
        record, subject = held_by(documents, mine, subject_at, held.lease, now)
        verdict = judge(View(record, subject, migrated(documents)))
        if verdict is not None:
            return {}, verdict
        taken: dict[Key, Document | None] = {}
        for each in wanted:
            shard = unpack(Shard, documents[each.key]) if each.key in documents else Shard()
            counted = replace(places.current(shard, each.window, now), name=each.name)
            if intent.intent_id not in counted.out and places.taken(counted) >= each.room:
                return {}, Full(places.frees(counted, each.window), each.cohort)
            of_all = each.name.startswith(GROUP)
            shard = replace(places.shared(shard, each.window, now), name=each.name) if of_all else counted
            taken[each.key] = budget_document(places.take(shard, intent.intent_id, until, now))
        committed = replace(
            record,
            before=record.before or before,
            committed=True,
            mark=mark,
            enforcement=record.enforcement if before is None else None,
            requested_at=asked_since(held, record, now) if before is None else record.requested_at,
            place=number,
            cohorts=tuple(dict.fromkeys([*record.cohorts, *(each.name for each in wanted if each.cohort)])),
        )
        return {mine: opened(committed), **taken}, None

    return step


def asked_since(held: Admitted, record: Record, now: datetime) -> datetime:
    """Return since when an agent's reports count: a takeover goes on with what the dead attempt requested."""
    return record.requested_at if record.requested_at and held.was is State.RUNNING else now


def with_report(record: Record, reported: Attempt | None) -> Record:
    """Keep what an agent's next report will no longer show: the fault and the enforcement."""
    if reported is None:
        return record
    fault = reported.before if reported.before and reported.before.finding is Finding.FAULTY else None
    return replace(
        record, before=record.before or fault, enforcement=reported.enforcement or record.enforcement
    )


def settled(record: Record, *, resume: bool) -> bool:
    """Return whether a delivery of this message (with ``resume``: the tick) has nothing left to do."""
    if record.state is State.DONE:
        return True
    return not resume and record.state in (State.PARKED, State.REQUESTED, State.UNVERIFIED)


def place_key(intent: Intent, number: int) -> Key:
    """Return the key of a budget document. Reverts have documents of their own and take no other's place."""
    return shard_key("places", f"{intent.runbook}~revert" if intent.puts_back else intent.runbook, number)


def cohort_key(intent: Intent, name: str) -> Key:
    """Return the key of a cohort's limit; all runbooks share the one of a managed instance group."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return shard_key("places", f"{'' if name.startswith(GROUP) else intent.runbook}~{digest}", 0)


def claimed(documents: Documents, claim_at: Key | None, intent: Intent) -> Verdict | None:
    """Return the verdict on an incident that another intent has claimed; None if none has."""
    claim = documents.get(claim_at) if claim_at else None
    if claim is None or claim.data["intent_id"] == intent.intent_id:
        return None
    return Verdict(Result.SKIPPED, "duplicate", "this incident was notified before")


def said_again(earlier: Outcome | None, outcome: Outcome) -> tuple[Outcome, bool]:
    """Return the outcome to journal for an intent that was turned away, and whether the log has it already.

    That is so if result and reason are as before, or if the intent is parked as before and still only waits
    for its turn.
    """
    if earlier is None:
        return outcome, False
    if (earlier.result, earlier.reason) == (outcome.result, outcome.reason):
        return earlier, True
    parked = earlier.result is outcome.result is Result.PARKED
    return outcome, parked and earlier.reason in _TURNS and outcome.reason in _TURNS


_TURNS = frozenset({"busy", "cooling_down", "budget_exhausted"})


_MESSAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}")


def originals(intent: Intent, by_event: str | None) -> list[Key]:
    """Return the keys of records that an intent may replay: by its message's id and by its event."""
    named = [f"m-{intent.replay_of}"] if _MESSAGE_ID.fullmatch(intent.replay_of or "") else []
    named += [by_event] if by_event else []
    return [intent_key(each) for each in dict.fromkeys(named) if each != intent.intent_id]


def coming_again(intent: Intent, outcome: Outcome, now: datetime) -> dict[Key, Document | None]:
    """Return the write that keeps the event of a message to be redelivered, in case it has to be replayed."""
    if outcome.result is not Result.DEFERRED or intent.message_id is None or intent.replay_of is not None:
        return {}
    return {event_key(intent): Document({"intent_id": intent.intent_id}, expire_at=now + KEEP)}


def replayed(
    intent: Intent, outcome: Outcome, keys: Sequence[Key], documents: Documents, now: datetime
) -> dict[Key, Document | None]:
    """End an intent that waits for redelivery once its replay is done: Pub/Sub gave up on its message.

    Anyone who may publish can name any message, so only one for the same VM and runbook is ended.
    """
    for key in keys:
        waits = unpack(Record, documents[key]) if outcome.final and key in documents else None
        if waits is None or waits.state is not State.WAITING or waits.committed:
            continue
        if (waits.intent.instance, waits.intent.runbook) == (intent.instance, intent.runbook):
            ended = replace(waits, state=State.DONE, outcome=of_replayed(waits, outcome))
            return {key: filed(ended, None, now, emitted=False)}
    return {}


WAITING = 50
"""How many waiting intents a VM's document lists; any more wake at their own time."""


def after_keys(intent: Intent) -> list[Key]:
    """Return the key of the intent to queue for the runbook that let this one go first; empty if none did."""
    return [intent_key(follow_up_id(intent))] if intent.back_to else []


def coming_back(
    intent: Intent, outcome: Outcome, documents: Documents, now: datetime
) -> dict[Key, Document | None]:
    """Queue the runbook that let this intent's go first, whatever the outcome, and pass the outcome on."""
    if not outcome.final or gives_way(outcome):  # of a chain, the next link goes first
        return {}
    return {
        key: parked(back(intent, outcome, now), now) for key in after_keys(intent) if key not in documents
    }


def turned_away(subject: Subject, intent: Intent, outcome: Outcome, state: State) -> Subject:
    """Note on a VM that an intent was not admitted."""
    after = without_lease(subject, intent)
    after = replace(after, open_request=request_out(after, intent, state))
    after = superseding(after, intent, outcome)
    if outcome.reason == "needs_human":
        after = replace(after, human_told=True)
    if (outcome.result, outcome.reason) == (Result.PARKED, "busy"):
        after = replace(after, waiting=_queued(after.waiting, intent.intent_id))
    return after


def _queued(waiting: tuple[str, ...], intent_id: str) -> tuple[str, ...]:
    return waiting if intent_id in waiting else (*waiting, intent_id)[:WAITING]


def without_lease(subject: Subject, intent: Intent) -> Subject:
    """Remove this intent's lease, if a dead attempt left one although the intent is done or parked.

    Otherwise it would stay for ever, and every new intent would first try to finish the dead attempt.
    """
    mine = subject.lease is not None and subject.lease.intent_id == intent.intent_id
    return replace(subject, lease=None) if mine else subject


def unknown(outcome: Outcome, subject: Subject) -> bool:
    """Return whether all that is known about a VM is that Compute does not know it: it may be forged."""
    latest = replace(
        Subject(subject.instance, subject.runbook),
        name=subject.name,
        owner=subject.owner,
        labels=subject.labels,
        fence=subject.fence,
        last_result=subject.last_result,
        last_reason=subject.last_reason,
        last_at=subject.last_at,
        last_outcome_id=subject.last_outcome_id,
        held_by=subject.held_by,
    )
    return gone(outcome) and subject == latest


def request_out(subject: Subject, intent: Intent, state: State) -> str | None:
    """Return the intent whose request is out after this one. Another intent's request stays marked."""
    if state is State.REQUESTED:
        return intent.intent_id
    return None if subject.open_request == intent.intent_id else subject.open_request


def subject_of(documents: Documents, key: Key, instance: InstanceRef, runbook: str) -> Subject:
    """Return the subject of a VM under a runbook; a new one if the ledger has none yet."""
    return unpack(Subject, documents[key]) if key in documents else Subject(instance, runbook)


def migrated(documents: Documents) -> Fleet:
    """Return the fleet's switches; raise :class:`Older` if the ledger has an older schema."""
    fleet = fleet_of(documents)
    if fleet.schema < SCHEMA:
        raise Older
    return fleet


def held_by(
    documents: Documents, mine: Key, subject_at: Key, lease: Lease, now: datetime | None
) -> tuple[Record, Subject]:
    """Return what an attempt holds; ``Superseded`` if its lease was lost or (given ``now``) has run out."""
    if mine not in documents or subject_at not in documents:
        raise Superseded("the intent or its subject is gone from the ledger")
    subject = unpack(Subject, documents[subject_at])
    if subject.lease != lease:  # compare more than the fence: it starts anew if a VM was forgotten
        raise Superseded(f"fence {lease.fence} is not the latest: {subject.fence}")
    if now is not None and subject.lease.expires_at <= now:
        raise Superseded(f"the lease expired at {subject.lease.expires_at}")
    return unpack(Record, documents[mine]), subject


def opened(record: Record) -> Document:
    """Return the document of an intent that an attempt is working on: it is on no work list."""
    return Document(pack(record))


def parked(intent: Intent, due: datetime) -> Document:
    """Return the document of a new intent for the tick to take up when it is ``due``."""
    return Document(pack(Record(intent, State.PARKED)), queue="parked", due=due)


def filed(record: Record, due: datetime | None, now: datetime, *, emitted: bool) -> Document:
    """Return the document of a record, on the work list for its state."""
    data = pack(record)
    match record.state:
        case State.PARKED | State.REQUESTED | State.UNVERIFIED:
            return Document(data, queue=record.state.value, due=due or now)
        case State.DONE if not emitted:
            return Document(data, queue="unemitted", due=now, expire_at=now + KEEP)
        case _:
            return Document(data, expire_at=now + KEEP)
