"""From lark's parse tree to the syntax tree: the checks that need no field's type are made here."""

import re
from typing import TypeAlias

from lark import Token, Tree

from logmend.lql import strings
from logmend.lql.errors import FilterError
from logmend.lql.nodes import (
    And,
    Argument,
    Call,
    Cast,
    Compare,
    Extract,
    Field,
    Literal,
    Node,
    Not,
    Or,
    Position,
    Present,
    Target,
    Term,
    Value,
)
from logmend.lql.schema import canonical

Parsed: TypeAlias = "Tree[Token]"

PATTERN_OPS = frozenset({"=~", "!~"})
CAST_TYPES = ("STRING", "INT64", "FLOAT64", "BOOL", "TIMESTAMP", "DURATION")
_PLAIN = re.compile(r"[\w@$-]+")
_KEYWORDS = frozenset({"AND", "OR", "NOT"})
# Names of functions with the least and the most arguments.
_CONDITIONS = {"log_id": (1, 1), "source": (1, 1), "sample": (2, 2), "ip_in_net": (2, 2), "search": (1, 2)}
_TARGETS = {"cast": (2, 3), "regexp_extract": (2, 2), "timezone": (1, 1)}
FUNCTIONS = frozenset(_CONDITIONS) | frozenset(_TARGETS)
_USAGE = {
    "log_id": 'log_id("syslog")',
    "source": "source(projects/PROJECT_ID)",
    "sample": "sample(FIELD, FRACTION)",
    "ip_in_net": 'ip_in_net(FIELD, "10.0.0.0/8")',
    "search": 'SEARCH("words") or SEARCH(FIELD, "words")',
    "cast": 'cast(FIELD, TYPE) or cast(FIELD, TYPE, TIMEZONE("Europe/Berlin"))',
    "regexp_extract": 'regexp_extract(FIELD, "one (group)")',
    "timezone": 'cast(FIELD, TYPE, TIMEZONE("Europe/Berlin"))',
}


def build(tree: Parsed) -> Node | None:
    """Build the tree of a whole filter; None for an empty one. Raises FilterError."""
    return _all(_tree(tree.children[0]), None) if tree.children else None


def _all(tree: Parsed, op: str | None) -> Node:
    """Build a conjunction. Inside a value group ``op`` is the operator that applies to each element."""
    items: list[Node] = []
    for child in _chain(tree):
        node = _any(child, op)
        items.extend(node.items if isinstance(node, And) else [node])
    return items[0] if len(items) == 1 else And(tuple(items), items[0].at)


def _any(tree: Parsed, op: str | None) -> Node:
    items: list[Node] = []
    for child in _chain(tree):
        node = _term(child, op)
        items.extend(node.items if isinstance(node, Or) else [node])
    if len(items) > 1:
        return Or(tuple(items), items[0].at)
    return node if isinstance(node, Or) else items[0]


def _chain(tree: Parsed) -> list[Parsed]:
    """List the elements of a left-recursive rule, without recursion: there may be thousands."""
    found = []
    while len(tree.children) == 2:
        found.append(_tree(tree.children[1]))
        tree = _tree(tree.children[0])
    found.append(_tree(tree.children[0]))
    return found[::-1]


def _term(tree: Parsed, op: str | None) -> Node:
    inner = _tree(tree.children[-1])
    node = _simple(inner, op)
    if len(tree.children) == 1:
        return node
    sign = _token(tree.children[0])
    if (
        op is not None
        and sign == "-"
        and isinstance(node, Literal)
        and not node.quoted
        and node.text[0].isdigit()
    ):
        raise FilterError(
            f"'-{node.text}' in a value group can be a number or a negation",
            *_at(sign),
            hint=f'write "-{node.text}" or NOT {node.text}',
        )
    return Not(node, _at(sign))


def _simple(tree: Parsed, op: str | None) -> Node:
    if tree.data == "parens":
        node = _all(_tree(tree.children[0]), op)
        if isinstance(node, Or):
            return Or(node.items, node.at, parens=True)
        return node
    if op is not None:
        return _element(tree, op)
    return _comparison(tree)


def _element(tree: Parsed, op: str) -> Literal:
    """One element of a value group."""
    first = tree.children[0]
    if len(tree.children) > 1:
        raise FilterError(
            "expected a value in the value group, found a comparison",
            *_start(first),
            "a value",
            'a group holds values only, as in field = ("a" OR "b")',
        )
    if isinstance(first, Tree):
        if first.data == "call":
            raise FilterError("a function cannot stand in a value group", *_start(first), "a value")
        return _literal(_single(first, "a value"), op)
    return _literal(first, op)


def _comparison(tree: Parsed) -> Node:
    first = tree.children[0]
    if len(tree.children) == 1:
        return _alone(first)
    target = _target(_tree(first))
    op = str(_token(tree.children[1]))
    value = _value(tree.children[2], op)
    return Compare(target, op, value, target.at)


def _alone(first: "Parsed | Token") -> Node:
    """Build a comparison without operator: a term or a function."""
    if isinstance(first, Tree) and first.data == "call":
        name, at = _name(first)
        if name in _TARGETS:
            raise FilterError(
                f"expected an operator after {name}(...)", *at, "an operator", f'as in {_USAGE[name]} = "x"'
            )
        return Call(name, _arguments(first, name), at)
    token = _single(first, "an operator after the field") if isinstance(first, Tree) else first
    literal = _literal(token, ":")
    return Term(literal, literal.at)


def _value(child: "Parsed | Token", op: str) -> Value:
    if isinstance(child, Token):
        if child.type == "STAR":
            if op != ":":
                raise FilterError("'*' stands for presence and follows ':' only", *_at(child), "a value")
            return Present(_at(child))
        return _literal(child, op)
    if child.data == "call":
        name, at = _name(child)
        raise FilterError(f"the function {name} cannot be used as a value", *at, "a value")
    node = _all(_tree(child.children[0]), op)
    if isinstance(node, Literal | And | Or | Not):
        return node
    raise AssertionError(node)  # a group holds nothing else


def _literal(token: Token, op: str) -> Literal:
    at, raw = _at(token), str(token)
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


def _single(path: Parsed, expected: str) -> Token:
    """Return the token of a path that is no path but a bare text."""
    tokens = _segments(path)
    if len(tokens) > 1:
        shown = ".".join(tokens)
        raise FilterError(
            f"expected {expected}", *_at(tokens[0]), expected, f'text with a dot has to be quoted: "{shown}"'
        )
    return tokens[0]


def _segments(path: Parsed) -> list[Token]:
    found: list[Token] = []
    while len(path.children) == 3:
        dot, key = _token(path.children[1]), _token(path.children[2])
        found.append(key)
        path = _tree(path.children[0])
        before = path.children[-1]
        if _token(before).end_pos != dot.start_pos or dot.end_pos != key.start_pos:
            raise FilterError("whitespace in the name of a field", *_at(dot), hint="write a.b without spaces")
    found.append(_token(path.children[0]))
    return found[::-1]


def _field(path: Parsed) -> Field:
    segments = []
    for token in _segments(path):
        if token.type == "STRING":
            segments.append(_literal(token, "=").text)
        elif not _PLAIN.fullmatch(token):
            raise FilterError(
                f"special characters in the name {token}",
                *_at(token),
                hint=f'put it in double quotes: "{token}"',
            )
        else:
            segments.append(str(token))
    return canonical(tuple(segments), _start(path))


def _target(tree: Parsed) -> Target:
    if tree.data == "path":
        return _field(tree)
    name, at = _name(tree)
    if name not in {"cast", "regexp_extract"}:
        raise FilterError(
            f"{name}(...) is a condition by itself and takes no operator", *at, hint=f"as in {_USAGE[name]}"
        )
    args = tree.children[1:]
    _count(name, len(args), at)
    if not isinstance(args[0], Tree):
        raise FilterError(f"expected a field as first argument of {name}", *_start(args[0]), "a field")
    inner = _target(args[0])
    if name == "regexp_extract":
        if not isinstance(args[1], Token) or args[1].type != "STRING":
            raise FilterError("expected a quoted regular expression", *_start(args[1]), "a quoted string")
        return Extract(inner, _literal(args[1], "=~"), at)
    return Cast(inner, _type(args[1]), _zone(args[2]) if len(args) > 2 else None, at)


def _type(arg: "Parsed | Token") -> str:
    written = ".".join(_segments(arg)) if isinstance(arg, Tree) and arg.data == "path" else ""
    if written.upper() not in CAST_TYPES:
        raise FilterError("expected a type to cast to", *_start(arg), "one of " + ", ".join(CAST_TYPES))
    return written.upper()


def _zone(arg: "Parsed | Token") -> str:
    if isinstance(arg, Tree) and arg.data == "call":
        name, at = _name(arg)
        if name == "timezone":
            _count(name, len(arg.children) - 1, at)
            if isinstance(zone := arg.children[1], Token) and zone.type == "STRING":
                return _literal(zone, "=").text
    raise FilterError("expected a time zone", *_start(arg), 'TIMEZONE("Area/City")')


def _arguments(tree: Parsed, name: str) -> tuple[Argument, ...]:
    args = tree.children[1:]
    _count(name, len(args), _start(tree))
    takes_field = name in {"sample", "ip_in_net"} or (name == "search" and len(args) == 2)
    found: list[Argument] = []
    for n, arg in enumerate(args):
        if n == 0 and takes_field:
            if not isinstance(arg, Tree) or arg.data != "path":
                raise FilterError(f"expected a field as first argument of {name}", *_start(arg), "a field")
            found.append(_field(arg))
        elif isinstance(arg, Tree) and arg.data == "call":
            raise FilterError(f"a function cannot be an argument of {name}", *_start(arg), "a value")
        else:
            token = _single(arg, "a value") if isinstance(arg, Tree) else arg
            found.append(_literal(token, "="))
    return tuple(found)


def _name(tree: Parsed) -> tuple[str, Position]:
    token = _token(tree.children[0])
    name = token[:-1].lower()
    if name not in _CONDITIONS and name not in _TARGETS:
        raise FilterError(
            f"unknown function {token[:-1]}",
            *_at(token),
            "one of log_id, source, sample, ip_in_net, SEARCH, cast, regexp_extract",
            "leave a space before a parenthesis that groups",
        )
    return name, _at(token)


def _count(name: str, given: int, at: Position) -> None:
    least, most = {**_CONDITIONS, **_TARGETS}[name]
    if not least <= given <= most:
        raise FilterError(f"{name} does not take {given} arguments", *at, hint=f"as in {_USAGE[name]}")


def _tree(child: "Parsed | Token") -> Parsed:
    assert isinstance(child, Tree)
    return child


def _token(child: "Parsed | Token") -> Token:
    assert isinstance(child, Token)
    return child


def _at(token: Token) -> Position:
    return Position(token.line or 1, token.column or 1)


def _start(child: "Parsed | Token") -> Position:
    while isinstance(child, Tree):
        child = child.children[0]
    return _at(child)
