"""The published JSON schemas are what the code prints; commands' own tests hold what they print as well."""

import json

import jsonschema
import pytest
from tests import schemas
from tests.provider_schema import ROOT
from tests.unit.cli.conftest import Run, run
from tests.unit.test_outcome_json import BARE, FULL

from logmend.outcome import document

__all__ = ["run"]


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_a_published_schema_is_the_one_of_the_code(name: str) -> None:
    """Results, modes and actions in it are those of the enums; it is a schema by its own rules."""
    written = (schemas.FOLDER / f"{name}.schema.json").read_text()
    assert written == schemas.text(name), "python -m tests.schemas"
    jsonschema.Draft202012Validator.check_schema(json.loads(written))


def test_every_outcome_that_is_written_down_holds_to_its_schema() -> None:
    """Those of all fixtures and cases, and one in which everything applies."""
    lines = (ROOT / "tests" / "fixtures" / "outcomes.jsonl").read_text().splitlines()
    written = [each for line in lines for each in json.loads(line)["outcomes"]]  # without what is null there
    left_out = {"outcome_id": "m-1", "version": "0.1.0", "mode": "enforce"}
    outcomes = [document.from_json(left_out | each) for each in written]
    assert len(outcomes) > 100
    for each in [*outcomes, FULL, BARE]:
        schemas.hold("outcome", document.document(each))


@pytest.mark.parametrize(
    ("key", "wrong"), [("result", "mended"), ("attempt", "1"), ("before", {}), ("surprise", 1)]
)
def test_another_document_is_not_taken_for_an_outcome(key: str, wrong: object) -> None:
    """An unknown word, a wrong type, evidence without its keys, and a key that nobody described."""
    with pytest.raises(jsonschema.ValidationError):
        schemas.hold("outcome", document.document(FULL) | {key: wrong})


@pytest.mark.parametrize("folder", ["entries", "exports"])
def test_a_scan_of_every_fixture_holds_to_its_schema(run: Run, folder: str) -> None:
    """Lines that match, quotes, unknown forms and what cannot be read."""
    for path in sorted((ROOT / "tests" / "fixtures" / folder).glob("*.json*")):
        ran = run("scan", "--offline", path, "--format", "json")
        assert ran.stdout.startswith("{"), (path, ran.stderr)
        schemas.hold("scan", json.loads(ran.stdout))
