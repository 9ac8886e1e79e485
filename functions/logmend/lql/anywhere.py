"""Global terms, and ``:`` on a whole object: search for a text in many fields.

A global term is compared with the value of every field that the entry has, by the rules of ``:`` for each
field's type. Keys, and defaults of missing fields, are not searched.
"""

from collections.abc import Callable, Mapping
from typing import Any

from logmend.lql import compare
from logmend.lql.lookup import is_object, leaves
from logmend.lql.nodes import Literal
from logmend.lql.schema import DEFAULTS, LOG_ENTRY, OBJECTS, Kind
from logmend.model.json import JsonObject


def in_any_field(literal: Literal) -> Callable[[Mapping[str, object]], bool]:
    """Return the predicate for a global term."""
    # An unquoted NULL_VALUE is an ordinary word here: there is no field that could be null.
    tests = _tests(Literal(literal.text, quoted=True, at=literal.at))
    return lambda entry: _found(entry, LOG_ENTRY, tests)


def in_object(names: tuple[str, ...], literal: Literal, *, ignores_case: bool) -> compare.Test:
    """Return the test for ``:`` on an object of LogEntry: it has that key, or a value contains the text."""
    kinds: Any = LOG_ENTRY
    for name in names:
        kinds = kinds[name]
    if isinstance(kinds, Kind):
        return compare.dynamic(":", literal, str.lower if ignores_case else str)
    tests, key = _tests(literal), literal.text.lower()

    def test(value: Any) -> bool:
        return is_object(value) and (
            any(str(name).lower() == key for name in value) or _found(value, kinds, tests)
        )

    return test


def _tests(literal: Literal) -> dict[Kind, compare.Test]:
    tests = {kind: compare.typed(kind, ":", literal) for kind in DEFAULTS}
    tests[Kind.DYNAMIC] = compare.dynamic(":", literal)
    return tests


def _found(value: JsonObject, kinds: JsonObject, tests: dict[Kind, compare.Test]) -> bool:
    """Search the fields of LogEntry or of one of its messages; unknown fields are free JSON."""
    for name, item in value.items():
        kind = kinds.get(name, Kind.DYNAMIC)
        if isinstance(kind, dict):
            found = is_object(item) and _found(item, kind, tests)
        elif kind is Kind.DYNAMIC or kind in OBJECTS:
            found = any(map(tests[Kind.DYNAMIC], leaves(item)))
        else:
            found = tests[kind](item)
        if found:
            return True
    return False
