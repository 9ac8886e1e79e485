"""The runbooks' real scripts, run by every shell that VMs have, on pretend machines."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs

from logmend import runbook
from logmend.model.struct import replace
from logmend_cli import pretend

PRETEND = Path(pretend.__file__).parent
METADATA = "169.254.169.254/computeMetadata/v1/instance"
CONFIG_STATUS = f"http/{METADATA}/gce-workload-certificates/config-status"
OPT_IN = f"http/{METADATA}/attributes/enable-workload-certificate"
TIMER = "gce-workload-cert-refresh.timer"
DISABLED = [f"systemctl disable -q --{how} {TIMER}" for how in ("runtime --no-reload", "now")]
CERT_REFRESH = runbook.load(runbook.BUILT_IN / "workload-cert-refresh").scripts
OPS_AGENT = runbook.load(runbook.BUILT_IN / "ops-agent", {"settle": "0"}).scripts
OPS_AGENT_WHY = runbook.load(runbook.BUILT_IN / "ops-agent").scripts.diagnose
LIST = "google-cloud-ops-agent.list"
INSTALLER = "http/dl.google.com/cloudagents/add-google-cloud-ops-agent-repo.sh"
NAME = "google-cloud-ops-agent"
AGENT = f"{NAME}.service"
PARTS = tuple(f"{NAME}-{each}.service" for each in ("fluent-bit", "opentelemetry-collector"))
UNIT = "logmend-ops-agent.service"
ONE_SHELL = pytest.mark.parametrize("machine", ["dash"], indirect=True)
OS_CONFIG = runbook.load(runbook.BUILT_IN / "os-config-agent", {"settle": "0"}).scripts
OS_CONFIG_UNIT = "google-osconfig-agent.service"
LOG_DISK = runbook.load(runbook.BUILT_IN / "agent-log-disk", {"megabytes": "1"}).scripts
SELF_LOG = "var/log/google-cloud-ops-agent/subagents/logging-module.log"


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

    def start(self, script: str, *mark: str) -> "subprocess.Popen[str]":
        """Start a script from a file, as the agent of OS Config does; that gives it no mark."""
        file = self.root / f"script-{abs(hash(script))}.sh"
        if not file.exists():
            file.write_text(script)
        return subprocess.Popen(
            [*self.shell, str(file), *mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": self.path, "LOGMEND_ROOT": str(self.root)},
        )

    def run(self, script: str, *mark: str) -> Said:
        with self.start(script, *mark) as process:
            out, error = process.communicate(timeout=150)
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
    "unit": "loaded",
    "timer_enabled": "enabled",
    "timer_active": "active",
    "config_status": "404",
    "opt_in": "404",
    "instance_id": "4775836342981993096",
}
MARK = "0123456789abcdef0123456789abcdef"


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
    assert (answer.code, answer.values["unit"]) == (100, "not-found")
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


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("200", "certificates_in_use"),
        ("412", "certificates_in_use"),
        ("403", "config_status_unknown"),
        ("503", "config_status_unknown"),
    ],
)
def test_only_a_live_404_allows_acting(machine: Machine, status: str, reason: str) -> None:
    """In the check and under enforcement's lock; what is no answer about certificates is not called one."""
    machine.put(CONFIG_STATUS, '{"partnerMetadataConfigsErrors": {}}')
    machine.put(f"{CONFIG_STATUS}.status", status)
    answer = machine.run(CERT_REFRESH.validate)
    assert (answer.code, answer.values["reason"]) == (102, reason)
    assert answer.values["config_status"] == status
    assert answer.values["instance_id"] == "4775836342981993096"
    assert machine.run(CERT_REFRESH.enforce).values["reason"] == reason
    assert machine.state() == ("enabled", "active")
    assert machine.changes() == []


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        ("true", "200", "opted_in"),
        ("TRUE", "200", "opted_in"),
        ("True\n", "200", "opted_in"),
        ("not true", "200", "opted_in"),
        ("", "503", "config_status_unknown"),
        ("", "403", "config_status_unknown"),
        ("", "302", "config_status_unknown"),
    ],
)
def test_a_machine_whose_own_metadata_opts_in_or_cannot_tell_is_left_alone(
    machine: Machine, value: str, status: str, reason: str
) -> None:
    """The machine's own metadata server has the last word, in the check and under enforcement's lock."""
    machine.put(OPT_IN, value)
    machine.put(f"{OPT_IN}.status", status)
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, reason)
    assert machine.state() == ("enabled", "active")
    assert machine.changes() == []


@pytest.mark.parametrize("value", ["false", "FALSE", "0", "", "no way"])
def test_a_machine_whose_owner_said_no_is_mended(machine: Machine, value: str) -> None:
    """An attribute that does not say true opts in to nothing; of several words it is not sure."""
    machine.put(OPT_IN, value)
    expected = (102, 102) if " " in value else (101, 100)
    check, change = machine.run(CERT_REFRESH.validate), machine.run(CERT_REFRESH.enforce)
    assert (check.code, change.code if check.code == 101 else 102) == expected


def test_a_certificate_behind_the_link_means_certificates_are_in_use(machine: Machine) -> None:
    """Whatever the metadata server says. The link alone proves nothing: a single 503 leaves one behind."""
    contents = machine.root / "run/secrets/workload-spiffe-contents-2026-03-01T12:00:00Z"
    contents.mkdir(parents=True)
    (contents / "config_status").write_text("{}")
    (contents.parent / "workload-spiffe-credentials").symlink_to(contents)
    assert machine.run(CERT_REFRESH.validate).code == 101
    for name in ("ca_certificates.pem", "certificates.pem", "private_key.pem"):
        (contents / name).write_text("-----BEGIN")
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "certificates_in_use")
    assert machine.changes() == []


def test_a_silent_metadata_server_means_unknown(machine: Machine) -> None:
    """Without an answer nobody knows whether certificates are in use: leave alone."""
    machine.put("http/169.254.169.254.down", "")
    for script in (CERT_REFRESH.validate, CERT_REFRESH.enforce):
        answer = machine.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "config_status_unknown")
    assert machine.changes() == []


@pytest.mark.parametrize(
    "path",
    [
        f"/etc/systemd/system/{TIMER}",
        f"/opt/agent/{TIMER}",
        "/usr/lib/systemd/system/another.timer",
        f"/run/systemd/system/{TIMER}",
    ],
)
def test_what_disabling_would_delete_is_not_enforced(machine: Machine, path: str) -> None:
    """A unit that is linked, an alias or a copy is left alone, where it would have to be disabled."""
    machine.put(f"units/{TIMER}/path", path)
    answer = machine.run(CERT_REFRESH.enforce)
    assert (answer.code, answer.values["reason"]) == (102, "irreversible")
    assert machine.changes() == []
    machine.unit(TIMER, enabled="disabled", active="active")
    assert machine.run(CERT_REFRESH.enforce).values["changed"] == "yes", "stopping deletes nothing"


@pytest.mark.parametrize("enabled", ["static", "generated"])
def test_a_unit_that_cannot_be_disabled_is_stopped(machine: Machine, enabled: str) -> None:
    """That lasts until the machine boots; reverting starts it again."""
    machine.unit(TIMER, enabled=enabled, active="active")
    assert machine.run(CERT_REFRESH.enforce).values["changed"] == "yes"
    assert machine.state() == (enabled, "inactive")
    assert machine.run(CERT_REFRESH.validate).code == 100
    assert machine.run(CERT_REFRESH.revert_enforce).code == 100
    assert machine.state() == (enabled, "active")


def test_a_timer_enabled_until_the_next_boot_is_disabled_and_given_back_as_that(machine: Machine) -> None:
    """`enabled-runtime` takes --runtime, both ways."""
    machine.unit(TIMER, enabled="enabled-runtime", active="active")
    assert machine.run(CERT_REFRESH.enforce).code == 100
    assert machine.state() == ("disabled", "inactive")
    assert machine.run(CERT_REFRESH.validate).code == 100
    assert machine.run(CERT_REFRESH.revert_enforce).code == 100
    assert machine.state() == ("enabled-runtime", "active")


def test_what_changes_a_machine_leaves_the_mark_it_was_given(machine: Machine) -> None:
    """Only what changed something leaves it, and the check shows it: of enforcing, then of the revert."""
    other = MARK[::-1]
    assert "mark" not in machine.run(CERT_REFRESH.validate).values
    machine.run(CERT_REFRESH.enforce, MARK)
    assert machine.run(CERT_REFRESH.validate).values["mark"] == MARK
    assert machine.run(CERT_REFRESH.enforce, other).values["changed"] == "no"
    assert machine.run(CERT_REFRESH.revert_validate).values["mark"] == MARK
    machine.run(CERT_REFRESH.revert_enforce, other)
    assert machine.run(CERT_REFRESH.revert_validate).values["mark"] == other
    assert machine.run(CERT_REFRESH.validate).values["mark"] == other


def test_a_machine_without_curl_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    """No curl, no live 404, no action."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for command in ("timeout", "flock", "sed", "cat", "tee", "ls", "mkdir", "mv", "rm", "tr"):
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


def test_a_systemd_that_does_not_answer_is_told_as_such(machine: Machine) -> None:
    """No state read, no verdict: a no with its own reason, of enforcing an error; its words on stderr."""
    machine.put("fail/systemctl", "Failed to connect to bus: No such file or directory\n")
    for script in (CERT_REFRESH.validate, CERT_REFRESH.revert_validate, OPS_AGENT.validate):
        answer = machine.run(script)
        assert (answer.code, answer.values.get("reason")) == (102, "systemd_silent")
        assert "Failed to connect to bus" in answer.error
    for script in (CERT_REFRESH.enforce, OPS_AGENT.enforce):
        answer = machine.run(script)
        assert answer.code not in (100, 101, 102)
        assert "Failed to connect to bus" in answer.error


def test_enforcement_turns_the_timer_off_and_keeps_what_was(machine: Machine) -> None:
    """Disabled for good and for this boot, the state before on record, what OS Config reports in its file."""
    answer = machine.run(CERT_REFRESH.enforce)
    assert (answer.code, answer.values["changed"]) == (100, "yes")
    assert machine.state() == ("disabled", "inactive")
    assert machine.changes() == DISABLED
    record = machine.root / "var/lib/logmend/workload-cert-refresh.state"
    assert {"UnitFileState=enabled", "ActiveState=active"} <= set(record.read_text().splitlines())
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
    answers = [process.communicate(timeout=150) for process in running]
    assert [process.returncode for process in running] == [100] * 8
    assert sum("changed=yes" in out for out, _ in answers) == 1
    assert machine.changes() == DISABLED


def test_the_fallbacks_stand_in_for_flock_and_timeout(machine: Machine) -> None:
    """Where a computer has neither, the pretend machines' own keep enforcements apart and bound commands."""
    poor = Machine(machine.root, machine.shell, f"{PRETEND / 'fallback'}:{machine.path}")
    running = [poor.start(CERT_REFRESH.enforce) for _ in range(4)]
    answers = [process.communicate(timeout=150) for process in running]
    assert [process.returncode for process in running] == [100] * 4
    assert sum("changed=yes" in out for out, _ in answers) == 1
    (machine.root / "pretend/http/169.254.169.254.hang").write_text("")
    assert poor.run("timeout 1 curl -s 169.254.169.254/; exit $?").code == 124


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


# The Ops Agent


@pytest.fixture
def bare(machine: Machine) -> Machine:
    """Make a machine without the Ops Agent, that can download the stand-in installer."""
    machine.put(INSTALLER, (PRETEND / "http/add-google-cloud-ops-agent-repo.sh").read_text())
    return machine


def settled(machine: Machine) -> None:
    """Wait until the detached unit has ended."""
    for _ in range(2400):
        try:
            if machine.state(UNIT)[1] != "active":
                return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    pytest.fail("the detached unit does not end")


def installed(machine: Machine, *, enabled: str = "enabled", active: str = "active") -> None:
    machine.put("packages/google-cloud-ops-agent", "installed\n")
    machine.unit(AGENT, enabled=enabled, active=active)
    machine.put(f"units/{AGENT}/parts", "\n".join(PARTS))
    for part in PARTS:
        machine.unit(part, enabled="static", active=active)


def test_a_missing_agent_is_installed_detached_and_closed_later(bare: Machine) -> None:
    """101, handed to a unit of its own, and 100 once that unit is through."""
    before = bare.run(OPS_AGENT.validate)
    assert (before.code, before.values["package"]) == (101, "absent")
    assert before.values["instance_id"] == "4775836342981993096"
    answer = bare.run(OPS_AGENT.enforce)
    assert (answer.code, answer.values["changed"]) == (100, "yes")
    settled(bare)
    after = bare.run(OPS_AGENT.validate)
    assert (after.code, after.values["package"], after.values["service"]) == (100, "installed", "active")
    assert "succeeded (latest)" in (bare.root / "var/lib/logmend/ops-agent.log").read_text()
    assert not bare.has("var/lib/logmend/ops-agent.sh"), "the installer does not stay"


def test_a_pinned_version_reaches_the_installer(bare: Machine) -> None:
    """The operator's version is rendered into the script, stars and all."""
    pinned = runbook.load(runbook.BUILT_IN / "ops-agent", {"version": "2.*.*", "settle": "0"}).scripts
    bare.run(pinned.enforce)
    settled(bare)
    assert "succeeded (2.*.*)" in (bare.root / "var/lib/logmend/ops-agent.log").read_text()


def test_a_running_agent_is_left_as_it_is(bare: Machine) -> None:
    """Nothing is upgraded, restarted or recorded."""
    installed(bare)
    assert bare.run(OPS_AGENT.validate).code == 100
    assert bare.run(OPS_AGENT.enforce).values["changed"] == "no"
    assert bare.changes() == []
    assert not bare.has("var/lib/logmend/ops-agent.state")


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_an_installed_agent_that_is_stopped_is_started(bare: Machine, active: str) -> None:
    """Without the installer: an installed version is never changed."""
    installed(bare, enabled="disabled", active=active)
    before = bare.run(OPS_AGENT.validate)
    assert (before.code, before.values["package"], before.values["service"]) == (101, "installed", active)
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    assert bare.run(OPS_AGENT.validate).code == 100
    assert bare.state(AGENT) == ("enabled", "active")
    assert not [call for call in bare.calls if call.startswith("apt-get")]


def test_somebody_elses_half_configured_package_is_nothing_to_an_agent_that_is_only_stopped(
    bare: Machine,
) -> None:
    """Configuring it runs its owner's scripts, and its failure would keep the agent down."""
    installed(bare, active="inactive")
    bare.put("packages/somebody-elses", "half-configured\n")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    assert bare.run(OPS_AGENT.validate).code == 100
    assert (bare.root / "pretend/packages/somebody-elses").read_text() == "half-configured\n"


def test_a_start_that_hangs_is_given_up_and_said(bare: Machine) -> None:
    """No start of a oneshot is bounded by systemd: the next attempt would find this one at work for ever."""
    installed(bare, active="inactive")
    (bare.root / "pretend/fail").mkdir()
    os.mkfifo(bare.root / "pretend/fail/systemctl-restart")  # whoever reads it waits
    bare.run(OPS_AGENT.enforce.replace("timeout 300", "timeout 1"))
    settled(bare)
    after = bare.run(OPS_AGENT.validate)
    assert (after.code, after.values["reason"]) == (1, "still_faulty")


@ONE_SHELL
@pytest.mark.parametrize("silent", ["systemctl cat", "dpkg -s"])
def test_what_does_not_answer_is_not_taken_for_an_agent_that_is_missing(
    bare: Machine, tmp_path: Path, silent: str
) -> None:
    """An installed version is never changed, nor a package of others configured, because a VM is slow."""
    installed(bare, active="inactive")
    program, verb = silent.split()
    real = shutil.which(program, path=bare.path)
    machine = replaced(bare, tmp_path, program, f'[ "$1" = {verb} ] && exec sleep 60\nexec {real} "$@"')
    machine.run(OPS_AGENT.enforce.replace(f"timeout 30 {silent}", f"timeout 1 {silent}"))
    settled(bare)
    assert not [call for call in bare.calls if call.startswith(("curl", "apt-get", "dpkg --configure"))]
    assert f"error: {program} does not answer" in bare.run(OPS_AGENT.validate).error


KILLED = "Memory cgroup out of memory: Killed process 929 (fluent-bit) total-vm:1045104kB, anon-rss:511852kB"
"""The kernel's words (mm/oom_kill.c)."""


def asked(machine: Machine, tmp_path: Path, *, uid: int, kernel: str = "") -> dict[str, str]:
    """Run diagnose.sh of an installed agent as that user, up for a minute, with this in the kernel's log."""
    machine = replaced(machine, tmp_path, "id", f"echo {uid}")
    machine = replaced(machine, tmp_path, "dpkg-query", f"echo '{NAME} install ok installed'")
    machine = replaced(machine, tmp_path, "journalctl", f"case \" $* \" in *' -k '*) echo '{kernel}' ;; esac")
    (machine.root / "proc").mkdir()
    (machine.root / "proc/uptime").write_text("60.00 50.00\n")
    return machine.run(OPS_AGENT_WHY).values


def test_a_sub_agent_that_systemd_calls_killed_for_memory_is_told(bare: Machine, tmp_path: Path) -> None:
    """In its word for it, which needs no root to read (systemd, src/core/service.c: service_result_table)."""
    installed(bare)
    bare.put(f"units/{PARTS[0]}/active", "failed\n")
    bare.put(f"units/{PARTS[0]}/result", "oom-kill\n")
    assert bare.run(OPS_AGENT.validate).code == 101
    said = asked(bare, tmp_path, uid=1000)
    assert (said["cause"], said["concerns"]) == ("killed_for_memory", "owner"), said


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("kernel", [KILLED, ""])
def test_one_that_the_kernel_kills_again_and_again_is_told_while_it_runs(
    bare: Machine, tmp_path: Path, uid: int, kernel: str
) -> None:
    """Started again, it does not say what it died of: root reads the kernel's log of the last minutes."""
    installed(bare)
    bare.put(f"units/{PARTS[0]}/restarts", "7\n")
    bare.put(f"units/{PARTS[0]}/since", "50000000\n")
    said = asked(bare, tmp_path, uid=uid, kernel=kernel)
    if kernel and uid == 0:
        assert said["cause"] == "killed_for_memory", said
    else:
        assert (said["cause"], said["reason"]) == ("unknown", "not_readable" if uid else "no_cause_fits")


def test_of_several_proxies_the_way_out_is_asked_by_the_one_that_curl_would_take(
    bare: Machine, tmp_path: Path
) -> None:
    """In whatever order systemd has them: the one for https, small letters first, then the general one."""
    several = "ALL_PROXY=http://a\nHTTPS_PROXY=http://b\nall_proxy=http://c\nhttps_proxy=http://d"
    real = shutil.which("systemctl", path=bare.path)
    told = f'[ "$1" = show-environment ] && printf \'{several}\' && exit\nexec {real} "$@"'
    machine = replaced(bare, tmp_path, "systemctl", told)
    for name, text in {"etc/os-release": "ID=debian\n", "proc/locks": "", "var/lib/dpkg/status": ""}.items():
        (bare.root / name).parent.mkdir(parents=True, exist_ok=True)
        (bare.root / name).write_text(text)
    said = replaced(machine, tmp_path, "dpkg-query", "").run(OPS_AGENT_WHY)
    (asked,) = [each for each in bare.calls if "add-google-cloud-ops-agent-repo.sh" in each]
    assert " -x http://d " in asked, said


@pytest.mark.parametrize("legacy", ["stackdriver-agent", "google-fluentd"])
def test_a_legacy_agent_conflicts(bare: Machine, legacy: str) -> None:
    """Which of the two the owner wants is not for us to say."""
    bare.put(f"packages/{legacy}", "installed\n")
    answer = bare.run(OPS_AGENT.validate)
    assert (answer.code, answer.values["reason"]) == (102, "legacy_agent_present")


def test_a_removed_legacy_agents_left_over_files_do_not_matter(bare: Machine) -> None:
    """A package that dpkg only remembers is not there."""
    bare.put("packages/google-fluentd", "config-files\n")
    assert bare.run(OPS_AGENT.validate).code == 101


def test_an_installation_at_work_is_awaited_not_doubled(bare: Machine) -> None:
    """While the unit works the check says so, and another enforcement starts nothing."""
    bare.unit(UNIT, enabled="transient", active="active")
    before = bare.run(OPS_AGENT.validate)
    assert (before.code, before.values["state"]) == (101, "installing")
    assert bare.run(OPS_AGENT.enforce).values["changed"] == "no"
    assert not [call for call in bare.calls if call.startswith("systemd-run")]


def test_a_failed_installation_exits_1_with_its_reason_and_can_be_tried_again(bare: Machine) -> None:
    """The installer's last words are the error; the next enforcement starts over."""
    bare.put("fail/apt-get", "E: Unable to locate package google-cloud-ops-agent\n")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    failed = bare.run(OPS_AGENT.validate)
    assert failed.code == 1
    assert "Unable to locate package" in failed.error
    long_ago = time.time() - 16 * 60
    os.utime(bare.root / "var/lib/logmend/ops-agent.try", (long_ago, long_ago))
    assert bare.run(OPS_AGENT.validate).code == 101
    (bare.root / "pretend/fail/apt-get").unlink()
    assert bare.run(OPS_AGENT.enforce).code == 100
    settled(bare)
    assert bare.run(OPS_AGENT.validate).code == 100


def test_dnfs_words_are_told_though_the_installers_own_come_last(bare: Machine) -> None:
    """As dnf 4.14 said them of a conflict; the installer's blame the network."""
    why = " Problem: package google-cloud-ops-agent conflicts with stackdriver-agent"
    last = "installation failed.\nPlease check your network connectivity\nand see\nhttps://example.com\n"
    bare.put("fail/apt-get", f"Error: \n{why}\n  - conflicting requests\n{last}")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    assert "conflicts with stackdriver-agent" in bare.run(OPS_AGENT.validate).error


def test_an_unreachable_repository_is_named(bare: Machine) -> None:
    """A VM without a way out says so, instead of running whatever it got."""
    bare.put("http/dl.google.com.down", "")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    failed = bare.run(OPS_AGENT.validate)
    assert failed.code == 1
    assert "dl.google.com" in failed.error
    assert not [call for call in bare.calls if call.startswith("apt-get")]


def test_an_installation_that_was_cut_off_is_completed(bare: Machine) -> None:
    """A half-configured package is no agent, however active its service; the next round configures it."""
    installed(bare, active="inactive")
    bare.put("packages/google-cloud-ops-agent", "half-configured\n")
    assert bare.run(OPS_AGENT.validate).values["package"] == "absent"
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    assert bare.run(OPS_AGENT.validate).code == 100


def test_reverting_removes_what_was_installed(bare: Machine) -> None:
    """What was not there before goes, in a unit of its own; a second revert finds nothing left."""
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    assert bare.run(OPS_AGENT.revert_validate).code == 101
    assert bare.run(OPS_AGENT.revert_enforce).code == 100
    settled(bare)
    after = bare.run(OPS_AGENT.revert_validate)
    assert (after.code, after.values["reverted"]) == (100, "yes")
    assert bare.run(OPS_AGENT.validate).values["package"] == "absent"
    assert bare.run(OPS_AGENT.revert_enforce).values["changed"] == "no"
    assert not bare.has(f"etc/apt/sources.list.d/{LIST}"), "the repository came with us"


def test_reverting_leaves_a_repository_that_was_there_before_us(bare: Machine) -> None:
    """And one of which the record says nothing, as older records do."""
    file = bare.root / "etc/apt/sources.list.d" / LIST
    file.parent.mkdir(parents=True)
    for state in (None, "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n"):
        file.write_text("# of a fleet\n")
        bare.run(OPS_AGENT.enforce)
        settled(bare)
        if state is not None:
            (bare.root / "var/lib/logmend/ops-agent.state").write_text(state)
        bare.run(OPS_AGENT.revert_enforce)
        settled(bare)
        assert bare.run(OPS_AGENT.revert_validate).code == 100
        assert file.exists()


def test_a_repository_left_by_a_failed_installation_is_taken_away(bare: Machine) -> None:
    """The package is absent as before, but the file is ours."""
    bare.put("fail/apt-get", "E: Unable to locate package google-cloud-ops-agent\n")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    (bare.root / "pretend/fail/apt-get").unlink()
    seen = bare.run(OPS_AGENT.revert_validate)
    assert (seen.code, seen.values["repo"]) == (101, "yes")
    bare.run(OPS_AGENT.revert_enforce)
    settled(bare)
    assert bare.run(OPS_AGENT.revert_validate).code == 100
    assert not bare.has(f"etc/apt/sources.list.d/{LIST}")


@pytest.mark.parametrize("part", PARTS)
def test_a_dead_sub_agent_under_an_active_parent_is_a_fault(bare: Machine, part: str) -> None:
    """The parent is active whatever becomes of the others; they are started again through it."""
    installed(bare)
    bare.put(f"units/{part}/active", "failed\n")
    before = bare.run(OPS_AGENT.validate)
    key = "service" + part.removeprefix("google-cloud-ops-agent").removesuffix(".service").replace("-", "_")
    assert (before.code, before.values["service"], before.values[key]) == (101, "active", "failed")
    assert bare.run(OPS_AGENT.enforce).values["changed"] == "yes"
    settled(bare)
    assert bare.run(OPS_AGENT.validate).code == 100
    assert bare.run(OPS_AGENT.revert_validate).code == 100
    assert bare.state(AGENT)[1] == "active"


def test_a_sub_agent_that_dies_again_is_still_faulty_with_its_last_lines(bare: Machine) -> None:
    """Its own words, and how systemd has it."""
    installed(bare, active="inactive")
    bare.put(f"units/{PARTS[0]}/dies", "yes\n")
    bare.put(f"units/{PARTS[0]}/journal", "[error] [config] section 'input' https://me:secret@example.com/\n")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    after = bare.run(OPS_AGENT.validate)
    assert (after.code, after.values["reason"]) == (1, "still_faulty")
    assert "section 'input' https://example.com/" in after.error
    assert "ActiveState=failed" in after.error


@pytest.mark.parametrize(("ago", "code"), [(20, 101), (200, 100)])
def test_a_sub_agent_that_systemd_started_again_counts_once_it_stays_up(
    bare: Machine, ago: int, code: int
) -> None:
    """One that dies every minute is active whenever one looks."""
    installed(bare)
    (bare.root / "proc").mkdir()
    (bare.root / "proc/uptime").write_text("5000.25 9000.00\n")
    bare.put(f"units/{PARTS[1]}/restarts", "7\n")
    bare.put(f"units/{PARTS[1]}/since", f"{(5000 - ago) * 1_000_000}\n")
    answer = bare.run(runbook.load(runbook.BUILT_IN / "ops-agent").scripts.validate)
    assert answer.code == code
    told = "active" if code == 100 else "restarting"
    assert answer.values["service_opentelemetry_collector"] == told


@pytest.mark.parametrize(("active", "code"), [("active", 100), ("failed", 101)])
def test_the_diagnostics_of_older_versions_count_where_they_are(
    bare: Machine, active: str, code: int
) -> None:
    """Gone from version 2.56 on."""
    installed(bare)
    bare.unit("google-cloud-ops-agent-diagnostics.service", enabled="enabled", active=active)
    answer = bare.run(OPS_AGENT.validate)
    assert (answer.code, answer.values["service_diagnostics"]) == (code, active)
    assert bare.run(OPS_AGENT.enforce).values["changed"] == ("no" if code == 100 else "yes")
    settled(bare)


def test_a_masked_sub_agent_is_somebodys_will(bare: Machine) -> None:
    """Who wants metrics alone masks the other."""
    installed(bare)
    bare.unit(PARTS[0], enabled="masked", active="inactive")
    answer = bare.run(OPS_AGENT.validate)
    assert (answer.code, answer.values["reason"]) == (102, "masked_by_others")


def test_an_agent_of_the_extension_manager_is_left_alone(bare: Machine) -> None:
    """By the check, and by enforcing under its lock."""
    (bare.root / "var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin").mkdir(parents=True)
    for script in (OPS_AGENT.validate, OPS_AGENT.enforce):
        answer = bare.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "managed_by_plugin")
    assert bare.changes() == []


@pytest.mark.parametrize("enabled", ["enabled", "disabled"])
def test_reverting_stops_what_was_started(bare: Machine, enabled: str) -> None:
    """An agent that the owner had installed stays installed."""
    installed(bare, enabled=enabled, active="inactive")
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    bare.run(OPS_AGENT.revert_enforce)
    settled(bare)
    assert bare.run(OPS_AGENT.revert_validate).code == 100
    assert bare.state(AGENT) == (enabled, "inactive")
    assert bare.has("pretend/packages/google-cloud-ops-agent")


def test_reverting_refuses_what_logmend_never_did(bare: Machine) -> None:
    """An agent that somebody else installed is not removed."""
    installed(bare)
    for script in (OPS_AGENT.revert_validate, OPS_AGENT.revert_enforce):
        answer = bare.run(script)
        assert (answer.code, answer.values["reason"]) == (102, "no_previous_state")
    assert bare.changes() == []


def test_a_failed_removal_exits_1_with_its_reason(bare: Machine) -> None:
    """The record stays, so that it can be tried again."""
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    bare.put("fail/apt-get", "E: Could not get lock /var/lib/dpkg/lock-frontend\n")
    bare.run(OPS_AGENT.revert_enforce)
    settled(bare)
    failed = bare.run(OPS_AGENT.revert_validate)
    assert failed.code == 1
    assert "Could not get lock" in failed.error
    assert bare.has("var/lib/logmend/ops-agent.state")


def test_nothing_is_removed_under_an_installation(bare: Machine) -> None:
    """A revert while the unit installs is an error, not a race."""
    bare.run(OPS_AGENT.enforce)
    settled(bare)
    bare.unit(UNIT, enabled="transient", active="active")
    assert bare.run(OPS_AGENT.revert_validate).values["state"] == "at_work"
    assert bare.run(OPS_AGENT.revert_enforce).code not in (100, 101, 102)
    assert bare.state(AGENT) == ("enabled", "active")


# os-config-agent and agent-log-disk


def process(machine: Machine, pid: str, comm: str, command: str, begun: int = 0) -> None:
    """Have a process in the OS Config agent's control group, begun so many seconds after the boot."""
    folder = machine.root / "proc" / pid
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(f"0::/system.slice/{OS_CONFIG_UNIT}\n")
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cmdline").write_text("".join(f"{word}\0" for word in command.split()))
    (folder / "stat").write_text(f"7 ({comm}) S {'0 ' * 18}{begun * 100} 0\n")


@pytest.fixture
def agent(machine: Machine) -> Machine:
    """Have an OS Config agent at work on a machine that has been up for a day."""
    machine.unit(OS_CONFIG_UNIT, enabled="enabled", active="active")
    (machine.root / "proc/self").mkdir(parents=True)
    (machine.root / "proc/self/cgroup").write_text("0::/system.slice/ssh.service\n")
    (machine.root / "proc/uptime").write_text("86400.00 1.00\n")
    return machine


def replaced(machine: Machine, tmp_path: Path, name: str, text: str) -> Machine:
    """Put a program of the test's own before the machine's."""
    folder = tmp_path / "own"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return replace(machine, path=f"{folder}:{machine.path}")


def test_all_that_waits_for_a_hanging_apt_get_ends_with_it(agent: Machine) -> None:
    """In one step, before the restart: an `apt-get install` that comes next never begins."""
    process(agent, "41", "apt-get", "apt-get update")
    assert agent.run(OS_CONFIG.validate).code == 101
    assert agent.run(OS_CONFIG.enforce).values["changed"] == "yes"
    assert agent.changes() == [
        f"systemctl kill -s KILL {OS_CONFIG_UNIT}",
        f"systemctl reset-failed {OS_CONFIG_UNIT}",
        f"systemctl -q restart {OS_CONFIG_UNIT}",
    ]
    assert agent.state(OS_CONFIG_UNIT)[1] == "active"


@ONE_SHELL
def test_an_agent_that_failed_is_started_and_nothing_is_killed(agent: Machine) -> None:
    """Nothing hangs, so nothing is ended."""
    agent.unit(OS_CONFIG_UNIT, enabled="enabled", active="failed")
    assert agent.run(OS_CONFIG.enforce).values["changed"] == "yes"
    assert [each for each in agent.changes() if " kill " in each] == []


@ONE_SHELL
def test_the_record_of_an_earlier_failure_does_not_outlive_a_hang(agent: Machine) -> None:
    """An agent that hung was healthy before, so a revert never stops it."""
    agent.unit(OS_CONFIG_UNIT, enabled="enabled", active="failed")
    agent.run(OS_CONFIG.enforce)
    process(agent, "41", "apt-get", "apt-get update")
    for _ in range(2):
        agent.run(OS_CONFIG.enforce)
        for script in (OS_CONFIG.revert_validate, OS_CONFIG.revert_enforce):
            answer = agent.run(script)
            assert (answer.code, answer.values.get("reason")) == (102, "no_previous_state")
        (agent.root / "var/lib/logmend/os-config-agent.reverted").write_text("ActiveState=failed\n")
    assert agent.state(OS_CONFIG_UNIT)[1] == "active"


@ONE_SHELL
def test_the_os_config_agent_does_not_stop_itself(agent: Machine) -> None:
    """A script that the agent runs would end with it: both ways are left to SSH."""
    agent.unit(OS_CONFIG_UNIT, enabled="enabled", active="failed")
    agent.run(OS_CONFIG.enforce)
    (agent.root / "proc/self/cgroup").write_text(f"0::/system.slice/{OS_CONFIG_UNIT}\n")
    for script in (OS_CONFIG.enforce, OS_CONFIG.revert_enforce):
        answer = agent.run(script)
        assert (answer.code, answer.values) == (102, {"reason": "needs_ssh"})
    assert agent.state(OS_CONFIG_UNIT)[1] == "active"


@ONE_SHELL
def test_a_revert_does_not_end_a_dpkg(agent: Machine) -> None:
    """To stop the agent would end a patch job's dpkg half-way."""
    agent.unit(OS_CONFIG_UNIT, enabled="enabled", active="failed")
    agent.run(OS_CONFIG.enforce)
    process(agent, "42", "dpkg", "dpkg --configure -a")
    answer = agent.run(OS_CONFIG.revert_enforce)
    assert (answer.code, answer.values["reason"]) == (102, "dpkg_at_work")
    assert agent.state(OS_CONFIG_UNIT)[1] == "active"


@ONE_SHELL
@pytest.mark.parametrize(
    ("command", "begun", "code"),
    [
        ("apt-get update", 0, 101),
        ("/usr/bin/apt-get -q update -o x=y", 0, 101),
        ("apt-get update", 86000, 100),
        ("apt-get install -y update-notifier-common", 0, 100),
        ("apt-get install -y software-updates", 0, 100),
    ],
)
def test_only_an_update_that_is_old_hangs(agent: Machine, command: str, begun: int, code: int) -> None:
    """A package whose name begins like it is no update."""
    process(agent, "41", "apt-get", command, begun)
    assert agent.run(OS_CONFIG.validate).code == code
    assert agent.run(OS_CONFIG.enforce).values["changed"] == ("yes" if code == 101 else "no")


@ONE_SHELL
def test_a_process_that_ends_while_it_is_looked_at_hangs_no_more(agent: Machine) -> None:
    """It has no age any more; that is no error."""
    process(agent, "41", "apt-get", "apt-get update")
    (agent.root / "proc/41/stat").unlink()
    for script in (OS_CONFIG.validate, OS_CONFIG.enforce):
        assert agent.run(script).code == 100
    assert agent.changes() == []


@pytest.fixture
def full(machine: Machine, tmp_path: Path) -> Machine:
    """Have a log of two megabytes on a disk that it has filled."""
    log = machine.root / SELF_LOG
    log.parent.mkdir(parents=True)
    log.write_bytes(b"a line of a log\n" * 131072)
    return replaced(machine, tmp_path, "df", "echo 'x 9 9 0 100% /'")


def test_the_log_that_has_filled_the_disk_is_cut(full: Machine) -> None:
    """Its last megabyte is kept for root."""
    assert full.run(LOG_DISK.validate).code == 101
    answer = full.run(LOG_DISK.enforce, MARK)
    assert (answer.code, answer.values.get("changed")) == (100, "yes"), answer.error
    assert (full.root / SELF_LOG).stat().st_size == 0
    kept = full.root / "var/lib/logmend/agent-log-disk.tail"
    assert (kept.stat().st_size, kept.stat().st_mode & 0o777) == (1048576, 0o600)
    assert full.run(LOG_DISK.validate).values["mark"] == MARK


def test_a_link_that_is_put_in_its_place_meanwhile_is_not_followed(full: Machine, tmp_path: Path) -> None:
    """What was judged is what is cut, whatever the path has become."""
    victim, log = tmp_path / "victim", full.root / SELF_LOG
    victim.write_text("of somebody else")
    swap = f"mv '{log}' '{log}.1'; ln -s '{victim}' '{log}'; exec {shutil.which('tail')} \"$@\""
    answer = replaced(full, tmp_path, "tail", swap).run(LOG_DISK.enforce)
    assert answer.values["changed"] == "yes", answer.error
    assert victim.read_text() == "of somebody else"
    assert log.with_name(f"{log.name}.1").stat().st_size == 0


def test_a_link_that_is_there_when_it_is_opened_is_not_followed(full: Machine, tmp_path: Path) -> None:
    """Put there after the path was looked at, and of a size that would be cut: it is known by its name."""
    victim, log = tmp_path / "victim", full.root / SELF_LOG
    log.rename(victim)
    log.symlink_to(victim)
    unguarded = LOG_DISK.enforce.replace(" && [ ! -L $l ]", "")
    assert unguarded != LOG_DISK.enforce
    for script in (LOG_DISK.enforce, unguarded):
        answer = full.run(script)
        assert (answer.code, answer.values.get("reason")) == (102, "other_cause"), answer.error
    assert victim.stat().st_size == 2097152


def test_a_disk_without_inodes_is_full_and_not_of_the_log(full: Machine, tmp_path: Path) -> None:
    """The kernel says the same of both; no log's size has to do with it."""
    text = 'case $* in -Pi*) echo "x 9 9 0 100% /" ;; *) echo "x 9 1 8 11% /" ;; esac'
    inodes = replaced(full, tmp_path, "df", text)
    answer = inodes.run(LOG_DISK.validate)
    assert (answer.code, answer.values["full"], answer.values["reason"]) == (102, "yes", "other_cause")
    assert inodes.run(LOG_DISK.enforce).values["changed"] == "no"
