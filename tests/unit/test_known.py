"""What ships parsed: nothing but the parsers' own work, and no parser loaded where that suffices."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.known import files, values

from logmend import lql
from logmend.errors import ConfigError
from logmend.lql import known, syntax
from logmend.runbook import BUILT_IN, load
from logmend.runbook import known as known_runbooks

ROUTER = """
import sys
from logmend.stages import match
from logmend.runbook import load_all
match.Router(load_all())
sys.exit("lark" in sys.modules or "yaml" in sys.modules)
"""


def test_what_ships_parsed_is_what_the_parsers_make_of_the_built_in_runbooks() -> None:
    """The files are what ``python -m tests.known`` writes, positions included."""
    for file, text in files().items():
        assert file.read_text() == text, "run: python -m tests.known"
    for filter_, tree in known.TREES.items():
        assert repr(tree) == repr(syntax.parse(filter_))
        assert lql.compile(filter_).root == tree
    for text, document in known_runbooks.DOCUMENTS.items():
        assert document == values(text)
    assert len(known_runbooks.DOCUMENTS) == len(list(BUILT_IN.glob("*/runbook.yaml")))


def test_routing_by_the_built_in_runbooks_needs_no_parser() -> None:
    """A cold start would wait for lark with its tables and for PyYAML otherwise."""
    assert subprocess.run([sys.executable, "-c", ROUTER], check=False).returncode == 0


def test_a_known_runbook_reads_as_it_would_from_its_text(tmp_path: Path) -> None:
    """A comment more makes a text that is not known: all is the same but the digest."""
    folder = tmp_path / "workload-cert-refresh"
    shutil.copytree(BUILT_IN / folder.name, folder)
    path = folder / "runbook.yaml"
    path.write_text(path.read_text() + "# of its own\n")
    ours, shipped = load(folder), load(BUILT_IN / folder.name)
    assert ours.digest != shipped.digest
    for name in shipped.__struct_fields__:
        assert name == "digest" or getattr(ours, name) == getattr(shipped, name)


def test_problems_with_a_known_runbook_still_name_the_line() -> None:
    """A parameter that does not fit is found without YAML; the text is read for where it stands."""
    with pytest.raises(ConfigError, match=r"runbook\.yaml:\d+: version="):
        load(BUILT_IN / "ops-agent", {"version": "a b; c"})
