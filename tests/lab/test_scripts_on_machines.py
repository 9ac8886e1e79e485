"""The runbook's own scripts on real machines, over real ssh, under every shell that ``/bin/sh`` may be."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

import logmend
from logmend_cli.machine.roots import RELEASES
from tests.lab.conftest import Boot
from tests.lab.disk import CREDENTIALS, TIMER, Shell
from tests.lab.machines import Machine, TimerState

RUNBOOK = Path(logmend.__file__).parent / "runbooks" / "workload-cert-refresh"
RECORD = "/var/lib/logmend/workload-cert-refresh"
ON = TimerState("loaded", "enabled", "active")
OFF = TimerState("loaded", "disabled", "inactive")
SHELLS: tuple[Shell, ...] = ("dash", "bash", "busybox")


@dataclass(frozen=True, slots=True)
class Played:
    """What one script ended with: its exit code, its ``key=value`` lines, what it complained of."""

    code: int | None
    evidence: dict[str, str]
    complaints: str


async def play(machine: Machine, script: str, *, root: bool | None = None, mark: str = "") -> Played:
    """Pipe a script of the runbook over ssh to the machine's ``/bin/sh``; ``enforce.sh`` through sudo."""
    through_sudo = script.endswith("enforce.sh") if root is None else root
    async with machine.connect() as connection:
        shell = "sudo -n /bin/sh -s" if through_sudo else "/bin/sh -s"
        ran = await connection.run(f"{shell} {mark}", input=(RUNBOOK / script).read_text())
    pairs = (line.split("=", 1) for line in str(ran.stdout).splitlines() if "=" in line)
    return Played(ran.exit_status, dict(pairs), str(ran.stderr))


async def records(machine: Machine) -> list[str]:
    """Return the endings of the records under ``/var/lib/logmend``; lock, mark and report are none."""
    listed = (await machine.run(f"ls {RECORD}*")).out.split()
    others = (".lock", ".mark", ".new", ".out")
    return [name.removeprefix(RECORD) for name in listed if not name.endswith(others)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("release", RELEASES)
async def test_the_fault_is_seen_mended_and_given_back(boot: Boot, release: str, shell: Shell) -> None:
    """The check sees the fault, the fix ends it and leaves every unit file alone, revert undoes the fix."""
    machine = await boot(release=release, shell=shell, period=0.5)
    await machine.wait_for_line()
    files = await machine.unit_checksums()

    before = await play(machine, "validate.sh")
    assert before.code == 101, before.complaints
    assert before.evidence == {
        "unit": "loaded",
        "timer_enabled": "enabled",
        "timer_active": "active",
        "config_status": "404",
        "opt_in": "404",
        "instance_id": machine.ref.instance_id,
    }
    assert await machine.timer_state() == ON

    enforced = await play(machine, "enforce.sh")
    assert (enforced.code, enforced.evidence["changed"]) == (100, "yes"), enforced.complaints
    assert await machine.timer_state() == OFF
    said = len(await machine.lines())
    assert await machine.starts_in(periods=2) == 0
    assert len(await machine.lines()) - said <= 1, "only a run that was under way may have finished"

    after = await play(machine, "validate.sh")
    assert after.code == 100
    assert (after.evidence["timer_enabled"], after.evidence["timer_active"]) == ("disabled", "inactive")

    assert await records(machine) == [".state"]
    recorded = await machine.output(f"cat {RECORD}.state")
    assert {"UnitFileState=enabled", "ActiveState=active"} <= set(recorded.split())
    assert await machine.output(f"stat -c '%U %a' {RECORD}.state") == "root 644\n"

    again = await play(machine, "enforce.sh")
    assert (again.code, again.evidence["changed"]) == (100, "no")
    assert await machine.output(f"cat {RECORD}.state") == recorded

    await machine.reboot()
    assert await machine.timer_state() == OFF
    assert (await play(machine, "revert/validate.sh")).code == 101
    reverted = await play(machine, "revert/enforce.sh")
    assert (reverted.code, reverted.evidence["changed"]) == (100, "yes"), reverted.complaints
    assert (await play(machine, "revert/validate.sh")).code == 100
    assert await machine.timer_state() == ON
    await machine.starts_again()
    assert await records(machine) == [".reverted"]

    twice = await play(machine, "revert/enforce.sh")
    assert (twice.code, twice.evidence["changed"]) == (100, "no")
    assert await machine.unit_checksums() == files


async def test_the_first_record_stands_until_it_was_given_back(boot: Boot) -> None:
    """A fault that came back is mended without a new record; after a revert the next fix records anew."""
    machine = await boot()
    await play(machine, "enforce.sh")
    await machine.output(f"systemctl start {TIMER}")
    assert (await play(machine, "enforce.sh")).evidence["changed"] == "yes"
    assert "UnitFileState=enabled" in await machine.output(f"cat {RECORD}.state")
    assert (await play(machine, "revert/enforce.sh")).code == 100
    assert await machine.timer_state() == ON

    await machine.output(f"systemctl disable {TIMER}")
    assert (await play(machine, "enforce.sh")).evidence["changed"] == "yes"
    assert "UnitFileState=disabled" in await machine.output(f"cat {RECORD}.state")
    assert (await play(machine, "revert/enforce.sh")).code == 100
    assert await machine.timer_state() == TimerState("loaded", "disabled", "active")


async def test_a_timer_that_was_off_before_stays_off(boot: Boot) -> None:
    """There is nothing to mend or to record, and a revert refuses to turn on what we never turned off."""
    machine = await boot(timer="disabled")
    assert (await play(machine, "validate.sh")).code == 100
    enforced = await play(machine, "enforce.sh")
    assert (enforced.code, enforced.evidence["changed"]) == (100, "no")
    assert await records(machine) == []
    for script in ("revert/validate.sh", "revert/enforce.sh"):
        refused = await play(machine, script)
        assert (refused.code, refused.evidence["reason"]) == (102, "no_previous_state")
    assert await machine.timer_state() == OFF


async def test_a_running_timer_that_nobody_enabled_is_a_fault_and_is_given_back_as_it_was(boot: Boot) -> None:
    """Disabled but active, it would fire until the next boot: it is stopped, and reverted to just that."""
    machine = await boot()
    await machine.output(f"systemctl disable {TIMER}")
    assert (await play(machine, "validate.sh")).code == 101
    assert (await play(machine, "enforce.sh")).code == 100
    assert await machine.timer_state() == OFF
    assert (await play(machine, "revert/enforce.sh")).code == 100
    assert await machine.timer_state() == TimerState("loaded", "disabled", "active")


@pytest.mark.parametrize(
    ("status", "credentials", "reason"),
    [
        (200, False, "certificates_in_use"),
        (412, False, "certificates_in_use"),
        (404, True, "certificates_in_use"),
        (500, False, "config_status_unknown"),
        (None, False, "config_status_unknown"),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
async def test_a_machine_that_may_use_certificates_is_left_alone(
    boot: Boot, status: int | None, credentials: bool, reason: str, shell: Shell
) -> None:
    """Any answer but 404, silence, or a certificate on the disk: both scripts refuse and nothing changes.

    The program does not run in the meantime: where the answer is 200, it fetches a certificate.
    """
    machine = await boot(config_status=status, credentials=credentials, shell=shell, on_boot=3600.0)
    assert ((await machine.run(f"test -e {CREDENTIALS}/certificates.pem")).rc == 0) == credentials
    for refused in await asyncio.gather(play(machine, "validate.sh"), play(machine, "enforce.sh")):
        assert (refused.code, refused.evidence["reason"]) == (102, reason)
    assert await machine.timer_state() == ON
    assert await records(machine) == []


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_mask_that_somebody_put_there_is_not_ours_to_touch(boot: Boot, shell: Shell) -> None:
    """Masked by others: refused by the check, by the fix and, where we had been before, by the revert."""
    machine = await boot(timer="masked", shell=shell)
    for script in ("validate.sh", "enforce.sh"):
        refused = await play(machine, script)
        assert (refused.code, refused.evidence["reason"]) == (102, "masked_by_others")
    assert await records(machine) == []

    ours = await boot(shell=shell)
    assert (await play(ours, "enforce.sh")).code == 100
    await ours.output(f"systemctl mask {TIMER}")
    for script in ("revert/validate.sh", "revert/enforce.sh"):
        refused = await play(ours, script)
        assert (refused.code, refused.evidence["reason"]) == (102, "masked_by_others")
    assert (await ours.timer_state()).load == "masked"
    assert await records(ours) == [".state"]


@pytest.mark.parametrize("release", RELEASES)
async def test_a_machine_without_the_unit_is_as_it_should_be(boot: Boot, release: str) -> None:
    """SLES, say, does not ship the timer: there is nothing to do, and the evidence says why."""
    machine = await boot(timer="absent", release=release)
    found = await play(machine, "validate.sh")
    assert (found.code, found.evidence["unit"]) == (100, "not-found")
    assert (await play(machine, "enforce.sh")).code == 100
    assert await records(machine) == []


@pytest.mark.parametrize("shell", SHELLS)
async def test_an_enforcement_waits_for_the_one_before(boot: Boot, shell: Shell) -> None:
    """While somebody holds the lock an enforcement changes nothing; when it is free, it does its work."""
    machine = await boot(shell=shell)
    await machine.output("mkdir -p /var/lib/logmend")
    await machine.output(f"systemd-run --quiet --unit=holder flock {RECORD}.lock sleep infinity")
    await machine.output(f"while flock -n {RECORD}.lock true; do sleep 0.05; done")
    waiting = asyncio.create_task(play(machine, "enforce.sh"))
    await machine.output("until grep -sqz '^9$' /proc/[0-9]*/cmdline; do sleep 0.05; done")
    assert not waiting.done()
    assert await machine.timer_state() == ON
    assert await records(machine) == []
    await machine.output("systemctl stop holder.service")
    assert (await waiting).evidence["changed"] == "yes"
    assert await machine.timer_state() == OFF


async def test_of_many_enforcements_at_once_one_changes_something(boot: Boot) -> None:
    """Five at the same moment all report success, and exactly one of them found something to change."""
    machine = await boot()
    played = await asyncio.gather(*(play(machine, "enforce.sh") for _ in range(5)))
    assert [one.code for one in played] == [100] * 5
    assert sorted(one.evidence["changed"] for one in played) == ["no"] * 4 + ["yes"]
    assert "UnitFileState=enabled" in await machine.output(f"cat {RECORD}.state")


async def test_without_root_the_check_works_and_the_fix_changes_nothing(boot: Boot) -> None:
    """Observe mode has no sudo: it sees the fault; an enforcement without root fails and leaves no trace."""
    machine = await boot(sudo=False)
    assert (await play(machine, "validate.sh")).code == 101
    for root in (True, False):
        failed = await play(machine, "enforce.sh", root=root)
        assert failed.code not in (0, 100, 101, 102)
    assert await machine.timer_state() == ON
    assert (await machine.run("ls /var/lib/logmend")).rc != 0


async def test_evidence_names_the_machine_that_answers(boot: Boot) -> None:
    """Another VM at that address gives itself away, and what follows its number is cut off."""
    machine = await boot(timer="disabled")
    machine.metadata.attributes["instance/id"] = "666\nreason=forged"
    found = await play(machine, "validate.sh")
    assert found.evidence["instance_id"] == "666"
    assert found.evidence["reason"] == "config_status_unknown", "an answer of several words is no answer"


async def test_the_report_for_os_config_is_what_was_printed(boot: Boot) -> None:
    """The output file holds the enforcement's evidence, small enough to be reported whole."""
    machine = await boot()
    enforced = await play(machine, "enforce.sh")
    reported = await machine.output(f"cat {RECORD}.out")
    assert dict(line.split("=", 1) for line in reported.splitlines()) == enforced.evidence
    assert len(reported) < 512
