"""Freezing in a storm stops enforcement; resuming goes on; nothing was lost in between."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.arena import arena, until
from tests.chaos.conftest import Report
from tests.emulators import Emulator

from logmend.ledger import Controls
from logmend.records import Freeze

EFFECTIVE = 1.0
"""Seconds after `freeze` has returned in which a change may still begin: what had passed its commit point."""


async def test_a_freeze_in_a_storm_stops_enforcement_and_loses_nothing(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Two processes, lines and one-shot incidents; whoever had not committed by then waits."""
    async with arena(tmp_path, firestore) as stage, stage.function(), stage.function() as function:
        held_back = 0
        for _ in range(rounds):
            machines = await stage.fleet.add(12)
            await stage.tell(machines[:4])
            await stage.tell(machines[4:], incidents=True)
            await until(lambda: any(machine.changes() for machine in machines))  # noqa: B023
            controls = Controls(stage.store)
            await controls.freeze(Freeze("sre", datetime.now(UTC), "storm"))
            frozen = time.time_ns()
            await asyncio.sleep(8)
            begun = {machine.instance.name for machine in machines if machine.changes()}
            late = [
                begin
                for machine in machines
                for begin, _ in machine.changes()
                if begin > frozen + EFFECTIVE * 1e9
            ]
            assert late == [], "nothing begins in a freeze"
            assert len(begun) < len(machines), "the freeze came in the middle of the storm"
            await controls.resume()
            await stage.settle(function)
            held_back += len(machines) - len(begun)
            lines = [each.machine for each in stage.events[-12:-8] if each.machine.instance.name not in begun]
            await stage.tell(lines)  # what repeats is said again
            await stage.settle(function)
            assert {machine.timer() for machine in machines} == {"disabled inactive"}
        report("frozen in a storm, and resumed", stage, held_back)
        assert await stage.left_in_ledger() == []
