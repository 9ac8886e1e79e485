"""Write what ships parsed anew after a change of a built-in runbook: ``python -m tests.known``.

``functions/logmend/runbook/known.py`` has what is in each ``runbook.yaml``, and
``functions/logmend/lql/known.py`` the syntax tree of each filter. Both are found by the whole text that they
were made of, so that they cannot be out of date, only unused.
"""

from collections.abc import Mapping
from pathlib import Path

from logmend.lql import syntax
from logmend.runbook import BUILT_IN, load_all
from logmend.runbook import decode as runbook_decode
from logmend.runbook.parse import document

_FILTERS = '''"""The built-in runbooks' filters with their syntax trees: routing by them needs no parser.

Written by tests/known.py, not by hand.
"""

# fmt: off
# ruff: noqa: E501, F401, I001, Q000
from collections.abc import Mapping

from logmend.lql.nodes import (
    And, Call, Cast, Compare, Extract, Field, Literal, Node, Not, Or, Position, Present, Term,
)

TREES: Mapping[str, Node | None] = {
'''

_RUNBOOKS = '''"""What is in the built-in runbooks' ``runbook.yaml``, so that loading them needs no YAML.

Written by tests/known.py, not by hand.
"""

# fmt: off
# ruff: noqa: E501, Q000
from collections.abc import Mapping
from typing import Any

DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
'''


def files() -> Mapping[Path, str]:
    """Give each file's text; a tree's representation is Python, being nothing but values."""
    filters = [each.filter for each in load_all().values() if each.filter is not None]
    texts = [path.read_bytes().decode() for path in sorted(BUILT_IN.glob("*/runbook.yaml"))]
    return {
        Path(syntax.__file__).with_name("known.py"): _FILTERS
        + "".join(f"    {each!r}:\n    {syntax.parse(each)!r},\n" for each in filters)
        + "}\n",
        Path(runbook_decode.__file__).with_name("known.py"): _RUNBOOKS
        + "".join(f"    {each!r}:\n    {values(each)!r},\n" for each in texts)
        + "}\n",
    }


def values(text: str) -> Mapping[str, object]:
    """Give what is in a runbook's text."""
    read = document("runbook.yaml", text)
    if read.problems:
        raise ValueError(read.problems)
    return read.values


if __name__ == "__main__":
    for file, said in files().items():
        file.write_text(said)
