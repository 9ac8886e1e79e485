"""A pretend fleet: SSH servers on loopback that really run the runbooks' scripts, each in its own folder.

It needs neither root nor a cloud. A machine is a folder (see README.md beside this file) behind its own
address in 127.0.0.0/8; its SSH server runs commands with ``/bin/sh``, with the pretend ``systemctl``,
``curl`` and ``sudo`` first on the path. The pretend Compute API knows every machine and its host key.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import uvicorn

from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.instance import PretendInstance

TIMER = "gce-workload-cert-refresh.timer"
USER = "logmend"
_HERE = Path(__file__).parent
_OUTPUT = 1 << 20


@dataclass
class Machine:
    """One pretend machine. ``instance`` is what the Compute API says; ``folder`` is its real state.

    If ``listens`` is False, its SSH port is closed. ``own_id`` is the id that its metadata server gives: a
    different one if the address now belongs to another machine.
    """

    instance: PretendInstance
    folder: Path
    listens: bool = True
    own_id: str | None = None
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))

    @property
    def units(self) -> Path:
        """Folder of the pretend systemd units."""
        return self.folder / "pretend" / "units"

    def make(self, *, timer: str | None = "enabled", active: bool = True) -> None:
        """Make the folder: the timer in this state (None: no such unit) and the metadata server's answers."""
        metadata = self.folder / "pretend/http/169.254.169.254/computeMetadata/v1/instance"
        metadata.mkdir(parents=True)
        (metadata / "id").write_text(self.own_id or self.instance.instance_id)
        self.units.mkdir(parents=True)
        if timer is not None:
            unit = self.units / TIMER
            unit.mkdir()
            (unit / "enabled").write_text(f"{timer}\n")
            (unit / "active").write_text("active\n" if active else "inactive\n")

    def timer(self) -> str | None:
        """Return ``enabled active`` or the like; None if there is no timer."""
        unit = self.units / TIMER
        if not unit.is_dir():
            return None
        return " ".join((unit / name).read_text().strip() for name in ("enabled", "active"))

    def calls(self) -> list[str]:
        """Return every call of a stand-in, with its arguments: what was really done on the machine."""
        log = self.folder / "pretend" / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self) -> dict[str, str]:
        """Return the environment of a command on this machine."""
        path = [str(_HERE / "bin"), os.environ.get("PATH", os.defpath)]
        if not (shutil.which("flock") and shutil.which("timeout")):
            path.insert(1, str(_HERE / "fallback"))
        return {"PATH": ":".join(path), "LOGMEND_ROOT": str(self.folder), "HOME": str(self.folder)}


class PretendLogin(asyncssh.SSHServer):
    """Lets in one user with one key only."""

    def __init__(self, user: str, key: asyncssh.SSHKey) -> None:
        self._user, self._key = user, key.convert_to_public()

    def begin_auth(self, username: str) -> bool:
        """Ask every user for a key."""
        del username
        return True

    def public_key_auth_supported(self) -> bool:
        """Accept keys only."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Compare user and key."""
        return username == self._user and key == self._key


@dataclass
class PretendFleet:
    """Machines behind one port, the Compute API that knows them, and the key that opens them."""

    folder: Path
    machines: dict[str, Machine]
    compute: PretendCompute
    key: asyncssh.SSHKey
    ssh_port: int = 0
    compute_port: int = 0

    @property
    def key_file(self) -> Path:
        """The private key, as ``LOGMEND_SSH_KEY`` takes it."""
        return self.folder / "key"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PretendFleet"]:
        """Serve every machine and the API for as long as the context lasts."""
        self.key.write_private_key(str(self.key_file))
        self.key_file.chmod(0o600)
        self.ssh_port, self.compute_port = free_port(), free_port()
        async with AsyncExitStack() as stack:
            for machine in self.machines.values():
                if machine.listens:
                    await stack.enter_async_context(self._served(machine))
            await stack.enter_async_context(serving(self.compute.app, self.compute_port))
            yield self

    @asynccontextmanager
    async def _served(self, machine: Machine) -> AsyncIterator[None]:
        async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
            await self.command(machine, process)

        listener = await asyncssh.listen(
            machine.instance.internal_ip or "127.0.0.1",
            self.ssh_port,
            server_factory=lambda: PretendLogin(USER, self.key),
            server_host_keys=[machine.host_key],
            process_factory=run,
            encoding=None,
            config=None,
            agent_forwarding=False,
            gss_host=None,
        )
        try:
            yield
        finally:
            listener.close()
            await listener.wait_closed()

    async def command(self, machine: Machine, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run one command on a machine, as sshd would; a fleet that misbehaves overrides this."""
        await _run(machine, process)


async def _run(machine: Machine, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run one command as sshd would, in a process group that ends with the connection."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command or "true",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=machine.environment(),
        start_new_session=True,
    )
    try:
        stdout, stderr = await child.communicate(await process.stdin.read())
        with contextlib.suppress(OSError, asyncssh.Error):
            process.stdout.write(stdout[:_OUTPUT])
            process.stderr.write(stderr[:_OUTPUT])
            process.exit(child.returncode or 0)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


@asynccontextmanager
async def serving(app: object, port: int) -> AsyncIterator[None]:
    """Serve an ASGI application on a loopback port for as long as the context lasts."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # Ctrl-C is the demo's
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if task.done():
                task.result()
        yield
    finally:
        server.should_exit = True
        await task


def free_port() -> int:
    """Return a loopback port that nothing listens on and that the kernel does not hand out meanwhile.

    It may be used minutes later. A process that asks for port 0, or connects, gets one from 32768 on (Linux,
    net.ipv4.ip_local_port_range); other systems begin even higher.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
