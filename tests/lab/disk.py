"""The files in which one machine of the lab differs from its root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from logmend_cli.machine import disk
from logmend_cli.machine.roots import LOGIN

GUEST = Path(__file__).parent / "guest"
TIMER = "gce-workload-cert-refresh.timer"
SERVICE = "gce-workload-cert-refresh.service"
PROGRAM = "/usr/bin/gce_workload_cert_refresh"
PRESET = "/usr/lib/systemd/system-preset/90-google-guest-agent.preset"
CREDENTIALS = "/run/secrets/workload-spiffe-credentials"
UNIT_FILES = (
    f"/usr/lib/systemd/system/{TIMER}",
    f"/usr/lib/systemd/system/{SERVICE}",
    f"/etc/systemd/system/{TIMER}.d/lab-period.conf",
    f"/etc/systemd/system/{SERVICE}.d/lab-rate.conf",
)
"""The units and the drop-ins that shorten their periods."""

Agent = Literal[
    "20220927.00",
    "20221018.00",
    "20221104.00",
    "20230913.00",
    "20230919.00",
    "20231004.02",
    "20231011.00",
    "20240213.00",
    "20240313.00",
    "20240611.00",
    "20240930.00",
    "20250326.00",
    "20250327.00",
    "20250327.01",
    "20250901.00",
    "20260724.00",
]
"""The tags of the guest agent whose program was observed (tests/refresher.py), and is imitated here."""
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
    agent: Agent
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
        return disk.tar(self._files(), self._links())

    def _files(self) -> dict[str, tuple[int, str]]:
        files = disk.identity(self.name, self.machine_id) | {
            "/etc/ssh/ssh_host_ed25519_key": (0o600, self.host_key),
            "/etc/ssh/sshd_config.d/lab.conf": (0o644, (GUEST / "sshd.conf").read_text()),
            f"/etc/ssh/authorized_keys/{LOGIN}": (0o644, self.authorized_key),
            "/etc/logmend-lab/agent": (0o644, f"{self.agent}\n"),
        }
        if self.timer != "absent":
            period = (GUEST / "timer-period.conf").read_text()
            period = period.replace("@ON_BOOT@", self.on_boot).replace("@PERIOD@", self.period)
            contents = (
                timer_of(self.agent),
                (GUEST / SERVICE).read_text(),
                period,
                (GUEST / "service-rate.conf").read_text(),
            )
            files |= {path: (0o644, text) for path, text in zip(UNIT_FILES, contents, strict=True)}
            files[PRESET] = (0o644, preset_of(self.agent))
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


def timer_of(agent: Agent) -> str:
    """Return the timer that the package of a tag ships: until 20221025 it ran every half hour."""
    text = (GUEST / TIMER).read_text()
    return text if agent >= "20221104.00" else text.replace("=10m", "=30m")


def preset_of(agent: Agent) -> str:
    """Return what the package's preset says of the timer: nothing until 20221018, and not the same in 2025.

    From 20250627 to 20260122 some tags enable it and some disable it, since 20260222 all disable it
    (guest-agent, 90-google-guest-agent.preset). A package's first installation does not ask it.
    """
    if agent < "20221025.00":
        return ""
    return f"{'disable' if agent in ('20250901.00', '20260724.00') else 'enable'} {TIMER}\n"
