"""The lab of one test run: hands out machines and knows at the end whether anything of them is left."""

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path

import asyncssh

from logmend.model.values import InstanceRef
from logmend_cli.machine import roots, slots
from tests.lab.disk import Agent, Disk, Shell, Timer
from tests.lab.machines import Machine, Make


def things(slot: slots.Slot) -> set[tuple[str, int]]:
    """Name what there is of the machine in a slot, so that nothing of the next one in it has the same name.

    Once the slot is given back, any other test run on this host may have its next machine there.
    """
    there = (slot.folder, Path("/sys/class/net", slot.link), *slot.groups)
    found = {("process", each) for each in slot.processes()}
    for each in there:
        with contextlib.suppress(OSError):
            found.add((str(each), each.stat().st_ino))
    return found


class Lab:
    """Everything that machines of one run share: the slots they use, the key they trust."""

    def __init__(self) -> None:
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._held: list[slots.Slot] = []
        self._free: list[slots.Slot] = []

    async def boot(
        self,
        *,
        release: str = roots.RELEASES[0],
        agent: Agent = "20230913.00",
        opted_in: bool = False,
        config_status: int | None = 404,
        timer: Timer = "enabled",
        sudo: bool = True,
        rsyslog: bool = False,
        serial_console: bool = False,
        credentials: bool = False,
        shell: Shell = "dash",
        timezone: str = "Etc/UTC",
        project_id: str = "lab-project",
        zone: str = "us-west1-a",
        instance_id: str | None = None,
        period: float = 1.0,
        on_boot: float = 0.1,
        files: Mapping[str, str] | None = None,
    ) -> Machine:
        """Boot a machine (README.md says what each option means) and return it once it is up."""
        root = await asyncio.to_thread(roots.root, release)
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        slot = self._take()
        machine = Machine(
            Make(
                slot=slot,
                ref=InstanceRef(
                    project_id, zone, instance_id or str(7_000_000_000_000_000_000 + uuid.uuid4().time_low)
                ),
                release=release,
                root=root,
                disk=Disk(
                    name=slot.name,
                    machine_id=uuid.uuid4().hex,
                    host_key=host_key.export_private_key().decode(),
                    authorized_key=self.client_key.export_public_key().decode(),
                    timer=timer,
                    agent=agent,
                    shell=shell,
                    sudo=sudo,
                    rsyslog=rsyslog,
                    serial_console=serial_console,
                    credentials=credentials,
                    timezone=timezone,
                    on_boot=f"{on_boot * 1000:.0f}ms",
                    period=f"{period * 1000:.0f}ms",
                    files=files or {},
                ),
                config_status=config_status,
                opted_in=opted_in,
                period=period,
            ),
            host_key,
            self.client_key,
        )
        try:
            await machine.start()
        except BaseException:
            await self.take_away(machine)
            raise
        return machine

    async def take_away(self, machine: Machine) -> None:
        """Stop ``machine``; its slot may be used again."""
        await machine.stop()
        self._free.append(machine.slot)

    def close(self) -> list[str]:
        """End the run; return what its machines left behind, in words (there should be nothing)."""
        left = []
        mounts = Path("/proc/self/mountinfo").read_text()
        for slot in self._held:
            left += [f"process {process} of {slot.name}" for process in slot.processes()]
            left += [f"control group {group}" for group in slot.groups if group.exists()]
            if slot.folder.exists():
                left.append(f"folder {slot.folder}")
            if slot.has_link():
                left.append(f"link {slot.link}")
            if f" {slot.name} " in mounts:
                left.append(f"mount of {slot.name}")
            slot.release()
        return left

    def _take(self) -> slots.Slot:
        if self._free:
            return self._free.pop(0)
        slot = slots.take()
        self._held.append(slot)
        return slot
