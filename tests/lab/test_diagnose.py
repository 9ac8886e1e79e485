"""diagnose.sh of ops-agent on real machines: each has its cause for real, and is asked without rights.

What differs from a VM: the packages are the stand-ins of ``agent_package``, the repository is served on the
host's side of the link, and a clock is off against the metadata server, since all machines share the host's.
"""

import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from logmend import runbook
from logmend.model.struct import replace
from logmend.model.values import UNKNOWN, Diagnosis
from logmend.runbook import Runbook, diagnosis
from tests.lab import agent_package
from tests.lab.agent_package import NAME
from tests.lab.cloud import until, until_given_up, until_listening
from tests.lab.conftest import Boot
from tests.lab.machines import Machine
from tests.lab.ops_agent_repository import Repository

SCOPES = "instance/service-accounts/default/scopes"
EVERYTHING = "https://www.googleapis.com/auth/cloud-platform\n"
HEALTH = f"/var/log/{NAME}/health-checks.log"
SOURCES = "/etc/apt/sources.list"
COLLECTOR = f"{NAME}-opentelemetry-collector"


def book(repository: Repository, **parameters: str) -> Runbook:
    """Load the runbook, pointed at the repository."""
    own = {"repo_url": repository.url, "packages_url": repository.url, "settle": "4"}
    return runbook.load(runbook.BUILT_IN / "ops-agent", own | parameters)


@pytest.fixture
async def machine(boot: Boot, repository: Repository) -> Machine:
    """Boot a machine without the agent whose only apt source is there, and whose scopes are enough."""
    found = await boot(timer="disabled", files={**repository.files, SOURCES: ""})
    found.metadata.attributes[SCOPES] = EVERYTHING
    return found


async def asked(
    machine: Machine, of: Runbook, *, user: str = "nobody", env: Mapping[str, str] | None = None
) -> Diagnosis:
    """Run the script inside and read it as the executor does."""
    extra = [f"{key}={value}" for key, value in (env or {}).items()]
    command = ["env", *extra, "sh", "-s"]
    ran = await machine.run(command, stdin=of.scripts.diagnose.encode(), user=user, timeout=100)
    return diagnosis.decoded(of, machine.ref.instance_id, ran.rc, ran.out.encode(), ran.err)


async def install(machine: Machine, *, before: str = "true") -> None:
    """Have the agent installed by somebody else."""
    await agent_package.build(machine)
    await machine.output(before)
    ran = await agent_package.install(machine)
    assert ran.rc == 0, ran.err


def say(found: Diagnosis) -> str:
    """Give what a failing test shows."""
    return f"{found.cause} ({found.why}): {'; '.join(found.evidence)}"


# What keeps it from being installed

Prepare = Callable[[Machine], Awaitable[Any]]


def shell(command: str) -> Prepare:
    """Prepare a machine by a command of root's."""
    return lambda machine: machine.output(command)


async def _legacy(machine: Machine) -> None:
    built = agent_package.BUILD.replace(NAME, "google-fluentd").replace(
        "Conflicts: stackdriver-agent, google-fluentd\n", ""
    )
    ran = await machine.run(["sh", "-s"], stdin=built.encode())
    assert ran.rc == 0, ran.err
    await machine.output("dpkg -i /opt/apt/google-fluentd.deb")


async def _locked(machine: Machine, program: str = "apt-get", *, unit: str = "somebody") -> None:
    """Let a real apt-get hang in a package's script, with the locks that it holds."""
    await agent_package.build(machine)
    await machine.output("touch /opt/hangs")
    await machine.output(
        f"systemd-run --unit={unit} {program} install -y /opt/apt/google-cloud-ops-agent.deb"
    )

    async def hangs() -> bool:
        return "half-configured" in (await machine.run(["dpkg", "-s", NAME])).out

    await until(hangs)


async def _locked_by_nala(machine: Machine) -> None:
    """Let a program hold the lock whose name nobody has listed."""
    await machine.output("cp /usr/bin/apt-get /opt/nala")
    await _locked(machine, "/opt/nala")


async def _interrupted(machine: Machine) -> None:
    await _locked(machine)
    await machine.reset()
    await machine.output("rm -f /opt/hangs")


async def _ahead(machine: Machine) -> None:
    machine.metadata.ahead = 3 * 86400


INSTALL: Mapping[str, tuple[Prepare, str, str]] = {
    "nothing": (shell("true"), "not_installed", "nothing was found that would keep it out"),
    "plugin": (
        shell("mkdir -p /var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin"),
        "managed_by_plugin",
        "ops-agent-plugin is there",
    ),
    "legacy": (_legacy, "legacy_agent_present", "google-fluentd is installed"),
    "disk": (
        shell("mount -t tmpfs -o size=1m full /opt; dd if=/dev/zero of=/opt/x bs=4k 2>/dev/null; true"),
        "disk_full",
        "/opt",
    ),
    "family": (
        shell("echo ID=alpine >/etc/os-release; rm -f /etc/debian_version"),
        "os_unsupported",
        "no family",
    ),
    "codename": (
        shell("sed -i 's/^VERSION_CODENAME=.*/VERSION_CODENAME=kinetic/' /etc/os-release"),
        "os_unsupported",
        "google-cloud-ops-agent-kinetic-all/Release answers 404",
    ),
    "locked": (_locked, "packages_locked", "lock-frontend is held by process"),
    "locked by another program": (_locked_by_nala, "packages_locked", "(nala) for"),
    "interrupted": (_interrupted, "packages_interrupted", f"not configured: {NAME}"),
    "clock": (_ahead, "clock_off", "seconds off the metadata server's"),
    "key": (
        shell(
            "echo 'deb [signed-by=/etc/apt/keyrings/google-cloud-ops-agent.asc] https://packages.cloud.google.com/apt"
            f" {NAME}-bookworm-all main' >/etc/apt/sources.list.d/{NAME}.list"
        ),
        "signing_key",
        "is missing or empty",
    ),
}


@pytest.mark.parametrize("case", INSTALL)
async def test_what_keeps_the_agent_out_is_named(case: str, machine: Machine, repository: Repository) -> None:
    """One machine for each, and the evidence says where to look."""
    prepare, cause, told = INSTALL[case]
    await prepare(machine)
    found = await asked(machine, book(repository))
    assert found.cause == cause, say(found)
    assert told in "; ".join(found.evidence), say(found)


async def test_a_source_that_is_gone_stops_the_installer_only_if_it_needs_something_first(
    machine: Machine, repository: Repository
) -> None:
    """It fetches lsb-release and others from every source if they are missing, else reads its own."""
    # A suite that has no Release file but an InRelease, as some do, is there.
    here = repository.folder / "debian" / "dists" / "here"
    here.mkdir(parents=True)
    (here / "InRelease").write_text("Codename: here\n")
    await machine.output(f"echo 'deb {repository.url}/debian here main' >{SOURCES}")
    assert (await asked(machine, book(repository))).cause == "not_installed"
    await machine.output(f"echo 'deb [arch=amd64] {repository.url}/debian stretch-backports main' >{SOURCES}")
    found = await asked(machine, book(repository))
    assert found.cause == "apt_source_dead", say(found)
    assert f"{repository.url}/debian/dists/stretch-backports answers 404" in "; ".join(found.evidence)
    await machine.output(
        f"printf 'Types: deb\nURIs: {repository.url}/debian\nSuites: here buster\nComponents: main\n'"
        f" >/etc/apt/sources.list.d/old.sources; : >{SOURCES}"
    )
    assert (await asked(machine, book(repository))).cause == "apt_source_dead"
    await machine.output("rm /etc/apt/sources.list.d/old.sources")
    await source_gone(machine)
    found = await asked(machine, book(repository))
    assert (found.cause, found.runbook) == ("apt_source_gone", "apt-source-gone"), say(found)
    for name in ("lsb-release", "apt-transport-https", "ca-certificates", "gnupg"):
        await _has(machine, name)
    found = await asked(machine, book(repository))
    assert found.cause == "not_installed", say(found)


async def test_each_file_of_sources_is_read_for_itself_and_what_is_turned_off_is_not_asked(
    machine: Machine, repository: Repository
) -> None:
    """One file's address says nothing of another's suites; what is not enabled is not fetched by apt."""
    here = repository.folder / "debian" / "dists" / "here"
    here.mkdir(parents=True)
    (here / "InRelease").write_text("Codename: here\n")
    stanza = "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n"
    debian, other = f"{repository.url}/debian", f"{repository.url}/other"
    for name, text in {
        "debian": stanza.format(debian, "here"),
        "off": f"enabled: No\n{stanza.format(debian, 'gone')}",
        "other": f"Enabled: yes\n{stanza.format(other, 'there')}",
    }.items():
        await machine.run(f"cat >/etc/apt/sources.list.d/{name}.sources", stdin=text.encode())
    fetched = await machine.output("apt-get update --print-uris")
    asks = {
        url.split("'")[1].removesuffix("/InRelease") for url in fetched.splitlines() if "InRelease" in url
    }
    assert asks == {f"{debian}/dists/here", f"{other}/dists/there"}, "as apt itself reads them"
    found = await asked(machine, book(repository))
    assert found.cause == "apt_source_dead", say(found)
    assert f"{other}/dists/there answers 404" in "; ".join(found.evidence), say(found)
    there = repository.folder / "other" / "dists" / "there"
    there.mkdir(parents=True)
    (there / "InRelease").write_text("Codename: there\n")
    found = await asked(machine, book(repository))
    assert found.cause == "not_installed", say(found)


async def test_an_installation_of_ours_that_does_not_end_names_what_it_waits_for(
    machine: Machine, repository: Repository
) -> None:
    """It is no cause as long as it may take; then whatever holds it up is one."""
    await _locked(machine, unit="logmend-ops-agent")
    of = book(repository)
    found = await asked(machine, of)
    assert (found.cause, found.why) == (UNKNOWN, "at_work"), say(found)
    later = of.scripts.diagnose.replace("-ge 900", "-ge 0")
    assert later != of.scripts.diagnose
    found = await asked(machine, replace(of, scripts=replace(of.scripts, diagnose=later)))
    assert found.cause == "packages_locked", say(found)
    assert found.evidence[0].startswith("logmend has been installing or starting the agent for ")


async def test_no_part_of_a_password_is_told(machine: Machine, repository: Repository) -> None:
    """Also if the evidence is cut in the middle of it."""
    before = "E: x" + "x" * (230 - len("last attempt: E: x//user:sec"))
    await machine.run(
        "mkdir -p /var/lib/logmend; cat >/var/lib/logmend/ops-agent.try",
        stdin=f"{before}//user:secret@proxy.example:3128 refuses\n".encode(),
    )
    told = "; ".join((await asked(machine, book(repository))).evidence)
    assert "last attempt: E: x" in told
    assert "user" not in told, told


async def _has(machine: Machine, name: str) -> None:
    """Have an empty package of that name installed."""
    await machine.output(
        f"mkdir -p /opt/{name}/DEBIAN; printf 'Package: {name}\nVersion: 9\nArchitecture: all\n"
        f"Maintainer: lab\nDescription: lab\n' >/opt/{name}/DEBIAN/control;"
        f" dpkg-deb -b /opt/{name} /opt/{name}.deb; dpkg -i --force-all /opt/{name}.deb"
    )


async def test_the_way_out_is_told_apart_name_address_and_proxy(
    machine: Machine, repository: Repository
) -> None:
    """No name server, nobody who answers, and a proxy that only logins are told of."""
    named = "https://dl.google.com/cloudagents"
    found = await asked(machine, book(repository, repo_url=named))
    assert (found.cause, found.concerns) == ("dns_failing", "fleet"), say(found)
    found = await asked(machine, book(repository, repo_url="https://10.181.243.1:9"))
    assert found.cause == "no_egress", say(found)
    # A proxy that systemd is told of in capitals, as Google's page has it, is one: nobody answers behind it.
    await machine.output("systemctl set-environment HTTPS_PROXY=http://10.181.243.1:9")
    found = await asked(machine, book(repository))
    assert found.cause == "no_egress", say(found)
    assert "through the proxy that systemd has" in found.evidence[0], say(found)
    await machine.output("systemctl unset-environment HTTPS_PROXY")
    await machine.cut_network()
    found = await asked(machine, book(repository))
    assert found.cause == "no_egress", say(found)
    await machine.output("echo https_proxy=http://proxy.example:3128 >>/etc/environment")
    found = await asked(machine, book(repository))
    assert found.cause == "proxy_not_set", say(found)


async def test_a_key_that_apt_lacked_in_the_last_attempt_is_told(
    machine: Machine, repository: Repository
) -> None:
    """In apt's own words, for a day: it may be there by then."""
    await machine.output(
        "mkdir -p /var/lib/logmend; echo 'W: GPG error: https://packages.cloud.google.com/apt InRelease: the"
        " public key is not available: NO_PUBKEY C0BA5CE6DC6315A3' >/var/lib/logmend/ops-agent.try"
    )
    found = await asked(machine, book(repository))
    assert found.cause == "signing_key", say(found)
    assert "NO_PUBKEY C0BA5CE6DC6315A3" in found.evidence[0]
    await machine.output("touch -d '2 days ago' /var/lib/logmend/ops-agent.try")
    found = await asked(machine, book(repository))
    assert (found.cause, found.why) == (UNKNOWN, "no_cause_fits"), say(found)


async def test_a_package_that_cannot_be_configured_is_told_apart_from_a_cut_off_one(
    machine: Machine, repository: Repository
) -> None:
    """The second has been tried again, and dpkg said why not."""
    await agent_package.build(machine)
    await machine.output("touch /opt/fails")
    await machine.run(["dpkg", "-i", f"/opt/apt/{NAME}.deb"])
    assert (await asked(machine, book(repository))).cause == "packages_interrupted"
    await machine.run("mkdir -p /var/lib/logmend; dpkg --configure -a >/var/lib/logmend/ops-agent.try 2>&1")
    found = await asked(machine, book(repository))
    assert found.cause == "package_broken", say(found)


# What keeps it from working


async def source_gone(machine: Machine) -> None:
    """Give apt a suite that its archive, here of the machine's own, does not have any more."""
    await machine.output(
        "echo '127.0.0.1 deb.debian.org' >>/etc/hosts; mkdir /opt/empty;"
        " systemd-run --unit=mirror busybox httpd -f -p 127.0.0.1:80 -h /opt/empty;"
        f" echo 'deb http://deb.debian.org/debian buster-backports main' >{SOURCES}"
    )
    await until_listening(machine, 80)


async def given_up(machine: Machine, program: str = "otelopscol", unit: str = COLLECTOR) -> None:
    """Let a sub-agent die at each start, until systemd starts it no more."""
    await machine.output(f"mkdir /opt/dies; echo 0 >/opt/dies/{program}; systemctl restart {NAME}")
    await until_given_up(machine, unit)


async def _invalid(machine: Machine) -> None:
    await machine.run(f"echo invalid >/etc/{NAME}/config.yaml; systemctl restart {NAME}")
    await until_given_up(machine, COLLECTOR)


async def _unreadable(machine: Machine) -> None:
    await _invalid(machine)
    await machine.output(f"chmod 600 /etc/{NAME}/config.yaml")


async def _taken(machine: Machine) -> None:
    """Let somebody else listen, and the sub-agent end as the real one does if it cannot."""
    program = f"/opt/{NAME}/subagents/opentelemetry-collector/otelopscol"
    await machine.output("systemd-run --uid=1000 --unit=somebody busybox nc -l -p 20201")
    await until_listening(machine, 20201)
    await machine.output(
        f"printf '#!/bin/sh\nss -Hltn sport = :20201 | grep -q . && exit 1\nexec sleep infinity\n'"
        f" >{program};"
        f" systemctl restart {NAME}"
    )
    await until_given_up(machine, COLLECTOR)


async def _uncounted(machine: Machine) -> None:
    """Start the agent anew under a systemd that counts no restarts, as that of SLES 12."""
    await machine.output(f"systemctl restart {NAME}")
    await until(lambda: agent_package.all_up(machine))
    await machine.output(
        "mv /usr/bin/systemctl /usr/bin/systemctl.real;"
        " printf '#!/bin/sh\nsystemctl.real \"$@\" | grep -v ^NRestarts=\n' >/usr/bin/systemctl;"
        " chmod 755 /usr/bin/systemctl"
    )


async def _no_scopes(machine: Machine) -> None:
    machine.metadata.attributes[SCOPES] = "https://www.googleapis.com/auth/logging.write\n"


async def _no_account(machine: Machine) -> None:
    del machine.metadata.attributes[SCOPES]


def _health(*lines: str) -> Prepare:
    text = "\n".join(lines)
    return lambda machine: machine.run(f"cat >>{HEALTH}", stdin=f"{text}\n".encode())


def _json(check: str, result: str) -> str:
    """Write a line as the agent's structured logger does (ops-agent, internal/logs)."""
    return f'{{"level":"error","time":"2026-11-28T20:00:00Z","message":"[{check}] Result: {result}"}}'


WORK: Mapping[str, tuple[Prepare, str, str]] = {
    "invalid": (_invalid, "config_invalid", "The agent config file is not valid."),
    "invalid, and not for everybody": (_unreadable, UNKNOWN, f"not_readable: etc/{NAME}/config.yaml"),
    "port": (
        _taken,
        "port_taken",
        "20201, which google-cloud-ops-agent-opentelemetry-collector.service needs",
    ),
    "stopped": (shell(f"systemctl stop {NAME}"), "stopped", "it was stopped"),
    "all of it masked": (
        shell(f"systemctl mask --now {NAME}"),
        "masked_by_others",
        f"{NAME}.service is masked",
    ),
    "masked": (
        shell(f"systemctl mask --now {NAME}-fluent-bit"),
        "masked_by_others",
        "fluent-bit.service is masked",
    ),
    "scopes": (_no_scopes, "scope_missing", "the VM lacks monitoring.write"),
    "no account": (_no_account, "scope_missing", "no service account"),
    "disabled": (
        _health(
            _json("Ports Check", "PASS"),
            _json("Network Check", "PASS"),
            _json("API Check", "FAIL, Error code: LogApiDisabledErr, Failure: The Logging API is disabled"),
        ),
        "api_disabled",
        "LogApiDisabledErr",
    ),
    "denied, before 2.37": (
        _health(
            "2023/02/08 20:00:00 healthchecks.go:75: Ports Check - Result: PASS",
            "2023/02/08 20:00:00 hc.go:7: API Check - Result: FAIL, Error code: LogApiPermissionErr",
        ),
        "permission_denied",
        "LogApiPermissionErr",
    ),
    "warned of, and no way out that a network would give": (
        _health(
            _json("Ports Check", "PASS"),
            _json(
                "Network Check", "WARNING, Error code: DLApiConnErr, Failure: Request to dl.google.com failed"
            ),
            _json("Network Check", "FAIL, Error code: MetaApiConnErr, Failure: GCE Metadata server failed"),
            _json("API Check", "PASS"),
        ),
        UNKNOWN,
        "the agent reported MetaApiConnErr",
    ),
    "started anew, and no restart is counted": (
        _uncounted,
        UNKNOWN,
        "all of them run",
    ),
    "no name server": (
        _health(
            _json("Ports Check", "PASS"),
            _json(
                "Network Check",
                r"ERROR, Detail: Get \"https://logging.googleapis.com/$discovery/rest\": dial tcp: lookup"
                " logging.googleapis.com on 127.0.0.53:53: no such host",
            ),
        ),
        "dns_failing",
        "a name cannot be resolved",
    ),
    "hangs at its start": (
        shell(
            f"printf '#!/bin/sh\nexec sleep infinity\n' >/opt/{NAME}/libexec/google_cloud_ops_agent_engine;"
            f" systemctl restart --no-block {NAME};"
            f" until systemctl show -p ActiveState {NAME} | grep -q =activating; do sleep 0.1; done"
        ),
        UNKNOWN,
        "it has not come to its end",
    ),
    "repaired since": (
        _health(
            _json("Ports Check", "PASS"),
            _json("API Check", "FAIL, Error code: LogApiPermissionErr, Failure: x"),
            _json("Ports Check", "PASS"),
            _json("API Check", "PASS"),
        ),
        UNKNOWN,
        "all of them run",
    ),
}


@pytest.mark.parametrize("case", WORK)
async def test_what_keeps_the_agent_from_working_is_named(
    case: str, machine: Machine, repository: Repository
) -> None:
    """Of an installed agent."""
    await install(machine)
    prepare, cause, told = WORK[case]
    await prepare(machine)
    found = await asked(machine, book(repository, settle="90"))
    assert found.cause == cause, say(found)
    assert told in "; ".join(found.evidence), say(found)


async def test_root_reads_who_it_is_and_what_was_said(machine: Machine, repository: Repository) -> None:
    """What a user without rights cannot: the process that holds a port, and a dead unit's last lines."""
    await install(machine)
    await given_up(machine)
    found = await asked(machine, book(repository))
    assert (found.cause, found.why) == (UNKNOWN, "not_readable"), say(found)
    found = await asked(machine, book(repository), user="root")
    assert (found.cause, found.why) == (UNKNOWN, "no_cause_fits"), say(found)
    assert "address already in use" in "; ".join(found.evidence), "its own words, and no port is held"
    await _taken(machine)
    found = await asked(machine, book(repository), user="root")
    assert found.cause == "port_taken", say(found)
    assert "(busybox)" in found.evidence[0], say(found)


async def test_root_is_not_told_that_it_cannot_read_why_the_parent_failed(
    machine: Machine, repository: Repository
) -> None:
    """It reads the parent's last words; a user without rights is told that it is not readable."""
    await install(machine)
    await machine.output(
        f"mkdir -p /etc/systemd/system/{NAME}.service.d; printf '[Service]\nExecStartPre=/bin/sh -c"
        f' "echo the words of the parent; kill -9 $$$$"\n\' >/etc/systemd/system/{NAME}.service.d/x.conf;'
        f" systemctl daemon-reload; systemctl restart {NAME}; systemctl start {NAME}-fluent-bit"
        f" {NAME}-opentelemetry-collector; true"
    )
    found = await asked(machine, book(repository))
    assert (found.cause, found.why) == (UNKNOWN, "not_readable"), say(found)
    found = await asked(machine, book(repository), user="root")
    assert (found.cause, found.why) == (UNKNOWN, "no_cause_fits"), say(found)
    assert "the words of the parent" in "; ".join(found.evidence), say(found)


MEMORY = Path("/sys/fs/cgroup/memory")
"""The hierarchy by which the kernel bounds memory, if it is one of its own (cgroup v1)."""


@contextmanager
def small(machine: Machine) -> Iterator[None]:
    """Leave a machine 256 MiB, as a VM of the smallest kind."""
    if not (MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("no memory hierarchy of its own: a machine's memory cannot be bounded here")
    group = MEMORY / machine.name
    group.mkdir(exist_ok=True)
    try:
        (group / "memory.limit_in_bytes").write_text("256M")
        _move(machine, group)
        yield
    finally:
        for _ in range(600):
            _move(machine, MEMORY)
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)  # the kernel needs a moment after its last process


def _move(machine: Machine, group: Path) -> None:
    for process in machine.slot.processes():
        with suppress(OSError):  # it has ended since
            (group / "cgroup.procs").write_text(str(process))


def _kernel_said(*words: str) -> str:
    """Give the last line of the host's kernel with all these words, without its time."""
    log = subprocess.run(["dmesg"], capture_output=True, check=True).stdout.decode("utf-8", "replace")
    return next(line for line in reversed(log.splitlines()) if all(each in line for each in words)).partition(
        "] "
    )[2]


async def test_a_sub_agent_that_the_kernel_kills_for_memory_is_told_to_root(
    machine: Machine, repository: Repository
) -> None:
    """It really eats all there is, and the kernel's own line says so.

    Nothing inside a machine of the lab reads the kernel's log, so journalctl is handed that line.
    """
    await install(machine)
    program = f"/opt/{NAME}/subagents/opentelemetry-collector/otelopscol"
    await machine.output(
        f"cp /usr/bin/tail {program}; mkdir -p /etc/systemd/system/{COLLECTOR}.service.d;"
        # However long the kernel takes over it: what dies five times is given up.
        " printf '[Unit]\nStartLimitIntervalSec=600\n[Service]\nExecStart=\n"
        f"ExecStart={program} /dev/zero\n'"
        f" >/etc/systemd/system/{COLLECTOR}.service.d/eats.conf; systemctl daemon-reload"
    )
    with small(machine):
        await machine.output(f"systemctl restart {COLLECTOR}")
        await until_given_up(machine, COLLECTOR)
    found = await asked(machine, book(repository))
    assert (found.cause, found.why) == (UNKNOWN, "not_readable"), say(found)
    # Of one that takes long to die the kernel says later that it was reaped (mm/oom_kill.c).
    killed = _kernel_said("Killed process", "(otelopscol)")
    await machine.run("cat >/opt/kernel", stdin=f"{killed}\n".encode())
    await machine.output(
        "mv /usr/bin/journalctl /usr/bin/journalctl.real;"
        ' printf \'#!/bin/sh\ncase " $* " in *" -k "*) exec cat /opt/kernel ;; esac\n'
        'exec journalctl.real "$@"\n\' >/usr/bin/journalctl; chmod 755 /usr/bin/journalctl'
    )
    found = await asked(machine, book(repository), user="root")
    assert found.cause == "killed_for_memory", say(found)
    assert "Killed process" in found.evidence[0]


async def test_whether_the_line_matters_is_answered_for_this_machine(
    boot: Boot, repository: Repository
) -> None:
    """Found, and not the cause; found, and nothing else was; not there; not readable."""
    machine = await boot(files={**repository.files, SOURCES: ""}, rsyslog=True)
    machine.metadata.attributes[SCOPES] = EVERYTHING
    await machine.wait_for_line()
    said = "; ".join((await asked(machine, book(repository))).evidence)
    assert "line: not_readable without root; its timer is active" in said
    found = await asked(machine, book(repository), user="root")
    assert found.cause == "not_installed"
    assert "line: found in this VM's log; it is not the cause" in "; ".join(found.evidence)
    await install(machine)
    await given_up(machine)
    found = await asked(machine, book(repository), user="root")
    assert found.cause == UNKNOWN
    assert "nothing else was found, and no way is known" in "; ".join(found.evidence)
    # The other form, to somebody who may read the syslog and not the journal.
    await machine.output(
        "echo 'Nov 28 20:00:00 web gce_workload_cert_refresh[7]: No workload identities found'"
        " >/var/log/syslog; chmod 644 /var/log/syslog"
    )
    said = "; ".join((await asked(machine, book(repository))).evidence)
    assert "line: found in this VM's log" in said
    await machine.output("echo nothing >/var/log/syslog")
    said = "; ".join((await asked(machine, book(repository))).evidence)
    assert "line: not found in the last 9999 lines of var/log/syslog" in said
    quiet = await boot(timer="disabled", files=repository.files)
    found = await asked(quiet, book(repository), user="root")
    assert "line: not found in the log of the last day" in "; ".join(found.evidence)


# Two at once, and odd machines


async def test_of_two_causes_the_one_that_stops_first_is_named(
    machine: Machine, repository: Repository
) -> None:
    """An installer meets a full disk before a lock, a lock before a missing release, that before a key."""
    await INSTALL["key"][0](machine)
    await INSTALL["codename"][0](machine)
    assert (await asked(machine, book(repository))).cause == "os_unsupported"
    await machine.cut_network()
    assert (await asked(machine, book(repository))).cause == "no_egress"
    await _locked(machine)
    assert (await asked(machine, book(repository))).cause == "packages_locked"
    await INSTALL["disk"][0](machine)
    assert (await asked(machine, book(repository))).cause == "disk_full"


ODD: Mapping[str, tuple[str, dict[str, str]]] = {
    "systemctl hangs": ("printf '#!/bin/sh\nsleep 99\n' >/usr/bin/systemctl", {}),
    "systemctl fails": ("printf '#!/bin/sh\nexit 1\n' >/usr/bin/systemctl", {}),
    "systemctl is missing": ("rm /usr/bin/systemctl", {}),
    "systemctl says nonsense": ("printf '#!/bin/sh\necho cause=stopped\n' >/usr/bin/systemctl", {}),
    "curl is missing": ("rm /usr/bin/curl", {}),
    "curl says nonsense": ("printf '#!/bin/sh\necho 200\n' >/usr/bin/curl", {}),
    "another shell's language": ("true", {"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}),
    "no processes are shown": ("mount -o remount,hidepid=2 /proc", {}),
    "no awk": ("rm -f /usr/bin/awk /usr/bin/mawk", {}),
    "busybox alone": (
        "mkdir /opt/b; busybox --install -s /opt/b; cp /usr/bin/systemctl /usr/bin/curl /opt/b/",
        {"PATH": "/opt/b"},
    ),
    "nothing but busybox": ("mkdir /opt/b; busybox --install -s /opt/b", {"PATH": "/opt/b"}),
    "an os-release that runs": ("echo 'ID=$(touch /tmp/ran)' >/etc/os-release; echo '`touch /tmp/ran`'", {}),
    "no os-release": ("rm -f /etc/os-release /usr/lib/os-release", {}),
    "sources that run": (f"echo 'deb http://$(touch${{IFS}}/tmp/ran)/ ;reboot main' >{SOURCES}", {}),
    "sources without an end": (f"dd if=/dev/zero bs=1M count=5 2>/dev/null | tr '\\0' a >{SOURCES}", {}),
    "a forged last attempt": (
        (
            "mkdir -p /var/lib/logmend; printf 'cause=stopped\nconcerns=logmend\nE: x\ncause=stopped\n'"
            " >/var/lib/logmend/ops-agent.try"
        ),
        {},
    ),
    "no dpkg status": ("rm /var/lib/dpkg/status", {}),
    "a broken dpkg": ("printf '#!/bin/sh\nsleep 99\n' | tee /usr/bin/dpkg >/usr/bin/dpkg-query", {}),
    "no locks are told": ("mount --bind /dev/null /proc/locks", {}),
    "a read-only system, as full as it was made": (
        (
            "mount -t tmpfs -o size=1m full /opt; dd if=/dev/zero of=/opt/x bs=4k 2>/dev/null;"
            " mount -o remount,ro /opt"
        ),
        {},
    ),
    "an unreadable etc": ("chmod 700 /etc/apt /etc/apt/sources.list.d", {}),
}
RIGHT = ("not_installed", UNKNOWN)
"""The truth of each odd machine: the agent is not installed, and nothing keeps it out."""


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_machine_is_unknown_or_right_never_wrong(
    case: str, machine: Machine, repository: Repository
) -> None:
    """Whatever is missing, hangs, lies or speaks another language; and nothing of it is run."""
    prepare, env = ODD[case]
    await machine.output(prepare)
    found = await asked(machine, book(repository), env=env)
    assert found.cause in RIGHT, say(found)
    assert (await machine.run("ls /tmp/ran")).rc != 0
    print(f"{case}: {say(found)}")


async def test_packages_that_cannot_be_asked_for_are_not_taken_for_absent(
    machine: Machine, repository: Repository
) -> None:
    """Whichever of the two does not answer is named; an agent that may be there is not installed for it."""
    hangs = "printf '#!/bin/sh\nsleep 99\n' >/usr/bin/{0}; chmod +x /usr/bin/{0}"
    for tool in ("rpm", "dpkg-query"):
        await machine.output(f"rm -f /usr/bin/dpkg-query; {hangs.format(tool)}")
        found = await asked(machine, book(repository))
        assert found.cause == UNKNOWN, say(found)
        assert f"packages: {tool} does not answer" in found.evidence, say(found)
