"""The ledger's SQLite file: how it is opened, its schema, and what its errors mean."""

import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path

from logmend.errors import Permanent, Transient

SCHEMA = 2
"""Version of the tables below. A file with a newer version is refused; an older one is migrated."""

_TABLES = """
CREATE TABLE logmend_schema (version INTEGER NOT NULL);
CREATE TABLE ledger (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,        -- as documents.stored_id spells it
    data TEXT NOT NULL,      -- JSON
    queue TEXT,
    due INTEGER,             -- microseconds since 1970-01-01 UTC, like expire_at
    expire_at INTEGER,
    PRIMARY KEY (collection, id)
);
CREATE INDEX documents_due ON ledger (collection, queue, due, id) WHERE queue IS NOT NULL;
CREATE INDEX documents_expire_at ON ledger (expire_at) WHERE expire_at IS NOT NULL;
"""
_MIGRATIONS = {
    # Schema 1 named the table documents. A process of that version that has the file open no longer finds
    # the table, reopens the file and refuses it, so two versions never write the same ledger.
    1: "ALTER TABLE documents RENAME TO ledger",
}
"""The statement that turns each older schema into the next."""

BUSY_TIMEOUT = 5.0
"""Seconds per try that SQLite itself waits for another process's transaction."""


def classify(error: sqlite3.Error, path: Path) -> Transient | Permanent:
    """Return an SQLite error as an error of the ledger; unknown ones are transient."""
    # The low byte is the primary result code (https://sqlite.org/rescode.html). Errors that the Python
    # module itself raises (ProgrammingError and the like) have none.
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    match primary:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Transient("ledger_contention", f"{path}: {error}")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_FORMAT:
            return Permanent("ledger_corrupt", f"{path} is not a readable SQLite database: {error}")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return Permanent("ledger_forbidden", f"{path}: {error}")
        case sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH:
            return Permanent("ledger_rejected", f"{path}: {error}")
        case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_MISUSE | sqlite3.SQLITE_RANGE | sqlite3.SQLITE_NOTFOUND:
            # No such table or column: a database, but not a ledger.
            return Permanent("ledger_corrupt", f"{path}: {error}")
        case None if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError):
            return Permanent("ledger_rejected", f"{path}: {error}")
        case _:  # SQLITE_FULL, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_NOMEM, …
            return Transient("ledger_unavailable", f"{path}: {error}")


Identity = tuple[int, int]
"""Identifies a file whatever its name: device and inode."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A connection, and the file that it is open on."""

    path: Path
    identity: Identity
    connection: sqlite3.Connection

    def demand(self) -> None:
        """Check that the path still names this file; ``Transient("ledger_replaced")`` if not.

        What is written to a removed file is lost, and what other processes write to a new file, such as a
        freeze, would not be seen here.
        """
        demand(self.path, self.identity)


def connect(path: Path, was: Identity | None = None) -> OpenFile:
    """Open the file and create its tables if it is new; ``Permanent`` if it is not a ledger of this version.

    Only its owner may read and write a new file (0600; SQLite gives its companion files the same mode). A
    symbolic link is not followed. ``was`` is the file that this process had open before; if it is given, the
    path must still name that file.
    """
    if not path.parent.is_dir():
        raise Permanent("ledger_missing", f"the directory {path.parent} does not exist")
    if was is not None:
        demand(path, was)
    try:
        # Never open an existing file here: closing it would drop the locks that this process may hold on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except PermissionError:
        if not path.exists():
            detail = f"this user may not create files in {path.parent}"
            raise Permanent("ledger_forbidden", detail) from None
    except OSError as error:
        raise Transient("ledger_unavailable", f"{path}: {error.strerror}") from error
    mode, found = _look(path)
    if stat.S_ISDIR(mode):
        raise Permanent("ledger_missing", f"{path} is a directory")
    if stat.S_ISLNK(mode):
        raise Permanent("ledger_forbidden", f"{path} is a symbolic link; name the file itself")
    if not os.access(path, os.R_OK | os.W_OK):
        raise Permanent("ledger_forbidden", f"{path} cannot be read and written by this user")
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _check_schema(connection, path)
        demand(path, found)
    except BaseException:
        connection.close()
        raise
    return OpenFile(path, found, connection)


def demand(path: Path, was: Identity) -> None:
    """Check that a path still names a file; ``Transient("ledger_replaced")`` if not."""
    mode, found = _look(path)
    if found != was or not stat.S_ISREG(mode):
        raise Transient("ledger_replaced", f"{path} is no longer the file that this process opened")


def _look(path: Path) -> tuple[int, Identity]:
    """Return mode and identity of what a path names, without following a link; zeros if there is nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0, (0, 0)
    except OSError as error:
        raise Transient("ledger_unavailable", f"{path}: {error.strerror}") from error
    return found.st_mode, (found.st_dev, found.st_ino)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in a new file, or migrate an older ledger; refuse any other file."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        problem = _schema_problem(connection, path)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if problem is not None:
        raise problem


def _schema_problem(connection: sqlite3.Connection, path: Path) -> Permanent | None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO logmend_schema VALUES (?)", (SCHEMA,))
    elif "logmend_schema" not in tables:
        return Permanent("ledger_corrupt", f"{path} is an SQLite database that logmend did not make")
    (version,) = connection.execute("SELECT max(version) FROM logmend_schema").fetchone()
    while version in _MIGRATIONS:
        connection.execute(_MIGRATIONS[version])
        version += 1
        connection.execute("INSERT INTO logmend_schema VALUES (?)", (version,))
    if version != SCHEMA:
        advice = "use the newer logmend that wrote it"
        return Permanent(
            "ledger_schema", f"{path} has schema {version}, this logmend knows {SCHEMA}: {advice}"
        )
    return None
