"""explain, scan, the function and filter match say the same of every form in which the line was ever seen."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeFleet, ManualClock, push, world
from tests.unit.cli.conftest import Run
from tests.unit.corpus import EXPECTED, FIXTURES, names, value

from logmend import explain
from logmend.model.values import InstanceRef, LogEntry, Outcome
from logmend.outcome import document
from logmend.stages import decode, identify

SINK = Path(__file__).resolve().parents[3] / "sink" / "filter.lql"
SPOKEN = [name for name in names("entries") if "words" in EXPECTED["entries"][name]]


async def delivered(raw: dict[str, Any]) -> Outcome:
    """Give the function's outcome, at the entry's own time and with the faulty VM standing ready."""
    event = decode.document(raw)
    assert isinstance(event, LogEntry)
    at = explain.own_time(decode.request(b"", {})[0], event)
    clock = ManualClock(at)
    fleet = FakeFleet(clock)
    if isinstance(named := identify.event(event), InstanceRef):
        fleet.add(named)
    return await world(clock=clock, fleet=fleet).deliver(json.dumps(push(raw, at=at)).encode())


@pytest.mark.parametrize("name", names("entries"))
async def test_four_ways_of_asking_give_one_answer(run: Run, name: str) -> None:
    """By the sink's filter, offline, in a scan of many and in the function itself."""
    file = FIXTURES / "entries" / f"{name}.json"
    outcome = await delivered(value("entries", name))
    explained = json.loads(run("explain", file, "--format", "json").stdout)
    totals = json.loads(run("scan", file, "--offline", "--format", "json").stdout)["totals"]
    routed = run("filter", "match", "--filter-file", SINK, file).stdout.startswith("match ")
    assert (explained["result"], explained["reason"]) == (outcome.result, outcome.reason)
    own = outcome.reason == "own_entry"  # the sink does not even route those
    assert routed == (outcome.result != "unmatched" and not own)
    assert totals["matched"] == int(outcome.result != "unmatched")
    word = f"{outcome.result}: {outcome.reason}" if outcome.reason else str(outcome.result)
    found = totals["results"] | totals["turned_away"]
    assert found == ({} if outcome.result == "unmatched" else {word: 1})


@pytest.mark.parametrize("name", SPOKEN)
async def test_what_has_the_words_and_no_runbook_is_told_of_everywhere(run: Run, name: str) -> None:
    """As a quote or as an unknown form; the outcome says which, and nothing of what the entry says."""
    file = FIXTURES / "entries" / f"{name}.json"
    outcome = await delivered(value("entries", name))
    unknown = EXPECTED["entries"][name]["words"] == "unknown_form"
    assert ("in a form that no filter knows" in outcome.detail) == unknown
    assert ("another program quotes" in outcome.detail) == (not unknown)
    assert outcome.detail in run("explain", file).stdout
    scanned = run("scan", file, "--offline")
    assert (
        "entries of 1 resources speak of this in a form that no filter knows" in scanned.stdout
    ) == unknown
    assert "no VM has the fault" not in scanned.stdout
    assert scanned.exit_code == int(unknown)
    assert "configured" not in json.dumps(outcome.detail)


@pytest.mark.parametrize("name", ["series_aggregated_over_vms", "zone_label_missing"])
async def test_an_incident_whose_series_lost_the_vm_says_how_to_group_it(run: Run, name: str) -> None:
    """The function's outcome and explain alike name the condition, not the dead letter."""
    outcome = await world().deliver(json.dumps(push(value("incidents", name))).encode())
    said = run("explain", FIXTURES / "incidents" / f"{name}.json").stdout
    step = document.document(outcome)["next_step"]
    assert step.startswith("group the condition by project_id, zone, instance_id")
    assert step in said
    assert "dead-letter" not in said


async def test_a_relayed_line_is_told_as_such_by_everyone(run: Run) -> None:
    """Its host is not the VM's name: the outcome, explain and scan say so, and whose VM is looked at."""
    name = "relayed_through_another_vm"
    outcome = await delivered(value("entries", name))
    told = "the line names host shop-3, not this VM"
    assert (outcome.result, told in outcome.detail) == ("planned", True)
    file = FIXTURES / "entries" / f"{name}.json"
    assert f"{told} (log-relay-1): relayed" in run("explain", file).stdout
    assert f"{told} (log-relay-1): relayed" in run("scan", file, "--offline").stdout
