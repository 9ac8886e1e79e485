"""The ssh executor against servers on loopback, good and bad ones."""

import asyncio
import gc
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.conftest import needs
from tests.contract.http_fake import mute
from tests.contract.machines import (
    FACTS,
    HOST_KEY,
    OTHER_KEY,
    REF,
    SUDO,
    SUDO_PASSWORD,
    Key,
    Pinned,
    Shell,
    executor,
    later,
    runbook,
    served,
)

from logmend.adapters.ssh import remote_script
from logmend.adapters.ssh.host_keys import Insecure, KnownHostsFile, See, Trust
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action, Finding
from logmend.model.values import Evidence, InstanceFacts, Login


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give each shell that may stand behind ``/bin/sh`` on a VM, if this machine has it."""
    needs(commands=(request.param,))
    return (request.param, "sh") if request.param == "busybox" else (request.param,)


@pytest.fixture
def machine(tmp_path: Path) -> Shell:
    """Give a machine with a working sudo."""
    shell = Shell(tmp_path)
    shell.put("sudo", SUDO)
    return shell


async def one_check(port: int, script: str, **changes: Any) -> Evidence:
    """Connect, check once, leave."""
    async with executor(port, **changes).open(FACTS, runbook(script), Action.CHECK) as session:
        return await session.check()


async def test_one_connection_checks_enforces_and_checks_again(machine: Shell, tmp_path: Path) -> None:
    """The whole conversation: each script's exit code and its plain pairs come back as evidence."""
    state = tmp_path / "fixed"
    book = runbook(
        f"echo noise\necho root=$AS_ROOT\n[ -e {state} ] && exit 100\necho timer=on\nexit 101\n",
        f"echo root=$AS_ROOT\ntouch {state}\nexit 100\n",
    )
    async with served(machine) as port, executor(port).open(FACTS, book, Action.ENFORCE) as session:
        before, done, after = await session.check(), await session.enforce(), await session.check()
    assert (before.finding, before.values) == (Finding.FAULTY, {"root": "", "timer": "on"})
    assert (done.finding, done.values) == (Finding.DESIRED, {"root": "yes"})
    assert (after.finding, after.values) == (Finding.DESIRED, {"root": ""})
    assert before.at <= done.at <= after.at


async def test_a_revert_runs_the_other_pair_of_scripts(machine: Shell) -> None:
    """Reverting never runs what enforces."""
    book = runbook("exit 7\n", "exit 7\n", "echo a=1\nexit 101\n", "echo a=2\nexit 100\n")
    async with served(machine) as port, executor(port).open(FACTS, book, Action.REVERT) as session:
        assert (await session.check()).values == {"a": "1"}
        assert (await session.enforce()).values == {"a": "2"}


async def test_a_session_opened_to_check_cannot_enforce(machine: Shell) -> None:
    """Observing stays observing even if its caller errs."""
    async with served(machine) as port, executor(port).open(FACTS, runbook(), Action.CHECK) as session:
        with pytest.raises(Permanent, match="not_permitted"):
            await session.enforce()
    assert machine.commands == []


async def test_a_command_that_reads_standard_input_does_not_swallow_the_script(
    machine: Shell, shell: tuple[str, ...]
) -> None:
    """``cat`` and ``read`` find nothing; every later line still runs, under whatever shell."""
    machine.shell = shell
    machine.put("sh-under-test", "#!/bin/sh\n")
    script = "cat\nread line || echo empty=yes\ncat >/dev/null\necho last=yes\nexit 102\n"
    async with served(machine) as port:
        evidence = await one_check(port, script)
    assert (evidence.exit_code, evidence.values) == (102, {"empty": "yes", "last": "yes"})


async def test_a_script_arrives_to_the_byte(machine: Shell, shell: tuple[str, ...], tmp_path: Path) -> None:
    """Quotes, dollars, backslashes and umlauts are nobody's problem."""
    machine.shell = shell
    script = f"cat >{tmp_path}/out <<'EOT'\n$HOME `id` \"'\\n\\\\ %s äöü \t!$$\nEOT\nexit 100\n"
    async with served(machine) as port:
        assert (await one_check(port, script)).exit_code == 100
    assert (tmp_path / "out").read_text() == "$HOME `id` \"'\\n\\\\ %s äöü \t!$$\n"


async def test_nothing_but_two_constants_is_ever_a_command_line(machine: Shell) -> None:
    """No event, runbook or setting can reach a shell's command line."""
    book = runbook("echo a=1\nexit 101\n", "exit 100\n")
    async with served(machine) as port, executor(port).open(FACTS, book, Action.ENFORCE) as session:
        await session.check()
        await session.enforce()
    assert machine.commands == [remote_script.AS_USER, remote_script.AS_ROOT]


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -2])
async def test_a_script_that_did_not_arrive_whole_is_not_run(
    shell: tuple[str, ...], cut: int, tmp_path: Path
) -> None:
    """A connection that dies while the script travels leaves half a script behind; it must not count."""
    script = f"touch {tmp_path}/ran\nexit 100\n"
    whole = f"{script}\n{remote_script._END}\n".encode()
    part = whole[:cut] if cut >= 0 else whole[: cut - 1]
    process = await asyncio.create_subprocess_exec(
        *shell, "-c", remote_script.AS_USER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    stdout, _ = await process.communicate(part)
    assert (process.returncode, stdout, (tmp_path / "ran").exists()) == (96, b"", False)


async def test_an_error_of_a_script_comes_back_with_the_end_of_what_it_said(machine: Shell) -> None:
    """Any other exit code is evidence of an error, not an exception."""
    async with served(machine) as port:
        evidence = await one_check(port, "echo a=1\necho boom >&2\nexit 3\n")
    assert (evidence.exit_code, evidence.finding, evidence.error) == (3, Finding.ERROR, "boom")
    assert evidence.values == {"a": "1"}


async def test_what_a_login_shell_prints_by_itself_is_no_evidence(machine: Shell, tmp_path: Path) -> None:
    """A chatty ``.bashrc`` cannot pose as the script."""
    (tmp_path / "rc").write_text("echo timer=forged\n")
    needs(commands=("bash",))
    machine.shell = ("bash",)
    machine.environment = {"BASH_ENV": f"{tmp_path}/rc"}
    async with served(machine) as port:
        assert (await one_check(port, "echo timer=on\nexit 101\n")).values == {"timer": "on"}


async def test_a_refused_sudo_is_named_with_the_role_that_is_missing(machine: Shell) -> None:
    """``sudo -n`` that asks for a password can be told from a script that fails."""
    machine.put("sudo", SUDO_PASSWORD)
    book = runbook("exit 101\n", "exit 100\n")
    async with served(machine) as port, executor(port).open(FACTS, book, Action.ENFORCE) as session:
        await session.check()
        with pytest.raises(Permanent, match=r"not_permitted.*osAdminLogin.*a password is required"):
            await session.enforce()


async def test_a_script_that_fails_as_root_is_not_taken_for_a_refused_sudo(machine: Shell) -> None:
    """Exit status 1 of the script itself stays evidence."""
    book = runbook("exit 101\n", "echo 'sudo: a password is required' >&2\nexit 1\n")
    async with served(machine) as port, executor(port).open(FACTS, book, Action.ENFORCE) as session:
        assert (await session.enforce()).exit_code == 1


async def test_a_login_shell_that_runs_nothing_is_not_permitted(machine: Shell) -> None:
    """An account with ``nologin`` lets us in and does nothing."""
    machine.put("nologin", "#!/bin/sh\necho This account is currently not available.\nexit 1\n")
    machine.shell = (str(machine.path / "nologin"),)
    async with served(machine) as port:
        with pytest.raises(Permanent, match=r"not_permitted.*not available"):
            await one_check(port, "exit 100\n")


async def test_a_flood_is_cut_off_and_the_connection_stays_usable(machine: Shell) -> None:
    """Endless output ends as an error of the script, with little kept, and does not hold the attempt."""
    book = runbook("echo a=1\nexec yes\n", "echo b=1\nexit 100\n")
    async with served(machine) as port, executor(port).open(FACTS, book, Action.ENFORCE) as session:
        flooded = await session.check()
        assert (await session.enforce()).exit_code == 100
    assert (flooded.exit_code, flooded.finding, flooded.values) == (-1, Finding.ERROR, {"a": "1"})
    assert "cut off" in flooded.error


async def test_binary_output_is_no_problem(machine: Shell) -> None:
    """Bytes that are no text are dropped line by line."""
    async with served(machine) as port:
        evidence = await one_check(port, "head -c 20000 /dev/urandom\necho\necho a=1\nexit 101\n")
    assert evidence.exit_code == 101
    assert set(evidence.values.values()) <= {"1"} | set(evidence.values.values())
    assert all(value.isprintable() for value in evidence.values.values())


# Servers that are not there, not the right one, or say no


async def test_a_closed_port_is_unreachable() -> None:
    """Nothing listens: transient, since a VM may be booting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(Transient) as caught:
        await one_check(port, "exit 100\n")
    assert caught.value.reason == "unreachable"


@pytest.mark.parametrize(
    ("first", "trickle"),
    [(b"", b""), (b"SSH-2.0-OpenSSH_9.6\r\n", b""), (b"", b"motd\r\n"), (b"SSH-2.0-x\r\n", b"\0")],
    ids=["silent", "banner only", "endless banner", "trickling packet"],
)
async def test_a_peer_that_never_lets_us_in_is_unreachable_in_bounded_time(
    first: bytes, trickle: bytes
) -> None:
    """Half-open and trickling peers cannot hold an attempt past its limit to connect."""
    async with mute(first, trickle) as port:
        with pytest.raises(Transient) as caught:
            await asyncio.wait_for(one_check(port, "exit 100\n", connect_timeout=0.5), 60)
    assert caught.value.reason in ("unreachable", "ssh_protocol_error")


async def test_a_server_that_hangs_up_at_once_is_unreachable() -> None:
    """MaxStartups, a load balancer or tcpwrappers: nothing was done, it may come back."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Transient, match="unreachable"):
            await one_check(server.sockets[0].getsockname()[1], "exit 100\n")


async def test_another_host_key_is_a_mismatch_and_nothing_runs(machine: Shell) -> None:
    """Another machine on the VM's address never sees a credential or a script."""
    async with served(machine, server_host_keys=[OTHER_KEY]) as port:
        with pytest.raises(Permanent) as caught:
            await one_check(port, "exit 100\n")
    assert caught.value.reason == "host_key_mismatch"
    assert machine.commands == []


async def test_a_server_without_any_pinned_kind_of_key_is_a_mismatch(machine: Shell) -> None:
    """A server that offers another algorithm only cannot prove that it is the VM."""
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    async with served(machine, server_host_keys=[ecdsa]) as port:
        with pytest.raises(Permanent) as caught:
            await one_check(port, "exit 100\n")
    assert caught.value.reason == "host_key_mismatch"


async def test_a_pinned_key_is_found_among_the_servers_others(machine: Shell) -> None:
    """Only the pinned kinds are negotiated, so an additional key on the VM does no harm."""
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    async with served(machine, server_host_keys=[ecdsa, HOST_KEY]) as port:
        assert (await one_check(port, "exit 100\n")).exit_code == 100


async def test_insecure_takes_any_key_and_says_so(machine: Shell) -> None:
    """What is not verified is marked in every outcome."""
    async with served(machine, server_host_keys=[OTHER_KEY]) as port:
        assert (await one_check(port, "exit 100\n", host_keys=Insecure())).exit_code == 100
        async with executor(port, host_keys=Insecure()).open(FACTS, runbook(), Action.CHECK) as session:
            assert session.login == Login("insecure", "static")


def line(*names: str, key: asyncssh.SSHKey = HOST_KEY, mark: str = "") -> str:
    """Give a line of a known_hosts file."""
    return f"{mark}{','.join(names)} {key.export_public_key().decode()}"


@pytest.mark.parametrize(
    "text",
    [
        line(REF.instance_id),
        line("127.0.0.1"),
        line("[127.0.0.1]:PORT"),
        "# comment\n\n" + line("127.0.0.1", key=OTHER_KEY) + line(REF.instance_id),
    ],
    ids=["instance id", "address", "address and port", "instance id before address"],
)
async def test_known_hosts_names_a_vm_by_id_or_address(machine: Shell, tmp_path: Path, text: str) -> None:
    """The instance id wins, since addresses are given to other VMs."""
    file = tmp_path / "known_hosts"
    async with served(machine) as port:
        file.write_text(text.replace("PORT", str(port)))
        evidence = await one_check(port, "exit 100\n", host_keys=KnownHostsFile(file, port=port))
    assert evidence.exit_code == 100


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "host_key_unknown"),
        ("", "host_key_unknown"),
        (line("10.9.9.9"), "host_key_unknown"),
        ("nonsense", "host_key_unknown"),
        (line(REF.instance_id, key=OTHER_KEY) + line("127.0.0.1"), "host_key_mismatch"),
        (line(REF.instance_id) + line("127.0.0.1", mark="@revoked "), "host_key_mismatch"),
    ],
    ids=["no file", "empty", "others only", "nonsense", "id says otherwise", "revoked"],
)
async def test_without_the_right_key_in_known_hosts_nothing_runs(
    machine: Shell, tmp_path: Path, text: str | None, reason: str
) -> None:
    """It fails closed, each time with the word for why."""
    file = tmp_path / "known_hosts"
    if text is not None:
        file.write_text(text)
    async with served(machine) as port:
        with pytest.raises(Permanent) as caught:
            await one_check(port, "exit 100\n", host_keys=KnownHostsFile(file, port=port))
    assert caught.value.reason == reason
    assert machine.commands == []


async def test_a_refused_login_is_not_permitted_and_names_the_roles(machine: Shell) -> None:
    """Another user's key, or no osLogin role; of a static key it says where to look instead."""
    async with served(machine) as port:
        with pytest.raises(Permanent, match=r"not_permitted.*osLogin"):
            await one_check(port, "exit 100\n", credentials=Key(private_key=OTHER_KEY, kind="imported_key"))
        with pytest.raises(Permanent, match=r"not_permitted.*LOGMEND_SSH_USER"):
            await one_check(port, "exit 100\n", credentials=Key(private_key=OTHER_KEY))


class Meeting:
    """Host keys and credentials that each give no answer before the other was asked as well."""

    def __init__(self, trust: Exception | None = None, credential: Exception | None = None) -> None:
        self._both = asyncio.Barrier(2)
        self._trust, self._credential = trust, credential

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        await self._both.wait()
        if self._trust is not None:
            raise self._trust
        return await Pinned().trusted(facts, see)

    async def credential(self, facts: InstanceFacts) -> Key:
        await self._both.wait()
        if self._credential is not None:
            raise self._credential
        return Key()

    async def instead(self, facts: InstanceFacts, refused: object) -> None:
        """There is no other key."""

    async def accepted(self, facts: InstanceFacts, credential: object) -> None:
        """Nothing is to be remembered."""


async def test_host_keys_and_credential_are_asked_for_side_by_side(machine: Shell) -> None:
    """An attempt waits for the slower of the two, not for one after the other."""
    both = Meeting()
    async with served(machine) as port:
        seen = await one_check(port, "exit 100\n", host_keys=both, credentials=both)
    assert seen.finding is Finding.DESIRED


@pytest.mark.parametrize("credential", [None, Transient("rate_limited", "later")])
async def test_a_vm_without_known_host_keys_is_shown_no_credential(
    machine: Shell, credential: Exception | None
) -> None:
    """That is what is said of it, whatever became of the credential; nobody dials it."""
    both = Meeting(Permanent("host_key_unknown", "none"), credential)
    async with served(machine) as port:
        with pytest.raises(Permanent, match="host_key_unknown"):
            await one_check(port, "exit 100\n", host_keys=both, credentials=both)
    assert machine.commands == []


async def test_a_vm_without_the_address_that_is_asked_for_has_no_route() -> None:
    """An internal address is never replaced by an external one."""
    nowhere = InstanceFacts(REF, "web-1", "RUNNING", external_ip="127.0.0.1")
    with pytest.raises(Permanent, match="no_route"):
        async with executor(1).open(nowhere, runbook(), Action.CHECK):
            pass


# Servers that let us in and then misbehave


async def hang(process: asyncssh.SSHServerProcess[bytes]) -> None:
    await process.wait_closed()


async def trickle_output(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"logmend=begin\n")
    try:
        while True:
            process.stdout.write(b".")
            await asyncio.sleep(0.02)
    except OSError:
        pass


@pytest.mark.parametrize("handler", [hang, trickle_output], ids=["hangs", "trickles"])
async def test_a_script_that_never_ends_meets_the_deadline(handler: Any) -> None:
    """However often it sends a byte."""
    begun = asyncio.Event()

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        begun.set()
        await handler(process)

    async with served(run) as port:
        check = asyncio.create_task(one_check(port, "exit 100\n", deadline=timedelta(seconds=200)))
        await begun.wait()
        await later(201)
        with pytest.raises(Transient) as caught:
            await check
    assert caught.value.reason == "deadline_exceeded"


async def drop(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"logmend=begin\na=1\n")
    await asyncio.sleep(0.05)
    process.get_extra_info("connection").abort()


async def say_no(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"logmend=begin\na=1\n")
    process.get_extra_info("connection").disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "no")


async def vanish(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"logmend=begin\na=1\n")
    process.channel.close()


async def killed(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"logmend=begin\na=1\n")
    process.exit_with_signal("KILL", msg="out of memory")


@pytest.mark.parametrize(
    "handler", [drop, say_no, vanish, killed], ids=["dropped", "says no", "no status", "killed"]
)
async def test_a_script_whose_end_is_not_known_is_a_lost_connection(handler: Any) -> None:
    """Whether it did its work is not known: transient, to be looked at again."""
    async with served(handler) as port:
        with pytest.raises(Transient) as caught:
            await one_check(port, "exit 100\n")
    assert caught.value.reason == "connection_lost"


async def test_a_connection_that_ended_between_two_scripts_is_transient() -> None:
    """A server that shuts down between two scripts."""
    async with served(hang) as port, executor(port).open(FACTS, runbook(), Action.CHECK) as session:
        session._connection.close()
        await session._connection.wait_closed()
        with pytest.raises(Transient):
            await session.check()


async def test_a_peer_that_dies_without_a_word_is_noticed_by_keepalive() -> None:
    """No FIN, no RST: three questions without an answer are one."""
    thaw = asyncio.Event()

    async def freeze(process: asyncssh.SSHServerProcess[bytes]) -> None:
        transport = process.get_extra_info("connection")._transport
        transport.pause_reading()
        await thaw.wait()
        transport.abort()

    async with served(freeze) as port:
        with pytest.raises(Transient) as caught:
            await asyncio.wait_for(one_check(port, "exit 100\n", keepalive=0.1), 100)
        thaw.set()
        await asyncio.sleep(0.05)
    assert caught.value.reason == "connection_lost"


# Nothing is left behind


def descriptors() -> int:
    """Count this process's open files."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def settled() -> int:
    """Count the tasks once those that end by themselves have ended."""
    for _ in range(3000):
        if len(asyncio.all_tasks()) <= 1:
            break
        await asyncio.sleep(0.02)
    return len(asyncio.all_tasks())


async def test_two_hundred_attempts_at_once_leave_no_file_and_no_task_behind() -> None:
    """Good, failing, hanging and cancelled ones, all in one process."""
    hanging, all_hang = 0, asyncio.Event()

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        nonlocal hanging
        script = await process.stdin.read()
        if b"hang" in script:
            hanging += 1
            if hanging == len(tasks[1::4]):
                all_hang.set()
            await process.wait_closed()
        process.stdout.write(b"logmend=begin\na=1\n")
        process.exit(101)

    async def attempt(port: int, number: int) -> str:
        script = "# hang\n" if number % 4 == 1 else "exit 101\n"
        keys = Pinned((OTHER_KEY,)) if number % 4 == 2 else Pinned()
        try:
            evidence = await one_check(
                port,
                script,
                host_keys=keys,
                connect_timeout=240,  # at most half of the deadline
                deadline=timedelta(seconds=500 if number % 4 == 1 else 1000),
            )
        except (Transient, Permanent) as error:
            return error.reason
        return str(evidence.exit_code)

    tasks: list[asyncio.Task[str]] = []
    async with served(serve, login_timeout=240, backlog=300) as port:
        await attempt(port, 0)  # what is loaded once is loaded before counting
        await settled()
        gc.collect()
        before = descriptors()
        tasks = [asyncio.create_task(attempt(port, number)) for number in range(200)]
        for task in tasks[3::4]:
            asyncio.get_running_loop().call_later(0.5, task.cancel)
        await asyncio.wait([task for number, task in enumerate(tasks) if number % 4 != 1])
        await all_hang.wait()
        await later(501)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        left = await settled()
        gc.collect()
        assert descriptors() <= before + 2
    assert {str(each) for each in results[0::4]} == {"101"}
    assert {str(each) for each in results[1::4]} == {"deadline_exceeded"}
    assert {str(each) for each in results[2::4]} == {"host_key_mismatch"}
    assert left <= 1


@pytest.mark.parametrize("after", [0.0, 0.02, 0.1, 0.4])
async def test_cancelling_at_any_moment_closes_everything(after: float) -> None:
    """A function that is shut down does not leave connections behind."""
    async with served(hang) as port:
        await settled()
        before = descriptors()
        task = asyncio.create_task(one_check(port, "exit 100\n"))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled()
        for _ in range(3000):
            if descriptors() <= before:
                break
            await asyncio.sleep(0.02)
        assert descriptors() <= before


async def test_nothing_of_the_hosts_ssh_set_up_is_read(
    machine: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile home directory, agent and environment make no difference."""
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "config").write_text("Host *\n  ProxyCommand false\n  Port 1\n  User nobody\n  SendEnv *\n")
    (home / "known_hosts").write_text(line("127.0.0.1", key=OTHER_KEY))
    (home / "ca-bundle.crt").write_text("garbage")
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no-agent"))
    async with served(machine) as port:
        assert (await one_check(port, "exit 100\n")).exit_code == 100
