"""The files in which one machine differs from its root, as a tar that launch.sh unpacks."""

import io
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.lab.roots import LOGIN

GUEST = Path(__file__).parent / "guest"
TIMER = "gce-workload-cert-refresh.timer"
SERVICE = "gce-workload-cert-refresh.service"
PROGRAM = "/usr/bin/gce_workload_cert_refresh"
CREDENTIALS = "/run/secrets/workload-spiffe-credentials"
UNIT_FILES = (
    f"/usr/lib/systemd/system/{TIMER}",
    f"/usr/lib/systemd/system/{SERVICE}",
    f"/etc/systemd/system/{TIMER}.d/lab-period.conf",
    f"/etc/systemd/system/{SERVICE}.d/lab-rate.conf",
)
"""The units and the drop-ins that shorten their periods."""

AgentForm = Literal["2022-09", "2022", "2023", "2025"]
"""Whose line is printed: agents of 20220927, of 20221018-20230913, of 20230919-20231009, of 2025."""
Timer = Literal["enabled", "disabled", "masked", "absent"]
Shell = Literal["dash", "bash", "busybox"]


@dataclass(frozen=True, slots=True)
class Disk:
    """What a machine is made of. ``period`` and ``on_boot`` are systemd time spans."""

    name: str
    machine_id: str
    host_key: str
    authorized_key: str
    timer: Timer
    agent_form: AgentForm
    shell: Shell
    sudo: bool
    rsyslog: bool
    serial_console: bool
    credentials: bool
    timezone: str
    on_boot: str
    period: str
    files: Mapping[str, str] = field(default_factory=dict)

    def tar(self) -> bytes:
        """Return the tar: regular files and links, all root's, folders left to whoever unpacks it."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, (mode, text) in self._files().items():
                _add(archive, path, tarfile.REGTYPE, mode, text)
            for path, target in self._links().items():
                _add(archive, path, tarfile.SYMTYPE, 0o777, target)
        return buffer.getvalue()

    def _files(self) -> dict[str, tuple[int, str]]:
        files = {
            "/etc/hostname": (0o644, f"{self.name}\n"),
            "/etc/machine-id": (0o444, f"{self.machine_id}\n"),
            "/etc/hosts": (
                0o644,
                f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n169.254.169.254 metadata.google.internal\n",
            ),
            "/etc/ssh/ssh_host_ed25519_key": (0o600, self.host_key),
            "/etc/ssh/sshd_config.d/lab.conf": (0o644, (GUEST / "sshd.conf").read_text()),
            f"/etc/ssh/authorized_keys/{LOGIN}": (0o644, self.authorized_key),
            "/etc/logmend-lab/agent-form": (0o644, f"{self.agent_form}\n"),
        }
        if self.timer != "absent":
            period = (GUEST / "timer-period.conf").read_text()
            period = period.replace("@ON_BOOT@", self.on_boot).replace("@PERIOD@", self.period)
            contents = (
                (GUEST / TIMER).read_text(),
                (GUEST / SERVICE).read_text(),
                period,
                (GUEST / "service-rate.conf").read_text(),
            )
            files |= {path: (0o644, text) for path, text in zip(UNIT_FILES, contents, strict=True)}
            files[PROGRAM] = (0o755, (GUEST / "gce_workload_cert_refresh").read_text())
        if self.sudo:
            files[f"/etc/sudoers.d/{LOGIN}"] = (0o440, f"{LOGIN} ALL=(ALL:ALL) NOPASSWD: ALL\n")
        if self.serial_console:
            files["/etc/systemd/journald.conf.d/lab-console.conf"] = (
                0o644,
                "[Journal]\nForwardToConsole=yes\nMaxLevelConsole=info\n",
            )
        if self.credentials:
            files["/etc/tmpfiles.d/lab-credentials.conf"] = (
                0o644,
                f"f {CREDENTIALS}/certificates.pem 0644 root root\n",
            )
        return files | {path: (0o644, text) for path, text in self.files.items()}

    def _links(self) -> dict[str, str]:
        links = {"/usr/bin/sh": self.shell, "/etc/localtime": f"/usr/share/zoneinfo/{self.timezone}"}
        if self.timer == "enabled":
            links[f"/etc/systemd/system/timers.target.wants/{TIMER}"] = f"/usr/lib/systemd/system/{TIMER}"
        if self.timer == "masked":
            links[f"/etc/systemd/system/{TIMER}"] = "/dev/null"
        if self.rsyslog:
            unit = "/usr/lib/systemd/system/rsyslog.service"
            links["/etc/systemd/system/multi-user.target.wants/rsyslog.service"] = unit
            links["/etc/systemd/system/syslog.service"] = unit
        return links


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
