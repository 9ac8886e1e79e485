"""Unwrap what Pub/Sub puts around a document: a push body or a CloudEvent (binary or structured mode)."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from logmend.model.json import JsonObject
from logmend.model.values import Delivery, Event, Undecodable
from logmend.stages.decode.documents import document
from logmend.stages.decode.payload import MAX_DEPTH, MAX_SPELLED, instant, loads, string, strings, too_large

MAX_BODY = 14 * 1024 * 1024
"""The most bytes of a request. A Pub/Sub message has at most 10 MB (cloud.google.com/pubsub/quotas), 13.4 MB
in base64, and at most 128 KB of attributes; a push cannot be larger."""

MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"

_MESSAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}")


def request(body: bytes, headers: Mapping[str, str]) -> tuple[Delivery, Event | Undecodable]:
    """Decode one HTTP request of a push subscription or of Eventarc.

    The message id is Pub/Sub's, or, without a usable one, ``h-`` and 32 hex digits of the body's SHA-256.
    Header names may be in any case. Never raises.
    """
    if len(body) > MAX_BODY:
        why = Undecodable("too_large", f"{len(body)} bytes, the limit is {MAX_BODY}")
    elif not body.strip():
        why = Undecodable("no_data", "empty request body")
    elif isinstance(value := loads(body), Undecodable):
        why = value
    elif not isinstance(value, dict):
        why = Undecodable("malformed", "the request body is not a JSON object")
    else:
        named = {str(name).lower(): text for name, text in headers.items()}
        kind, event_id = named.get("ce-type"), named.get("ce-id")
        return unwrapped(value, lambda: _digest(body), kind=kind, event_id=event_id)[:2]
    return Delivery(message_id=_digest(body)), why


def unwrapped(
    value: Mapping[str, object],
    name: Callable[[], str],
    *,
    kind: str | None = None,
    event_id: str | None = None,
) -> tuple[Delivery, Event | Undecodable, object]:
    """Decode a parsed push body or CloudEvent; ``kind`` and ``event_id`` are header values.

    ``name`` creates an id for a message without one. The third value is the payload's JSON document, or None
    if there is none.
    """
    inner: object = value
    if "specversion" in value:
        kind, event_id, inner = string(value.get("type")) or "", string(value.get("id")), value.get("data")
    if kind is not None and kind != MESSAGE_PUBLISHED:
        why = Undecodable("not_an_event", "a CloudEvent of a type other than Pub/Sub's")
    elif not isinstance(inner, dict) or not isinstance(inner.get("message"), dict):
        why = Undecodable("malformed", "no Pub/Sub message in it (is payload unwrapping on?)")
    else:
        return _message(inner, _usable(event_id), name)
    return Delivery(message_id=name()), why, None


def _message(
    wrapper: JsonObject, event_id: str | None, name: Callable[[], str]
) -> tuple[Delivery, Event | Undecodable, Any]:
    """Decode ``{"message": {…}, "subscription": …, "deliveryAttempt": …}`` in camel or snake case."""
    inner: dict[str, Any] = wrapper["message"]
    delivery = Delivery(
        message_id=_usable(inner.get("messageId")) or _usable(inner.get("message_id")) or event_id or name(),
        publish_time=instant(inner.get("publishTime")) or instant(inner.get("publish_time")),
        attributes=strings(inner.get("attributes")),
        subscription=string(wrapper.get("subscription")),
        delivery_attempt=_count(wrapper.get("deliveryAttempt", wrapper.get("delivery_attempt"))),
    )
    decoded = _data(inner.get("data"))
    value = decoded if isinstance(decoded, Undecodable) else loads(decoded)
    if isinstance(decoded, Undecodable) or isinstance(value, Undecodable):
        return delivery, value, None
    shallow = decoded.count(b"{") + decoded.count(b"[") <= MAX_DEPTH  # it cannot nest deeper than it opens
    return delivery, document(value, shallow=shallow), value


def _data(data: object) -> bytes | Undecodable:
    if data is None or data == "":
        return Undecodable("no_data", "the message has no data")
    if not isinstance(data, str):
        return Undecodable("malformed", "the message's data is not a string")
    if len(data) * 3 // 4 > MAX_SPELLED + 2:
        return Undecodable(
            "too_large", f"about {len(data) * 3 // 4} bytes of data, the limit is {MAX_SPELLED}"
        )
    try:
        decoded = _base64(data)
    except ValueError:
        return Undecodable("malformed", "the message's data is not base64")
    return too_large(decoded) or decoded


def _base64(data: str) -> bytes:
    """Decode base64 as proto-JSON allows it, also URL-safe or without padding; ValueError otherwise."""
    try:
        return msgspec.convert(data, bytes)  # the standard alphabet, padded, as Pub/Sub sends it
    except msgspec.ValidationError:
        standard = data.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _usable(message_id: object) -> str | None:
    """Return an id if it can be a ledger key as it is: Pub/Sub's are digits, a CloudEvent's similar."""
    text = str(message_id) if isinstance(message_id, int) else message_id
    return text if isinstance(text, str) and _MESSAGE_ID.fullmatch(text) else None


def _count(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _digest(body: bytes) -> str:
    return "h-" + hashlib.sha256(body).hexdigest()[:32]
