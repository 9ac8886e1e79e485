"""What is hardware in a real machine: power, the link to the host, a console, the metadata server."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from logmend.model.evidence import error_text
from logmend_cli.machine import slots
from logmend_cli.machine.metadata import MetadataServer
from logmend_cli.machine.roots import UnavailableError

LAUNCH = Path(__file__).with_name("launch.sh")
UMASK = 0o022
"""The machine's own umask, not the caller's: under a stricter one, its users could not read their root."""


def inside(leader: int) -> list[str]:
    """Return the words to put before a command to run it as root in the machine whose PID 1 is ``leader``."""
    clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb")
    return ["nsenter", "--target", str(leader), "--all", "--", *clean]


class Hardware:
    """One machine seen from outside. All methods block, for milliseconds."""

    def __init__(self, slot: slots.Slot, root: Path, disk: bytes) -> None:
        """Use ``slot``; the machine will see ``root`` with the files of the tar ``disk`` on top."""
        self.slot = slot
        self.metadata: MetadataServer | None = None
        self._root = root
        self._disk = disk
        self._launcher: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the launcher. Call this on the main thread.

        The kernel ends the launcher together with the thread that started it: even a killed process leaves no
        machine behind.
        """
        self.slot.folder.mkdir(parents=True)
        with (self.slot.folder / "console").open("wb") as console:
            self._launcher = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "sh", str(LAUNCH)),
                    *(self.slot.name, str(self._root), str(self.slot.folder), *map(str, self.slot.groups)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                env={**os.environ, "UNIFIED_CGROUP_HIERARCHY": "1"},
                start_new_session=True,
                umask=UMASK,
            )

    def plug_in(self, serve: Callable[[int], MetadataServer], *, link: bool) -> None:
        """Give the waiting launcher its control groups, metadata server and disk, which boots the machine.

        ``serve`` starts the server in the network namespace of a process. Without a ``link`` to the host, the
        machine can reach only that server.
        """
        launcher = self._running()
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        for group in self.slot.groups:
            slots.make_group(group / "launcher")
            (group / "launcher" / "cgroup.procs").write_text(str(launcher.pid))
        if launcher.stdout.readline() != b"ready\n":
            raise UnavailableError([f"cannot make a machine here: {self.complaint()}"])
        if link:
            self._link(launcher.pid)
        self.metadata = serve(launcher.pid)
        launcher.stdin.write(self._disk)
        launcher.stdin.close()

    def _link(self, pid: int) -> None:
        link, address, mac = self.slot.link, self.slot.address, self.slot.machine_mac
        _ip(
            [],
            f"link add {link} address {self.slot.host_mac} type veth "
            f"peer name host0 address {mac} netns {pid}",
            f"address add {slots.HOST_ADDRESS}/32 peer {address}/32 dev {link}",
            f"link set {link} up",
            # A static neighbour: a connection to a dead machine gets no answer, as in the cloud.
            f"neighbour replace {address} lladdr {mac} dev {link} nud permanent",
        )
        self._ip_inside(f"address add {address}/32 peer {slots.HOST_ADDRESS}/32 dev host0")
        self.restore_network()

    def is_launched(self) -> bool:
        """Return whether the launcher is alive, and so whether there is, or soon will be, a machine."""
        return self._launcher is not None and self._launcher.poll() is None

    def leader(self) -> int | None:
        """Return the process that is the machine's PID 1, once that is systemd and no longer nspawn."""
        if self._launcher is None:
            return None
        for nspawn in _children(self._launcher.pid):
            for child in _children(nspawn):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child}/exe").readlink().name == "systemd" and _is_init(child):
                        return child
        return None

    def console(self) -> str:
        """Return what was written to the console so far."""
        return (self.slot.folder / "console").read_bytes().decode(errors="replace")

    def complaint(self) -> str:
        """Return the end of the console's text as one line without control characters."""
        return error_text(self.console().encode()) or "its console is empty"

    def cut_network(self) -> None:
        """Take the machine's end of the link down: packets are lost in both directions."""
        self._ip_inside("link set host0 down")

    def restore_network(self) -> None:
        """Bring the machine's end of the link up."""
        neighbour = f"{slots.HOST_ADDRESS} lladdr {self.slot.host_mac} dev host0 nud permanent"
        self._ip_inside("link set host0 up", f"neighbour replace {neighbour}")

    def pull_the_plug(self, leader: int, *, then: Literal["again", "off"]) -> None:
        """End the machine at once; then boot it ``again``, or leave it ``off``, its link there but dead."""
        (self.slot.folder / "next").write_text(then)
        os.kill(leader, signal.SIGKILL)
        while Path(f"/proc/{leader}").exists():
            time.sleep(0.01)

    def take_away(self) -> None:
        """End everything and remove every trace. It may be called more than once."""
        if (launcher := self._launcher) is None:
            return
        # From the inside out: each parent sees its child end, and no process is left for init to reap.
        if (leader := self.leader()) is not None:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.kill(leader, signal.SIGKILL)
                launcher.wait(5)
        launcher.kill()
        launcher.wait()
        for pipe in (launcher.stdin, launcher.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._launcher = None
        if self.metadata is not None:
            self.metadata.close()
        self.slot.clear()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._launcher is not None, f"{self.slot.name} was removed"
        return self._launcher

    def _ip_inside(self, *commands: str) -> None:
        _ip(["nsenter", "--target", str(self._running().pid), "--net", "--"], *commands)


def _ip(prefix: Sequence[str], *commands: str) -> None:
    subprocess.run([*prefix, "ip", "-batch", "-"], input="\n".join(commands).encode(), check=True)


def _children(parent: int) -> list[int]:
    """Return the processes whose parent is ``parent``."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(folder.name))
    return found


def _is_init(process: int) -> bool:
    """Return whether ``process`` is PID 1 of a PID namespace below ours."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            ids = line.split()[1:]
            return len(ids) > 1 and ids[-1] == "1"
    return False
