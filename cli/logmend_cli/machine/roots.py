"""Root file systems of machines: Debian releases, built once with mmdebstrap and then only read."""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from logmend.errors import ConfigError
from logmend.model.evidence import error_text

RELEASES = ("bookworm", "trixie")
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
"""Runs once inside each root: adds a login user, and removes keys, identity and idle services."""


KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LONGEST = 900
"""Seconds that building a root may take."""


class UnavailableError(ConfigError):
    """Machines cannot be made here; the message says what is missing."""


def cache() -> Path:
    """Return where roots are kept: ``LOGMEND_LAB_CACHE``, else a folder of the system's cache."""
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
    missing = "there is no Debian archive among this computer's apt sources"
    raise UnavailableError([f"{missing}; `runbook try --machine` accepts one as --archive"])


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


def place(
    release: str, packages: Sequence[str] = PACKAGES, customize: str = CUSTOMIZE, archive: str | None = None
) -> Path:
    """Return the folder of a root; it exists if the root was built before."""
    recipe = "\n".join((release, *packages, customize, *([archive] if archive else ())))
    return cache() / f"root-{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def root(
    release: str, packages: Sequence[str] = PACKAGES, customize: str = CUSTOMIZE, archive: str | None = None
) -> Path:
    """Return the folder that holds ``release``, building it first if it is not cached (about 30 s).

    It is built from ``archive``, or else from the one that this machine itself installs from.
    """
    target = place(release, packages, customize, archive)
    # It has root's setuid programs, which become outdated: no other user may reach them.
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _build(release, packages, customize, archive or mirror(), target)
    return target


def _build(release: str, packages: Sequence[str], customize: str, archive: str, target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),  # ends what it mounts and starts
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
        f'--customize-hook=chroot "$1" sh -c {shlex.quote(customize)}',
        f"--keyring={KEYRING}",
        *(release, str(partial), archive),
    ]
    try:
        built = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
            check=False,
        )
        if built.returncode != 0:
            said = error_text(built.stderr)
            raise UnavailableError([f"mmdebstrap could not build {release} from {archive}: {said}"])
        partial.rename(target)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError([f"mmdebstrap took more than {LONGEST} s to build {release}"]) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
