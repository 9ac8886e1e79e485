"""Lends a machine folders of the host: this Python and this repository, to run the command itself in there.

The kernel moves a copy of a mount into another mount namespace (open_tree and move_mount, Linux 5.2), which
``mount --bind`` cannot.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.machines import Machine

REPOSITORY = Path(__file__).parents[2]
COMMAND = (f"{sys.prefix}/bin/python", "-c", "from logmend_cli.main import main; main()")
"""What runs ``logmend`` on a machine that was lent this."""

_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _CLONE, _RECURSIVE, _FROM_DESCRIPTOR = -100, 1, 0x8000, 4
_NEW_NAMESPACE = 0x20000


def this(machine: Machine) -> tuple[str, ...]:
    """Give a machine this Python with all that is installed for it, and return :data:`COMMAND`."""
    if sys.base_prefix == "/usr":
        pytest.skip("this Python is part of the host's own /usr, which cannot be lent")
    folders = {sys.base_prefix, sys.prefix, str(REPOSITORY)}
    for folder in folders:
        if not any(folder != other and Path(folder).is_relative_to(other) for other in folders):
            _lend(machine.leader(), folder)
    return COMMAND


def _lend(leader: int, folder: str) -> None:
    tree = _call(_OPEN_TREE, _AT_FDCWD, folder.encode(), _CLONE | _RECURSIVE | os.O_CLOEXEC)
    namespace, root = (os.open(f"/proc/{leader}/{each}", os.O_RDONLY) for each in ("ns/mnt", "root"))
    try:
        words = [sys.executable, "-m", "tests.lab.lend", *map(str, (tree, namespace, root)), folder]
        subprocess.run(words, check=True, pass_fds=(tree, namespace, root), cwd=REPOSITORY)
    finally:
        for each in (tree, namespace, root):
            os.close(each)


def _take(tree: int, namespace: int, root: int, folder: str) -> None:
    """Run as a process of its own: it is inside from then on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _NEW_NAMESPACE):
        raise OSError(ctypes.get_errno(), "setns")
    os.fchdir(root)
    os.chroot(".")
    Path(folder).mkdir(parents=True, exist_ok=True)
    _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, folder.encode(), _FROM_DESCRIPTOR)


def _call(*words: int | bytes) -> int:
    done: int = ctypes.CDLL(None, use_errno=True).syscall(*words)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


if __name__ == "__main__":
    _take(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
