"""Connect to the relay and hand out transports."""

import asyncio
import functools
import logging
import re
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from logmend.adapters.google import errors
from logmend.adapters.ssh.iap import closing
from logmend.adapters.ssh.iap.frames import MAX_MESSAGE
from logmend.adapters.ssh.iap.session import RelaySession
from logmend.adapters.ssh.iap.transport import RelayTransport, shut
from logmend.errors import Permanent, Transient
from logmend.model.struct import Struct

DEFAULT_URL = "wss://tunnel.cloudproxy.app/v4"
SUBPROTOCOL = Subprotocol("relay.tunnel.cloudproxy.app")
ORIGIN = Origin("bot:iap-tunneler")
QUEUED_MESSAGES = 4
USER_AGENT = "logmend"

_TOKEN = re.compile(r"[\x21-\x7e]+")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# The library logs request headers and data at DEBUG: a token does not belong there.
_LOGGER = logging.getLogger("logmend.iap.websocket")
_LOGGER.setLevel(logging.INFO)

P = TypeVar("P", bound=asyncio.Protocol)


class IapTarget(Struct, frozen=True):
    """The destination: ``instance`` is the VM's *name* (IAP takes no numeric id), ``port`` a port on it."""

    project_id: str
    zone: str
    instance: str
    interface: str = "nic0"
    port: int = 22


class _Connect(connect):
    """``websockets.connect`` without redirects: the token is for one host only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class IapTunnel:
    """A tunnel to one port of one VM, for asyncssh's ``tunnel=``.

    ``token`` returns an access token and is called for each connection. ``url`` is the relay's base URL;
    ``ws://`` is for loopback only, since it would send the token in the clear. ``ssl`` replaces the default
    context of a ``wss://`` connection. Times are in seconds: ``connect_timeout`` covers everything from
    getting the token to reaching the VM's port, ``close_timeout`` each of the two steps of closing.

    Use it with ``async with``, or call ``close()`` and ``await wait_closed()``: asyncssh does not wait for
    the transports that it drops.
    """

    def __init__(
        self,
        target: IapTarget,
        token: Callable[[], Awaitable[str]],
        *,
        url: str = DEFAULT_URL,
        connect_timeout: float = 10.0,
        close_timeout: float = 2.0,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"expected a ws:// or wss:// URL, got {url!r}")
        if parts.scheme == "ws" and parts.hostname not in _LOOPBACK:
            raise ValueError(f"{url!r} would send the access token in the clear: use wss://")
        self.target = target
        self._token = token
        self._url = f"{url.rstrip('/')}/connect?{_query(target)}"
        self._secure = parts.scheme == "wss"
        self._ssl = ssl
        self._connect_timeout = connect_timeout
        self._close_timeout = close_timeout
        self._transports: set[RelayTransport] = set()
        self.error: Transient | Permanent | None = None
        """The error that ended the last connection not closed by us, or None."""

    async def create_connection(
        self,
        session_factory: Callable[[], P],
        host: str = "",
        port: int = 0,
    ) -> tuple[RelayTransport, P]:
        """Connect and start a protocol, like ``loop.create_connection``; raises Transient or Permanent.

        ``host`` and ``port`` are only the caller's names for its peer; the target says where to connect.
        """
        del host, port
        session = RelaySession()
        step = ["the access token"]
        try:
            async with asyncio.timeout(self._connect_timeout):
                token = await self._bearer()
                step[0] = "the relay"
                websocket = await self._open(token)
                try:
                    step[0] = "the VM's port"
                    await _until_connected(websocket, session)
                except BaseException:
                    await shut(websocket, 0)
                    raise
        except TimeoutError as exc:
            if step[0] == "the access token":
                raise Transient("credentials_unavailable", "no access token in time") from exc
            hint = f" ({closing.FIREWALL})" if step[0] == "the VM's port" else ""
            raise Transient(
                "unreachable", f"{step[0]} did not answer within {self._connect_timeout:g} s{hint}"
            ) from exc
        except (Transient, Permanent):
            raise
        except Exception as exc:
            raise closing.classify(exc) from exc
        protocol = session_factory()
        transport = RelayTransport(
            websocket,
            session,
            protocol,
            close_timeout=self._close_timeout,
            extra={"iap_target": self.target, "iap_sid": session.sid},
            on_lost=self._lost,
        )
        self._transports.add(transport)
        transport.ended.add_done_callback(lambda _: self._transports.discard(transport))
        protocol.connection_made(transport)
        return transport, protocol

    def close(self) -> None:
        """Begin to close every connection. Idempotent."""
        for transport in tuple(self._transports):
            transport.close()

    async def wait_closed(self) -> None:
        """Wait until all connections are closed, at most ``2 * close_timeout`` seconds after ``close``."""
        if ended := [transport.ended for transport in self._transports]:
            await asyncio.wait(ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()

    def _lost(self, error: Transient | Permanent) -> None:
        self.error = error

    async def _bearer(self) -> str:
        try:
            token = await self._token()
        except (Transient, Permanent, TimeoutError):
            raise
        except Exception as exc:
            raise errors.classify(exc) from exc
        if not _TOKEN.fullmatch(token):
            raise Permanent("credentials_unusable", "the access token is empty or contains spaces")
        return token

    async def _open(self, token: str) -> ClientConnection:
        websocket = await _Connect(
            self._url,
            origin=ORIGIN,
            subprotocols=[SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {token}"},
            user_agent_header=USER_AGENT,
            compression=None,
            proxy=None,
            open_timeout=None,  # our own limit covers more
            ping_interval=None,  # it is unknown whether the relay answers pings; SSH has its own keepalive
            close_timeout=self._close_timeout,
            max_size=MAX_MESSAGE,
            max_queue=QUEUED_MESSAGES,
            logger=_LOGGER,
            ssl=(self._ssl or _default_context()) if self._secure else None,
        )
        if websocket.subprotocol != SUBPROTOCOL:
            await shut(websocket, 0)
            raise closing.violation("the relay did not accept the subprotocol")
        return websocket


def _query(target: IapTarget) -> str:
    return urlencode(
        {
            "project": target.project_id,
            "zone": target.zone,
            "instance": target.instance,
            "interface": target.interface,
            "port": target.port,
            "newWebsocket": "True",
        }
    )


async def _until_connected(websocket: ClientConnection, session: RelaySession) -> None:
    while not session.connected:
        session.receive(await websocket.recv())


@functools.cache
def _default_context() -> ssl_module.SSLContext:
    """Return the context shared by all connections: loading the CA bundle takes time and memory."""
    return ssl_module.create_default_context()
