"""A runbook's disruption budget: places for changes that are out, counts of those that are over. Pure.

The promise is that never more than N VMs are enforced in any span of the window. A place is taken at the
commit point and held while the work may be out; when it is over, it is counted for one window more. So
whoever commits sees every change whose end lies less than a window back, and there are never more than N.

What is over is counted by slices of a sixtieth of the window, each kept until its *latest* end is a window
old: a place may be free a sixtieth of a window later than it might, never sooner, and a document has no more
than 61 counts however many changes there were. If runbooks share a document, that is the longest of their
windows, and each counts what lies in its own.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from logmend.ledger.documents import KEEP, pack
from logmend.model.struct import Struct, field, replace
from logmend.ports import Document
from logmend.settings import Budget

SLICES = 60
LEAST_SHARDS = 8
"""Documents of a small budget, so that none becomes hot."""
LARGEST_SHARD = 500
"""Places of one document: at some 150 bytes each it stays far below a document's limit, and cheap to read."""
WRITES_A_SECOND = 1.0
"""Writes that one document takes for long (https://firebase.google.com/docs/firestore/quotas, 2026-11)."""
PROBES = 8
"""Documents that one commit asks for a place before it calls the budget full."""


class Work(StrEnum):
    """What an attempt's end says of its enforcement, as far as the budget is concerned."""

    OUT = "out"  # a label is out, or what was started goes on
    NONE = "none"  # nothing was enforced: the place is given back
    OVER = "over"  # it was, and has ended
    UNKNOWN = "unknown"  # it may have begun and may still be at work


class Out(Struct, frozen=True):
    """A change that may be at work: since when, and when it is over at the latest; None: not known yet."""

    since: datetime
    until: datetime | None


class Over(Struct, frozen=True):
    """How many changes of one slice are over, and the end of the latest."""

    latest: datetime
    count: int


class Shard(Struct, frozen=True):
    """One document of a budget. ``window`` is for how long what is over is kept, in seconds.

    ``name`` is what the VMs of a cohort have in common; empty in a runbook's own budget.
    """

    window: float = 0.0
    out: Mapping[str, Out] = field(default_factory=dict)
    over: Mapping[str, Over] = field(default_factory=dict)
    name: str = ""


def shards(budget: Budget) -> int:
    """Return over how many documents a budget is spread: by its writes a second, and by its size."""
    writes = 2 * budget.count / budget.window.total_seconds()
    wanted = max(LEAST_SHARDS, math.ceil(writes / WRITES_A_SECOND), math.ceil(budget.count / LARGEST_SHARD))
    return min(budget.count, wanted)


def room(budget: Budget, shard: int) -> int:
    """Return how many places one document of a budget has."""
    count = shards(budget)
    return budget.count // count + (1 if shard < budget.count % count else 0)


def current(shard: Shard, window: timedelta, now: datetime) -> Shard:
    """Leave out what ended more than a window ago. A time ahead of ``now`` counts: it is the safe side."""
    return Shard(
        window.total_seconds(),
        {name: each for name, each in shard.out.items() if not each.until or each.until + window > now},
        {name: each for name, each in shard.over.items() if each.latest + window > now},
        shard.name,
    )


def shared(shard: Shard, window: timedelta, now: datetime) -> Shard:
    """Leave out what counts for no runbook: another that shares the document may have a longer window."""
    longest = max(window, timedelta(seconds=shard.window))
    kept = current(shard, longest, now)
    return kept if kept.out or kept.over else current(kept, window, now)


def taken(shard: Shard) -> int:
    """Count the places that are taken."""
    return len(shard.out) + sum(each.count for each in shard.over.values())


def frees(shard: Shard, window: timedelta) -> datetime | None:
    """Return when the first place gets free at the latest; None if that hangs on an outcome."""
    ends = [each.until for each in shard.out.values() if each.until]
    ends += [each.latest for each in shard.over.values()]
    return min(ends) + window if ends else None


def take(shard: Shard, intent_id: str, until: datetime | None, now: datetime) -> Shard:
    """Take a place, or go on with the one that a dead attempt left; a label that may be out stays out."""
    left = shard.out.get(intent_id)
    until = None if left and left.until is None else until
    return replace(shard, out=dict(shard.out) | {intent_id: Out(left.since if left else now, until)})


def settle(shard: Shard, intent_id: str, work: Work, longest: timedelta, now: datetime) -> Shard:
    """Note what became of the work that holds a place; ``longest`` is how long unseen work may last."""
    place = shard.out.get(intent_id)
    if place is None or work is Work.OUT:
        return shard
    others = {name: each for name, each in shard.out.items() if name != intent_id}
    if work is Work.UNKNOWN:
        return replace(shard, out=others | {intent_id: replace(place, until=place.until or now + longest)})
    if work is Work.NONE:
        return replace(shard, out=others)
    end = max(now, place.since)  # the clock may have been stepped back meanwhile
    slice_at = _slice(end, shard.window)
    known = shard.over.get(slice_at)
    counted = Over(max(end, known.latest), known.count + 1) if known else Over(end, 1)
    return replace(shard, out=others, over=dict(shard.over) | {slice_at: counted})


def expiry(shard: Shard) -> datetime | None:
    """Return from when on nothing in a document counts; None while that is not known."""
    ends = [each.until for each in shard.out.values()] + [each.latest for each in shard.over.values()]
    known = [each for each in ends if each is not None]
    if not known or len(known) < len(ends):
        return None
    return max(known) + timedelta(seconds=shard.window) + KEEP


def budget_document(shard: Shard) -> Document:
    """Make the document of a part of a budget, which may go when nothing in it counts any more."""
    return Document(pack(shard), expire_at=expiry(shard))


def _slice(end: datetime, window: float) -> str:
    length = max(window / SLICES, 1e-6)
    start = math.floor(end.timestamp() / length) * length
    return f"{start:.6f}"
