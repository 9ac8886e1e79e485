"""A runbook's disruption budget: places for changes that may be running, counts of those that ended. Pure.

The guarantee is that no more than N VMs are enforced within any one window. A place is taken at the commit
point and held while the work may be running; after that it counts for one more window. So each commit sees
every change that ended less than a window ago, and there are never more than N.

Ended changes are counted in slices of a sixtieth of the window, and a slice is kept until its *latest* end is
a window old. So a place may become free up to a sixtieth of a window late, but never early, and a document
has at most 61 counts however many changes there were. If runbooks share a document, it keeps its counts for
the longest of their windows, and each runbook counts what lies in its own.
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
"""How many documents a small budget is spread over, so none becomes hot."""
LARGEST_SHARD = 500
"""Most places in one document: at some 150 bytes each, it is cheap to read and far below the size limit."""
WRITES_A_SECOND = 1.0
"""Sustained writes that one document takes (https://firebase.google.com/docs/firestore/quotas, 2026-11)."""
PROBES = 8
"""How many documents a commit asks for a place before the budget counts as full."""


class Work(StrEnum):
    """What the end of an attempt tells the budget about its enforcement."""

    OUT = "out"  # a label is set, or what was started is still running
    NONE = "none"  # nothing was enforced: the place is given back
    OVER = "over"  # something was enforced, and that has ended
    UNKNOWN = "unknown"  # enforcement may have begun and may still be running


class Out(Struct, frozen=True):
    """A change that may be running: since when, and until when at the latest (None: not known yet)."""

    since: datetime
    until: datetime | None


class Over(Struct, frozen=True):
    """How many changes ended in one slice, and when the latest did."""

    latest: datetime
    count: int


class Shard(Struct, frozen=True):
    """One document of a budget. ``window`` is how long ended changes are kept, in seconds.

    ``name`` is the cohort's name; empty in a runbook's own budget.
    """

    window: float = 0.0
    out: Mapping[str, Out] = field(default_factory=dict)
    over: Mapping[str, Over] = field(default_factory=dict)
    name: str = ""


def shards(budget: Budget) -> int:
    """Return how many documents a budget is spread over, given its writes per second and its size."""
    writes = 2 * budget.count / budget.window.total_seconds()
    wanted = max(LEAST_SHARDS, math.ceil(writes / WRITES_A_SECOND), math.ceil(budget.count / LARGEST_SHARD))
    return min(budget.count, wanted)


def room(budget: Budget, shard: int) -> int:
    """Return how many places one document of a budget has."""
    count = shards(budget)
    return budget.count // count + (1 if shard < budget.count % count else 0)


def current(shard: Shard, window: timedelta, now: datetime) -> Shard:
    """Leave out what ended more than a window ago. A time after ``now`` counts, to be on the safe side."""
    return Shard(
        window.total_seconds(),
        {name: each for name, each in shard.out.items() if not each.until or each.until + window > now},
        {name: each for name, each in shard.over.items() if each.latest + window > now},
        shard.name,
    )


def shared(shard: Shard, window: timedelta, now: datetime) -> Shard:
    """Leave out what no longer counts for any runbook that shares the document, by their longest window."""
    longest = max(window, timedelta(seconds=shard.window))
    kept = current(shard, longest, now)
    return kept if kept.out or kept.over else current(kept, window, now)


def taken(shard: Shard) -> int:
    """Return how many places are taken."""
    return len(shard.out) + sum(each.count for each in shard.over.values())


def frees(shard: Shard, window: timedelta) -> datetime | None:
    """Return when the next place becomes free at the latest; None if that depends on an outcome."""
    ends = [each.until for each in shard.out.values() if each.until]
    ends += [each.latest for each in shard.over.values()]
    return min(ends) + window if ends else None


def take(shard: Shard, intent_id: str, until: datetime | None, now: datetime) -> Shard:
    """Take a place, or keep the one that a dead attempt left; if its end is not known, it stays unknown."""
    left = shard.out.get(intent_id)
    until = None if left and left.until is None else until
    return replace(shard, out=dict(shard.out) | {intent_id: Out(left.since if left else now, until)})


def settle(shard: Shard, intent_id: str, work: Work, longest: timedelta, now: datetime) -> Shard:
    """Record what became of the work that holds a place; ``longest`` is how long unseen work may last."""
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
    """Return when a document can expire because nothing in it counts any more; None if not known yet."""
    ends = [each.until for each in shard.out.values()] + [each.latest for each in shard.over.values()]
    known = [each for each in ends if each is not None]
    if not known or len(known) < len(ends):
        return None
    return max(known) + timedelta(seconds=shard.window) + KEEP


def budget_document(shard: Shard) -> Document:
    """Return the document of a part of a budget; it expires after nothing in it counts any more."""
    return Document(pack(shard), expire_at=expiry(shard))


def _slice(end: datetime, window: float) -> str:
    length = max(window / SLICES, 1e-6)
    start = math.floor(end.timestamp() / length) * length
    return f"{start:.6f}"
