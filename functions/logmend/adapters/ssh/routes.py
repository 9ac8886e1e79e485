"""Routes to a VM's SSH server: one of its addresses, or IAP TCP forwarding."""

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from logmend.errors import Permanent
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts
from logmend.settings import SshAddress


class Way(Struct, frozen=True):
    """Where to connect. ``tunnel`` is asyncssh's argument of that name, None for plain TCP."""

    host: str
    tunnel: Any = None


class Route(Protocol):
    """A route to any VM's SSH server."""

    def way(self, facts: InstanceFacts, port: int) -> AbstractAsyncContextManager[Way]:
        """Return the way to ``port``, released on exit. ``Permanent("no_route")`` if there is none."""
        ...


class Direct:
    """TCP to the VM's internal or external address."""

    def __init__(self, address: SshAddress = SshAddress.INTERNAL) -> None:
        self._address = address

    @asynccontextmanager
    async def way(self, facts: InstanceFacts, port: int) -> AsyncIterator[Way]:
        """Yield the address from the Compute API. It is checked to be one, so no name is resolved."""
        del port
        internal = self._address is SshAddress.INTERNAL
        address = facts.internal_ip if internal else facts.external_ip
        try:
            host = str(ipaddress.ip_address(address or ""))
        except ValueError as error:
            raise Permanent("no_route", f"{facts.name} has no {self._address} address") from error
        yield Way(host)


class Iap:
    """IAP TCP forwarding to the VM's first interface. ``token`` returns a token; ``url`` is the relay."""

    def __init__(self, token: Callable[[], Awaitable[str]], *, url: str | None = None) -> None:
        self._token = token
        self._url = url

    @asynccontextmanager
    async def way(self, facts: InstanceFacts, port: int) -> AsyncIterator[Way]:
        """Yield a tunnel. On exit it is closed and awaited."""
        from logmend.adapters.ssh.iap import DEFAULT_URL, IapTarget, IapTunnel

        target = IapTarget(facts.ref.project_id, facts.ref.zone, facts.name, port=port)
        async with IapTunnel(target, self._token, url=self._url or DEFAULT_URL) as tunnel:
            yield Way(facts.name, tunnel)
