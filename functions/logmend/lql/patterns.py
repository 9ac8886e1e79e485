"""Regular expressions with RE2, which matches in time linear in the text, whatever the pattern.

The compiled program's size is limited per filter, so nested repetitions cannot make that linear time long:
RE2's slowest matcher takes at most (instructions x bytes) steps.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, Protocol

import re2

from logmend.lql import needles
from logmend.lql.errors import FilterError
from logmend.lql.nodes import Literal

MAX_MEMORY = 1 << 20  # bytes for a pattern's program and its cache of states
MAX_INSTRUCTIONS = 5_000  # of all patterns of one filter together

WARM = 16
"""Texts searched for a pattern before its shortcuts are built, which takes a millisecond."""

# Characters that mean themselves, and alternatives of such; saves the call of RE2, half the time of a match.
_PLAIN = re.compile(r"[\w /:,;=<>@%&~'\"!#-]+(?:\|[\w /:,;=<>@%&~'\"!#-]+)*", re.ASCII)


class _Found(Protocol):
    """What RE2 found in a text; its module has no types."""

    def group(self, number: int) -> bytes | None:
        """Return what a group matched, in UTF-8."""


class Compiled(Protocol):
    """A pattern compiled by RE2."""

    groups: int
    programsize: int

    def search(self, text: bytes) -> _Found | None:
        """Return the first match."""


class Patterns:
    """Compiles the patterns of one filter within their common limit."""

    def __init__(self) -> None:
        self._left = MAX_INSTRUCTIONS
        self._known: dict[str, Compiled] = {}

    def compile(self, literal: Literal) -> Compiled:
        """Compile a pattern, one that several fields are compared with once. Raises FilterError."""
        if (known := self._known.get(literal.text)) is None:
            known = self._known[literal.text] = self._compiled(literal)
        return known

    def _compiled(self, literal: Literal) -> Compiled:
        try:
            compiled: Compiled = re2.compile(  # type: ignore[no-untyped-call]
                utf8(literal.text), _options()
            )
        except re2.error as error:
            reason = error.args[0] if error.args else b""
            told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            raise FilterError(
                f"the regular expression is not one of RE2: {told}",
                *literal.at,
                hint="see https://github.com/google/re2/wiki/Syntax",
            ) from None
        self._left -= compiled.programsize
        if self._left < 0:
            raise FilterError(
                f"the regular expressions of the filter have more than {MAX_INSTRUCTIONS:,} instructions",
                *literal.at,
                hint="use smaller repetition counts",
            )
        return compiled


def finder(pattern: str, compiled: Compiled) -> Callable[[str], bool]:
    """Return a test whether a text contains a match. For plain words it is a substring search."""
    if _PLAIN.fullmatch(pattern):
        words = tuple(pattern.split("|"))
        if len(words) == 1:
            return lambda text: pattern in text
        return lambda text: any(word in text for word in words)
    search, left = compiled.search, WARM
    demanded: tuple[str, ...] = ("",)
    matches: Callable[[bytes], bool] = _misses

    def find(text: str) -> bool:
        nonlocal left, demanded, matches
        if left:
            left -= 1
            if not left:
                demanded, matches = _shortcuts(pattern)
        for each in demanded:
            if each in text:
                break
        else:
            return False
        encoded = text.encode() if text.isascii() else utf8(text)
        return matches(encoded) or search(encoded) is not None

    return find


@functools.lru_cache(maxsize=256)
def _shortcuts(pattern: str) -> tuple[tuple[str, ...], Callable[[bytes], bool]]:
    """Return texts, one of which is in every text that matches, and a test that may miss a match.

    The test takes half the time of a search, which asks where the match is.
    """
    demanded = tuple(each.text for each in needles.of_pattern(pattern) or ()) or ("",)
    try:
        one = re2.Set.SearchSet(_options())  # type: ignore[no-untyped-call]
        one.Add(utf8(pattern))
        one.Compile()
    except re2.error:
        return demanded, _misses
    return demanded, lambda text: bool(one.Match(text))


def _misses(_text: bytes) -> bool:
    return False


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    return options


def utf8(text: str) -> bytes:
    """Encode. A lone surrogate, which JSON can carry and UTF-8 cannot, becomes bytes that no text has."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
