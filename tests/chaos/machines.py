"""Pretend machines that misbehave: their SSH servers hang, drop and lie, their scripts are slow or loud.

Each keeps a log of every change that was made to it, with its beginning and end: what the suite believes.
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.fleet import _OUTPUT, TIMER, Machine, PretendFleet
from logmend_cli.pretend.instance import PretendInstance

PROJECT, ZONE = "chaos-project", "us-west1-a"
OFF = "disabled inactive"
_BIN = Path(__file__).parent / "bin"


@dataclass
class RoughMachine(Machine):
    """A machine whose SSH server does as ``manner`` says.

    ``closed`` no one listens, ``silent`` accepts and says nothing, ``deaf`` lets in and runs nothing,
    ``drops`` breaks the first connection in the middle of the enforcing script, which goes on.
    """

    manner: str = "well"
    started: list[asyncio.subprocess.Process] = field(default_factory=list)
    held: list[asyncio.StreamWriter] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: int = 0
    connections: int = 0

    def environment(self) -> dict[str, str]:
        known = super().environment()
        return known | {"PATH": f"{_BIN}:{known['PATH']}"}

    def trouble(self, name: str, text: str = "") -> None:
        """Have the machine's systemctl be ``slow`` (text: seconds), ``flood``, ``binary`` or ``break``."""
        folder = self.folder / "pretend" / "trouble"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    def mended_by_its_owner(self) -> None:
        """Have the owner turn the timer off by hand; the log of changes, which is of ours, says nothing."""
        for name, word in (("enabled", "disabled"), ("active", "inactive")):
            (self.units / TIMER / name).write_text(f"{word}\n")

    @property
    def breaks(self) -> bool:
        """Whether every change fails there: who takes a dead attempt over sees the fault and tries again."""
        return (self.folder / "pretend" / "trouble" / "break").exists()

    @property
    def vm(self) -> tuple[str, str, str]:
        """Project, zone and id, as entries name it."""
        return self.instance.project_id, self.instance.zone, self.instance.instance_id

    def changes(self) -> list[tuple[int, float]]:
        """Give beginning and end (ns) of every change; one that has not ended ends at infinity."""
        log = self.folder / "pretend" / "changes"
        found: list[tuple[int, float]] = []
        for line in log.read_text().splitlines() if log.exists() else []:
            word, moment = line.split()
            if word == "begin":
                found.append((int(moment), float("inf")))
            else:
                began = max(number for number, (_, end) in enumerate(found) if end == float("inf"))
                found[began] = (found[began][0], int(moment))
        return sorted(found)

    def overlaps(self) -> int:
        """Count changes that began before the one before had ended."""
        changes = self.changes()
        return sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(changes))


class RoughFleet(PretendFleet):
    """Machines that can be added while the fleet is served."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, {}, PretendCompute((), {PROJECT: {}}), asyncssh.generate_private_key("ssh-ed25519")
        )
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RoughFleet"]:
        self.folder.mkdir(parents=True)
        async with super().running(), self._stack:
            try:
                yield self
            finally:
                for machine in self.machines.values():
                    assert isinstance(machine, RoughMachine)
                    await _ended(machine)

    async def add(self, count: int, manner: str = "well") -> list[RoughMachine]:
        """Make and serve so many machines with the fault."""
        return [await self._added(manner) for _ in range(count)]

    async def _added(self, manner: str) -> RoughMachine:
        number = len(self.machines) + 1
        name = f"vm-{number}"
        machine = RoughMachine(
            PretendInstance(
                *(PROJECT, ZONE, f"{6_000_000_000_000_000_000 + number}", name),
                internal_ip=f"127.1.{number // 250}.{number % 250 + 1}",
            ),
            self.folder / name,
            manner=manner,
        )
        known = asyncssh.generate_private_key("ssh-ed25519") if manner == "liar" else machine.host_key
        kind, value = known.export_public_key().decode().split()[:2]
        machine.instance.guest_attributes[f"hostkeys/{kind}"] = value
        machine.make()
        self.machines[name] = machine
        self.compute.instances.append(machine.instance)
        await self._stack.enter_async_context(self._open(machine))
        return machine

    @asynccontextmanager
    async def _open(self, machine: RoughMachine) -> AsyncIterator[None]:
        address = machine.instance.internal_ip
        if machine.manner == "closed":
            yield
        elif machine.manner == "silent":
            server = await asyncio.start_server(
                lambda _, writer: _silent(machine, writer), address, self.ssh_port
            )
            try:
                yield
            finally:
                server.close()
        else:
            async with self._served(machine):
                yield

    async def command(self, machine: Machine, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run a command in the machine's own manner."""
        assert isinstance(machine, RoughMachine)
        await _run(machine, process)


async def _silent(machine: RoughMachine, writer: asyncio.StreamWriter) -> None:
    machine.connections += 1
    machine.held.append(writer)
    await machine.over.wait()


async def _run(machine: RoughMachine, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run one command as sshd does: it goes on when the connection is lost."""
    machine.connections += 1
    script = await process.stdin.read()
    if machine.manner == "deaf":
        await machine.over.wait()
        return
    enforcing = (process.command or "").startswith("sudo")
    child = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", process.command or "true"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=machine.environment(),
        start_new_session=True,
    )
    machine.started.append(child)
    ending = asyncio.create_task(child.communicate(script))
    if enforcing and machine.manner == "drops" and not machine.dropped:
        machine.dropped += 1
        await _until_changing(machine, child)
        process.channel.get_connection().abort()
    stdout, stderr = await ending
    with contextlib.suppress(OSError, asyncssh.Error):
        process.stdout.write(stdout[:_OUTPUT])
        process.stderr.write(stderr[:_OUTPUT])
        process.exit(child.returncode or 0)


async def _until_changing(machine: RoughMachine, child: asyncio.subprocess.Process) -> None:
    while not machine.changes() and child.returncode is None:  # noqa: ASYNC110  a file says so
        await asyncio.sleep(0.01)


async def _ended(machine: RoughMachine) -> None:
    machine.over.set()
    for writer in machine.held:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    for child in machine.started:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
