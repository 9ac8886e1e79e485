"""One script for one VM, on real machines: what it says of itself is what the machine shows."""

import asyncio
import json
from typing import Any

import pytest

from logmend import runbook
from logmend_cli.runbook import export
from tests.lab.cloud import until_given_up
from tests.lab.conftest import Boot
from tests.lab.disk import Shell
from tests.lab.machines import Machine, TimerState
from tests.lab.test_library_on_machines import given_up, interrupted

ON = TimerState("loaded", "enabled", "active")
OFF = TimerState("loaded", "disabled", "inactive")
ENFORCE = "--enforce --labels-unchecked"


async def run(
    machine: Machine, name: str, options: str = "", *, revert: bool = False
) -> tuple[int, dict[str, Any]]:
    """Run an exported script as a start-up script is run: from a file, as root. Exit status and outcome."""
    found = runbook.load(runbook.BUILT_IN / name, {"settle": "1"} if name == "google-guest-agent" else {})
    text = export.script(found, revert=revert)
    await machine.run("cat >/root/logmend.sh", stdin=text.encode())
    ran = await machine.run(f"sh /root/logmend.sh {options}", timeout=100)
    lines = ran.out.splitlines()
    said: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    assert not said or said["runbook_digest"] == found.digest
    return ran.rc, said


@pytest.mark.parametrize(
    ("shell", "release"), [("dash", "bookworm"), ("bash", "trixie"), ("busybox", "bullseye")]
)
async def test_it_looks_then_fixes_then_finds_nothing_and_gives_back(
    boot: Boot, shell: Shell, release: str
) -> None:
    """Under each shell that ``sh`` may be; without the two words nothing is changed."""
    machine: Machine = await boot(shell=shell, release=release)
    name = "workload-cert-refresh"
    code, said = await run(machine, name)
    assert (code, said["result"], said["mode"]) == (0, "planned", "observe")
    assert (said["before"]["exit_code"], said["before"]["timer_enabled"]) == (101, "enabled")
    assert said["instance"]["instance_id"] == machine.ref.instance_id
    assert (await run(machine, name, "--enforce")) == (2, {})
    assert await machine.timer_state() == ON
    assert not (await machine.run("ls -d /var/lib/logmend")).out

    code, said = await run(machine, name, ENFORCE)
    assert (code, said["result"], said["mode"]) == (0, "remediated", "enforce"), said
    assert (said["before"]["timer_active"], said["after"]["timer_active"]) == ("active", "inactive")
    assert said["notes"][0].startswith("labels unchecked")
    assert await machine.timer_state() == OFF
    assert (await run(machine, name, ENFORCE))[1]["result"] == "nothing_to_do"

    code, said = await run(machine, name, ENFORCE, revert=True)
    assert (code, said["result"]) == (0, "reverted"), said
    assert await machine.timer_state() == ON


async def test_it_leaves_alone_what_is_exempt_or_cannot_be_asked_and_whoever_is_not_root(boot: Boot) -> None:
    """Metadata of the VM, then of its project; a metadata server without an answer is a no."""
    machine: Machine = await boot()
    name = "workload-cert-refresh"
    at = machine.metadata.attributes
    at["instance/attributes/logmend"] = "off"
    code, said = await run(machine, name, ENFORCE)
    assert (code, said["result"], said["reason"]) == (3, "refused", "exempt")
    at["instance/attributes/logmend"] = "on"
    at["project/attributes/logmend"] = "off"
    assert (await run(machine, name))[1]["result"] == "planned", "the VM's own counts"
    del at["instance/attributes/logmend"]
    assert (await run(machine, name))[1]["reason"] == "exempt"
    del at["project/attributes/logmend"]

    text = export.script(runbook.load(runbook.BUILT_IN / name), revert=False)
    ran = await machine.run(["sh", "-s", "--", *ENFORCE.split()], stdin=text.encode(), user="nobody")
    assert (ran.rc, ran.out) == (2, "")
    machine.metadata.statuses["instance/attributes/logmend"] = 503
    code, said = await run(machine, name, ENFORCE)
    assert (code, said["reason"]) == (3, "facts_unknown")
    assert await machine.timer_state() == ON


async def test_what_goes_on_by_itself_is_waited_for_and_a_lock_is_not(boot: Boot) -> None:
    """The script of an image build ends when the work has; the library's runbooks are exported alike."""
    machine: Machine
    machine, other = await asyncio.gather(*(boot(timer="disabled") for _ in range(2)))
    await interrupted(machine)
    code, said = await run(machine, "dpkg-interrupted", ENFORCE)
    assert (code, said["result"]) == (0, "remediated"), said
    assert any(each.startswith("irreversible") for each in said["notes"])
    assert (await machine.run("apt-get check")).rc == 0

    await given_up(other)
    code, said = await run(other, "google-guest-agent", ENFORCE)
    # Systemd tries a few times: the second check may come before it gives up.
    assert code == 1
    assert (said["result"], said["reason"]) in {("failed", "still_faulty"), ("unverified", "busy")}
    await until_given_up(other, "google-guest-agent")
    await other.output("rm /opt/dies")
    assert (await run(other, "google-guest-agent", ENFORCE))[1]["result"] == "remediated"
