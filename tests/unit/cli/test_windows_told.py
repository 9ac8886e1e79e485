"""Maintenance windows as commands tell them: what is in force, what is closed now, and what it means."""

import json
from pathlib import Path

from tests.fakes import entry
from tests.unit.cli.conftest import Run

NEVER = "2020-01-01 UTC"
"""A window that is over: closed whenever the test runs."""


def test_status_says_what_is_closed_and_when_it_opens(run: Run, tmp_path: Path) -> None:
    """For every VM and for those with a label, runbooks together if it is the same for them."""
    chosen = tmp_path / "logmend.yaml"
    chosen.write_text(
        f"runbooks: {{ops-agent: {{blackouts: ['label:env=prod 00:00-24:00 UTC', '{NEVER}']}}}}"
    )
    given = {"state": f"sqlite:{tmp_path}/ledger", "windows": NEVER, "runbooks": str(chosen)}
    shown = json.loads(run("status", "--format", "json", **given).stdout)["closed"]
    for each in shown:
        each["runbooks"].sort()
    assert shown == [
        {
            "scope": "every VM",
            "runbooks": ["ops-agent", "workload-cert-refresh"],
            "closed": f"outside {NEVER}",
            "opens": None,
        },
        {
            "scope": "label env=prod",
            "runbooks": ["ops-agent"],
            "closed": "blackout label:env=prod 00:00-24:00 UTC",
            "opens": None,
        },
    ]
    table = run("status", **given).stdout
    assert "Closed now" in table
    assert "label env=prod" in table
    opened = {"state": given["state"], "windows": "UTC"}
    assert json.loads(run("status", "--format", "json", **opened).stdout)["closed"] == []


def test_runbook_list_shows_what_is_in_force_and_who_said_it(run: Run, tmp_path: Path) -> None:
    """The function's and the runbook's own, as they were written."""
    chosen = tmp_path / "logmend.yaml"
    chosen.write_text("runbooks: {ops-agent: {windows: ['Sat,Sun UTC'], blackouts: [12-24..01-02 UTC]}}")
    found = run(
        "runbook", "list", "--format", "json", windows="Mon-Fri 22:00-06:00 UTC; UTC", runbooks=str(chosen)
    )
    said = {
        row["name"]: {each["name"]: (each["value"], each["origin"]) for each in row["values"]}
        for row in json.loads(found.stdout)
    }
    general = "Mon-Fri 22:00-06:00 UTC; UTC"
    assert said["workload-cert-refresh"]["windows"] == (general, "LOGMEND_WINDOWS")
    assert said["workload-cert-refresh"]["blackouts"] == ("none", "default")
    assert said["ops-agent"]["windows"] == (f"{general}; Sat,Sun UTC", "LOGMEND_WINDOWS and configuration")
    assert said["ops-agent"]["blackouts"] == ("12-24..01-02 UTC", "configuration")


def test_explain_says_that_it_would_wait(run: Run, tmp_path: Path) -> None:
    """As of the entry's own time, a Sunday; and why, in words."""
    (tmp_path / "entry.json").write_text(json.dumps(entry()))
    night = {"mode": "enforce", "windows": "Mon-Fri 22:00-06:00 UTC"}
    found = json.loads(run("explain", tmp_path / "entry.json", "--format", "json", **night).stdout)
    assert (found["result"], found["reason"]) == ("skipped", "outside_window")
    assert "until 2026-03-02T22:00:00Z" in run("explain", tmp_path / "entry.json", **night).stdout
    found = run("explain", tmp_path / "entry.json", "--format", "json", mode="enforce", windows="Sun UTC")
    assert json.loads(found.stdout)["result"] == "planned"


def test_a_window_that_cannot_be_read_stops_the_start(run: Run, tmp_path: Path) -> None:
    """In the environment and in the file, with what is wrong about it."""
    assert "window 1: expected an IANA time zone" in run("runbook", "list", windows="Mon 22:00-06:00").stderr
    chosen = tmp_path / "logmend.yaml"
    chosen.write_text("runbooks: {ops-agent: {windows: [Mon UTC, Monday UTC]}}")
    assert (
        "runbooks.ops-agent.windows: window 2: expected"
        in run("runbook", "list", runbooks=str(chosen)).stderr
    )
