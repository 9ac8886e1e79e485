"""All built-in runbooks on at once: the sink's filter stays small, and each line is its own runbook's."""

import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

from logmend import catalog, lql, sink_filter
from logmend.runbook import BUILT_IN, load_all
from logmend.settings import Settings

ROOM = 12_000
"""Characters of the sink's filter, of the 20,000 that Cloud Logging takes: the rest is the operator's."""


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """Write a file that turns every built-in runbook on."""
    path = tmp_path / "logmend.yaml"
    path.write_text(json.dumps({"runbooks": {name: {"enabled": True} for name in load_all()}}))
    return path


def cases() -> list[tuple[str, dict[str, object]]]:
    """Give every golden log entry that its runbook's filter selects, with the runbook's name."""
    found = []
    for path in sorted(BUILT_IN.glob("*/cases/*.json")):
        case = json.loads(path.read_text())
        own = path.parent.parent.name
        if case["expect"].get("runbook") == own and "logName" in case["event"]:
            found.append((own, case["event"]))
    return found


def test_the_sinks_filter_leaves_room_for_runbooks_of_ones_own(everything: Path) -> None:
    """It is what `logmend filter show` prints then, and it selects each golden line."""
    found = catalog.read_all(Settings(runbooks=everything)).runbooks
    assert set(found) == set(load_all())
    text = sink_filter.compose(found)
    assert len(sink_filter.compose(catalog.load(Settings()))) <= len(text) < ROOM
    selects = lql.compile(text)
    assert [name for name, event in cases() if not selects.matches(event)] == []


def test_explain_names_the_runbook_of_each_line_in_a_file_of_all(
    everything: Path, tmp_path: Path, run: Run
) -> None:
    """No line of one is taken for another's, whatever the order."""
    file = tmp_path / "lines.jsonl"
    every = cases()
    assert {name for name, _ in every} == {name for name, each in load_all().items() if each.filter}
    file.write_text("".join(f"{json.dumps(event)}\n" for _, event in every))
    ran = run("explain", str(file), "--format", "json", runbooks=str(everything))
    said = json.loads(ran.stdout)
    assert [each["runbook"] for each in said] == [name for name, _ in every]
