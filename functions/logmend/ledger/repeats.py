"""Events of a VM that are left alone for the same reason again: the first is recorded, the rest are counted.

One document per VM, runbook and day lists the messages that were counted, so none is counted twice. It is
written in place of a record, in the transaction that would otherwise journal the event. The day is the one
on which the message was published, which is the same at each delivery. It begins at a different time for
each VM, so a fleet's counts are not all recorded at midnight. Nothing here decides what is done to a VM: the
most that a forged entry can do is add to a count.

A state ends when an attempt works on its VM (the fence changes), or when it was not heard of for
:data:`QUIET`; the next event is recorded again. The tick records the count then, and at the end of each day.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from logmend.errors import Transient
from logmend.ledger import changes
from logmend.ledger.documents import FLEET, KEEP, fleet_of, intent_key, pack, shard_of, subject_key, unpack
from logmend.ledger.upkeep import Documents
from logmend.model.enums import INTERIM_RESULTS, Result
from logmend.model.state import Record, Repeats, Repetition, State
from logmend.model.struct import Struct, replace
from logmend.model.values import InstanceRef, Intent, Outcome, Verdict
from logmend.outcome.document import severity
from logmend.ports import Document, Key, Store
from logmend.stages.outcomes import of_tally

QUIET = timedelta(hours=2)
"""A state ends if it is not heard of for this long: the slowest agents log their line every half hour."""
ROOM = 1000
"""How many messages a document lists, at some 25 bytes each; any more get a record each."""

_DAY = timedelta(days=1)
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)

Writes = dict[Key, Document | None]


class Unread(Transient):
    """The previous day has to be read as well, to tell whether a state goes on."""

    def __init__(self) -> None:
        super().__init__("ledger_contention", "the count of the day before was not read")


class Day(Struct, frozen=True):
    """One day of a VM under a runbook."""

    instance: InstanceRef
    runbook: str
    number: int

    @property
    def key(self) -> Key:
        """The key of its document."""
        return ("repeats", f"{subject_key(self.instance, self.runbook)[1]}~{self.number}")

    @property
    def before(self) -> "Day":
        """The previous day."""
        return replace(self, number=self.number - 1)

    @property
    def ends(self) -> datetime:
        """When the day ends."""
        return _begin(self.instance, self.runbook) + (self.number + 1) * _DAY


class Said(Struct, frozen=True):
    """An event that is left alone: its day, the record it would get, and the VM's fence (0: not asked)."""

    day: Day
    record: Record
    outcome: Outcome
    fence: int
    now: datetime

    @property
    def word(self) -> str:
        """Result and reason, under which it is counted."""
        return f"{self.outcome.result} {self.outcome.reason or ''}".rstrip()


def day_of(instance: InstanceRef, runbook: str, published: datetime) -> Day:
    """Return the day of a VM on which a message was published."""
    return Day(instance, runbook, math.floor((published - _begin(instance, runbook)) / _DAY))


def _begin(instance: InstanceRef, runbook: str) -> datetime:
    return _EPOCH + timedelta(seconds=shard_of(f"{instance}/{runbook}", 86_400))


def countable(outcome: Outcome, record: Record | None) -> bool:
    """Return whether an outcome may be counted: it is final, and no attempt was made."""
    tried = record is not None and record.attempt > 0
    return not tried and outcome.result not in INTERIM_RESULTS


def met(documents: Documents, day: Day | None, intent_id: str) -> Verdict | None:
    """Return the verdict under which a message was counted before; None if it was not."""
    tallies = _read(documents, day).tallies if day is not None else {}
    for word, tally in tallies.items():
        if intent_id in tally.ids:
            result, _, reason = word.partition(" ")
            return Verdict(Result(result), reason or None, "counted by an earlier delivery")
    return None


def noted(documents: Documents, said: Said, writes: Writes, keys: Sequence[Key]) -> bool:
    """Note an event and return whether it is counted. If not, it begins a state and is to be recorded.

    An outcome above severity INFO asks for a person's attention and is never counted.
    The day's document is added to ``writes``; the record of an event that it lists is removed from them.
    ``keys`` are those that were read; raise :class:`Unread` if the previous day's is missing.
    """
    found, word, now = _read(documents, said.day), said.word, said.now
    mine = intent_key(said.record.intent.intent_id)
    known = found.tallies.get(word)
    if known is None and said.day.before.key not in keys:
        raise Unread
    latest = known or _read(documents, said.day.before).tallies.get(word)
    old = known or Repetition(said.fence, now)
    going_on = latest is not None and latest.fence == said.fence and now - latest.heard < QUIET
    if not going_on or severity(said.outcome) != "INFO":
        begun = (*old.begun, mine[1])
        new = replace(_emptied(old), fence=said.fence, heard=now, begun=begun)
        after = _with(_closed(found, word), word, new)
        writes[said.day.key] = document(after, now)
        return False
    named = mine not in documents and sum(len(each.ids) for each in found.tallies.values()) < ROOM
    new = _added(old, said.outcome, ids=(*old.ids, mine[1]) if named else old.ids, heard=now)
    writes[said.day.key] = document(_with(found, word, new), now)
    if named:
        writes.pop(mine, None)
    else:
        counted = replace(said.record, state=State.DONE, outcome=said.outcome, counted=True)
        writes[mine] = changes.filed(counted, None, now, emitted=True)
    return True


def document(found: Repeats, now: datetime) -> Document:
    """Return the document of a day; it is on the tick's list while there is something to record."""
    ends = Day(found.instance, found.runbook, found.day).ends
    due = (
        now
        if found.untold
        else min((each.heard + QUIET for each in found.tallies.values() if each.count), default=None)
    )
    if due is not None and now < ends:
        due = min(due, ends)
    queue = None if due is None else "counted"
    return Document(pack(found), queue=queue, due=due, expire_at=max(ends, now) + KEEP)


def pending(found: Repeats) -> tuple[Outcome, ...]:
    """Return what is counted but not recorded yet, as it would be recorded now."""
    for word in found.tallies:
        found = _closed(found, word)
    return found.untold


class Counts:
    """Counts events that leave nothing else in the ledger, and gives the tick the counts to record."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def refuse(
        self, intent: Intent, outcome: Outcome, day: Day, now: datetime, *, counting: bool
    ) -> bool:
        """Note an event that is refused for its own content; return whether it is counted.

        If not, it is to be recorded. Nothing is remembered about its VM. Without ``counting`` nothing is
        noted, and the event is counted only if an earlier delivery was. A message from before every instance
        began to count is never counted: another instance may have recorded it without leaving a trace in
        the ledger.
        """
        mine = intent_key(intent.intent_id)
        keys = [mine, day.key, FLEET]

        def step(documents: Documents) -> tuple[Writes, bool]:
            if mine in documents:
                return {}, unpack(Record, documents[mine]).counted
            if met(documents, day, intent.intent_id) is not None:
                return {}, True
            begun = any(intent.intent_id in each.begun for each in _read(documents, day).tallies.values())
            since = fleet_of(documents).counts_since
            if begun or not counting or since is None or outcome.at < since:
                return {}, False
            said = Said(day, Record(intent, State.DONE), outcome, 0, now)
            writes: Writes = {}
            return writes, noted(documents, said, writes, keys)

        try:
            return await self._store.transact(keys, step)
        except Unread:
            keys.append(day.before.key)
            return await self._store.transact(keys, step)

    async def close(self, found: Repeats, now: datetime) -> tuple[Outcome, ...]:
        """Return a day's counts that are over and to be recorded. They stay listed until :meth:`told`."""
        day = Day(found.instance, found.runbook, found.day)

        def step(documents: Documents) -> tuple[Writes, tuple[Outcome, ...]]:
            after = before = _read(documents, day)
            for word, tally in before.tallies.items():
                if now >= min(day.ends, tally.heard + QUIET):
                    after = _closed(after, word)
            return ({} if after == before else {day.key: document(after, now)}), after.untold

        return await self._store.transact([day.key], step)

    async def told(self, found: Repeats, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Take recorded counts off the list."""
        day, ids = Day(found.instance, found.runbook, found.day), {each.outcome_id for each in outcomes}

        def step(documents: Documents) -> tuple[Writes, None]:
            known = _read(documents, day)
            left = tuple(each for each in known.untold if each.outcome_id not in ids)
            return {day.key: document(replace(known, untold=left), now)}, None

        await self._store.transact([day.key], step)


def _read(documents: Documents, day: Day) -> Repeats:
    if day.key in documents:
        return unpack(Repeats, documents[day.key])
    return Repeats(day.instance, day.runbook, day.number)


def _with(found: Repeats, word: str, tally: Repetition) -> Repeats:
    return replace(found, tallies=dict(found.tallies) | {word: tally})


def _added(tally: Repetition, outcome: Outcome, *, ids: tuple[str, ...], heard: datetime) -> Repetition:
    latest = tally.latest if tally.latest and tally.latest.at > outcome.at else outcome
    first = min(tally.first_at or outcome.at, outcome.at)
    return replace(tally, ids=ids, heard=heard, count=tally.count + 1, first_at=first, latest=latest)


def _emptied(tally: Repetition) -> Repetition:
    return replace(tally, count=0, first_at=None, latest=None)


def _closed(found: Repeats, word: str) -> Repeats:
    """Move a count to the list of what is to be recorded; if the state goes on, it counts from zero again."""
    tally = found.tallies.get(word)
    if tally is None or tally.latest is None:
        return found
    told = of_tally(tally.latest, tally.count, tally.first_at or tally.latest.at)
    return replace(_with(found, word, _emptied(tally)), untold=(*found.untold, told))
