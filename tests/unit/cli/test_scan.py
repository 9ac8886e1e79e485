"""`logmend scan` on exported entries: grouped by VM, judged as `explain` judges, in bounded memory."""

import csv
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import REF, entry, incident, push
from tests.unit import corpus
from tests.unit.cli.conftest import Run

from logmend import catalog
from logmend.explain import Rules
from logmend.model.values import InstanceRef
from logmend.settings import Policies, Settings
from logmend.stages import decode
from logmend_cli.scan import document
from logmend_cli.scan import text as scan_text
from logmend_cli.scan.groups import Groups

ROOT = Path(__file__).resolve().parents[3]
OTHER = InstanceRef("demo-project", "us-west1-b", "42")
KEYS = [
    "instance", "name", "runbook", "count", "first_seen", "last_seen", "log_paths", "variants", "hosts",
    "result", "reason", "detail", "group", "template", "image", "owner", "labels", "pending_guards", "forms",
]  # fmt: skip
TOTALS = [
    "instances", "results", "entries", "matched", "unmatched", "turned_away", "unknown_form", "quoted_by",
    "ill_formed", "first_seen", "last_seen", "facts", "alike", "owners", "labels",
]  # fmt: skip


def said(run: Run, text: str, *options: str, status: int = 0) -> Any:
    ran = run("scan", "-", "--offline", "--format", "json", *options, stdin=text)
    assert ran.exit_code == status, ran.stderr
    return json.loads(ran.stdout)


def line(text: str, **changes: Any) -> dict[str, Any]:
    return entry(**changes) | {"jsonPayload": {"message": f"web gce_workload_cert_refresh[9]: {text}"}}


def test_entries_are_grouped_by_vm(run: Run) -> None:
    """Count, first and last seen, log path and form of each VM; totals of all."""
    early, late = "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"
    found = said(
        run,
        json.dumps(
            [
                entry(timestamp=late),
                entry(timestamp=early),
                entry(textPayload=entry()["jsonPayload"]["message"], jsonPayload=None, timestamp=late),
                entry(OTHER),
                line("Done"),
            ]
        ),
    )
    assert list(found) == ["instances", "totals"]
    assert all(list(each) == KEYS for each in found["instances"])
    assert list(found["totals"]) == TOTALS
    one, two = found["instances"]
    assert one["instance"] == {
        "project_id": "demo-project",
        "zone": "us-west1-a",
        "instance_id": REF.instance_id,
    }
    assert (one["count"], one["first_seen"], one["last_seen"]) == (3, early, late)
    assert one["log_paths"] == ["syslog jsonPayload.message", "syslog textPayload"]
    assert (one["variants"], one["runbook"]) == (["not_configured"], "workload-cert-refresh")
    assert (two["instance"]["instance_id"], two["count"]) == ("42", 1)
    assert found["totals"]["results"] == {"planned": 2}
    assert (found["totals"]["entries"], found["totals"]["unmatched"]) == (5, 1)


@pytest.mark.parametrize("fixture", corpus.names("entries"))
def test_a_scan_says_of_each_entry_what_explain_says(run: Run, fixture: str) -> None:
    """There is one way of deciding: every real shape, one by one."""
    text = corpus.text("entries", fixture).decode()
    explained = json.loads(run("explain", "-", "--format", "json", stdin=text).stdout)
    words = corpus.EXPECTED["entries"][fixture].get("words")
    found = said(run, text, status=int(words == "unknown_form"))
    assert found["totals"]["unknown_form"]["entries"] == int(words == "unknown_form")
    assert sum(found["totals"]["quoted_by"].values()) == int(words == "quoted")
    if found["instances"]:
        (each,) = found["instances"]
        keys = ("instance", "runbook", "result", "reason")
        assert {key: each[key] for key in keys} == {key: explained[key] for key in keys}
        assert each["variants"] == ([explained["variant"]] if explained["variant"] else [])
        if each["result"] == "planned":
            assert each["pending_guards"] == explained["pending_guards"]
    elif found["totals"]["turned_away"]:
        word = f"{explained['result']}: {explained['reason']}"
        assert found["totals"]["turned_away"] == {word: 1}
    else:
        assert (explained["result"], found["totals"]["unmatched"]) == ("unmatched", 1)


def test_a_file_of_every_real_shape_is_scanned_at_once(run: Run) -> None:
    """As `gcloud logging read --format=json` prints them: one indented array."""
    every = [corpus.value("entries", each) for each in corpus.names("entries")]
    ran = run("scan", "-", "--offline", stdin=json.dumps(every, indent=2))
    assert ran.exit_code == 1, ran.stderr
    assert "6 entries of 6 resources speak of this in a form that no filter knows" in ran.stdout
    assert "serial console textPayload" in ran.stdout
    assert "refused: certificates_configured" in ran.stdout
    assert f"{len(every)} log entries" in ran.stdout


def test_one_form_that_lets_the_vm_be_looked_at_is_enough(run: Run) -> None:
    """The function takes each entry by itself; what the others say is kept beside it."""
    core = entry(logName="projects/demo-project/logs/GCEGuestAgent", timestamp="2026-03-01T13:00:00Z")
    (found,) = said(run, json.dumps([entry(), core]))["instances"]
    assert found["result"] == "planned"
    assert {form["reason"] for form in found["forms"]} == {None, "not_this_timer"}
    (found,) = said(run, json.dumps([core]))["instances"]
    assert (found["result"], found["reason"]) == ("refused", "not_this_timer")


def test_pushes_and_incidents_count_too(run: Run) -> None:
    """What a dead-letter subscription holds can be scanned as well."""
    lines = "\n".join(json.dumps(each) for each in (push(entry()), incident(OTHER)))
    found = said(run, lines)
    paths = {each["instance"]["instance_id"]: each["log_paths"] for each in found["instances"]}
    assert paths == {REF.instance_id: ["syslog jsonPayload.message"], "42": ["incident"]}


def test_ill_formed_items_are_counted_and_do_not_stop_the_scan(run: Run) -> None:
    """A line that is cut off, a document that is something else."""
    lines = "\n".join(
        [json.dumps(entry()), '{"logName": "proj', json.dumps({"kind": "x"}), json.dumps(entry(OTHER))]
    )
    found = said(run, lines)
    assert found["totals"]["ill_formed"] == {"malformed": 1, "not_an_event": 1}
    assert found["totals"]["instances"] == 2
    ran = run("scan", "-", "--offline", stdin=lines)
    assert "1 could not be read (malformed)" in ran.stdout


def test_nothing_found_is_no_error(run: Run) -> None:
    """An empty array is what gcloud prints then."""
    found = said(run, "[]")
    assert (found["instances"], found["totals"]["ill_formed"]) == ([], {})
    assert "no VM has the fault" in run("scan", "-", "--offline", stdin="[]").stdout


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        (["-"], "", "empty"),
        (["-"], "ERROR: (gcloud.logging.read) no project\n", "not JSON"),
        (["-"], '[{"logName": "projects/x', "not JSON"),
        (["-"], '{"kind": "compute#instance"}', "neither a LogEntry"),
        (["no-such-file.json"], None, "cannot be read"),
        ([], None, "give a FILE"),
        (["-", "--project", "demo-project"], "[]", "give a FILE"),
        (["--project", "Not/A/Project"], None, "not a project id"),
        (["--folder", "prod"], None, "named by its number"),
        (["--project", "demo-project", "--since", "yesterday"], None, "is not a time"),
        (["--project", "demo-project", "--since", "1h", "--until", "2h"], None, "is not before"),
        (["-", "--format", "xml"], "[]", "Invalid value"),
    ],
)
def test_input_of_no_use_is_told(run: Run, args: list[str], stdin: str | None, told: str) -> None:
    """Status 2, nothing on standard output."""
    ran = run("scan", *args, stdin=stdin)
    assert (ran.exit_code, ran.stdout) == (2, ""), ran.stdout
    assert told in ran.stderr


def test_csv_has_a_row_for_each_vm_and_runs_no_formula(run: Run) -> None:
    """For spreadsheets; a log's name is anyone's text."""
    hostile = entry(OTHER, logName="projects/demo-project/logs/=HYPERLINK(1)")
    for formula in (" =1", "\N{FULLWIDTH EQUALS SIGN}1", "\t@x", "\x00+1", "\N{FULLWIDTH HYPHEN-MINUS}1"):
        more = entry(OTHER, logName=f"projects/demo-project/logs/{formula}")
        ran = run("scan", "-", "--offline", "--format", "csv", stdin=json.dumps([more]))
        (row,) = csv.DictReader(io.StringIO(ran.stdout))
        assert row["log_paths"][0] in "'\N{REPLACEMENT CHARACTER}", formula
    ran = run("scan", "-", "--offline", "--format", "csv", stdin=json.dumps([entry(), hostile]))
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [row["instance_id"] for row in rows] == [REF.instance_id, "42"]
    assert rows[0]["pending_guards"] == "instance_running; not_exempt; workload_certificates_unused"
    assert rows[1]["log_paths"].startswith("'=HYPERLINK")


@pytest.mark.parametrize("shape", ["table", "csv", "json"])
def test_what_an_entry_holds_cannot_reach_the_terminal(run: Run, shape: str) -> None:
    """Escapes in a log's name become marks; no text of the line is shown at all."""
    hostile = entry(logName="projects/demo-project/logs/x\x1b]0;owned\x07\x9b2J\u202e")
    ran = run("scan", "-", "--offline", "--format", shape, stdin=json.dumps(hostile))
    assert not set("\x1b\x07\x9b\u202e") & set(ran.stdout)
    assert "may not be configured" not in ran.stdout


SAID = "Error getting config status, workload certificates may not be configured: HTTP 404"


def unread(text: str = SAID, ref: InstanceRef = REF, **changes: Any) -> dict[str, Any]:
    """Give an entry that has the words in a field of somebody's own."""
    return entry(ref, **changes) | {"jsonPayload": {"event": {"original": text}}}


def test_entries_that_have_the_words_never_vanish(run: Run) -> None:
    """They are counted by resource, one is shown with the command that explains it, and the status is 1."""
    every = json.dumps([line("Done"), unread(), unread(), unread(ref=OTHER)])
    ran = run("scan", "-", "--offline", stdin=every)
    assert ran.exit_code == 1
    assert scan_text.EMPTY not in ran.stdout
    assert "3 entries of 2 resources speak of this in a form that no filter knows" in ran.stdout
    assert f"-:2: syslog jsonPayload: {SAID}" in ran.stdout
    assert "logmend explain -  # entry 2" in ran.stdout
    ran = run("scan", "-", "--offline", "--format", "csv", stdin=every)
    assert (ran.exit_code, len(ran.stdout.splitlines())) == (1, 1)
    assert "3 entries of 2 resources speak of this" in ran.stderr


def test_the_command_that_explains_says_why_no_filter_knows_the_form(run: Run, tmp_path: Path) -> None:
    """It is printed ready to paste, for one entry or several."""
    file = tmp_path / "some entries.json"
    for text in (json.dumps(unread()), json.dumps([unread(), unread()])):
        file.write_text(text)
        first = said_of(run, file)["totals"]["unknown_form"]["first"]
        command = shlex.split(first["explain"], comments=True)
        assert command[0] == "logmend"
        ran = run(*command[1:])
        assert "in a form that no filter knows: in an unknown field" in ran.stdout
        assert ran.exit_code == 1


def said_of(run: Run, file: Path) -> Any:
    return json.loads(run("scan", str(file), "--offline", "--format", "json").stdout)


def test_a_quote_is_told_apart_from_an_unknown_form(run: Run) -> None:
    """Another program's line is no sign of the fault, but it is not passed over either."""
    quote = entry() | {"jsonPayload": {"message": f"Sep  2 04:27:51 web-1 sudo: jim : COMMAND=grep {SAID}"}}
    ran = run("scan", "-", "--offline", stdin=json.dumps([quote]))
    assert (ran.exit_code, scan_text.EMPTY in ran.stdout) == (0, False)
    assert "1 quote the line: written by sudo" in ran.stdout


@pytest.mark.parametrize("text", ["{}", "[1]", "plain text", '{"logName": 7}'])
def test_what_is_no_log_entry_is_told_once_how_to_export_one(run: Run, text: str) -> None:
    """One sentence says what is wrong and one how to do better."""
    ran = run("scan", "-", "--offline", stdin=text)
    ways = ("expected what", "export log entries with", "gcloud prints it with")
    assert (ran.exit_code, sum(ran.stderr.count(way) for way in ways)) == (2, 1)


def test_a_program_with_a_long_name_stays_told_apart_when_there_are_many() -> None:
    """A program that is known keeps its count, however long its name, when further ones count as others."""
    long = f"backup-agent-of-the-second-site-{'x' * 30}"
    groups = Groups(Rules.of(catalog.load(Settings()), Settings()))
    for tag in [long, *(f"tag{n}" for n in range(40)), long]:
        tagged = entry() | {"jsonPayload": {"message": f"Sep  2 04:27:51 web-1 {tag}: {SAID}"}}
        groups.add(None, decode.document(tagged))
    assert [count for name, count in groups.spoken.quotes.items() if long.startswith(name)] == [2]


def test_what_is_kept_of_unknown_forms_is_bounded_and_safe(run: Run) -> None:
    """A hundred thousand tags, resources or escapes cost no memory and reach no terminal."""
    groups = Groups(Rules.of(catalog.load(Settings()), Settings()))
    for n in range(200):
        tagged = entry() | {"jsonPayload": {"message": f"Sep  2 04:27:51 web-1 tag{n}: {SAID}"}}
        groups.add(None, decode.document(tagged))
        groups.add(None, decode.document(unread(f"{'x' * 9999}\x1b]0;owned\x07 {SAID}")))
    assert (len(groups.spoken.quotes), sum(groups.spoken.quotes.values())) == (33, 200)
    first = groups.spoken.first
    assert first is not None
    assert len(first["text"]) <= 240
    assert "\x1b" not in first["text"]
    assert SAID[:40] in first["text"]


class Terminal(io.StringIO):
    """A terminal to write to."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its width: ids and reasons are folded, not cut off."""
    groups = Groups(Rules.of(catalog.load(Settings()), Settings()))
    for name in corpus.names("entries"):
        groups.add(None, decode.document(corpus.value("entries", name)))
    rows = [document.row(document.instance(each)) for each in groups.judged({}, Policies(Settings()))]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    scan_text.show(rows)
    text = terminal.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert all(row["vm"] in text for row in rows)
    assert text.count("refused") == sum(row["result"] == "refused" for row in rows)


def test_forms_of_one_vm_are_bounded(run: Run) -> None:
    """Receivers' ids are free text: a VM that invents them takes no more memory for it."""
    every = [entry(logName=f"projects/demo-project/logs/r{number}") for number in range(500)]
    (found,) = said(run, json.dumps(every))["instances"]
    assert found["count"] == 500
    assert len(found["forms"]) <= 33
    assert "other" in found["log_paths"]


def relayed(host: str, at: str = "2026-03-01T10:00:00Z", **labels: str) -> dict[str, Any]:
    """Give a line of another host, shipped by the VM."""
    text = f"Mar  1 10:00:00 {host} gce_workload_cert_refresh[9]: {SAID}"
    return entry(timestamp=at) | {"jsonPayload": {"message": text}, "labels": labels}


AGENT = {"compute.googleapis.com/resource_name": "log-relay.c.demo-project.internal"}


def test_a_relays_lines_are_grouped_by_host(run: Run) -> None:
    """The VM that shipped them is one, and would be looked at; whose lines they are is said beside it."""
    every = [relayed("web-1", **AGENT), relayed("web-2.example.net", **AGENT), relayed("log-relay", **AGENT)]
    (found,) = said(run, json.dumps(every))["instances"]
    assert (found["result"], found["hosts"]) == ("planned", ["web-1", "web-2.example.net"])
    assert {each["host"] for each in found["forms"]} == {None, "web-1", "web-2.example.net"}
    assert "web-1, web-2.example.net, not this VM (log-relay" in found["detail"]
    ran = run("scan", "-", "--offline", stdin=json.dumps(every))
    assert "the line names hosts web-1, web-2.example.net" in ran.stdout


def test_hosts_that_nothing_compares_are_told_where_they_differ(run: Run) -> None:
    """Without the agent's label one host may be the VM itself; of two at least one is not."""
    (found,) = said(run, json.dumps([relayed("web-1")]))["instances"]
    assert (found["hosts"], found["detail"]) == ([], "")
    (found,) = said(run, json.dumps([relayed("web-1"), relayed("web-2")]))["instances"]
    assert (found["hosts"], "at most one is this VM" in found["detail"]) == (["web-1", "web-2"], True)


@pytest.mark.parametrize("host", ["localhost", "localhost.localdomain", "-", "a@b", "x" * 300])
def test_what_is_no_host_is_not_told(run: Run, host: str) -> None:
    """Only the syntax of a host gets out of a line."""
    (found,) = said(run, json.dumps([relayed(host, **AGENT)]))["instances"]
    assert (found["hosts"], found["detail"]) == ([], "")
