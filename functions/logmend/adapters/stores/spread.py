"""Spread ids that rise with time over ranges of Firestore's keys, and read the ranges as one list.

Each Firestore server holds a range of ids, and sequential ids are all written to the end of one range
(https://firebase.google.com/docs/firestore/best-practices, 2026-11). The same holds for an index on a rising
value, which is limited to 500 writes a second
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
"""Lower bound of the ids that an older version stored unchanged: they sort after all that are spread."""

_SPREAD = re.compile(r"%\d~")


def number(document_id: str) -> int:
    """Return the range of an id, from a checksum that spreads sequential ids."""
    return zlib.crc32(document_id.encode()) % RANGES


def name(collection: str, document_id: str) -> str:
    """Return the id under which a document is stored, such as ``%3~m-123`` for ``m-123``.

    No other id is stored in this form, because :func:`stored_id` encodes a leading ``%``.
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
    """Return the first id of a range, and the first one after it."""
    return f"%{part}~", f"%{part + 1}"


class Found(Struct, frozen=True):
    """A listed document, with its sort key and the id under which it is stored."""

    order: tuple[object, ...]
    stored: str
    document: Document


Fetch = Callable[[Found | None, int], Awaitable[Sequence[Found]]]
"""Reads the next documents of one range: those after the last one found, up to a number."""


async def merged(parts: Sequence[Fetch], limit: int) -> list[Found]:
    """Return the first ``limit`` documents of all ranges, which are read concurrently, each in pages."""
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
    """Return the sort key of a listed document."""
    return found.order
