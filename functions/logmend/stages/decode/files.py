"""Documents as operators have them: in files and streams, in any shape that a Google tool prints."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from logmend.model.values import Delivery, Event, Undecodable
from logmend.stages.decode import envelope, exports, stream
from logmend.stages.decode.documents import document
from logmend.stages.decode.payload import too_deep, too_large

Item = tuple[Delivery | None, Event | Undecodable, object]
"""The delivery (None where there was no message), the event, and the payload's JSON document (the whole
value where it could not be read)."""


def any_shape(text: bytes) -> list[Item]:
    """Decode every document of a file, in order; at least one item comes back, and nothing is raised.

    Read are a LogEntry, an incident, a tick, a Pub/Sub push body, an item of ``gcloud pubsub subscriptions
    pull --format=json``, a CloudEvent (structured, or the body of a binary one), log entries as other tools
    export them (:mod:`logmend.stages.decode.exports`), and arrays, JSON lines or a plain sequence of these.
    """
    return list(entries(io.BytesIO(text))) or [(None, Undecodable("no_data", "there is nothing in it"), None)]


def entries(source: BinaryIO, passes: Callable[[str], bool] = lambda _text: False) -> Iterator[Item]:
    """Decode a stream document by document, like :func:`any_shape`, in memory bounded by its largest.

    Nothing comes of an empty stream, or of what ``passes``, as :func:`stream.values` has it. What it holds
    raises nothing; errors of reading it do.
    """
    for value in stream.values(source, passes):
        if isinstance(value, Undecodable):
            yield None, value, None
        else:
            yield from map(_item, exports.unpacked(value))


def _item(value: Any) -> Item:
    if not isinstance(value, dict) or too_deep(value):
        return None, _event(value), value
    if "logName" not in value and "metadata" not in value and isinstance(value.get("data"), str):
        value = {"message": value}  # a bare PubsubMessage
    if "specversion" in value or isinstance(value.get("message"), dict):
        delivery, event, payload = envelope.unwrapped(value, lambda: _digest(value))
        return delivery, event, value if payload is None else payload
    value = exports.entry(value)
    if (why := too_large(msgspec.json.encode(value))) is not None:  # as it travels, without indents
        return None, why, value
    return None, _event(value), value


def _event(value: object) -> Event | Undecodable:
    event = document(value)
    if isinstance(event, Undecodable) and event.reason == "not_an_event":
        return Undecodable(event.reason, f"{event.detail}; {exports.hint(value)}")
    return event


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True).encode()
    return "h-" + hashlib.sha256(canonical).hexdigest()[:32]
