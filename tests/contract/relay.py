"""A relay that speaks IAP TCP forwarding v4 for tests, strictly, and can be made to misbehave.

It is our own reading of the protocol: ``test_iap_oracle.py`` checks it with the real ``gcloud compute
start-iap-tunnel``. It packs and unpacks frames by itself, so that a mistake in the client's codec cannot
hide in a codec that both share. What the *client* does wrong is collected in ``Relay.faults``.

A behaviour is a coroutine function that is given each accepted connection; ``honest`` is the default.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("relay.tunnel.cloudproxy.app")
SID, RECONNECTED, DATA, ACK, LONG_CLOSE = 0x0001, 0x0002, 0x0004, 0x0007, 0x000A
MAX_DATA = 16_384
WINDOW = 3 * MAX_DATA
"""The relay stops sending at this many unacknowledged bytes: a client that never acknowledges stalls."""


def sid_frame(sid: bytes = b"session-1") -> bytes:
    return struct.pack(">HI", SID, len(sid)) + sid


def data_frame(payload: bytes) -> bytes:
    return struct.pack(">HI", DATA, len(payload)) + payload


def ack_frame(total: int) -> bytes:
    return struct.pack(">HQ", ACK, total)


def long_close_frame(code: int, reason: str) -> bytes:
    return struct.pack(">HII", LONG_CLOSE, code, len(reason.encode())) + reason.encode()


@dataclass
class Relay:
    """One running relay. ``backends`` maps a VM's name to the address behind it."""

    backends: Mapping[str, tuple[str, int]]
    behaviour: "Behaviour"
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    peers: list[ServerConnection] = field(default_factory=list)
    acks: int = 0
    to_client: int = 0
    from_client: int = 0

    async def idle(self) -> None:
        """Wait until every connection has ended on this side too."""
        async with asyncio.timeout(200):
            while self.peers:  # noqa: ASYNC110  # polled in a test
                await asyncio.sleep(0.01)


class Peer:
    """One accepted connection, for a behaviour to treat as it likes."""

    def __init__(self, relay: Relay, websocket: ServerConnection) -> None:
        self.relay = relay
        self.websocket = websocket
        assert websocket.request is not None
        self.query = {k: v[0] for k, v in parse_qs(urlsplit(websocket.request.path).query).items()}
        self.sent = self.acked = self.received = 0
        self.may_send = asyncio.Event()

    def fault(self, what: str) -> None:
        self.relay.faults.append(what)

    async def send(self, message: bytes | str) -> None:
        await self.websocket.send(message)

    async def close(self, code: int, reason: str = "") -> None:
        await self.websocket.close(code, reason)

    def drop(self) -> None:
        """Cut the TCP connection without a word."""
        self.websocket.transport.abort()

    async def backend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Reach the VM's port, or close as the real relay does."""
        address = self.relay.backends.get(self.query.get("instance", ""))
        if address is None:
            await self.close(4047, "Lookup failed")
            return None
        try:
            return await asyncio.open_connection(*address)
        except OSError:
            await self.close(4003, "failed to connect to backend")
            return None

    async def until_gone(self) -> None:
        """Read and drop what the client sends, until it goes."""
        with contextlib.suppress(ConnectionClosed):
            async for _ in self.websocket:
                pass

    async def forward(
        self,
        *,
        split: bool = False,
        acknowledge: bool = True,
        chunk: int = MAX_DATA,
        stop_after: int | None = None,
        pause: float = 0.0,
    ) -> None:
        """Carry bytes both ways until either side ends. ``stop_after`` bytes to the client it returns."""
        if (pair := await self.backend()) is None:
            return
        reader, writer = pair
        try:
            await self.send(sid_frame())
            up = asyncio.create_task(self._up(writer, acknowledge=acknowledge))
            down = asyncio.create_task(
                self._down(reader, split=split, chunk=chunk, stop_after=stop_after, pause=pause)
            )
            done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            if down in done and stop_after is None:
                await self.close(4010, "the backend closed")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _up(self, writer: asyncio.StreamWriter, *, acknowledge: bool) -> None:
        told = 0
        async for message in self.websocket:
            self.take(message)
            if not isinstance(message, bytes) or struct.unpack(">H", message[:2])[0] != DATA:
                continue
            writer.write(message[6:])
            await writer.drain()
            if acknowledge and self.received - told > MAX_DATA:
                told = self.received
                await self.send(ack_frame(told))

    async def _down(
        self, reader: asyncio.StreamReader, *, split: bool, chunk: int, stop_after: int | None, pause: float
    ) -> None:
        while payload := await reader.read(chunk):
            while self.sent + len(payload) - self.acked > WINDOW + MAX_DATA:
                self.may_send.clear()
                await self.may_send.wait()
            frame = data_frame(payload)
            if split:  # one message in several WebSocket frames, cut within the header too
                await self.websocket.send([frame[:1], frame[1:4], frame[4:9], frame[9:]])
            else:
                await self.send(frame)
            self.sent += len(payload)
            self.relay.to_client += len(payload)
            if stop_after is not None and self.sent >= stop_after:
                return
            if pause:
                await asyncio.sleep(pause)

    def take(self, message: bytes | str) -> None:
        """Check one message of the client's."""
        if isinstance(message, str):
            self.fault("a text message")
            return
        (tag,) = struct.unpack(">H", message[:2])
        if tag == DATA:
            (length,) = struct.unpack(">I", message[2:6])
            if length != len(message) - 6 or not 0 < length <= MAX_DATA:
                self.fault(f"DATA announces {length} bytes and has {len(message) - 6}")
            self.received += length
            self.relay.from_client += length
        elif tag == ACK:
            (total,) = struct.unpack(">Q", message[2:])
            if not self.acked < total <= self.sent:
                self.fault(f"ACK of {total} after {self.acked}, {self.sent} were sent")
            self.acked = total
            self.relay.acks += 1
            self.may_send.set()
        else:
            self.fault(f"tag {tag:#06x}")


Behaviour = Callable[[Peer], Awaitable[None]]


async def honest(peer: Peer) -> None:
    """Keep to the protocol."""
    await peer.forward()


async def splits_frames(peer: Peer) -> None:
    """Keep to the protocol, every message cut into several WebSocket frames."""
    await peer.forward(split=True)


async def never_acknowledges(peer: Peer) -> None:
    """Forward everything, acknowledge nothing."""
    await peer.forward(acknowledge=False)


async def forwards_byte_by_byte(peer: Peer) -> None:
    """Forward one byte a frame, slowly: alive, and of no use."""
    await peer.forward(chunk=1, pause=0.05)


async def silent_before_sid(peer: Peer) -> None:
    """Accept and say nothing, like a firewall that drops."""
    await peer.until_gone()


async def silent_after_sid(peer: Peer) -> None:
    """Say that the VM was reached, and nothing more."""
    await peer.send(sid_frame())
    await peer.until_gone()


async def deaf_after_sid(peer: Peer) -> None:
    """Say that the VM was reached and stop reading: no answer to anything, not even to a close."""
    await peer.send(sid_frame())
    peer.websocket.transport.pause_reading()
    await peer.websocket.wait_closed()


async def takes_everything(peer: Peer) -> None:
    """Say that the VM was reached, and take what comes, checking it."""
    await peer.send(sid_frame())
    async for message in peer.websocket:
        peer.take(message)


async def drops_before_sid(peer: Peer) -> None:
    """Cut the connection after the handshake."""
    peer.drop()


def drops_after(count: int) -> Behaviour:
    """Forward that many bytes to the client, then cut the connection."""

    async def behaviour(peer: Peer) -> None:
        await peer.forward(stop_after=count)
        peer.drop()

    return behaviour


def closes(code: int, reason: str = "", *, after: int | None = None) -> Behaviour:
    """Close with a code: at once, or after so many bytes to the client."""

    async def behaviour(peer: Peer) -> None:
        if after is not None:
            await peer.forward(stop_after=after)
        await peer.close(code, reason)

    return behaviour


def long_closes(code: int, reason: str = "", *, after: int | None = None) -> Behaviour:
    """Send a LONG_CLOSE frame: at once, or after so many bytes to the client."""

    async def behaviour(peer: Peer) -> None:
        if after is not None:
            await peer.forward(stop_after=after)
        await peer.send(long_close_frame(code, reason))
        await peer.until_gone()

    return behaviour


def says(*messages: bytes | str) -> Behaviour:
    """Send exactly these messages and wait."""

    async def behaviour(peer: Peer) -> None:
        for message in messages:
            await peer.send(message)
        await peer.until_gone()

    return behaviour


@contextlib.asynccontextmanager
async def running(
    backends: Mapping[str, tuple[str, int]] | None = None,
    behaviour: Behaviour = honest,
    *,
    tls: ssl.SSLContext | None = None,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    subprotocol: bool = True,
) -> AsyncIterator[Relay]:
    """Run a relay on loopback. ``status``: answer every handshake with it instead of upgrading."""
    relay = Relay(backends or {}, behaviour)

    def check(connection: ServerConnection, request: Request) -> Response | None:
        relay.requests.append(request)
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        wanted = {"project", "zone", "instance", "interface", "port", "newWebsocket"}
        if parts.path != "/v4/connect" or set(query) != wanted or query["newWebsocket"] != ["True"]:
            relay.faults.append(f"request for {request.path}")
        if request.headers.get("Origin") != "bot:iap-tunneler":
            relay.faults.append(f"origin {request.headers.get('Origin')}")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            relay.faults.append("no bearer token")
        if "Sec-WebSocket-Extensions" in request.headers:
            relay.faults.append("an extension, such as compression, is offered")
        if SUBPROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
            relay.faults.append("no subprotocol")
        if status is not None:
            answer = Headers({"Content-Length": "8", "Connection": "close", **(headers or {})})
            return Response(status, HTTPStatus(status).phrase, answer, b"no entry")
        return None

    async def accept(websocket: ServerConnection) -> None:
        relay.peers.append(websocket)
        try:
            with contextlib.suppress(ConnectionClosed):
                await relay.behaviour(Peer(relay, websocket))
        finally:
            relay.peers.remove(websocket)

    async with serve(
        accept,
        "127.0.0.1",
        0,
        ssl=tls,
        subprotocols=[SUBPROTOCOL] if subprotocol else None,
        select_subprotocol=None if subprotocol else lambda _connection, _offered: None,
        process_request=check,
        compression=None,
        ping_interval=None,
        close_timeout=1,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        relay.url = f"{'wss' if tls else 'ws'}://localhost:{port}/v4"
        yield relay


def self_signed(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a server's context with a fresh certificate for localhost, and a client's that trusts only it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    loopback = ipaddress.ip_address("127.0.0.1")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(loopback)]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "relay.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
