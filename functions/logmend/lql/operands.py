"""The operands of comparisons: values, paths of fields, functions and their arguments."""

import re
from typing import TypeAlias

from lark import Token, Tree

from logmend.lql import strings
from logmend.lql.errors import FilterError
from logmend.lql.nodes import Argument, Cast, Extract, Field, Literal, Position, Target
from logmend.lql.schema import canonical

Parsed: TypeAlias = "Tree[Token]"

PATTERN_OPS = frozenset({"=~", "!~"})
CAST_TYPES = ("STRING", "INT64", "FLOAT64", "BOOL", "TIMESTAMP", "DURATION")
_PLAIN = re.compile(r"[\w@$-]+")
_KEYWORDS = frozenset({"AND", "OR", "NOT"})
# Function names with their minimum and maximum number of arguments.
CONDITIONS = {"log_id": (1, 1), "source": (1, 1), "sample": (2, 2), "ip_in_net": (2, 2), "search": (1, 2)}
TARGETS = {"cast": (2, 3), "regexp_extract": (2, 2), "timezone": (1, 1)}
FUNCTIONS = frozenset(CONDITIONS) | frozenset(TARGETS)
USAGE = {
    "log_id": 'log_id("syslog")',
    "source": "source(projects/PROJECT_ID)",
    "sample": "sample(FIELD, FRACTION)",
    "ip_in_net": 'ip_in_net(FIELD, "10.0.0.0/8")',
    "search": 'SEARCH("words") or SEARCH(FIELD, "words")',
    "cast": 'cast(FIELD, TYPE) or cast(FIELD, TYPE, TIMEZONE("Europe/Berlin"))',
    "regexp_extract": 'regexp_extract(FIELD, "one (group)")',
    "timezone": 'cast(FIELD, TYPE, TIMEZONE("Europe/Berlin"))',
}


def literal_of(token: Token, op: str) -> Literal:
    """Read a value; ``op`` tells a regular expression from a plain string. Raises FilterError."""
    at, raw = position_of(token), str(token)
    if token.type == "STRING":
        try:
            return Literal(strings.decode(raw, pattern=op in PATTERN_OPS), quoted=True, at=at)
        except strings.EscapeError as error:
            before = raw[: error.offset + 1]
            down = before.count("\n")
            column = len(before) - before.rfind("\n") if down else at.column + len(before)
            raise FilterError(error.message, at.line + down, column, hint=error.hint) from None
    if raw in _KEYWORDS:
        hint = f'the word itself is "{raw}"' + ("; negate twice with NOT (NOT ...)" if raw == "NOT" else "")
        raise FilterError(f"expected a value, found {raw}", *at, "a value", hint)
    if "--" in raw:
        raise FilterError(
            f"'{raw}' holds the start of a comment", *at, hint="use double quotes, or put a space before --"
        )
    if op in PATTERN_OPS:
        raise FilterError(
            "a regular expression has to be in double quotes", *at, "a quoted string", f'write "{raw}"'
        )
    return Literal(raw, quoted=False, at=at)


def single_token(path: Parsed, expected: str) -> Token:
    """Return the token of a path that is only a bare text."""
    tokens = _segments(path)
    if len(tokens) > 1:
        shown = ".".join(tokens)
        raise FilterError(
            f"expected {expected}",
            *position_of(tokens[0]),
            expected,
            f'text with a dot has to be quoted: "{shown}"',
        )
    return tokens[0]


def _segments(path: Parsed) -> list[Token]:
    found: list[Token] = []
    while len(path.children) == 3:
        dot, key = as_token(path.children[1]), as_token(path.children[2])
        found.append(key)
        path = as_tree(path.children[0])
        before = path.children[-1]
        if as_token(before).end_pos != dot.start_pos or dot.end_pos != key.start_pos:
            raise FilterError(
                "whitespace in the name of a field", *position_of(dot), hint="write a.b without spaces"
            )
    found.append(as_token(path.children[0]))
    return found[::-1]


def field_of(path: Parsed) -> Field:
    """Read the path of a field. Raises FilterError if it is undefined."""
    segments = []
    for token in _segments(path):
        if token.type == "STRING":
            segments.append(literal_of(token, "=").text)
        elif not _PLAIN.fullmatch(token):
            raise FilterError(
                f"special characters in the name {token}",
                *position_of(token),
                hint=f'put it in double quotes: "{token}"',
            )
        else:
            segments.append(str(token))
    return canonical(tuple(segments), start_of(path))


def target_of(tree: Parsed) -> Target:
    """Read the left-hand side of an operator. Raises FilterError."""
    if tree.data == "path":
        return field_of(tree)
    name, at = function_of(tree)
    if name not in {"cast", "regexp_extract"}:
        raise FilterError(
            f"{name}(...) is a condition by itself and takes no operator", *at, hint=f"as in {USAGE[name]}"
        )
    args = tree.children[1:]
    _count(name, len(args), at)
    if not isinstance(args[0], Tree):
        raise FilterError(f"expected a field as first argument of {name}", *start_of(args[0]), "a field")
    inner = target_of(args[0])
    if name == "regexp_extract":
        if not isinstance(args[1], Token) or args[1].type != "STRING":
            raise FilterError("expected a quoted regular expression", *start_of(args[1]), "a quoted string")
        return Extract(inner, literal_of(args[1], "=~"), at)
    return Cast(inner, _type(args[1]), _zone(args[2]) if len(args) > 2 else None, at)


def _type(arg: "Parsed | Token") -> str:
    written = ".".join(_segments(arg)) if isinstance(arg, Tree) and arg.data == "path" else ""
    if written.upper() not in CAST_TYPES:
        raise FilterError("expected a type to cast to", *start_of(arg), "one of " + ", ".join(CAST_TYPES))
    return written.upper()


def _zone(arg: "Parsed | Token") -> str:
    if isinstance(arg, Tree) and arg.data == "call":
        name, at = function_of(arg)
        if name == "timezone":
            _count(name, len(arg.children) - 1, at)
            if isinstance(zone := arg.children[1], Token) and zone.type == "STRING":
                return literal_of(zone, "=").text
    raise FilterError("expected a time zone", *start_of(arg), 'TIMEZONE("Area/City")')


def arguments_of(tree: Parsed, name: str) -> tuple[Argument, ...]:
    """Read the arguments of a function that is a condition by itself. Raises FilterError."""
    args = tree.children[1:]
    _count(name, len(args), start_of(tree))
    takes_field = name in {"sample", "ip_in_net"} or (name == "search" and len(args) == 2)
    found: list[Argument] = []
    for n, arg in enumerate(args):
        if n == 0 and takes_field:
            if not isinstance(arg, Tree) or arg.data != "path":
                raise FilterError(f"expected a field as first argument of {name}", *start_of(arg), "a field")
            found.append(field_of(arg))
        elif isinstance(arg, Tree) and arg.data == "call":
            raise FilterError(f"a function cannot be an argument of {name}", *start_of(arg), "a value")
        else:
            token = single_token(arg, "a value") if isinstance(arg, Tree) else arg
            found.append(literal_of(token, "="))
    return tuple(found)


def function_of(tree: Parsed) -> tuple[str, Position]:
    """Return the name of a call in lower case, and where it starts. Raises FilterError for an unknown one."""
    token = as_token(tree.children[0])
    name = token[:-1].lower()
    if name not in CONDITIONS and name not in TARGETS:
        raise FilterError(
            f"unknown function {token[:-1]}",
            *position_of(token),
            "one of log_id, source, sample, ip_in_net, SEARCH, cast, regexp_extract",
            "leave a space before a parenthesis that groups",
        )
    return name, position_of(token)


def _count(name: str, given: int, at: Position) -> None:
    least, most = {**CONDITIONS, **TARGETS}[name]
    if not least <= given <= most:
        raise FilterError(f"{name} does not take {given} arguments", *at, hint=f"as in {USAGE[name]}")


def as_tree(child: "Parsed | Token") -> Parsed:
    """Narrow the type of a child that the grammar makes a rule."""
    assert isinstance(child, Tree)
    return child


def as_token(child: "Parsed | Token") -> Token:
    """Narrow the type of a child that the grammar makes a terminal."""
    assert isinstance(child, Token)
    return child


def position_of(token: Token) -> Position:
    """Return where a token starts."""
    return Position(token.line or 1, token.column or 1)


def start_of(child: "Parsed | Token") -> Position:
    """Return where the first token of a rule starts."""
    while isinstance(child, Tree):
        child = child.children[0]
    return position_of(child)
