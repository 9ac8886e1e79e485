"""The ops-agent runbook's scripts on real machines: real systemd-run, dpkg and apt, a stand-in package.

The installer is fetched from a ``file:`` address, which is all that differs from what runs on a VM; the
package that it builds has the real one's name and unit, and a maintainer script that can be made to hang or
fail.
"""

import asyncio
from typing import Any

import pytest

from logmend import runbook
from logmend.model import evidence
from tests.lab.conftest import Boot
from tests.lab.machines import Machine

SCRIPTS = runbook.load(runbook.BUILT_IN / "ops-agent").scripts
STATE = "/var/lib/logmend/ops-agent"
INSTALLER = """#!/bin/bash
set -e
echo "installing with $*"
[ ! -e /opt/mirror/fails ] || { echo 'E: Unable to locate package google-cloud-ops-agent' >&2; exit 100; }
d=$(mktemp -d)
mkdir -p $d/DEBIAN $d/lib/systemd/system
cat >$d/DEBIAN/control <<END
Package: google-cloud-ops-agent
Version: 2.50.0
Architecture: all
Maintainer: lab
Description: stand-in
END
cat >$d/lib/systemd/system/google-cloud-ops-agent.service <<END
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
END
printf '#!/bin/sh\\nset -e\\n[ ! -e /opt/mirror/hangs ] || sleep 600\\n' >$d/DEBIAN/postinst
printf 'systemctl daemon-reload\\nsystemctl enable --now google-cloud-ops-agent\\n' >>$d/DEBIAN/postinst
printf '#!/bin/sh\\nsystemctl disable --now google-cloud-ops-agent\\n' >$d/DEBIAN/prerm
printf '#!/bin/sh\\nsystemctl daemon-reload\\n' >$d/DEBIAN/postrm
chmod 755 $d $d/DEBIAN/p*
dpkg-deb -b $d $d.deb >/dev/null
dpkg -i $d.deb
"""
FILES = {"/opt/mirror/add-google-cloud-ops-agent-repo.sh": INSTALLER}


async def play(machine: Machine, script: str) -> tuple[int, dict[str, str], str]:
    """Run a script inside: checks as a user, the rest as root. Exit code, evidence and complaints."""
    text = script.replace("https://dl.google.com/cloudagents", "file:///opt/mirror")
    user = "root" if "flock" in script else "nobody"
    ran = await machine.run(["sh", "-s"], stdin=text.encode(), user=user, timeout=100)
    return ran.rc, dict(evidence.values(ran.out.encode())), ran.err


async def settled(machine: Machine) -> tuple[int, dict[str, str], str]:
    """Look until the detached unit is through."""
    for _ in range(120):
        said = await play(machine, SCRIPTS.validate)
        if said[1].get("state") != "installing":
            return said
        await asyncio.sleep(0.25)
    raise AssertionError("the unit does not end")


@pytest.fixture
async def machine(boot: Boot) -> Any:
    """Boot a machine without the Ops Agent, next to a mirror with the stand-in."""
    return await boot(timer="disabled", files=FILES)


async def test_the_agent_is_installed_started_and_given_back(machine: Machine) -> None:
    """Missing, at work, running; stopped and started again; removed by revert."""
    code, seen, error = await play(machine, SCRIPTS.validate)
    assert (code, seen["package"], seen["service"]) == (101, "absent", "inactive"), error
    code, seen, error = await play(machine, SCRIPTS.enforce)
    assert (code, seen["changed"]) == (100, "yes"), error
    code, seen, error = await settled(machine)
    assert (code, seen["package"], seen["service"]) == (100, "installed", "active"), error
    assert "--also-install --version=latest" in await machine.output(f"cat {STATE}.log")
    assert (await play(machine, SCRIPTS.enforce))[1]["changed"] == "no"

    await machine.output("systemctl disable --now google-cloud-ops-agent")
    assert (await play(machine, SCRIPTS.validate))[0] == 101
    assert (await play(machine, SCRIPTS.enforce))[0] == 100
    assert (await settled(machine))[0] == 100
    assert "installing with" not in await machine.output(f"cat {STATE}.log")

    assert (await play(machine, SCRIPTS.revert_validate))[0] == 101
    assert (await play(machine, SCRIPTS.revert_enforce))[0] == 100
    for _ in range(120):
        code, seen, error = await play(machine, SCRIPTS.revert_validate)
        if code == 100:
            break
        await asyncio.sleep(0.25)
    assert (code, seen.get("reverted")) == (100, "yes"), error
    code, seen, _ = await play(machine, SCRIPTS.validate)
    assert (code, seen["package"]) == (101, "absent")


async def test_a_failed_installation_says_why_and_can_be_tried_again(machine: Machine) -> None:
    """Exit 1 with the installer's words until the deadline is over; then 101, and the next try succeeds."""
    await machine.output("touch /opt/mirror/fails")
    await play(machine, SCRIPTS.enforce)
    code, _, error = await settled(machine)
    assert code == 1
    assert "Unable to locate package" in error
    await machine.output(f"rm /opt/mirror/fails; touch -d '16 minutes ago' {STATE}.try")
    assert (await play(machine, SCRIPTS.validate))[0] == 101
    assert (await play(machine, SCRIPTS.enforce))[0] == 100
    assert (await settled(machine))[0] == 100


async def test_an_unreachable_repository_says_so(machine: Machine) -> None:
    """Nothing downloaded, nothing run."""
    await machine.output("rm -r /opt/mirror")
    await play(machine, SCRIPTS.enforce)
    code, _, error = await settled(machine)
    assert code == 1
    assert "curl:" in error


async def test_an_installation_cut_off_in_the_middle_is_completed(machine: Machine) -> None:
    """What a lost machine left half configured is no agent, and the next round configures it."""
    await machine.output("touch /opt/mirror/hangs")
    await play(machine, SCRIPTS.enforce)
    for _ in range(120):
        status = (await machine.run("dpkg -s google-cloud-ops-agent")).out
        if "half-configured" in status:
            break
        await asyncio.sleep(0.25)
    assert "half-configured" in status
    code, seen, _ = await play(machine, SCRIPTS.validate)
    assert (code, seen["state"], seen["package"]) == (101, "installing", "absent")
    assert (await play(machine, SCRIPTS.enforce))[1]["changed"] == "no"
    await machine.reset()
    await machine.output(f"rm -f /opt/mirror/hangs; touch -d '16 minutes ago' {STATE}.try")
    assert (await play(machine, SCRIPTS.validate))[0] == 101
    assert (await play(machine, SCRIPTS.enforce))[0] == 100
    code, seen, error = await settled(machine)
    assert (code, seen["package"]) == (100, "installed"), error


async def test_a_legacy_agent_is_left_alone(machine: Machine) -> None:
    """A package of that name on the machine, and the runbook keeps away."""
    built = INSTALLER.replace("google-cloud-ops-agent", "google-fluentd").replace("systemctl", "true")
    ran = await machine.run(["bash", "-s"], stdin=built.encode())
    assert ran.rc == 0, ran.err
    code, seen, _ = await play(machine, SCRIPTS.validate)
    assert (code, seen["reason"]) == (102, "legacy_agent_present")
