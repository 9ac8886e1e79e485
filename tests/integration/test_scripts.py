"""The runbooks' real scripts, run by every shell that VMs have, on pretend machines."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs

from logmend import runbook

PRETEND = Path(runbook.__file__).parent.parent / "pretend"
METADATA = "metadata.google.internal/computeMetadata/v1/instance"
CONFIG_STATUS = f"{METADATA}/gce-workload-certificates/config-status"
TIMER = "gce-workload-cert-refresh.timer"
CERT_REFRESH = runbook.load(runbook.BUILT_IN / "workload-cert-refresh").scripts


@dataclass(frozen=True)
class Said:
    """What a script answered: exit code, ``key=value`` lines, stderr."""

    code: int
    values: dict[str, str]
    error: str


@dataclass(frozen=True)
class Machine:
    """A pretend machine: a folder, and the shell that runs its scripts."""

    root: Path
    shell: tuple[str, ...]
    path: str

    def put(self, name: str, text: str) -> None:
        file = self.root / "pretend" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def has(self, name: str) -> bool:
        return (self.root / name).exists()

    def unit(self, name: str, *, enabled: str, active: str) -> None:
        self.put(f"units/{name}/enabled", f"{enabled}\n")
        self.put(f"units/{name}/active", f"{active}\n")

    def state(self, unit: str = TIMER) -> tuple[str, str]:
        folder = self.root / "pretend/units" / unit
        return (folder / "enabled").read_text().strip(), (folder / "active").read_text().strip()

    @property
    def calls(self) -> list[str]:
        file = self.root / "pretend/calls"
        return file.read_text().splitlines() if file.exists() else []

    def changes(self) -> list[str]:
        """Give the calls that change something."""
        return [call for call in self.calls if call.startswith("systemctl") and " show " not in call]

    def start(self, script: str) -> "subprocess.Popen[str]":
        """Start a script from a file, as the agent of OS Config does."""
        file = self.root / f"script-{abs(hash(script))}.sh"
        if not file.exists():
            file.write_text(script)
        return subprocess.Popen(
            [*self.shell, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": self.path, "LOGMEND_ROOT": str(self.root)},
        )

    def run(self, script: str) -> Said:
        with self.start(script) as process:
            out, error = process.communicate(timeout=60)
        return said(process.returncode, out, error)

    def piped(self, script: str) -> Said:
        """Run a script that the shell reads from stdin, as over SSH."""
        done = subprocess.run(
            [*self.shell, "-s"],
            input=script,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": self.path, "LOGMEND_ROOT": str(self.root)},
        )
        return said(done.returncode, done.stdout, done.stderr)


def said(code: int, out: str, error: str) -> Said:
    lines = (line.partition("=") for line in out.splitlines())
    return Said(code, {key: value for key, equals, value in lines if equals}, error)


@pytest.fixture(params=["dash", "bash as sh", "busybox sh"])
def machine(request: Any, tmp_path: Path) -> Machine:
    """Make a machine with the fault: timer on, certificates not configured."""
    name = request.param.split()[0]
    needs(commands=(name,))
    shell: tuple[str, ...] = (name,)
    if name == "busybox":
        shell = ("busybox", "sh")
    elif name == "bash":
        # bash is POSIX when it is called sh, as it is on EL and SUSE.
        (tmp_path / "shells").mkdir()
        (tmp_path / "shells/sh").symlink_to(str(shutil.which("bash")))
        shell = (str(tmp_path / "shells/sh"),)
    root = tmp_path / "machine with a space"
    root.mkdir()
    found = Machine(root, shell, f"{PRETEND / 'bin'}:{os.environ['PATH']}")
    found.unit(TIMER, enabled="enabled", active="active")
    found.put(f"http/{METADATA}/id", "4775836342981993096")
    return found


SEEN = {
    "unit_present": "yes",
    "timer_enabled": "enabled",
    "timer_active": "active",
    "config_status": "404",
    "instance_id": "4775836342981993096",
}


def test_a_running_timer_without_certificates_is_the_fault(machine: Machine) -> None:
    """validate.sh sees the fault, says what it saw, and changes nothing."""
    answer = machine.run(CERT_REFRESH.validate)
    assert (answer.code, answer.values) == (101, SEEN)
    assert machine.changes() == []
    assert not machine.has("var")


def test_a_script_read_from_stdin_is_not_swallowed(machine: Machine) -> None:
    """Delivered on the shell's own stdin, the script runs to its end."""
    assert machine.piped(CERT_REFRESH.validate).code == 101
    assert machine.piped(CERT_REFRESH.enforce).code == 100
    assert machine.piped(CERT_REFRESH.validate).code == 100


@pytest.mark.parametrize(
    ("enabled", "active", "code"),
    [
        ("disabled", "inactive", 100),
        ("disabled", "failed", 100),
        ("static", "inactive", 100),
        ("disabled", "active", 101),
        ("enabled", "inactive", 101),
        ("enabled-runtime", "inactive", 101),
        ("disabled", "activating", 101),
        ("static", "active", 101),
    ],
)
def test_the_timer_counts_as_off_only_if_neither_enabled_nor_active(
    machine: Machine, enabled: str, active: str, code: int
) -> None:
    """Disabled without --now still fires until reboot; stopped but enabled comes back with it."""
    machine.unit(TIMER, enabled=enabled, active=active)
    answer = machine.run(CERT_REFRESH.validate)
    assert answer.code == code
    assert (answer.values["timer_enabled"], answer.values["timer_active"]) == (enabled, active)


def test_a_machine_without_the_timer_is_as_desired(machine: Machine) -> None:
    """SLES ships no such unit; neither script minds, and nothing is done."""
    shutil.rmtree(machine.root / "pretend/units")
    answer = machine.run(CERT_REFRESH.validate)
    assert (answer.code, answer.values["unit_present"]) == (100, "no")
    assert machine.run(CERT_REFRESH.enforce).code == 100
    assert machine.changes() == []


@pytest.mark.parametrize("mask", ["masked", "masked-runtime"])
def test_a_masked_timer_is_left_alone(machine: Machine, mask: str) -> None:
    """Somebody else masked it: neither fixed nor reverted by us."""
    machine.unit(TIMER, enabled=mask, active="inactive")
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "masked_by_others")
    assert machine.changes() == []


@pytest.mark.parametrize("status", ["200", "412", "403", "503"])
def test_any_config_status_but_404_means_certificates_are_in_use(machine: Machine, status: str) -> None:
    """Only a live 404 allows acting, in the check and under enforcement's lock."""
    machine.put(f"http/{CONFIG_STATUS}.status", status)
    answer = machine.run(CERT_REFRESH.validate)
    assert (answer.code, answer.values["reason"]) == (102, "certificates_in_use")
    assert answer.values["config_status"] == status
    assert machine.run(CERT_REFRESH.enforce).values["reason"] == "certificates_in_use"
    assert machine.state() == ("enabled", "active")
    assert machine.changes() == []


def test_credentials_on_the_machine_mean_certificates_are_in_use(machine: Machine) -> None:
    """The credentials directory alone refuses, whatever the metadata server says."""
    (machine.root / "run/secrets/workload-spiffe-credentials").mkdir(parents=True)
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "certificates_in_use")
    assert machine.changes() == []


def test_a_silent_metadata_server_means_unknown(machine: Machine) -> None:
    """Without an answer nobody knows whether certificates are in use: leave alone."""
    machine.put("http/metadata.google.internal.down", "")
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "config_status_unknown")
    assert machine.changes() == []


def test_a_machine_without_curl_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    """No curl, no live 404, no action."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for command in ("timeout", "flock", "sed", "cat", "tee", "mkdir", "mv", "rm", "tr"):
        (folder / command).symlink_to(str(shutil.which(command)))
    for command in (machine.shell[0], "sh"):
        (folder / Path(command).name).unlink(missing_ok=True)
        (folder / Path(command).name).symlink_to(str(shutil.which(command)))
    (folder / "systemctl").symlink_to(PRETEND / "bin/systemctl")
    bare = Machine(machine.root, machine.shell, str(folder))
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = bare.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "config_status_unknown")
    assert machine.state() == ("enabled", "active")


def test_systemd_that_does_not_answer_is_an_error(machine: Machine) -> None:
    """No state read means no verdict: neither 100, 101 nor 102, and its words are on stderr."""
    machine.put("fail/systemctl", "Failed to connect to bus: No such file or directory\n")
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce, CERT_REFRESH.revert_validate):
        answer = machine.run(script)
        assert answer.code not in (100, 101, 102)
        assert "Failed to connect to bus" in answer.error


def test_enforcement_turns_the_timer_off_and_keeps_what_was(machine: Machine) -> None:
    """One disable --now, the state before it on record, evidence in the file that OS Config reports."""
    answer = machine.run(CERT_REFRESH.enforce)
    assert (answer.code, answer.values["changed"]) == (100, "yes")
    assert machine.state() == ("disabled", "inactive")
    assert machine.changes() == [f"systemctl disable --now {TIMER}"]
    record = machine.root / "var/lib/logmend/workload-cert-refresh.state"
    assert set(record.read_text().splitlines()) == {"UnitFileState=enabled", "ActiveState=active"}
    assert record.stat().st_mode & 0o777 == 0o644
    reported = (record.parent / "workload-cert-refresh.out").read_text()
    assert said(0, reported, "").values == answer.values
    assert machine.run(CERT_REFRESH.validate).code == 100


def test_a_late_enforcement_touches_nothing(machine: Machine) -> None:
    """Under its lock enforce.sh looks again: a second one is harmless and keeps the first record."""
    machine.run(CERT_REFRESH.enforce)
    before = machine.changes()
    answer = machine.run(CERT_REFRESH.enforce)
    assert (answer.code, answer.values["changed"]) == (100, "no")
    assert machine.changes() == before
    record = (machine.root / "var/lib/logmend/workload-cert-refresh.state").read_text()
    assert "UnitFileState=enabled" in record


def test_the_first_record_wins(machine: Machine) -> None:
    """A timer that came back by itself is turned off again, but what it was before us stays on record."""
    machine.unit(TIMER, enabled="disabled", active="active")
    machine.run(CERT_REFRESH.enforce)
    machine.unit(TIMER, enabled="enabled", active="active")
    machine.run(CERT_REFRESH.enforce)
    machine.run(CERT_REFRESH.revert_enforce)
    assert machine.state() == ("disabled", "active")


def test_enforcements_wait_for_one_another(machine: Machine) -> None:
    """Eight at once change the machine exactly once."""
    running = [machine.start(CERT_REFRESH.enforce) for _ in range(8)]
    answers = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [100] * 8
    assert sum("changed=yes" in out for out, _ in answers) == 1
    assert machine.changes() == [f"systemctl disable --now {TIMER}"]


def test_a_failing_disable_is_an_error(machine: Machine) -> None:
    """What systemctl said is on stderr, and the script does not claim success."""
    machine.put("fail/systemctl-disable", "Failed to disable unit: Read-only file system\n")
    answer = machine.run(CERT_REFRESH.enforce)
    assert answer.code not in (100, 101, 102)
    assert "Read-only file system" in answer.error
    assert machine.state() == ("enabled", "active")


def test_nothing_is_changed_where_the_record_cannot_be_kept(machine: Machine) -> None:
    """A /var that takes no directory: an error with its text, and the timer untouched."""
    (machine.root / "var").write_text("a file stands in the way")
    answer = machine.run(CERT_REFRESH.enforce)
    assert answer.code not in (100, 101, 102)
    assert "var" in answer.error
    assert machine.state() == ("enabled", "active")


@pytest.mark.parametrize(
    ("enabled", "active"), [("enabled", "active"), ("disabled", "active"), ("enabled", "inactive")]
)
def test_revert_restores_what_was_before(machine: Machine, enabled: str, active: str) -> None:
    """A timer that was disabled before us stays disabled; one that ran runs again."""
    machine.unit(TIMER, enabled=enabled, active=active)
    machine.run(CERT_REFRESH.enforce)
    before = machine.run(CERT_REFRESH.revert_validate)
    assert (before.code, before.values["was_enabled"], before.values["was_active"]) == (101, enabled, active)
    assert before.values["instance_id"] == "4775836342981993096"
    assert machine.run(CERT_REFRESH.revert_enforce).code == 100
    assert machine.state() == (enabled, active)
    after = machine.run(CERT_REFRESH.revert_validate)
    assert (after.code, after.values["reverted"]) == (100, "yes")


def test_revert_refuses_without_a_record(machine: Machine) -> None:
    """What logmend did not do it cannot undo."""
    for script in (CERT_REFRESH.revert_validate, CERT_REFRESH.revert_enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "no_previous_state")
    assert machine.changes() == []
    assert not machine.has("var")


def test_revert_leaves_a_mask_alone(machine: Machine) -> None:
    """A mask put there by someone else is refused, not removed."""
    machine.run(CERT_REFRESH.enforce)
    machine.unit(TIMER, enabled="masked", active="inactive")
    for script in (CERT_REFRESH.revert_validate, CERT_REFRESH.revert_enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "masked_by_others")
    assert machine.state() == ("masked", "inactive")


def test_revert_of_a_unit_that_is_gone_is_left_alone(machine: Machine) -> None:
    """The agent was upgraded or removed meanwhile: there is no timer to give back."""
    machine.run(CERT_REFRESH.enforce)
    shutil.rmtree(machine.root / "pretend/units" / TIMER)
    for script in (CERT_REFRESH.revert_validate, CERT_REFRESH.revert_enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "unit_absent")


def test_a_revert_is_marked_and_the_next_enforcement_records_anew(machine: Machine) -> None:
    """After a revert the record is spent: what the machine is then counts for the next time."""
    machine.run(CERT_REFRESH.enforce)
    machine.run(CERT_REFRESH.revert_enforce)
    assert machine.run(CERT_REFRESH.revert_enforce).values["changed"] == "no"
    machine.unit(TIMER, enabled="disabled", active="active")
    machine.run(CERT_REFRESH.enforce)
    machine.run(CERT_REFRESH.revert_enforce)
    assert machine.state() == ("disabled", "active")


def test_a_restored_timer_is_not_taken_from_its_owner_again(machine: Machine) -> None:
    """After the revert the owner turns it off: reverting again finds nothing of ours to undo."""
    machine.run(CERT_REFRESH.enforce)
    machine.run(CERT_REFRESH.revert_enforce)
    machine.unit(TIMER, enabled="disabled", active="inactive")
    assert machine.run(CERT_REFRESH.revert_validate).code == 100
    assert machine.run(CERT_REFRESH.revert_enforce).values["changed"] == "no"
    assert machine.state() == ("disabled", "inactive")


def test_a_failing_revert_keeps_its_record(machine: Machine) -> None:
    """An enable that fails is an error, and can be tried again."""
    machine.run(CERT_REFRESH.enforce)
    machine.put("fail/systemctl-enable", "Failed to enable unit: Read-only file system\n")
    assert machine.run(CERT_REFRESH.revert_enforce).code not in (100, 101, 102)
    (machine.root / "pretend/fail/systemctl-enable").unlink()
    assert machine.run(CERT_REFRESH.revert_enforce).code == 100
    assert machine.state() == ("enabled", "active")
