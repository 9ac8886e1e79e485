"""Find text that an entry's JSON must contain to match a filter: a cheap test before a costly one. Pure.

A needle is a run of characters that JSON writes as themselves. It comes from what the filter requires; if it
requires no text, there is no needle. The result is an upper bound: an entry without a needle is never
selected, and an entry with one may not be either.
"""

import re
from collections.abc import Iterable

from logmend.lql import functions
from logmend.lql.nodes import And, Call, Compare, Field, Literal, Node, Or, Value
from logmend.lql.schema import Kind, locate
from logmend.lql.values import boolean, double
from logmend.model.struct import Struct


class Needle(Struct, frozen=True):
    """A run of ASCII characters; ``folded``: in lower case, to be searched for ignoring case."""

    text: str
    folded: bool = False


Needles = frozenset[Needle]

_SAYING = frozenset({"textPayload", "jsonPayload", "protoPayload"})
"""Fields that distinguish the entries of one log; a resource's type does not."""
_PLAIN = re.compile(r"[ !#$%()*+,.0-9:;?@A-Z\[\]^_`a-z{|}~-]+")
"""What JSON writes as itself, whoever writes it. Some escape ``& ' < = >``, too (Gson, unless told not to be
HTML-safe; Go's ``encoding/json`` three of these), and some ``/`` (PHP, without JSON_UNESCAPED_SLASHES)."""
_QUANTIFIER = re.compile(r"[?*+]|\{[0-9]+(?:,[0-9]*)?\}")
_ESCAPE = re.compile(r"[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|..)|[0-7]{1,3}|[A-Za-z]")
_CLASS = re.compile(r"\[\^?\]?(?:\[:[^\]]*:\]|\\.|[^\]\\])*\]", re.DOTALL)
_GROUP = re.compile(r"\((?:\?:|\?P?<[A-Za-z_]\w*>|(?!\?))")


class _Unknown(Exception):
    """Pattern syntax that is not supported here."""


def run(text: str) -> str | None:
    """Return the longest run in a text that JSON writes as itself; None if there is none."""
    return max(_PLAIN.findall(text), key=len, default=None)


def of_filter(root: Node | None, log_name: str) -> Needles | None:
    """Return needles, one of which is in every entry of that log that the filter selects.

    An empty set means that it selects none of that log; None means that no needle is known.
    """
    match root:
        case And(items):
            return _sharpest(of_filter(each, log_name) for each in items)
        case Or(items):
            return _either(of_filter(each, log_name) for each in items)
        case Call(name="log_id"):
            return None if functions.compile_call(root)({"logName": log_name}) else frozenset()
        case Compare(Field((first, *_)) as field) if first in _SAYING and root.op in {"=", ":", "=~"}:
            if locate(field).kind in {Kind.STRING, Kind.DYNAMIC}:
                return _of_value(root.value, root.op)
    return None


def _of_value(value: Value | Node, op: str) -> Needles | None:
    match value:
        case And(items):
            return _sharpest(_of_value(each, op) for each in items)
        case Or(items):
            return _either(_of_value(each, op) for each in items)
        case Literal(text):
            if op == "=~":
                return of_pattern(text)
            other = value.is_null or double(text) is not None or boolean(text) is not None
            if other or not text.isascii() or (found := run(text)) is None:
                return None
            return frozenset({Needle(found.lower(), folded=True)})
    return None


def _sharpest(found: Iterable[Needles | None]) -> Needles | None:
    """Return, of several sets that all apply, the one whose shortest needle is longest."""
    return max((each for each in found if each is not None), key=_sharpness, default=None)


def _sharpness(needles: Needles) -> float:
    return min((len(each.text) for each in needles), default=float("inf"))


def _either(found: Iterable[Needles | None]) -> Needles | None:
    every = list(found)
    known = [each for each in every if each is not None]
    return frozenset().union(*known) if len(known) == len(every) else None


def of_pattern(pattern: str) -> Needles | None:
    """Return needles, one of which is in every text that an RE2 pattern matches; None if unknown."""
    try:
        found, end = _alternatives(pattern, 0)
    except (_Unknown, RecursionError):
        return None
    return found if end == len(pattern) else None


def _alternatives(pattern: str, at: int) -> tuple[Needles | None, int]:
    branches = []
    while True:
        found, at = _sequence(pattern, at)
        branches.append(found)
        if not pattern.startswith("|", at):
            return _either(branches), at
        at += 1


def _sequence(pattern: str, at: int) -> tuple[Needles | None, int]:
    """Read up to the next ``|`` or ``)``: it requires runs of literal characters, and groups."""
    demanded: list[Needles | None] = []
    literal = ""
    while at < len(pattern) and pattern[at] not in "|)":
        char, group, at = _atom(pattern, at)
        optional = False
        repeated = _QUANTIFIER.match(pattern, at)
        if repeated is not None:
            at = repeated.end() + pattern.startswith("?", repeated.end())
            optional = repeated[0] != "+"
            if _QUANTIFIER.match(pattern, at):
                raise _Unknown
        if char is not None and not optional:
            literal += char
        if char is None or repeated is not None:
            demanded += [_of_run(literal), None if optional else group]
            literal = ""
    return _sharpest([*demanded, _of_run(literal)]), at


def _of_run(literal: str) -> Needles | None:
    found = run(literal)
    return None if found is None else frozenset({Needle(found)})


def _atom(pattern: str, at: int) -> tuple[str | None, Needles | None, int]:
    """Return an atom's character, or what a group requires, and where it ends."""
    char = pattern[at]
    if char == "(":
        if (opened := _GROUP.match(pattern, at)) is None:
            raise _Unknown  # flags
        group, end = _alternatives(pattern, opened.end())
        if not pattern.startswith(")", end):
            raise _Unknown
        return None, group, end + 1
    if char == "[":
        if (found := _CLASS.match(pattern, at)) is None:
            raise _Unknown
        return None, None, found.end()
    if char == "\\":
        if pattern[at + 1 : at + 2] in {"", "Q", "C"}:
            raise _Unknown
        special = _ESCAPE.match(pattern, at + 1)
        return (pattern[at + 1], None, at + 2) if special is None else (None, None, special.end())
    return (None if char in ".^$" else char), None, at + 1


def together(sets: Iterable[Needles]) -> tuple[Needle, ...]:
    """Return alternative needles joined; one that contains another adds nothing."""
    every = frozenset().union(*sets)
    return tuple(
        sorted(
            (each for each in every if not any(_part(other, each) for other in every)),
            key=lambda each: each.text,
        )
    )


def _part(one: Needle, other: Needle) -> bool:
    """Return whether every text that contains ``other`` also contains ``one``."""
    if one == other or (other.folded and not one.folded):
        return False
    text = other.text.lower() if one.folded else other.text
    return one.text in text and (one.text != text or one.folded)
