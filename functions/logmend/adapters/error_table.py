"""Look up an exception in a table of qualified class names, nearest class first.

The tables hold names rather than classes because a library may not be imported yet: only events that need
the heavy clients load them. ``tests/unit/test_error_tables.py`` walks the libraries and fails if no row
covers a class, or if a row's class no longer exists.
"""

from collections.abc import Mapping
from typing import Literal

from logmend.errors import Permanent, Transient
from logmend.model.struct import Struct

DETAIL_LIMIT = 300
"""How many characters of a library's message are kept: enough to act on, too few to flood a log."""

UNEXPECTED = "unexpected_error"
"""Reason for an exception that is in no table. It is always transient: its event is never acknowledged."""


class ErrorRow(Struct, frozen=True):
    """What an exception class means, including its subclasses that have no row of their own."""

    kind: Literal["transient", "permanent"]
    reason: str


Table = Mapping[str, ErrorRow]


def transient(reason: str) -> ErrorRow:
    """Return a row for an error for which trying again later can help."""
    return ErrorRow("transient", reason)


def permanent(reason: str) -> ErrorRow:
    """Return a row for an error for which trying again at once cannot help."""
    return ErrorRow("permanent", reason)


def qualified_name(cls: type) -> str:
    """Return ``module.ClassName``, the form of the tables' keys."""
    return f"{cls.__module__}.{cls.__qualname__}"


def nearest(cls: type, table: Table) -> tuple[str, ErrorRow] | None:
    """Return the key and row of the first class in the MRO that is in the table, or None."""
    for base in cls.__mro__:
        if (row := table.get(qualified_name(base))) is not None:
            return qualified_name(base), row
    return None


def one_line(exc: BaseException | str) -> str:
    """Return an error's text for people: one line of bounded length, never empty."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return text if len(text) <= DETAIL_LIMIT else text[: DETAIL_LIMIT - 1] + "…"


def error_of(row: ErrorRow, detail: str, *, retry_after: float | None = None) -> Transient | Permanent:
    """Return the error that a row stands for."""
    if row.kind == "permanent":
        return Permanent(row.reason, detail)
    return Transient(row.reason, detail, retry_after=retry_after)
