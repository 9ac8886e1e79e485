"""Real systemd machines: booted in about a second, reached over ssh, always taken away."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh

from logmend.model.values import InstanceRef
from logmend_cli.machine import roots, slots
from logmend_cli.machine.hardware import Hardware, inside
from tests.lab.disk import SERVICE, TIMER, UNIT_FILES, Disk
from tests.lab.metadata import OPTED_IN, MetadataServer

UNIT_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
"""systemd's message id (sd-messages.h) for "a start of this unit has begun"."""
DEADLINE = 150.0
"""Seconds that anything which this module waits for may take before the test fails."""


class Ran(NamedTuple):
    """What a command inside a machine ended with."""

    rc: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class TimerState:
    """The timer as ``systemctl show`` puts it: LoadState, UnitFileState and ActiveState."""

    load: str
    enabled: str
    active: str


@dataclass(frozen=True, slots=True)
class Make:
    """What a machine is made from: where it stands in the cloud, what is on its disk."""

    slot: slots.Slot
    ref: InstanceRef
    release: str
    root: Path
    disk: Disk
    config_status: int | None
    opted_in: bool
    period: float


class Machine:
    """One running machine. Get it from the ``boot`` fixture; everything that waits is a coroutine."""

    port = 22
    user = roots.LOGIN

    def __init__(self, make: Make, host_key: asyncssh.SSHKey, client_key: asyncssh.SSHKey) -> None:
        self.release = make.release
        self.ref = make.ref
        self.slot = make.slot
        self.name = make.slot.name
        self.address = make.slot.address
        self.period = make.period
        self.client_key = client_key
        self.host_key = host_key.export_public_key().decode().strip()
        """The public host key: type and base64, as in ``known_hosts`` and in guest attributes."""
        self._config_status = make.config_status
        self._opted_in = make.opted_in
        self._hardware = Hardware(make.slot, make.root, make.disk.tar())

    async def start(self) -> None:
        """Boot and wait until sshd answers and systemd has started everything."""
        self._hardware.launch()
        attributes = {
            "instance/id": self.ref.instance_id,
            "instance/name": self.name,
            "instance/zone": f"projects/1/zones/{self.ref.zone}",
            "project/project-id": self.ref.project_id,
        }
        if self._opted_in:
            attributes[OPTED_IN] = "true"
        serve = partial(MetadataServer, config_status=self._config_status, attributes=attributes)
        await asyncio.to_thread(self._hardware.plug_in, serve, link=True)
        await self.wait_until_up()

    async def wait_until_up(self, *, other_than: int | None = None) -> None:
        """Wait until a boot (whose leader is not ``other_than``) is complete and sshd answers."""
        try:
            async with asyncio.timeout(DEADLINE):
                while self._hardware.is_launched():
                    if await self._is_up(other_than):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        raise AssertionError(f"{self.name} did not come up: {await self._complaints()}")

    async def _is_up(self, other_than: int | None) -> bool:
        leader = self._hardware.leader()
        if leader is None or leader == other_than:
            return False
        state = await self._enter(leader, ["systemctl", "is-system-running", "--wait"])
        return state.out.strip() in ("running", "degraded") and await self._answers()

    async def _complaints(self) -> str:
        """Give the end of the console and what the journal warns of (``Too many open files``: README.md)."""
        said = self.console()[-2000:]
        if (leader := self._hardware.leader()) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    warnings = ["journalctl", "--quiet", "--boot", "--priority=warning", "--lines=20"]
                    said += (await self._enter(leader, warnings)).out
        return said

    async def reboot(self, *, wait: bool = True) -> None:
        """Reboot as ``systemctl reboot`` does; the disk stays. ``wait=False`` returns when it has begun."""
        before = self.leader()
        await self.run("systemctl reboot")
        if wait:
            await self.wait_until_up(other_than=before)

    async def reset(self, *, wait: bool = True) -> None:
        """Cut the power and boot again: no goodbye to anyone, and only what was on the disk stays."""
        before = self.leader()
        await self.cut_network()
        await asyncio.to_thread(self._hardware.pull_the_plug, before, then="again")
        await self.restore_network()
        if wait:
            await self.wait_until_up(other_than=before)

    async def power_off(self) -> None:
        """Switch the machine off for good: until the test ends its address is there and silent."""
        await self.cut_network()
        await asyncio.to_thread(self._hardware.pull_the_plug, self.leader(), then="off")

    async def cut_network(self) -> None:
        """Let packets between host and machine vanish silently, both ways; open connections just hang."""
        await asyncio.to_thread(self._hardware.cut_network)

    async def restore_network(self) -> None:
        """Undo ``cut_network``."""
        await asyncio.to_thread(self._hardware.restore_network)

    def hang_systemd(self) -> None:
        """Stop PID 1 as a signal from outside can: everything else runs on, and systemd answers nobody."""
        os.kill(self.leader(), signal.SIGSTOP)

    async def stop(self) -> None:
        """Take the machine away, with its processes, link and mounts. More than once is fine."""
        await asyncio.to_thread(self._hardware.take_away)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        stdin: bytes = b"",
        user: str = "root",
        timeout: float = 120,  # noqa: ASYNC109 - the process has to be ended, too
    ) -> Ran:
        """Run ``command`` inside, without ssh: a string goes to the machine's ``sh -c``, a list as it is."""
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        if user != "root":
            argv = ["runuser", "-u", user, "--", *argv]
        async with asyncio.timeout(timeout):
            return await self._enter(self.leader(), argv, stdin)

    @contextlib.asynccontextmanager
    async def connect(self, *, host_key: str | None = None) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Connect over ssh as the login user with the test's key, trusting ``host_key`` (or the real one)."""
        known = asyncssh.import_known_hosts(f"{self.address} {host_key or self.host_key}\n")
        async with asyncssh.connect(
            self.address,
            self.port,
            username=self.user,
            client_keys=[self.client_key],
            known_hosts=known,
            config=None,
            agent_path=None,
        ) as connection:
            yield connection

    async def output(self, command: str | Sequence[str]) -> str:
        """Run ``command`` as root, insist that it succeeds and return what it printed."""
        ran = await self.run(command)
        assert ran.rc == 0, f"{command} ended with {ran.rc}: {ran.err}"
        return ran.out

    async def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Return the journal's entries, oldest first, that fit ``matches`` (``FIELD=value``, ``-u``, …)."""
        text = await self.output(["journalctl", "--quiet", "--no-pager", "--output=json", *matches])
        return [json.loads(line) for line in text.splitlines()]

    async def synced(self) -> None:
        """Have the journal take in what was logged until now: on a busy host it is behind."""
        await self.run(["journalctl", "--sync"])

    async def lines(self) -> list[str]:
        """Return every complaint of the program so far, as it printed them."""
        entries = await self.journal("SYSLOG_IDENTIFIER=gce_workload_cert_refresh")
        complaints = ("Error getting config status", "No workload identities found")
        return [entry["MESSAGE"] for entry in entries if any(text in entry["MESSAGE"] for text in complaints)]

    async def wait_for_line(self, *, more_than: int = 0) -> list[str]:
        """Wait until the program has complained more than so many times; return all it said."""
        deadline = time.monotonic() + DEADLINE
        while len(lines := await self.lines()) <= more_than:
            assert time.monotonic() < deadline, f"{self.name}: {len(lines)} complaints, and no more"
            await asyncio.sleep(0.1)
        return lines

    async def timer_state(self) -> TimerState:
        """Return what systemd says of the timer."""
        shown = await self.output(
            ["systemctl", "show", TIMER, "--property=LoadState,UnitFileState,ActiveState"]
        )
        state = dict(line.split("=", 1) for line in shown.splitlines())
        return TimerState(state["LoadState"], state["UnitFileState"], state["ActiveState"])

    async def unit_checksums(self) -> str:
        """Return checksums of the unit files and drop-ins, to compare before with after."""
        return (await self.run(["sha256sum", *UNIT_FILES])).out

    async def starts_in(self, periods: int) -> int:
        """Wait out so many periods of the timer (and half a second) and count the service's starts."""
        await self.synced()
        before = await self._starts()
        await asyncio.sleep(periods * self.period + 0.5)
        return await self._starts() - before

    async def starts_again(self) -> None:
        """Wait until the service is started once more, however slow the host."""
        before, deadline = await self._starts(), time.monotonic() + DEADLINE
        while await self._starts() <= before:
            assert time.monotonic() < deadline, f"{self.name}: {SERVICE} is started no more"
            await asyncio.sleep(0.1)

    @property
    def metadata(self) -> MetadataServer:
        """The machine's metadata server, with the ``requests`` it has seen."""
        assert isinstance(self._hardware.metadata, MetadataServer)
        return self._hardware.metadata

    def set_config_status(self, status: int | None, body: str | None = None) -> None:
        """Change what the metadata server answers from now on (None: silence)."""
        self.metadata.config_body = body
        self.metadata.config_status = status

    def console(self) -> str:
        """Return what the machine wrote to its console so far, with its CRLF and colours."""
        return self._hardware.console()

    async def _starts(self) -> int:
        return len(await self.journal(f"UNIT={SERVICE}", f"MESSAGE_ID={UNIT_STARTING}"))

    def leader(self) -> int:
        leader = self._hardware.leader()
        assert leader is not None, f"{self.name} is not running"
        return leader

    async def _enter(self, leader: int, argv: Sequence[str], stdin: bytes = b"") -> Ran:
        process = await asyncio.create_subprocess_exec(
            *inside(leader),
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = await process.communicate(stdin)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        return Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))

    async def _answers(self) -> bool:
        """Say whether sshd greets."""
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(self.address, self.port)
                greeting = await reader.readline()
                writer.close()
        except OSError:
            return False
        return greeting.startswith(b"SSH-2.0-")
