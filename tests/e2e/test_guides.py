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
from pathlib import Path

import pytest
from tests.e2e.conftest import PROJECT, Serve
from tests.e2e.function_process import Function
from tests.e2e.post import Post
from tests.e2e.test_delivery import settled, vm
from tests.provider_schema import ROOT

from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.fleet import PretendFleet

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


async def until(function: Function, machine: str, wanted: str, *, within: float = 60.0) -> None:
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
