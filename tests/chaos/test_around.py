"""What the function depends on misbehaves: Compute API, SSH servers, scripts; each machine has its own."""

from pathlib import Path
from typing import Any

from tests.chaos.arena import Arena, arena
from tests.chaos.conftest import TRIES, Report
from tests.chaos.machines import RoughMachine
from tests.emulators import Emulator

API: dict[str, tuple[int | str, int | None]] = {
    "Compute API answers 429": (429, 3),
    "Compute API answers 500": (500, 3),
    "Compute API answers 403": (403, None),
    "Compute API answers slowly": ("slow", 4),
    "Compute API answers garbage": ("garbage", 3),
}
SSH = {
    "SSH port closed": "closed",
    "SSH port accepts and is silent": "silent",
    "SSH hangs after authentication": "deaf",
    "SSH drops in the middle of a script": "drops",
    "SSH server has another host key": "liar",
}
SCRIPTS: dict[str, dict[str, str]] = {
    "a script never ends": {"slow": "55"},  # it is cut off after sixty seconds, and all has its end by then
    "a script floods its output": {"flood": ""},
    "a script prints binary": {"binary": ""},
    "a script fails": {"break": ""},
}
EXPECTED: dict[str, set[str]] = {
    "Compute API answers 429": {"remediated"},
    "Compute API answers 500": {"remediated"},
    "Compute API answers 403": {"refused: opt_in_unknown"},
    "Compute API answers slowly": {"remediated"},
    "Compute API answers garbage": {"remediated"},
    "SSH port closed": {"failed: unreachable"},
    "SSH port accepts and is silent": {"failed: unreachable", "failed: deadline_exceeded"},
    "SSH hangs after authentication": {"failed: deadline_exceeded"},
    "SSH server has another host key": {"failed: host_key_mismatch"},
    # The latter where a second attempt, whose own mark is not there, waited for the lock of the first.
    "a script never ends": {"failed: still_faulty", "failed: deadline_exceeded"},
    "a script fails": {"failed: script_error"},
}
"""Where one answer is right. Elsewhere several are honest."""
ROOMY: dict[str, Any] = {"attempt_deadline": "12s", "function_timeout": "13s", "lease": "14s"}
"""Deadlines that leave room for what is well, though so many are worked on at once; what hangs needs two."""
LIMITED = "skipped: rate_limited"
"""What a line ends as whose look-up, or the listing that it shares, met a used-up quota: it comes again."""


def alone(stage: Arena, machines: list[RoughMachine]) -> Arena:
    """Give the arena as if only these machines' events had been."""
    part = Arena(stage.folder, stage.fleet, stage.courier, stage.post, stage.state)
    part.events = [each for each in stage.events if each.machine in machines]
    part.counted = stage.counted
    return part


async def test_every_trouble_around_the_function_at_once(
    tmp_path: Path, firestore: str, pubsub_emulator: Emulator, report: Report
) -> None:
    """Each ends in the result that it deserves, and none gets in the way of another."""
    each = max(2, round(2 * TRIES / 100))
    async with arena(tmp_path, firestore) as stage, stage.function(unreachable_tries=2, **ROOMY) as function:
        stage.courier.timeout = 17.0
        struck: dict[str, list[RoughMachine]] = {}
        for fault, (kind, times) in API.items():
            struck[fault] = await stage.fleet.add(each)
            for machine in struck[fault]:
                # Alone, or in a listing of those that are looked up at the same time.
                stage.fleet.compute.fail(machine.instance.instance_id, kind, times=times)
        for fault, manner in SSH.items():
            struck[fault] = await stage.fleet.add(each, manner)
        struck["SSH drops in the middle of a script"][0].trouble("slow", "1")
        for fault, troubles in SCRIPTS.items():
            struck[fault] = await stage.fleet.add(each)
            for machine in struck[fault]:
                for name, text in troubles.items():
                    machine.trouble(name, text)
        told = [machine for machines in struck.values() for machine in machines]
        for _ in range(1 + 3):  # as often as the quota was used up
            await stage.tell(told)
            await stage.settle(function)
            told = [each for each in told if alone(stage, [each]).verdict().results.keys() == {LIMITED}]
        assert told == [], "no line is forgotten that comes again"
        for fault, machines in struck.items():
            part = alone(stage, machines)
            hits = len(machines)
            if fault in SSH and fault not in ("SSH port closed", "SSH server has another host key"):
                hits = sum(machine.dropped or machine.connections for machine in machines)
            if fault in SCRIPTS:
                hits = sum(len(machine.changes()) for machine in machines)
            report(fault, part, hits)
            if fault in EXPECTED:
                assert set(part.verdict().results) - {LIMITED} <= EXPECTED[fault], fault
