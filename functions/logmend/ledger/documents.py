"""How the ledger's values become stored documents, and where each lives.

=============  =============================  ====================================================
collection     id                             holds
=============  =============================  ====================================================
``intents``    the intent's id                :class:`~logmend.model.state.Record`
``subjects``   ``PROJECT~ZONE~ID~RUNBOOK``    :class:`~logmend.model.state.Subject`
``controls``   ``fleet``                      :class:`~logmend.model.state.Fleet`
``claims``     ``incident~ID~RUNBOOK~ID``     the intent that an incident became
``budgets``    ``RUNBOOK~SHARD``              times of reservations by intent
``samples``    ``RUNBOOK~SHARD``              latest success or failure of each VM
``approvals``  the approval's id              :class:`~logmend.model.state.Approval`
``contacts``   the VM's numeric id            :class:`~logmend.ledger.contacts.Contact`
=============  =============================  ====================================================
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from logmend.errors import Permanent
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key

T = TypeVar("T")

KEEP = timedelta(days=32)
"""How long finished intents are kept: a day more than Pub/Sub can keep (and so redeliver) a message."""

SHARDS = 8
"""Documents over which a budget and the samples of a breaker are spread, so that none becomes hot."""

FLEET: Key = ("controls", "fleet")


def pack(value: Any) -> dict[str, Any]:
    """Turn a value into JSON-ready data; fields at their default None are kept, so that reading is strict."""
    data: dict[str, Any] = msgspec.to_builtins(value)
    return data


def unpack(kind: type[T], document: Document) -> T:
    """Turn stored data back; ``Permanent("ledger_corrupt")`` where it does not have the shape of ``kind``."""
    try:
        return msgspec.convert(document.data, kind)
    except msgspec.ValidationError as error:
        raise Permanent("ledger_corrupt", f"{kind.__name__}: {error}") from error


def intent_key(intent_id: str) -> Key:
    """Key of an intent's record."""
    return ("intents", intent_id)


def subject_key(instance: InstanceRef, runbook: str) -> Key:
    """Key of a VM under a runbook."""
    return ("subjects", f"{instance.project_id}~{instance.zone}~{instance.instance_id}~{runbook}")


def claim_key(incident_id: str, runbook: str, instance: InstanceRef) -> Key:
    """Key under which an incident is claimed once per runbook and VM."""
    digest = hashlib.sha256(f"{incident_id}\n{runbook}\n{instance}".encode()).hexdigest()
    return ("claims", f"incident~{digest[:40]}")


def approval_key(approval_id: str) -> Key:
    """Key of an approval."""
    return ("approvals", approval_id)


def shard_key(collection: str, runbook: str, shard: int) -> Key:
    """Key of one shard of a runbook's budget or samples."""
    return (collection, f"{runbook}~{shard}")


def shard_of(text: str, shards: int) -> int:
    """Spread ``text`` evenly over ``shards``, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % shards


def oldest(times: Mapping[str, Any]) -> datetime:
    """Give the earliest of ``{name: [iso time, …]}``, which is not empty."""
    return min(datetime.fromisoformat(value[0]) for value in times.values())


def recent(times: Any, window: timedelta, now: datetime) -> dict[str, Any]:
    """Keep of ``{name: [iso time, …]}`` what lies within ``window`` before ``now``.

    A time ahead of ``now`` (a clock stepped back) still counts: it is the safe side.
    """
    return {
        name: value for name, value in dict(times).items() if datetime.fromisoformat(value[0]) > now - window
    }
