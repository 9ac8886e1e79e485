"""What the ledger remembers about VMs' SSH servers: the first host key seen, and the credential they accept.

Each VM has one document in ``contacts``, under its numeric instance id, which is never reused. The document
does not expire: as long as the VM exists, only the key of the first contact is trusted. It is removed with
everything else about a VM that Compute no longer knows (:func:`without`).
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from logmend.ledger.documents import acts_document, acts_key, contact_key, pack, unpack
from logmend.model.state import Act, By
from logmend.model.struct import Struct, replace
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key, Store

FORGOTTEN = 10
"""How many forgotten pins a VM's document keeps: the latest ones."""


class Pin(Struct, frozen=True):
    """A host key as in ``known_hosts`` (type and base64), and when it was first seen."""

    key: str
    at: datetime


class Forgotten(Struct, frozen=True):
    """A pin that an operator removed: which, who, when and why."""

    pin: Pin
    by: str
    at: datetime
    why: str = ""


class Contact(Struct, frozen=True):
    """What is known about a VM's SSH server. Until ``imported_key_until`` no certificate is tried."""

    instance: InstanceRef
    pin: Pin | None = None
    forgotten: tuple[Forgotten, ...] = ()
    imported_key_until: datetime | None = None


class Contacts:
    """Reads and writes contacts in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, ref: InstanceRef) -> Contact:
        """Return what is known about a VM's SSH server; an empty contact if nothing is."""
        key = contact_key(ref)
        documents = await self._store.get([key])
        return unpack(Contact, documents[key]) if key in documents else Contact(ref)

    async def pin(self, ref: InstanceRef, seen: Pin) -> Pin:
        """Pin a key unless one is pinned already, and return the pin as read back from the store."""
        await self._change(ref, lambda contact: replace(contact, pin=contact.pin or seen))
        return (await self.get(ref)).pin or seen

    async def forget(self, ref: InstanceRef, by: By) -> Pin | None:
        """Remove a pin and record that; the next contact is a first contact. None if nothing was pinned."""
        key, acts_at = contact_key(ref), acts_key(by.at)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], Pin | None]:
            contact = unpack(Contact, documents[key]) if key in documents else Contact(ref)
            if (pin := contact.pin) is None:
                return {}, None
            on_record = (*contact.forgotten, Forgotten(pin, by.who, by.at, by.why))[-FORGOTTEN:]
            detail = f"{pin.key}, pinned {pin.at:%FT%TZ} {by.why}".strip()
            act = Act("host_key_forgotten", by.at, by.who, detail, instance=ref)
            return {
                key: Document(pack(replace(contact, pin=None, forgotten=on_record))),
                acts_at: acts_document(acts_at, [act]),
            }, pin

        return await self._store.transact([key, acts_at], step)

    async def takes_imported_key(self, ref: InstanceRef, until: datetime | None) -> None:
        """Remember that a VM rejected a certificate and accepted an imported key."""
        await self._change(ref, lambda contact: replace(contact, imported_key_until=until))

    async def _change(self, ref: InstanceRef, change: Callable[[Contact], Contact]) -> None:
        key = contact_key(ref)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            contact = unpack(Contact, documents[key]) if key in documents else Contact(ref)
            changed = change(contact)
            return ({key: Document(pack(changed))} if changed != contact else {}), None

        await self._store.transact([key], step)


def without(documents: Mapping[Key, Document], ref: InstanceRef) -> dict[Key, Document | None]:
    """Return the write that removes the contact of a VM that is gone.

    Empty if there is no contact, or if it belongs to a VM in another place: an event may name a real VM's
    id with a wrong zone.
    """
    key = contact_key(ref)
    same = key in documents and documents[key].data.get("instance") == pack(ref)
    return {key: None} if same else {}
