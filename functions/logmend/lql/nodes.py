"""The syntax tree of a filter: frozen values without behaviour.

Positions and notes on how something was written do not take part in comparisons: two trees are equal when
they mean the same, so that printing and parsing again gives an equal tree.
"""

from dataclasses import dataclass, field
from typing import NamedTuple


class Position(NamedTuple):
    """Where something starts in the text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A value: ``text`` is decoded. ``quoted`` tells ``"5"`` from ``5`` and a text from ``NULL_VALUE``."""

    text: str
    quoted: bool
    at: Position = field(compare=False)

    @property
    def is_null(self) -> bool:
        """Whether this is JSON null, which is written without quotes."""
        return not self.quoted and self.text == "NULL_VALUE"


@dataclass(frozen=True, slots=True)
class Present:
    """The ``*`` of ``field:*``."""

    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Field:
    """The path of a field. ``segments`` are decoded, the first is spelled as in proto-JSON."""

    segments: tuple[str, ...]
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Cast:
    """``cast(target, TYPE[, TIMEZONE("zone")])`` on the left of an operator."""

    target: "Target"
    type_name: str
    zone: str | None
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Extract:
    """``regexp_extract(target, "pattern")`` on the left of an operator."""

    target: "Target"
    pattern: Literal
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """``target op value``; a group as value holds And, Or, Not over literals."""

    target: "Target"
    op: str
    value: "Value"
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Term:
    """A value alone: looked for in every field."""

    value: Literal
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function that is a condition by itself; ``name`` is in lower case."""

    name: str
    args: tuple["Argument", ...]
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    item: "Node"
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction of two or more; never holds another And."""

    items: tuple["Node", ...]
    at: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction of two or more; never holds another Or. ``parens`` tells whether it was parenthesised."""

    items: tuple["Node", ...]
    at: Position = field(compare=False)
    parens: bool = field(default=False, compare=False)


Target = Field | Cast | Extract
Argument = Literal | Field
# A group holds literals where a filter holds comparisons; one set of classes serves both.
Node = And | Or | Not | Compare | Term | Call | Literal
Value = Literal | Present | And | Or | Not
