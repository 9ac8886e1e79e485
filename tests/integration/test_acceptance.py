"""The acceptance run, on the model of gcloud: what it makes and reports, and that it takes everything away.

The model answers readings of the log as a project would in which all goes well. What no model shows (whether
Google takes the commands, whether the VM logs the line) is what the script is there to find out.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.integration.test_gcloud_stops import Model
from tests.provider_schema import ROOT

pytestmark = pytest.mark.timeout(900)

SCRIPT = ROOT / "deploy" / "acceptance.sh"
QUICK = {"TRIES": "2", "SILENCE": "0", "LOGMEND": "no-such-command"}
STEPS = [
    "deployed, observing", "VM made", "the line logged", "planned", "deployed, enforcing", "remediated",
    "silent", "reverted", "one message replayed", "destroyed",
]  # fmt: skip


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
    found = json.loads((folder / "acceptance-lm-accept.json").read_text())
    assert (folder / "acceptance-lm-accept.md").read_text().count("\n| ") >= len(found["steps"])
    return {each["step"]: each for each in found["steps"]} | {"": {"passed": found["passed"]}}


def test_without_yes_it_says_what_it_would_make_and_makes_nothing(tmp_path):
    """A dry run asks Google nothing at all."""
    model = Model(tmp_path / "dry")
    done = accepted(model, "logmend-home")
    assert done.returncode == 0
    assert "Nothing was made" in done.stdout
    assert not (model.folder / "state").exists()


def flags(model: Model, kind: str) -> set[str]:
    """Give the flags that resources of a kind were ever made with, as text."""
    states = [json.loads(path.read_text())["made"] for path in model.folder.glob("state-*")]
    return {str(each) for made in states for key, each in made.items() if key.startswith(f"{kind} ")}


def test_a_run_that_goes_well_reports_each_step_and_leaves_nothing(tmp_path):
    """Every step with its seconds; only the run's own VM is in scope; only enabled APIs are left."""
    model = Model(tmp_path / "well")
    done = accepted(model, "logmend-home", "--yes")
    found = report(model.folder)
    assert done.returncode == 0, done.stderr
    assert [step for step in found if step] == STEPS
    assert all(found[step]["result"].startswith(("ok", "skipped")) for step in STEPS)
    assert found[""]["passed"] is True
    (vm,), functions = flags(model, "compute instances"), flags(model, "functions")
    own = re.findall(r"labels=(logmend-acceptance=[\w-]+)", vm)
    assert len(functions) == 2, "observing, then enforcing"
    assert [re.findall(r"LOGMEND_SCOPE_LABELS=([\w=-]+)", each) for each in functions] == [own, own]
    assert model.left() == set()


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
