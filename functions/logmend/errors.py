"""Errors, typed by what the caller should do about them.

::

    LogmendError
    ├── Transient            trying again later can help: the event is redelivered or parked
    ├── Permanent            trying again at once cannot help: the event ends with a final outcome
    ├── ConfigError          start-up or command-line input that cannot be used (lists every problem found)
    └── Superseded           a newer attempt holds the lease: record nothing, touch nothing

Adapters translate every exception of the libraries they use into ``Transient`` or ``Permanent``;
an exception that is neither is treated as transient by the pipeline, so that it is never acknowledged.
"""

import re
from collections.abc import Sequence
from json import JSONDecodeError


class LogmendError(Exception):
    """Base class of every error that logmend raises on purpose."""


class Transient(LogmendError):
    """Trying again later can help.

    ``reason`` is one snake_case word of :mod:`logmend.outcome.reasons`; ``detail`` is text for people, never
    the matched log text; ``retry_after`` is the wait in seconds that the other side asked for, if it did.
    """

    def __init__(self, reason: str, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after


class Permanent(LogmendError):
    """Trying again at once cannot help. ``reason`` and ``detail`` as in :class:`Transient`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Superseded(LogmendError):
    """The lease was lost to a newer attempt: whatever this attempt found must not be recorded."""


class ConfigError(LogmendError):
    """Input of the operator's that cannot be used. ``problems`` holds one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def in_words(error: Exception) -> str:
    """Return what is amiss with a document that could not be read: a key, a word, or its shape."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    known = re.fullmatch(r"(.+) is not a valid (\w+)", str(error))  # an enum's own words
    if isinstance(error, ValueError) and known:
        return f"{known[1][:60]} is not a known {known[2].lower()}"
    return "it is not JSON" if isinstance(error, JSONDecodeError) else "it has an unexpected form"
