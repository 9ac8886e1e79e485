"""The patterns of variants, matched by RE2 in time linear in the text, whatever the pattern.

So no log line can stall the function. RE2 is imported only when there is something to match.
"""

import functools
from typing import Protocol


class Re2Pattern(Protocol):
    """An RE2 pattern; the module has no types of its own."""

    def search(self, text: str) -> object:
        """Return a match; None if there is none."""
        ...


class _Set(Protocol):
    def Match(self, text: str) -> list[int] | None:  # noqa: N802  the name in the library
        """Return the indices of the patterns that match, if any."""
        ...


@functools.cache
def compiled(pattern: str) -> Re2Pattern:
    """Compile an RE2 pattern once; ValueError with RE2's message if it is invalid."""
    import re2  # noqa: PLC0415

    try:
        matcher: Re2Pattern = re2.compile(pattern, _options())  # type: ignore[no-untyped-call]
    except re2.error as error:
        why = error.args[0] if error.args else error
        raise ValueError(why.decode() if isinstance(why, bytes) else str(why)) from None
    return matcher


def first_found(patterns: tuple[str, ...], text: str) -> int | None:
    """Return the index of the first pattern that matches anywhere in ``text``; None if none does."""
    indices = _together(patterns).Match(text)
    if indices:
        return min(indices)
    # A set has no fallback if its cache of states gets too small; a single pattern has one.
    return next((n for n, each in enumerate(patterns) if compiled(each).search(text)), None)


@functools.cache
def _together(patterns: tuple[str, ...]) -> _Set:
    import re2  # noqa: PLC0415

    every = re2.Set.SearchSet(_options())  # type: ignore[no-untyped-call]
    for each in patterns:
        every.Add(each)
    every.Compile()
    together: _Set = every
    return together


def _options() -> object:
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.log_errors = False
    return options
