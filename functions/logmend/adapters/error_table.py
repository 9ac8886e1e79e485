"""Look an exception up in a table of qualified class names, nearest class first.

Names instead of classes, so that a table can speak of a library that has not been imported: the heavy
clients are loaded only by events that need them. ``tests/unit/test_error_tables.py`` walks the libraries
and fails on a class that no row covers, and on a row whose class no longer exists.
"""

from collections.abc import Mapping
from typing import Literal

from logmend.errors import Permanent, Transient
from logmend.model.struct import Struct

DETAIL_LIMIT = 300
"""Characters of a library's message that are kept: enough to act on, too few to flood a log."""

UNEXPECTED = "unexpected_error"
"""Reason of an exception that no table knows. Always transient, so that its event is never acknowledged."""


class ErrorRow(Struct, frozen=True):
    """What a class of exceptions means, and its subclasses that have no row of their own."""

    kind: Literal["transient", "permanent"]
    reason: str


Table = Mapping[str, ErrorRow]


def transient(reason: str) -> ErrorRow:
    """Row of a table: trying again later can help."""
    return ErrorRow("transient", reason)


def permanent(reason: str) -> ErrorRow:
    """Row of a table: trying again at once cannot help."""
    return ErrorRow("permanent", reason)


def qualified_name(cls: type) -> str:
    """``module.ClassName``, as the tables are keyed."""
    return f"{cls.__module__}.{cls.__qualname__}"


def nearest(cls: type, table: Table) -> tuple[str, ErrorRow] | None:
    """Key and row of the first class in the method resolution order that the table names, or None."""
    for base in cls.__mro__:
        if (row := table.get(qualified_name(base))) is not None:
            return qualified_name(base), row
    return None


def one_line(exc: BaseException | str) -> str:
    """Text of an error for people: one line, bounded, never empty."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return text if len(text) <= DETAIL_LIMIT else text[: DETAIL_LIMIT - 1] + "…"


def error_of(row: ErrorRow, detail: str, *, retry_after: float | None = None) -> Transient | Permanent:
    """Build the error that a row stands for."""
    if row.kind == "permanent":
        return Permanent(row.reason, detail)
    return Transient(row.reason, detail, retry_after=retry_after)
