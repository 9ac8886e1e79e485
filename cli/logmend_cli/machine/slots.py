"""One slot for each machine of this host: name, link, address and control groups, locked while in use."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from logmend_cli.machine.roots import UnavailableError

NETWORK = "10.181.243"
"""A private /24; only single addresses of it are configured, each behind its own link."""
HOST_ADDRESS = f"{NETWORK}.1"
_LINKS = Path("/sys/class/net")
_GROUP = "logmend-lab"
_FOLDER = Path("/run/logmend-lab")
"""The same for every run on this host, whatever its cache: links and addresses belong to the host."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one machine uses. The kernel releases the lock when this process ends, however it ends."""

    number: int
    lock: IO[str]

    @property
    def name(self) -> str:
        """The machine's name, also its hostname."""
        return f"lm{self.number}"

    @property
    def link(self) -> str:
        """The host's end of the machine's link."""
        return f"ve-{self.name}"

    @property
    def address(self) -> str:
        """The machine's address, reachable from the host alone."""
        return f"{NETWORK}.{self.number}"

    @property
    def host_mac(self) -> str:
        """The hardware address of the host's end."""
        return f"02:6c:6d:00:00:{self.number:02x}"

    @property
    def machine_mac(self) -> str:
        """The hardware address of the machine's end."""
        return f"02:6c:6d:00:01:{self.number:02x}"

    @property
    def groups(self) -> list[Path]:
        """The control groups of this machine, one for each hierarchy that systemd uses."""
        return [hierarchy / _GROUP / self.name for hierarchy in _hierarchies()]

    @property
    def folder(self) -> Path:
        """The host's folder for this machine; its disk is mounted in it."""
        return _FOLDER / f"{self.name}.d"

    def processes(self) -> set[int]:
        """Return the ids of all processes of this machine, including its launcher."""
        found: set[int] = set()
        for group in self.groups:
            for listing in group.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found |= {int(line) for line in listing.read_text().split() if line != "0"}
        return found

    def has_link(self) -> bool:
        """Return whether the host's end of the link exists; a link of someone else has another address."""
        with contextlib.suppress(OSError):
            return (_LINKS / self.link / "address").read_text().strip() == self.host_mac
        return False

    def release(self) -> None:
        """Release the slot and its lock."""
        Path(self.lock.name).unlink(missing_ok=True)
        self.lock.close()

    def clear(self) -> None:
        """End what runs in this slot and remove its link and control groups, if there are any."""
        deadline = time.monotonic() + 10
        while (processes := self.processes()) and time.monotonic() < deadline:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
        if self.has_link():
            subprocess.run(["ip", "link", "delete", self.link], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        for group in self.groups:
            for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                _remove(folder)
            _remove(group)
            _remove(group.parent)


def take() -> Slot:
    """Take a free slot, and clear what a killed run may have left in it."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    for number in range(2, 255):
        lock = (_FOLDER / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if not os.fstat(lock.fileno()).st_nlink:  # the process that held it has just removed it
            lock.close()
            return take()
        slot = Slot(number, lock)
        slot.clear()
        return slot
    raise UnavailableError(["all 253 slots for machines of this host are in use"])


def _hierarchies() -> list[Path]:
    """Return where cgroup v2 and systemd's own v1 hierarchy are mounted (either or both)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(before.split(" ")[4]))
    return found


def make_group(folder: Path) -> None:
    """Make a control group, even if clearing another slot removes the parent in between."""
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # the latter: removed in between
            folder.mkdir(parents=True, exist_ok=True)
            return
    raise FileNotFoundError(folder)


def _remove(folder: Path) -> None:
    """Remove a control group. The kernel may need a moment after its last process; a parent may be in use."""
    for _ in range(20):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if any(path.is_dir() for path in folder.iterdir()):
                return
            time.sleep(0.01)
        else:
            return
