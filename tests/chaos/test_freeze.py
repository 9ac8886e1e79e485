"""Freezing in a storm stops enforcement; resuming goes on; nothing was lost in between."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.arena import arena, until
from tests.chaos.conftest import Report
from tests.chaos.test_commit import PATIENT
from tests.emulators import Emulator

from logmend.ledger import Controls
from logmend.model.state import By, Freeze


async def test_a_freeze_in_a_storm_stops_enforcement_and_loses_nothing(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Two processes, lines and one-shot incidents; whoever had not committed by then waits."""
    async with (
        arena(tmp_path, firestore) as stage,
        stage.function(**PATIENT),  # what was committed to is finished, however busy the host
        stage.function(**PATIENT) as function,
    ):
        held_back = 0
        for _ in range(rounds):
            machines = await stage.fleet.add(12)
            lines, alerted = machines[:6], machines[6:]
            await stage.tell(lines[:3])
            await stage.tell(alerted[:3], incidents=True)
            await until(lambda: any(machine.changes() for machine in machines))  # noqa: B023
            controls = Controls(stage.store)
            await controls.freeze(Freeze("sre", datetime.now(UTC), "storm"))
            committed = await stage.committed()
            await stage.tell(lines[3:])  # the storm goes on
            await stage.tell(alerted[3:], incidents=True)
            await asyncio.sleep(8)
            ids = {each.instance.instance_id: each for each in machines}
            changed = {number for number, machine in ids.items() if machine.changes()}
            assert changed <= committed == await stage.committed(), "nobody commits in a freeze"
            assert len(changed) < len(machines), "what came in the freeze waits"
            await controls.resume(By("sre", datetime.now(UTC)))
            await stage.settle(function)
            held_back += len(machines) - len(changed)
            again = [machine for machine in lines if machine.instance.instance_id not in changed]
            await stage.tell(again)  # what repeats is said again
            await stage.settle(function)
            assert {machine.timer() for machine in machines} == {"disabled inactive"}
        report("frozen in a storm, and resumed", stage, held_back)
        assert await stage.left_in_ledger() == []
