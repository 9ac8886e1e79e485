"""The plain gcloud path from every point at which it can have stopped.

A model of gcloud takes the place of the real one, which :mod:`tests.integration.test_gcloud_script` runs:
starting that once for each of some thousands of commands would take hours. The model knows which resources
there are and refuses as gcloud does: making what is there, changing what is not. It knows nothing of flags.
"""

import os
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REQUIRE_ALL
from tests.provider_schema import ROOT

pytestmark = pytest.mark.timeout(900)

MODEL = """#!PYTHON -SI
import os, sys  # started for each of thousands of commands: what few of them need, they import
place = os.environ["MODEL_STATE"]
state = eval(open(place).read()) if os.path.exists(place) else {"made": {}, "changes": 0}
def keep(*places):
    for each in places:
        with open(each, "w") as file:
            file.write(repr(state))
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
    import json
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
    import json
    assert json.loads(flags["message"])["textPayload"].endswith("third")
if verb in ("publish", "remove-iam-policy-binding"):
    sys.exit(0)
if verb == "delete":
    if key not in made:
        refuse("NOT_FOUND")
    del made[key]
    keep(place)
    sys.exit(0)
if verb == "get-iam-policy":
    sys.exit(0)
if verb == "list" and kind == "iam roles":
    import re
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
if "environmentVariables.LOGMEND_" in flags.get("format", ""):
    import re
    told = re.search("environmentVariables.(LOGMEND_[A-Z_]+)", flags["format"])
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
keep(place, f"{place}-{state['changes']}")
stop = os.environ.get("MODEL_STOP", "0")
if stop in (str(state["changes"]), f"{kind} {verb}"):
    os.kill(os.getppid(), 9)
"""


PYTHON3 = """#!/bin/sh
# Runs what the script runs by python3; the list of permissions only once, it is the same each time.
case "$*" in "-m logmend.permissions "*) ;; *) exec PYTHON "$@" ;; esac
known="${0%/*}/$(echo "$*" | tr ' ' _)"
[ -e "$known" ] || { PYTHON "$@" >"$known.new" && mv "$known.new" "$known"; } || exit
cat "$known"
"""


class Model:
    """A project of its own in ``folder``, and the script run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        bare = str(Path(sys.executable).resolve())  # starts sooner than that of an environment
        for name, text, python in (("gcloud", MODEL, bare), ("python3", PYTHON3, sys.executable)):
            (folder / name).write_text(text.replace("PYTHON", python))
            (folder / name).chmod(0o755)

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
        found: dict[str, Any] = literal_eval((self.folder / "state").read_text())["made"]
        return found

    def changes(self) -> int:
        """Say how many changes there were in all."""
        return int(literal_eval((self.folder / "state").read_text())["changes"])


def test_wherever_it_stopped_running_it_again_makes_the_same(tmp_path):
    """From what there was after each change in turn, a second run comes to the end of a whole run."""
    whole = Model(tmp_path / "whole")
    whole.run("logmend-home", "enforce")
    changes, expected = whole.changes(), whole.made()
    assert changes > 40
    assert "firestore indexes composite subjects" in expected
    states = {stop: (whole.folder / f"state-{stop}").read_text() for stop in range(1, changes)}
    for stop in range(1, changes, 1 if REQUIRE_ALL else 6):
        (whole.folder / "state").write_text(states[stop])
        whole.run("logmend-home", "enforce")
        assert whole.made().keys() == expected.keys(), stop


def test_a_run_that_was_killed_is_finished_by_the_next(tmp_path):
    """Killed between the database and its indexes, which an earlier script then never made."""
    model = Model(tmp_path / "killed")
    assert model.run("logmend-home", stop=2) != 0
    assert model.changes() == 2
    model.run("logmend-home")
    assert {"firestore indexes composite intents", "firestore fields ttls samples"} <= model.made().keys()


GIVEN = {
    "SETTINGS": "LOGMEND_SCOPE_LABELS=pilot=yes,LOGMEND_COOLDOWN_PLANNED=1m",
    "WINDOWS": "Mon,Wed 22:00-06:00 Europe/Berlin; label:env=prod Sat UTC",
    "BLACKOUTS": "12-24..01-02 Europe/Berlin",
    "OUTCOME_TOPIC": "true",
    "CONFIRM_SILENCE": "true",
    "KNOWN_HOSTS_SECRET": "hosts",
    "KEY_SECRET": "key",
    "SSH_USER": "sre",
}


class Quick:
    """A gcloud for the function's settings alone, much faster: all is there, and only a deploy counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, str] = {}
        self.flags: dict[str, str] = {}
        folder.mkdir()
        program = folder / "gcloud"
        program.write_text(QUICK)
        program.chmod(0o755)

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the script on what is deployed, and deploy what it says, as gcloud merges it."""
        lines = [f"serviceConfig.environmentVariables.{key}: {each}" for key, each in self.settings.items()]
        (self.folder / "deployed").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "flags").unlink(missing_ok=True)
        environ = {"PATH": f"{self.folder}:{os.environ['PATH']}", "FOLDER": str(self.folder)}
        environ |= {"PAUSE": "0", "ALERTS": "false"} | more
        command = [str(ROOT / "deploy" / "gcloud.sh"), "logmend-home", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        if (self.folder / "flags").exists():
            given = (self.folder / "flags").read_text().splitlines()
            self.flags = {flag: value for flag, _, value in (each.partition("=") for each in given)}
            gone = self.flags.get("--remove-env-vars", "").split(",")
            old = {} if "--set-env-vars" in self.flags else self.settings
            text = self.flags.get("--set-env-vars") or self.flags["--update-env-vars"]
            sign, text = text[1:].split("^", 1) if text.startswith("^") else (",", text)
            fresh = dict(each.split("=", 1) for each in text.split(sign))
            assert not fresh.keys() & set(gone)
            self.settings = {key: each for key, each in old.items() if key not in gone} | fresh
        return done


QUICK = """#!/bin/sh
case "$*" in
  *"functions describe"*flattened*) cat "$FOLDER/deployed" ;;
  *"functions deploy"*) printf '%s\\n' "$@" >"$FOLDER/flags" ;;
esac
"""


def test_a_later_run_that_says_nothing_of_a_setting_keeps_what_is_deployed(tmp_path):
    """Windows, blackouts, scope and the rest last through a new release; set but empty takes them away."""
    model = Quick(tmp_path / "kept")
    model.run("enforce", **GIVEN)
    before = model.settings
    assert before["LOGMEND_WINDOWS"] == GIVEN["WINDOWS"]
    assert before["LOGMEND_BLACKOUTS"] == GIVEN["BLACKOUTS"]
    assert before["LOGMEND_SCOPE_LABELS"] == "pilot=yes"
    model.run()
    assert model.settings == before
    assert model.flags["--set-secrets"] == "/secrets/hosts/value=hosts:latest,/secrets/key/value=key:latest"
    model.run(SETTINGS="LOGMEND_SCOPE_LABELS=pilot=no")
    changed = {"LOGMEND_SCOPE_LABELS": "pilot=no"}
    assert model.settings == {k: v for k, v in before.items() if k != "LOGMEND_COOLDOWN_PLANNED"} | changed
    model.run(WINDOWS="", OUTCOME_TOPIC="false")
    gone = {"LOGMEND_WINDOWS", "LOGMEND_OUTCOME_TOPIC", "LOGMEND_COOLDOWN_PLANNED"}
    assert model.settings == {k: v for k, v in before.items() if k not in gone} | changed
    model.run(**dict.fromkeys(GIVEN, ""))
    plain = Quick(tmp_path / "plain")
    plain.run("enforce")
    assert model.settings == plain.settings


def test_a_setting_may_be_a_list(tmp_path):
    """A comma ends a setting only if another begins after it."""
    model = Quick(tmp_path / "lists")
    model.run(SETTINGS="LOGMEND_OUTCOME_LABELS=team,env, LOGMEND_REPEATS=each,LOGMEND_WAVES=1,5%,25%/1h")
    assert model.settings["LOGMEND_OUTCOME_LABELS"] == "team,env"
    assert model.settings["LOGMEND_REPEATS"] == "each"
    assert model.settings["LOGMEND_WAVES"] == "1,5%,25%/1h"
    assert model.settings["LOGMEND_MODE"] == "observe"


def test_runbooks_of_a_file_are_not_replaced_by_our_own_for_want_of_the_file(tmp_path):
    """The file may hold a runbook in a lower mode: a run without it has to say so."""
    model = Quick(tmp_path / "runbooks")
    model.run(SETTINGS="LOGMEND_RUNBOOKS=runbooks.yaml")
    done = model.run()
    assert done.returncode == 2
    assert "LOGMEND_RUNBOOKS" in done.stderr
    model.run(LOGMEND_RUNBOOKS="")
    assert "LOGMEND_RUNBOOKS" not in model.settings
