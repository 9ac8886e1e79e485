"""`logmend explain`: what would this event do, and why? Asked offline, answered by the production stages."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import entry, incident, push
from tests.unit.cli.conftest import Run
from tests.unit.corpus import EXPECTED, FIXTURES, names, value

from logmend.runbook import BUILT_IN

KEYS = [
    "event",
    "runbook",
    "variant",
    "instance",
    "result",
    "reason",
    "pending_guards",
    "conditions",
    "guards",
    "action",
    "executor",
]
PENDING = ["instance_running", "not_exempt", "workload_certificates_unused"]
VM = "4775836342981993096"

Instance = dict[str, Any]


def described(**changes: Any) -> Instance:
    """Give an instance as `gcloud compute instances describe --format=json` prints it."""
    zone = "https://www.googleapis.com/compute/v1/projects/demo-project/zones/us-west1-a"
    return {
        "id": VM,
        "name": "web-1",
        "kind": "compute#instance",
        "zone": zone,
        "selfLink": f"{zone}/instances/web-1",
        "status": "RUNNING",
        "labelFingerprint": "42WmSpB8rSM=",
        "metadata": {"fingerprint": "x", "kind": "compute#metadata"},
        "networkInterfaces": [{"networkIP": "10.138.0.7"}],
    } | changes


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Write a document into a file and give its path."""

    def write(document: Any, name: str = "event.json") -> Path:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def explained(run: Run, *args: Any, status: int = 0, **more: Any) -> Any:
    """Run explain and give its JSON."""
    ran = run("explain", "--format", "json", *args, **more)
    assert ran.exit_code == status, ran.output
    return json.loads(ran.stdout)


def test_the_answer_is_the_documented_document(run: Run, file: Any) -> None:
    """Key by key as the documentation has it, in its order."""
    said = explained(run, file(entry()))
    assert list(said) == KEYS
    conditions = said.pop("conditions")
    guards = said.pop("guards")
    assert said == {
        "event": "log_entry",
        "runbook": "workload-cert-refresh",
        "variant": "not_configured",
        "instance": {"project_id": "demo-project", "zone": "us-west1-a", "instance_id": VM},
        "result": "planned",
        "reason": None,
        "pending_guards": PENDING,
        "action": "enforce",
        "executor": "ssh",
    }
    assert conditions[0] == {"condition": 'resource.type = "gce_instance"', "holds": True}
    assert all(each["holds"] for each in conditions)
    assert {"guard": "in_scope", "verdict": "pass", "why": "no scope set"} in guards
    assert [each["guard"] for each in guards if each["verdict"] == "pending"] == PENDING


@pytest.mark.parametrize("name", names("entries"))
def test_every_entry_shape_is_explained_as_the_corpus_says(run: Run, name: str) -> None:
    """Whatever path, prefix and form: what match and identify were expected to say decides the result."""
    expected = EXPECTED["entries"][name]
    ran = run("explain", "--format", "json", FIXTURES / "entries" / f"{name}.json")
    said = json.loads(ran.stdout)
    assert list(said) == KEYS
    wanted = expected["result"], expected.get("reason")
    if expected["result"] == "matched":
        later = {
            "a_log_line_of_another_project": ("refused", "project_mismatch"),
            "domain_scoped_project": ("planned", None),
            "ops_agent_syslog_backlog_years_late": ("skipped", "stale"),
        }
        bad = ("rejected", "bad_identity") if "identity" in expected else ("planned", None)
        wanted = later.get(name, bad)
        if name == "log_name_of_a_folder":
            wanted = ("refused", "project_mismatch")
    assert (said["result"], said["reason"]) == wanted
    assert said["variant"] == expected.get("variant") or expected["result"] != "matched"
    assert ran.exit_code == (1 if said["result"] in ("unmatched", "rejected") else 0)
    assert (said["action"] == "enforce") is (said["result"] == "planned")


@pytest.mark.parametrize("name", names("incidents"))
def test_every_incident_is_explained(run: Run, name: str) -> None:
    """An incident names its runbook; it has no line, so no variant and no filter."""
    expected = EXPECTED["incidents"][name]
    said = json.loads(run("explain", "--format", "json", FIXTURES / f"incidents/{name}.json").stdout)
    assert list(said) == KEYS
    assert (said["event"], said["variant"], said["conditions"]) == ("incident", None, [])
    bad = ("rejected", "bad_identity") if "identity" in expected else ("planned", None)
    matched = expected["result"] == "matched"
    assert (said["result"], said["reason"]) == (
        bad if matched else (expected["result"], expected.get("reason"))
    )
    assert said["runbook"] == (expected["runbook"] if matched else said["runbook"])


@pytest.mark.parametrize("name", names("pushes"))
def test_every_push_body_is_explained(run: Run, name: str) -> None:
    """Whatever Pub/Sub or Eventarc puts around an event is taken off; what is none is rejected."""
    kind = EXPECTED["pushes"][name]["event"]
    ran = run("explain", "--format", "json", FIXTURES / f"pushes/{name}.json")
    said = json.loads(ran.stdout)
    if name == "payload_unwrapped":
        kind = "LogEntry"  # the function needs the wrapper, for its message id; a person's file does not
    if kind in ("LogEntry", "Incident", "Tick"):
        assert said["event"] == {"LogEntry": "log_entry", "Incident": "incident", "Tick": "tick"}[kind]
        assert ran.exit_code == (1 if said["result"] == "unmatched" else 0)
    else:
        if name == "message_is_a_list":
            kind = "not_an_event"  # nothing in it shows a person's file to be a push body
        assert (said["event"], said["result"], said["reason"]) == ("unknown", "rejected", kind)
        assert ran.exit_code == 1


def test_a_tick_has_no_result(run: Run, file: Any) -> None:
    """It is no event of its own: everything is null."""
    said = explained(run, file({"logmend": "tick"}))
    assert said.pop("event") == "tick"
    assert {key: each for key, each in said.items() if each} == {}
    assert said["result"] is None


def quoting(**fields: Any) -> dict[str, Any]:
    return entry(jsonPayload=None) | fields


LINE = (
    "2026/03/01 12:00:00: Error getting config status, workload certificates may not be configured: HTTP 404"
)
STRANGERS: dict[str, dict[str, Any]] = {
    "a grep in auth.log": entry(
        jsonPayload={"message": f"Mar  1 12:00:00 vm sudo: jim : COMMAND=/bin/grep '{LINE}' /var/log/syslog"}
    ),
    "a user's own logger": entry(
        jsonPayload={"MESSAGE": LINE, "SYSLOG_IDENTIFIER": "jim"},
        logName="projects/demo-project/logs/journald",
    ),
    "fluentd naming another program": entry(jsonPayload={"ident": "sudo", "message": LINE}),
    "sshd quoting a user name": entry(
        jsonPayload={"message": f"Mar  1 12:00:00 vm sshd[12]: Invalid user {LINE} from 192.0.2.1"}
    ),
    "the line Done": entry(
        jsonPayload={
            "message": "Mar  1 12:00:00 vm gce_workload_cert_refresh[929]: 2026/03/01 12:00:00: Done"
        }
    ),
    "systemd about the unit": entry(
        jsonPayload={"message": "Mar  1 12:00:00 vm systemd[1]: Finished GCE Workload Certificate refresh."}
    ),
    "an outcome of ours": entry(
        logName="projects/demo-project/logs/logmend", jsonPayload={"result": "planned", "detail": LINE}
    ),
    "our own log with the very line": entry(logName="projects/demo-project/logs/logmend"),
    "the OS Config agent": entry(
        logName="projects/demo-project/logs/OSConfigAgent", jsonPayload={"message": LINE}
    ),
    "the core plugin": entry(
        logName="projects/demo-project/logs/GCEGuestAgent", jsonPayload={"message": LINE}
    ),
    "a container": entry(
        resource={"type": "k8s_container", "labels": {"project_id": "demo-project"}}, textPayload=LINE
    ),
    "the function itself": entry(
        resource={"type": "cloud_run_revision", "labels": {"project_id": "demo-project"}},
        logName="projects/demo-project/logs/run.googleapis.com%2Fstdout",
    ),
    "an audit log": entry(
        logName="projects/demo-project/logs/cloudaudit.googleapis.com%2Factivity",
        jsonPayload=None,
        protoPayload={"@type": "type.googleapis.com/google.cloud.audit.AuditLog", "methodName": LINE},
    ),
    "a label that holds the line": entry(jsonPayload={"message": "hello"}, labels={"note": LINE}),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_who_merely_quotes_the_line_is_never_planned(run: Run, file: Any, who: str) -> None:
    """Not text alone decides, but whose it is."""
    ran = run("explain", "--format", "json", file(STRANGERS[who]))
    assert json.loads(ran.stdout)["result"] in ("unmatched", "skipped", "refused")


def test_an_array_as_gcloud_prints_it_gives_an_array(run: Run) -> None:
    """Piped in from `gcloud logging read --format=json`: one answer for each entry, in its order."""
    every = [value("entries", name) for name in names("entries")]
    said = explained(run, "-", stdin=json.dumps(every, indent=2), status=1)
    assert len(said) == len(every)
    alone = [
        json.loads(run("explain", "--format", "json", "-", stdin=json.dumps(e)).stdout) for e in every[:9]
    ]
    assert said[:9] == alone


def test_json_lines_and_documents_in_a_row_are_read_alike(run: Run) -> None:
    """`jq -c` and `cat *.json` make the same answers as the array."""
    every = [entry(), incident(), {"logmend": "tick"}]
    as_array = explained(run, "-", stdin=json.dumps(every))
    assert as_array == explained(run, "-", stdin="\n".join(json.dumps(each) for each in every))
    assert as_array == explained(run, "-", stdin="\n\n".join(json.dumps(each, indent=2) for each in every))
    assert [each["event"] for each in as_array] == ["log_entry", "incident", "tick"]


def test_an_array_of_one_gives_an_object(run: Run) -> None:
    """As `gcloud logging read --limit=1 --format=json` prints it."""
    assert explained(run, "-", stdin=json.dumps([entry()])) == explained(run, "-", stdin=json.dumps(entry()))


@pytest.mark.parametrize(
    "text",
    ["", " \n", "[]", "{", '{"logName": ', "not json", "\x00\x01", "42", '"text"', "null", "{}", "[1]", "["],
)
def test_what_is_no_event_is_rejected_with_status_1(run: Run, text: str) -> None:
    """A clear word, never a traceback."""
    said = explained(run, "-", stdin=text, status=1)
    assert (said["event"], said["result"]) == ("unknown", "rejected")
    assert said["reason"] in ("no_data", "malformed", "not_an_event")
    shown = run("explain", "-", stdin=text)
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output


def test_one_broken_line_among_good_ones_is_the_worst(run: Run) -> None:
    """The others are explained all the same."""
    said = explained(run, "-", stdin=f"{json.dumps(entry())}\n{{broken\n{json.dumps(entry())}\n", status=1)
    assert [each["result"] for each in said] == ["planned", "rejected", "planned"]


def test_a_file_that_is_not_there_or_an_option_that_is_none_gives_status_2(run: Run, file: Any) -> None:
    """What cannot be used is said on standard error, and nothing is printed."""
    for args in (
        ["/no/such/file.json"],
        ["/"],
        [],
        [file(entry()), "--no-such-option"],
        [file(entry()), "--format", "yaml"],
        [file(entry()), "--now", "yesterday"],
        [file(entry()), "--now", "2026-03-01T12:00:00"],
        [file(entry()), "--mode", "yolo"],
        [file(entry()), "--instance", "/no/such/vm.json"],
        [file(entry()), "--instance", file(described(), "vm.json"), "--live"],
        [file(entry()), "--why", "because"],
        [file(entry()), "--save-case", "x", "--live"],
        ["-", "--instance", "-"],
    ):
        ran = run("explain", *args)
        assert (ran.exit_code, ran.stdout) == (2, ""), args
        assert ran.stderr


def test_settings_that_cannot_be_used_are_all_told(run: Run, file: Any) -> None:
    """One line for each, as the function would refuse to start."""
    ran = run("explain", file(entry()), mode="yolo", max_event_age="soon", mod="observe")
    assert ran.exit_code == 2
    assert len(ran.stderr.splitlines()) == 3
    assert "did you mean LOGMEND_MODE?" in ran.stderr


# The VM's facts


@pytest.mark.parametrize(
    ("changes", "result", "reason", "pending"),
    [
        ({}, "planned", None, ["workload_certificates_unused"]),
        ({"status": "TERMINATED"}, "skipped", "not_running", ["workload_certificates_unused"]),
        ({"labels": {"logmend": "off"}}, "refused", "exempt", ["workload_certificates_unused"]),
        (
            {"metadata": {"items": [{"key": "enable-workload-certificate", "value": "True"}]}},
            "refused",
            "opted_in",
            [],
        ),
        (
            {"workloadIdentityConfig": {"identityCertificateEnabled": True}},
            "refused",
            "opted_in",
            [],
        ),
        ({"partnerMetadata": {"wc.compute.googleapis.com": {"entries": {}}}}, "refused", "opted_in", []),
        (
            {"partnerMetadata": {"test.compute.googleapis.com": {}}},
            "planned",
            None,
            ["workload_certificates_unused"],
        ),
    ],
)
def test_facts_from_gcloud_decide(
    run: Run, file: Any, changes: Instance, result: str, reason: str | None, pending: list[str]
) -> None:
    """`--instance` answers what a describe can answer; the project's metadata is not in it."""
    said = explained(run, file(entry()), "--instance", file(described(**changes), "vm.json"))
    assert (said["result"], said["reason"], said["pending_guards"]) == (result, reason, pending)


def test_facts_of_another_vm_are_not_taken(run: Run, file: Any) -> None:
    """Same name, another id: a recreated VM. Said so, with both."""
    ran = run("explain", file(entry()), "--instance", file(described(id="1"), "vm.json"))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"demo-project/us-west1-a/{VM}" in ran.stderr
    assert "web-1 (demo-project/us-west1-a/1)" in ran.stderr


def test_a_list_of_instances_serves_many_events(run: Run, file: Any) -> None:
    """`gcloud compute instances list --format=json`: each event takes its own VM, by id."""
    listed = file([described(id="1", name="other"), described(status="STOPPED")], "vms.json")
    stranger = entry(resource={"type": "gce_instance", "labels": {**_labels(), "instance_id": "2"}})
    said = explained(run, "-", "--instance", listed, stdin=json.dumps([entry(), stranger]))
    assert [each["reason"] for each in said] == ["not_running", None]
    assert said[1]["pending_guards"] == PENDING


def _labels() -> dict[str, str]:
    found: dict[str, str] = entry()["resource"]["labels"]
    return found


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[1]", "{", '{"id": "1"}', json.dumps(described(id="web-1"))]
)
def test_a_file_that_holds_no_instance_says_what_is_expected(run: Run, file: Any, text: str) -> None:
    """Nobody is told that facts are missing when they gave some."""
    ran = run("explain", file(entry()), "--instance", file(text, "vm.json"))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "instance" in ran.stderr


# The settings


def test_scope_and_exemption_are_those_of_the_function(run: Run, file: Any) -> None:
    """The same variables, the same answers."""
    said = explained(run, file(entry()), scope_projects="another-project")
    assert (said["result"], said["reason"]) == ("refused", "out_of_scope")
    instance = file(described(labels={"keep": "out"}), "vm.json")
    said = explained(run, file(entry()), "--instance", instance, exempt_label="keep=out")
    assert said["reason"] == "exempt"


def test_the_mode_changes_the_words_and_not_the_result(run: Run, file: Any) -> None:
    """`planned` is what nothing known forbids; what the function then does, the text says."""
    path = file(entry())
    observe, approve, enforce = (
        run("explain", path, "--mode", mode).stdout for mode in ("observe", "approve", "enforce")
    )
    assert "observe mode changes nothing" in observe
    assert "waits for a person" in approve
    assert "remediate it and check again" in enforce
    assert run("explain", path, mode="enforce").stdout == enforce
    assert explained(run, path, "--mode", "enforce") == explained(run, path)


def test_the_executor_is_the_one_that_is_set(run: Run, file: Any) -> None:
    """What would be used."""
    assert explained(run, file(entry()), executor="osconfig")["executor"] == "osconfig"


def test_what_os_config_cannot_carry_is_not_said_to_go_by_it(run: Run, file: Any) -> None:
    """The runbook that is on by itself, in a fleet that has OS Config alone."""
    alert = incident()
    alert["incident"]["policy_user_labels"] = {"logmend-runbook": "ops-agent"}
    path = file(alert)
    assert explained(run, path, executor="osconfig")["executor"] is None
    said = run("explain", path, executor="osconfig").stdout
    assert "but it runs over SSH only, not by OS Config: validate.sh has" in " ".join(said.split())


@pytest.mark.parametrize(
    ("changes", "executor"),
    [
        ({"metadata": {"items": [{"key": "enable-osconfig", "value": "TRUE"}]}}, "ssh, else osconfig"),
        ({"metadata": {"items": [{"key": "enable-osconfig", "value": "false"}]}}, "ssh"),
        (
            {
                "metadata": {"items": [{"key": "enable-osconfig", "value": "true"}]},
                "networkInterfaces": [],
            },
            "osconfig",
        ),
        (
            {
                "metadata": {"items": [{"key": "enable-osconfig", "value": "false"}]},
                "networkInterfaces": [],
            },
            None,
        ),
        ({}, "auto"),
    ],
)
def test_auto_says_which_ways_there_are_to_this_vm(
    run: Run, file: Any, changes: Instance, executor: str | None
) -> None:
    """In the order in which they are tried; `auto` where the project's metadata might enable the agent."""
    vm = file(described(**changes), "vm.json")
    assert explained(run, file(entry()), "--instance", vm, executor="auto")["executor"] == executor
    assert run("explain", file(entry()), "--instance", vm, executor="auto").exit_code == 0


def test_own_runbooks_are_asked(run: Run, file: Any, tmp_path: Path) -> None:
    """LOGMEND_RUNBOOKS is where the function would read them; a folder without any cannot be used."""
    ran = run("explain", file(entry()), runbooks=str(tmp_path))
    assert ran.exit_code == 2
    assert "no runbooks here" in ran.stderr


def test_a_runbook_whose_filter_is_none_is_named(run: Run, file: Any, tmp_path: Path) -> None:
    """With line and column; nothing is explained by the others alone."""
    import shutil

    from logmend.runbook import BUILT_IN

    shutil.copytree(BUILT_IN, tmp_path / "runbooks")
    path = tmp_path / "runbooks/workload-cert-refresh/runbook.yaml"
    path.write_text(path.read_text().replace('resource.type = "gce_instance"', "resource.type = = x", 1))
    ran = run("explain", file(entry()), runbooks=str(tmp_path / "runbooks"))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "runbook workload-cert-refresh: filter: line 1, column" in ran.stderr


# Time


def test_an_old_entry_is_judged_as_of_its_own_time(run: Run, file: Any) -> None:
    """A file from last year is explained as it would have been judged then."""
    assert explained(run, file(entry()))["result"] == "planned"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ("2026-03-01T12:59:00Z", None),
        ("2026-03-01T13:01:00Z", "stale"),
        ("2026-03-01T14:01:00+01:00", "stale"),
        ("now", "stale"),
    ],
)
def test_with_a_time_given_staleness_is_judged_by_it(
    run: Run, file: Any, now: str, reason: str | None
) -> None:
    """An hour is what LOGMEND_MAX_EVENT_AGE allows unless it is set."""
    assert explained(run, file(entry()), "--now", now)["reason"] == reason


def test_staleness_goes_by_the_set_age(run: Run, file: Any) -> None:
    """The setting counts here, too."""
    path = file(entry())
    assert explained(run, path, "--now", "2026-03-01T12:10:00Z", max_event_age="5m")["reason"] == "stale"


def test_a_lines_own_time_gives_a_backlog_away(run: Run) -> None:
    """Fresh timestamp, old line: skipped without any option."""
    said = explained(run, FIXTURES / "entries/ops_agent_syslog_backlog_years_late.json")
    assert (said["result"], said["reason"]) == ("skipped", "stale")


def test_an_entry_without_a_readable_time_is_not_stale(run: Run) -> None:
    """Unknown is not old; the function then goes by the message's time."""
    assert explained(run, FIXTURES / "entries/unreadable_timestamp.json")["result"] == "planned"


# For people


def test_a_person_reads_what_matters_on_one_screen(run: Run, file: Any) -> None:
    """Event, VM, runbook and variant, filter, guards, what would be run, result."""
    text = run("explain", file(entry())).stdout
    assert len(text.splitlines()) < 24
    for part in (
        "log entry of 2026-03-01 12:00:00Z in projects/demo-project/logs/syslog",
        f"demo-project/us-west1-a/{VM}",
        "workload-cert-refresh, variant not_configured",
        'holds  resource.type = "gce_instance"',
        "pass    in_scope: no scope set",
        "pending instance_running: the VM's status is not looked up yet",
        "planned",
        "enforce with workload-cert-refresh sha256:",
        "over SSH",
        "--instance FILE or --live",
    ):
        assert part in text, part


def test_a_person_sees_which_condition_fails(run: Run, file: Any) -> None:
    """Of what matches nothing, the closest filter is shown."""
    text = run("explain", file(STRANGERS["a container"])).stdout
    assert 'fails  resource.type = "gce_instance"' in text
    assert "none; closest is workload-cert-refresh" in text


def test_a_refusal_says_why_and_what_to_do(run: Run, file: Any) -> None:
    """Reason, its meaning, and the next step where there is one."""
    text = run(
        "explain", file(entry()), "--instance", file(described(labels={"logmend": "off"}), "vm")
    ).stdout
    for part in (
        "refused: exempt",
        "it carries the label logmend=off",
        "remove the label to let logmend act on the VM",
    ):
        assert part in text


def test_several_events_take_a_line_each_and_totals(run: Run) -> None:
    """A hundred entries are not a hundred screens; -v makes them so."""
    every = json.dumps([entry(), STRANGERS["the line Done"], entry()])
    text = run("explain", "-", stdin=every).stdout
    assert len(text.splitlines()) == 5
    assert text.splitlines()[-1] == "2 planned, 1 unmatched"
    assert run("explain", "-v", "-", stdin=every).stdout.count("in_scope: no scope set") == 2


def test_lines_of_every_runbook_are_named_each(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that have a filter on, in one file, by explain and by scan: names of forms recur."""
    named, lines = list[str](), list[str]()
    for folder in sorted(each.parent for each in BUILT_IN.glob("*/runbook.yaml")):
        for case in map(json.loads, (each.read_text() for each in sorted(folder.glob("cases/*.json")))):
            if case["expect"].get("variant") and "insertId" in case["event"]:
                named.append(f"{folder.name}: {case['expect']['variant']}")
                lines.append(json.dumps(case["event"]))
                break
    assert len(named) == 6, "all but os-config-agent, of which no line tells"
    chosen = tmp_path / "logmend.yaml"
    every = ", ".join(f"{each.partition(':')[0]}: {{enabled: true}}" for each in named)
    chosen.write_text(f"runbooks: {{{every}}}")
    shown = run("explain", "-", stdin="\n".join(lines), runbooks=str(chosen)).stdout.splitlines()
    assert [line.partition(VM)[2].strip() for line in shown[: len(named)]] == named
    monkeypatch.setenv("COLUMNS", "250")
    told = run("scan", "--offline", "-", stdin="\n".join(lines), runbooks=str(chosen)).stdout
    for each in named:
        assert each.partition(":")[0] in told


def test_a_log_cannot_command_the_terminal(run: Run, file: Any) -> None:
    """Control characters of a forged entry are printed as marks, in text and in JSON."""
    evil = "projects/demo-project\x1b]0;owned\x07\x9b31m/logs/syslog"
    for shape in ("text", "json"):
        printed = run("explain", "--format", shape, file(entry(logName=evil))).stdout
        assert not [c for c in printed if not c.isprintable() and c != "\n"]
    assert "\x1b" not in run("explain", file(incident(state="\x1b[2J", incident_id="\x1b[2J"))).stdout


def test_what_the_line_says_is_never_printed(run: Run, file: Any) -> None:
    """Entries hold other people's data: what explains them names conditions and variants only."""
    raw = entry(jsonPayload={"message": f"Mar  1 12:00:00 secret-host gce_workload_cert_refresh[9]: {LINE}"})
    for args in (["--format", "json"], []):
        assert "secret-host" not in run("explain", *args, file(raw)).stdout


def test_a_message_is_unwrapped_and_its_replay_known(run: Run) -> None:
    """A push body explains like the entry in it."""
    assert explained(run, "-", stdin=json.dumps(push(entry(), "77"))) == explained(
        run, "-", stdin=json.dumps(entry())
    )


# Keeping what was explained


@pytest.fixture
def runbooks(tmp_path: Path) -> Path:
    """Copy the built-in runbooks to where they can be written."""
    import shutil

    from logmend.runbook import BUILT_IN

    copied = tmp_path / "runbooks"
    shutil.copytree(BUILT_IN, copied)
    return copied


def test_an_explained_event_becomes_a_golden_case(run: Run, file: Any, runbooks: Path) -> None:
    """With its facts and time; `runbook test` runs it from then on."""
    instance = file(described(labels={"logmend": "off"}), "vm.json")
    args = [file(entry()), "--instance", instance, "--now", "2026-03-01T12:30:00Z"]
    kept = run("explain", *args, "--save-case", "mine-exempt", "--why", "Mine.", runbooks=str(runbooks))
    assert kept.exit_code == 0, kept.output
    case = json.loads((runbooks / "workload-cert-refresh/cases/mine-exempt.json").read_text())
    assert case["expect"] == {
        "result": "refused",
        "reason": "exempt",
        "runbook": "workload-cert-refresh",
        "variant": "not_configured",
    }
    assert (case["why"], case["event"], case["instance"]["id"]) == ("Mine.", entry(), VM)
    assert case["now"] == "2026-03-01T12:30:00Z"
    tested = run("runbook", "test", "workload-cert-refresh", "--format", "json", runbooks=str(runbooks))
    assert tested.exit_code == 0
    mine = next(each for each in json.loads(tested.stdout) if each["case"] == "mine-exempt")
    assert mine["verdict"] == "pass"


def test_an_unmatched_event_is_kept_where_it_is_told_to(run: Run, file: Any, runbooks: Path) -> None:
    """No runbook is meant, so its name has to be said."""
    path = file(STRANGERS["the line Done"])
    ran = run("explain", path, "--save-case", "done", runbooks=str(runbooks))
    assert ran.exit_code == 2
    assert "write --save-case RUNBOOK/done" in ran.stderr
    ran = run("explain", path, "--save-case", "ops-agent/done", runbooks=str(runbooks))
    assert ran.exit_code == 1  # unmatched, as without keeping it
    assert json.loads((runbooks / "ops-agent/cases/done.json").read_text())["expect"]["result"] == "unmatched"


def test_a_case_expects_what_the_default_settings_make_of_it(run: Run, file: Any, runbooks: Path) -> None:
    """Cases are run with them everywhere; where that differs from what is shown, it is said."""
    ran = run(
        "explain", file(entry()), "--save-case", "x", runbooks=str(runbooks), scope_zones="europe-west1-b"
    )
    assert "out_of_scope" in ran.stdout
    assert "with the default settings, which cases run with, it is planned\n" in ran.stderr
    assert json.loads((runbooks / "workload-cert-refresh/cases/x.json").read_text())["expect"]["result"] == (
        "planned"
    )


@pytest.mark.parametrize("name", ["Bad Name", "a/b/c", "no-such-runbook/x", "../x", "facts-fine", ""])
def test_a_case_that_cannot_be_kept_says_why(run: Run, file: Any, runbooks: Path, name: str) -> None:
    """A bad name, no such runbook, or a case that is there already: nothing is written over."""
    before = sorted(runbooks.rglob("*"))
    ran = run("explain", file(entry()), "--save-case", name, runbooks=str(runbooks))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert sorted(runbooks.rglob("*")) == before


def test_several_events_are_not_one_case(run: Run, runbooks: Path) -> None:
    """A case is one event."""
    ran = run("explain", "-", "--save-case", "x", stdin=json.dumps([entry()] * 2), runbooks=str(runbooks))
    assert ran.exit_code == 2
