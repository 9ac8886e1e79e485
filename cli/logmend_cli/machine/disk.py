"""The files in which one machine differs from its root, as a tar that launch.sh unpacks."""

import io
import tarfile
import time
from collections.abc import Mapping


def identity(name: str, machine_id: str) -> dict[str, tuple[int, str]]:
    """Return the files that identify a machine: path to mode and text."""
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {name}\n169.254.169.254 metadata.google.internal\n"
    return {
        "/etc/hostname": (0o644, f"{name}\n"),
        "/etc/machine-id": (0o444, f"{machine_id}\n"),
        "/etc/hosts": (0o644, hosts),
    }


def tar(files: Mapping[str, tuple[int, str]], links: Mapping[str, str]) -> bytes:
    """Return the tar: regular files and links, all owned by root; unpacking creates the folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (mode, text) in files.items():
            _add(archive, path, tarfile.REGTYPE, mode, text)
        for path, target in links.items():
            _add(archive, path, tarfile.SYMTYPE, 0o777, target)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: str, kind: bytes, mode: int, content: str) -> None:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type = kind
    entry.mode = mode
    entry.mtime = int(time.time())
    if kind == tarfile.SYMTYPE:
        entry.linkname = content
        archive.addfile(entry)
    else:
        data = content.encode()
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
