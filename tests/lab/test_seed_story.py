"""Whether the failing timer keeps the Ops Agent out: the story that the project started from, with a control.

It is said that the error blocks installations of the Ops Agent. Here machines with the fault get a stand-in
for the agent's package (``agent_package`` says how it resembles the real one), with our fix and without,
while the timer fires twice a second. What the fix changes is asserted, and so is what it does not change. The
table that the test prints (``pytest -s``) is the one in docs/seed-story.md.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.lab import agent_package
from tests.lab.cloud import cloud, id_of, line, until_off
from tests.lab.conftest import Boot
from tests.lab.disk import SERVICE
from tests.lab.machines import Machine

PERIODS = 4
HEADING = (
    "| machine | the agent installs and runs | lines of the program per period | lines of systemd about it "
    "| old lines in syslog | system |\n|---|---|---|---|---|---|"
)
FAILS = {f"/etc/systemd/system/{SERVICE}.d/lab-fails.conf": "[Service]\nExecStart=/bin/false\n"}
"""The real program complains and ends well; with this its unit fails outright each time."""
INSTALLED = {"package": "install ok installed", "active": "active", "enabled": "enabled"}


@dataclass(frozen=True, slots=True)
class Told:
    """What one machine tells: of the installation, and what each period adds to its journal afterwards."""

    installed: bool
    said: int
    by_systemd: int
    old_lines: int
    system: str

    def row(self, name: str) -> str:
        """Give the line of the table."""
        return (
            f"| {name} | {'yes' if self.installed else 'no'} | {self.said} | {self.by_systemd} "
            f"| {'still there' if self.old_lines else 'gone'} | {self.system} |"
        )


async def _per_run(machine: Machine, *, fixed: bool) -> tuple[int, int]:
    """Count what each run from now on adds to the journal: the program's lines, systemd's about its unit."""

    async def entries() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        program, about = await asyncio.gather(
            machine.journal("SYSLOG_IDENTIFIER=gce_workload_cert_refresh"), machine.journal(f"UNIT={SERVICE}")
        )
        return program, about

    before = await entries()
    if fixed:
        await machine.starts_in(periods=PERIODS)
    else:
        for _ in range(PERIODS):
            await machine.starts_again()
    after = await entries()
    # By process: what journald looks up about one that has ended meanwhile may be missing.
    said = Counter(each["_PID"] for each in after[0][len(before[0]) :])
    about = Counter(each["INVOCATION_ID"] for each in after[1][len(before[1]) :])
    # The median: the first and the last run may have been seen in part.
    return int(median(said.values() or [0])), int(median(about.values() or [0]))


async def _system(machine: Machine) -> str:
    """Say ``degraded`` where a unit stands as failed at any moment of a period, else ``running``."""
    for _ in range(20):
        if (await machine.run("systemctl is-system-running")).out.strip() == "degraded":
            return "degraded"
        await asyncio.sleep(machine.period / 10)
    return "running"


async def _install(machine: Machine, *, fixed: bool) -> Told:
    ran = await agent_package.install(machine)
    status = await agent_package.status(machine)
    said, by_systemd = await _per_run(machine, fixed=fixed)
    lines = await machine.output("grep -c 'may not be configured' /var/log/syslog || true")
    installed = ran.rc == 0 and status == INSTALLED
    return Told(installed, said, by_systemd, int(lines), await _system(machine))


async def test_the_fix_quietens_the_journal_and_does_not_decide_whether_the_agent_installs(
    boot: Boot, tmp_path: Path
) -> None:
    """Fixed or not, complaining or failing outright: the stand-in installs and runs everywhere."""
    names = ("complains", "complains, fixed", "fails outright", "fails outright, fixed")
    machines = await asyncio.gather(
        *(boot(period=0.5, rsyslog=True, files=FAILS if "fails" in name else {}) for name in names)
    )
    story = dict(zip(names, machines, strict=True))
    fixed = [machine for name, machine in story.items() if "fixed" in name]
    async with cloud(tmp_path, *machines) as around, around.function() as function:
        for machine in machines:
            await line(machine, "ops agent, syslog receiver")
            await agent_package.build(machine)
        failures = await machines[2].journal(f"UNIT={SERVICE}", "UNIT_RESULT=exit-code")
        assert failures, "it fails as it should"
        for machine in fixed:
            assert (await function.push(await line(machine))).verdict == "remediated"

        installing = (_install(machine, fixed=machine in fixed) for machine in machines)
        told = dict(zip(names, await asyncio.gather(*installing), strict=True))

        # What the new agent would ship of the time before the fix, with fresh time stamps, has no effect.
        backlog = await line(fixed[0], "ops agent, syslog receiver")
        assert (await function.push(backlog)).verdict == "skipped: cooling_down"
        assert len(function.outcomes(message_id=id_of(backlog))) == 1
    print(f"\n{HEADING}", *(each.row(name) for name, each in told.items()), sep="\n")

    assert all(each.installed for each in told.values()), "it installs in the control as well"
    for name, each in told.items():
        if "fixed" in name:
            assert (each.said, each.by_systemd) == (0, 0)
        else:
            assert (each.said > 0, each.by_systemd > 0) == (True, True)
    assert all(each.old_lines > 0 for each in told.values()), "what was written stays written"
    # A failure of the past stays on systemd's list until somebody says reset-failed.
    assert [each.system for each in told.values()] == ["running", "running", "degraded", "degraded"]
    for name, machine in story.items():
        state = await machine.timer_state()
        assert state.enabled == ("disabled" if "fixed" in name else "enabled"), "installing left it alone"
    await asyncio.gather(*map(until_off, fixed))
