"""What has to stand in an entry's JSON for a filter to select it: a cheap look before a dear one. Pure.

A needle is a run of characters that JSON writes as themselves. It is taken from what a filter demands
anyway; where nothing is demanded, there is none. All that follows is an upper bound: an entry in which no
needle stands is never selected, one in which a needle stands may not be either.
"""

import re
from collections.abc import Iterable

from logmend.lql import functions
from logmend.lql.nodes import And, Call, Compare, Field, Literal, Node, Or, Value
from logmend.lql.schema import Kind, locate
from logmend.lql.values import boolean, double
from logmend.model.struct import Struct


class Needle(Struct, frozen=True):
    """A run of ASCII characters; ``folded``: in lower case, to be looked for without regard to case."""

    text: str
    folded: bool = False


Needles = frozenset[Needle]

_SAYING = frozenset({"textPayload", "jsonPayload", "protoPayload"})
"""Fields that tell entries of one log apart; a resource's type does not."""
_PLAIN = re.compile(r"[ !#$%()*+,.0-9:;?@A-Z\[\]^_`a-z{|}~-]+")
"""What JSON writes as itself, whoever writes it. Some escape ``& ' < = >``, too (Gson, unless told not to be
HTML-safe; Go's ``encoding/json`` three of these), and some ``/`` (PHP, without JSON_UNESCAPED_SLASHES)."""
_QUANTIFIER = re.compile(r"[?*+]|\{[0-9]+(?:,[0-9]*)?\}")
_ESCAPE = re.compile(r"[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|..)|[0-7]{1,3}|[A-Za-z]")
_CLASS = re.compile(r"\[\^?\]?(?:\[:[^\]]*:\]|\\.|[^\]\\])*\]", re.DOTALL)
_GROUP = re.compile(r"\((?:\?:|\?P?<[A-Za-z_]\w*>|(?!\?))")


class _Unknown(Exception):
    """Syntax of a pattern that is not read here."""


def run(text: str) -> str | None:
    """Return the longest run of a text that JSON writes as itself; None if it has none."""
    return max(_PLAIN.findall(text), key=len, default=None)


def of_filter(root: Node | None, log_name: str) -> Needles | None:
    """Return needles of which one stands in every entry of that log that the filter selects.

    The empty set: it selects none of that log. None: no needle is known.
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
    """Of several sets that all hold, take the one whose shortest needle is longest."""
    return max((each for each in found if each is not None), key=_sharpness, default=None)


def _sharpness(needles: Needles) -> float:
    return min((len(each.text) for each in needles), default=float("inf"))


def _either(found: Iterable[Needles | None]) -> Needles | None:
    every = list(found)
    known = [each for each in every if each is not None]
    return frozenset().union(*known) if len(known) == len(every) else None


def of_pattern(pattern: str) -> Needles | None:
    """Return needles of which one stands in every text in which an RE2 pattern is found; None: unknown."""
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
    """Read up to the next ``|`` or ``)``: literal characters in a row, and groups, are what it demands."""
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
    """Read one atom: the character that it is, or what a group demands, and where it ends."""
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
    """Join needles of which any counts; one that another is part of adds nothing."""
    every = frozenset().union(*sets)
    return tuple(
        sorted(
            (each for each in every if not any(_part(other, each) for other in every)),
            key=lambda each: each.text,
        )
    )


def _part(one: Needle, other: Needle) -> bool:
    """Whether wherever ``other`` stands, ``one`` does, too."""
    if one == other or (other.folded and not one.folded):
        return False
    text = other.text.lower() if one.folded else other.text
    return one.text in text and (one.text != text or one.folded)
