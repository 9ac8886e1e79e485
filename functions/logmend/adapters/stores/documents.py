"""What the three stores have in common: the ids and documents that they accept, and the order of ids.

Every store rejects what is rejected here, so nothing works in memory and then fails on Firestore. A mistake
of the caller's raises ``ValueError`` (``TypeError`` if data is not JSON); a document that has grown too big
raises ``Permanent("ledger_rejected")``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from logmend.errors import Permanent
from logmend.model.struct import Struct
from logmend.ports import Document, Key

MAX_ID_BYTES = 1_400
"""Firestore accepts ids of 1,500 bytes (https://firebase.google.com/docs/firestore/quotas, 2026-11)."""
MAX_DATA_BYTES = 1_000_000
"""A Firestore document has at most 1,048,576 bytes, including its id and the names of its fields."""

_COLLECTION = re.compile(r"[a-z][a-z_]{0,62}")
_RESERVED = re.compile(r"\.{1,2}|__.*__|%.*", re.DOTALL)


def stored_id(document_id: str) -> str:
    """Return an id in a spelling that every store accepts; most ids are unchanged.

    Firestore reserves ``.``, ``..`` and ``__…__``: their first character is percent-encoded, as is a leading
    ``%``. Ids are sorted by their stored spelling, code point by code point.
    """
    if not document_id or "/" in document_id or "\0" in document_id:
        raise ValueError(f"a document id must not be empty, or contain '/' or NUL: {document_id!r}")
    if len(document_id.encode()) > MAX_ID_BYTES:
        raise ValueError(f"a document id has at most {MAX_ID_BYTES} bytes of UTF-8: {document_id[:80]!r}…")
    if _RESERVED.fullmatch(document_id):
        return f"%{ord(document_id[0]):02X}{document_id[1:]}"
    return document_id


def original_id(stored: str) -> str:
    """Undo :func:`stored_id`."""
    return chr(int(stored[1:3], 16)) + stored[3:] if stored.startswith("%") else stored


def checked_collection(collection: str) -> str:
    """Return the collection; ValueError if its name is not allowed."""
    if not _COLLECTION.fullmatch(collection):
        raise ValueError(f"a collection is named in small letters and underscores: {collection!r}")
    return collection


def checked_keys(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Return each key once, in the fixed order in which locks are taken; ValueError for a bad key."""
    for collection, document_id in keys:
        checked_collection(collection)
        stored_id(document_id)
    return tuple(sorted(set(keys)))


class StoredRow(Struct, frozen=True, gc=False):
    """A document as stores keep it: data as JSON text, times in UTC."""

    text: str
    queue: str | None
    due: datetime | None
    expire_at: datetime | None

    def document(self) -> Document:
        """Return the document, with its data freshly decoded."""
        return Document(_parsed(self.text), self.queue, self.due, self.expire_at)


def _parsed(text: str) -> dict[str, object]:
    try:
        data: dict[str, object] = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError):  # lone surrogates and NaN, which json alone reads
        data = json.loads(text)
    return data


def rows(keys: Sequence[Key], writes: Mapping[Key, Document | None]) -> Mapping[Key, StoredRow | None]:
    """Return a step's writes as rows; ValueError for what it may not write, TypeError if data is not JSON."""
    if strangers := sorted(set(writes) - set(keys)):
        raise ValueError(f"a step may write only documents that its transaction reads, not {strangers}")
    return {key: None if document is None else _row(key, document) for key, document in writes.items()}


def _row(key: Key, document: Document) -> StoredRow:
    if (document.queue is None) != (document.due is None):
        raise ValueError(f"a document has both queue and due or neither: {key}")
    return StoredRow(
        _text(key, dict(document.data)),
        document.queue,
        None if document.due is None else utc(document.due),
        None if document.expire_at is None else utc(document.expire_at),
    )


def _text(key: Key, data: dict[str, object]) -> str:
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # lone surrogates, from a VM's undecodable output: only escapes preserve them
        text = json.dumps(data, separators=(",", ":"))
        size = len(text)
    if size > MAX_DATA_BYTES:
        raise Permanent("ledger_rejected", f"{key} would hold {size} bytes, the limit is {MAX_DATA_BYTES}")
    return text


def utc(moment: datetime) -> datetime:
    """Return the time in UTC; ValueError if it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a time without a time zone: {moment.isoformat()}")
    return moment.astimezone(UTC)
