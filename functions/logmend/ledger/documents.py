"""How the ledger's values become stored documents, and where each is stored.

=============  =============================  ====================================================
collection     id                             holds
=============  =============================  ====================================================
``intents``    the intent's id                :class:`~logmend.model.state.Record`
``subjects``   ``PROJECT~ZONE~ID~RUNBOOK``    :class:`~logmend.model.state.Subject`
``controls``   ``fleet``                      :class:`~logmend.model.state.Fleet`
``claims``     ``incident~DIGEST``            the intent that an incident became
``claims``     ``event~DIGEST``               the intent whose message is to be redelivered
``places``     ``RUNBOOK~SHARD``              :class:`~logmend.ledger.places.Shard` of the budget
``samples``    ``RUNBOOK~SHARD``              latest success or failure of each VM
``approvals``  the approval's id              :class:`~logmend.model.state.Approval`
``contacts``   the VM's numeric id            :class:`~logmend.ledger.contacts.Contact`
``acts``       time and a random part         :class:`~logmend.model.state.Acts`
``repeats``    ``PROJECT~ZONE~ID~RUNBOOK~N``  :class:`~logmend.model.state.Repeats` of day N of the VM
=============  =============================  ====================================================
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from logmend.errors import Permanent
from logmend.ledger import freezes
from logmend.model.state import SCHEMA, Act, Acts, Approval, Fleet, Freeze, Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent
from logmend.ports import STOP, Document, Key, Store

T = TypeVar("T")

KEEP = timedelta(days=32)
"""How long finished intents are kept: a day more than Pub/Sub can keep (and so redeliver) a message."""

SHARDS = 8
"""How many documents a breaker's samples are spread over, so none becomes hot."""

REVIEW = timedelta(days=32)
"""How long a VM has to be silent before Compute is asked whether it still exists."""

FLEET: Key = ("controls", "fleet")


def pack(value: Any) -> dict[str, Any]:
    """Convert a value to JSON-ready data. Fields that are None are kept, so reading can be strict."""
    data: dict[str, Any] = msgspec.to_builtins(value)
    unknown: dict[str, Any] = data.pop("unknown", {})
    return unknown | data


def unpack(kind: type[T], document: Document) -> T:
    """Convert stored data back; ``Permanent("ledger_corrupt")`` if it does not have the shape of ``kind``."""
    data = document.data
    fields = getattr(kind, "__struct_fields__", ())
    if "unknown" in fields and not data.keys() <= (known := frozenset(fields)):
        data = dict(data) | {"unknown": {name: data[name] for name in data if name not in known}}
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise Permanent("ledger_corrupt", f"{kind.__name__}: {error}") from error


async def every(store: Store, collection: str, page: int = 500) -> AsyncIterator[tuple[Key, Document]]:
    """Walk through a collection in order of id, ``page`` documents at a time."""
    after: str | None = None
    while True:
        found = await store.scan(collection, after, page)
        for name, document in found:
            yield (collection, name), document
        if len(found) < page:
            return
        after = found[-1][0]


BY_HAND = "the ledger's field stop"
"""Recorded as the person who froze everything, if the command was not used (docs/operations.md)."""


def fleet_of(found: Mapping[Key, Document]) -> Fleet:
    """Read the fleet's switches; ``Permanent("ledger_schema")`` if a newer logmend wrote the ledger.

    A stop that was set by hand is read as a freeze on top of all others. The next write of the switches
    stores it as one.
    """
    if FLEET not in found:
        return Fleet()
    stop = found[FLEET].data.get(STOP)
    if stop is not None:
        rest = replace(found[FLEET], data=freezes.without(found[FLEET].data, STOP))
        fleet = fleet_of({FLEET: rest})
        by_hand = Freeze(BY_HAND, datetime.fromisoformat(stop["at"]), stop["why"])
        return replace(fleet, frozen=freezes.over(fleet.frozen, by_hand))
    written = found[FLEET].data.get("schema", 1)
    if not isinstance(written, int) or written > SCHEMA:
        detail = f"it has schema {written}, this logmend knows {SCHEMA}: use the newer logmend that wrote it"
        raise Permanent("ledger_schema", detail)
    return unpack(Fleet, found[FLEET])


def intent_key(intent_id: str) -> Key:
    """Return the key of an intent's record."""
    return ("intents", intent_id)


def subject_key(instance: InstanceRef, runbook: str) -> Key:
    """Return the key of a VM under a runbook."""
    return ("subjects", f"{instance.project_id}~{instance.zone}~{instance.instance_id}~{runbook}")


def subject_document(subject: Subject, now: datetime) -> Document:
    """Return the document of a VM, on the tick's list of leases or of VMs to look up in Compute."""
    if subject.lease is not None:
        return Document(pack(subject), queue="leased", due=subject.lease.expires_at)
    return Document(pack(subject), queue="kept", due=review_at(subject, now))


def review_at(subject: Subject, now: datetime) -> datetime:
    """Return when to ask Compute whether a VM still exists: in 32 to 48 days, spread evenly over the VMs."""
    part = shard_of(f"{subject.instance}/{subject.runbook}", 1 << 20) / (1 << 20)
    return now + REVIEW * (1 + part / 2)


def claim_key(incident_id: str, runbook: str, instance: InstanceRef) -> Key:
    """Return the key under which an incident is claimed once per runbook and VM."""
    digest = hashlib.sha256(f"{incident_id}\n{runbook}\n{instance}".encode()).hexdigest()
    return ("claims", f"incident~{digest[:40]}")


def event_key(intent: Intent) -> Key:
    """Return the key of an event whose message is to be redelivered, independent of the message's id.

    A message that Pub/Sub gives up on goes to the dead-letter topic with the same body but another id.
    """
    said = intent.source
    event = (said.log_name, said.insert_id, said.timestamp, said.incident_id, intent.runbook, intent.instance)
    return ("claims", f"event~{hashlib.sha256(repr(tuple(map(str, event))).encode()).hexdigest()[:40]}")


def contact_key(instance: InstanceRef) -> Key:
    """Return the key of what is known about a VM's SSH server."""
    return ("contacts", instance.instance_id)


def approval_key(approval_id: str) -> Key:
    """Return the key of an approval."""
    return ("approvals", approval_id)


def decided(approval: Approval, state: str, at: datetime, by: str | None = None) -> Document:
    """Return the document of a plan that ``by`` decided on, or that expired without a decision (None)."""
    return Document(pack(replace(approval, state=state, decided_by=by, decided_at=at)), expire_at=at + KEEP)


def acts_key(now: datetime) -> Key:
    """Return a new key for what a transaction does to controls. Such keys sort by time."""
    return ("acts", f"{now:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(6)}")


def acts_document(key: Key, acts: Sequence[Act]) -> Document:
    """Return the document of what was done to controls, on the tick's list of acts to record."""
    at = max(each.at for each in acts)
    return Document(pack(Acts(key[1], tuple(acts))), queue="untold", due=at, expire_at=at + KEEP)


def shard_key(collection: str, runbook: str, shard: int) -> Key:
    """Return the key of one shard of a runbook's budget or samples."""
    return (collection, f"{runbook}~{shard}")


def shard_of(text: str, shards: int) -> int:
    """Return the shard that ``text`` belongs to: spread evenly, and the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % shards


def recent(times: Any, window: timedelta, now: datetime) -> dict[str, Any]:
    """Return the entries of ``{name: [iso time, …]}`` that lie within ``window`` before ``now``.

    A time after ``now`` (the clock was stepped back) still counts, to be on the safe side.
    """
    return {
        name: value for name, value in dict(times).items() if datetime.fromisoformat(value[0]) > now - window
    }
