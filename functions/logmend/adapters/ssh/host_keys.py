"""Sources of a VM's SSH host keys. All except :class:`Insecure` fail closed.

``trusted(facts, see)`` returns the keys that the VM's server may have, looked up for each attempt. For a VM
without a known key it raises ``Permanent("host_key_unknown")``: no credential is shown to its server.

=====================  =======================================================================================
setting                keys
=====================  =======================================================================================
``auto``               the pinned key; else those that the VM published; else, over IAP only, the key that
                       its server presents, which is then pinned
``pinned``             the same, over any route
``published``          those that the VM published
``known-hosts:PATH``   those in a file
``insecure``           any
=====================  =======================================================================================
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from logmend.adapters.error_table import one_line
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent
from logmend.ledger import Contacts
from logmend.ledger.contacts import Pin
from logmend.model.struct import Struct
from logmend.model.values import HostKeySource, InstanceFacts, InstanceRef
from logmend.ports import Clock

if TYPE_CHECKING:
    import asyncssh

KnownKeys = Sequence[Sequence[Any]]
"""What asyncssh takes: lists of trusted keys, authorities and revoked keys, perhaps more."""

See = Callable[[], Awaitable["asyncssh.SSHKey"]]
"""Fetches the key that the VM's server presents now, on a separate connection without a login."""

UNPUBLISHED = frozenset({"host_key_unknown", "guest_attributes_disabled"})
"""Reasons for which a first contact may pin: the VM has published no key, or cannot publish any."""


class Trust(Struct, frozen=True):
    """The keys that a server may have (None: any), and how they are known, in the words of outcomes."""

    source: HostKeySource
    known: KnownKeys | None


class HostKeys(Protocol):
    """A source of host keys."""

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        """Return the keys that the VM's server may have. Sources that pin call ``see``."""
        ...


class GuestAttributes(Protocol):
    """The only call of the Compute API that is needed here."""

    async def guest_attributes(self, ref: InstanceRef, path: str) -> Mapping[str, str]:
        """Return the guest attributes below ``path`` by key; ``Permanent("not_found")`` if there are none."""
        ...


class PublishedHostKeys:
    """Keys that the VM published as guest attributes, in the namespace ``hostkeys``.

    Only the VM itself can write them, and only the API serves them. Google's guest agent publishes them on
    the first boot of an instance id and never again (instance_setup.go, 2022 to 2026), and only if the
    metadata item ``enable-guest-attributes`` was TRUE then. docs/ssh.md has the command to publish later.
    """

    def __init__(self, compute: GuestAttributes) -> None:
        self._compute = compute

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        """Look up the keys; Permanent if there are none.

        Its reason is ``host_key_unknown``, ``guest_attributes_disabled`` or, naming the permission,
        ``not_permitted``.
        """
        del see
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
            try:  # the value is base64, possibly followed by a comment
                keys.append(asyncssh.import_public_key(f"{kind} {value.split()[0]}"))
            except (asyncssh.KeyImportError, ValueError, IndexError):
                continue  # asyncssh cannot negotiate a type that it does not know
        if not keys:
            raise Permanent(
                "host_key_unknown",
                f"{facts.name} has published no SSH host keys as guest attributes: its guest agent does so on"
                " the first boot alone, if metadata enable-guest-attributes was TRUE then",
            )
        return Trust("published", (keys, [], []))


class PinnedHostKeys:
    """The key from the first contact, kept in the ledger. At a first contact, published keys take precedence.

    A key published later never replaces a pin. ``first_contact`` says whether a key may be pinned at all:
    IAP's relay looks a VM up by name and dials its interface, but a direct route only has an address.
    """

    def __init__(
        self, published: HostKeys, contacts: Contacts, clock: Clock, *, first_contact: bool = True
    ) -> None:
        self._published = published
        self._contacts = contacts
        self._clock = clock
        self._first_contact = first_contact

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        """Look up the pin, else the published keys, else pin. Two concurrent first contacts leave one pin."""
        if (pin := (await self._contacts.get(facts.ref)).pin) is not None:
            return Trust("pinned", _only(pin))
        try:
            return await self._published.trusted(facts, see)
        except Permanent as error:
            if error.reason not in UNPUBLISHED:
                raise
            if not self._first_contact:
                detail = f"{error.detail}; the direct route pins no key unless you say so"
                raise Permanent(error.reason, detail) from error
        shown = (await see()).export_public_key().decode().split()
        seen = Pin(" ".join(shown[:2]), self._clock.now())
        pin = await self._contacts.pin(facts.ref, seen)
        return Trust("first_seen" if pin == seen else "pinned", _only(pin))


class KnownHostsFile:
    """Keys from a file in OpenSSH's ``known_hosts`` format, read again for each attempt.

    A VM is looked up with its numeric instance id as the host name (as with ``HostKeyAlias``), then by its
    internal and external addresses, each plain or as ``[ADDRESS]:PORT``. The first match counts. Hashed
    names, ``@cert-authority`` and ``@revoked`` work as in OpenSSH::

        4775836342981993096 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…
        [10.0.0.7]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…
    """

    def __init__(self, path: Path, *, port: int = 22) -> None:
        self._path = path
        self._port = port

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        """Look up the keys. ``Permanent("host_key_unknown")`` if there are none or the file is unreadable."""
        del see
        with ALONE:
            import asyncssh

        try:
            text = await asyncio.to_thread(self._path.read_text)
            hosts = asyncssh.import_known_hosts(text)
        except (OSError, ValueError) as error:
            raise Permanent("host_key_unknown", f"{self._path}: {one_line(error)}") from error
        names = [facts.ref.instance_id, facts.internal_ip, facts.external_ip]
        matches = [hosts.match(name, "", self._port) for name in names if name]
        revoked = [key for each in matches for key in each[2]]
        for keys, authorities, *_ in matches:
            if keys or authorities:
                return Trust("known_hosts", (keys, authorities, revoked))
        raise Permanent("host_key_unknown", f"{self._path} has no key of {facts.ref} or of its addresses")


class Insecure:
    """Accepts any host key. For labs only: an impostor at the VM's address can see and fake the work."""

    async def trusted(self, facts: InstanceFacts, see: See) -> Trust:
        """Trust any key."""
        del facts, see
        return Trust("insecure", None)


def _only(pin: Pin) -> KnownKeys:
    """Trust one key. ``Permanent("ledger_corrupt")`` if it cannot be read; that is no first contact."""
    with ALONE:
        import asyncssh

    try:
        return ([asyncssh.import_public_key(pin.key)], [], [])
    except ValueError as error:
        raise Permanent(
            "ledger_corrupt", f"a pinned host key that cannot be read: {one_line(error)}"
        ) from error
