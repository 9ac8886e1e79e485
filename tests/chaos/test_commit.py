"""The answer to a commit or a count never arrives, or whoever waits for it dies; an owner mends the VM."""

import sys
from pathlib import Path
from typing import Any

from tests.chaos.arena import DICE, Arena, Event, arena, until
from tests.chaos.conftest import Report
from tests.chaos.machines import RoughMachine
from tests.emulators import Emulator

AT_ONCE = 6
PATIENT: dict[str, Any] = {"attempt_deadline": "100s", "function_timeout": "101s", "lease": "102s"}
"""Deadlines that no attempt runs into on a busy machine: its only honest end is then one of two.

The last machine is committed to while the first still waits for its answer.
"""
LATER = "110"
"""Seconds after which those leases have run out."""


def losing(what: str, folder: Path) -> tuple[str, ...]:
    """Give the prefix of a function whose answers to commits or counts are held in ``folder``, then lost."""
    folder.mkdir()
    return sys.executable, str(Path(__file__).parent / "lost_answers.py"), what, str(folder)


async def held_at_the_commit(stage: Arena, folder: Path) -> list[RoughMachine]:
    """Tell of some machines, and wait until each is committed to and nobody knows; nothing is begun."""
    machines = await stage.fleet.add(AT_ONCE)
    await stage.tell(machines, incidents=DICE.random() < 0.5)
    await until(lambda: all((folder / each.instance.instance_id).exists() for each in machines))
    committed = await stage.committed()
    assert {each.instance.instance_id for each in machines} <= committed
    assert not any(each.changes() for each in machines)
    return machines


def some_are_mended(machines: list[RoughMachine]) -> list[RoughMachine]:
    """Have the owners of half of them mend them; gives these."""
    mended = DICE.sample(machines, len(machines) // 2)
    for machine in mended:
        machine.mended_by_its_owner()
    return mended


def told_truly(stage: Arena, machines: list[RoughMachine], mended: list[RoughMachine]) -> None:
    """Insist on each machine's only honest end, and on no change where the owner made it."""
    for machine in machines:
        events: list[Event] = [each for each in stage.events if each.machine is machine]
        ours = machine not in mended
        assert stage.ends(events) == ["remediated" if ours else "nothing_to_do"], machine.instance.name
        assert len(machine.changes()) == (1 if ours else 0), machine.instance.name


async def test_the_answer_to_a_commit_is_lost(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """What was committed unseen is looked at again: enforced once, or the owner's repair is not claimed."""
    hits = 0
    async with arena(tmp_path, firestore) as stage:
        for number in range(rounds):
            folder = tmp_path / f"answers-{number}"
            async with stage.function(prefix=losing("commits", folder), **PATIENT) as function:
                machines = await held_at_the_commit(stage, folder)
                mended = some_are_mended(machines)
                (folder / "lost").touch()
                await stage.settle(function)
            told_truly(stage, machines, mended)
            hits += len(machines)
        report("answer to a commit lost, owner's repair", stage, hits)
        assert await stage.left_in_ledger() == []


async def test_killed_between_commit_and_enforcing(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """The next one looks again after the lease, and claims no repair that its owner made in between."""
    hits, offset = 0, tmp_path / "offset"
    offset.write_text(LATER)
    later = (sys.executable, str(Path(__file__).parent / "shifted_clock.py"), str(offset))
    async with arena(tmp_path, firestore) as stage:
        for number in range(rounds):
            folder = tmp_path / f"answers-{number}"
            async with stage.function(prefix=losing("commits", folder), **PATIENT) as function:
                machines = await held_at_the_commit(stage, folder)
                await function.kill()
            mended = some_are_mended(machines)
            async with stage.function(prefix=later, **PATIENT) as function:
                await stage.settle(function)
            told_truly(stage, machines, mended)
            hits += len(machines)
        report("killed right after commit, owner's repair", stage, hits)
        assert await stage.left_in_ledger() == []


async def test_the_answer_to_a_count_is_lost(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """The message comes again, and is known by its name: it counts once, and has no entry beside that."""
    folder = tmp_path / "answers"
    async with arena(tmp_path, firestore) as stage:
        async with stage.function(prefix=losing("counts", folder)) as function:
            (folder / "lost").touch()
            for _ in range(rounds):
                left_alone = await stage.complain(AT_ONCE)
                await stage.settle_with_counts(function, left_alone)
        lost = {each.name.removeprefix("m-") for each in folder.iterdir()} & stage.counted.keys()
        report("answer to a count lost", stage, len(lost))
        assert lost == stage.counted.keys()
        assert await stage.left_in_ledger() == []
