"""The filters that come parsed: nothing but the parser's own work, and no lark where they suffice."""

import subprocess
import sys

from tests.known_filters import KNOWN, text

from logmend import lql
from logmend.lql import known, syntax

ROUTER = """
import sys
from logmend import match
from logmend.runbook import load_all
match.Router(load_all())
sys.exit("lark" in sys.modules)
"""


def test_what_comes_parsed_is_what_the_parser_makes_of_the_built_in_filters() -> None:
    """The file is what ``python -m tests.known_filters`` writes, positions included."""
    assert KNOWN.read_text() == text(), "run: python -m tests.known_filters"
    for filter_, tree in known.TREES.items():
        assert repr(tree) == repr(syntax.parse(filter_))
        assert lql.compile(filter_).root == tree


def test_routing_by_the_built_in_runbooks_needs_no_parser() -> None:
    """A cold start would wait for lark and its tables otherwise."""
    assert subprocess.run([sys.executable, "-c", ROUTER], check=False).returncode == 0
