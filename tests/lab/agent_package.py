"""A stand-in for the Ops Agent's package: its units and what its maintainer scripts do are the real one's.

From GoogleCloudPlatform/ops-agent (``systemd/*.service``, ``debian/control``, ``debian/postinst``,
``debian/rules`` at 2.71.0): the parent is a oneshot that validates the configuration and then says
nothing; two sub-agents are wanted by it, part of it and always restarted; it conflicts with the legacy
agents; its postinst takes over from units before 2.0 and makes the calls that ``dh_installsystemd`` generates
for the parent.

Where it differs: Architecture is all, nothing is depended on, no wrapper stands between unit and program, and
the programs do no work. They sleep, until they are told to die: ``/opt/dies/fluent-bit`` and
``/opt/dies/otelopscol`` hold the seconds after which they do, and a ``config.yaml`` with the word "invalid"
is refused by the engine. Nothing is written to a log of their own, no port is taken, and there are no health
checks. ``/opt/hangs`` and ``/opt/fails`` make the postinst do so.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tests.lab.cloud import until
from tests.lab.machines import Machine, Ran

NAME = "google-cloud-ops-agent"
PARTS = ("fluent-bit", "opentelemetry-collector")
"""The sub-agents, as their units are called after the parent's name and a hyphen."""
VERSION = "2.50.0~debian12"

_HOME = f"/opt/{NAME}"
_UNITS = "/lib/systemd/system"
_ENGINE = f"{_HOME}/libexec/google_cloud_ops_agent_engine"
_CONFIG = f"/etc/{NAME}/config.yaml"
_PROGRAMS = MappingProxyType(
    {
        "fluent-bit": f"{_HOME}/subagents/fluent-bit/bin/fluent-bit",
        "opentelemetry-collector": f"{_HOME}/subagents/opentelemetry-collector/otelopscol",
    }
)
_PARENT = f"""[Unit]
Description=Google Cloud Ops Agent
Wants={" ".join(f"{NAME}-{part}.service" for part in PARTS)} network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStartPre={_ENGINE} -in {_CONFIG}
ExecStart=/bin/true
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
"""
_PART = f"""[Unit]
Description=Google Cloud Ops Agent - @part@
PartOf={NAME}.service
Requires=network-online.target
After=network-online.target {NAME}.service

[Service]
RuntimeDirectory={NAME}-@part@
StateDirectory={NAME}/@part@
LogsDirectory={NAME}
Type=simple
ExecStartPre={_ENGINE} -service=@part@ -in {_CONFIG} -logs ${{LOGS_DIRECTORY}} -state ${{STATE_DIRECTORY}}
ExecStart=@program@
Restart=always
RuntimeDirectoryPreserve=yes
"""
_CHECKS = """#!/bin/sh
# Stands for the engine: refuses a configuration that says so itself.
while [ "$1" != -in ]; do shift; done
if grep -n invalid "$2"; then
  echo "The agent config file is not valid. Detailed error: found \\"invalid\\" in $2" >&2
  exit 1
fi
"""
_RUNS = """#!/bin/sh
# Stands for a sub-agent: sleeps, for as long as it is told to live.
seconds=$(cat "/opt/dies/${0##*/}" 2>/dev/null) || exec sleep infinity
sleep "$seconds"
echo "${0##*/}: listen tcp 127.0.0.1:20201: bind: address already in use" >&2
exit 1
"""
_POSTINST = f"""#!/bin/sh
set -e
[ ! -e /opt/hangs ] || sleep 600
[ ! -e /opt/fails ] || {{ echo 'the agent cannot be configured' >&2; exit 1; }}
if deb-systemd-helper --quiet debian-installed {NAME}.target; then
    deb-systemd-helper enable {NAME}.service
fi
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
deb-systemd-helper purge {NAME}.target
deb-systemd-helper purge {NAME}-collectd.service
"""
_PRERM = f"""#!/bin/sh
set -e
[ "$1" != remove ] || deb-systemd-invoke stop {NAME}.service >/dev/null || true
"""
_POSTRM = f"""#!/bin/sh
set -e
[ "$1" != remove ] || systemctl --system daemon-reload >/dev/null || true
[ "$1" != purge ] || deb-systemd-helper purge {NAME}.service >/dev/null || true
"""


def control(version: str = VERSION) -> str:
    """Give the package's fields."""
    return f"""Package: {NAME}
Version: {version}
Architecture: all
Maintainer: lab <lab@example.com>
Recommends: rsyslog | system-log-daemon
Conflicts: stackdriver-agent, google-fluentd
Description: stand-in for the Google Cloud Ops Agent
"""


def files(version: str = VERSION) -> Mapping[str, tuple[str, int]]:
    """Give what the package is built of, as path to text and mode."""
    parts = {
        f"{_UNITS}/{NAME}-{part}.service": (
            _PART.replace("@part@", part).replace("@program@", _PROGRAMS[part]),
            0o644,
        )
        for part in PARTS
    }
    return {
        "/DEBIAN/control": (control(version), 0o644),
        "/DEBIAN/conffiles": (f"{_CONFIG}\n", 0o644),
        "/DEBIAN/postinst": (_POSTINST, 0o755),
        "/DEBIAN/prerm": (_PRERM, 0o755),
        "/DEBIAN/postrm": (_POSTRM, 0o755),
        f"{_UNITS}/{NAME}.service": (_PARENT, 0o644),
        f"/usr{_UNITS}-preset/90-{NAME}.preset": (f"enable {NAME}.service\n", 0o644),
        _CONFIG: ("# the defaults\n", 0o644),
        _ENGINE: (_CHECKS, 0o755),
        **parts,
        **dict.fromkeys(_PROGRAMS.values(), (_RUNS, 493)),
    }


def _written(path: str, text: str, mode: int) -> str:
    return f"install -Dm{mode:o} /dev/stdin $d{path} <<'END'\n{text}END\n"


BUILD = f"""set -e
d=$(mktemp -d)
{"".join(_written(path, *of) for path, of in files().items())}chmod 755 $d
mkdir -p /opt/apt
f=/opt/apt/{NAME}.deb
dpkg-deb --root-owner-group --build $d $f >/dev/null
{{
  cat $d/DEBIAN/control
  echo "Filename: ./{NAME}.deb"
  echo "Size: $(stat -c %s $f)"
  echo "SHA256: $(sha256sum $f | cut -d' ' -f1)"
}} >/opt/apt/Packages
"""
"""Shell text that builds the package on a machine, in an apt repository at ``file:/opt/apt``."""


async def build(machine: Machine) -> None:
    """Build the package on a machine."""
    ran = await machine.run(["sh", "-s"], stdin=BUILD.encode())
    assert ran.rc == 0, ran.err


async def install(machine: Machine) -> Ran:
    """Install the package that was built with apt-get, as the published script does; wait until it runs."""
    command = f"DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/apt/{NAME}.deb"
    ran = await machine.run(command)
    if ran.rc == 0:
        await until(lambda: all_up(machine))
    return ran


async def all_up(machine: Machine) -> bool:
    """Say whether the sub-agents run: they are started after the parent, and nobody waits for them."""
    return set((await parts(machine)).values()) == {"active"}


async def status(machine: Machine) -> dict[str, str]:
    """Say how package and parent unit stand."""
    package = await machine.run(["dpkg-query", "-W", "-f", "${Status}", NAME])
    unit = await machine.output(
        ["systemctl", "show", f"{NAME}.service", "--property=ActiveState,UnitFileState"]
    )
    shown = dict(line.split("=", 1) for line in unit.splitlines())
    return {"package": package.out, "active": shown["ActiveState"], "enabled": shown["UnitFileState"]}


async def parts(machine: Machine) -> dict[str, str]:
    """Say how each sub-agent stands."""
    told = await machine.output(
        ["systemctl", "show", "--property=ActiveState", "--value", *(f"{NAME}-{each}" for each in PARTS)]
    )
    return dict(zip(PARTS, told.split(), strict=True))
