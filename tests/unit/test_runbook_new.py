"""A new runbook lints, its cases pass, and the schema that editors take knows what the decoder knows."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from tests.unit.test_runbook import MATCHING, MINIMAL, folder, load

from logmend.errors import ConfigError
from logmend.explain import Rules
from logmend.runbook import BUILT_IN
from logmend.runbook import load as load_one
from logmend.runbook.decode import Reader
from logmend.runbook.load import _decoded
from logmend.settings import Settings
from logmend_cli.main import logmend
from logmend_cli.runbook import golden, new
from logmend_cli.runbook.lint import lint

__all__ = ["folder"]

SCHEMA: dict[str, Any] = json.loads((resources.files(new.__package__ or "") / new.SCHEMA).read_text())
PAGE = Path(__file__).parents[2] / "docs/runbooks.md"
FULL = MATCHING | {
    "prefix": "^",
    "guards": ["in_scope"],
    "unless": {"label": ["a=b"]},
    "only": {"machine_family": ["e2"]},
    "programs": ["systemd"],
    "words": ["eight characters"],
    "limits": {"disruption_budget": 3, "budget_window": "1h"},
    "repeats": "90s",
    "detached": "15m",
    "executors": ["ssh"],
    "irreversible": False,
    "permissions": ["compute.instances.get"],
    "approval_keys": [],
    "follow_up": "other",
    "after": "third",
    "parameters": {},
    "causes": [],
}
WRONG: list[dict[str, Any]] = [
    {"summary": "no name"},
    MINIMAL | {"gaurds": []},
    MINIMAL | {"name": "My_Book"},
    MINIMAL | {"repeats": "10"},
    MINIMAL | {"repeats": "0m"},
    MINIMAL | {"irreversible": "yes"},
    MINIMAL | {"guards": ["in_scope", "in_scope"]},
    MINIMAL | {"permissions": ["compute"]},
    MINIMAL | {"limits": {"disruption_budget": 0}},
    MINIMAL | {"limits": {"window": "1h"}},
    MINIMAL | {"executors": []},
    MINIMAL | {"executors": "ssh"},
    MINIMAL | {"executors": ["osconfig"]},
    MINIMAL | {"executors": ["ssh", "ssm"]},
    MINIMAL | {"filter": 'resource.type = "gce_instance"'},
    MINIMAL | {"words": ["eight characters"]},
    MINIMAL | {"unless": {}},
    MINIMAL | {"only": {"label": []}},
    MINIMAL | {"only": {"machine": ["e2"]}},
    MATCHING | {"variants": [{"name": "a", "pattern": "b", "verdict": "refuse"}]},
    MATCHING | {"variants": [{"name": "a", "pattern": "b", "verdict": "act", "reason": "c"}]},
    MATCHING | {"variants": [{"name": "a", "pattern": "b", "verdict": "maybe"}]},
    MATCHING | {"words": ["short"]},
    MINIMAL | {"parameters": {"A": {"summary": "s", "pattern": "p", "default": "p"}}},
    MINIMAL | {"parameters": {"a": {"pattern": "p", "default": "p"}}},
]


def valid(document: object) -> bool:
    """Say whether the schema takes a document."""
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


def test_a_new_runbook_lints_and_its_cases_pass(tmp_path: Path) -> None:
    """Before anything in it was changed; it is not written over."""
    ran = CliRunner().invoke(logmend, ["runbook", "new", "my-service", "--into", str(tmp_path / "mine")])
    assert ran.exit_code == 0, ran.output
    made = tmp_path / "mine/my-service"
    assert lint(made) == []
    found = load_one(made)
    ran_cases = list(golden.run(made, Rules.of({found.name: found}, Settings())))
    assert len(ran_cases) == 3
    assert not [each.problem for each in ran_cases if each.problem]
    first = (made / "runbook.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema=../{new.SCHEMA}"
    assert json.loads((tmp_path / "mine" / new.SCHEMA).read_text()) == SCHEMA
    with pytest.raises(ConfigError, match="already exists"):
        new.make("my-service", tmp_path / "mine")


@pytest.mark.parametrize("name", ["", "Mine", "a/b", "..", "a" * 48])
def test_a_name_that_no_runbook_may_have_makes_nothing(tmp_path: Path, name: str) -> None:
    """Least of all a folder elsewhere."""
    with pytest.raises(ConfigError):
        new.make(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_is_the_example_of_the_guide() -> None:
    """Two that would differ in time."""
    written = re.findall(r"`runbooks/time-sync/([^`]+)`:\n\n```\w+\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    assert len(written) == 5
    template = resources.files(new.__package__ or "") / "template"
    for file, text in written:
        kept = (template / file).read_text()
        kept = re.sub(r"\A# yaml-language-server.*\n", "", kept)
        assert text.replace("time-sync", "NAME").replace("chrony", "NAME") == kept, file


def test_the_schema_has_the_very_keys_that_the_decoder_takes() -> None:
    """One more or one less in either fails here."""
    top = Reader("runbook.yaml", FULL, [], {})
    _decoded(top, Path("/nowhere"), "", {})
    assert set(SCHEMA["properties"]) == top.taken
    cause = {"name": "a", "concerns": "owner", "summary": "b", "next_step": "c"}
    assert valid(FULL | {"causes": [cause]})
    assert not valid(FULL | {"causes": [cause | {"runbook": "d"}]})


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*/runbook.yaml")), ids=lambda path: path.parent.name)
def test_every_runbook_that_ships_is_valid(path: Path) -> None:
    """As an editor sees it."""
    assert valid(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("document", WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_what_the_decoder_refuses_an_editor_marks(folder: Path, document: dict[str, Any]) -> None:
    """Both say no; neither alone."""
    assert not valid(document)
    with pytest.raises(ConfigError):
        load(folder, document)


def test_what_the_decoder_takes_an_editor_takes(folder: Path) -> None:
    """All keys at once."""
    assert load(folder, FULL).detached is not None
