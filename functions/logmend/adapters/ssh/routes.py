"""How an SSH server is reached: by an address of the VM, or through IAP TCP forwarding."""

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from logmend.errors import Permanent
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts
from logmend.settings import SshAddress


class Way(Struct, frozen=True):
    """Where to dial; ``tunnel`` is what asyncssh takes under that name, None for plain TCP."""

    host: str
    tunnel: Any = None


class Route(Protocol):
    """A way to any VM's SSH server."""

    def way(self, facts: InstanceFacts, port: int) -> AbstractAsyncContextManager[Way]:
        """Return the way to ``port``; what it takes is released on leaving. ``Permanent("no_route")``."""
        ...


class Direct:
    """TCP to the VM's internal or external address."""

    def __init__(self, address: SshAddress = SshAddress.INTERNAL) -> None:
        self._address = address

    @asynccontextmanager
    async def way(self, facts: InstanceFacts, port: int) -> AsyncIterator[Way]:
        """Yield the address as it is in the Compute API; it is checked to be one, so nothing is resolved."""
        del port
        internal = self._address is SshAddress.INTERNAL
        address = facts.internal_ip if internal else facts.external_ip
        try:
            host = str(ipaddress.ip_address(address or ""))
        except ValueError as error:
            raise Permanent("no_route", f"{facts.name} has no {self._address} address") from error
        yield Way(host)


class Iap:
    """IAP TCP forwarding to the VM's first interface. ``token`` gives an access token, ``url`` the relay."""

    def __init__(self, token: Callable[[], Awaitable[str]], *, url: str | None = None) -> None:
        self._token = token
        self._url = url

    @asynccontextmanager
    async def way(self, facts: InstanceFacts, port: int) -> AsyncIterator[Way]:
        """Yield a tunnel; it is closed, and waited for, on leaving."""
        from logmend.adapters.ssh.iap import DEFAULT_URL, IapTarget, IapTunnel

        target = IapTarget(facts.ref.project_id, facts.ref.zone, facts.name, port=port)
        async with IapTunnel(target, self._token, url=self._url or DEFAULT_URL) as tunnel:
            yield Way(facts.name, tunnel)
