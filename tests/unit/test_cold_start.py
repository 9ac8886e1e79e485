"""What a cold start loads: nothing heavy before an event needs it, and nothing at all to list permissions."""

import os
import subprocess
import sys
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
HEAVY = (
    "asyncssh",
    "cryptography",
    "requests",
    "google.auth",
    "google.cloud",
    "grpc",
    "lark",
    "yaml",
    "zoneinfo",
)

UNMATCHED = """
import functions_framework.aio, sys
there = set(sys.modules)  # what the framework, which main needs, loads by itself
import asyncio, base64, json
import logmend.function
import main  # what the platform imports
entry = {"logName": "projects/p/logs/syslog", "resource": {"type": "gce_instance"}, "textPayload": "hello"}
data = base64.b64encode(json.dumps(entry).encode()).decode()
body = json.dumps({"message": {"data": data, "messageId": "1"}}).encode()
outcome = asyncio.run(logmend.function.app.pipeline.handle(body, {}))
assert outcome.result == "unmatched", outcome
print("LOADED", *sorted(set(sys.modules) - there))
"""


def python(*arguments: str) -> str:
    """Run Python beside the function's source; give its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=FUNCTIONS,
        env={k: v for k, v in os.environ.items() if not k.startswith("LOGMEND_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_event_that_needs_no_client_loads_none() -> None:
    """It is answered after our own imports alone; the runbooks and their filters come parsed."""
    loaded = python("-c", UNMATCHED).rpartition("LOADED")[2].split()
    assert len(loaded) > 50
    assert [each for each in loaded if each in HEAVY or each.startswith(tuple(f"{h}." for h in HEAVY))] == []


def test_permissions_are_listed_by_a_python_without_any_package() -> None:
    """Whoever runs deploy/gcloud.sh has what Cloud Shell has."""
    assert python("-S", "-m", "logmend.permissions", "enforce", "ssh", "iap").strip()
