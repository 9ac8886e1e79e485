"""Fixtures that hand out real systemd machines (README.md in this folder)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from logmend_cli.machine.roots import UnavailableError
from tests.conftest import lacking, needs
from tests.lab import ops_agent_repository
from tests.lab.lab import Lab
from tests.lab.machines import Machine
from tests.lab.ops_agent_repository import Repository

Boot = Callable[..., Coroutine[Any, Any, Machine]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave time for the first test of a run to build the machines' roots."""
    for item in items:
        if "/tests/lab/" in str(item.path) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One lab per run; at its end nothing of any machine may be left."""
    needs(
        commands=("mmdebstrap", "systemd-nspawn", "ip", "nsenter", "unshare", "setpriv", "apt-get"),
        root=True,
        linux=True,
    )
    lab = Lab()
    yield lab
    left = lab.close()
    assert not left, f"left behind: {', '.join(left)}"


@pytest.fixture
async def boot(lab: Lab) -> AsyncIterator[Boot]:
    """Give a function that boots a machine; all of a test's machines are taken away after it."""
    booting: list[asyncio.Task[Machine]] = []

    async def boot_machine(**options: Any) -> Machine:
        task = asyncio.create_task(lab.boot(**options))
        booting.append(task)
        try:
            # A test may give up on a boot; the boot is then finished and taken away in order, below.
            return await asyncio.shield(task)
        except UnavailableError as error:
            lacking(f"the lab: {error}")

    yield boot_machine
    booted = await asyncio.gather(*booting, return_exceptions=True)
    await asyncio.gather(*(lab.take_away(machine) for machine in booted if isinstance(machine, Machine)))


@pytest.fixture
async def repository(boot: Boot, tmp_path: Path) -> AsyncIterator[Repository]:
    """Serve the Ops Agent's repository; one machine has to be up, since the host's address is its link's."""
    needs(commands=("dpkg-deb",))
    await boot(timer="disabled")
    folder = tmp_path / "repository"
    folder.mkdir()
    with ops_agent_repository.serving(folder) as running:
        yield running
