"""`logmend runbook`: which there are, whether they are sound, and what their golden cases say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run

from logmend.runbook import BUILT_IN

NAMES = sorted(path.parent.name for path in BUILT_IN.glob("*/runbook.yaml"))
COUNTS = {name: len([*(BUILT_IN / name / "cases").glob("*.json")]) for name in NAMES}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the built-in runbooks to where a test may break them."""
    shutil.copytree(BUILT_IN, tmp_path / "runbooks")
    return tmp_path / "runbooks"


def cases(run: Run, *args: Any, status: int = 0, **settings: str) -> list[dict[str, Any]]:
    """Run golden cases and give their JSON."""
    ran = run("runbook", "test", "--format", "json", *args, **settings)
    assert ran.exit_code == status, ran.output
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_list_says_what_each_is_for(run: Run) -> None:
    """A table for people, everything for programs."""
    table = run("runbook", "list").stdout
    assert all(name in table for name in NAMES)
    assert "log entry, incident, operator" in table
    found = json.loads(run("runbook", "list", "--format", "json").stdout)
    assert [each["name"] for each in found] == NAMES
    refresh = found[NAMES.index("workload-cert-refresh")]
    assert refresh["repeats_s"] == 600
    assert refresh["variants"][:2] == ["core_plugin", "configured_but_invalid"]
    assert all(len(each["digest"]) == len("sha256:") + 64 for each in found)


def test_a_setting_that_scripts_take_changes_the_digest(run: Run) -> None:
    """The digest covers the rendered text."""
    one, other = (
        json.loads(run("runbook", "list", "--format", "json", **more).stdout)[NAMES.index("ops-agent")][
            "digest"
        ]
        for more in ({}, {"ops_agent_version": "2.50.0"})
    )
    assert one != other


def test_list_says_what_is_in_force_and_who_said_so(run: Run, tmp_path: Path) -> None:
    """Each value by its origin: default, runbook.yaml, the file, the environment, and the ceiling."""
    path = tmp_path / "logmend.yaml"
    path.write_text(
        "runbooks: {ops-agent: {enabled: false, mode: enforce, parameters: {settle: '30'}}}",
    )
    settings = {"runbooks": str(path), "mode": "approve", "cooldown_failed": "5m"}
    found = json.loads(run("runbook", "list", "ops-agent", "--format", "json", **settings).stdout)
    told = {each["name"]: (each["value"], each["origin"]) for each in found[0]["values"]}
    assert told["enabled"] == ("false", "configuration")
    assert told["mode"] == ("approve", "LOGMEND_MODE, the ceiling; configuration says enforce")
    assert told["executor"] == ("ssh", "default")
    assert told["disruption_budget"] == ("10/1h", "runbook.yaml")
    assert told["cooldowns.failed"] == ("5m", "LOGMEND_COOLDOWN_FAILED")
    assert told["scope.zones"] == ("any", "default")
    assert told["parameters.settle"] == ("30", "configuration")
    assert told["parameters.version"] == ("latest", "runbook.yaml")
    table = run("runbook", "list", **settings).stdout
    assert "the ceiling" in table
    assert "cooldowns.planned" not in table
    assert run("runbook", "list", "ops-agnet").exit_code == 2


def test_what_is_packed_is_the_very_runbook(run: Run, copied: Path, tmp_path: Path) -> None:
    """Every file that the digest covers goes along, diagnose.sh too."""
    ran = run("runbook", "pack", tmp_path / "source", runbooks=str(copied))
    assert ran.exit_code == 0, ran.output
    before, after = (
        json.loads(run("runbook", "list", "--format", "json", runbooks=str(each)).stdout)
        for each in (copied, tmp_path / "source/runbooks.yaml")
    )
    assert {each["name"]: each["digest"] for each in after} == {
        each["name"]: each["digest"] for each in before
    }
    assert (tmp_path / "source/runbooks/ops-agent/diagnose.sh").is_file()


def test_pack_and_permissions_say_what_a_folder_alone_says(run: Run, copied: Path, tmp_path: Path) -> None:
    """A folder means that no other runbook is on; packed, it still means that."""
    for name in NAMES:
        if name != "workload-cert-refresh":
            shutil.rmtree(copied / name)
    path = copied / "workload-cert-refresh/runbook.yaml"
    path.write_text(path.read_text().replace("follow_up: ops-agent", "#"))
    ran = run("runbook", "pack", tmp_path / "source", runbooks=str(copied))
    assert ran.exit_code == 0, ran.output
    file = tmp_path / "source/runbooks.yaml"
    found = json.loads(run("runbook", "list", "--format", "json", runbooks=str(file)).stdout)
    assert [each["name"] for each in found if each["values"][0]["value"] == "true"] == [
        "workload-cert-refresh"
    ]
    assert run("runbook", "pack", tmp_path / "other").exit_code == 2
    said = run("runbook", "permissions", runbooks=str(copied), mode="enforce").stdout.splitlines()
    roles = dict(line.split(" ") for line in said)
    assert "compute.instances.osAdminLogin" in roles["fleet"]
    file.write_text(json.dumps({"runbooks": {name: {"mode": "observe"} for name in NAMES}}))
    less = run("runbook", "permissions", runbooks=str(file), mode="enforce").stdout
    assert "osAdminLogin" not in less
    assert run("runbook", "permissions").stdout == less


def test_policies_are_rendered_for_what_each_runbook_may_do(run: Run, tmp_path: Path) -> None:
    """One that only observes has a check alone, one that goes over SSH has none, whatever LOGMEND_MODE is."""
    path, name = tmp_path / "logmend.yaml", "workload-cert-refresh"
    for chosen, actions in (
        ({}, ["check", "enforce", "revert"]),
        ({"mode": "observe"}, ["check"]),
        ({"executor": "ssh"}, []),
    ):
        path.write_text(json.dumps({"runbooks": {name: chosen}}))
        ran = run("policy", "render", "--directory", tmp_path / "out", runbooks=str(path), mode="enforce")
        assert ran.exit_code == 0, ran.output
        assert [Path(each).stem.rpartition("-")[2] for each in ran.stdout.splitlines()] == actions


# lint


def test_the_built_in_runbooks_are_sound(run: Run) -> None:
    """All of them, with the sink's filter that they make together."""
    ran = run("runbook", "lint")
    first, second, third = ran.stdout.splitlines()
    assert (ran.exit_code, first) == (0, f"{', '.join(NAMES)}: sound")
    assert second.startswith("ops-agent runs over SSH only: validate.sh has ")
    assert third == "os-config-agent runs over SSH only: its runbook.yaml says executors: [ssh]"
    found = json.loads(run("runbook", "lint", "google-guest-agent", "--format", "json").stdout)
    assert found["problems"] == []


@pytest.mark.parametrize(("general", "shown"), [("auto", "ssh"), ("osconfig", "osconfig")])
def test_list_says_of_a_runbook_that_it_goes_over_ssh_only(run: Run, general: str, shown: str) -> None:
    """Beside what was asked for, which OS Config alone cannot do."""
    (told,) = json.loads(run("runbook", "list", "ops-agent", "--format", "json", executor=general).stdout)
    (executor,) = [each for each in told["values"] if each["name"] == "executor"]
    assert executor["value"] == shown
    assert executor["origin"].startswith(
        f"LOGMEND_EXECUTOR says {general}; it runs over SSH only: validate.sh"
    )
    assert told["ssh_only"].startswith("validate.sh has")


def test_a_runbook_that_os_config_cannot_take_is_sound_and_said_to_go_over_ssh_only(
    run: Run, copied: Path
) -> None:
    """Lint says why; render leaves it out and says so, and refuses where it is asked for by name."""
    some = ("ops-agent", "os-config-agent", "workload-cert-refresh")
    ran = run("runbook", "lint", *some, runbooks=str(copied))
    assert ran.exit_code == 0
    assert "ops-agent runs over SSH only: validate.sh has 2," in ran.stdout
    told = json.loads(run("runbook", "lint", *some, "--format", "json", runbooks=str(copied)).stdout)
    assert list(told["ssh_only"]) == ["ops-agent", "os-config-agent"]
    rendered = run("policy", "render", runbooks=str(copied))
    assert (rendered.exit_code, "logmend-ops-agent" in rendered.stdout) == (0, False)
    assert "skipped: ops-agent runs over SSH only" in rendered.stderr
    named = run("policy", "render", "--runbook", "ops-agent", runbooks=str(copied))
    assert (named.exit_code, named.stdout) == (2, "")
    assert "ops-agent runs over SSH only" in named.stderr


def test_assignments_of_what_goes_over_ssh_by_now_can_be_deleted_by_name(run: Run, copied: Path) -> None:
    """Those of before it said so would stay in each zone for ever."""
    where = ("--project", "demo-project", "--zone", "us-west1-a")
    ran = run("policy", "delete", "--runbook", "os-config-agent", *where, runbooks=str(copied), stdin="n\n")
    assert "Delete 3 assignments?" in ran.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "line", "said"),
    [
        ("runbook.yaml", "guards: [", "guard: [", True, "did you mean guards?"),
        (
            "runbook.yaml",
            "guards: [not_this_timer, ",
            "guards: [not_this_timr, ",
            True,
            "did you mean not_this_timer?",
        ),
        ("runbook.yaml", "repeats: 10m", "repeats: often", True, "duration"),
        ("validate.sh", "timeout 9 systemctl", "systemctl", True, "can block"),
        ("enforce.sh", "exec 9>$f", "exec &>$f", True, "not POSIX"),
        ("enforce.sh", "#!/bin/sh\n", "#!/bin/sh\n" + "# long\n" * 5000, False, "too many"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    run: Run, copied: Path, file: str, old: str, new: str, line: bool, said: str
) -> None:
    """File, line where there is one, and what to do; status 1."""
    path = copied / "workload-cert-refresh" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    ran = run("runbook", "lint", "workload-cert-refresh", runbooks=str(copied))
    assert ran.exit_code == 1, ran.output
    told = [each for each in ran.stdout.splitlines() if said in each]
    assert told
    assert told[0].startswith(f"{path}:")
    assert told[0][len(f"{path}:")].isdigit() is line
    shown = run("runbook", "lint", "workload-cert-refresh", "--format", "json", runbooks=str(copied)).stdout
    found = json.loads(shown)["problems"]
    assert {"file", "line", "message", "hint"} == set(found[0])


def test_a_folder_of_its_own_is_linted_by_itself(run: Run, copied: Path, tmp_path: Path) -> None:
    """While it is being written, it need not be where the others are."""
    own = tmp_path / "elsewhere" / "ops-agent"
    shutil.copytree(copied / "ops-agent", own)
    assert run("runbook", "lint", own).exit_code == 0
    (own / "validate.sh").unlink()
    ran = run("runbook", "lint", own)
    assert ran.exit_code == 1
    assert f"{own}/validate.sh: cannot be read" in ran.stdout


def test_a_circle_of_runbooks_and_a_name_that_is_none_are_no_sound_ones(run: Run, copied: Path) -> None:
    """By ``after`` and ``follow_up`` together; the function would not start with them either."""
    path = copied / "workload-cert-refresh" / "runbook.yaml"
    path.write_text(path.read_text() + "after: ops-agent\n")
    ran = run("runbook", "lint", "ops-agent", "workload-cert-refresh", runbooks=str(copied))
    assert ran.exit_code == 1
    for name in ("ops-agent", "workload-cert-refresh"):
        assert f"{name} comes before itself, by after and follow_up" in ran.stdout
    assert "comes before itself" in run("filter", "show", runbooks=str(copied)).stderr
    path.write_text(path.read_text().replace("after: ops-agent", "after: ops-agnet"))
    assert (
        "after: no runbook ops-agnet; did you mean ops-agent?" in run("runbook", "lint", path.parent).stdout
    )


@pytest.mark.parametrize("what", ["lint", "test"])
def test_a_runbook_that_does_not_exist_gives_status_2(run: Run, tmp_path: Path, what: str) -> None:
    """With a suggestion; a folder of runbooks that holds none cannot be used either."""
    ran = run("runbook", what, "ops-agnet", "/no/such/folder")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "did you mean ops-agent?" in ran.stderr
    assert "/no/such/folder" in ran.stderr
    assert run("runbook", what, runbooks=str(tmp_path)).exit_code == 2


# test


def test_every_golden_case_passes(run: Run) -> None:
    """Of all runbooks, through the stages that the function runs."""
    found = cases(run)
    assert {each["runbook"] for each in found} == set(NAMES)
    assert len(found) > 60
    assert {each["verdict"] for each in found} == {"pass"}
    text = run("runbook", "test").stdout
    assert len(text.splitlines()) == len(NAMES)
    assert all(f"{each}: {COUNTS[each]} of {COUNTS[each]} cases pass" in text for each in NAMES)


def test_golden_cases_judge_what_a_runbook_says_of_vms(run: Run, copied: Path) -> None:
    """With the instance as gcloud describes it: refused by what the runbook says, planned without."""
    mine = copied / "workload-cert-refresh"
    with (mine / "runbook.yaml").open("a") as file:
        file.write("\nunless: {image: [cos-cloud]}\nonly: {machine_family: [e2]}\n")
    case = json.loads((mine / "cases/facts-exempt.json").read_text())
    instance = case["instance"] | {"labels": {}, "machineType": "zones/z/machineTypes/e2-small"}
    license_ = {"boot": True, "licenses": ["projects/cos-cloud/global/licenses/cos"]}
    for name, disks, reason in (("a", [license_], "excluded_by_runbook"), ("b", [{"boot": True}], None)):
        expect = case["expect"] | {"result": "refused" if reason else "planned", "reason": reason}
        told = case | {"instance": instance | {"disks": disks}, "expect": expect}
        (mine / f"cases/conditions-{name}.json").write_text(json.dumps(told))
    ran = run("runbook", "test", mine.name, "--format", "json", runbooks=str(copied))
    found = {each["case"]: each["verdict"] for each in json.loads(ran.stdout)}
    assert (found["conditions-a"], found["conditions-b"]) == ("pass", "pass"), ran.stdout


def test_cases_do_not_depend_on_the_environment(run: Run) -> None:
    """Whoever runs them, with whatever settings, gets the same."""
    assert cases(run, scope_projects="elsewhere", max_event_age="1s", mode="enforce") == cases(run)


def test_a_case_that_fails_says_what_it_got(run: Run, copied: Path) -> None:
    """Expected, answered, and why; status 1."""
    path = copied / "workload-cert-refresh/cases/facts-exempt.json"
    change(
        path,
        expect={"result": "planned", "reason": None, "runbook": "workload-cert-refresh", "variant": None},
    )
    found = cases(run, "workload-cert-refresh", runbooks=str(copied), status=1)
    (failing,) = (each for each in found if each["verdict"] == "fail")
    assert failing["case"] == "facts-exempt"
    assert failing["expected"]["result"] == "planned"
    assert failing["answered"]["reason"] == "exempt"
    text = run("runbook", "test", "workload-cert-refresh", runbooks=str(copied)).stdout
    assert "fail workload-cert-refresh/facts-exempt: result is refused, not planned; reason is exempt" in text
    count = COUNTS["workload-cert-refresh"]
    assert f"{count - 1} of {count} cases pass" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"instance": {"id": "1"}}, "not a Compute Engine instance"),
        ({"event": [{}, {}]}, "a case is about one event, this has 2"),
        ({"expect": None}, "expect: expected an object"),
        ({"whatever": 1}, "unknown key whatever"),
    ],
)
def test_a_case_that_is_none_fails(run: Run, copied: Path, changes: dict[str, Any], said: str) -> None:
    """It does not vanish from the count."""
    change(copied / "workload-cert-refresh/cases/facts-exempt.json", **changes)
    found = cases(run, "workload-cert-refresh", runbooks=str(copied), status=1)
    (failing,) = (each for each in found if each["verdict"] == "fail")
    assert said in failing["problem"]


def test_facts_of_another_vm_make_a_case_fail(run: Run, copied: Path) -> None:
    """They would prove nothing about the event's VM."""
    path = copied / "workload-cert-refresh/cases/facts-exempt.json"
    instance = json.loads(path.read_text())["instance"]
    change(path, instance=instance | {"id": "1"})
    (failing,) = (
        each
        for each in cases(run, "workload-cert-refresh", runbooks=str(copied), status=1)
        if each["verdict"] == "fail"
    )
    assert "instance describes demo-project/us-west1-a/1" in failing["problem"]


def test_a_guard_that_does_not_exist_stops_whoever_loads_it(run: Run, copied: Path) -> None:
    """A misspelt guard must not vanish: explain, list and the sink's filter refuse the runbook."""
    path = copied / "workload-cert-refresh/runbook.yaml"
    path.write_text(path.read_text().replace("not_this_timer", "not_this_timr"))
    for args in (["explain", "-"], ["runbook", "list"], ["filter", "show"]):
        ran = run(*args, stdin="{}", runbooks=str(copied))
        assert ran.exit_code == 2
        assert "no guard not_this_timr; did you mean not_this_timer?" in ran.stderr


# What the cases cover

LEAD = "Error getting config status, workload certificates may not be configured: "
GET = 'failed to GET "instance/gce-workload-certificates/config-status" from MDS with error: '
SERIAL = "serialconsole.googleapis.com%2Fserial_port_1_output"
ROWS: dict[str, tuple[str, str, str]] = {
    # every form of the line: (case, what its event holds, what it comes to)
    "20220927 to 20221017": ("form-2022-09", "No workload identities found: HTTP 404", "planned"),
    "20221018 to 20230913": ("path-ops-agent-syslog", f"{LEAD}HTTP 404", "planned"),
    "20221104 to 20230913, 412": ("configured-http-412", f"{LEAD}HTTP 412", "certificates_configured"),
    "metadata server or network trouble": (
        "metadata-no-answer",
        f'{LEAD}Get "http://169.254.169.254/',
        "metadata_server_trouble",
    ),
    "20230919 to 20231009": ("form-2023-09", f"{LEAD}{GET}error connecting", "planned"),
    "20231011 onward, identical text, opted in": (
        "facts-opted-in",
        f"{LEAD}{GET}error connecting",
        "opted_in",
    ),
    "20220927 to 20221017, silence": (
        "metadata-no-answer-2022-09",
        'No workload identities found: Get "',
        "metadata_server_trouble",
    ),
    "20230919 to 20231009, 412": (
        "configured-max-attempts",
        f"{LEAD}{GET}reached max attempts to connect to metadata",
        "certificates_configured",
    ),
    "20240313": ("form-2024-03", "[404], error: [error connecting to metadata server", "opted_in"),
    "20240313, 412": ("configured-status-412", "[412], error: [error connecting", "certificates_configured"),
    "20240611 onward": ("form-2025", f"{LEAD}{GET}giving up, retry policy", "opted_in"),
    "20240611 onward, a body that begins with a line end": (
        "form-2025-newline-first",
        'reason:"',
        "opted_in",
    ),
    "20240611 onward, 412": (
        "configured-status-412-2025",
        "[412], error: [invalid response",
        "certificates_configured",
    ),
    "20240611 onward, 503": (
        "metadata-exhausted",
        "exhausted all (100) retries",
        "metadata_server_trouble",
    ),
    "core plugin": ("core-plugin", "logs/GCEGuestAgent", "not_this_timer"),
    "core plugin, through syslog": (
        "core-plugin-syslog",
        f"google_guest_agent[811]: {LEAD}",
        "not_this_timer",
    ),
    # other lines of the same program
    "Done": ("other-line-done", "Done", "unmatched"),
    "Creating timestamp contents dir": (
        "other-line-contents-dir",
        "Creating timestamp contents dir",
        "unmatched",
    ),
    "Rotating symlink": ("other-line-symlink", "Rotating symlink", "unmatched"),
    "Error refreshCreds": ("other-line-refresh", "Error refreshCreds", "unmatched"),
    "20250327.00, undated": (
        "other-line-created-by",
        "[49188]: Error getting metadata attribute created-by: ",
        "unmatched",
    ),
    "error connecting to metadata server, retrying": (
        "other-line-retrying",
        "error connecting to metadata server, retrying in 3s",
        "unmatched",
    ),
    "Exhausted 100 retry attempts": ("other-line-exhausted", "Exhausted 100 retry attempts", "unmatched"),
    "systemd, Finished": ("other-line-systemd", "Finished GCE Workload Certificate refresh", "unmatched"),
    "systemd, Starting": (
        "other-line-systemd-starting",
        "Starting GCE Workload Certificate refresh",
        "unmatched",
    ),
    # is the VM really using certificates
    "metadata": ("facts-opted-in", '"enable-workload-certificate"', "opted_in"),
    "identity certificate": ("facts-opted-in-identity", "identityCertificateEnabled", "opted_in"),
    "partner metadata": ("facts-opted-in-partner", "partnerMetadata", "opted_in"),
    # how the line reaches Cloud Logging
    "Ops Agent, syslog receiver": ("path-ops-agent-syslog", '"message"', "planned"),
    "Ops Agent, systemd_journald receiver": ("path-ops-agent-journald", '"SYSLOG_IDENTIFIER"', "planned"),
    "legacy google-fluentd, text": ("path-fluentd-text", '"textPayload"', "planned"),
    "legacy google-fluentd, structured": ("path-fluentd-structured", '"ident"', "planned"),
    "serial console, escaped": ("path-serial-escaped", SERIAL, "planned"),
    "serial console, older": ("path-serial-unescaped", SERIAL, "planned"),
    # prefixes
    "RFC 3164": ("path-ops-agent-syslog", "Jul  8 06:36:01 web-1.c.demo-project.internal gce", "planned"),
    "RFC 3164 without PID": ("prefix-without-pid", "gce_workload_cert_refresh: 2026", "planned"),
    "RFC 3339": ("prefix-iso-time", "2026-07-08T13:36:01.956745+00:00 web-1", "planned"),
    "journal": ("prefix-journal-time", "2026-07-08T13:36:01+0000 web-1", "planned"),
    "none": ("prefix-none", '"message": "2026/07/08', "planned"),
    # traps
    "backlog": ("backlog", "2026-07-01T09:00:01", "stale"),
    "own outcome": ("own-outcome", "logs/logmend", "own_entry"),
    "OS Config agent": ("own-os-config-agent", "logs/OSConfigAgent", "own_entry"),
    "another project's log": ("forged-project", "projects/other-project/logs", "project_mismatch"),
    "identity is a name": ("identity-by-name", '"instance_id": "web-1"', "bad_identity"),
}
"""What is documented of the error, row by row, and the golden case that holds it."""


@pytest.mark.parametrize("row", ROWS)
def test_every_documented_row_has_a_golden_case(row: str) -> None:
    """The case holds what the row says, and expects what the row means."""
    case, holds, comes_to = ROWS[row]
    read = json.loads((BUILT_IN / f"workload-cert-refresh/cases/{case}.json").read_text())
    text = json.dumps([read["event"], read.get("instance")], ensure_ascii=False)
    assert holds in text.replace('\\"', '"')
    assert comes_to in (read["expect"]["reason"], read["expect"]["result"])


@pytest.mark.parametrize("name", NAMES)
def test_each_case_says_why_it_is_there(name: str) -> None:
    """A sentence of its own."""
    every = [json.loads(each.read_text())["why"] for each in (BUILT_IN / name / "cases").glob("*.json")]
    assert every
    assert all(len(why.split()) > 3 for why in every)
