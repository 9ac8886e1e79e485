"""Root file systems of the lab's machines: Debian releases, built once with mmdebstrap and then only read."""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

RELEASES = ("bookworm", "trixie")
OLDER = ("bullseye",)
"""Releases for what differs between versions of systemd."""
PACKAGES = (
    "busybox",
    "curl",
    "dbus",
    "iproute2",
    "iptables",
    "openssh-server",
    "rsyslog",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tzdata",
)
LOGIN = "logmend"
CUSTOMIZE = f"""
set -eu
useradd --uid 1000 --user-group --create-home --shell /bin/bash {LOGIN}
rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id
systemctl disable rsyslog.service
systemctl mask console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer \\
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
"""
"""Runs once inside each root: a login user, no keys or identity for two to share, nothing idle."""


class LabUnavailableError(Exception):
    """The machines cannot be made here; the text says what is missing."""


def cache() -> Path:
    """Where roots are kept between runs: ``LOGMEND_LAB_CACHE``, else a folder of the system's cache."""
    return Path(os.environ.get("LOGMEND_LAB_CACHE") or "/var/cache/logmend-lab")


def mirror() -> str:
    """Return the address of the Debian archive that this machine itself installs from."""
    if (known := _archive()) is not None:
        return known
    # Images often come without package lists: fetch them, but not into the machine's own.
    with tempfile.TemporaryDirectory() as lists:
        option = f"Dir::State::lists={lists}"
        subprocess.run(["apt-get", "-qq", "-o", option, "update"], capture_output=True, check=False)
        if (fetched := _archive("-o", option)) is not None:
            return fetched
    raise LabUnavailableError("there is no Debian archive among this machine's apt sources")


def _archive(*options: str) -> str | None:
    fields = "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", *options, "indextargets", "--format", fields, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for line in listed.splitlines():
        origin, label, component, uri = line.split(" ", 3)
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return uri
    return None


def root(release: str, packages: tuple[str, ...] = PACKAGES, customize: str = CUSTOMIZE) -> Path:
    """Return the folder that holds ``release``, building it first if it is not cached (about 30 s)."""
    recipe = "\n".join((release, *packages, customize))
    target = cache() / f"root-{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _build(release, packages, customize, target)
    return target


def _build(release: str, packages: tuple[str, ...], customize: str, target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    built = subprocess.run(
        [
            "unshare",  # what it mounts vanishes with it, even where it is killed
            "--mount",
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            f'--customize-hook=chroot "$1" sh -c {shlex.quote(customize)}',
            "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
            release,
            str(partial),
            mirror(),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise LabUnavailableError(f"mmdebstrap could not build {release}: {built.stderr[-2000:]}")
    partial.rename(target)
