"""Likely mistakes in valid filters. Each rule is a function of a node and its parent."""

from collections.abc import Iterator

from logmend.lql import values
from logmend.lql.casts import KINDS
from logmend.lql.filters import Filter, Warning  # noqa: A004 - the name at the call site is lql.Warning
from logmend.lql.nodes import (
    And,
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
)
from logmend.lql.printer import printed
from logmend.lql.schema import LOG_ENTRY, Kind, locate

_TYPOGRAPHIC = frozenset("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019")


def of(filter_: Filter) -> list[Warning]:
    """Return the warnings in the order of the text."""
    found = list(_node(filter_.root)) if filter_.root is not None else []
    return sorted(found, key=lambda warning: (warning.line, warning.column))


def _node(node: Node) -> Iterator[Warning]:
    match node:
        case And(items):
            yield from _precedence(items)
        case Or(items):
            yield from _stray_terms(items)
        case Compare():
            yield from _comparison(node)
        case Term(value):
            yield from _term(value)
    if isinstance(node, And | Or):
        for item in node.items:
            yield from _node(item)
    elif isinstance(node, Not):
        yield from _node(node.item)


def _precedence(items: tuple[Node, ...]) -> Iterator[Warning]:
    for item in items:
        if isinstance(item, Or) and not item.parens:
            yield _warning(
                item.at,
                "OR next to AND without parentheses",
                f"OR binds tighter than AND: write ({printed(item)})",
            )


def _stray_terms(items: tuple[Node, ...]) -> Iterator[Warning]:
    """``insertId = "A" OR "B"``: the second is not a value of insertId."""
    before: Compare | None = None
    for item in items:
        if isinstance(item, Compare):
            before = item
        elif isinstance(item, Term) and before is not None and isinstance(before.value, Literal):
            head = printed(before)[: -len(printed(before.value))]
            yield _warning(
                item.at,
                f"{printed(item)} stands alone and is looked for in every field",
                f"write {head}({printed(before.value)} OR {printed(item)}) to compare it with the same field",
            )


def _term(value: Literal) -> Iterator[Warning]:
    if not value.quoted and value.text in {"and", "or", "not"}:
        yield _warning(
            value.at,
            f"{value.text} in lower case is a search term",
            f'write {value.text.upper()} for the operator, "{value.text}" for the word',
        )
    elif not value.quoted and value.text in LOG_ENTRY:
        yield _warning(
            value.at,
            f"{value.text} without an operator is a search term",
            f"compare it, as in {value.text}:...",
        )
    elif value.text.upper() in values.SEVERITIES:
        yield _warning(
            value.at,
            f"{printed(value)} is looked for as text in every field",
            f"severity >= {value.text.upper()} compares the severity",
        )
    yield from _text(value)


def _comparison(node: Compare) -> Iterator[Warning]:
    field, kind = _origin(node.target)
    if field.segments == ("severity",):
        yield _warning(
            node.at,
            "the severity is often not set (DEFAULT), so this can lose entries",
            "leave it out unless every source of the entries sets it",
        )
    if isinstance(node.target, Cast) and kind is Kind.STRING and _kind(node.target.target) is Kind.TIMESTAMP:
        yield _warning(
            node.at,
            "how Cloud Logging writes a timestamp as STRING is not documented",
            "rely on the order of its digits only",
        )
    if isinstance(node.value, Present):
        return
    yield from _groups(node.value)
    for literal in _literals(node.value):
        yield from _value(node, field, kind, literal)


def _value(node: Compare, field: Field, kind: Kind, literal: Literal) -> Iterator[Warning]:
    convert = values.FROM_TEXT.get(kind)
    if convert is not None and convert(literal.text) is None:
        yield _warning(
            literal.at,
            f"{printed(literal)} is no {kind.name.lower()}, so the comparison is never true",
            _EXAMPLES.get(kind, ""),
        )
    if node.op in {"=", "!="} and (literal.text.startswith("*") or literal.text.endswith("*")):
        yield _warning(
            literal.at, f"* is an ordinary character after {node.op}", "use : for a part, =~ for a pattern"
        )
    log_id = literal.text.partition("/logs/")[2]
    if field.segments == ("logName",) and node.op not in {"=~", "!~"} and "/" in log_id:
        yield _warning(
            literal.at,
            "a log's ID is percent-encoded in logName",
            f'write %2F for the slash, or log_id("{log_id}")',
        )
    if kind in {Kind.STRING, Kind.DYNAMIC, Kind.STRUCT}:
        yield from _text(literal)


def _text(literal: Literal) -> Iterator[Warning]:
    """Texts that some versions of an agent, or some paths into Logging, write differently."""
    if not literal.quoted and not _TYPOGRAPHIC.isdisjoint(literal.text):
        yield _warning(literal.at, "typographic quotation marks are part of the text", 'quote with "..."')
    if '"' in literal.text:
        yield _warning(
            literal.at,
            "a text with double quotes misses entries whose text is escaped, as of serial consoles",
            "look for the parts beside the quotes",
        )
    if "http 404" in literal.text.lower():
        yield _warning(
            literal.at,
            "not every version of a program writes HTTP 404, some write 'status code: 404'",
            "look for the phrase before it",
        )


def _groups(value: Node) -> Iterator[Warning]:
    if isinstance(value, And):
        yield from _precedence(value.items)
    if isinstance(value, And | Or):
        for item in value.items:
            yield from _groups(item)


def _literals(value: Node) -> Iterator[Literal]:
    match value:
        case Literal():
            yield value
        case And(items) | Or(items):
            for item in items:
                yield from _literals(item)
        case Not(item):
            yield from _literals(item)


def _origin(target: Target) -> tuple[Field, Kind]:
    """Return the field of a left-hand side and the kind that is compared."""
    kind, inner = _kind(target), target
    while not isinstance(inner, Field):
        inner = inner.target
    return inner, kind


def _kind(target: Target) -> Kind:
    match target:
        case Field():
            return locate(target).kind
        case Cast(_, type_name):
            return KINDS[type_name]
        case Extract():
            return Kind.STRING


def _warning(at: Position, message: str, hint: str) -> Warning:
    return Warning(at.line, at.column, message, hint)


_EXAMPLES = {
    Kind.BOOL: "write true or false",
    Kind.INT32: "write a whole number",
    Kind.INT64: "write a whole number",
    Kind.DOUBLE: "write a number",
    Kind.SEVERITY: "write one of " + ", ".join(values.SEVERITIES),
    Kind.TIMESTAMP: 'write "2026-01-31T12:00:00Z", with a zone, or "2026-01-31"',
    Kind.DURATION: 'write a number with ns, us, ms, s, m or h, as in "1.5s"',
}
