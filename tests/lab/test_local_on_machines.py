"""``--local`` on real machines: the command itself runs in there, and its word is what the machine shows."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tests.lab import lend
from tests.lab.cloud import until
from tests.lab.conftest import Boot
from tests.lab.disk import Shell
from tests.lab.machines import Machine, TimerState

ON = TimerState("loaded", "enabled", "active")
OFF = TimerState("loaded", "disabled", "inactive")
ENFORCE = ("--enforce", "--labels-unchecked", "--yes")
TIMER = "gce-workload-cert-refresh.timer"
PLUGIN = "/var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin"


MACHINES: tuple[tuple[Shell, str], ...] = (("dash", "bookworm"), ("bash", "trixie"), ("busybox", "bookworm"))


async def test_it_remediates_and_diagnoses_where_one_sits(boot: Boot) -> None:
    """Under each shell that ``sh`` may be; root looks as nobody, and metadata that says off binds it too."""
    machines: list[Machine] = await asyncio.gather(
        *(boot(shell=shell, release=release) for shell, release in MACHINES)
    )
    await asyncio.gather(*map(_through, machines))
    exempt = machines[0]
    await exempt.output(f"systemctl enable --now {TIMER}")
    exempt.metadata.attributes["instance/attributes/logmend"] = "off"
    (said,) = await _logmend(exempt, lend.COMMAND, "run", *ENFORCE)
    assert (said["result"], said["reason"]) == ("refused", "exempt")
    assert await exempt.timer_state() == ON


async def _through(machine: Machine) -> None:
    command = lend.this(machine)
    (said,) = await _logmend(machine, command, "run", *ENFORCE)
    assert (said["result"], said["notes"][0][:16]) == ("remediated", "labels unchecked"), said
    assert said["instance"]["instance_id"] == machine.ref.instance_id
    assert await machine.timer_state() == OFF

    async def written() -> bool:
        noted[:] = [each["MESSAGE"] for each in await machine.journal("SYSLOG_IDENTIFIER=logmend")]
        return len(noted) >= 2

    noted: list[str] = []
    await until(written)
    assert [each.rpartition(": ")[2] for each in noted] == ["begins", "remediated"]
    assert all(f"{said['runbook_digest']} for {said['requested_by']}: " in each for each in noted)
    await machine.output(f"mkdir -p {PLUGIN}")
    (told,) = (await _logmend(machine, command, "diagnose"))["instances"]
    assert (told["cause"], told["instance"]["zone"]) == ("managed_by_plugin", machine.ref.zone)
    assert "not_readable without root" in told["evidence"][-1], "root looked as nobody"


async def _logmend(machine: Machine, command: Sequence[str], *words: str) -> Any:
    """Run the command in there, as root; gives its JSON."""
    ran = await machine.run([*command, *words, "--local", "--format", "json"], timeout=300)
    assert ran.out, ran.err
    return json.loads(ran.out)
