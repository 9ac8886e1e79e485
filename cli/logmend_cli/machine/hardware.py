"""What would be metal in a machine of metal: power, the link to the host, a console, metadata server."""

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
"""A machine's own, not that of whoever makes it: a root that is closed to its users would be none."""


def inside(leader: int) -> list[str]:
    """Return the words before a command that run it, as root, in the machine whose PID 1 is ``leader``."""
    clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb")
    return ["nsenter", "--target", str(leader), "--all", "--", *clean]


class Hardware:
    """One machine seen from outside. Everything here blocks, for milliseconds."""

    def __init__(self, slot: slots.Slot, root: Path, disk: bytes) -> None:
        """Occupy ``slot``; the machine will see ``root`` with the files of the tar ``disk`` on top."""
        self.slot = slot
        self.metadata: MetadataServer | None = None
        self._root = root
        self._disk = disk
        self._launcher: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the launcher. To be called on the main thread.

        The kernel ends the launcher together with the thread that started it, so that not even a killed
        process leaves a machine behind.
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
        """Give the waiting launcher its control groups, metadata server and disk: it boots.

        ``serve`` starts the server in the network namespace of a process. Without a ``link`` to the host that
        server is all that the machine can reach.
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
            # A known neighbour: whoever calls a dead machine hears nothing, as in the cloud.
            f"neighbour replace {address} lladdr {mac} dev {link} nud permanent",
        )
        self._ip_inside(f"address add {address}/32 peer {slots.HOST_ADDRESS}/32 dev host0")
        self.restore_network()

    def is_launched(self) -> bool:
        """Say whether the launcher lives: whether there is, or soon will be, a machine."""
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
        """Return the console's end as one line that means nothing to a terminal."""
        return error_text(self.console().encode()) or "its console is empty"

    def cut_network(self) -> None:
        """Take the machine's end of the link down: packets vanish, both ways."""
        self._ip_inside("link set host0 down")

    def restore_network(self) -> None:
        """Bring the machine's end of the link up."""
        neighbour = f"{slots.HOST_ADDRESS} lladdr {self.slot.host_mac} dev host0 nud permanent"
        self._ip_inside("link set host0 up", f"neighbour replace {neighbour}")

    def pull_the_plug(self, leader: int, *, then: Literal["again", "off"]) -> None:
        """End the machine at once; then boot it ``again``, or keep it ``off``, its link in place and dead."""
        (self.slot.folder / "next").write_text(then)
        os.kill(leader, signal.SIGKILL)
        while Path(f"/proc/{leader}").exists():
            time.sleep(0.01)

    def take_away(self) -> None:
        """End everything and remove every trace. More than once is fine."""
        if (launcher := self._launcher) is None:
            return
        # From the inside out, so that each parent sees its child end and nobody is left for init to bury.
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
    """Say whether ``process`` is PID 1 of a PID namespace below ours."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            ids = line.split()[1:]
            return len(ids) > 1 and ids[-1] == "1"
    return False
