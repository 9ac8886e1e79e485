"""Where a VM's SSH host keys are known from. All but :class:`Insecure` fail closed.

``known(facts)`` gives what asyncssh takes as ``known_hosts``: trusted keys, trusted authorities and revoked
keys, looked up for each attempt. A VM without any known key is ``Permanent("host_key_unknown")``: its server
is not even dialled.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from logmend.adapters.error_table import one_line
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent
from logmend.model.values import InstanceFacts, InstanceRef

Known = Sequence[Sequence[Any]]
"""What asyncssh takes: lists of trusted keys, authorities and revoked keys, perhaps more."""


class HostKeys(Protocol):
    """A source of host keys."""

    @property
    def note(self) -> str | None:
        """What to warn of in every outcome; None where there is nothing."""
        ...

    async def known(self, facts: InstanceFacts) -> Known | None:
        """Give the keys that the VM's server may have; None means that any will do."""
        ...


class GuestAttributes(Protocol):
    """The one call of the Compute API that is needed here."""

    async def guest_attributes(self, ref: InstanceRef, path: str) -> Mapping[str, str]:
        """Give the guest attributes below ``path`` by key; ``Permanent("not_found")`` if there are none."""
        ...


class GuestAttributeHostKeys:
    """Keys that the guest agent published at boot, in the namespace ``hostkeys``.

    Only the VM itself can write them, and only the API tells them; metadata ``enable-guest-attributes``
    has to be TRUE. (cloud.google.com/compute/docs/instances/connecting-to-instance, "Storing host keys")
    """

    note = None

    def __init__(self, compute: GuestAttributes) -> None:
        self._compute = compute

    async def known(self, facts: InstanceFacts) -> Known | None:
        """Look the keys up. Permanent ``host_key_unknown``, or ``not_permitted`` naming the permission."""
        with ALONE:
            import asyncssh

        try:
            published = await self._compute.guest_attributes(facts.ref, "hostkeys/")
        except Permanent as error:
            if error.reason != "not_found":
                raise
            published = {}
        keys = []
        for kind, value in sorted(published.items()):
            try:  # the value is base64, perhaps followed by a comment
                keys.append(asyncssh.import_public_key(f"{kind} {value.split()[0]}"))
            except (asyncssh.KeyImportError, ValueError, IndexError):
                continue  # a type that asyncssh does not know cannot be negotiated either
        if not keys:
            raise Permanent(
                "host_key_unknown",
                f"{facts.name} has published no SSH host keys as guest attributes: set metadata"
                " enable-guest-attributes=TRUE and restart its guest agent",
            )
        return (keys, [], [])


class KnownHostsFile:
    """Keys from a file in OpenSSH's ``known_hosts`` format, read anew for each attempt.

    A VM is looked up by its numeric instance id as the host name (as ``HostKeyAlias`` would have it), then by
    its internal and its external address, each plain or as ``[ADDRESS]:PORT``; the first that is
    there counts. Hashed names, ``@cert-authority`` and ``@revoked`` work as in OpenSSH::

        4775836342981993096 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…
        [10.0.0.7]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…
    """

    note = None

    def __init__(self, path: Path, *, port: int = 22) -> None:
        self._path = path
        self._port = port

    async def known(self, facts: InstanceFacts) -> Known | None:
        """Look the keys up. ``Permanent("host_key_unknown")`` where the file cannot be read as well."""
        with ALONE:
            import asyncssh

        try:
            text = await asyncio.to_thread(self._path.read_text)
            hosts = asyncssh.import_known_hosts(text)
        except (OSError, ValueError) as error:
            raise Permanent("host_key_unknown", f"{self._path}: {one_line(error)}") from error
        names = [facts.ref.instance_id, facts.internal_ip, facts.external_ip]
        found = [hosts.match(name, "", self._port) for name in names if name]
        revoked = [key for each in found for key in each[2]]
        for keys, authorities, *_ in found:
            if keys or authorities:
                return (keys, authorities, revoked)
        raise Permanent("host_key_unknown", f"{self._path} has no key of {facts.ref} nor of its addresses")


class Insecure:
    """Any host key is accepted. For labs: whoever answers on the address gets to see and to fake the work."""

    note = "host_key_not_verified"

    async def known(self, facts: InstanceFacts) -> Known | None:
        """Trust whatever comes."""
        del facts
        return None
