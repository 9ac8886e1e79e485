"""The README's two commands in a fresh clone on a machine that has Python and make, and no more.

``.venv/bin/python -m tests.bare`` needs root, mmdebstrap and a package index for pip. The machine is a
minimal Debian in namespaces of its own; what is written there is in memory and vanishes.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from logmend_cli.machine import roots

ROOT = Path(__file__).parents[1]
RELEASE = "trixie"
"""Its Python, 3.13, is the one that is deployed; the rest of `.ci/run` uses the machine's own."""
PACKAGES = ("ca-certificates", "make", "python3", "python3-venv")
ABSENT = (
    *("busybox", "chromium", "curl", "docker", "gcloud", "git", "ip", "java", "jq", "mmdebstrap"),
    *("shellcheck", "ssh-keygen", "sshd", "sudo", "systemctl", "systemd-nspawn", "terraform", "uv"),
)
"""Commands that some test or target uses and that this machine must not have."""
USER = "someone"
CUSTOMIZE = f"echo '{USER}:x:1000:1000::/home/{USER}:/bin/sh' >>/etc/passwd; mkdir -p /home/{USER}"
MACHINE = """
mount -t tmpfs -o size=6g tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs tmp
cp -L /etc/resolv.conf /etc/hosts etc/
for path in $shared; do
  if [ -d "$path" ]; then mkdir -p ".$path"; else mkdir -p ".${path%/*}"; [ -e ".$path" ] || : >".$path"; fi
  mount --bind "$path" ".$path"
  mount -o remount,bind,ro ".$path"
done
git clone --quiet "$clone" "home/$user/logmend"
chown -R 1000:1000 "home/$user"
exec chroot --userspec=1000:1000 --groups= . \\
  env -i "HOME=/home/$user" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 "$@" \\
  sh -euc "$inside"
"""
INSIDE = """
cd ~/logmend
test "$(id -u)" -ne 0
for command in $ABSENT; do
  if found=$(command -v "$command"); then echo "not a bare machine: $found" >&2; exit 1; fi
done
for package in $PACKAGES_OF_CI; do
  [ "$package" != debian-archive-keyring ] || continue # apt brings it along
  state=$(dpkg-query -W -f '${db:Status-Status} ${Essential}' "$package" 2>/dev/null) || continue
  case $state in "installed no") echo "not a bare machine: package $package" >&2; exit 1 ;; esac
done
echo "a machine with $(python3 --version) and make, as $(id -u), without: $ABSENT"
make demo >/tmp/demo.txt || { cat /tmp/demo.txt; exit 1; }
tail -n 7 /tmp/demo.txt
make test
"""


def configuration() -> dict[str, str]:
    """Return what this machine says of where packages come from and whom to trust, as variables.

    Not that this is CI: properties are tried with all their examples in the whole suite, once.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    named = re.findall(r"^(?:global|install|:env:)\.([\w-]+)=(.+)$", listed, re.MULTILINE)
    of_pip = {f"PIP_{name.upper().replace('-', '_')}": ast.literal_eval(value) for name, value in named}
    names = re.compile(r"SSL_CERT_\w+|REQUESTS_CA_BUNDLE|(?i:(https?|no|all)_proxy)")
    return of_pip | {name: value for name, value in os.environ.items() if names.fullmatch(name)}


def folders(configured: Mapping[str, str]) -> set[str]:
    """Return the files and folders of this machine that the configuration names."""
    found = set()
    for name, value in configured.items():
        for word in value.split():
            url = urlsplit(word)
            if url.scheme in ("", "file") and url.path.startswith("/") and Path(url.path).exists():
                # An index on disk links to files beside it.
                found.add(str(Path(url.path).parent) if name.endswith("INDEX_URL") else url.path)
    return found


def packages_of_ci() -> list[str]:
    """Return the Debian packages that the whole suite needs."""
    lines = (ROOT / ".ci" / "packages").read_text().splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


def main() -> int:
    """Build the machine unless it is cached, run both commands on it, and return their exit status."""
    configured = configuration()
    inside = configured | {"ABSENT": " ".join(ABSENT), "PACKAGES_OF_CI": " ".join(packages_of_ci())}
    with tempfile.TemporaryDirectory() as work:
        settings = {
            "work": work,
            "lower": str(roots.root(RELEASE, PACKAGES, CUSTOMIZE)),
            "shared": " ".join(sorted(folders(configured))),
            "clone": str(ROOT),
            "user": USER,
            "inside": INSIDE,
        }
        return subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-euc", MACHINE, "machine", *(f"{name}={value}" for name, value in inside.items())),
            ],
            env={**os.environ, **settings},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
