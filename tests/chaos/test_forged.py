"""Entries whose forgery can be read from themselves, in any order among genuine ones about the same VMs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.chaos.arena import DICE, PATHS, Arena, Event, arena, until
from tests.chaos.conftest import Report
from tests.chaos.machines import PROJECT, RoughMachine
from tests.emulators import Emulator

from logmend.ledger import Controls
from logmend_cli.pretend.entries import entry, incident

Telling = tuple[RoughMachine, Mapping[str, Any]]


def forgeries(machine: RoughMachine) -> dict[str, dict[str, Any]]:
    """Give an entry or incident of each kind about a machine, by what it has to end as."""
    other, own, nobody = (entry(machine.vm, path=DICE.choice(PATHS)) for _ in range(3))
    other["logName"] = str(other["logName"]).replace(PROJECT, "another-project")
    own["logName"] = f"projects/{PROJECT}/logs/logmend"
    nobody["resource"]["labels"]["instance_id"] = f"{machine.instance.instance_id}/../1"
    over = incident(machine.vm, f"over-{machine.instance.instance_id}")
    over["incident"]["state"] = "closed"
    return {
        "refused: project_mismatch": other,
        "skipped: own_entry": own,
        "rejected: bad_identity": nobody,
        "skipped: stale": entry(machine.vm, at=datetime.now(UTC) - timedelta(hours=2)),
        "skipped: incident_closed": over,
    }


async def told(stage: Arena, tellings: Sequence[Telling]) -> list[Event]:
    """Publish one after the other."""
    return [await stage.tell_that(document, machine) for machine, document in tellings]


async def test_forged_entries_among_genuine_ones_change_nothing(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report, rounds: int
) -> None:
    """Before, among and after the genuine line: it is dealt with as if there had been no other.

    What was forged before in the same way is counted.
    """
    hits = 0
    async with arena(tmp_path, firestore) as stage, stage.function() as function:
        since = datetime.now(UTC) - timedelta(hours=1)
        await Controls(stage.store).note_tick(since, counts_from=since)
        for _ in range(rounds):
            machines = await stage.fleet.add(4)
            *faulty, only_forged = machines
            false = [(machine, each) for machine in machines for each in forgeries(machine).values()]
            before = await told(stage, false)
            await until(lambda: len(stage.ends(before)) == len(before))  # noqa: B023
            assert not any(machine.connections for machine in machines), "nobody looks for a forger's sake"
            among: list[Telling] = [(m, each) for m in machines for each in forgeries(m).values()]
            true: list[Telling] = [(m, entry(m.vm, path=DICE.choice(PATHS))) for m in faulty]
            order = DICE.sample([*among, *true], len(among) + len(true))
            events = await told(stage, order)
            await stage.settle(function)
            genuine = [event for event, telling in zip(events, order, strict=True) if telling in true]
            assert stage.ends(genuine) == ["remediated"] * len(faulty)
            forged = before + [each for each in events if each not in genuine]
            kinds = forgeries(only_forged)
            assert sorted(stage.ends(forged)) == sorted(2 * len(machines) * list(kinds))
            assert not only_forged.connections
            hits += len(forged)
        report("forged entries among genuine ones", stage, hits)
        assert "refused: project_mismatch" in stage.counted.values()
        assert await stage.left_in_ledger() == []
