"""Real function processes that count: each message is told of once, though some of them are killed."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.stores import counted_in, open_named
from tests.e2e.conftest import PROJECT, fixes
from tests.e2e.function_process import JSON, function_process

from logmend.model.enums import INTERIM_RESULTS
from logmend_cli.pretend.entries import entry, push
from logmend_cli.pretend.fleet import USER, PretendFleet

VMS, LINES, COPIES = 3, 4, 5
SHIFTED = Path(__file__).parents[1] / "chaos" / "shifted_clock.py"


@pytest.mark.timeout(300)
async def test_lines_that_come_again_and_again_are_told_of_once_though_a_process_is_killed(
    tmp_path: Path, fleet: PretendFleet
) -> None:
    """Each line is posted by five at once until it is acknowledged: it has an outcome, or counts by name.

    Whoever tells the counts, hours later, is killed at it; the next one tells them, the same and once.
    """
    machines = [fleet.machines[f"vm-{number}"] for number in range(1, VMS + 1)]
    state, outcomes = f"sqlite:{tmp_path / 'ledger.sqlite'}", tmp_path / "outcomes.jsonl"
    settings: dict[str, Any] = {
        "mode": "enforce",
        "repeats": "counted",
        "project": PROJECT,
        "state": state,
        "outcomes": f"file:{outcomes}",
        "compute_endpoint": f"http://127.0.0.1:{fleet.compute_port}",
        "ssh_key": fleet.key_file,
        "ssh_user": USER,
        "ssh_port": fleet.ssh_port,
        "attempt_deadline": "9s",
        "function_timeout": "10s",
        "lease": "11s",
        "unreachable_tries": 50,  # a busy host is no reason to give a VM up
    }
    async with (
        function_process(tmp_path / "one", **settings) as function,
        function_process(tmp_path / "two", **settings) as other,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        targets = [function.url, other.url]

        async def acknowledged(body: bytes, turn: int) -> None:
            while True:
                try:
                    answer = await client.post(targets[turn % len(targets)], content=body, headers=JSON)
                except httpx.HTTPError:
                    answer = None
                if answer is not None and answer.status_code < 300:
                    return
                await asyncio.sleep(0.5)

        async def told(numbers: range) -> None:
            bodies = [
                push(entry(_vm(each)), f"{number}") for number in numbers for each in [machines[number % VMS]]
            ]
            await asyncio.gather(*(acknowledged(body, turn) for body in bodies for turn in range(COPIES)))

        first = asyncio.create_task(told(range(VMS * LINES)))
        await asyncio.sleep(1)
        await other.kill()
        targets.remove(other.url)
        await first
        await told(range(VMS * LINES, 2 * VMS * LINES))
        store = open_named(state)
        counted = await counted_in(store)
        await store.aclose()
    offset = tmp_path / "offset"
    offset.write_text(str(3 * 3600))
    late = settings | {"prefix": (sys.executable, str(SHIFTED), str(offset))}
    async with function_process(tmp_path / "three", **late) as function:
        ticking = asyncio.create_task(function.tick())
        while not (ticking.done() or any(e["first_at"] for e in function.outcomes())):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await function.kill()
        await asyncio.gather(ticking, return_exceptions=True)
    async with function_process(tmp_path / "four", **late) as function:
        tallies = [await function.tick()]
        while tallies[-1]["left"]:  # it has under a second to begin in
            tallies.append(await function.tick())
        assert [each["errors"] for each in tallies if each["errors"]] == []
        finals = [each for each in function.outcomes() if each["result"] not in INTERIM_RESULTS]
    ends = {(each["message_id"], each["outcome_id"]) for each in finals if not each["first_at"]}
    counts = {each["outcome_id"]: each["count"] for each in finals if each["first_at"]}
    assert sum(counts.values()) == len(counted)
    alone = [message for message, _ in ends]
    assert sorted([*alone, *counted], key=int) == [str(number) for number in range(2 * VMS * LINES)]
    assert len(counted) >= VMS * LINES - VMS, "of the second round at most one a VM begins a state"
    assert [fixes(each) for each in machines] == [1] * VMS


def _vm(machine: Any) -> tuple[str, str, str]:
    instance = machine.instance
    return instance.project_id, instance.zone, instance.instance_id
