"""``--local`` on a pretend machine: the exported script, diagnose.sh, what refuses them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.conftest import needs
from tests.fakes import REF

from logmend import runbook
from logmend_cli import main
from logmend_cli.pretend.fleet import Machine
from logmend_cli.pretend.instance import PretendInstance
from logmend_cli.runbook import export, new

METADATA = "pretend/http/169.254.169.254/computeMetadata/v1"
ROOT = os.geteuid() == 0
ENFORCE = ("--enforce", "--labels-unchecked", "--yes")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Make a machine that has the fault and knows which VM it is."""
    made = Machine(PretendInstance(REF.project_id, REF.zone, REF.instance_id, "web-1"), tmp_path / "machine")
    made.make()
    for path, text in {
        "instance/zone": f"projects/1/zones/{REF.zone}",
        "project/project-id": REF.project_id,
    }.items():
        at = made.folder / METADATA / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
    return made


Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def logmend(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command there; gives exit status, JSON and standard error."""
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, Any, str]:
        ran = CliRunner().invoke(main.logmend, [*words, "--format", "json"])
        return ran.exit_code, json.loads(ran.stdout or "null"), ran.stderr

    return run


def test_it_looks_with_the_very_script_and_changes_nothing(machine: Machine, logmend: Run) -> None:
    """The outcome names the digest that a function would have run, and what could not be asked."""
    status, (said,), error = logmend("run", "--local")
    assert (status, said["result"], said["executor"]) == (0, "planned", "local"), error
    digest = runbook.load(runbook.BUILT_IN / "workload-cert-refresh").digest
    assert said["runbook_digest"] == digest
    assert said["instance"] == {
        "project_id": REF.project_id,
        "zone": REF.zone,
        "instance_id": REF.instance_id,
    }
    assert machine.timer() == "enabled active"
    assert "Nothing was changed" in error


def test_enforcing_takes_both_words_and_says_that_labels_were_not_seen(
    machine: Machine, logmend: Run
) -> None:
    """Then the way back, in the same way."""
    needs(root=True)
    for words in (["--enforce", "--yes"], ["--labels-unchecked"]):
        status, said, error = logmend("run", "--local", *words)
        assert (status, said, "go together" in error) == (2, None, True)
    assert machine.calls() == []
    status, (said,), error = logmend("run", "--local", *ENFORCE, "--by", "jo@laptop")
    assert (status, said["result"], said["mode"]) == (0, "remediated", "enforce"), error
    assert said["requested_by"] == "jo@laptop"
    digest = runbook.load(runbook.BUILT_IN / "workload-cert-refresh").digest
    noted = [each for each in machine.calls() if each.startswith("logger ")]
    record = f"logger -t logmend -p auth.notice -- enforce of workload-cert-refresh {digest} for jo@laptop:"
    assert noted == [f"{record} begins", f"{record} remediated"]
    assert said["notes"][0].startswith("labels unchecked")
    assert machine.timer() == "disabled inactive"
    status, (said,), error = logmend("revert", "--local", *ENFORCE)
    assert (status, said["result"]) == (0, "reverted"), error
    assert machine.timer() == "enabled active"


def test_an_owners_no_in_the_metadata_binds_whoever_sits_there(machine: Machine, logmend: Run) -> None:
    """The VM is neither checked nor diagnosed."""
    at = machine.folder / METADATA / "instance/attributes/logmend"
    at.parent.mkdir()
    at.write_text("off")
    status, (said,), _ = logmend("run", "--local")
    assert (status, said["result"], said["reason"]) == (0, "refused", "exempt")
    status, said, _ = logmend("diagnose", "--local")
    assert (status, said["instances"][0]["why"]) == (1, "not_asked")


def test_a_cause_is_named_for_the_vm_itself(machine: Machine, logmend: Run) -> None:
    """By diagnose.sh, as whoever asks: nobody, whom root becomes, could not look into this test's folder."""
    (machine.folder / "var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin").mkdir(parents=True)
    status, said, error = logmend("diagnose", "--local", *(["--as-root"] if ROOT else []))
    (told,) = said["instances"]
    assert (status, told["cause"], told["concerns"]) == (0, "managed_by_plugin", "fleet"), error
    assert told["instance"]["instance_id"] == REF.instance_id


def test_the_use_of_root_is_on_record_in_the_vms_own_log(machine: Machine, logmend: Run) -> None:
    """Before anything is run. A diagnosis that cannot be noted is none; a fix says that it was not noted."""
    needs(root=True)
    assert logmend("diagnose", "--local")[0] in (0, 1)
    assert not [each for each in machine.calls() if each.startswith("logger ")], "nobody looks"
    logmend("diagnose", "--local", "--as-root", "--by", "jo@laptop")
    (noted,) = [each for each in machine.calls() if each.startswith("logger ")]
    assert noted.startswith("logger -t logmend -p auth.notice -- diagnosis of ops-agent sha256:")
    assert noted.endswith(" as root for jo@laptop: begins")
    fail = machine.folder / "pretend/fail/logger"
    fail.parent.mkdir(exist_ok=True)
    fail.write_text("logger: socket /dev/log: No such file or directory\n")
    before = len(machine.calls())
    status, said, error = logmend("diagnose", "--local", "--as-root")
    assert (status, said, "No such file or directory" in error) == (2, None, True), error
    ours = [each for each in machine.calls()[before:] if each.startswith(("logger", "systemctl"))]
    assert [each.split()[0] for each in ours] == ["logger"], "nothing was looked at"
    status, (said,), error = logmend("run", "--local", *ENFORCE)
    assert (status, said["result"]) == (0, "remediated"), error
    assert said["notes"][-1] == "not in the VM's log: logger failed"


def test_a_journal_that_hangs_keeps_nobody_from_the_end(
    machine: Machine, logmend: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes to it would wait for ever: the fix says that it was not noted."""
    needs(root=True)
    assert export.LOG[:2] == ("timeout", "9")
    monkeypatch.setattr(export, "LOG", ("timeout", "1", *export.LOG[2:]))
    fail = machine.folder / "pretend/fail/logger"
    fail.parent.mkdir(exist_ok=True)
    os.mkfifo(fail)  # whoever reads it waits
    status, (said,), error = logmend("run", "--local", *ENFORCE)
    assert (status, said["result"]) == (0, "remediated"), error
    assert said["notes"][-1] == "not in the VM's log: logger failed"


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        (
            "W: GPG error: https://me:secret@mirror NO_PUBKEY 1234",
            "W: GPG error: https://mirror NO_PUBKEY 1234 ... ",
        ),
        (" Problem: package a conflicts with b", " Problem: package a conflicts with b ... "),
    ],
)
def test_why_a_script_failed_is_not_pushed_out_by_what_comes_after_it(
    machine: Machine, logmend: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, begins: str
) -> None:
    """Lines as apt, dnf and curl begin their errors come first; no credentials of an address go on."""
    new.make("complains", tmp_path / "own")
    after = "echo 'check your network, whatever it may be, and try again' >&2\n" * 9
    (tmp_path / "own/complains/validate.sh").write_text(
        f"#!/bin/sh\necho url=https://me:secret@mirror/x\necho '{line}' >&2\n{after}exit 1\n"
    )
    monkeypatch.setenv("LOGMEND_RUNBOOKS", str(tmp_path / "own"))
    status, (said,), _ = logmend("run", "--local", "--runbook", "complains")
    assert (status, said["result"], said["reason"]) == (1, "failed", "script_error")
    assert said["detail"].startswith(begins)
    assert said["detail"].endswith("try again ")
    assert len(said["detail"]) <= 512
    assert "secret" not in json.dumps(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--local", str(REF)], "is only for this VM"),
        (["run", "--local", "--via-function"], "leave out --via-function"),
        (["diagnose", "--local", "--project", "p", "--filter", "x"], "leave out --project, --filter"),
        (["run", "--local", "--from", "/dev/null"], "leave out --from"),
        (["revert", "--local", "--remediated-since", "1d"], "leave out --remediated-since"),
        (["run", "--local", "--runbook", "ops-agnet"], "did you mean ops-agent"),
        (["run", str(REF), "--labels-unchecked"], "goes with --local"),
    ],
)
def test_what_is_meant_for_other_vms_is_refused(
    machine: Machine, logmend: Run, words: list[str], said: str
) -> None:
    """Nothing is run."""
    status, _, error = logmend(*words)
    assert (status, said in error) == (2, True), error
    assert machine.calls() == []


def test_a_metadata_server_in_trouble_is_told_with_its_answer(machine: Machine, logmend: Run) -> None:
    """It is not said to be silent, nor the VM to be none."""
    (machine.folder / METADATA / "instance/zone.status").write_text("503")
    status, _, error = logmend("diagnose", "--local")
    assert (status, "the metadata server answered 503" in error) == (2, True), error


def test_a_computer_without_a_metadata_server_is_no_vm(machine: Machine, logmend: Run) -> None:
    """Whoever tries it on a workstation is told so, and no check is run there."""
    (machine.folder / "pretend/http/169.254.169.254.down").touch()
    status, _, error = logmend("diagnose", "--local")
    assert (status, "is this a Compute Engine VM?" in error, "curl: (7)" in error) == (2, True, True), error
    status, (said,), _ = logmend("run", "--local")
    assert (status, said["reason"], said["before"]) == (0, "facts_unknown", None)
