"""The IAP tunnel against a relay on loopback with a real SSH server behind it."""

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest
from tests.conftest import lacking
from tests.contract import relay as relays

from logmend.adapters.ssh import errors
from logmend.adapters.ssh.iap import IapTarget, IapTunnel
from logmend.adapters.ssh.iap.transport import HIGH_WATER
from logmend.errors import Permanent, Transient

TARGET = IapTarget("my-project", "us-west1-a", "my-vm")
MEGABYTES = 3 * 1024 * 1024
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
USER_KEY = asyncssh.generate_private_key("ssh-ed25519")


async def token() -> str:
    """Stand for google-auth."""
    return "ya29.secret"


async def on_command(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """`give N` prints N bytes, `take` counts what it is sent, `hang` prints a line and waits."""
    match (process.command or "").split():
        case ["give", count]:
            process.stdout.write(b"x" * int(count))
        case ["take"]:
            process.stdout.write(str(len(await process.stdin.read())).encode())
        case ["hang"]:
            process.stdout.write(b"started\n")
            await asyncio.sleep(3600)
    process.exit(0)


@pytest.fixture
async def sshd() -> AsyncIterator[tuple[str, int]]:
    """Address of an SSH server that knows one user key."""
    trusted = asyncssh.import_authorized_keys(USER_KEY.export_public_key().decode())
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[HOST_KEY],
        authorized_client_keys=trusted,
        process_factory=on_command,
        encoding=None,
    )
    yield "127.0.0.1", server.get_port()
    server.close()
    await server.wait_closed()


def connect(
    tunnel: IapTunnel, host_key: asyncssh.SSHKey = HOST_KEY
) -> "asyncssh.misc._ACMWrapper[asyncssh.SSHClientConnection]":
    """Connect as the executor does: pinned host key, nothing of the machine's own configuration."""
    return asyncssh.connect(
        TARGET.instance,
        tunnel=tunnel,
        username="sa_1",
        known_hosts=([host_key.convert_to_public()], [], []),
        client_keys=[USER_KEY],
        config=None,
        agent_path=None,
    )


async def failure(tunnel: IapTunnel) -> Transient | Permanent:
    """Give the error that a connection attempt ends with, as the executor would see it."""
    async with asyncio.timeout(200), tunnel:
        try:
            async with connect(tunnel):
                pytest.fail("connected where it must not")
        except Exception as exc:  # noqa: BLE001  # whatever comes is to be classified
            return errors.classify(exc)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_megabytes_cross_the_tunnel_each_way(
    sshd: tuple[str, int], tmp_path: Path, *, secure: bool
) -> None:
    """What SSH sends arrives whole, both ways, over a relay that stalls without acknowledgements."""
    server_tls, client_tls = relays.self_signed(tmp_path) if secure else (None, None)
    async with asyncio.timeout(200), relays.running({"my-vm": sshd}, tls=server_tls) as relay:
        async with IapTunnel(TARGET, token, url=relay.url, ssl=client_tls) as tunnel, connect(tunnel) as ssh:
            given = await ssh.run(f"give {MEGABYTES}", encoding=None)
            taken = await ssh.run("take", input=b"y" * MEGABYTES, encoding=None)
        await relay.idle()
    assert given.stdout == b"x" * MEGABYTES
    assert taken.stdout == str(MEGABYTES).encode()
    assert relay.faults == []
    assert relay.acks >= MEGABYTES // (4 * relays.MAX_DATA)


async def test_the_request_is_what_the_relay_expects(sshd: tuple[str, int]) -> None:
    """Target, token and origin travel as Google's client sends them."""
    async with relays.running({"my-vm": sshd}) as relay:
        async with IapTunnel(TARGET, token, url=relay.url) as tunnel, connect(tunnel):
            pass
        await relay.idle()
    assert relay.faults == []
    assert relay.requests[0].path == (
        "/v4/connect?project=my-project&zone=us-west1-a&instance=my-vm&interface=nic0&port=22&newWebsocket=True"
    )
    assert relay.requests[0].headers["Authorization"] == "Bearer ya29.secret"


async def test_a_wrong_host_key_is_refused(sshd: tuple[str, int]) -> None:
    """The tunnel does not weaken the pinning: a VM with another key gets nothing from us."""
    async with relays.running({"my-vm": sshd}) as relay, IapTunnel(TARGET, token, url=relay.url) as tunnel:
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            async with connect(tunnel, asyncssh.generate_private_key("ssh-ed25519")):
                pass


@pytest.mark.parametrize("behaviour", [relays.splits_frames, relays.never_acknowledges])
async def test_odd_but_allowed_relays_work(sshd: tuple[str, int], behaviour: relays.Behaviour) -> None:
    """Fragmented messages and missing acknowledgements do no harm."""
    async with asyncio.timeout(200), relays.running({"my-vm": sshd}, behaviour) as relay:
        async with IapTunnel(TARGET, token, url=relay.url) as tunnel, connect(tunnel) as ssh:
            given = await ssh.run("give 500000", encoding=None)
            taken = await ssh.run("take", input=b"y" * 500_000, encoding=None)
        await relay.idle()
    assert (given.stdout, taken.stdout) == (b"x" * 500_000, b"500000")
    assert relay.faults == []


CODES = [
    # code, kind, reason before the VM was reached, reason after
    (1000, Transient, "unreachable", "connection_lost"),
    (1001, Transient, "unreachable", "connection_lost"),
    (1002, Transient, "iap_protocol_error", "iap_protocol_error"),
    (1003, Transient, "iap_protocol_error", "iap_protocol_error"),
    (1008, Transient, "iap_protocol_error", "iap_protocol_error"),
    (1009, Transient, "iap_protocol_error", "iap_protocol_error"),
    (1011, Transient, "iap_unavailable", "iap_unavailable"),
    (1012, Transient, "iap_unavailable", "iap_unavailable"),
    (1013, Transient, "iap_unavailable", "iap_unavailable"),
    (4000, Transient, "iap_unavailable", "iap_unavailable"),
    (4001, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4002, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4003, Transient, "unreachable", "unreachable"),
    (4004, Transient, "iap_reauthenticate", "iap_reauthenticate"),
    (4005, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4006, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4007, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4008, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4009, Transient, "connection_lost", "connection_lost"),
    (4010, Transient, "connection_lost", "connection_lost"),
    (4013, Transient, "iap_protocol_error", "iap_protocol_error"),
    (4033, Permanent, "iap_not_authorized", "iap_not_authorized"),
    (4047, Permanent, "iap_instance_lookup_failed", "iap_instance_lookup_failed"),
    (4051, Permanent, "iap_instance_lookup_failed", "iap_instance_lookup_failed"),
    (4999, Transient, "iap_unknown_close", "iap_unknown_close"),
]


@pytest.mark.parametrize(("code", "kind", "before", "after"), CODES, ids=[str(row[0]) for row in CODES])
@pytest.mark.parametrize("how", [relays.closes, relays.long_closes], ids=["close", "long-close"])
async def test_each_close_code_has_its_reason(
    sshd: tuple[str, int],
    how: Callable[..., relays.Behaviour],
    code: int,
    kind: type,
    before: str,
    after: str,
) -> None:
    """Whether the relay refuses at once or gives up on the way, the reason is the documented one."""
    async with relays.running({"my-vm": sshd}, how(code, "because")) as relay:
        early = await failure(IapTunnel(TARGET, token, url=relay.url))
        relay.behaviour = how(code, "because", after=30)
        late = await failure(IapTunnel(TARGET, token, url=relay.url))
    assert (type(early), early.reason) == (kind, before)
    assert (type(late), late.reason) == (kind, after)
    assert "because" in early.detail
    assert "because" in late.detail


async def test_missing_access_names_the_role(sshd: tuple[str, int]) -> None:
    """The operator reads which role to grant."""
    async with relays.running({"my-vm": sshd}, relays.closes(4033, "not authorized")) as relay:
        error = await failure(IapTunnel(TARGET, token, url=relay.url))
    assert "roles/iap.tunnelResourceAccessor" in error.detail


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, Permanent, "iap_request_refused"),
        (401, Transient, "iap_reauthenticate"),
        (403, Permanent, "iap_not_authorized"),
        (404, Permanent, "iap_instance_lookup_failed"),
        (429, Transient, "rate_limited"),
        (500, Transient, "iap_unavailable"),
        (503, Transient, "iap_unavailable"),
        (302, Transient, "iap_protocol_error"),
    ],
)
async def test_each_refusal_of_the_handshake_has_its_reason(status: int, kind: type, reason: str) -> None:
    """An HTTP answer instead of a WebSocket is told apart by its status; a redirect is not followed."""
    async with relays.running(status=status, headers={"Retry-After": "7", "Location": "/v5"}) as relay:
        error = await failure(IapTunnel(TARGET, token, url=relay.url))
    assert (type(error), error.reason) == (kind, reason)
    assert getattr(error, "retry_after", 7) == 7
    assert len(relay.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (relays.drops_before_sid, "unreachable"),
        (relays.drops_after(30), "connection_lost"),
        (relays.silent_before_sid, "unreachable"),
        (relays.says(relays.data_frame(b"x")), "iap_protocol_error"),
        (relays.says(relays.ack_frame(0)), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), relays.sid_frame()), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), relays.ack_frame(10**9)), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), relays.data_frame(b"x" * 16_385)), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), relays.data_frame(b"x" * 200_000)), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), relays.data_frame(b"xyz")[:-1]), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), b"\x00"), "iap_protocol_error"),
        (relays.says("hello"), "iap_protocol_error"),
        (relays.says(b"\x00\x02" + bytes(8)), "iap_protocol_error"),
        (relays.says(relays.sid_frame(), relays.data_frame(b"HTTP/1.1\r\n" * 1_400)), "ssh_protocol_error"),
    ],
    ids=[
        "drop", "late-drop", "silence", "early-data", "early-ack", "two-sids", "ack-of-what-was-not-sent",
        "oversized", "huge", "truncated", "no-tag", "text", "reconnect", "not-ssh",
    ],
)  # fmt: skip
async def test_a_relay_that_misbehaves_is_told_apart(
    sshd: tuple[str, int], behaviour: relays.Behaviour, reason: str
) -> None:
    """Every way to break the protocol ends the attempt with its reason, and soon."""
    patience = 1 if reason == "unreachable" else 30
    async with relays.running({"my-vm": sshd}, behaviour) as relay:
        error = await failure(IapTunnel(TARGET, token, url=relay.url, connect_timeout=patience))
    assert (type(error), error.reason) == (Transient, reason)


async def test_a_huge_message_is_refused_before_it_is_held() -> None:
    """Four frames' worth is all that is ever buffered of one message: the library stops reading there."""
    huge = relays.says(relays.sid_frame(), relays.data_frame(b"x" * 70_000))
    async with relays.running(behaviour=huge) as relay:
        error = await failure(IapTunnel(TARGET, token, url=relay.url))
    assert "1009" in error.detail


async def test_no_proxy_is_taken_from_the_environment(
    sshd: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the container's cannot send token and traffic elsewhere."""
    for name in ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    async with (
        relays.running({"my-vm": sshd}) as relay,
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        connect(tunnel) as ssh,
    ):
        assert (await ssh.run("give 3")).stdout == "xxx"


async def test_unknown_tags_are_ignored() -> None:
    """The relay may learn new frames without breaking us."""
    messages = (b"\x00\x42future", relays.sid_frame(), b"\x00\x06", relays.data_frame(b"hello"))
    async with (
        relays.running(behaviour=relays.says(*messages)) as relay,
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        asyncio.timeout(200),
    ):
        reader = asyncio.StreamReader()
        await tunnel.create_connection(lambda: asyncio.StreamReaderProtocol(reader))
        assert await reader.readexactly(5) == b"hello"


async def test_a_relay_without_the_subprotocol_is_refused() -> None:
    """A web server that upgrades anything is not the relay."""
    async with relays.running(subprotocol=False) as relay:
        error = await failure(IapTunnel(TARGET, token, url=relay.url))
    assert (type(error), error.reason) == (Transient, "iap_protocol_error")


async def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    """Without the right CA nothing is said, the token least of all."""
    server_tls, _ = relays.self_signed(tmp_path)
    async with relays.running(tls=server_tls) as relay:
        for context in (None, ssl.create_default_context()):
            error = await failure(IapTunnel(TARGET, token, url=relay.url, ssl=context))
            assert (type(error), error.reason) == (Transient, "unreachable")
            assert "certificate" in error.detail
    assert relay.requests == []


async def test_nothing_listening_and_no_such_name_are_unreachable() -> None:
    """A relay that is not there is told like a VM that is not there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = await failure(IapTunnel(TARGET, token, url=f"ws://localhost:{probe.getsockname()[1]}/v4"))
    nowhere = await failure(IapTunnel(TARGET, token, url="wss://relay.invalid/v4", connect_timeout=5))
    assert (type(closed), closed.reason) == (Transient, "unreachable")
    assert (type(nowhere), nowhere.reason) == (Transient, "unreachable")


async def test_a_port_that_accepts_and_says_nothing_ends_in_time() -> None:
    """A half-open peer below HTTP cannot hold the attempt either."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        error = await failure(
            IapTunnel(TARGET, token, url=f"ws://localhost:{mute.getsockname()[1]}/v4", connect_timeout=0.3)
        )
    assert (type(error), error.reason) == (Transient, "unreachable")


async def failing_token() -> str:
    raise ConnectionError("metadata server away")


async def refused_token() -> str:
    raise Permanent("no_credentials", "nobody is logged in")


async def empty_token() -> str:
    return ""


async def split_token() -> str:
    return "a\r\nX-Evil: 1"


async def slow_token() -> str:
    await asyncio.sleep(3600)
    return "late"


@pytest.mark.parametrize(
    ("source", "kind", "reason"),
    [
        (failing_token, Transient, "api_unreachable"),
        (refused_token, Permanent, "no_credentials"),
        (empty_token, Permanent, "credentials_unusable"),
        (split_token, Permanent, "credentials_unusable"),
        (slow_token, Transient, "credentials_unavailable"),
    ],
)
async def test_trouble_with_the_token_is_not_blamed_on_the_vm(
    source: Callable[[], Awaitable[str]], kind: type, reason: str
) -> None:
    """No token, no connection, and the reason says so."""
    async with relays.running() as relay:
        error = await failure(IapTunnel(TARGET, source, url=relay.url, connect_timeout=0.5))
    assert (type(error), error.reason) == (kind, reason)
    assert relay.requests == []


@pytest.mark.parametrize(
    "url", ["ws://tunnel.example/v4", "https://tunnel.example/v4", "wss:///v4", "nonsense"]
)
def test_a_url_that_would_leak_the_token_or_lead_nowhere_is_refused(url: str) -> None:
    """Plain ws:// is for loopback only."""
    with pytest.raises(ValueError, match=r"ws://"):
        IapTunnel(TARGET, token, url=url)


async def test_the_token_is_never_logged(sshd: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    """Not even with every logger at DEBUG."""
    with caplog.at_level(logging.DEBUG):
        async with relays.running({"my-vm": sshd}) as relay:
            logging.getLogger("websockets.server").setLevel(logging.INFO)  # the relay's own side
            async with IapTunnel(TARGET, token, url=relay.url) as tunnel, connect(tunnel):
                pass
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "behaviour", [relays.silent_after_sid, relays.deaf_after_sid, relays.forwards_byte_by_byte]
)
async def test_a_silent_deaf_or_trickling_peer_cannot_outlast_the_deadline(
    sshd: tuple[str, int], behaviour: relays.Behaviour
) -> None:
    """The caller's deadline ends the attempt whatever the peer does, and nothing stays behind."""
    before = asyncio.all_tasks()
    async with relays.running({"my-vm": sshd}, behaviour) as relay:
        async with asyncio.timeout(200):
            async with IapTunnel(TARGET, token, url=relay.url, close_timeout=0.3) as tunnel:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3), connect(tunnel):
                        pass
        assert {
            t.get_name() for t in asyncio.all_tasks() - before if t.get_name().startswith("iap-")
        } == set()


async def test_closing_ends_even_if_the_peer_reads_nothing() -> None:
    """Megabytes that nobody takes do not keep the transport alive."""
    async with relays.running(behaviour=relays.deaf_after_sid) as relay, asyncio.timeout(200):
        async with IapTunnel(TARGET, token, url=relay.url, close_timeout=0.3) as tunnel:
            transport, _ = await tunnel.create_connection(asyncio.Protocol)
            transport.write(b"z" * 20_000_000)
            await asyncio.sleep(0.05)
            transport.close()
        assert transport.is_closing()


class Recorder(asyncio.Protocol):
    """Remembers what the transport called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.resumed = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")
        self.resumed.set()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(exc)


async def test_writing_is_paused_above_high_water_and_resumed_below() -> None:
    """A protocol that heeds pause_writing never buffers more than it was told to."""
    async with relays.running(behaviour=relays.silent_after_sid) as relay, asyncio.timeout(200):
        async with IapTunnel(TARGET, token, url=relay.url) as tunnel:
            transport, protocol = await tunnel.create_connection(Recorder)
            transport.write(b"z" * HIGH_WATER)
            assert protocol.calls == []
            transport.write(b"z")
            assert protocol.calls == ["pause"]
            await protocol.resumed.wait()
        assert protocol.calls == ["pause", "resume", "lost"]
        assert await protocol.lost is None


async def test_a_paused_reader_holds_the_relay_back(sshd: tuple[str, int]) -> None:
    """While the protocol reads nothing, the relay can send only what small buffers take; then all comes."""
    total = 30_000_000

    async def floods(peer: relays.Peer) -> None:
        await peer.send(relays.sid_frame())
        for _ in range(total // 10_000):
            await peer.send(relays.data_frame(b"f" * 10_000))
            relay.to_client += 10_000
        await peer.until_gone()

    async with (
        relays.running(behaviour=floods) as relay,
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        asyncio.timeout(200),
    ):
        transport, protocol = await tunnel.create_connection(Recorder)
        transport.pause_reading()
        held = -1
        while held != relay.to_client:  # until the relay makes no more progress
            held = relay.to_client
            await asyncio.sleep(0.3)
        assert held < total
        assert len(protocol.data) < 1_000_000
        transport.resume_reading()
        while len(protocol.data) < total:  # noqa: ASYNC110  # polled in a test
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_what_was_written_before_closing_arrives(how: str) -> None:
    """Closing flushes, and so does aborting: the farewell of an SSH client gets through."""
    async with relays.running(behaviour=relays.takes_everything) as relay, asyncio.timeout(200):
        async with IapTunnel(TARGET, token, url=relay.url) as tunnel:
            transport, _ = await tunnel.create_connection(asyncio.Protocol)
            transport.write(b"z" * 1_000_000)
            getattr(transport, how)()
            transport.write(b"too late")
        await relay.idle()
    assert relay.from_client == 1_000_000
    assert relay.faults == []


async def test_nothing_is_delivered_after_closing() -> None:
    """A protocol that closed hears nothing more but that it is over."""

    class Closer(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

    several = relays.says(relays.sid_frame(), relays.data_frame(b"first"), relays.data_frame(b"second"))
    async with (
        relays.running(behaviour=several) as relay,
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        asyncio.timeout(200),
    ):
        _, protocol = await tunnel.create_connection(Closer)
        assert await protocol.lost is None
    assert bytes(protocol.data) == b"first"


async def test_what_came_before_the_end_is_delivered_even_if_sending_failed_first() -> None:
    """A failing write does not hide the data, or the close code, that are still to be read."""

    async def answers_and_ends(peer: relays.Peer) -> None:
        await peer.send(relays.sid_frame())
        await peer.send(relays.data_frame(b"last words"))
        await peer.close(4010, "rebooted")

    async with (
        relays.running(behaviour=answers_and_ends) as relay,
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        asyncio.timeout(200),
    ):
        transport, protocol = await tunnel.create_connection(Recorder)
        transport.pause_reading()
        for _ in range(20):
            transport.write(b"z")
            await asyncio.sleep(0.01)
        assert not protocol.lost.done()
        transport.resume_reading()
        error = await protocol.lost
    assert bytes(protocol.data) == b"last words"
    assert isinstance(error, Transient)
    assert "rebooted" in error.detail


async def test_the_protocol_learns_once_why_the_connection_was_lost(sshd: tuple[str, int]) -> None:
    """connection_lost carries the very error that a caller can act on."""
    async with (
        relays.running(
            behaviour=relays.says(relays.sid_frame(), relays.long_close_frame(4010, "gone"))
        ) as relay,
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        asyncio.timeout(200),
    ):
        _, protocol = await tunnel.create_connection(Recorder)
        error = await protocol.lost
    assert isinstance(error, Transient)
    assert error.reason == "connection_lost"
    assert protocol.calls == ["lost"]


async def test_a_command_that_loses_its_tunnel_does_not_look_finished(sshd: tuple[str, int]) -> None:
    """No exit status, and the connection itself says why."""
    async with (
        relays.running({"my-vm": sshd}) as relay,
        asyncio.timeout(200),
        IapTunnel(TARGET, token, url=relay.url) as tunnel,
        connect(tunnel) as ssh,
    ):
        process = await ssh.create_process("hang", encoding=None)
        assert await process.stdout.readline() == b"started\n"
        for websocket in list(relay.peers):
            await websocket.close(4010, "the VM rebooted")
        with pytest.raises(Transient) as caught:
            await process.stdout.read()
        assert caught.value.reason == "connection_lost"
        done = await process.wait()
        assert done.exit_status is None
        assert done.returncode is None
        assert tunnel.error is caught.value
        with pytest.raises(asyncssh.ChannelOpenError) as later:
            await ssh.run("hang")
        assert errors.classify(later.value).reason == "connection_lost"


async def test_many_tunnels_leave_no_task_and_no_file_behind(sshd: tuple[str, int]) -> None:
    """Good ones, refused ones, cut ones and cancelled ones: all gone afterwards."""
    handles_of_process = Path("/proc/self/fd")
    if not handles_of_process.exists():  # noqa: ASYNC240  # a test may look
        lacking("/proc/self/fd")

    def files() -> int:
        return sum(1 for _ in handles_of_process.iterdir())

    async def one(number: int, url: str) -> None:
        with contextlib.suppress(Exception):
            async with (
                IapTunnel(TARGET, token, url=url, connect_timeout=1, close_timeout=0.3) as tunnel,
                asyncio.timeout(5 if number % 7 else 0.02),
                connect(tunnel) as ssh,
            ):
                await ssh.run("give 50000", encoding=None)

    kinds = [
        relays.honest,
        relays.closes(4003),
        relays.drops_after(100),
        relays.silent_before_sid,
        relays.long_closes(4010, after=40),
    ]
    async with relays.running({"my-vm": sshd}) as relay:
        await one(1, relay.url)
        await relay.idle()
        gc.collect()
        tasks, handles = len(asyncio.all_tasks()), files()
        for round_ in range(4):
            for behaviour in kinds:
                relay.behaviour = behaviour
                await asyncio.gather(*(one(number + round_, relay.url) for number in range(10)))
        await relay.idle()
        async with asyncio.timeout(200):
            while len(asyncio.all_tasks()) > tasks or files() > handles:
                gc.collect()
                await asyncio.sleep(0.05)
    assert len(relay.requests) > 100
