"""The ssh executor against a real OpenSSH server: a process of our own, on a high port of loopback."""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.conftest import needs
from tests.contract.machines import (
    FACTS,
    HOST_KEY,
    OTHER_KEY,
    REF,
    SUDO,
    SUDO_PASSWORD,
    USER_KEY,
    Key,
    Now,
    Pinned,
    executor,
    later,
    runbook,
    served,
)

from logmend.adapters.ssh import login
from logmend.adapters.ssh.executor import SshExecutor
from logmend.adapters.ssh.host_keys import KnownHostsFile, PinnedHostKeys, See, Trust
from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Permanent, Transient
from logmend.ledger import Contacts
from logmend.model.enums import Action, Finding
from logmend.model.values import InstanceFacts, Login

P256 = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
RSA = asyncssh.generate_private_key("ssh-rsa")
FIPS = (
    # Of what crypto-policies' FIPS policy leaves of OpenSSH (back-ends/FIPS/opensshserver.txt).
    "Ciphers=aes256-gcm@openssh.com,aes256-ctr,aes128-gcm@openssh.com,aes128-ctr",
    "MACs=hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512",
    "KexAlgorithms=ecdh-sha2-nistp256,ecdh-sha2-nistp384,diffie-hellman-group14-sha256",
    "HostKeyAlgorithms=ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,rsa-sha2-256,rsa-sha2-512",
    "PubkeyAcceptedAlgorithms=ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com,rsa-sha2-512",
    "CASignatureAlgorithms=ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,rsa-sha2-256,rsa-sha2-512",
)
AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")
ME = getpass.getuser()


def descendants(process: int) -> list[int]:
    """Give the processes that a process started, and theirs."""
    try:
        started = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [each for pid in map(int, started) for each in (pid, *descendants(pid))]


@dataclass
class Sshd:
    """A server and how to reach it."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str, host_key: asyncssh.SSHKey = HOST_KEY) -> None:
        """Start and wait until it answers."""
        folder = self.folder
        (folder / "bin").mkdir(exist_ok=True)
        self.put("sudo", SUDO)
        for name, text in (
            ("host", host_key.export_private_key("openssh")),
            ("authorized", USER_KEY.export_public_key()),
            ("authority", AUTHORITY.export_public_key()),
        ):
            (folder / name).write_bytes(text)
            (folder / name).chmod(0o600)
        settings = [
            *options,
            f"Port={self.port}",
            "ListenAddress=127.0.0.1",
            f"HostKey={folder}/host",
            f"AuthorizedKeysFile={folder}/authorized",
            f"TrustedUserCAKeys={folder}/authority",
            "PidFile=none",
            "StrictModes=no",
            "UsePAM=no",
            "UseDNS=no",
            "PermitRootLogin=yes",
            "MaxStartups=200",
            # A home of its own: what a login shell reads in the real one may wait, or say something.
            f"SetEnv=PATH={folder}/bin:{os.environ['PATH']} HOME={folder}",
        ]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server that is root goes to have no privileges
        sshd = shutil.which("sshd")
        assert sshd
        with (folder / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [
                        sshd,
                        "-D",
                        "-e",
                        "-f",
                        "/dev/null",
                        *(part for each in settings for part in ("-o", each)),
                    ],
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
            )
        deadline = time.monotonic() + 150
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            if time.monotonic() > deadline or self.processes[-1].poll() is not None:
                pytest.fail(f"sshd does not answer: {(folder / 'log').read_text()}")
            time.sleep(0.02)

    def put(self, name: str, text: str) -> None:
        """Put a program in front of the sessions' path."""
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def stop(self) -> None:
        """End the server and every session of it."""
        for process in self.processes:
            for pid in (*descendants(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(100)

    def executor(self, **changes: Any) -> SshExecutor:
        """Give the executor that dials it."""
        return executor(self.port, **({"credentials": Key(ME)} | changes))


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Start servers, and end them."""
    needs(commands=("sshd",))
    started: list[Sshd] = []

    def start(*options: str, host_key: asyncssh.SSHKey = HOST_KEY) -> Sshd:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            started.append(Sshd(tmp_path, probe.getsockname()[1]))
        started[-1].start(*options, host_key=host_key)
        return started[-1]

    yield start
    for each in started:
        each.stop()


async def test_check_enforce_and_check_over_one_real_connection(
    sshd: Callable[..., Sshd], tmp_path: Path
) -> None:
    """The whole conversation, with scripts that read standard input in between."""
    state = tmp_path / "fixed"
    book = runbook(
        f"cat\necho root=$AS_ROOT\n[ -e {state} ] && exit 100\nexit 101\n",
        f"cat >/dev/null\ntouch {state}\necho root=$AS_ROOT\nexit 100\n",
    )
    async with sshd().executor().open(FACTS, book, Action.ENFORCE) as session:
        before, done, after = await session.check(), await session.enforce(), await session.check()
    assert [each.finding for each in (before, done, after)] == [
        Finding.FAULTY,
        Finding.DESIRED,
        Finding.DESIRED,
    ]
    assert (before.values, done.values) == ({"root": ""}, {"root": "yes"})


async def test_a_certificate_logs_in_where_the_key_alone_may_not(sshd: Callable[..., Sshd]) -> None:
    """What OS Login issues: a certificate of an authority that the server trusts."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = AUTHORITY.generate_user_certificate(key, "logmend", principals=[ME], valid_before="+5m")
    server = sshd()
    with_it = server.executor(credentials=Key(ME, key, certificate))
    async with with_it.open(FACTS, runbook("exit 101\n"), Action.CHECK) as session:
        assert (await session.check()).exit_code == 101
    with pytest.raises(Permanent, match="not_permitted"):
        async with server.executor(credentials=Key(ME, key)).open(FACTS, runbook(), Action.CHECK):
            pass


async def test_an_expired_certificate_is_not_permitted(sshd: Callable[..., Sshd]) -> None:
    """Five minutes are over."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = AUTHORITY.generate_user_certificate(
        key, "logmend", principals=[ME], valid_after="-10m", valid_before="-5m"
    )
    with pytest.raises(Permanent, match="not_permitted"):
        async with (
            sshd().executor(credentials=Key(ME, key, certificate)).open(FACTS, runbook(), Action.CHECK)
        ):
            pass


async def test_another_host_key_is_a_mismatch(sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """Pinned or from a file."""
    server = sshd()
    file = tmp_path / "known_hosts"
    file.write_text(f"{REF.instance_id} {OTHER_KEY.export_public_key().decode()}")
    for keys in (Pinned((OTHER_KEY,)), KnownHostsFile(file, port=server.port)):
        with pytest.raises(Permanent) as caught:
            async with server.executor(host_keys=keys).open(FACTS, runbook(), Action.CHECK):
                pass
        assert caught.value.reason == "host_key_mismatch"


async def test_a_refused_sudo_never_began_and_says_why(sshd: Callable[..., Sshd]) -> None:
    """The check ran before as it should; nothing was changed."""
    server = sshd()
    server.put("sudo", SUDO_PASSWORD)
    async with server.executor().open(FACTS, runbook("exit 101\n"), Action.ENFORCE) as session:
        assert (await session.check()).finding is Finding.FAULTY
        with pytest.raises(Permanent, match=r"not_permitted.*osAdminLogin"):
            await session.enforce()


async def test_a_machine_without_sudo_says_so(sshd: Callable[..., Sshd]) -> None:
    """The shell's own message comes through."""
    server = sshd("PermitUserRC=no")
    server.put("sudo", "#!/bin/sh\necho 'sudo: command not found' >&2\nexit 127\n")
    async with server.executor().open(FACTS, runbook(), Action.ENFORCE) as session:
        with pytest.raises(Permanent, match="command not found"):
            await session.enforce()


async def test_a_flood_is_cut_off_and_the_real_connection_stays_usable(sshd: Callable[..., Sshd]) -> None:
    """Sshd keeps sending into a closed channel for a while; the next script is not bothered."""
    book = runbook("echo a=1\nexec cat /dev/zero\n", "exit 100\n")
    async with sshd().executor().open(FACTS, book, Action.ENFORCE) as session:
        flooded = await session.check()
        assert (flooded.exit_code, flooded.values) == (-1, {"a": "1"})
        assert (await session.enforce()).exit_code == 100


async def test_a_server_that_dies_in_the_middle_is_a_lost_connection(
    sshd: Callable[..., Sshd], tmp_path: Path
) -> None:
    """A VM that is reset while a script runs."""
    server, begun = sshd(), tmp_path / "begun"
    script = runbook(f": >'{begun}'; sleep 30\n")
    async with server.executor().open(FACTS, script, Action.CHECK) as session:
        running = asyncio.create_task(session.check())
        while not begun.exists() and not running.done():  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.02)
        # Sessions leave the group of the listener, but stay its children.
        for child in descendants(server.processes[0].pid):
            os.kill(child, signal.SIGKILL)
        with pytest.raises(Transient) as caught:
            await running
    assert caught.value.reason == "connection_lost"


async def test_a_script_killed_on_the_vm_is_a_lost_connection(sshd: Callable[..., Sshd]) -> None:
    """The out-of-memory killer: what was done is not known."""
    async with sshd().executor().open(FACTS, runbook("kill -KILL $$\n"), Action.CHECK) as session:
        with pytest.raises(Transient, match=r"connection_lost.*KILL"):
            await session.check()


async def test_a_script_that_hangs_meets_the_deadline(sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """The attempt ends; the connection with it."""
    patient, begun = sshd().executor(deadline=timedelta(seconds=200)), tmp_path / "begun"
    script = runbook(f": >'{begun}'; sleep 20\n")
    async with patient.open(FACTS, script, Action.CHECK) as session:
        running = asyncio.create_task(session.check())
        while not begun.exists() and not running.done():  # noqa: ASYNC110  of another process
            await asyncio.sleep(0.02)
        await later(201)
        with pytest.raises(Transient) as caught:
            await running
    assert caught.value.reason == "deadline_exceeded"


async def test_a_stopped_server_is_unreachable_before_the_login(sshd: Callable[..., Sshd]) -> None:
    """The kernel accepts, nobody answers: a VM that swaps itself to death."""
    server = sshd()
    os.kill(server.processes[0].pid, signal.SIGSTOP)
    with pytest.raises(Transient) as caught:
        async with server.executor(connect_timeout=0.5).open(FACTS, runbook(), Action.CHECK):
            pass
    assert caught.value.reason == "unreachable"


async def test_a_server_that_opens_no_session_is_asked_again_later(sshd: Callable[..., Sshd]) -> None:
    """``MaxSessions 0``: let in, and then no, for whatever reason."""
    async with sshd("MaxSessions=0").executor().open(FACTS, runbook(), Action.CHECK) as session:
        with pytest.raises(Transient):
            await session.check()


async def test_a_forced_command_is_not_taken_for_the_script(sshd: Callable[..., Sshd]) -> None:
    """Whatever else the server runs in its place is no evidence."""
    forced = sshd("ForceCommand=echo timer=forged; exit 100")
    async with forced.executor().open(FACTS, runbook(), Action.CHECK) as session:
        with pytest.raises(Permanent, match="not_permitted"):
            await session.check()


async def test_twenty_real_attempts_at_once(sshd: Callable[..., Sshd]) -> None:
    """Each on its own connection."""
    server = sshd()

    async def attempt(number: int) -> dict[str, str]:
        book = runbook(f"echo n={number}\nexit 101\n")
        patient = server.executor(connect_timeout=200, deadline=timedelta(seconds=400))
        async with patient.open(FACTS, book, Action.CHECK) as session:
            return dict((await session.check()).values)

    assert await asyncio.gather(*map(attempt, range(20))) == [{"n": str(number)} for number in range(20)]


# Servers that know few algorithms


async def met(server: Sshd, contacts: Contacts, **changes: Any) -> Login:
    """Meet a server as a VM that never published a key, check it, and give how we got in."""
    keys = PinnedHostKeys(Unpublished(), contacts, Now())
    async with server.executor(host_keys=keys, **changes).open(FACTS, runbook(), Action.CHECK) as session:
        assert (await session.check()).exit_code == 100
        return session.login


class Unpublished:
    """A VM that published nothing."""

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        raise Permanent("host_key_unknown")


@pytest.mark.parametrize(("options", "host_key"), [(FIPS, P256), (FIPS, RSA), ((), RSA)])
async def test_a_host_in_fips_mode_or_with_rsa_alone_is_met_and_met_again(
    sshd: Callable[..., Sshd], options: tuple[str, ...], host_key: asyncssh.SSHKey
) -> None:
    """A certificate and a key of the kind that OS Login gets from us; pinned, then required."""
    authority = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    certificate = authority.generate_user_certificate(key, "logmend", principals=[ME], valid_before="+5m")
    server, contacts = sshd(*options, host_key=host_key), Contacts(MemoryStore())
    (server.folder / "authority").write_bytes(authority.export_public_key())
    signed = Key(ME, key, certificate, "certificate")
    assert await met(server, contacts, credentials=signed) == Login("first_seen", "certificate")
    (server.folder / "authorized").write_bytes(key.export_public_key())
    imported = Key(ME, key, None, "imported_key")
    assert await met(server, contacts, credentials=imported) == Login("pinned", "imported_key")


async def test_a_key_that_fips_mode_forbids_is_told_from_a_missing_role(sshd: Callable[..., Sshd]) -> None:
    """A static Ed25519 key, rightly authorized.

    OpenSSH 9.2 names every kind of signature, not those that it takes: then the kind is told as a suspicion.
    """
    server = sshd(*FIPS, host_key=P256)
    with pytest.raises(Permanent, match=r"ssh-ed25519.*FIPS") as caught:
        await met(server, Contacts(MemoryStore()))
    assert caught.value.reason == "not_permitted"
    with pytest.raises(Permanent) as caught:
        await met(sshd(), Contacts(MemoryStore()), credentials=Key(ME, OTHER_KEY))
    assert "FIPS" not in str(caught.value)


async def test_a_server_that_names_the_kinds_it_takes_is_quoted() -> None:
    """As newer OpenSSH does, and asyncssh's server."""

    async def nothing(_: object) -> None:
        """Nobody gets that far."""

    class Strict(asyncssh.SSHServer):
        def public_key_auth_supported(self) -> bool:
            return True

    few = ["rsa-sha2-256", "rsa-sha2-512"]
    async with served(nothing, server_factory=Strict, signature_algs=few, server_host_keys=[RSA]) as port:
        with pytest.raises(
            Permanent, match=r"does not accept ssh-ed25519 keys, but .*rsa-sha2-256"
        ) as caught:
            async with executor(port, host_keys=Pinned((RSA,))).open(FACTS, runbook(), Action.CHECK):
                pass
    assert caught.value.reason == "key_type_refused"


async def test_a_server_with_none_of_the_known_kinds_of_key_is_a_mismatch(sshd: Callable[..., Sshd]) -> None:
    """OpenSSH hangs up while the library still finds out: no firewall's fault."""
    server = sshd(host_key=RSA)
    with pytest.raises(Permanent, match="known as") as caught:
        async with server.executor().open(FACTS, runbook(), Action.CHECK):
            pass
    assert caught.value.reason == "host_key_mismatch"


@pytest.mark.parametrize(
    ("options", "host_key", "words"),
    [
        (("KexAlgorithms=diffie-hellman-group1-sha1",), HOST_KEY, "key exchange"),
        (("HostKeyAlgorithms=ssh-rsa",), RSA, "host key"),
        (("Ciphers=aes128-cbc",), HOST_KEY, "encryption"),
    ],
)
async def test_no_common_algorithm_is_told_with_the_servers_own(
    sshd: Callable[..., Sshd], options: tuple[str, ...], host_key: asyncssh.SSHKey, words: str
) -> None:
    """Which kind is not shared, and what the server offers; it is no key mismatch and no firewall."""
    contacts = Contacts(MemoryStore())
    with pytest.raises(Permanent, match=words) as caught:
        await met(sshd(*options, host_key=host_key), contacts)
    assert caught.value.reason == "ssh_incompatible"
    assert (await contacts.get(REF)).pin is None


async def test_a_server_that_takes_no_public_keys_is_no_refused_key(sshd: Callable[..., Sshd]) -> None:
    """No other key would do better, and none is imported."""
    with pytest.raises(Permanent, match="accepts no public keys") as caught:
        await met(sshd("PubkeyAuthentication=no", "PasswordAuthentication=yes"), Contacts(MemoryStore()))
    assert caught.value.reason == "not_permitted"
    assert not isinstance(caught.value, login.KeyRefused)


async def test_a_refused_key_is_told_however_few_tries_a_server_gives(sshd: Callable[..., Sshd]) -> None:
    """``MaxAuthTries 1`` hangs up instead of saying no: it is the same refusal."""
    server = sshd("MaxAuthTries=1")
    with pytest.raises(login.KeyRefused, match="not_permitted"):
        await met(server, Contacts(MemoryStore()), credentials=Key(ME, OTHER_KEY))
