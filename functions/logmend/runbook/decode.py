"""Decode ``runbook.yaml`` strictly: every key known, every value typed, every problem reported.

Only implemented keys are accepted, so a misspelt guard cannot vanish silently.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from logmend.model.json import JsonObject
from logmend.runbook.patterns import compiled
from logmend.runbook.types import Problem

Word = TypeVar("Word", bound=str)
T = TypeVar("T")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WORDS: dict[type, str] = {str: "text", bool: "true or false", int: "a number", float: "a number"}
SNAKE = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
KEBAB = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"


def suggestion(word: str, words: Iterable[str]) -> str:
    """Return ``did you mean …?`` if one of ``words`` is close, otherwise a list of them all."""
    names = sorted(words)
    close = difflib.get_close_matches(word, names, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"


@dataclass(slots=True)
class Reader:
    """Takes values out of one mapping of a YAML document, collecting problems instead of raising."""

    file: str
    values: JsonObject
    problems: list[Problem]
    lines: Mapping[tuple[str | int, ...], int]
    path: tuple[str | int, ...] = ()
    taken: set[str] = field(default_factory=set)

    def wrong(self, key: str | None, message: str, hint: str = "") -> None:
        """Report a problem at ``key`` (None: at the mapping itself)."""
        path = self.path if key is None else (*self.path, key)
        while path and path not in self.lines:
            path = path[:-1]
        self.problems.append(Problem(self.file, self.lines.get(path), message, hint))

    def _name(self, key: str) -> str:
        return ".".join(str(part) for part in (*self.path, key))

    def take(self, key: str, kind: type[T], expected: str, *, required: bool = False) -> T | None:
        """Take ``key``, or None. Report a wrong type, an empty value, and a missing key if ``required``."""
        self.taken.add(key)
        value = self.values.get(key)
        if value is None:
            if required or key in self.values:
                self.wrong(key, f"{self._name(key)}: {expected} is missing")
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(key, f"{self._name(key)}: expected {expected}, found {described(value)}")
            return None
        return value

    def text(
        self, key: str, expected: str = "text", *, pattern: str | None = None, required: bool = False
    ) -> str | None:
        """Take text that fully matches ``pattern``, which ``expected`` describes in words."""
        value = self.take(key, str, expected, required=required)
        if value is None:
            return None
        if not value.strip() or (pattern is not None and not re.fullmatch(pattern, value)):
            self.wrong(key, f"{self._name(key)}: expected {expected}, found {described(value)}")
            return None
        return str(value)

    def one_of(self, key: str, words: tuple[Word, ...]) -> Word | None:
        """Take one of ``words``; required."""
        value = self.text(key, " or ".join(words), required=True)
        chosen = next((word for word in words if word == value), None)
        if value is not None and chosen is None:
            self.wrong(key, f"{self._name(key)}: no such value {value!r}", suggestion(value, words))
        return chosen

    def duration(self, key: str) -> timedelta | None:
        """Take a duration such as ``90s``, ``10m``, ``1h`` or ``1d``, longer than zero."""
        value = self.text(key, "a duration such as 90s, 10m, 1h or 1d", pattern=r"0*[1-9][0-9]{0,5}[smhd]")
        return None if value is None else timedelta(**{_UNITS[value[-1]]: int(value[:-1])})

    def whole(self, key: str) -> int | None:
        """Take a whole number of at least 1."""
        value: int | None = self.take(key, int, "a whole number of at least 1")
        if value is not None and value < 1:
            self.wrong(key, f"{self._name(key)}: expected a whole number of at least 1, found {value}")
            return None
        return value

    def strings(self, key: str, expected: str, pattern: str) -> tuple[str, ...]:
        """Take a list of distinct strings, each fully matching ``pattern``; empty if absent."""
        texts: list[str] = []
        for n, item in enumerate(self.take(key, list, f"a list of {expected}s") or ()):
            if not isinstance(item, str) or not re.fullmatch(pattern, item):
                self.wrong(key, f"{self._name(key)}[{n}]: expected {expected}, found {described(item)}")
            elif item in texts:
                self.wrong(key, f"{self._name(key)}[{n}]: {item} is listed twice")
            else:
                texts.append(item)
        return tuple(texts)

    def regex(self, key: str) -> str | None:
        """Take a required RE2 pattern, which may be written as a list of parts."""
        value = self.joined(key, required=True)
        return None if value is None else self.checked_regex(key, value)

    def joined(self, key: str, *, required: bool = False) -> str | None:
        """Take text, or a list of texts, which are joined without a separator."""
        value = self.values.get(key)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            self.taken.add(key)
            return "".join(value)
        return self.text(key, "a pattern, or a list of its parts", required=required)

    def checked_regex(self, key: str, pattern: str) -> str | None:
        """Return ``pattern``; if RE2 cannot compile it, report that at ``key`` and return None."""
        try:
            compiled(pattern)
        except ValueError as error:
            self.wrong(key, f"{self._name(key)}: no RE2 pattern: {error}")
            return None
        return pattern

    def mapping(self, key: str) -> "Reader":
        """Take a mapping; empty if absent."""
        return self._below(key, self.take(key, dict, "a mapping of keys to values") or {})

    def mappings(self, key: str) -> Iterator["Reader"]:
        """Take a list of mappings; empty if absent."""
        for n, item in enumerate(self.take(key, list, "a list of mappings") or ()):
            if isinstance(item, dict):
                yield self._below(key, item, n)
            else:
                self.wrong(key, f"{self._name(key)}[{n}]: expected a mapping, found {described(item)}")

    def _below(self, key: str, values: JsonObject, *more: int) -> "Reader":
        return Reader(self.file, values, self.problems, self.lines, (*self.path, key, *more))

    def done(self) -> None:
        """Report every key that nothing took."""
        for key in self.values:
            if key not in self.taken:
                self.wrong(str(key), f"unknown key {self._name(str(key))}", suggestion(str(key), self.taken))


def described(value: object) -> str:
    """Describe a value for a problem's message."""
    match value:
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case bool() | int() | float():
            return f"{_WORDS[type(value)]} ({str(value).lower()})"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case _:
            return f"a {type(value).__name__}"
