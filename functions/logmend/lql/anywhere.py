"""Global terms, and ``:`` on a whole object: a text looked for in many fields.

A global term looks at the values of every field that the entry has (not at keys, and not at defaults of
fields that it does not have) by the rules of ``:`` for each field's type.
"""

from collections.abc import Callable, Mapping
from typing import Any

from logmend.lql import compare
from logmend.lql.lookup import leaves
from logmend.lql.nodes import Literal
from logmend.lql.schema import LOG_ENTRY, OBJECTS, Kind

Test = Callable[[Any], bool]


def in_any_field(literal: Literal) -> Callable[[Mapping[str, Any]], bool]:
    """Make the predicate of a global term."""
    # Without quotes NULL_VALUE is a word like any other here: there is no field whose null it could be.
    word = Literal(literal.text, quoted=True, at=literal.at)
    tests = {name: _test_of(kind, word) for name, kind in LOG_ENTRY.items()}
    other = _nested(word)

    def test(entry: Mapping[str, Any]) -> bool:
        return any(tests.get(name, other)(value) for name, value in entry.items() if value is not None)

    return test


def in_object(names: tuple[str, ...], literal: Literal, *, ignores_case: bool) -> Test:
    """``:`` on an object of LogEntry: it has that key, or one of its values has the text."""
    kind: Kind | dict[str, Kind] | dict[str, Kind | dict[str, Kind]] = LOG_ENTRY
    for name in names:
        assert isinstance(kind, dict)
        kind = kind[name]
    if not isinstance(kind, dict):
        return compare.dynamic(":", literal, str.lower if ignores_case else str)
    within, key = _test_of(kind, literal), literal.text.lower()

    def test(value: Any) -> bool:
        if not isinstance(value, Mapping):
            return False
        return within(value) or any(str(name).lower() == key for name in value)

    return test


def _test_of(kind: "Kind | Mapping[str, Kind | dict[str, Kind]]", literal: Literal) -> Test:
    if isinstance(kind, Kind):
        return _nested(literal) if kind in OBJECTS else compare.typed(kind, ":", literal)
    tests = {name: _test_of(below, literal) for name, below in kind.items()}
    other = _nested(literal)

    def test(value: Any) -> bool:
        if not isinstance(value, Mapping):
            return other(value)
        return any(tests.get(name, other)(item) for name, item in value.items() if item is not None)

    return test


def _nested(literal: Literal) -> Test:
    test = compare.dynamic(":", literal)
    return lambda value: any(test(leaf) for leaf in leaves(value))
