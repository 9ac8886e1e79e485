"""The library's runbooks on real machines: real apt, dpkg and systemd have the fault, and lose it.

Their lines are the machines' own, and have to be those that the runbook waits for.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from logmend import catalog, runbook
from logmend.model import evidence
from logmend.osconfig import assignment
from logmend.settings import Settings
from logmend_cli.machine.roots import RELEASES
from logmend_cli.pretend.fleet import free_port, serving
from tests.contract.osconfig_server import OsConfigServer
from tests.e2e.function_process import Function
from tests.fakes import incident, push
from tests.lab import osconfig_agent
from tests.lab.cloud import Cloud, cloud, make_due, new_id, standing, tick, until, until_given_up
from tests.lab.conftest import Boot
from tests.lab.machines import Machine
from tests.lab.test_osconfig_on_machines import put

PACKAGE = r"""set -e
d=$(mktemp -d)
mkdir -p $d/DEBIAN $d/etc /opt/apt
for v in 1 2; do
  printf '%s\n' 'Package: demo' "Version: $v" 'Architecture: all' 'Maintainer: lab <lab@example.com>' \
    'Description: a demo' >$d/DEBIAN/control
  echo "version $v" >$d/etc/demo.conf
  echo /etc/demo.conf >$d/DEBIAN/conffiles
  printf '#!/bin/sh\n[ ! -e /opt/hangs ] || sleep 600\n[ ! -e /opt/fails ] || exit 1\n' >$d/DEBIAN/postinst
  chmod 755 $d $d/DEBIAN/postinst
  dpkg-deb --root-owner-group -b $d /opt/apt/demo_$v.deb
done
dpkg -i /opt/apt/demo_1.deb
"""
"""Makes two versions of a package with a configuration file, and installs the first."""


class Played:
    """A runbook's scripts on one machine."""

    def __init__(self, machine: Machine, name: str, **parameters: str) -> None:
        self.machine = machine
        self.book = runbook.load(runbook.BUILT_IN / name, parameters)

    async def run(self, script: str) -> tuple[int, dict[str, str], str]:
        """Run a script as the executors do: checks as nobody, the rest as root."""
        user = "root" if "flock" in script else "nobody"
        ran = await self.machine.run(["sh", "-s"], stdin=script.encode(), user=user, timeout=100)
        return ran.rc, dict(evidence.values(ran.out.encode())), ran.err

    async def check(self) -> tuple[int, dict[str, str], str]:
        return await self.run(self.book.scripts.validate)

    async def enforce(self) -> tuple[int, dict[str, str], str]:
        return await self.run(self.book.scripts.enforce)

    def meant(self, line: str) -> str | None:
        """Name the variant that a line of the machine's is."""
        variant = self.book.variant_of(line.strip())
        return None if variant is None else f"{variant.name}: {variant.verdict}"


@pytest.fixture(params=RELEASES)
async def machine(boot: Boot, request: pytest.FixtureRequest) -> Machine:
    """Boot a machine of each release."""
    found: Machine = await boot(timer="disabled", release=request.param)
    return found


async def sh(machine: Machine, script: str) -> None:
    """Run a script that has to succeed, as root."""
    ran = await machine.run(["sh", "-es"], stdin=script.encode(), timeout=60)
    assert ran.rc == 0, ran.err


async def at_work(machine: Machine) -> None:
    """Have somebody else's apt-get in the middle of a package that does not end."""
    await sh(machine, PACKAGE)
    await machine.output("touch /opt/hangs; systemd-run -qu other apt-get install -y /opt/apt/demo_2.deb")
    await until(lambda: half_way(machine))


async def half_way(machine: Machine) -> bool:
    """Say whether the package's own script runs: before it, apt-get calls dpkg several times for moments."""
    return "half-configured" in (await machine.run("dpkg -s demo")).out


async def interrupted(machine: Machine) -> None:
    """Kill an installation half-way, as a lost machine or an out-of-memory killer does."""
    await at_work(machine)
    await machine.output("systemctl kill -s KILL other; rm /opt/hangs")

    async def ended() -> bool:
        return "lock-frontend" not in (await machine.run("ls -l /proc/[0-9]*/fd 2>/dev/null")).out

    await until(ended)


async def configured(played: Played) -> tuple[int, dict[str, str], str]:
    """Look until the unit is through."""
    for _ in range(400):
        said = await played.check()
        if said[1].get("state") != "configuring":
            return said
        await asyncio.sleep(0.25)
    raise AssertionError("the unit does not end")


async def test_an_interrupted_installation_is_finished(machine: Machine) -> None:
    """Apt refuses with the very line; afterwards it goes on, and there is nothing to do any more."""
    played = Played(machine, "dpkg-interrupted")
    assert (await played.check())[0] == 100
    assert (await played.enforce())[1]["changed"] == "no"
    await interrupted(machine)
    refused = await machine.run("apt-get check")
    assert refused.rc != 0
    assert played.meant(refused.err) == "interrupted: act"
    code, seen, error = await played.check()
    assert (code, seen["packages"].strip()) == (101, "demo"), error
    code, seen, error = await played.enforce()
    assert (code, seen.get("changed")) == (100, "yes"), error
    code, seen, error = await configured(played)
    assert code == 100, (seen, error)
    assert (await machine.run("apt-get check")).rc == 0
    assert "ok installed" in (await machine.run("dpkg -s demo")).out
    assert (await played.enforce())[1]["changed"] == "no"


async def test_what_cannot_be_configured_is_told_in_dpkgs_words(machine: Machine) -> None:
    """A maintainer script that fails is no success, and no endless wait."""
    played = Played(machine, "dpkg-interrupted")
    await interrupted(machine)
    await machine.output("touch /opt/fails")
    assert (await played.enforce())[0] == 100
    code, _, error = await configured(played)
    assert code == 1
    assert "dpkg: error processing package demo" in error, error


async def test_it_works_with_a_systemd_that_cannot_collect_failed_units_and_works_again(
    machine: Machine,
) -> None:
    """Before systemd 236 systemd-run has no -G (its NEWS); what failed once is tried anew when it may be."""
    played = Played(machine, "dpkg-interrupted")
    await interrupted(machine)
    await sh(
        machine,
        r"""touch /opt/fails
mv /usr/bin/systemd-run /usr/bin/systemd-run.real
cat >/usr/bin/systemd-run <<'END'
#!/bin/sh
case $1 in -G* | --collect) echo "invalid option: $1" >&2 && exit 1 ;; esac
exec systemd-run.real "$@"
END
chmod 755 /usr/bin/systemd-run
""",
    )
    code, seen, error = await played.enforce()
    assert (code, seen.get("changed")) == (100, "yes"), error
    assert (await configured(played))[0] == 1
    assert "failed" in (await machine.run("systemctl is-failed logmend-dpkg-interrupted")).out
    await machine.output("rm /opt/fails")
    code, seen, error = await played.enforce()
    assert (code, seen.get("changed")) == (100, "yes"), error
    assert (await configured(played))[0] == 100


async def test_a_question_about_a_configuration_file_is_a_persons(machine: Machine) -> None:
    """Changed on the machine and by the package: dpkg would ask, so nothing is begun."""
    played = Played(machine, "dpkg-interrupted")
    await sh(machine, PACKAGE)
    await machine.output("dpkg --unpack /opt/apt/demo_2.deb; echo mine >>/etc/demo.conf")
    assert (await played.check())[0] == 101
    code, seen, error = await played.enforce()
    assert (code, seen.get("reason")) == (102, "conffile_prompt"), error
    assert (await machine.run("ls /var/lib/logmend/dpkg-interrupted.mark")).rc != 0
    await machine.output("echo 'version 1' >/etc/demo.conf")
    assert (await played.enforce())[0] == 100
    assert (await configured(played))[0] == 100


async def test_a_held_lock_is_busy_for_the_check_and_for_enforcing(machine: Machine) -> None:
    """The one who holds it is in the middle of what would be mended."""
    played = Played(machine, "dpkg-interrupted")
    await at_work(machine)
    for said in (await played.check(), await played.enforce()):
        assert (said[0], said[1].get("lock")) == (103, "taken"), said
    await machine.output("rm /opt/hangs; systemctl stop other")
    assert (await played.check())[0] == 101


AGENT = """[Unit]
Description=Google Compute Engine Guest Agent
After=local-fs.target network-online.target

[Service]
Type=simple
ExecStart=/opt/google_guest_agent
Restart=always
RestartSec=100ms

[Install]
WantedBy=multi-user.target
"""
PROGRAM = "#!/bin/sh\n[ ! -e /opt/dies ] || exit 2\nexec sleep infinity\n"


async def given_up(machine: Machine) -> None:
    """Have the agent die more often than systemd puts up with."""
    unit = "/etc/systemd/system/google-guest-agent.service"
    await sh(machine, f"cat >{unit} <<'END'\n{AGENT}END\n")
    await sh(machine, f"cat >/opt/google_guest_agent <<'END'\n{PROGRAM}END\n")
    await machine.output("chmod 755 /opt/google_guest_agent; touch /opt/dies; systemctl daemon-reload")
    await machine.run("systemctl start google-guest-agent")
    await until_given_up(machine, "google-guest-agent")


async def test_a_guest_agent_that_systemd_gave_up_is_started_again_and_stopped_by_a_revert(
    machine: Machine,
) -> None:
    """Systemd's own lines are those of both variants; what works stays up."""
    played = Played(machine, "google-guest-agent", settle="1")
    assert (await played.check())[1].get("reason") == "unit_absent"
    await given_up(machine)

    async def told() -> bool:
        said = (await machine.output("journalctl -o cat _PID=1 -u google-guest-agent")).splitlines()
        return {"given_up: act", "failed: act"} <= {played.meant(f"systemd: {each}") for each in said}

    await until(told)
    code, seen, error = await played.check()
    assert (code, seen["service"]) == (101, "failed"), error

    await machine.output("rm /opt/dies")
    assert (await played.enforce())[1]["changed"] == "yes"
    code, seen, error = await played.check()
    assert (code, seen["service"]) == (100, "active"), error
    assert (await played.enforce())[1]["changed"] == "no"

    scripts = played.book.scripts
    assert (await played.run(scripts.revert_validate))[0] == 101
    assert (await played.run(scripts.revert_enforce))[1]["changed"] == "yes"
    code, seen, error = await played.run(scripts.revert_validate)
    assert (code, seen["service"]) == (100, "inactive"), error
    assert (await played.run(scripts.revert_enforce))[1]["changed"] == "no"


async def test_a_guest_agent_that_dies_again_is_no_success_and_others_are_left_alone(
    machine: Machine,
) -> None:
    """Still failed after the start; masked, or with the plugin manager in charge, nobody starts it."""
    played = Played(machine, "google-guest-agent", settle="3")
    await given_up(machine)
    assert (await played.enforce())[0] == 100

    async def still_failed() -> bool:
        return (await played.check())[0] == 101

    await until(still_failed)
    await machine.output("systemd-run -qu google-guest-agent-manager sleep infinity")
    assert (await played.check())[1].get("reason") == "managed_by_plugin_manager"
    await machine.output("systemctl stop google-guest-agent-manager")
    await machine.output(
        "rm /etc/systemd/system/google-guest-agent.service; systemctl mask google-guest-agent"
    )
    code, seen, error = await played.check()
    assert (code, seen.get("reason")) == (102, "masked_by_others"), error
    code, seen, error = await played.run(played.book.scripts.revert_enforce)
    assert code == 100, error


ARCHIVE = r"""set -e
printf '127.0.0.1 deb.debian.org packages.cloud.google.com ppa.example.com\n' >>/etc/hosts
at=/srv/debian/dists/stable
mkdir -p $at/main/binary-$(dpkg --print-architecture)
: >$at/main/binary-$(dpkg --print-architecture)/Packages
(cd $at
printf '%s\n' 'Origin: Debian' 'Suite: stable' 'Codename: stable' "Date: $(date -Ru)" \
  "Architectures: $(dpkg --print-architecture)" 'Components: main' 'SHA256:' >/tmp/Release
find . -name Packages | while read -r f; do
  echo " $(sha256sum <$f | cut -d' ' -f1) $(stat -c %s $f) ${f#./}"
done >>/tmp/Release
mv /tmp/Release Release)
systemd-run -qu mirror busybox httpd -f -p 127.0.0.1:80 -h /srv
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] http://deb.debian.org/debian stable main' >/etc/apt/sources.list
"""
"""An archive on loopback, which has one suite, under the names of the public ones."""
BACKPORTS = "deb http://deb.debian.org/debian buster-backports main"
MONITORING = "deb http://packages.cloud.google.com/apt google-cloud-monitoring-bullseye-all main"


async def test_sources_that_are_gone_are_commented_out_and_come_back_by_a_revert(machine: Machine) -> None:
    """apt-get update fails with the very lines, then works; every other line stays as it is."""
    played = Played(machine, "apt-source-gone")
    await sh(machine, ARCHIVE)
    await until(lambda: updates(machine))
    assert (await played.check())[0] == 100
    await machine.output(f"echo '{BACKPORTS}' >>/etc/apt/sources.list")
    await machine.output(f"echo '{MONITORING}' >/etc/apt/sources.list.d/google-cloud-monitoring.list")
    before = await machine.output("cat /etc/apt/sources.list /etc/apt/sources.list.d/*")
    refused = await machine.run("apt-get update")
    assert refused.rc != 0
    lines = [each for each in refused.err.splitlines() if each.startswith("E: The repository")]
    assert {played.meant(each) for each in lines} == {"backports: act", "agent_list: act"}

    code, seen, error = await played.check()
    assert code == 101, (seen, error)
    code, seen, error = await played.enforce()
    assert (code, seen["changed"]) == (100, "yes"), error
    assert (await played.check())[0] == 100
    assert await updates(machine)
    now = await machine.output("cat /etc/apt/sources.list /etc/apt/sources.list.d/*")
    assert now.replace("#logmend# ", "") == before
    assert now.count("#logmend# ") == 2
    assert (await played.enforce())[1]["changed"] == "no"

    scripts = played.book.scripts
    assert (await played.run(scripts.revert_validate))[0] == 101
    assert (await played.run(scripts.revert_enforce))[1]["changed"] == "yes"
    assert (await played.run(scripts.revert_validate))[0] == 100
    assert await machine.output("cat /etc/apt/sources.list /etc/apt/sources.list.d/*") == before
    assert not await updates(machine)


async def test_other_sources_and_those_of_installed_agents_are_left_alone(machine: Machine) -> None:
    """Nobody's source is taken for gone: not what is unknown, not what cannot be asked."""
    played = Played(machine, "apt-source-gone")
    await sh(machine, ARCHIVE)
    await until(lambda: updates(machine))
    await machine.output("echo 'deb http://ppa.example.com/x focal main' >/etc/apt/sources.list.d/x.list")
    refused = await machine.run("apt-get update")
    assert refused.rc != 0
    line = next(each for each in refused.err.splitlines() if each.startswith("E: The repository"))
    assert played.meant(line) == "other_source: refuse"
    assert (await played.check())[0] == 100
    assert (await played.enforce())[1]["changed"] == "no"

    installed = PACKAGE.replace("Package: demo", "Package: stackdriver-agent")
    await sh(machine, installed)
    await machine.output(f"echo '{MONITORING}' >/etc/apt/sources.list.d/x.list")
    assert (await played.check())[0] == 100
    await machine.output("dpkg --purge stackdriver-agent")
    assert (await played.check())[0] == 101
    await machine.output("systemctl stop mirror")
    code, seen, error = await played.check()
    assert (code, seen.get("reason")) == (102, "repository_unknown"), error
    assert (await played.enforce())[1]["changed"] == "no"


async def test_a_repository_that_never_answers_is_unknown_and_its_source_stays(machine: Machine) -> None:
    """Packets that are dropped prove nothing: the check waits for them within its time, and says so."""
    played = Played(machine, "apt-source-gone")
    await sh(machine, ARCHIVE)
    await machine.output(f"echo '{BACKPORTS}' >>/etc/apt/sources.list")
    await until(lambda: has(played, 101))
    await machine.output("iptables -I INPUT -p tcp --dport 80 -j DROP")
    code, seen, error = await played.run(sooner(played.book.scripts.validate))
    assert (code, seen.get("reason")) == (102, "repository_unknown"), error
    assert (await played.run(sooner(played.book.scripts.enforce)))[1]["changed"] == "no"
    assert BACKPORTS in (await machine.output("cat /etc/apt/sources.list")).splitlines()


def sooner(script: str) -> str:
    """Have curl wait for one second where it waits for nine."""
    assert "curl -qsm9 " in script
    return script.replace("curl -qsm9 ", "curl -qsm1 ")


async def has(played: Played, code: int) -> bool:
    """Say whether the check ends so."""
    return (await played.check())[0] == code


async def test_what_apt_cannot_read_is_no_success_and_a_copy_is_no_source(machine: Machine) -> None:
    """apt-get's own exit status is not taken for the script's; only files that apt reads are looked at."""
    played = Played(machine, "apt-source-gone")
    await sh(machine, ARCHIVE)
    await machine.output("printf 'Types: deb\nSuites: x\n' >/etc/apt/sources.list.d/bad.sources")
    assert (await machine.run("apt-get update --print-uris")).rc == 100
    assert (await played.check())[0] == 1
    assert (await played.enforce())[0] == 1

    await machine.output("rm /etc/apt/sources.list.d/bad.sources")
    await machine.output(f"echo '{BACKPORTS}' >/etc/apt/sources.list.d/x.list.save")
    stanza = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: buster-backports\nComponents: main\n"
    await machine.run("cat >/etc/apt/sources.list.d/x.sources", stdin=stanza.encode())
    await until(lambda: has(played, 102))
    assert (await played.check())[1].get("reason") == "other_format"


async def updates(machine: Machine) -> bool:
    """Say whether apt-get update works."""
    return (await machine.run("apt-get update")).rc == 0


OSCONFIG_UNIT = "google-osconfig-agent.service"
OSCONFIG_AGENT = """[Unit]
Description=Google OSConfig Agent
After=local-fs.target network-online.target

[Service]
ExecStart=/opt/google_osconfig_agent
Restart=always
RestartSec=100ms
StartLimitInterval=120
StartLimitBurst=3
KillMode=mixed
KillSignal=SIGTERM
"""
"""The unit as Google's package has it, but for where the program is, and a shorter pause."""
WAITING = """#!/bin/sh
trap exit TERM
[ ! -e /opt/dies ] || exit 2
[ ! -e /opt/does ] || sh /opt/does
while :; do sleep 1; done
"""
"""Waits for the package manager that it began, also when it is to stop: so does Google's (osconfig#298)."""
MUTE = r"""set -e
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] http://127.0.0.1/debian stable main' >/etc/apt/sources.list
echo 'Acquire::http::Timeout "3600";' >/etc/apt/apt.conf.d/lab
systemd-run -qu mute busybox nc -ll -p 80 -e sleep 3600
"""
"""An archive that takes the call and says nothing."""


async def osconfig_runs(machine: Machine, does: str = ":") -> None:
    """Install the OS Config agent, and have it begin something."""
    for path, text in {
        f"/etc/systemd/system/{OSCONFIG_UNIT}": OSCONFIG_AGENT,
        "/opt/google_osconfig_agent": WAITING,
        "/opt/does": f"{does}\n",
    }.items():
        await sh(machine, f"cat >{path} <<'END'\n{text}END\n")
    await machine.output("chmod 755 /opt/google_osconfig_agent; systemctl daemon-reload")
    await machine.output(f"systemctl restart {OSCONFIG_UNIT}")


async def hours_later(machine: Machine) -> None:
    """Have the machine's clock since boot show seven hours more, as all that runs has then run."""
    await sh(
        machine,
        "echo $(($(cut -d. -f1 /proc/uptime) + 25200)).00 0.00 >/opt/uptime\n"
        "mount --bind /opt/uptime /proc/uptime",
    )


async def runs_in(machine: Machine, program: str) -> bool:
    """Say whether a program runs in the OS Config agent's control group."""
    listed = f"cat $(grep -ls /{OSCONFIG_UNIT} /proc/[0-9]*/cgroup | sed s/cgroup/comm/)"
    return program in (await machine.run(listed)).out.split()


async def test_an_apt_get_update_that_hangs_in_the_os_config_agent_ends_and_the_agent_runs_anew(
    machine: Machine,
) -> None:
    """A real apt-get that waits for its archive: one that is young is left alone, and nothing is put back."""
    played = Played(machine, "os-config-agent", settle="1")
    assert (await played.check())[1].get("reason") == "unit_absent"
    await sh(machine, MUTE)
    await osconfig_runs(machine, "apt-get update")
    await until(lambda: runs_in(machine, "apt-get"))
    code, seen, error = await played.check()
    assert (code, seen["service"], seen["hangs"]) == (100, "active", "no"), error
    assert (await played.enforce())[1]["changed"] == "no"

    await hours_later(machine)
    code, seen, error = await played.check()
    assert (code, seen["service"], seen["hangs"]) == (101, "active", "yes"), error
    await machine.output("rm /opt/does")
    code, seen, error = await played.enforce()
    assert (code, seen.get("changed")) == (100, "yes"), error
    code, seen, error = await played.check()
    assert (code, seen["service"], seen["hangs"]) == (100, "active", "no"), error
    assert not await runs_in(machine, "apt-get")
    assert (await played.enforce())[1]["changed"] == "no"
    for script in (played.book.scripts.revert_validate, played.book.scripts.revert_enforce):
        assert (await played.run(script))[1].get("reason") == "no_previous_state"


async def test_an_os_config_agent_that_systemd_gave_up_is_started_again_and_stopped_by_a_revert(
    machine: Machine,
) -> None:
    """Failed, started, at work; what dies again is no success; masked, nobody starts it."""
    played = Played(machine, "os-config-agent", settle="1")
    await machine.output("touch /opt/dies")
    await osconfig_runs(machine)
    await until_given_up(machine, "google-osconfig-agent")
    assert (await played.enforce())[1]["changed"] == "yes"

    async def failed_again() -> bool:
        return (await played.check())[0] == 101

    await until(failed_again)
    await machine.output("rm /opt/dies")
    assert (await played.enforce())[0] == 100
    code, seen, error = await played.check()
    assert (code, seen["service"]) == (100, "active"), error
    scripts = played.book.scripts
    assert (await played.run(scripts.revert_validate))[0] == 101
    assert (await played.run(scripts.revert_enforce))[1]["changed"] == "yes"
    code, seen, error = await played.run(scripts.revert_validate)
    assert (code, seen["service"]) == (100, "inactive"), error
    assert (await played.check())[0] == 100
    await machine.output(f"rm /etc/systemd/system/{OSCONFIG_UNIT}; systemctl mask {OSCONFIG_UNIT}")
    assert (await played.check())[1].get("reason") == "masked_by_others"


async def test_an_os_config_agent_that_installs_is_left_alone_and_cannot_restart_itself(
    machine: Machine,
) -> None:
    """A real dpkg in its control group, however old; and a script that the agent runs would end with it."""
    played = Played(machine, "os-config-agent", settle="1")
    await sh(machine, PACKAGE)
    await machine.output("touch /opt/hangs")
    await osconfig_runs(machine, "apt-get install -y /opt/apt/demo_2.deb")
    await until(lambda: half_way(machine))
    await hours_later(machine)
    for said in (await played.check(), await played.enforce()):
        assert (said[0], said[1].get("reason")) == (102, "dpkg_at_work"), said
    assert await runs_in(machine, "dpkg")

    await machine.output(f"systemctl kill -s KILL {OSCONFIG_UNIT}")
    await machine.run("cat >/opt/enforce", stdin=played.book.scripts.enforce.encode())
    await osconfig_runs(machine, "sh /opt/enforce >/opt/said; echo $? >/opt/code")

    async def said_so() -> bool:
        return (await machine.run("cat /opt/said /opt/code")).out.split() == ["reason=needs_ssh", "102"]

    await until(said_so)


SELF_LOG = "/var/log/google-cloud-ops-agent/subagents/logging-module.log"
SMALL = f"""set -e
mkdir -p /srv/small /var/lib/logmend {SELF_LOG.rpartition("/")[0]}
mount -t tmpfs -o size=16m,mode=755 small /srv/small
mkdir -m 755 /srv/small/log /srv/small/lib
mount --bind /srv/small/log {SELF_LOG.rpartition("/")[0]}
mount --bind /srv/small/lib /var/lib/logmend
"""
"""A disk of 16 MB for the agent's log and for our own records."""
FILL = "yes 'a line of a log' | dd bs=64k oflag=append conv=notrunc iflag=fullblock"


async def test_the_ops_agents_own_log_is_cut_where_it_has_filled_the_disk(machine: Machine) -> None:
    """The last part is kept, whoever has it open goes on writing, and the record waits in memory for room."""
    played = Played(machine, "agent-log-disk", megabytes="8")
    assert (await played.check())[0] == 100
    assert (await played.enforce())[1]["changed"] == "no"
    await sh(machine, SMALL)
    await machine.output(f"{FILL} count=192 of={SELF_LOG} 2>/dev/null")
    writer = f"exec >>{SELF_LOG}; until [ -e /opt/goes-on ]; do sleep 0.1; done; echo alive"
    await machine.run(["systemd-run", "-qu", "writer", "sh", "-c", writer])
    refused = await machine.run(f"LC_ALL=C {FILL} of=/srv/small/other")
    line = next(each for each in refused.err.splitlines() if each.startswith("dd: error"))
    assert played.meant(f"google_metadata_script_runner: startup-script: {line}") == "full: act"
    assert (await machine.run("sh -c 'echo x >/var/lib/logmend/x'")).rc != 0

    code, seen, error = await played.check()
    assert (code, seen["log"], seen["megabytes"]) == (101, SELF_LOG, "12"), (seen, error)
    last = await machine.output(f"tail -c 1048576 {SELF_LOG} | md5sum")
    code, seen, error = await played.enforce()
    assert (code, seen.get("changed")) == (100, "yes"), error
    code, seen, error = await played.check()
    assert (code, seen["full"]) == (100, "no"), error
    assert await machine.output("md5sum </var/lib/logmend/agent-log-disk.tail") == last
    assert (await machine.output("stat -c %a /var/lib/logmend/agent-log-disk.tail")).strip() == "600"
    assert "agent-log-disk.mark" not in await machine.output("ls /run/logmend")

    async def goes_on() -> bool:
        return (await machine.output(f"cat {SELF_LOG}")) == "alive\n"

    await machine.output("touch /opt/goes-on")
    await until(goes_on)
    assert (await played.enforce())[1]["changed"] == "no"


async def test_no_other_file_is_cut_and_none_without_a_record(machine: Machine) -> None:
    """Another cause, a link, and a record that finds no room: nothing is changed."""
    played = Played(machine, "agent-log-disk", megabytes="8")
    await sh(machine, SMALL)
    await machine.run(f"{FILL} of=/srv/small/other")
    await machine.output(f"ln -s /srv/small/other {SELF_LOG}")
    for said in (await played.check(), await played.enforce()):
        assert (said[0], said[1].get("reason")) == (102, "other_cause"), said
    await machine.output(f"ln -f /srv/small/other /srv/small/log/{SELF_LOG.rpartition('/')[2]}")
    for said in (await played.check(), await played.enforce()):
        assert (said[0], said[1].get("reason")) == (102, "other_cause"), said

    await machine.output("rm /srv/small/other; mount -t tmpfs -o size=64k none /run/logmend")
    assert (await played.check())[0] == 101
    code, seen, error = await played.enforce()
    assert (code, seen.get("reason")) == (102, "record_does_not_fit"), error
    assert (await played.check())[0] == 101


@asynccontextmanager
async def served(
    folder: Path, chosen: str, executor: str, *machines: Machine
) -> AsyncIterator[tuple[Function, Cloud, OsConfigServer]]:
    """Run a function that has these runbooks on, and the APIs around it."""
    path = folder / "logmend.yaml"
    path.write_text(chosen)
    server, port = OsConfigServer(), free_port()
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(cloud(folder, *machines))
        await stack.enter_async_context(serving(server.app, port))
        for machine in machines:
            instance = around.instance(machine)
            instance.metadata["enable-osconfig"] = "TRUE"
            instance.service_account = "vm@lab-project.iam.gserviceaccount.com"
            for each in catalog.read_all(Settings(runbooks=path)).runbooks.values():
                put(server, machine.ref.project_id, machine.ref.zone, each)
        settings: dict[str, Any] = {"executor": executor, "osconfig_endpoint": f"http://127.0.0.1:{port}"}
        function = await stack.enter_async_context(around.function(runbooks=path, **settings))
        yield function, around, server


def alert(machine: Machine, name: str) -> dict[str, Any]:
    """Give the incident of an alert policy that names a runbook."""
    body = incident(machine.ref, incident_id=str(uuid.uuid4()))
    body["incident"]["policy_user_labels"] = {"logmend-runbook": name}
    body["incident"]["started_at"] = int(datetime.now(UTC).timestamp())
    return body


BY_AGENT = """runbooks:
  google-guest-agent: {enabled: true, parameters: {settle: '1'}}
  apt-source-gone: {enabled: true}
  agent-log-disk: {enabled: true, allow_irreversible: true, parameters: {megabytes: '8'}}
"""


async def test_what_an_os_policy_can_carry_is_remediated_by_the_os_config_agent_too(
    boot: Boot, tmp_path: Path
) -> None:
    """By label and report alone, each fault on a machine of its own; nobody logs in."""
    dead, apt, disk = await asyncio.gather(*(boot(timer="disabled") for _ in range(3)))
    await given_up(dead)
    await dead.output("rm /opt/dies")
    await sh(apt, ARCHIVE)
    await until(lambda: updates(apt))
    await apt.output(f"echo '{BACKPORTS}' >>/etc/apt/sources.list")
    await sh(disk, SMALL)
    await disk.run(f"{FILL} of={SELF_LOG}")
    wanted = {"google-guest-agent": dead, "apt-source-gone": apt, "agent-log-disk": disk}
    async with served(tmp_path, BY_AGENT, "osconfig", *wanted.values()) as (function, around, server):

        async def over(name: str, machine: Machine, intent: str) -> bool:
            await osconfig_agent.run(machine, server, around.compute)
            await make_due(function, intent)
            await function.push(tick())
            assert set(function.verdicts(intent_id=intent)) <= {"requested", "remediated"}, name
            return function.verdicts(intent_id=intent)[-1] == "remediated"

        for name, machine in wanted.items():
            message = new_id()
            body = push(alert(machine, name), message, at=datetime.now(UTC))
            assert (await function.push(body)).verdict == "requested"
            await until(partial(over, name, machine, f"m-{message}"))
            assert assignment.label(name) not in around.instance(machine).labels
            assert (await standing(machine)).as_root == 0
    assert (await dead.output("systemctl is-active google-guest-agent")).strip() == "active"
    assert await updates(apt)
    assert "100%" not in await disk.output(f"df -P {SELF_LOG}")


@pytest.mark.parametrize("executor", ["ssh", "osconfig"])
async def test_a_held_lock_is_waited_for_through_the_whole_pipeline(
    boot: Boot, tmp_path: Path, executor: str
) -> None:
    """Parked while somebody's apt is at it, taken up by the tick, and remediated when it was killed."""
    machine: Machine = await boot(timer="disabled")
    await at_work(machine)
    chosen = "runbooks:\n  dpkg-interrupted: {enabled: true, allow_irreversible: true}\n"
    async with served(tmp_path, chosen, executor, machine) as (function, around, server):
        label = assignment.label("dpkg-interrupted")
        message = new_id()
        await function.push(push(alert(machine, "dpkg-interrupted"), message, at=datetime.now(UTC)))

        async def look() -> str:
            if executor == "osconfig":
                await osconfig_agent.run(machine, server, around.compute)
            await make_due(function, f"m-{message}")
            await function.push(tick())
            return function.verdicts(intent_id=f"m-{message}")[-1]

        if executor == "osconfig":
            assert function.verdicts(intent_id=f"m-{message}") == ["requested"]
            assert await look() == "parked: busy"
            assert label not in around.instance(machine).labels
        assert function.verdicts(intent_id=f"m-{message}")[-1] == "parked: busy"
        assert "lock=taken" in function.outcomes(intent_id=f"m-{message}")[-1]["detail"]

        await machine.output("systemctl kill -s KILL other; rm /opt/hangs")

        async def over() -> bool:
            return await look() == "remediated"

        await until(over)
        said = function.outcomes(intent_id=f"m-{message}")[-1]
        assert said["notes"][0].startswith("irreversible")
        assert label not in around.instance(machine).labels
    assert (await machine.run("apt-get check")).rc == 0
