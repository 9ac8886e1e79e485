"""The acceptance run, on the model of gcloud: what it makes and reports, and that it takes everything away.

The model answers readings of the log as a project would in which all goes well. What no model shows (whether
Google takes the commands, whether the VM logs the line) is what the script is there to find out.
"""

import json
import re
import subprocess
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.integration.test_gcloud_stops import Model
from tests.provider_schema import ROOT

pytestmark = pytest.mark.timeout(900)

SCRIPT = ROOT / "deploy" / "acceptance.sh"
QUICK = {"TRIES": "2", "SILENCE": "0", "LOGMEND": "no-such-command", "RUN": "1"}
STEPS = [
    "deployed in mode observe", "VM made", "the line logged", "planned", "deployed in mode enforce",
    "remediated", "silent", "reverted", "one message replayed", "destroyed",
]  # fmt: skip
LATENCY = {
    "event to Pub/Sub": 2.0, "Pub/Sub to function": 0.9, "look-up": 0.2, "on the VM": 1.5,
    "in the function": 2.1, "record": 0.25,
}  # fmt: skip


def accepted(model: Model, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the script in the model's folder."""
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env=model.environment() | QUICK | environ,
        cwd=model.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def report(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "lm-accept-1.json").read_text())
    assert (folder / "lm-accept-1.md").read_text().count("\n| ") >= len(found["steps"])
    return {each["step"]: each for each in found["steps"]} | {"": found}


def test_without_yes_it_says_what_it_would_make_and_makes_nothing(tmp_path):
    """A dry run asks Google nothing at all."""
    model = Model(tmp_path / "dry")
    done = accepted(model, "logmend-home")
    assert done.returncode == 0
    assert "Nothing was made" in done.stdout
    assert not (model.folder / "state").exists()


def flags(model: Model, kind: str) -> set[str]:
    """Give the flags that resources of a kind were ever made with, as text."""
    states = [literal_eval(path.read_text())["made"] for path in model.folder.glob("state-*")]
    return {str(each) for made in states for key, each in made.items() if key.startswith(f"{kind} ")}


def test_a_run_that_goes_well_reports_each_step_and_leaves_nothing(tmp_path):
    """Every step with its seconds; only the run's own VM is in scope; only enabled APIs are left."""
    model = Model(tmp_path / "well")
    done = accepted(model, "logmend-home", "--yes")
    found = report(model.folder)
    assert done.returncode == 0, done.stderr
    assert [step for step in found if step] == STEPS
    assert all(found[step]["result"].startswith(("ok", "left out")) for step in STEPS)
    assert found["remediated"]["latency_s"] == LATENCY
    assert (found[""]["passed"], found[""]["line_from"]) == (True, "our stand-in")
    (vm,), functions = flags(model, "compute instances"), flags(model, "functions")
    own = re.findall(r"labels=logmend=off,(logmend-acceptance=[\w-]+)", vm)
    assert len(functions) == 2, "observing, then enforcing"
    assert [re.findall(r"LOGMEND_SCOPE_LABELS=([\w=-]+)", each) for each in functions] == [own, own]
    assert model.left() == set()


@pytest.mark.parametrize("images", ["", "debian-11-bullseye-v20230306"])
def test_an_image_from_the_time_of_the_line_is_taken_if_there_is_one(tmp_path, images):
    """Else the present one; the report says which it was, and the VM is nobody's but this run's."""
    model = Model(tmp_path / "image")
    assert accepted(model, "logmend-home", "--yes", MODEL_IMAGES=images).returncode == 0
    assert report(model.folder)[""]["image"] == f"debian-cloud/{images or 'debian-12'}"
    (vm,) = flags(model, "compute instances")
    assert f"image={images}" in vm if images else "image-family=debian-12" in vm
    assert "labels=logmend=off,logmend-acceptance=1" in vm


def test_what_a_killed_run_left_is_destroyed_by_name(tmp_path):
    """By the run's name alone, whatever of it is still there; the project's own logmend stays."""
    model = Model(tmp_path / "killed")
    model.run("logmend-home")
    own = model.left()
    assert accepted(model, "logmend-home", "--yes", MODEL_STOP="compute instances create").returncode < 0
    assert model.left() > own
    assert accepted(model, "logmend-home", "--clean").returncode == 0
    assert model.left() == own


def test_what_cannot_be_destroyed_is_said_and_is_no_success(tmp_path):
    """A cleaning that leaves something ends with an error and names what to run later."""
    model = Model(tmp_path / "stuck")
    assert accepted(model, "logmend-home", "--yes", MODEL_STOP="compute instances create").returncode < 0
    done = accepted(model, "logmend-home", "--clean", MODEL_FAIL="pubsub topics delete", PAUSE="0")
    assert done.returncode == 1, done.stdout
    assert "RUN=1 deploy/acceptance.sh logmend-home --clean" in done.stderr
    assert "Nothing was made" not in done.stdout


@pytest.mark.parametrize("failing", ["functions deploy", "compute instances create", "logging read"])
def test_a_run_that_fails_says_where_and_leaves_nothing(tmp_path, failing):
    """Whatever stops it, what it made is destroyed, and the report names the step."""
    model = Model(tmp_path / "failing")
    done = accepted(model, "logmend-home", "--yes", MODEL_FAIL=failing)
    assert done.returncode != 0
    found = report(model.folder)
    assert found[""]["passed"] is False
    assert [each["result"] for each in found.values() if each.get("result") == "failed"] == ["failed"]
    assert found["destroyed"]["result"] == "ok"
    assert model.left() == set()


def test_shellcheck_has_nothing_to_say_about_it():
    """POSIX sh without the usual traps."""
    needs(commands=("shellcheck",))
    assert (
        subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, check=False).stdout == ""
    )
