"""What the end-to-end tests share: the emulator, a topic each, a pretend fleet behind real SSH servers."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.e2e.function_process import Function, function_process
from tests.e2e.post import Post, post_office
from tests.emulators import Emulator, firestore_emulator, pubsub_emulator, warm

from logmend import wiring
from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.fleet import USER, Machine, PretendFleet
from logmend_cli.pretend.instance import PretendInstance

__all__ = ["firestore_emulator", "pubsub_emulator"]

PROJECT, ZONE = "e2e-project", "us-west1-a"
Serve = Callable[..., AbstractAsyncContextManager[Function]]


@pytest.fixture
async def post(pubsub_emulator: Emulator) -> AsyncIterator[Post]:
    """Give the test a topic, its subscriptions and its dead letter."""
    async with post_office() as post:
        yield post


def make_fleet(folder: Path, size: int) -> PretendFleet:
    """Make so many VMs with the fault, each behind an address of its own in 127.0.0.0/8."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    machines = {}
    for number in range(1, size + 1):
        name = f"vm-{number}"
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        kind, value = host_key.export_public_key().decode().split()[:2]
        instance = PretendInstance(
            *(PROJECT, ZONE, f"{5_000_000_000_000_000_000 + number}", name),
            internal_ip=f"127.0.77.{number}",
            guest_attributes={f"hostkeys/{kind}": value},
        )
        machines[name] = Machine(instance, folder / name, host_key=host_key)
        machines[name].make()
    compute = PretendCompute([machine.instance for machine in machines.values()], {PROJECT: {}})
    return PretendFleet(folder, machines, compute, key)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[PretendFleet]:
    """Serve twenty VMs and the Compute API that knows them."""
    async with make_fleet(tmp_path / "fleet", 20).running() as fleet:
        yield fleet


async def warmed(state: str) -> None:
    """Have the emulator answer once in a function's own ledger."""
    store = wiring.open_store(state)
    await warm(store)
    await store.aclose()


@pytest.fixture
def serve(fleet: PretendFleet, tmp_path: Path, firestore_emulator: Emulator) -> Serve:
    """Give a way to run a function that reaches the fleet; settings as keywords. All share one new ledger."""
    state = f"firestore:e2e-{uuid.uuid4().hex[:12]}/logmend"

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[Function]:
        reach: dict[str, Any] = {
            "mode": "enforce",
            "project": PROJECT,
            "state": state,
            "compute_endpoint": f"http://127.0.0.1:{fleet.compute_port}",
            "ssh_key": fleet.key_file,
            "ssh_user": USER,
            "ssh_port": fleet.ssh_port,
        }
        await warmed(state)
        async with function_process(tmp_path / "function", **(reach | settings)) as function:
            yield function

    return run


def fixes(machine: Machine) -> int:
    """Say how often the timer was really turned off on a machine."""
    return sum("disable -q --now" in call for call in machine.calls())
