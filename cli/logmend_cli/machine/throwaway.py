"""One machine for one command. It can reach only its metadata server, and ends with the command."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from logmend.model.struct import Struct
from logmend_cli.machine import disk, roots, slots
from logmend_cli.machine.hardware import UMASK, Hardware, inside
from logmend_cli.machine.metadata import MetadataServer
from logmend_cli.machine.roots import LOGIN, UnavailableError

NEEDED = {
    "apt-get": "apt",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
"""Each command that is needed, and its Debian package."""

BOOT = 60.0
"""Seconds that a boot may take."""

INSTANCE = "4775836342981993096"

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class MachineRun(Struct, frozen=True):
    """The result of a script on the machine; ``code`` is None if it took too long."""

    code: int | None
    out: bytes
    err: bytes


class Throwaway:
    """A running machine."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    def run(self, words: Sequence[str], *, stdin: bytes = b"", root: bool, timeout: float) -> MachineRun:
        """Run a command on it, as root or as the login user, for at most ``timeout`` seconds."""
        leader = self._hardware.leader()
        if leader is None:
            raise UnavailableError([f"the machine stopped: {self._hardware.complaint()}"])
        user = [] if root else ["runuser", "-u", LOGIN, "--"]
        bounded = ["timeout", "--kill-after=5", f"{timeout:.0f}", *words]
        command, begun = [*inside(leader), *user, *bounded], time.monotonic()
        try:
            ran = subprocess.run(
                command, input=stdin, capture_output=True, timeout=timeout + 30, check=False, umask=UMASK
            )
        except subprocess.TimeoutExpired:  # a process that it left running keeps its output open
            return MachineRun(None, b"", b"")
        late = ran.returncode in (124, 137, -9) and time.monotonic() - begun >= timeout
        return MachineRun(None if late else ran.returncode, ran.stdout, ran.stderr)


def require() -> None:
    """Check that a machine can be made here; ``UnavailableError`` names everything that is missing."""
    problems = []
    if not sys.platform.startswith("linux"):
        problems.append("--machine needs Linux")
    elif os.geteuid():
        problems.append("--machine needs root: it mounts, and makes namespaces and control groups")
    missing = {name: package for name, package in NEEDED.items() if shutil.which(name) is None}
    if not Path(roots.KEYRING).exists():
        missing[roots.KEYRING] = "debian-archive-keyring"
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        problems.append(
            f"--machine takes {', '.join(missing)}: on Debian and Ubuntu, apt-get install {packages}"
        )
    if problems:
        raise UnavailableError(problems)


@contextlib.contextmanager
def booted(root: Path) -> Iterator[Throwaway]:
    """Boot a machine from ``root``, and remove it completely at the end, whatever happens.

    Ctrl-C, a closed terminal and SIGTERM shut it down in order. If this process is killed, the kernel ends
    the machine, and the next one to be made clears what is left in ``/run``.
    """
    with _interruptible():
        slot = slots.take()
        files = disk.identity(slot.name, uuid.uuid4().hex)
        hardware = Hardware(slot, root, disk.tar(files, {}))
        try:
            hardware.launch()
            hardware.plug_in(partial(MetadataServer, attributes=_attributes(slot.name)), link=False)
            _until_up(hardware)
            yield Throwaway(hardware)
        finally:
            _deafen()  # removing it takes a moment, and must not be interrupted
            hardware.take_away()
            slot.release()


def _attributes(name: str) -> dict[str, str]:
    return {
        "instance/id": INSTANCE,
        "instance/name": name,
        "instance/zone": "projects/1/zones/us-west1-a",
        "project/project-id": "demo-project",
    }


def _until_up(hardware: Hardware) -> None:
    ends = time.monotonic() + BOOT
    while hardware.is_launched() and time.monotonic() < ends:
        if (leader := hardware.leader()) is not None:
            asked = ["timeout", f"{BOOT:.0f}", "systemctl", "is-system-running", "--wait"]
            state = subprocess.run(
                [*inside(leader), *asked], capture_output=True, text=True, check=False
            ).stdout
            if state.strip() in ("running", "degraded"):
                return
        time.sleep(0.05)
    raise UnavailableError([f"the machine did not come up in {BOOT:.0f} s: {hardware.complaint()}"])


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the first signal that would end this process at once into a KeyboardInterrupt, as of Ctrl-C.

    Signals come in pairs: a closed terminal sends one, and its shell another.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        _deafen()
        raise KeyboardInterrupt

    before: list[Callable[..., object] | int | None] = [signal.getsignal(each) for each in _ENDING]
    try:
        for each in _ENDING:
            signal.signal(each, stop)
        yield
    finally:
        for each, handler in zip(_ENDING, before, strict=True):
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)


def _deafen() -> None:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
