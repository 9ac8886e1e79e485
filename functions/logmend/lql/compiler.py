"""Compile the syntax tree to closures. Everything that can be decided or refused in advance is."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from logmend.lql import anywhere, compare, functions
from logmend.lql.compare import Test, any_of
from logmend.lql.derive import FieldGetter, source
from logmend.lql.errors import FilterError
from logmend.lql.filters import operands
from logmend.lql.lookup import ABSENT
from logmend.lql.nodes import And, Call, Compare, Field, Literal, Node, Not, Or, Present, Term, Value
from logmend.lql.patterns import Patterns
from logmend.lql.schema import OBJECTS, Kind

Predicate: TypeAlias = Callable[[Mapping[str, object]], bool]

_REGEX_HINT = {
    Kind.SEVERITY: "compare with = or >=, or cast(severity, STRING)",
    Kind.TIMESTAMP: "compare with < and >=, or cast the field to STRING",
}


def compile_conditions(root: Node | None) -> tuple[Predicate, ...]:
    """Compile the operands of the top-level AND. Raises FilterError if one cannot be evaluated."""
    patterns = Patterns()
    return tuple(compile_node(part, patterns) for part in operands(root))


def compile_node(node: Node, patterns: Patterns) -> Predicate:
    """Compile one condition. Raises FilterError if it cannot be evaluated."""
    match node:
        case And(items):
            parts = [compile_node(item, patterns) for item in items]
            return _each_present([_unless_absent(item) for item in items], parts)
        case Or(items):
            return _any([compile_node(item, patterns) for item in items])
        case Not(item):
            return _not(compile_node(item, patterns))
        case Compare():
            return _comparison(node, patterns)
        case Call():
            return functions.compile_call(node)
        case Term(value):
            return anywhere.in_any_field(value)
        case Literal():
            raise AssertionError(node)  # a literal is always in a group or in a Term


def _all(parts: list[Predicate]) -> Predicate:
    if len(parts) == 2:
        one, other = parts
        return lambda entry: one(entry) and other(entry)

    def test(entry: Mapping[str, object]) -> bool:
        for part in parts:  # noqa: SIM110 - a generator costs as much as a comparison
            if not part(entry):
                return False
        return True

    return test


def _unless_absent(node: Node) -> str:
    """Return KEY for ``NOT jsonPayload.KEY:* OR …``, which is true if KEY is absent; else empty."""
    match node:
        case Or((Not(Compare(Field(("jsonPayload", key)), _, Present())), *_)):
            return key
    return ""


def _each_present(keys: list[str], parts: list[Predicate]) -> Predicate:
    """Return a test of all conditions, each true if its key is absent: only those with a key present run."""
    every, by_key = _all(parts), dict(zip(keys, parts, strict=True))
    if "" in by_key or len(by_key) < len(parts):
        return every

    def test(entry: Mapping[str, object]) -> bool:
        payload = entry.get("jsonPayload")
        if type(payload) is not dict:
            return every(entry)
        for key in payload:  # noqa: SIM110 - see _all
            if key in by_key and not by_key[key](entry):
                return False
        return True

    return test


def _any(parts: list[Predicate]) -> Predicate:
    if len(parts) == 2:
        one, other = parts
        return lambda entry: one(entry) or other(entry)

    def test(entry: Mapping[str, object]) -> bool:
        for part in parts:  # noqa: SIM110 - see _all
            if part(entry):
                return True
        return False

    return test


def _not(part: Predicate) -> Predicate:
    return lambda entry: not part(entry)


def _comparison(node: Compare, patterns: Patterns) -> Predicate:
    origin = source(node.target, patterns)
    if isinstance(node.value, Present):
        if not isinstance(node.target, Field):
            raise FilterError("':*' tests a field", *node.at, "a field before ':*'")
        get = origin.get
        return lambda entry: get(entry) is not ABSENT
    return _group(node.value, node, origin, patterns)


def _group(value: Value | Node, node: Compare, origin: FieldGetter, patterns: Patterns) -> Predicate:
    """Return a predicate that applies field and operator to each element of a value group."""
    match value:
        case And(items):
            return _all([_group(item, node, origin, patterns) for item in items])
        case Or(items):
            return _any([_group(item, node, origin, patterns) for item in items])
        case Not(item):
            return _not(_group(item, node, origin, patterns))
        case Literal():
            return _leaf(_test(value, node, origin, patterns), origin)
        case _:
            raise AssertionError(value)  # a group contains nothing else


def _leaf(test: Test, origin: FieldGetter) -> Predicate:
    get, default = origin.get, origin.default
    if default is None:  # a payload or label: if it is missing, every comparison is false

        def test_missing(entry: Mapping[str, object]) -> bool:
            value = get(entry)
            if isinstance(value, list):
                return many(value)
            return value is not ABSENT and test(value)

        many = any_of(test)
        return test_missing
    at_default = test(default)

    def test_defaulted(entry: Mapping[str, object]) -> bool:
        value = get(entry)
        return at_default if value is ABSENT else test(value)

    return test_defaulted


def _test(literal: Literal, node: Compare, origin: FieldGetter, patterns: Patterns) -> Test:
    op, kind = node.op, origin.kind
    if op in {"=~", "!~"}:
        if kind not in {Kind.STRING, Kind.DYNAMIC}:
            raise FilterError(
                f"{op} works on strings, and {origin.name} is a {kind.name.lower()}",
                *node.at,
                hint=_REGEX_HINT.get(kind, "compare with = or :"),
            )
        return compare.pattern_test(op, literal.text, patterns.compile(literal))
    if literal.is_null:
        if op not in {"=", "!="}:
            raise FilterError("NULL_VALUE can be compared with = and != only", *literal.at, "a value")
        if kind is not Kind.DYNAMIC or not origin.nullable:
            raise FilterError(
                f"{origin.name} is never null",
                *literal.at,
                hint="only values inside jsonPayload and protoPayload are",
            )
    if kind in OBJECTS:
        if op != ":":
            raise FilterError(
                f"{origin.name} is an object and cannot be compared with {op}",
                *node.at,
                "one of its fields",
                f"name a field, as in {origin.name}.NAME {op} ..., or use ':'",
            )
        return anywhere.in_object(origin.fixed, literal, ignores_case=origin.ignores_case)
    if kind is Kind.DYNAMIC:
        return compare.dynamic(op, literal, str.lower if origin.ignores_case else str)
    return compare.typed(kind, op, literal)
