"""`logmend export --changes`: what an auditor is given, held to the machines' own records."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.conftest import Place
from tests.integration.cli.test_controls import deliver

from logmend_cli.pretend.fleet import Machine
from logmend_cli.pretend.story import Story, _fail

Opened = Callable[[Callable[[Story], None]], Place]


def changes(machine: Machine) -> list[str]:
    """Say what was really done to a machine's timer, in order, by its own record of calls."""
    done = {"disable -q --now": "enforce", "enable -q": "revert"}
    return [action for call in machine.calls() for words, action in done.items() if words in call]


def kept(machine: Machine) -> bool:
    """Say whether our scripts left their record on a machine."""
    return any((machine.folder / "var/lib/logmend").glob("*.mark"))


@pytest.fixture
def worked(opened: Opened) -> Place:
    """Let a fleet go through fixes, failures, a revert, controls, and VMs that are left alone."""

    def tell(story: Story) -> None:
        for name in ("web-1", "web-2", "web-3", "=cmd|' /C calc'!A0"):
            story.machine(name)
        story.machine("exempt-1", labels={"logmend": "off"})
        story.machine("fine-1", timer="disabled", active=False)
        _fail(story.machine("broken-1"), "systemctl-disable", "Failed: Read-only file system")
        _fail(story.machine("poor-1"), "sudo", "sudo: a password is required")

    place = opened(tell)
    deliver(place, "web-3")  # in mode observe: a look
    for name in place.story.machines:
        deliver(place, name, mode="enforce", cooldown_planned="0s")
    assert (
        place.logmend("revert", place.ref("web-2"), "--enforce", "--yes", "--by", "ann@desk").exit_code == 0
    )
    assert place.logmend("freeze", "--why", "=1+1", "--by", "ann@desk").exit_code == 0
    assert place.logmend("resume", "--by", "bob@desk").exit_code == 0
    place.json("tick", mode="enforce")
    return place


def test_every_change_on_the_machines_is_exported_and_every_exported_one_is_on_them(worked: Place) -> None:
    """In their order, with evidence; a change without proof says so, and only such a one may be missing."""
    rows: list[dict[str, Any]] = worked.json("export", "--changes")
    found = defaultdict[str, list[dict[str, Any]]](list)
    for row in sorted(rows, key=lambda each: str(each["at"])):
        if row["kind"] == "change":
            found[row["name"]].append(row)
    proven = {
        name: [row["action"] for row in each if row["changed"] == "proven"] for name, each in found.items()
    }
    for name, machine in worked.story.machines.items():
        done = changes(machine)
        if name != "broken-1":  # its calls failed: nothing was changed, and that cannot be proved
            assert proven.get(name, []) == done, name
        assert kept(machine) is (name in found and name != "poor-1"), name
    assert proven["web-2"] == ["enforce", "revert"]
    assert {name for name, each in found.items() if any(row["changed"] == "possible" for row in each)} == {
        "broken-1",
        "poor-1",
    }
    first = found["web-1"][0]
    assert (first["before"]["timer_enabled"], first["after"]["timer_enabled"]) == ("enabled", "disabled")
    assert first["runbook_digest"].startswith("sha256:")
    assert (found["web-2"][1]["by"], found["web-2"][1]["identity"]) == ("ann@desk", "claimed")
    controls = sorted((row["at"], row["reason"], row["by"]) for row in rows if row["kind"] == "control")
    assert [each[1:] for each in controls] == [("freeze_set", "ann@desk"), ("freeze_lifted", "bob@desk")]


def test_the_ledger_alone_and_the_log_alone_give_the_same_changes(worked: Place) -> None:
    """Whatever one of the two has lost; nothing is told twice."""

    def told(*args: str, **settings: Any) -> list[str]:
        return [row["outcome_id"] for row in worked.json("export", "--changes", *args, **settings)]

    both = told()
    assert len(both) == len(set(both)) > 0
    assert sorted(told(str(worked.folder / "outcomes.jsonl"), state="memory:")) == sorted(both)
    assert sorted(told(outcomes="stdout")) == sorted(both)
    worked.logmend("freeze")  # and no tick tells it
    assert len(told()) == len(both) + 1


def test_a_spreadsheet_runs_nothing_of_it(worked: Place) -> None:
    """A VM's name and a person's reason are text, whatever they look like; a line is a row."""
    ran = worked.logmend("export", "--changes", "--format", "csv")
    assert ran.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert len(rows) == len(worked.json("export", "--changes"))
    assert all(cell[:1] not in set("=+-@") for row in rows for cell in row.values())
    (odd,) = [row for row in rows if "calc" in row["name"]]
    assert odd["name"].startswith("'=cmd")
    assert json.loads(odd["before"])["finding"] == "faulty"


def test_since_bounds_both_and_what_is_exported_has_to_be_said(worked: Place, tmp_path: Path) -> None:
    """The ledger's rows as those of the log."""
    assert worked.json("export", "--changes", "--since", "2999-01-01T00:00:00Z") == []
    assert worked.json("export", "--changes", "--since", "7d") == worked.json("export", "--changes")
    assert worked.logmend("export").exit_code == 2
    ran = worked.logmend("export", "--changes", state="memory:", outcomes="stdout")
    assert (ran.exit_code, "nothing to read" in ran.stderr) == (2, True)
    empty = tmp_path / "empty.jsonl"
    empty.touch()
