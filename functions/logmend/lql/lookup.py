"""Finding a field's value in an entry.

A getter takes the entry and returns the JSON value, :data:`ABSENT`, or a list where the path leads to or
through an array: a list always means "any of these". Getters never raise, whatever the entry's shape.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from logmend.lql.schema import Kind, Located

Getter = Callable[[Mapping[str, Any]], Any]
ABSENT: Final = object()


def getter(place: Located) -> Getter:
    """Make the getter of a field."""
    if not place.free:
        return _fixed(place.fixed)
    outer = _fixed(place.fixed)
    step = _proto_step if place.holder is Kind.PROTO else _plain_step
    keys = place.free
    if step is _plain_step and len(keys) == 1:
        return _one_key(outer, keys[0])

    def get(entry: Mapping[str, Any]) -> Any:
        value = outer(entry)
        for n, key in enumerate(keys):
            if isinstance(value, list):
                return _spread(value, keys[n:], step)
            found = step(value, key)
            if not found:
                return ABSENT
            value = found[0] if len(found) == 1 else found
        return value

    return get


def leaves(value: Any) -> Iterator[Any]:
    """Every scalar in a JSON value, nulls included, without recursion."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        else:
            yield value


def elements(value: list[Any]) -> Iterator[Any]:
    """Every element of an array, those of nested arrays included."""
    stack = value[::-1]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item[::-1])
        else:
            yield item


def _fixed(names: tuple[str, ...]) -> Getter:
    first, *rest = names
    if not rest:

        def top(entry: Mapping[str, Any]) -> Any:
            value = entry.get(first, ABSENT)
            return ABSENT if value is None else value

        return top
    if len(rest) > 1:
        raise AssertionError(names)  # LogEntry nests its messages once
    second = rest[0]

    def below(entry: Mapping[str, Any]) -> Any:
        value = entry.get(first)
        if isinstance(value, Mapping) and (value := value.get(second)) is not None:
            return value
        return ABSENT

    return below


def _one_key(outer: Getter, key: str) -> Getter:
    def get(entry: Mapping[str, Any]) -> Any:
        value = outer(entry)
        if isinstance(value, Mapping):
            return value.get(key, ABSENT)
        return _spread(value, (key,), _plain_step) if isinstance(value, list) else ABSENT

    return get


def _plain_step(value: Any, key: str) -> list[Any]:
    return [value[key]] if isinstance(value, Mapping) and key in value else []


def _proto_step(value: Any, key: str) -> list[Any]:
    """Find a key ignoring case; a packed Any that is not a message hides its content under ``value``."""
    lower = key.lower()
    while isinstance(value, Mapping):
        if key in value:
            return [value[key]]
        if found := [item for name, item in value.items() if str(name).lower() == lower]:
            return found
        value = value.get("value") if "@type" in value else None
    return []


def _spread(value: Any, keys: tuple[str, ...], step: Callable[[Any, str], list[Any]]) -> Any:
    found = [value]
    for key in keys:
        found = [inner for item in elements(found) for inner in step(item, key)]
    return found or ABSENT
