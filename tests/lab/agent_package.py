"""A stand-in for the Ops Agent's package: name, unit, and what its postinst does as far as that is public.

The real package (GoogleCloudPlatform/ops-agent, ``pkg/deb/debian/rules``) has no postinst of its own: what
runs is what ``dh_installsystemd`` generates, that is ``deb-systemd-helper`` and ``deb-systemd-invoke`` from
init-system-helpers, which every Debian machine has. The stand-in's postinst makes the same calls in that
order. The unit has the real one's shape; the program in it only sleeps. What the real agent does once it runs
(health checks, subagents) is not here.
"""

from tests.lab.machines import Machine, Ran

NAME = "google-cloud-ops-agent"
PACKAGE = f"/opt/{NAME}.deb"

_CONTROL = f"""Package: {NAME}
Version: 2.50.0
Architecture: all
Maintainer: lab <lab@example.com>
Description: stand-in for the Google Cloud Ops Agent
"""
_UNIT = """[Unit]
Description=Google Cloud Ops Agent
Wants=network-online.target
After=network-online.target

[Service]
Type=simple
RuntimeDirectory=google-cloud-ops-agent
StateDirectory=google-cloud-ops-agent
LogsDirectory=google-cloud-ops-agent
ExecStartPre=/bin/true
ExecStart=/bin/sleep infinity
Restart=always

[Install]
WantedBy=multi-user.target
"""
_POSTINST = f"""#!/bin/sh
set -e
if [ "$1" = configure ]; then
    deb-systemd-helper unmask {NAME}.service >/dev/null || true
    if deb-systemd-helper --quiet was-enabled {NAME}.service; then
        deb-systemd-helper enable {NAME}.service >/dev/null || true
    else
        deb-systemd-helper update-state {NAME}.service >/dev/null || true
    fi
    systemctl --system daemon-reload >/dev/null || true
    deb-systemd-invoke start {NAME}.service >/dev/null || true
fi
"""
BUILD = f"""set -e
d=$(mktemp -d)
mkdir -p $d/DEBIAN $d/lib/systemd/system
cat >$d/DEBIAN/control <<'END'
{_CONTROL}END
cat >$d/DEBIAN/postinst <<'END'
{_POSTINST}END
cat >$d/lib/systemd/system/{NAME}.service <<'END'
{_UNIT}END
chmod 755 $d $d/DEBIAN/postinst
dpkg-deb --build $d {PACKAGE} >/dev/null
"""
"""Shell text that builds the package on a machine."""

INSTALLER = f"""#!/bin/bash
# Stands for add-google-cloud-ops-agent-repo.sh --also-install.
{BUILD}apt-get install -y {PACKAGE}
"""
_CURL = """#!/bin/sh
# Answers for the repository that a machine without a way out cannot reach; anything else is the real curl's.
case $* in
*dl.google.com/*) exec cp /opt/installer add-google-cloud-ops-agent-repo.sh ;;
esac
exec /usr/bin/curl "$@"
"""


async def build(machine: Machine) -> None:
    """Build the package on a machine."""
    ran = await machine.run(["sh", "-s"], stdin=BUILD.encode())
    assert ran.rc == 0, ran.err


async def install(machine: Machine) -> Ran:
    """Install the package that was built, as the published install script does: with apt-get."""
    return await machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y {PACKAGE}", timeout=60)


async def offer(machine: Machine) -> None:
    """Have the machine find the install script where the ops-agent runbook fetches it from."""
    await machine.run("cat >/opt/installer", stdin=INSTALLER.encode())
    await machine.run("cat >/usr/local/bin/curl", stdin=_CURL.encode())
    await machine.output("chmod 755 /usr/local/bin/curl")


async def status(machine: Machine) -> dict[str, str]:
    """Say how package and unit stand."""
    package = await machine.run(["dpkg-query", "-W", "-f", "${Status}", NAME])
    unit = await machine.output(
        ["systemctl", "show", f"{NAME}.service", "--property=ActiveState,UnitFileState"]
    )
    shown = dict(line.split("=", 1) for line in unit.splitlines())
    return {"package": package.out, "active": shown["ActiveState"], "enabled": shown["UnitFileState"]}
