"""The syntax tree of a filter: frozen values without behaviour.

Positions and notes on how something was written are not compared: two trees are equal if they mean the same,
so printing and parsing a tree gives an equal one.
"""

from typing import NamedTuple

from logmend.model.struct import Struct

_NOTES = frozenset({"at", "parens"})
"""Fields that say how a node was written."""


class Position(NamedTuple):
    """Where something starts in the text. Both numbers count from 1."""

    line: int
    column: int


class Syntax(Struct, frozen=True, eq=False):
    """A node of the tree. Two are equal if they mean the same, whatever their positions."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash((type(self), self._meaning()))

    def _meaning(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in _NOTES)


class Literal(Syntax, frozen=True):
    """A value: ``text`` is decoded. ``quoted`` tells ``"5"`` from ``5`` and a text from ``NULL_VALUE``."""

    text: str
    quoted: bool
    at: Position

    @property
    def is_null(self) -> bool:
        """Return whether this is JSON null, which is written without quotes."""
        return not self.quoted and self.text == "NULL_VALUE"


class Present(Syntax, frozen=True):
    """The ``*`` of ``field:*``."""

    at: Position


class Field(Syntax, frozen=True):
    """The path of a field. ``segments`` are decoded, the first is spelled as in proto-JSON."""

    segments: tuple[str, ...]
    at: Position


class Cast(Syntax, frozen=True):
    """``cast(target, TYPE[, TIMEZONE("zone")])`` on the left of an operator."""

    target: "Target"
    type_name: str
    zone: str | None
    at: Position


class Extract(Syntax, frozen=True):
    """``regexp_extract(target, "pattern")`` on the left of an operator."""

    target: "Target"
    pattern: Literal
    at: Position


class Compare(Syntax, frozen=True):
    """``target op value``. If the value is a group, it contains And, Or and Not over literals."""

    target: "Target"
    op: str
    value: "Value"
    at: Position


class Term(Syntax, frozen=True):
    """A value alone, searched for in every field."""

    value: Literal
    at: Position


class Call(Syntax, frozen=True):
    """A function that is a condition by itself; ``name`` is in lower case."""

    name: str
    args: tuple["Argument", ...]
    at: Position


class Not(Syntax, frozen=True):
    """Negation."""

    item: "Node"
    at: Position


class And(Syntax, frozen=True):
    """Conjunction of two or more; never holds another And."""

    items: tuple["Node", ...]
    at: Position


class Or(Syntax, frozen=True):
    """Disjunction of two or more; never holds another Or. ``parens`` tells whether it was parenthesised."""

    items: tuple["Node", ...]
    at: Position
    parens: bool = False


Target = Field | Cast | Extract
Argument = Literal | Field
# A group contains literals where a filter contains comparisons; the same classes serve both.
Node = And | Or | Not | Compare | Term | Call | Literal
Value = Literal | Present | And | Or | Not
