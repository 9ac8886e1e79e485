"""Write a syntax tree as a filter in a canonical form that parses to an equal tree."""

import re

from logmend.lql import strings
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
    Present,
    Target,
    Term,
    Value,
)

_KEY = re.compile(r"[\w@$-]+")


def printed(node: Node | None) -> str:
    """Return one line: AND and NOT spelled out, parentheses around an OR in an AND and vice versa."""
    if node is None:
        return ""
    match node:
        case And(items):
            return " AND ".join(_inner(item) for item in items)
        case Or(items):
            return " OR ".join(_inner(item) for item in items)
        case Not(item):
            return f"NOT ({printed(item)})" if isinstance(item, And | Or | Not) else f"NOT {printed(item)}"
        case Compare(target, op, value):
            gap = "" if op == ":" else " "
            return f"{_target(target)}{gap}{op}{gap}{_value(value)}"
        case Term(value):
            return printed(value)
        case Call(name, args):
            shown = name.upper() if name == "search" else name
            return f"{shown}({', '.join(_argument(arg) for arg in args)})"
        case Literal(text, quoted):
            return strings.encode(text) if quoted else text


def _inner(node: Node) -> str:
    return f"({printed(node)})" if isinstance(node, And | Or) else printed(node)


def _value(value: Value) -> str:
    if isinstance(value, Present):
        return "*"
    return printed(value) if isinstance(value, Literal) else f"({printed(value)})"


def _target(target: Target) -> str:
    match target:
        case Field(segments):
            first, *rest = segments
            return ".".join([first, *(key if _KEY.fullmatch(key) else strings.encode(key) for key in rest)])
        case Cast(inner, type_name, zone):
            option = f", TIMEZONE({strings.encode(zone)})" if zone is not None else ""
            return f"cast({_target(inner)}, {type_name}{option})"
        case Extract(inner, pattern):
            return f"regexp_extract({_target(inner)}, {printed(pattern)})"


def _argument(argument: Argument) -> str:
    return _target(argument) if isinstance(argument, Field) else printed(argument)
