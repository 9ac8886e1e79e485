"""Compile the comparison of a value with a literal to a function of the JSON value.

The literal is converted to the field's type when the filter is compiled. In payloads and labels the type is
that of the JSON value, so every conversion is made once and the right one is chosen for each entry.
"""

import operator
from collections.abc import Callable
from typing import Any

from logmend.lql import values
from logmend.lql.fold import fold
from logmend.lql.lookup import elements, is_object
from logmend.lql.nodes import Literal
from logmend.lql.patterns import Compiled, finder
from logmend.lql.schema import Kind

Test = Callable[[object], bool]

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    ":": operator.eq,  # "has" means equality except for strings and objects
}


def typed(kind: Kind, op: str, literal: Literal) -> Test:
    """Return a test for values of a known type; it is false for JSON of another type."""
    if kind is Kind.STRING:
        return text_test(op, literal.text)
    right = values.FROM_TEXT[kind](literal.text)
    if right is None:
        return never
    order, convert = ORDER[op], values.FROM_JSON[kind]

    def test(value: object) -> bool:
        left = convert(value)
        return left is not None and order(left, right)

    return test


def dynamic(op: str, literal: Literal, keep_case: Callable[[str], str] = str) -> Test:
    """Return a test for values in payloads and labels, by the type of the JSON value.

    ``:`` on an object is true if it has that key (AIP-160), or one of its values, at any depth, has the
    text. ``keep_case`` normalises keys for that.
    """
    if literal.is_null:
        return _is_null if op == "=" else _is_other_than_null
    text = text_test(op, literal.text)
    order = ORDER[op]
    number, truth = values.double(literal.text), values.boolean(literal.text)

    def test(value: object) -> bool:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, bool):
            return truth is not None and order(value, truth)
        if isinstance(value, int | float):
            return number is not None and order(values.number_of(value), number)
        return op == ":" and is_object(value) and _has(value, keep_case(literal.text), test, keep_case)

    return test


def _has(value: object, key: str, test: Test, keep_case: Callable[[str], str]) -> bool:
    stack = [value]
    while stack:
        value = stack.pop()
        if is_object(value):
            if any(keep_case(name) == key for name in value):
                return True
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif value is not None and test(value):
            return True
    return False


def text_test(op: str, text: str) -> Test:
    """Return a test for strings in their normalised form; it is false for anything else."""
    right = fold(text)
    if op == "=" and fold(right) == right:

        def same(value: object) -> bool:
            # Text written exactly as in the filter need not be folded.
            return value == right or (isinstance(value, str) and fold(value) == right)

        return same
    order = operator.contains if op == ":" else ORDER[op]

    def test(value: object) -> bool:
        # fold() would do; most texts are ASCII, and this line is where matching spends its time.
        if isinstance(value, str):
            return order(value.lower() if value.isascii() else fold(value), right)
        return False

    return test


def pattern_test(op: str, pattern: str, compiled: Compiled) -> Test:
    """Return a test by regular expression; only strings can match, or fail to."""
    find = finder(pattern, compiled)
    if op == "=~":
        return lambda value: isinstance(value, str) and find(value)
    return lambda value: isinstance(value, str) and not find(value)


def any_of(test: Test) -> Test:
    """Return a test that any element of an array can satisfy."""

    def test_any(value: object) -> bool:
        if isinstance(value, list):
            return any(test(item) for item in elements(value))
        return test(value)

    return test_any


def never(_value: object) -> bool:
    """Return False: the test for a literal that cannot be converted."""
    return False


def _is_null(value: object) -> bool:
    return value is None


def _is_other_than_null(value: object) -> bool:
    return value is not None
