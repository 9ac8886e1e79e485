"""Documents as operators have them: in files and streams, in any shape that a Google tool prints."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from logmend.decode import envelope
from logmend.decode.documents import document
from logmend.decode.payload import MAX_ENTRY, loads, too_deep
from logmend.model import Delivery, Event, Undecodable

Item = tuple[Delivery | None, Event | Undecodable, Any]

MAX_LINE = 2 * envelope.MAX_BODY
"""Bytes of one JSON line in a stream: any push body, however it is spelled."""

_DECODER = json.JSONDecoder()
_BLANK = b" \t\r\n\xef\xbb\xbf"


def any_shape(text: bytes) -> list[Item]:
    """Decode every document of a file, in order; at least one item comes back, and nothing is raised.

    Read are a LogEntry, an incident, a tick, a Pub/Sub push body, an item of ``gcloud pubsub subscriptions
    pull --format=json``, a CloudEvent (structured, or the body of a binary one), and arrays, JSON lines or
    a plain sequence of these. Each item is the delivery (None where there was no message), the event and
    the payload's JSON document (the whole value where it could not be read).
    """
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what PowerShell's `>` writes
        text = text.decode("utf-16", "replace").encode()
    if not text.strip(_BLANK):
        return [(None, Undecodable("no_data", "there is nothing in it"), None)]
    whole = loads(text)
    if not isinstance(whole, Undecodable):
        values = whole if isinstance(whole, list) else [whole]
        return [_item(value, size=len(text)) for value in values] or [
            (None, Undecodable("no_data", "an empty array"), whole)
        ]
    return _sequence(text) or [(None, whole, None)]


def entries(stream: BinaryIO) -> Iterator[Item]:
    """Decode a stream document by document, like :func:`any_shape`, in memory bounded by its largest.

    Read are an array (also a pretty-printed one), JSON lines and pretty-printed documents in a row. A line
    that is no JSON is one item and the next goes on; after a fault within an array nothing more is read.
    What the stream holds raises nothing; errors of reading it do.
    """
    start = b""
    while not (start := start.lstrip(_BLANK)):
        if not (start := stream.read(4096)):
            return
    if not start.startswith(b"["):
        start += stream.readline(MAX_LINE) if b"\n" not in start else b""
        first, _, _ = start.partition(b"\n")
        if not isinstance(loads(first), Undecodable) or not first.startswith(b"{"):
            yield from _lines(_Joined(start, stream))
            return
    yield from _parsed(_Joined(start, stream), "item" if start.startswith(b"[") else "")


class _Joined:
    """A stream with its first bytes put back."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start = start
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not self._start or size == 0:
            return self._stream.read(size)
        start, self._start = self._start[:size], self._start[size:]
        return start

    def readline(self, limit: int) -> bytes:
        head, newline, self._start = self._start.partition(b"\n")
        return head + newline if newline else head + self._stream.readline(limit)


def _parsed(stream: _Joined, prefix: str) -> Iterator[Item]:
    import ijson  # type: ignore[import-untyped] # noqa: PLC0415 - only operators have it: the function never streams

    try:
        for value in ijson.items(stream, prefix, use_float=True, multiple_values=True):
            yield _item(value)
    except (ijson.JSONError, ValueError, RecursionError):
        yield None, Undecodable("malformed", "not JSON from here on"), None


def _lines(stream: _Joined) -> Iterator[Item]:
    while line := stream.readline(MAX_LINE):
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while (line := stream.readline(MAX_LINE)) and not line.endswith(b"\n"):
                pass
            yield None, Undecodable("too_large", f"a line of more than {MAX_LINE} bytes"), None
        elif line.strip(_BLANK):
            value = loads(line)
            yield (None, value, None) if isinstance(value, Undecodable) else _item(value, size=len(line))


def _sequence(text: bytes) -> list[Item]:
    """Documents one after the other; empty where the text does not even begin with one."""
    found: list[Item] = []
    decoded = text.decode("utf-8-sig", "replace")
    at = 0
    broken = False
    while (at := _skip_blank(decoded, at)) < len(decoded):
        try:
            value, at = _DECODER.raw_decode(decoded, at)
        except (ValueError, RecursionError):
            if not broken:
                found.append((None, Undecodable("malformed", f"not JSON at character {at}"), None))
            broken = True
            newline = decoded.find("\n", at)
            at = len(decoded) if newline < 0 else newline + 1
        else:
            broken = False
            found.append(_item(value))
    return found if any(not isinstance(event, Undecodable) for _, event, _ in found) else []


def _skip_blank(text: str, at: int) -> int:
    return next((i for i in itertools.count(at) if i >= len(text) or text[i] not in " \t\r\n"), at)


def _item(value: Any, *, size: int | None = None) -> Item:
    if not isinstance(value, dict) or too_deep(value):
        return None, document(value), value
    wrapper = value.get("data") if "specversion" in value else value
    if isinstance(wrapper, dict) and "data" in wrapper and not isinstance(wrapper.get("message"), dict):
        wrapper = {"message": wrapper}  # a bare PubsubMessage
    if isinstance(wrapper, dict) and isinstance(wrapper.get("message"), dict):
        delivery, event, payload = envelope.message(wrapper, fallback_id=_digest(value))
        return delivery, event, value if payload is None else payload
    if size is None or size > MAX_ENTRY:  # as printed; what counts is the compact form, as it travels
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if size > MAX_ENTRY:
        return None, Undecodable("too_large", f"{size} bytes, the limit is {MAX_ENTRY}"), value
    return None, document(value), value


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True).encode()
    return "h-" + hashlib.sha256(canonical).hexdigest()[:32]
