"""The ledger misbehaves: Firestore freezes or forgets, SQLite's disk is full, the clock steps back."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.arena import DICE, Arena, arena, until
from tests.chaos.conftest import Report
from tests.conftest import needs
from tests.emulators import Emulator, firestore_emulator_process, running

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ledger import Controls
from logmend.model.state import By


async def until_at_work(stage: Arena, machines: int) -> None:
    """Wait until so many machines have been reached."""
    await until(lambda: sum(bool(each.calls()) for each in stage.fleet.machines.values()) >= machines)


async def test_firestore_freezes_and_comes_back(
    tmp_path: Path, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Nothing answers for seconds in the middle of the work; nothing is forgotten, nothing is lost."""
    with running(firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST") as emulator:
        async with arena(tmp_path, "firestore:frozen/ledger") as stage, stage.function() as function:
            hits = 0
            for _ in range(rounds):
                machines = await stage.fleet.add(6)
                for machine in machines[:3]:
                    machine.trouble("slow", "1")
                await stage.tell(machines, incidents=DICE.random() < 0.5)
                await until_at_work(stage, len(stage.events) - 4)
                signalled_group(emulator, signal.SIGSTOP)
                left_alone = await stage.complain(2)
                hits += len(stage.open_events())
                await asyncio.sleep(DICE.uniform(3, 8))
                signalled_group(emulator, signal.SIGCONT)
                await stage.settle_with_counts(function, left_alone)
            report("Firestore frozen for seconds", stage, hits)
            assert await stage.left_in_ledger() == []


async def test_firestore_dies_and_starts_with_nothing(
    tmp_path: Path, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """All that was remembered is gone: what was not acknowledged comes again, and no VM is changed twice."""
    with running(firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST") as emulator:
        async with arena(tmp_path, "firestore:killed/ledger") as stage, stage.function() as function:
            hits = 0
            for _ in range(rounds):
                machines = await stage.fleet.add(6)
                for machine in machines[:3]:
                    machine.trouble("slow", "1")
                await stage.tell(machines)
                await until_at_work(stage, len(stage.events) - 4)
                await asyncio.to_thread(emulator.kill)
                hits += len(stage.open_events())
                await asyncio.sleep(DICE.uniform(0, 2))
                await asyncio.to_thread(emulator.start)
                await stage.settle(function)
            report("Firestore killed, and started empty", stage, hits, ledger_kept=False)


def signalled_group(emulator: Emulator, how: int) -> None:
    assert emulator._process is not None
    os.killpg(emulator._process.pid, how)


async def test_sqlites_disk_is_full(tmp_path: Path, pubsub_emulator: Emulator, report: Report) -> None:
    """A real file system without a free block: nothing is acknowledged, and all is done with room again."""
    needs(commands=("unshare", "mount"), root=True, linux=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=24m tmpfs {disk} && exec "$@"'
    small = ("unshare", "--mount", "--propagation=private", "sh", "-c", mount, "sh")
    async with arena(tmp_path, f"sqlite:{tmp_path / 'unused.sqlite'}") as stage:
        machines = await stage.fleet.add(6)
        async with stage.function(state=f"sqlite:{disk / 'ledger.sqlite'}", prefix=small) as function:
            inside = Path(f"/proc/{function.process.pid}/root{disk}")
            await stage.tell(machines[:1])
            await until(lambda: not stage.open_events())
            for machine in machines[1:3]:
                machine.trouble("slow", "2")
            await stage.tell(machines[1:3])
            await until(lambda: any(machine.changes() for machine in machines[1:3]))
            fill = inside / "fill"
            await asyncio.to_thread(filled, fill)
            await stage.tell(machines[3:])
            await until(lambda: stage.courier.refused >= 6)
            refused = stage.courier.refused
            assert len(stage.open_events()) >= 3, "nothing can be done without a ledger"
            fill.unlink()
            await stage.settle(function)
        report("SQLite's disk full", stage, refused)
        results = [each["reason"] for each in stage.outcomes() if each["result"] == "deferred"]
        assert "ledger_unavailable" in results


async def test_sqlites_file_is_gone_and_another_in_its_place(
    tmp_path: Path, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Nothing is done while it is away, nor with a new file that says nothing; all is done afterwards."""
    ledger, hits = tmp_path / "ledger.sqlite", 0
    async with arena(tmp_path, f"sqlite:{ledger}") as stage, stage.function() as function:
        for another in (False, True) * rounds:
            machines = await stage.fleet.add(6)
            before, during = machines[:2], machines[2:]
            for machine in before:
                machine.trouble("slow", "1")
            await stage.tell(before)
            await until(lambda: any(machine.changes() for machine in before))  # noqa: B023
            await stage.store.aclose()
            away = moved(ledger, tmp_path / "away")
            if another:
                await Controls(new := SqliteStore(ledger)).resume(By("sre", datetime.now(UTC)))
                await new.aclose()
            await stage.tell(during)
            refused = stage.courier.refused
            await until(lambda: stage.courier.refused >= refused + 2 * len(during))  # noqa: B023
            assert not any(machine.changes() for machine in during), "nothing can be done without the ledger"
            hits += len(stage.open_events())
            moved(ledger, tmp_path / "another")
            moved(away, tmp_path)
            await stage.settle(function)
        report("SQLite's file removed, replaced, put back", stage, hits)
        reasons = {each["reason"] for each in stage.outcomes() if each["result"] == "deferred"}
        assert "ledger_replaced" in reasons
        assert await stage.left_in_ledger() == []


def moved(ledger: Path, folder: Path) -> Path:
    """Move what there is of a ledger's files to another folder; gives its new name."""
    folder.mkdir(exist_ok=True)
    for end in ("", "-wal", "-shm"):
        if (file := ledger.with_name(ledger.name + end)).exists():
            file.replace(folder / file.name)
    return folder / ledger.name


def filled(path: Path) -> None:
    """Take every free byte of a file system."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


async def test_the_clock_steps_back(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Half an hour back, a quarter forth and back again, in the middle of the work: nobody works twice."""
    offset = tmp_path / "offset"
    offset.write_text("0")
    shifted = (sys.executable, str(Path(__file__).parent / "shifted_clock.py"), str(offset))
    async with arena(tmp_path, firestore) as stage, stage.function(prefix=shifted) as function:
        hits = 0
        for _ in range(rounds):
            for step in (-1800, 900, 0):
                machines = await stage.fleet.add(3)
                for machine in machines[:2]:
                    machine.trouble("slow", "1")
                await stage.tell(machines, incidents=DICE.random() < 0.5)
                await until_at_work(stage, len(stage.events) - 2)
                hits += sum((await stage.stages()).values())
                await asyncio.to_thread(offset.write_text, str(step))
            await stage.settle(function)
        report("clock stepped back and forth", stage, hits)
        assert await stage.left_in_ledger() == []


async def test_two_processes_clocks_disagree_by_more_than_a_lease(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Whoever is ahead takes every lease for run out: the fence and the VM's lock keep them apart."""
    offsets = [tmp_path / "offset-1", tmp_path / "offset-2"]
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(arena(tmp_path, firestore))
        for each in offsets:
            each.write_text("0")
            program = str(Path(__file__).parent / "shifted_clock.py")
            shifted = (sys.executable, program, str(each))
            function = await stack.enter_async_context(stage.function(prefix=shifted))
        stage.courier.copies, hits = 4, 0
        for _ in range(rounds):
            machines = await stage.fleet.add(6)
            for machine in machines[:4]:
                machine.trouble("slow", "2")
            await stage.tell(machines, incidents=DICE.random() < 0.5)
            await until(lambda: any(machine.changes() for machine in machines))  # noqa: B023
            offsets[1].write_text("60")
            hits += sum((await stage.stages()).values())
            await stage.settle(function)
            offsets[1].write_text("0")
        report("clocks apart by more than a lease", stage, hits)
        assert await stage.left_in_ledger() == []
