"""A store's document as a Firestore document: its fields and its version."""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import types

from logmend.adapters.stores import documents, spread
from logmend.errors import Permanent
from logmend.model.struct import Struct, replace
from logmend.ports import STOP, Document, Key

SCHEMA, OLDEST = 2, 1
"""Schema of the stored fields, kept in each document: the one written, and the oldest one read.

Checking it takes no extra call. Releases that know only schema 1 refuse a document with schema 2."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Value: Any = types.Value.pb()


Version = tuple[int, int]
"""Time of a document's last change, in seconds and nanoseconds: if it is equal, so is the document."""


class Stored(Struct, frozen=True):
    """A document, its version, and its name in the database."""

    document: Document
    version: Version
    path: str


def ranges_of(queue: str) -> list[str]:
    """Return the index ranges over which a queue is spread, since ``due`` rises with time.

    The bare name is the one that schema 1 wrote.
    """
    return [queue, *(f"{queue}~{each}" for each in range(spread.RANGES))]


def range_of(queue: str, document_id: str) -> str:
    """Return a document's range of the queue; it has the number of the id's range if the id is spread."""
    return f"{queue}~{spread.number(document_id)}"


def fields_of(key: Key, row: documents.StoredRow) -> dict[str, Any]:
    """Return a row's fields."""
    fields = {"schema": Value(integer_value=SCHEMA), "data": Value(string_value=row.text)}
    if row.queue is not None:
        fields["queue"] = Value(string_value=range_of(row.queue, key[1]))
    for name, moment in (("due", row.due), ("expire_at", row.expire_at)):
        if moment is not None:
            fields[name] = Value(timestamp_value=timestamp(moment))
    return fields


def decoded(raw: Any) -> Document:
    """Return a stored document. What a person wrote into its field ``stop`` is added to its data."""
    if STOP not in raw.fields:
        return _row(raw).document()
    known = _row(raw).document() if "data" in raw.fields else Document({})
    stamp = raw.update_time
    at = _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    stop = {"why": raw.fields[STOP].string_value, "at": at.isoformat()}
    return replace(known, data=dict(known.data) | {STOP: stop})


def _row(raw: Any) -> documents.StoredRow:
    fields = raw.fields
    schema = fields["schema"].integer_value if "schema" in fields else None
    if schema is None or not OLDEST <= schema <= SCHEMA:
        advice = "use the newer logmend that wrote it"
        raise Permanent(
            "ledger_schema", f"{raw.name} has schema {schema}, this logmend knows {SCHEMA}: {advice}"
        )
    return documents.StoredRow(
        fields["data"].string_value,
        fields["queue"].string_value.partition("~")[0] if "queue" in fields else None,
        _moment(fields["due"]) if "due" in fields else None,
        _moment(fields["expire_at"]) if "expire_at" in fields else None,
    )


def stored_of(raw: Any) -> Stored:
    """Return a stored document with its version and its name."""
    return Stored(decoded(raw), version_of(raw), raw.name)


def version_of(raw: Any) -> Version:
    """Return a document's version."""
    return raw.update_time.seconds, raw.update_time.nanos


def timestamp(moment: datetime) -> dict[str, int]:
    """Return a time as Firestore's timestamp, to the microsecond."""
    micros = (moment - _EPOCH) // _MICROSECOND
    return {"seconds": micros // 1_000_000, "nanos": micros % 1_000_000 * 1000}


def _moment(value: Any) -> datetime:
    stamp = value.timestamp_value
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
