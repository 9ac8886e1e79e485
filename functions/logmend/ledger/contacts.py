"""What the ledger remembers of VMs' SSH servers: the host key seen first, and which credential they take.

One document per VM in ``contacts``, under its numeric instance id, which no other VM ever gets. It has no
expiry: as long as the VM exists, the key of the first contact is the only one that is believed. It goes with
the rest of what is remembered of a VM that Compute no longer knows (:func:`without`).
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from logmend.ledger.documents import acts_document, acts_key, contact_key, pack, unpack
from logmend.model.state import Act, By
from logmend.model.struct import Struct, replace
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key, Store

FORGOTTEN = 10
"""How many forgotten pins a VM's document keeps on record, the latest ones."""


class Pin(Struct, frozen=True):
    """A host key as in ``known_hosts`` (type and base64), and when it was seen first."""

    key: str
    at: datetime


class Forgotten(Struct, frozen=True):
    """A pin that an operator took back: which, who, when and why."""

    pin: Pin
    by: str
    at: datetime
    why: str = ""


class Contact(Struct, frozen=True):
    """What is known of a VM's SSH server. Until ``imported_key_until`` a certificate is not tried."""

    instance: InstanceRef
    pin: Pin | None = None
    forgotten: tuple[Forgotten, ...] = ()
    imported_key_until: datetime | None = None


class Contacts:
    """Reads and writes contacts in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, ref: InstanceRef) -> Contact:
        """Read what is known of a VM; an empty contact if nothing is."""
        key = contact_key(ref)
        documents = await self._store.get([key])
        return unpack(Contact, documents[key]) if key in documents else Contact(ref)

    async def pin(self, ref: InstanceRef, seen: Pin) -> Pin:
        """Pin a key unless one is pinned, and give what is pinned then, as it was read back."""
        await self._change(ref, lambda contact: replace(contact, pin=contact.pin or seen))
        return (await self.get(ref)).pin or seen

    async def forget(self, ref: InstanceRef, by: By) -> Pin | None:
        """Take a pin back, on record; the next contact is a first one. None if nothing was pinned."""
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
        """Remember that a VM refused a certificate and took an imported key."""
        await self._change(ref, lambda contact: replace(contact, imported_key_until=until))

    async def _change(self, ref: InstanceRef, change: Callable[[Contact], Contact]) -> None:
        key = contact_key(ref)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            contact = unpack(Contact, documents[key]) if key in documents else Contact(ref)
            changed = change(contact)
            return ({key: Document(pack(changed))} if changed != contact else {}), None

        await self._store.transact([key], step)


def without(documents: Mapping[Key, Document], ref: InstanceRef) -> dict[Key, Document | None]:
    """Make the write that removes a gone VM's contact.

    Empty if there is none, or if it is that of a VM elsewhere: an event may name a real VM's id in a zone
    that it is not in.
    """
    key = contact_key(ref)
    same = key in documents and documents[key].data.get("instance") == pack(ref)
    return {key: None} if same else {}
