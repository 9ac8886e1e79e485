"""One story per refusal: real sshd, PAM and sudo say no in each of their ways, and we tell which it was."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from logmend.adapters.ssh.executor import SshExecutor
from logmend.adapters.ssh.host_keys import Insecure
from logmend.adapters.ssh.routes import Direct
from logmend.catalog import load
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action, Finding
from logmend.model.values import Evidence, InstanceFacts
from logmend.runbook import Runbook
from logmend.settings import Settings
from tests.contract.machines import Key, runbook
from tests.lab.cloud import cloud, line
from tests.lab.conftest import Boot
from tests.lab.machines import Machine

SUDOERS = "/etc/sudoers.d/zz-test"
GERMAN = "SetEnv LANG=C.UTF-8 LANGUAGE=de"


class Now:
    """The real clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class No:
    """How a machine is made to refuse, and what is to be told: class, reason, the machine's own words."""

    arrange: str
    error: type[Transient | Permanent]
    reason: str
    words: str


NOES = {
    "requiretty": No(
        f"echo 'Defaults requiretty' >{SUDOERS}", Permanent, "sudo_requires_tty", "you must have a tty"
    ),
    "requiretty, in German": No(
        f"echo 'Defaults requiretty' >{SUDOERS}; echo '{GERMAN}' >/etc/ssh/sshd_config.d/de.conf",
        Permanent,
        "sudo_requires_tty",
        "you must have a tty",
    ),
    "noexec": No(f"echo 'Defaults noexec' >{SUDOERS}", Permanent, "sudo_noexec", "cat: Permission denied"),
    "no rule for the user": No(
        "rm /etc/sudoers.d/logmend", Permanent, "not_permitted", "a password is required"
    ),
    "a rule for other commands": No(
        "echo 'logmend ALL=(ALL) NOPASSWD: /bin/true' >/etc/sudoers.d/logmend",
        Permanent,
        "not_permitted",
        "password is required",
    ),
    "no sudo": No("mv /usr/bin/sudo /root", Permanent, "no_sudo", "No such file"),
    "password expired": No(
        "chage -d 0 logmend", Permanent, "password_expired", "Password change required but no TTY"
    ),
    "account expired": No("chage -E 0 logmend", Permanent, "account_expired", "Your account has expired"),
    "booting": No(
        "systemd-tmpfiles --create --boot systemd-nologin.conf",
        Transient,
        "not_accepting_logins",
        "System is booting up",
    ),
    "nologin with a text of one's own": No(
        "echo 'Disks are being swapped until noon.' >/etc/nologin",
        Transient,
        "login_closed",
        "Disks are being swapped until noon.",
    ),
    "PAM without a word": No(
        "sed -i '1i account required pam_deny.so' /etc/pam.d/sshd",
        Transient,
        "login_closed",
        "without a word",
    ),
    "locked out by the server's list": No(
        "echo 'AllowUsers somebody' >/etc/ssh/sshd_config.d/users.conf", Permanent, "not_permitted", "refused"
    ),
}


async def checked(machine: Machine, book: Runbook) -> Evidence:
    """Log in and run a runbook's check."""
    executor = SshExecutor(Key(machine.user, machine.client_key), Insecure(), Direct(), Now())
    facts = InstanceFacts(machine.ref, machine.name, "RUNNING", internal_ip=machine.address)
    async with executor.open(facts, book, Action.CHECK) as session:
        return await session.check()


async def enforced(machine: Machine) -> int:
    """Log in, check, and enforce; give the exit code of enforcing."""
    executor = SshExecutor(
        Key(machine.user, machine.client_key),
        Insecure(),
        Direct(),
        Now(),
        deadline=timedelta(seconds=30),
    )
    facts = InstanceFacts(machine.ref, machine.name, "RUNNING", internal_ip=machine.address)
    book = runbook("exit 101\n", 'cd / && ls >/dev/null && [ "$(id -u)" = 0 ] && exit 100\n')
    async with executor.open(facts, book, Action.ENFORCE) as session:
        assert (await session.check()).exit_code == 101
        return (await session.enforce()).exit_code


@pytest.mark.parametrize("how", NOES)
async def test_each_refusal_of_a_real_machine_has_its_own_story(boot: Boot, how: str) -> None:
    """Its own reason, the words of whoever refused in the detail, and no firewall advice."""
    no, machine = NOES[how], await boot()
    assert await enforced(machine) == 100
    await machine.output(no.arrange)
    if "sshd_config" in no.arrange:
        await machine.output("systemctl restart ssh")
    with pytest.raises((Transient, Permanent)) as caught:
        await enforced(machine)
    error = caught.value
    assert isinstance(error, no.error), error
    assert error.reason == no.reason, error
    assert no.words in str(error)
    assert "firewall" not in str(error)


async def test_sudo_really_speaks_german_there_unless_it_is_asked_not_to(boot: Boot) -> None:
    """The test above would prove nothing otherwise."""
    machine = await boot()
    await machine.output(f"echo 'Defaults requiretty' >{SUDOERS}")
    said = await machine.run(["env", "LANG=C.UTF-8", "LANGUAGE=de", "sudo", "-n", "true"], user=machine.user)
    assert "must have a tty" not in said.err
    assert "sudo: " in said.err


async def test_a_machine_without_curl_is_told_from_a_silent_metadata_server(boot: Boot) -> None:
    """The runbook's own check, there; in both cases its own words are kept."""
    machine = await boot()
    check = load(Settings())["workload-cert-refresh"]
    machine.set_config_status(500)
    silent = await checked(machine, check)
    assert (silent.finding, silent.values["reason"] == "no_curl") == (Finding.LEAVE_ALONE, False)
    await machine.output("mv /usr/bin/curl /root")
    bare = await checked(machine, check)
    assert (bare.finding, bare.values["reason"]) == (Finding.LEAVE_ALONE, "no_curl")
    assert "curl" in bare.error


async def test_a_secure_path_that_lacks_everything_is_no_obstacle(boot: Boot) -> None:
    """The usual folders are looked through last."""
    machine = await boot()
    await machine.output(f"echo 'Defaults secure_path=/opt/nothing' >{SUDOERS}")
    assert await enforced(machine) == 100


NO_BUS = "systemctl stop dbus.socket dbus.service"


@pytest.mark.parametrize("book", ["workload-cert-refresh", "ops-agent"])
@pytest.mark.parametrize("how", ["PID 1 hangs", "the bus is gone"])
async def test_a_machine_whose_systemd_does_not_answer_is_told_as_such(
    boot: Boot, book: str, how: str
) -> None:
    """Nothing is known of its units, which is a no of the check and no error of the script."""
    machine = await boot()
    if how == "PID 1 hangs":
        machine.hang_systemd()
    else:
        await machine.output(NO_BUS)
    found = await checked(machine, load(Settings())[book])
    assert (found.finding, found.values["reason"]) == (Finding.LEAVE_ALONE, "systemd_silent")
    assert found.values["instance_id"] == machine.ref.instance_id


async def test_the_bus_own_words_are_in_the_outcome(boot: Boot, tmp_path: Path) -> None:
    """Refused, with what systemctl said, and nothing is changed."""
    machine = await boot()
    async with cloud(tmp_path, machine) as around, around.function() as function:
        seen = await line(machine)
        await machine.output(NO_BUS)
        answer = await function.push(seen)
        assert (answer.status, answer.verdict) == (200, "refused: systemd_silent"), answer
        assert "Failed to connect to bus" in answer.said["detail"]
    assert (await machine.run("ls /var/lib/logmend")).rc != 0


ROOT_ONLY = "iptables -A OUTPUT -d 169.254.169.254 -p tcp -m owner ! --uid-owner root -j"
"""A hardening that is often advised: only root may ask the metadata server, which hands out tokens."""


@pytest.mark.parametrize("how", ["REJECT", "DROP"])
async def test_with_a_static_key_a_silent_metadata_server_is_no_more_than_that(
    boot: Boot, tmp_path: Path, how: str
) -> None:
    """Nothing proves there that root would be answered; an HTTP status is not taken for an instance id."""
    machine = await boot()
    async with cloud(tmp_path, machine) as around, around.function() as function:
        seen = await line(machine)
        await machine.output(f"{ROOT_ONLY} {how}")
        answer = await function.push(seen)
        assert (answer.status, answer.verdict) == (200, "refused: config_status_unknown"), answer
