"""Events to replay, each with a key by which it is recognised if it comes a second time."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from logmend.model.struct import Struct, field
from logmend.model.values import Delivery, Event, LogEntry, Undecodable
from logmend.stages import decode

if TYPE_CHECKING:
    from logmend.adapters.google.pubsub import Pulled
    from logmend.model.state import Record

REPLAY_OF = "logmend_replay_of"


class Replayable(Struct, frozen=True):
    """One event.

    ``key`` is the same each time this event occurs in this source. ``original`` is the id of the first
    message with it, or the entry's ``insertId`` if there was no message. ``data`` and ``attributes`` are
    what is published again (``data`` None: nothing can be). ``ack_id`` is set while it is pulled, ``record``
    if the event is known from the ledger alone.
    """

    where: str
    key: str
    original: str
    delivery: Delivery | None
    event: Event | Undecodable
    data: bytes | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    ack_id: str | None = None
    record: "Record | None" = None

    def replay_id(self, run: str) -> str:
        """Return the id of this event in one replay run: 40 hex digits."""
        return hashlib.sha256(f"{run}\n{self.key}".encode("utf-8", "backslashreplace")).hexdigest()[:40]


def of_document(
    where: str, delivery: Delivery | None, event: Event | Undecodable, payload: object
) -> Replayable:
    """Return the event of a document in a file or a listing; the same document twice is one event."""
    data = None if isinstance(event, Undecodable) else _bytes(payload)
    digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:32]
    if delivery is not None:
        attributes = _kept(delivery.attributes)
        return Replayable(
            where, f"message/{delivery.message_id}/{digest}", _original(delivery), delivery, event, data,
            attributes,
        )  # fmt: skip
    insert_id = event.insert_id if isinstance(event, LogEntry) else None
    return Replayable(where, f"document/{digest}", insert_id or digest, None, event, data)


def of_message(pulled: "Pulled", subscription: str) -> Replayable:
    """Return the event of a pulled message: an event, or (a dead letter) a whole push body with one inside.

    Pub/Sub gives a message a new id each time it goes to a dead-letter topic: it names one arrival there.
    """
    outer, data = pulled.delivery, pulled.data
    every = decode.any_shape(data)
    inner, event, payload = every[0]
    if len(every) > 1:
        inner, event = None, Undecodable("not_an_event", "several documents in one message")
    key = f"pulled/{subscription}/{outer.message_id}"
    if inner is not None:
        data = data if isinstance(event, Undecodable) else _bytes(payload)
        outer = inner
    return Replayable(
        f"message {pulled.delivery.message_id}", key, _original(outer), outer, event, data,
        _kept(outer.attributes), pulled.ack_id,
    )  # fmt: skip


def of_record(outcome_id: str, record: "Record") -> Replayable:
    """Return an event that only the ledger still knows: enough to order it, not to publish it."""
    intent = record.intent
    return Replayable(
        f"outcome {outcome_id}",
        f"outcome/{intent.intent_id}",
        intent.message_id or intent.intent_id,
        None,
        Undecodable("no_data", "the ledger keeps no entries"),
        record=record,
    )


def _original(delivery: Delivery) -> str:
    return delivery.replay_of or delivery.message_id


def _kept(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes without those that Pub/Sub reserves (``goog…``) and refuses."""
    return {key: value for key, value in attributes.items() if not key.startswith("goog")}


def _bytes(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
