"""From an alert policy's notification on the Pub/Sub emulator to a machine that is mended, and no further.

The bodies are Monitoring's own (tests/fixtures/incidents), published to a topic whose push subscription
delivers to the real function process, which reaches real machines over ssh. The hand of the operator is the
command itself.
"""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.function_process import Function
from tests.e2e.post import Post, post_office
from tests.emulators import Emulator, pubsub_emulator
from tests.lab.cloud import RUNBOOK, cloud, logins, seen, standing, until
from tests.lab.conftest import Boot
from tests.lab.machines import Machine, TimerState

__all__ = ["pubsub_emulator"]

INCIDENTS = Path(__file__).parents[1] / "fixtures" / "incidents"
ON = TimerState("loaded", "enabled", "active")
OFF = TimerState("loaded", "disabled", "inactive")
TICK = {"logmend": "tick"}


@pytest.fixture
async def post(pubsub_emulator: Emulator) -> AsyncIterator[Post]:
    """Give the test a topic, its push subscription and its dead letter."""
    async with post_office() as post:
        yield post


def notification(machine: Machine, incident_id: str, **changes: Any) -> dict[str, Any]:
    """Give what a metric-threshold policy sends of a machine, now."""
    body: dict[str, Any] = json.loads((INCIDENTS / "open_metric_threshold.json").read_text())
    body["incident"] |= {"incident_id": incident_id, "started_at": int(time.time())} | changes
    body["incident"]["resource"]["labels"] = {
        "project_id": machine.ref.project_id,
        "zone": machine.ref.zone,
        "instance_id": machine.ref.instance_id,
    }
    return body


def new_incident() -> str:
    """Give an incident id as Monitoring makes them."""
    return f"0.{uuid.uuid4().hex[:12]}"


async def told(function: Function, message_id: str) -> dict[str, Any]:
    """Wait for the one outcome of a message."""

    async def there() -> bool:
        return bool(function.outcomes(message_id=message_id))

    await until(there)
    (outcome,) = function.outcomes(message_id=message_id)
    return outcome


async def operator(function: Function, *words: str) -> str:
    """Run ``logmend`` on the function's ledger, as a person would; gives what it says."""
    state = {"LOGMEND_STATE": f"sqlite:{function.folder / 'ledger.sqlite'}"}
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from logmend_cli.main import main; main()", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if not k.startswith("LOGMEND_")} | state,
    )
    said, _ = await ran.communicate()
    assert ran.returncode == 0, said.decode()
    return said.decode()


async def test_an_incident_mends_its_machine_once_and_waits_out_a_freeze(
    boot: Boot, post: Post, tmp_path: Path
) -> None:
    """Open acts, the same incident again does not, closed and test are recorded; frozen, it is not lost."""
    faulty, healthy, waiting = machines = await asyncio.gather(
        boot(period=0.5), boot(period=0.5, timer="disabled"), boot(period=0.5)
    )
    was = await standing(healthy)
    async with cloud(tmp_path, *machines) as around, around.function() as function:
        await post.push_to(function.url)

        async def published(body: dict[str, Any]) -> dict[str, Any]:
            (message,) = await post.publish(body)
            return await told(function, message)

        def verdict(outcome: dict[str, Any]) -> tuple[str, str | None]:
            return outcome["result"], outcome["reason"]

        before, first = await seen(faulty), new_incident()
        fixed = await published(notification(faulty, first))
        assert verdict(fixed) == ("remediated", None), fixed
        assert fixed["before"].items() >= before.items()
        assert fixed["after"].items() >= (await seen(faulty)).items()
        assert (fixed["runbook"], fixed["instance"]["name"]) == (RUNBOOK, faulty.name)
        assert (fixed["source"]["kind"], fixed["source"]["incident_id"]) == ("incident", first)
        assert await faulty.timer_state() == OFF
        assert await faulty.starts_in(periods=2) == 0
        mended = await standing(faulty)

        again = await published(notification(faulty, first))
        assert verdict(again) == ("skipped", "duplicate")
        assert again["message_id"] != fixed["message_id"]
        assert again["source"]["incident_id"] == first
        over = await published(notification(faulty, first, state="closed", ended_at=int(time.time())))
        assert verdict(over) == ("skipped", "incident_closed")
        test = await published(json.loads((INCIDENTS / "test_notification.json").read_text()))
        assert (*verdict(test), test["severity"]) == ("skipped", "test_notification", "INFO")
        nothing = await published(notification(healthy, new_incident()))
        assert verdict(nothing) == ("nothing_to_do", None), "an incident orders nothing"
        assert (await standing(faulty), await standing(healthy)) == (mended, was)
        assert [await logins(machine) for machine in machines] == [1, 1, 0]

        assert "frozen by sre@example.com" in await operator(function, "freeze", "--by", "sre@example.com")
        untouched = await standing(waiting)
        parked = await published(notification(waiting, new_incident()))
        assert verdict(parked) == ("parked", "frozen")
        await post.publish(TICK)

        async def ticked() -> bool:
            return "Last tick" in await operator(function, "status")

        await until(ticked)
        assert await standing(waiting) == untouched, "a tick in a freeze takes nothing up"
        assert await waiting.timer_state() == ON

        assert "resumed: the fleet" in await operator(function, "resume")
        await post.publish(TICK)

        async def done() -> bool:
            return function.verdicts(message_id=parked["message_id"])[-1] != "parked: frozen"

        await until(done)
        assert function.verdicts(message_id=parked["message_id"]) == ["parked: frozen", "remediated"]
        assert await waiting.timer_state() == OFF
        assert function.outcomes(result="failed") == function.outcomes(result="rejected") == []
        controls = [each["reason"] for each in function.outcomes(result="controlled")]
        assert sorted(controls) == ["freeze_lifted", "freeze_set"]
        said = len(function.outcomes()) - len(controls)
        assert said == 7, "one for each message, and one more for the one that waited"
