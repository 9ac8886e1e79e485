"""The function's process is killed or put to sleep at any moment, also in the middle of a script."""

import asyncio
import contextlib
import signal
from pathlib import Path

from tests.chaos.arena import DICE, arena, signalled, until
from tests.chaos.conftest import Report
from tests.chaos.machines import RoughMachine
from tests.emulators import Emulator

KILLS, AT_ONCE = 4, 5


def some_are_slow(machines: list[RoughMachine]) -> list[RoughMachine]:
    """Have half of them take their time over a change, so that a kill meets many in the middle of it."""
    for machine in DICE.sample(machines, len(machines) // 2):
        machine.trouble("slow", f"{DICE.uniform(0.3, 2):.2f}")
    return machines


async def test_killed_at_any_moment(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Every event ends once and truly, every machine is changed once, whatever stage the kill met.

    Machines that are left alone go on complaining: that is counted, once each.
    """
    async with arena(tmp_path, firestore) as stage:
        met: dict[str, int] = {}
        kills = 0
        while kills < KILLS * rounds or not met:  # by chance each may come too late to meet anything
            kills += 1
            assert kills < 10 * KILLS * rounds, "no kill met anything"
            await stage.tell(some_are_slow(await stage.fleet.add(AT_ONCE)), incidents=DICE.random() < 0.3)
            await stage.complain(2)
            async with stage.function() as function:
                while stage.open_events() and not await stage.stages():  # noqa: ASYNC110  asked for
                    await asyncio.sleep(0.02)
                await asyncio.sleep(DICE.uniform(0, 2))
                await function.kill()
                for name, count in (await stage.stages()).items():
                    met[name] = met.get(name, 0) + count
        async with stage.function() as function:
            await stage.settle_with_counts(function, await stage.complain(2))
        print("kills met", met)
        report("function killed (kill -9) at any moment", stage, sum(met.values()))
        assert await stage.left_in_ledger() == []


async def test_asleep_past_its_lease(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Who wakes up after the lease finds another's fence: it enforces nothing and records nothing."""
    async with arena(tmp_path, firestore) as stage:
        hits = 0
        for _ in range(rounds):
            async with stage.function() as sleeper:
                try:
                    for _ in range(20):  # it may be stopped before anything is in hand, or after everything
                        machines = some_are_slow(await stage.fleet.add(4))
                        await stage.tell(machines)
                        await until(lambda: any(machine.connections for machine in machines))  # noqa: B023
                        await asyncio.sleep(DICE.uniform(0, 1.5))
                        signalled(sleeper, signal.SIGSTOP)
                        if asleep := sum((await stage.stages()).values()):
                            break
                        signalled(sleeper, signal.SIGCONT)
                    hits += asleep
                    stage.courier.targets.remove(sleeper.url)
                    async with stage.function() as awake:
                        late = asyncio.create_task(stage.settle(awake))
                        await asyncio.sleep(DICE.uniform(11, 15))
                        signalled(sleeper, signal.SIGCONT)
                        await late
                        await asyncio.sleep(2)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        signalled(sleeper, signal.SIGCONT)
                    stage.courier.targets.append(sleeper.url)
        assert await stage.left_in_ledger() == []
        report("function stopped past its lease, and woken", stage, hits)
