"""Messages that come twenty times at once, in any order, to two function processes over one ledger."""

from pathlib import Path

from tests.chaos.arena import DICE, arena, until
from tests.chaos.conftest import Report
from tests.emulators import Emulator


async def test_twenty_times_at_once_to_two_processes_in_any_order(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Lines and incidents about each VM, each message twenty times, to one process or the other.

    Each event has one outcome, or is counted once.
    """
    async with arena(tmp_path, firestore) as stage:
        stage.courier.copies, stage.courier.jitter = 20, 0.8
        async with stage.function(), stage.function() as function:
            for _ in range(rounds):
                machines = await stage.fleet.add(4)
                for machine in DICE.sample(machines, 2):
                    machine.trouble("slow", "0.7")
                await stage.tell(machines)
                await stage.tell(machines[:2])
                await stage.tell(machines[1:3], incidents=True)
                left_alone = await stage.complain(3)
                await stage.settle_with_counts(function, left_alone)
        posted = stage.courier.deliveries
        report("same message 20 times at once, to two processes", stage, posted // 20)
        assert posted >= 20 * len(stage.events)
        assert await stage.left_in_ledger() == []


async def test_one_of_two_processes_is_killed_and_nobody_notices(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """The other one takes over what it had in hand, once its leases have run out."""
    async with arena(tmp_path, firestore) as stage, stage.function() as survivor:
        hits = kills = 0
        while kills < rounds or not hits:  # by chance all may go to the other one, and be done by then
            kills += 1
            async with stage.function() as victim:
                machines = await stage.fleet.add(6)
                for machine in machines:
                    machine.trouble("slow", "1")
                await stage.tell(machines, incidents=True)
                await until(lambda: any(machine.changes() for machine in machines))  # noqa: B023
                await victim.kill()
                hits += sum((await stage.stages()).values())
            await stage.settle(survivor)
        report("one of two processes killed", stage, hits)
        assert await stage.left_in_ledger() == []
