"""The sequences of docs/operations.md as they stand there, against both emulators and the real function.

A shell runs each block whole. What is not Google's to answer here is filled in: a VM's name, a plan's id, and
Terraform's output, which a test of the modules holds to the function's settings.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.e2e.conftest import PROJECT, Serve, fixes
from tests.e2e.function_process import Function
from tests.e2e.post import Post
from tests.e2e.test_delivery import settled, vm
from tests.provider_schema import ROOT

from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.fleet import PretendFleet

pytestmark = pytest.mark.timeout(600)  # a shell starts some twenty commands

GUIDE = (ROOT / "docs" / "operations.md").read_text()
ON, OFF = "enabled active", "disabled inactive"


def blocks(heading: str) -> list[str]:
    """Give the shell blocks of a section."""
    section = re.split(r"(?m)^## ", GUIDE.partition(f"\n## {heading}\n")[2])[0]
    found = re.findall(r"(?s)```sh\n(.*?)```", section)
    assert found, heading
    return found


class Desk:
    """A workstation: `logmend` and `terraform` on the path, the latter with the outputs of a deployment."""

    def __init__(self, folder: Path, post: Post, function: Function) -> None:
        self._path = folder / "bin"
        self._path.mkdir(parents=True)
        exports = f"export LOGMEND_STATE='{function.state}'\nexport LOGMEND_TOPIC='{post.topic}'"
        exports += f"\nexport LOGMEND_PROJECT='{PROJECT}'\nexport LOGMEND_OUTCOMES='none'"
        run = "from logmend_cli.main import main; main()"
        self._tool("logmend", f"exec '{sys.executable}' -c '{run}' \"$@\"")
        self._tool("terraform", f"cat <<'END'\n{exports}\nEND")
        (self._setup,) = [each for each in blocks("Your workstation") if "eval" in each]

    def _tool(self, name: str, text: str) -> None:
        (self._path / name).write_text(f"#!/bin/sh\n{text}\n")
        (self._path / name).chmod(0o755)

    async def types(self, block: str, words: Mapping[str, str] | None = None) -> str:
        """Set the workstation up and type a block, questions answered with y; gives what was printed."""
        for placeholder, value in (words or {}).items():
            block = block.replace(placeholder, value)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
        shell = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-ec", f"exec 2>&1\n{self._setup}\n{block}"),
            env=kept | {"PATH": f"{self._path}:{kept['PATH']}", "PYTHONPATH": str(ROOT / "functions")},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await shell.communicate(b"y\n" * 3)
        assert shell.returncode == 0, out.decode()
        return out.decode()


def replays() -> tuple[str, str, str]:
    """Give the command for a dead letter, and what the table adds to publish and to order."""
    section = GUIDE.partition("\n## Replay, seek or dead letter\n")[2]
    command = "logmend replay --subscription logmend-dead-letter"
    look = re.search(f"`({command})`; then with `(--publish)`", section)
    order = re.search(r"the same with `(--allow-stale)`", section)
    assert look is not None
    assert order is not None
    return look[1], f"{look[1]} {look[2]}", f"{look[1]} {order[1]}"


async def until(function: Function, machine: str, wanted: str, *, within: float = 150.0) -> None:
    """Wait until the latest outcome about a VM has that result."""
    for _ in range(int(within * 5)):
        about = [each for each in function.outcomes() if (each["instance"] or {}).get("name") == machine]
        if about and about[-1]["result"] == wanted:
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"{machine} is not {wanted}: {function.verdicts()}\n{function.log()}")


async def test_a_vm_is_reverted_under_a_freeze_and_let_go_again(
    post: Post, fleet: PretendFleet, serve: Serve, tmp_path: Path
) -> None:
    """The way back passes the freeze; new lines change nothing until VM and runbook are resumed."""
    machine = fleet.machines["vm-1"]
    words = {"PROJECT/ZONE/ID": "/".join(vm(machine))}
    freeze, resume = blocks("Revert")
    async with serve(cooldown_remediated="0s") as function:
        await post.push_to(function.url)
        (message,) = await post.publish(entry(vm(machine)))
        assert await settled(function, [message]) == {message: "remediated"}
        assert machine.timer() == OFF
        desk = Desk(tmp_path / "desk", post, function)
        assert "1 VMs" in await desk.types("logmend status")

        typed = await desk.types(freeze, words)
        assert "passes: workload-cert-refresh is" in typed
        await until(function, "vm-1", "reverted")
        assert machine.timer() == ON
        assert "Held by a revert" in await desk.types("logmend status")
        (message,) = await post.publish(entry(vm(machine)))
        assert "skipped: " in (await settled(function, [message]))[message]
        assert machine.timer() == ON

        assert "hold of workload-cert-refresh ended" in await desk.types(resume, words)
        (message,) = await post.publish(entry(vm(machine)))
        assert await settled(function, [message]) == {message: "remediated"}
    assert machine.timer() == OFF


async def test_a_plan_is_approved_and_carried_out_by_the_function(
    post: Post, fleet: PretendFleet, serve: Serve, tmp_path: Path
) -> None:
    """Listed and approved at the desk, remediated by the function at the tick that the command asks for."""
    machine = fleet.machines["vm-2"]
    (block,) = blocks("Approvals")
    async with serve(mode="approve") as function:
        await post.push_to(function.url)
        (message,) = await post.publish(entry(vm(machine)))
        assert await settled(function, [message]) == {message: "planned"}
        desk = Desk(tmp_path / "desk", post, function)
        printed = await desk.types("logmend approvals list --format json")
        (plan,), _ = json.JSONDecoder().raw_decode(printed[printed.index("[\n") :])
        assert machine.timer() == ON
        await desk.types(block, {"approve ID": f"approve {plan['approval_id']}"})
        await until(function, "vm-2", "remediated")
    assert machine.timer() == OFF


async def test_dead_letters_are_replayed_as_the_table_says(
    post: Post, fleet: PretendFleet, serve: Serve, tmp_path: Path
) -> None:
    """Explained, nothing happens; what failed is published again; what is too old for that is ordered."""
    failed, old = fleet.machines["vm-1"], fleet.machines["vm-2"]
    look, publish, order = (each.replace("logmend-dead-letter", post.pull_subscription) for each in replays())
    fleet.compute.fail(f"v1/.*/instances/{failed.instance.instance_id}$", 503)
    async with serve() as function:
        await post.push_to(function.url)
        desk = Desk(tmp_path / "desk", post, function)
        await post.publish(entry(vm(failed)))
        explained = ""
        for _ in range(40):
            if "planned" in (explained := await desk.types(look)):
                break
        assert "1 explained" in explained
        assert failed.calls() == []

        fleet.compute.recover()
        line = entry(vm(old), at=datetime.now(UTC) - timedelta(hours=2))
        await asyncio.wrap_future(post.publisher.publish(post.dead_letter, json.dumps(line).encode()))
        published = await desk.types(publish)
        assert "1 published" in published
        message = published.split("published ")[1].split()[0]
        assert await settled(function, [message]) == {message: "remediated"}
        (outcome,) = function.outcomes(message_id=message)
        assert outcome["replay_of"]
        assert outcome["replay_of"] != message

        assert "skipped: stale" in published
        assert old.calls() == []
        assert "1 ordered" in await desk.types(order)
        for _ in range(750):
            if old.timer() == OFF:
                break
            await asyncio.sleep(0.2)
    assert (fixes(failed), fixes(old)) == (1, 1)
