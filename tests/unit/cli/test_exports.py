"""Files that people have: each export is read as the entry it was made from, or says what to export."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cli.conftest import Run
from tests.unit.corpus import FIXTURES, names, value

from logmend.model.values import LogEntry, Undecodable
from logmend.stages import decode
from logmend.stages.decode import exports

EXPORTS = sorted((FIXTURES / "exports").glob("*.json"))
SAID = "Error getting config status, workload certificates may not be configured: HTTP 404"


@pytest.mark.parametrize("file", EXPORTS, ids=lambda each: each.stem)
def test_an_export_is_read_as_the_entry_it_was_made_from(file: Path) -> None:
    """Its log, VM, line and time: a time without a zone is UTC, in BigQuery's rows and nowhere else."""
    items = decode.any_shape(file.read_bytes())
    assert len(items) == (2 if file.stem == "entries_list_answer" else 1)
    for _, event, raw in items:
        assert isinstance(event, LogEntry)
        assert event.log_name == "projects/example-shop-31/logs/syslog"
        assert event.resource_labels["instance_id"] == "5150000000000000421"
        assert event.timestamp is not None
        assert event.timestamp.replace(microsecond=0) == datetime(2024, 3, 5, 17, 20, 12, tzinfo=UTC)
        assert event.receive_timestamp == datetime(2024, 3, 5, 17, 20, 14, 500000, tzinfo=UTC)
        (text,) = event.texts
        assert text == f"gce_workload_cert_refresh: 2024/03/05 17:20:11: {SAID}"
        assert decode.document(raw) == event


@pytest.mark.parametrize("file", EXPORTS, ids=lambda each: each.stem)
def test_every_command_reads_it_alike(run: Run, file: Path) -> None:
    """Today a line of 2024 is stale, not planned; as of its own time it is planned."""
    one = json.loads(run("explain", file, "--format", "json").stdout)
    assert {each["result"] for each in (one if isinstance(one, list) else [one])} == {"planned"}
    assert "skipped: stale" in run("explain", file, "--now", "now").stdout
    matched = run("filter", "match", "--runbook", "workload-cert-refresh", file)
    assert {each.partition(" ")[0] for each in matched.stdout.splitlines()} == {"match"}
    found = json.loads(run("scan", file, "--offline", "--format", "json").stdout)
    assert found["totals"]["results"] == {"planned": 1}
    assert found["totals"]["first_seen"].startswith("2024-03-05T17:20:12")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"textPayload": SAID, "timestamp": "2024-03-05 17:20:12"}, "select all columns"),
        ({"json_payload": {"message": SAID}}, "select all columns"),
        ({"schema": {}, "rows": [{"f": [{"v": "x"}]}]}, "BigQuery's API"),
        ({"resourceLogs": []}, "OpenTelemetry"),
        ({"kind": "compute#instance"}, "gcloud logging read … --format=json"),
        ([1], "gcloud logging read … --format=json"),
    ],
)
def test_what_is_not_read_says_which_export_to_use(run: Run, document: Any, told: str) -> None:
    """By explain as by scan, and nothing of the document itself."""
    for command in (["explain", "-"], ["scan", "-", "--offline"]):
        ran = run(*command, stdin=json.dumps(document))
        assert told in ran.stdout + ran.stderr
        assert ran.exit_code != 0
        assert SAID not in ran.stdout + ran.stderr


def test_csv_and_text_say_so(run: Run) -> None:
    """Logs Explorer's other download, and a syslog file itself."""
    ran = run("scan", "-", "--offline", stdin=f"insertId,textPayload\na,{SAID}\n")
    assert (ran.exit_code, "CSV and text are not read" in ran.stderr) == (2, True)


@pytest.mark.parametrize("name", names("entries"))
def test_an_entry_as_googles_tools_print_it_is_not_touched(name: str) -> None:
    """The very object comes out."""
    raw = value("entries", name)
    assert exports.entry(raw) is raw
    assert list(exports.unpacked(raw)) == [raw]


def test_a_payload_that_only_looks_like_a_struct_stays() -> None:
    """A key of that name is anyone's."""
    raw = {"logName": "projects/p/logs/l", "jsonPayload": {"fields": {"message": "x"}}}
    assert exports.entry(raw) is raw
    raw = {"logName": "projects/p/logs/l", "jsonPayload": {"fields": {"a": {"stringValue": "x"}}, "b": 1}}
    assert exports.entry(raw) is raw


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["{}", "[", "null"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "fields",
                    "stringValue",
                    "structValue",
                    "listValue",
                    "values",
                    "seconds",
                    "nanos",
                    "labels",
                    "metadata",
                    "low",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)
KEYS = (
    "logName",
    "log_name",
    "timestamp",
    "jsonPayload",
    "json_payload",
    "resource",
    "labels",
    "severity",
    "metadata",
    "data",
    "entries",
)


@given(st.dictionaries(st.sampled_from(KEYS), anything, max_size=6))
def test_no_export_makes_decode_raise(raw: dict[str, Any]) -> None:
    """Any of these keys may hold anything."""
    for each in (raw, raw | {"logName": "projects/p/logs/l"}):
        for _, event, _ in decode.any_shape(json.dumps(each).encode()):
            assert isinstance(event, LogEntry | Undecodable)
