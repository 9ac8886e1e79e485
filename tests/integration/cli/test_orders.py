"""`logmend run` and `revert` on a pretend fleet: plans, fixes, limits, and what an operator is told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.conftest import Place

from logmend.errors import Transient
from logmend.ledger import Journal
from logmend.model.values import Intent
from logmend_cli.pretend.story import Story

ROOT = Path(__file__).resolve().parents[3]
ON, OFF = "enabled active", "disabled inactive"
Opened = Callable[[Callable[[Story], None]], Place]


def results(outcomes: Any) -> dict[str, str]:
    """Give `result` or `result: reason` by name of the VM, by its id where it has none."""
    return {
        each["instance"]["name"] or each["instance"]["instance_id"]: (
            f"{each['result']}: {each['reason']}" if each["reason"] else each["result"]
        )
        for each in outcomes
    }


def recorded(place: Place) -> list[dict[str, Any]]:
    """Give what reached the log of outcomes."""
    file = place.folder / "outcomes.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_the_plan_is_a_look_at_each_vm_and_changes_nothing(place: Place) -> None:
    """Without --enforce, in whatever mode; nothing is recorded either."""
    names = ("web-1", "cert-1", "exempt-1", "fine-1")
    told = place.json("run", *(place.ref(name) for name in names), mode="enforce")
    assert results(told) == {
        "web-1": "planned",
        "cert-1": "refused: opted_in",
        "exempt-1": "refused: exempt",
        "fine-1": "nothing_to_do",
    }
    assert place.machine("web-1").timer() == ON
    assert recorded(place) == []
    shown = place.logmend("run", place.ref("web-1"))
    assert (shown.exit_code, "planned" in shown.stdout) == (0, True)
    assert "Nothing was changed. Act with --enforce." in shown.stderr


def test_enforcing_fixes_and_leaves_one_record(place: Place) -> None:
    """Seen before, enforced, not seen after; the same document on screen and in the log."""
    told = place.json("run", place.ref("web-1"), "--enforce", "--yes", "--by", "ann@desk")
    assert results(told) == {"web-1": "remediated"}
    assert place.machine("web-1").timer() == OFF
    assert place.machine("web-2").timer() == ON
    assert recorded(place) == told
    assert told[0]["requested_by"] == "ann@desk"
    assert (told[0]["before"]["finding"], told[0]["after"]["finding"]) == ("faulty", "desired")


def test_the_worst_result_is_the_exit_status(place: Place) -> None:
    """Another machine at the VM's address is a failure, whatever became of the others."""
    told = place.json("run", place.ref("web-1"), place.ref("moved-1"), "--enforce", "--yes", status=1)
    assert results(told) == {"web-1": "remediated", "moved-1": "failed: wrong_instance"}


def test_a_vm_that_does_not_answer_is_tried_again_by_the_tick(place: Place) -> None:
    """Nothing is lost: the order waits in the ledger."""
    told = place.json("run", place.ref("closed-1"), "--enforce", "--yes")
    assert results(told) == {"closed-1": "parked: retry"}
    (waiting,) = place.json("status")["waiting"]
    assert (waiting["state"], waiting["instance"]) == ("parked", place.ref("closed-1"))


def test_acting_asks_first_with_the_list(place: Place) -> None:
    """Anything but yes leaves the VM as it is."""
    ran = place.logmend("run", place.ref("web-1"), "--enforce", stdin="n\n")
    assert ran.exit_code == 1
    assert place.ref("web-1") in ran.stderr
    assert place.machine("web-1").timer() == ON
    assert place.logmend("run", place.ref("web-1"), "--enforce", stdin="y\n").exit_code == 0
    assert place.machine("web-1").timer() == OFF


def test_vms_are_named_in_every_way_that_people_have(place: Place) -> None:
    """By name, by self link, by a filter of the API; one that is meant twice is looked at once."""
    one = place.machine("web-1").instance
    link = f"https://www.googleapis.com/compute/v1/{one.path}"
    told = place.json(
        "run", "demo-project/us-west1-a/web-1", link, "--project", "demo-project", "--filter", "name = web-2"
    )
    assert results(told) == {"web-1": "planned", "web-2": "planned"}


def test_a_freeze_stops_an_operator_too(place: Place) -> None:
    """The order waits in the ledger, and goes on after resume."""
    assert place.logmend("freeze", "--why", "change window").exit_code == 0
    told = place.json("run", place.ref("web-1"), "--enforce", "--yes")
    assert list(results(told).values()) == ["parked: frozen"]
    assert place.machine("web-1").timer() == ON
    assert place.logmend("resume").exit_code == 0
    tally = place.json("tick", mode="enforce")
    assert tally["outcomes"] == {"remediated": 1}
    assert place.machine("web-1").timer() == OFF


@pytest.mark.parametrize("command", ["run", "revert"])
def test_the_mode_is_a_ceiling_here_too(place: Place, command: str) -> None:
    """Whoever set it to observe on a workstation meant it; nothing is looked at or changed."""
    ran = place.logmend(command, place.ref("web-1"), "--enforce", "--yes", mode="observe")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "LOGMEND_MODE=observe" in ran.stderr
    assert place.machine("web-1").timer() == ON


def test_the_disruption_budget_binds_an_operator_too(place: Place) -> None:
    """The second VM waits for its time."""
    told = place.json(
        "run", place.ref("web-1"), place.ref("web-2"), "--enforce", "--yes", "--parallel", "1",
        disruption_budget="1/10m",
    )  # fmt: skip
    assert sorted(results(told).values()) == ["parked: budget_exhausted", "remediated"]
    assert sorted(str(place.machine(name).timer()) for name in ("web-1", "web-2")) == [OFF, ON]


def test_a_revert_puts_back_what_was(place: Place) -> None:
    """The plan first; then the timer is as it was before us, until an order that knows of the revert."""
    place.logmend("run", place.ref("web-1"), "--enforce", "--yes")
    assert results(place.json("revert", place.ref("web-1"))) == {"web-1": "planned"}
    assert place.machine("web-1").timer() == OFF
    assert results(place.json("revert", place.ref("web-1"), "--enforce", "--yes")) == {"web-1": "reverted"}
    assert place.machine("web-1").timer() == ON
    asked = place.logmend("run", place.ref("web-1"), "--enforce", stdin="n\n")
    assert "takes back the revert o-" in asked.stderr
    assert place.machine("web-1").timer() == ON
    assert results(place.json("run", place.ref("web-1"), "--enforce", "--yes")) == {"web-1": "remediated"}


def test_what_was_never_changed_is_not_reverted(place: Place) -> None:
    """There is nothing on record to put back."""
    told = place.json("revert", place.ref("web-1"), "--enforce", "--yes")
    assert results(told) == {"web-1": "refused: no_previous_state"}
    assert place.machine("web-1").timer() == ON


def test_without_the_fleets_ledger_acting_takes_a_word(place: Place) -> None:
    """--standalone: no lease, budget or freeze of others would be seen."""
    ran = place.logmend("run", place.ref("web-1"), "--enforce", "--yes", state="memory:")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "--standalone" in ran.stderr
    assert place.machine("web-1").timer() == ON
    told = place.json("run", place.ref("web-1"), "--enforce", "--yes", "--standalone", state="memory:")
    assert results(told) == {"web-1": "remediated"}


def test_an_order_can_be_left_to_the_function(place: Place) -> None:
    """It is in the ledger, under the name of who gave it; the next tick acts on it."""
    ordered = ("run", place.ref("web-1"), "--via-function", "--enforce", "--yes", "--by", "ann@desk")
    (row,) = place.json(*ordered)
    assert (row["instance"], row["by"]) == (place.ref("web-1"), "ann@desk")
    assert place.machine("web-1").timer() == ON
    assert place.json("tick", mode="enforce")["outcomes"] == {"remediated": 1}
    (outcome,) = recorded(place)
    assert (outcome["requested_by"], outcome["intent_id"]) == ("ann@desk", row["intent_id"])


def test_a_closed_window_is_shown_and_passed_by_a_word_that_is_on_record(place: Place) -> None:
    """From here and by the function; the same order without it waits."""
    closed: dict[str, Any] = {"blackouts": "UTC"}
    for name, how in (("web-1", ()), ("web-2", ("--via-function",))):
        act = ("run", place.ref(name), "--enforce", "--yes", *how)
        assert "--why" in place.logmend(*act, "--outside-window", **closed).stderr
        waits = place.logmend(*act, **closed)
        assert "waits: it is blackout UTC" in waits.stderr
        place.json("tick", mode="enforce", **closed)
        assert place.machine(name).timer() == ON
        goes = place.logmend(*act, "--outside-window", "--why", "outage 7", "--by", "ann", **closed)
        assert "passes: it is blackout UTC" in goes.stderr
        place.json("tick", mode="enforce", **closed)
        assert place.machine(name).timer() == OFF
    done = [each for each in recorded(place) if each["result"] == "remediated"]
    assert [(each["requested_by"], each["identity"], each["why"]) for each in done] == (
        [("ann", "claimed", "outage 7")] * 2
    )
    assert all(each["passes"] == ["blackout UTC, for the next 400 days"] for each in done)


def test_a_word_for_windows_that_are_not_known_here_passes_none_and_says_so(place: Place) -> None:
    """A function that has some holds the order back: whoever gave it was shown nothing to go through."""
    act = ("run", place.ref("web-1"), "--enforce", "--yes", "--via-function", "--outside-window")
    assert "there is nothing to pass" in place.logmend(*act, "--why", "outage 7").stderr
    place.json("tick", mode="enforce", blackouts="UTC")
    assert place.machine("web-1").timer() == ON


def test_an_order_that_does_not_reach_the_ledger_is_told_beside_those_that_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is shown and carried out; the others can be ordered again."""
    write = Journal.write

    async def lost(journal: Journal, intent: Intent, now: datetime) -> bool:
        if str(intent.instance) == place.ref("web-2"):
            raise Transient("ledger_unavailable", "503")
        return await write(journal, intent, now)

    monkeypatch.setattr(Journal, "write", lost)
    order = ("run", place.ref("web-1"), place.ref("web-2"), "--via-function", "--enforce", "--yes")
    ran = place.logmend(*order, "--format", "json")
    assert ran.exit_code == 1
    assert [row["instance"] for row in json.loads(ran.stdout)] == [place.ref("web-1")]
    assert "1 of 2 requests were not written" in ran.stderr
    assert f"  {place.ref('web-2')}" in ran.stderr
    assert place.json("tick", mode="enforce")["outcomes"] == {"remediated": 1}
    ran = place.logmend("run", place.ref("web-2"), "--via-function")
    assert (ran.exit_code, "none was written" in ran.stdout) == (1, True)


def test_a_look_can_be_left_to_the_function_too(place: Place) -> None:
    """Without --enforce it changes nothing, whatever the function's mode."""
    place.json("run", place.ref("web-1"), "--via-function")
    assert place.json("tick", mode="enforce")["outcomes"] == {"planned": 1}
    assert place.machine("web-1").timer() == ON


@pytest.mark.parametrize("command", ["run", "revert"])
@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "no VMs selected"),
        (["web-1"], "an instance is PROJECT/ZONE/ID"),
        (["demo-project/us-west1-a/0042"], "without leading zeros"),
        (["--filter", "name = web-1"], "--filter needs --project"),
        (["demo-project/us-west1-a/42", "--runbook", "nope"], "no runbook 'nope'"),
        (["--from", "no-such-file"], "does not exist"),
        (["demo-project/us-west1-a/42", "--parallel", "0"], "Invalid value"),
        (["demo-project/us-west1-a/42", "--via-function", "--yes"], "LOGMEND_STATE"),
    ],
)
def test_input_of_no_use_is_told(run: Any, command: str, args: list[str], told: str) -> None:
    """Status 2, nothing on standard output, nothing asked of anyone."""
    ran = run(command, *args)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr


def test_a_file_that_no_scan_wrote_is_told(run: Any, tmp_path: Path) -> None:
    """Status 2."""
    file = tmp_path / "scan.json"
    file.write_text('{"instances": [{"name": "web-1"}]}')
    ran = run("run", "--from", file)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "not the output of `logmend scan --format json`" in ran.stderr


def test_a_name_that_no_vm_has_is_told(place: Place) -> None:
    """Nothing else is begun either."""
    ran = place.logmend("run", place.ref("web-1"), "demo-project/us-west1-a/nobody", "--enforce", "--yes")
    assert ran.exit_code == 1
    assert "instance_gone" in ran.stderr
    assert place.machine("web-1").timer() == ON


async def _seen(file: Path) -> None:
    async with asyncio.timeout(150):
        while not file.exists() or not file.read_text():  # noqa: ASYNC110, ASYNC240  a file to wait for
            await asyncio.sleep(0.02)


def test_ctrl_c_ends_with_every_started_attempt_recorded(opened: Opened) -> None:
    """What was begun is finished, what was not is left alone, and both are told."""
    names = [f"web-{number}" for number in range(1, 13)]

    def tell(story: Story) -> None:
        for name in names:
            story.machine(name)

    place = opened(tell)
    settings = {f"LOGMEND_{name.upper()}": value for name, value in place.settings.items()}
    command = subprocess.Popen(
        [
            sys.executable, "-c", "from logmend_cli.main import main; main()",
            "run", *map(place.ref, names), "--enforce", "--yes", "--parallel", "2", "--format", "json",
        ],
        env={k: v for k, v in os.environ.items() if not k.startswith("LOGMEND_")}
        | settings
        | {"PYTHONPATH": str(ROOT / "functions")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        asyncio.run(_seen(place.folder / "outcomes.jsonl"))
        os.kill(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=150)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
    told = json.loads(out)
    assert 1 <= len(told) < len(names), err
    assert {each["result"] for each in told} == {"remediated"}
    off = {name for name in names if place.machine(name).timer() == OFF}
    assert off == {each["instance"]["name"] for each in told}
    assert sorted(each["outcome_id"] for each in recorded(place)) == sorted(
        each["outcome_id"] for each in told
    )
    assert f"stopped: {len(names) - len(told)} VMs were not begun" in err


@pytest.mark.parametrize(("general", "own"), [("observe", "enforce"), ("enforce", "observe")])
def test_a_runbooks_own_mode_decides_whether_it_is_diagnosed_as_root(
    place: Place, general: str, own: str
) -> None:
    """Root is granted by the lower of the two; nobody is logged in, and nothing is recorded."""
    file = place.folder / "logmend.yaml"
    file.write_text(f"runbooks:\n  ops-agent:\n    mode: {own}\n")
    ran = place.logmend("diagnose", place.ref("web-1"), "--as-root", mode=general, runbooks=str(file))
    assert ran.exit_code == 2
    assert "--as-root: the mode of ops-agent is observe" in ran.stderr
    assert recorded(place) == []
