"""The plain gcloud path from every point at which it can have stopped.

A model of gcloud takes the place of the real one, which :mod:`tests.integration.test_gcloud_script` runs:
starting that once for each of some thousands of commands would take hours. The model knows which resources
there are and refuses as gcloud does: making what is there, changing what is not. It knows nothing of flags.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REQUIRE_ALL
from tests.provider_schema import ROOT

pytestmark = pytest.mark.timeout(900)

MODEL = """#!PYTHON -SI
import json, os, re, sys
place = os.environ["MODEL_STATE"]
state = json.load(open(place)) if os.path.exists(place) else {"made": {}, "changes": 0}
words = [each for each in sys.argv[1:] if not each.startswith("--")]
flags = dict(each[2:].partition("=")[::2] for each in sys.argv[1:] if each.startswith("--"))
VERBS = ("create", "describe", "update", "delete", "list", "enable", "deploy", "modify-push-config",
         "add-iam-policy-binding", "read", "publish", "get-guest-attributes", "remove-iam-policy-binding",
         "get-iam-policy")
at = max(n for n, each in enumerate(words[:4]) if each in VERBS)
verb, kind, rest = words[at], " ".join(words[:at]), words[at + 1:]
if kind == "scheduler jobs" and verb == "create":
    rest = rest[1:]
name = rest[0] if rest else flags.get("database", "")
if "collection-group" in flags:
    name = flags["collection-group"]
name = name.split("@")[0]
key, made = f"{kind} {name}", state["made"]
database = any("firestore databases" in each for each in made)
def refuse(word):
    sys.exit(f"ERROR: (gcloud) {word}: {key}")
if os.environ.get("MODEL_FAIL") == f"{kind} {verb}":
    sys.exit("ERROR: (gcloud) INTERNAL: the model was told to fail")
if verb == "read":
    odd = "first line\\r\\nsecond \\\\ third"  # what an echo of sh would change
    told = {"reason": None, "detail": odd, "timestamp": "2026-11-28T22:00:05Z",
            "source": {"timestamp": "2026-11-28T22:00:00Z"},
            "latency_ms": {"queue": 900, "lookup": 200, "act": 1500, "total": 2100}}
    outcomes = [{"timestamp": told["timestamp"], "receiveTimestamp": "2026-11-28T22:00:05.250Z",
                 "jsonPayload": told | {"result": each}} for each in ("planned", "remediated", "reverted")]
    if flags["format"] == "json":
        print(json.dumps(outcomes if "log_id" in rest[0] else [{"insertId": "1", "textPayload": odd}]))
    sys.exit(0)
if verb == "get-guest-attributes":
    print("our stand-in")
    sys.exit(0)
if kind == "compute images":
    print(os.environ.get("MODEL_IMAGES", ""))
    sys.exit(0)
if verb == "publish":
    assert json.loads(flags["message"])["textPayload"].endswith("third")
if verb in ("publish", "remove-iam-policy-binding"):
    sys.exit(0)
if verb == "delete":
    if key not in made:
        refuse("NOT_FOUND")
    del made[key]
    json.dump(state, open(place, "w"))
    sys.exit(0)
if verb == "get-iam-policy":
    sys.exit(0)
if verb == "list" and kind == "iam roles":
    roles = [each.split()[-1] for each in made if each.startswith("iam roles")]
    pattern = flags["filter"].removeprefix('name~"').removesuffix('"')  # else () is gcloud's
    print(*(each for each in roles if re.search(pattern, f"/{each}")), sep="\\n")
if verb == "create" and key in made:
    refuse("ALREADY_EXISTS")
if verb in ("update", "describe", "modify-push-config") and key not in made:
    if kind != "projects" and not kind.startswith("firestore fields") and kind != "firestore indexes fields":
        refuse("NOT_FOUND")
if kind.startswith("firestore") and kind != "firestore databases" and not database:
    refuse("NOT_FOUND")
if verb == "list" and "composite" in kind and "filter" not in flags:
    for each in made:
        if each.startswith("firestore indexes composite"):
            print(f"projects/p/databases/d/collectionGroups/{each.split()[-1]}/indexes/1")
if told := re.search("environmentVariables.(LOGMEND_[A-Z_]+)", flags.get("format", "")):
    print(re.search(told[1] + "=([^,]*)|$", " ".join(made[key]))[1] or "")
elif verb == "describe" and "value" in flags.get("format", ""):
    print({"projects": "4711", "logging sinks": "serviceAccount:w", "functions": "https://f",
           "compute instances": "4775836342981993096"}.get(kind, ""))
if verb in ("describe", "list"):
    sys.exit(0)
if verb == "add-iam-policy-binding":
    key = f"grant {key} {flags['member']} {flags['role']}"
made[key] = sorted(f"{k}={v}" for k, v in flags.items())
state["changes"] += 1
json.dump(state, open(place, "w"))
json.dump(state, open(f"{place}-{state['changes']}", "w"))
stop = os.environ.get("MODEL_STOP", "0")
if stop in (str(state["changes"]), f"{kind} {verb}"):
    os.kill(os.getppid(), 9)
"""


class Model:
    """A project of its own in ``folder``, and the script run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        program = folder / "gcloud"
        program.write_text(MODEL.replace("PYTHON", sys.executable))
        program.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """Give the environment in which gcloud is the model."""
        return {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "MODEL_STATE": str(self.folder / "state"),
            "PAUSE": "0",
            "ALERTS": "false",  # test_monitoring_script has these
        }

    def left(self) -> set[str]:
        """Say what there is but for enabled APIs and grants, which go with their resources or accounts."""
        kinds = ("services", "grant", "firestore fields", "firestore indexes")
        return {each for each in self.made() if not each.startswith(kinds)}

    def run(self, *arguments: str, stop: int = 0) -> int:
        """Run the script, killed once it has made so many changes; gives its exit code."""
        environ = self.environment() | {"MODEL_STOP": str(stop)}
        command = [str(ROOT / "deploy" / "gcloud.sh"), *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert stop or done.returncode == 0, done.stderr
        return done.returncode

    def made(self) -> dict[str, Any]:
        """Give what there is, with the flags it was last given."""
        found: dict[str, Any] = json.loads((self.folder / "state").read_text())["made"]
        return found

    def changes(self) -> int:
        """Say how many changes there were in all."""
        return int(json.loads((self.folder / "state").read_text())["changes"])


def test_wherever_it_stopped_running_it_again_makes_the_same(tmp_path):
    """From what there was after each change in turn, a second run comes to the end of a whole run."""
    whole = Model(tmp_path / "whole")
    whole.run("logmend-home", "enforce")
    changes, expected = whole.changes(), whole.made()
    assert changes > 40
    assert "firestore indexes composite subjects" in expected
    for stop in range(1, changes, 1 if REQUIRE_ALL else 6):
        model = Model(tmp_path / str(stop))
        (model.folder / "state").write_text((whole.folder / f"state-{stop}").read_text())
        model.run("logmend-home", "enforce")
        assert model.made().keys() == expected.keys(), stop


def test_a_run_that_was_killed_is_finished_by_the_next(tmp_path):
    """Killed between the database and its indexes, which an earlier script then never made."""
    model = Model(tmp_path / "killed")
    assert model.run("logmend-home", stop=2) != 0
    assert model.changes() == 2
    model.run("logmend-home")
    assert {"firestore indexes composite intents", "firestore fields ttls samples"} <= model.made().keys()
