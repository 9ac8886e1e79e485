"""What a cold start loads, and when: nothing heavy before an event needs it, SSH beside the look-up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
HEAVY = {
    "asyncssh",
    "cryptography",
    "requests",
    "google.auth",
    "google.cloud",
    "grpc",
    "lark",
    "yaml",
    "click",
}

UNMATCHED = """
import asyncio, base64, json, sys
import main
entry = {"logName": "projects/p/logs/syslog", "resource": {"type": "gce_instance"}, "textPayload": "hello"}
data = base64.b64encode(json.dumps(entry).encode()).decode()
body = json.dumps({"message": {"data": data, "messageId": "1"}}).encode()
outcome = asyncio.run(main.app.pipeline.handle(body, {}))
assert outcome.result == "unmatched", outcome
"""
PREPARED = """
import sys, threading
from logmend import wiring
from logmend.settings import Settings
app = wiring.application(Settings.from_environment({"LOGMEND_EXECUTOR": sys.argv[1]}))
for _ in range(3):
    app.pipeline.executors.prepare()
loading = [each for each in threading.enumerate() if each.name == "logmend-imports"]
assert len(loading) == (sys.argv[1] != "osconfig"), loading
for each in loading:
    each.join()
app.pipeline.executors.prepare()
assert not [each for each in threading.enumerate() if each.name == "logmend-imports"]
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """Run code in a process of its own; give which heavy modules it has loaded."""
    # What functions_framework, which main needs, loads by itself (click, say) does not count.
    before = "import functions_framework.aio, sys; there = set(sys.modules)\n"
    after = "\nprint('LOADED', *sorted(set(sys.modules) - there))"
    done = subprocess.run(
        [sys.executable, "-c", before + code + after, *arguments],
        cwd=FUNCTIONS,
        env={k: v for k, v in os.environ.items() if not k.startswith("LOGMEND_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.rpartition("LOADED")[2].split()
    return {each for each in HEAVY if any(name == each or name.startswith(each + ".") for name in said)}


def test_an_event_that_needs_no_client_loads_none() -> None:
    """It is answered after our own imports alone; the runbooks and their filters come parsed."""
    assert loaded(UNMATCHED) == set()


@pytest.mark.parametrize(
    ("executor", "expected"),
    [
        ("ssh", {"asyncssh", "requests", "google.auth"}),
        ("auto", {"asyncssh", "requests"}),
        ("osconfig", set()),
    ],
)
def test_ssh_is_loaded_beside_the_look_up_once(executor: str, expected: set[str]) -> None:
    """In a thread of its own, and not at all where SSH is not used."""
    found = loaded(PREPARED, executor)
    assert expected <= found if expected else not found & {"asyncssh", "requests"}
