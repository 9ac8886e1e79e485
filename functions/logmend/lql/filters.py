"""A compiled filter and its evaluation. Importing this module loads neither lark nor RE2."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from logmend.lql.lookup import is_object
from logmend.lql.nodes import And, Node
from logmend.lql.printer import printed
from logmend.model.struct import Struct


class Clause(Struct, frozen=True):
    """One top-level operand of a filter in its canonical form, and whether an entry meets it."""

    text: str
    holds: bool


class Warning(Struct, frozen=True):  # noqa: A001 - lql.Warning is its name at the call site
    """A likely mistake in a valid filter. ``line`` and ``column`` count from 1."""

    line: int
    column: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter, created by :func:`logmend.lql.compile`. Filters are equal if their texts are."""

    text: str
    root: Node | None = field(repr=False, compare=False)
    _tests: tuple[Callable[[Mapping[str, object]], bool], ...] = field(repr=False, compare=False)

    def matches(self, entry: object) -> bool:
        """Return whether an entry is selected.

        ``entry`` is a LogEntry in proto-JSON (camelCase), as ``gcloud logging read --format=json`` prints it.
        Never raises, whatever JSON it is given. A value that is not an object is never selected.
        """
        if not is_object(entry):
            return False
        for test in self._tests:  # noqa: SIM110 - a generator costs as much as a comparison
            if not test(entry):
                return False
        return True

    def explain(self, entry: Any) -> list[Clause]:
        """Return for each operand of the top-level AND whether it is true; the entry matches if all are."""
        an_object = is_object(entry)
        return [
            Clause(printed(part), an_object and test(entry))
            for part, test in zip(operands(self.root), self._tests, strict=True)
        ]


def operands(root: Node | None) -> tuple[Node, ...]:
    """Return the operands of the top-level AND."""
    if root is None:
        return ()
    return root.items if isinstance(root, And) else (root,)
