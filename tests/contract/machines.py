"""SSH servers on loopback for the contract tests: one that really runs commands, and ways to misbehave."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh

from logmend.adapters.ssh.executor import SshExecutor
from logmend.adapters.ssh.host_keys import See, Trust
from logmend.adapters.ssh.routes import Direct
from logmend.model.values import CredentialKind, InstanceFacts, InstanceRef
from logmend.runbook import Limits, Runbook, Scripts

REF = InstanceRef("web-prod", "us-west1-a", "4775836342981993096")
FACTS = InstanceFacts(REF, "web-1", "RUNNING", internal_ip="127.0.0.1")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")
USER_KEY = asyncssh.generate_private_key("ssh-ed25519")

Handler = Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]


class Now:
    """The real clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class Key:
    """The test user's credential."""

    username: str = "tester"
    private_key: Any = USER_KEY
    certificate: Any = None

    kind: CredentialKind = "static"

    async def credential(self, _: InstanceFacts) -> "Key":
        return self

    async def instead(self, facts: InstanceFacts, refused: object) -> None:
        """There is no other key."""

    async def accepted(self, facts: InstanceFacts, credential: object) -> None:
        """Nothing is to be remembered."""


@dataclass(frozen=True)
class Pinned:
    """Host keys that are known, as the test says."""

    keys: tuple[asyncssh.SSHKey, ...] = (HOST_KEY,)

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        del facts, see
        return Trust("published", ([key.convert_to_public() for key in self.keys], [], []))


def runbook(
    validate: str = "exit 100\n",
    enforce: str = "exit 100\n",
    revert_validate: str = "exit 1\n",
    revert_enforce: str = "exit 1\n",
) -> Runbook:
    """Give a runbook of which only the scripts matter."""
    scripts = Scripts(validate, enforce, revert_validate, revert_enforce)
    return Runbook("test", "", None, (), (), Limits(), None, None, (), None, scripts, "sha256:0")


def executor(port: int, **changes: Any) -> SshExecutor:
    """Give the executor under test; ``changes`` are its arguments by name."""
    parts: dict[str, Any] = {
        "credentials": Key(),
        "host_keys": Pinned(),
        "route": Direct(),
        "clock": Now(),
        "port": port,
        "deadline": timedelta(seconds=20),
    }
    return SshExecutor(**(parts | changes))


async def later(seconds: float) -> None:
    """Let so many seconds have passed for every timer of this loop, once what they end is arranged."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]
    await asyncio.sleep(0)


class _Server(asyncssh.SSHServer):
    def begin_auth(self, _: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "tester" and key == USER_KEY.convert_to_public()


@asynccontextmanager
async def served(handler: Handler, **options: Any) -> AsyncIterator[int]:
    """Serve SSH on a free port; ``handler`` gets every command."""
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=options.pop("server_factory", _Server),
        server_host_keys=options.pop("server_host_keys", [HOST_KEY]),
        process_factory=handler,
        encoding=None,
        config=None,
        agent_forwarding=False,
        gss_host=None,
        **options,
    )
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        if isinstance(handler, Shell):
            await handler.reap()
        listener.close()
        await listener.wait_closed()


@dataclass
class Shell:
    """A machine that runs every command with a login shell, like sshd does; remembers the command lines."""

    path: Path
    shell: tuple[str, ...] = ("/bin/sh",)
    commands: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    _children: list[asyncio.subprocess.Process] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def put(self, name: str, text: str) -> None:
        """Put a program in front of the machine's path."""
        file = self.path / name
        file.write_text(text)
        file.chmod(0o755)

    async def __call__(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.commands.append(process.command or "")
        # A task of our own: asyncssh drops its handlers with their connection, and the command would live on.
        task = asyncio.create_task(self._run(process, process.command or ""))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def reap(self) -> None:
        """End whatever still runs."""
        while self._tasks:
            for child in self._children:
                if child.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
            await asyncio.wait(self._tasks, timeout=0.1)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes], command: str) -> None:
        child = await asyncio.create_subprocess_exec(
            *self.shell,
            "-c",
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": f"{self.path}:{os.environ['PATH']}"} | self.environment,
            start_new_session=True,
        )
        self._children.append(child)
        assert child.stdin
        assert child.stdout
        assert child.stderr
        with contextlib.suppress(OSError, asyncssh.Error):
            child.stdin.write(await process.stdin.read())
        child.stdin.close()
        await asyncio.gather(
            _pump(child, child.stdout, process.stdout), _pump(child, child.stderr, process.stderr)
        )
        status = await child.wait()
        with contextlib.suppress(OSError, asyncssh.Error):
            process.exit(status)


async def _pump(
    child: asyncio.subprocess.Process, source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]
) -> None:
    """Pass output on; kill the command once nobody takes it any more, as a broken pipe would."""
    while chunk := await source.read(8192):
        try:
            target.write(chunk)
            await target.drain()
        except (OSError, asyncssh.Error):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


SUDO = """#!/bin/sh
[ "$1" = -n ] || exit 9
shift
exec env AS_ROOT=yes "$@"
"""
SUDO_PASSWORD = """#!/bin/sh
echo 'sudo: a password is required' >&2
exit 1
"""
