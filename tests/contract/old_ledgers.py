"""Ledgers as released versions left them (``tests/fixtures/ledger``), put into each store as it was then."""

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from tests.contract.stores import Backend, SharedBackend

from logmend.adapters.stores import firestore_documents, spread
from logmend.ports import Document, Key, Store

FOLDER = Path(__file__).parents[1] / "fixtures" / "ledger"

_TABLES_OF_SCHEMA_1 = """
CREATE TABLE logmend_schema (version INTEGER NOT NULL);
CREATE TABLE documents (
    collection TEXT NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL,
    queue TEXT, due INTEGER, expire_at INTEGER,
    PRIMARY KEY (collection, id)
);
CREATE INDEX documents_due ON documents (collection, queue, due, id) WHERE queue IS NOT NULL;
CREATE INDEX documents_expire_at ON documents (expire_at) WHERE expire_at IS NOT NULL;
INSERT INTO logmend_schema VALUES (1);
"""


def kept(schema: int) -> tuple[datetime, dict[Key, Document]]:
    """Read a fixture: the time at which it was left, and its documents."""
    read = json.loads((FOLDER / f"schema-{schema}.json").read_text())
    return datetime.fromisoformat(read["now"]), {
        (each["collection"], each["id"]): Document(
            each["data"], each["queue"], _time(each["due"]), _time(each["expire_at"])
        )
        for each in read["documents"]
    }


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


async def put_back(backend: Backend, schema: int) -> datetime:
    """Make the backend's state that ledger, with the tables and fields of that time."""
    now, documents = kept(schema)
    if isinstance(backend, SharedBackend) and backend.name == "sqlite":
        _sqlite(Path(backend.address.partition(":")[2]), documents)
        return now
    store = backend.open()
    with (
        mock.patch.object(firestore_documents, "SCHEMA", schema),
        mock.patch.object(firestore_documents, "range_of", lambda queue, _: queue),  # one range each
        mock.patch.object(spread, "COLLECTIONS", frozenset()),
    ):
        await _put(store, documents)
    await store.aclose()
    return now


async def _put(store: Store, documents: dict[Key, Document]) -> None:
    for key, document in documents.items():
        await store.transact(
            [key],
            lambda _, key=key, document=document: ({key: document}, None),  # type: ignore[misc]
        )


def _sqlite(path: Path, documents: dict[Key, Document]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_TABLES_OF_SCHEMA_1)
    for (collection, name), each in documents.items():
        row: tuple[Any, ...] = (collection, name, json.dumps(each.data), each.queue)
        times = tuple(at and round(at.timestamp() * 1e6) for at in (each.due, each.expire_at))
        connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", row + times)
    connection.commit()
    connection.close()
