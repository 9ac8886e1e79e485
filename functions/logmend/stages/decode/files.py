"""Decode documents from operators' files and streams, in any format that Google's tools print."""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from logmend.model.values import Delivery, Event, Undecodable
from logmend.stages.decode import envelope, exports, stream
from logmend.stages.decode.documents import document
from logmend.stages.decode.payload import too_deep, too_large

Item = tuple[Delivery | None, Event | Undecodable, object]
"""The delivery (None if there was no message), the event, and the payload's JSON document (the whole value if
it could not be read)."""


def any_shape(text: bytes) -> list[Item]:
    """Decode every document in a file, in order. Returns at least one item, and never raises.

    It reads a LogEntry, an incident, a tick, a Pub/Sub push body, an item from ``gcloud pubsub subscriptions
    pull --format=json``, a CloudEvent (structured, or the body of a binary one), log entries as other tools
    export them (:mod:`logmend.stages.decode.exports`), and arrays, JSON lines or a plain sequence of these.
    """
    return list(entries(io.BytesIO(text))) or [(None, Undecodable("no_data", "it is empty"), None)]


def entries(source: BinaryIO, passing: stream.Passing | None = None) -> Iterator[Item]:
    """Decode a stream document by document, like :func:`any_shape`, in memory bounded by the largest one.

    An empty stream yields nothing, and so do documents that ``passing`` leaves out. Only errors reading the
    stream are raised, whatever its content.
    """
    for value, plain in stream.sifted(source, passing or stream.Passing()):
        if isinstance(value, Undecodable):
            yield None, value, None
        elif plain and "logName" in value:
            yield _item(value, plain)
        else:
            for each in exports.unpacked(value):
                yield _item(each, plain)


def _item(value: Any, plain: bool) -> Item:
    """Decode one value; ``plain`` says that its text is known to be short and not too deep."""
    if not isinstance(value, dict) or (not plain and too_deep(value)):
        return None, _event(value), value
    if "logName" not in value and "metadata" not in value and isinstance(value.get("data"), str):
        value = {"message": value}  # a bare PubsubMessage
    if "specversion" in value or isinstance(value.get("message"), dict):
        delivery, event, payload = envelope.unwrapped(value, lambda: _digest(value))
        return delivery, event, value if payload is None else payload
    if (read := exports.entry(value)) is not value:
        value, plain = read, False
    # An entry's size is its size in transit, without indentation.
    if not plain and (why := too_large(msgspec.json.encode(value))) is not None:
        return None, why, value
    return None, _event(value, shallow=plain), value


def _event(value: object, *, shallow: bool = False) -> Event | Undecodable:
    event = document(value, shallow=shallow)
    if isinstance(event, Undecodable) and event.reason == "not_an_event":
        return Undecodable(event.reason, f"{event.detail}; {exports.hint(value)}")
    return event


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True).encode()
    return "h-" + hashlib.sha256(canonical).hexdigest()[:32]
