"""Write functions/logmend/lql/known.py anew after a change of a filter: ``python -m tests.known_filters``.

A tree there is found by the filter's whole text, so that it cannot be out of date, only unused.
"""

from pathlib import Path

from logmend.lql import syntax
from logmend.runbook import load_all

KNOWN = Path(syntax.__file__).with_name("known.py")

HEAD = '''"""The built-in runbooks' filters with their syntax trees, so that routing by them needs no parser.

Written by tests/known_filters.py, not by hand.
"""

# fmt: off
# ruff: noqa: E501, F401, I001, Q000
from collections.abc import Mapping

from logmend.lql.nodes import (
    And, Call, Cast, Compare, Extract, Field, Literal, Node, Not, Or, Position, Present, Term,
)

TREES: Mapping[str, Node | None] = {
'''


def text() -> str:
    """Give what ``known.py`` has to say; a tree's representation is Python, being nothing but dataclasses."""
    filters = [each.filter for each in load_all().values() if each.filter is not None]
    return HEAD + "".join(f"    {each!r}:\n    {syntax.parse(each)!r},\n" for each in filters) + "}\n"


if __name__ == "__main__":
    KNOWN.write_text(text())
