"""What the three stores agree on: which ids and documents they take, and in which order ids come.

Everything refused here is refused by every store, so that nothing works on memory and fails on Firestore.
All refusals are ``ValueError`` (or ``TypeError`` where data is not JSON): they are mistakes of the caller's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from logmend.ports import Document, Key

MAX_ID_BYTES = 1_400
"""Firestore takes ids of 1,500 bytes (https://firebase.google.com/docs/firestore/quotas, 2026-11)."""

_COLLECTION = re.compile(r"[a-z][a-z_]{0,62}")
_RESERVED = re.compile(r"\.{1,2}|__.*__|%.*", re.DOTALL)


def stored_id(document_id: str) -> str:
    """Spell an id so that every store takes it; most ids are spelt as they are.

    Firestore reserves ``.``, ``..`` and ``__…__``: their first character is percent-encoded, and so is a
    leading ``%``. Ids come in the order of their stored spelling, code point by code point.
    """
    if not document_id or "/" in document_id or "\0" in document_id:
        raise ValueError(f"a document id is not empty and holds no '/' and no NUL: {document_id!r}")
    if len(document_id.encode()) > MAX_ID_BYTES:
        raise ValueError(f"a document id has at most {MAX_ID_BYTES} bytes of UTF-8: {document_id[:80]!r}…")
    if _RESERVED.fullmatch(document_id):
        return f"%{ord(document_id[0]):02X}{document_id[1:]}"
    return document_id


def original_id(stored: str) -> str:
    """Undo :func:`stored_id`."""
    return chr(int(stored[1:3], 16)) + stored[3:] if stored.startswith("%") else stored


def checked_collection(collection: str) -> str:
    """Give the collection back, or refuse its name."""
    if not _COLLECTION.fullmatch(collection):
        raise ValueError(f"a collection is named in small letters and underscores: {collection!r}")
    return collection


def checked_keys(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Give each key once, in a fixed order (so that locks are taken in that order), or refuse one."""
    for collection, document_id in keys:
        checked_collection(collection)
        stored_id(document_id)
    return tuple(sorted(set(keys)))


def checked_writes(
    keys: Sequence[Key], writes: Mapping[Key, Document | None]
) -> Mapping[Key, Document | None]:
    """Give a step's writes back, or refuse what it may not write."""
    if strangers := sorted(set(writes) - set(keys)):
        raise ValueError(f"a step may write only documents that its transaction reads, not {strangers}")
    for key, document in writes.items():
        if document is not None and (document.queue is None) != (document.due is None):
            raise ValueError(f"a document has both queue and due or neither: {key}")
    return writes


def utc(moment: datetime) -> datetime:
    """Give the moment in UTC; a naive one is refused."""
    if moment.tzinfo is None:
        raise ValueError(f"a time without a time zone: {moment.isoformat()}")
    return moment.astimezone(UTC)


def dump(data: Mapping[str, Any]) -> str:
    """JSON text of a document's data. Raises ``TypeError`` where it is not JSON."""
    return json.dumps(dict(data), separators=(",", ":"))


def load(text: str) -> dict[str, Any]:
    """Undo :func:`dump`."""
    data: dict[str, Any] = json.loads(text)
    return data
