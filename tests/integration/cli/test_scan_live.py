"""`logmend scan` against Cloud Logging and the Compute Engine API, as far as the pretend ones go."""

import contextlib
import csv
import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.integration.cli.conftest import Place

from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.instance import PretendInstance
from logmend_cli.pretend.story import ZONE, identity

ROOT = Path(__file__).resolve().parents[3]


def lines(place: Place, *, age: timedelta = timedelta(minutes=5)) -> list[dict[str, Any]]:
    """Give one line of each machine."""
    at = datetime.now(UTC) - age
    return [entry(identity(each), at=at) for each in place.story.machines.values()]


def results(found: Any) -> dict[str, str]:
    """Give the result and reason of each VM by name, or by id where it has none."""
    return {
        each["name"] or each["instance"]["instance_id"]: f"{each['result']}: {each['reason']}"
        for each in found["instances"]
    }


def test_cloud_logging_is_read_and_vms_are_looked_up(place: Place) -> None:
    """Nothing deployed, nothing changed: what would be done to each VM, and why."""
    place.logs.entries = [*lines(place), *lines(place, age=timedelta(days=3))]
    place.logs.page = 2
    found = place.json("scan", "--project", "demo-project", "--since", "1d")
    assert results(found) == {
        "web-1": "planned: None",
        "web-2": "planned: None",
        "cert-1": "refused: opted_in",
        "exempt-1": "refused: exempt",
        "closed-1": "planned: None",
        "fine-1": "planned: None",
        "moved-1": "planned: None",
    }
    assert all(each["count"] == 1 for each in found["instances"])
    assert all(each["pending_guards"] == [] for each in found["instances"])
    assert found["totals"]["facts"] == "compute"
    assert [call.partition(" ")[0] for call in place.story.compute.calls] == ["GET"] * len(
        place.story.compute.calls
    )
    assert all(machine.calls() == [] for machine in place.story.machines.values())


def test_cloud_logging_is_asked_for_the_words_in_any_form(place: Place) -> None:
    """What no filter selects has to be read to be told of; audit logs, which hold queries, are not."""
    said = "Error getting config status, workload certificates may not be configured: HTTP 404"
    unread = entry(("demo-project", ZONE, "77"), at=datetime.now(UTC) - timedelta(minutes=5))
    unread["jsonPayload"] = {"event": {"original": said}}
    audit = unread | {"protoPayload": {"request": {"filter": said}}}
    del audit["jsonPayload"]
    place.logs.entries = [unread, audit]
    ran = place.logmend("scan", "--project", "demo-project", "--since", "1d")
    assert ran.exit_code == 1, ran.stderr
    assert "1 entries of 1 resources speak of this in a form that no filter knows" in ran.stdout
    assert f'gcloud logging read \'logName="{unread["logName"]}" AND insertId=' in ran.stdout
    assert ran.stdout.rstrip().endswith("--format=json | logmend explain -")


def test_each_vms_owner_is_named_and_counted(place: Place) -> None:
    """By the label that LOGMEND_OWNER_LABEL names; a VM that could not be looked up has none known."""
    for name, team in (("web-1", "shop"), ("web-2", "search")):
        place.machine(name).instance.labels["team"] = team
    text = json.dumps([*lines(place), entry(("demo-project", ZONE, "77"))])
    ran = place.logmend("scan", "-", "--format", "json", stdin=text, owner_label="team")
    told = json.loads(ran.stdout)
    owners = {each["name"]: each["owner"] for each in told["instances"]}
    assert (owners["web-1"], owners["web-2"], owners[None]) == ("shop", "search", None)
    assert told["totals"]["owners"] == {"shop": 1, "search": 1}
    assert "By owner: " in place.logmend("scan", "-", stdin=text, owner_label="team").stdout
    assert "By owner" not in place.logmend("scan", "-", stdin=text).stdout


def test_labels_that_are_asked_for_are_shown_and_counted_by(place: Place) -> None:
    """In JSON, the table and CSV; a VM without the label has none, and nobody who asks for none sees any."""
    for name, env in (("web-1", "prod"), ("web-2", "prod"), ("cert-1", "=HYPERLINK")):
        place.machine(name).instance.labels["env"] = env
    text = json.dumps(lines(place))
    asked = ("scan", "-", "--label-column", "env", "--label-column", "tier")
    told = json.loads(place.logmend(*asked, "--format", "json", stdin=text).stdout)
    labels = {each["name"]: each["labels"] for each in told["instances"]}
    assert labels["web-1"] == {"env": "prod", "tier": None}
    assert labels["fine-1"] == {"env": None, "tier": None}
    assert told["totals"]["labels"] == {"env": {"prod": 2, "=HYPERLINK": 1}, "tier": {}}
    assert "By env: prod 2, =HYPERLINK 1" in place.logmend(*asked, stdin=text).stdout
    rows = list(csv.DictReader(place.logmend(*asked, "--format", "csv", stdin=text).stdout.splitlines()))
    assert {each["name"]: each["label:env"] for each in rows}["cert-1"] == "'=HYPERLINK"
    chosen = place.logmend("scan", "-", "--format", "json", stdin=text, outcome_labels="env")
    assert json.loads(chosen.stdout)["totals"]["labels"]["env"]["prod"] == 2
    plain = json.loads(place.logmend("scan", "-", "--format", "json", stdin=text).stdout)
    assert {str(each["labels"]) for each in plain["instances"]} == {"{}"}


def test_a_span_of_time_bounds_what_is_read(place: Place) -> None:
    """--since and --until, as durations or as times."""
    place.logs.entries = [*lines(place), *lines(place, age=timedelta(days=3))]
    days = ("--since", "4d", "--until", "2d")
    assert place.json("scan", "--project", "demo-project", *days)["totals"]["entries"] == 7
    begin = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    assert place.json("scan", "--project", "demo-project", "--since", begin)["totals"]["entries"] == 14


def test_an_organization_is_read_project_by_project(place: Place) -> None:
    """Its own logs hold nothing of its projects."""
    place.logs.entries = lines(place)
    place.logs.tree = {
        "organizations/123": {
            "projects": [{"projectId": "other-project"}],
            "folders": [{"name": "folders/4"}],
        },
        "folders/4": {"projects": [{"projectId": "demo-project"}]},
    }
    assert place.json("scan", "--organization", "123")["totals"]["instances"] == 7
    assert place.json("scan", "--folder", "4")["totals"]["instances"] == 7


def test_a_vm_that_is_gone_or_cannot_be_seen_is_told_as_such(place: Place) -> None:
    """One VM's trouble is not the scan's."""
    gone, denied = ("demo-project", ZONE, "77"), identity(place.machine("web-2"))
    place.story.compute.fail(f"instances/{denied[2]}$", 403)
    place.story.compute.fail("aggregated", 403)  # else the listing would show it
    text = json.dumps([*lines(place), entry(gone)])
    ran = place.logmend("scan", "-", "--format", "json", stdin=text)
    told = results(json.loads(ran.stdout))
    assert told["77"] == "skipped: instance_gone"
    assert told[denied[2]] == "refused: opt_in_unknown"
    assert told["web-1"] == "planned: None"


def test_many_vms_of_a_project_are_listed_rather_than_asked_for(place: Place) -> None:
    """A page for two hundred; partner metadata is still asked for VM by VM, as it is in no listing."""
    refs = [("demo-project", ZONE, str(900 + number)) for number in range(120)]
    for ref in refs:
        place.story.compute.instances.append(
            PretendInstance(*ref, name=f"vm-{ref[2]}", internal_ip="10.0.0.9")
        )
    place.story.compute.instances[-1].partner_metadata = {"iam.googleapis.com": {"x": "y"}}
    ran = place.logmend("scan", "-", "--format", "json", stdin=json.dumps([entry(ref) for ref in refs]))
    told = results(json.loads(ran.stdout))
    assert len(told) == 120
    assert told["vm-1019"] == "refused: opted_in"
    assert list(told.values()).count("planned: None") == 119
    calls = place.story.compute.calls
    assert len([each for each in calls if "aggregated" in each]) == 1
    assert not [each for each in calls if "/v1/" in each and "/instances/" in each]


def test_without_credentials_the_scan_goes_on_and_says_so(
    place: Place, monkeypatch: Any, tmp_path: Any
) -> None:
    """The first thing a new user runs must not fail for what it can do without."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    ran = place.logmend(
        "scan",
        "-",
        "--format",
        "json",
        stdin=json.dumps(lines(place)),
        compute_endpoint="https://localhost:9",
    )
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["totals"]["facts"] == "none"
    assert all(each["result"] == "planned" and each["pending_guards"] for each in found["instances"])
    assert "gcloud auth application-default login" in ran.stderr


def test_credentials_are_looked_for_once_however_many_vms_there_are(tmp_path: Path) -> None:
    """Where the metadata server's address swallows everything, one search is slow enough."""
    refs = [("demo-project", ZONE, str(900 + number)) for number in range(12)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOGMEND_", "GOOGLE_"))}
    kept.pop("NO_GCE_CHECK", None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ran = subprocess.run(
            [
                sys.executable,
                "-c",
                "from logmend_cli.main import main; main()",
                "scan",
                "-",
                "--format",
                "json",
            ],
            input=json.dumps([entry(ref) for ref in refs]),
            env=kept
            | {
                "PYTHONPATH": str(ROOT / "functions"),
                "HOME": str(tmp_path),
                "CLOUDSDK_CONFIG": str(tmp_path / "nowhere"),
                "GCE_METADATA_IP": f"127.0.0.1:{silent.getsockname()[1]}",
                "GCE_METADATA_TIMEOUT": "1",
                "LOGMEND_COMPUTE_ENDPOINT": "https://localhost:9",
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        knocks = 0
        silent.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                knocks += 1
    assert (ran.returncode, json.loads(ran.stdout)["totals"]["facts"]) == (0, "none"), ran.stderr
    assert 1 <= knocks <= 3, "three is what google-auth takes for one search"


def test_run_takes_what_a_scan_found(place: Place) -> None:
    """From the first look to the plan on the VMs themselves: only those that nothing speaks against."""
    scanned = place.logmend("scan", "-", "--format", "json", stdin=json.dumps(lines(place)))
    (place.folder / "scan.json").write_text(scanned.stdout)
    looked = place.json("run", "--from", place.folder / "scan.json", status=1)
    assert {each["instance"]["name"]: each["result"] for each in looked} == {
        "web-1": "planned",
        "web-2": "planned",
        "fine-1": "nothing_to_do",
        "closed-1": "failed",
        "moved-1": "failed",
    }
