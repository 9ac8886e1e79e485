"""Spread ids that rise with time over ranges of Firestore's keys, and read the ranges as one list.

A server of Firestore's keeps a range of ids. Ids that follow one another are all written to one end of them
(https://firebase.google.com/docs/firestore/best-practices, 2026-11), as entries of an index on a rising value
are, of which 500 a second are taken
(https://firebase.google.com/docs/firestore/solutions/shard-timestamp, 2026-11).
"""

import asyncio
import math
import re
import zlib
from collections.abc import Awaitable, Callable, Sequence

from logmend.adapters.stores.documents import original_id, stored_id
from logmend.model.struct import Struct
from logmend.ports import Document

RANGES = 8
COLLECTIONS = frozenset({"intents"})
"""Collections whose ids rise with time, as Pub/Sub's message ids do."""

PLAIN = "&"
"""First of the ids that an older version stored as they are: letters, all behind those that are spread."""

_SPREAD = re.compile(r"%\d~")


def number(document_id: str) -> int:
    """Return the range of an id: a digest spreads ids that follow one another."""
    return zlib.crc32(document_id.encode()) % RANGES


def name(collection: str, document_id: str) -> str:
    """Return the id under which a document is stored: ``%3~m-123`` of ``m-123``.

    No other id is stored so: a ``%`` that it begins with is encoded (:func:`stored_id`).
    """
    spread = collection in COLLECTIONS
    return f"%{number(document_id)}~{stored_id(document_id)}" if spread else stored_id(document_id)


def is_spread(stored: str) -> bool:
    """Return whether a document is stored under an id with a range."""
    return _SPREAD.match(stored) is not None


def original(stored: str) -> str:
    """Undo :func:`name`."""
    return original_id(stored[3:] if is_spread(stored) else stored)


def bounds(part: int) -> tuple[str, str]:
    """Return the first id of a range, and the first one behind it."""
    return f"%{part}~", f"%{part + 1}"


class Found(Struct, frozen=True):
    """A document of a list: what the list is ordered by, the id that it is stored under, and itself."""

    order: tuple[object, ...]
    stored: str
    document: Document


Fetch = Callable[[Found | None, int], Awaitable[Sequence[Found]]]
"""Reads on in one range: from behind what was found last, so many."""


async def merged(parts: Sequence[Fetch], limit: int) -> list[Found]:
    """Read ranges side by side, of each its part of ``limit`` and some, until the first of all are known."""
    found: list[list[Found]] = [[] for _ in parts]
    unread, asked = set(range(len(parts))), set(range(len(parts)))
    page = limit // len(parts) + math.isqrt(limit) + 1
    while True:
        turn = sorted(asked)
        pages = await asyncio.gather(*(parts[n](found[n][-1] if found[n] else None, page) for n in turn))
        for n, more in zip(turn, pages, strict=True):
            found[n] += more
            if len(more) < page:
                unread.discard(n)
        first = sorted((each for part in found for each in part), key=order)[:limit]
        asked = {n for n in unread if len(first) < limit or found[n][-1].order < first[-1].order}
        if not asked:
            return first


def order(found: Found) -> tuple[object, ...]:
    """Return what a list is ordered by."""
    return found.order
