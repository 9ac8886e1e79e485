"""Documents in files and streams, in the shapes in which operators have them."""

import base64
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.corpus import names, text, value

from logmend.model.values import LogEntry, Tick, Undecodable
from logmend.stages import decode
from logmend.stages.decode.payload import scan

ENTRY: dict[str, Any] = value("entries", "ops_agent_syslog_rfc3164")
LINE = json.dumps(ENTRY).encode()


def kinds(items: list[Any]) -> list[str]:
    """Return the class of each event, or its reason where it is none."""
    return [e.reason if isinstance(e, Undecodable) else type(e).__name__ for _, e, _ in items]


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (LINE, ["LogEntry"]),
        (b"\xef\xbb\xbf" + LINE, ["LogEntry"]),
        (LINE.decode().encode("utf-16"), ["LogEntry"]),
        (json.dumps(ENTRY, indent=2).encode(), ["LogEntry"]),
        (json.dumps([ENTRY, ENTRY], indent=2).encode(), ["LogEntry", "LogEntry"]),
        (LINE + b"\n" + LINE + b"\n\n", ["LogEntry", "LogEntry"]),
        (LINE + b"\r\n" + LINE + b"\r\n", ["LogEntry", "LogEntry"]),
        (json.dumps(ENTRY, indent=2).encode() * 2, ["LogEntry", "LogEntry"]),
        (LINE + b"\noops, cut\n" + LINE, ["LogEntry", "malformed", "LogEntry"]),
        (b'{"logmend": "tick"}', ["Tick"]),
        (b"[]", ["no_data"]),
        (b"", ["no_data"]),
        (b"\n", ["no_data"]),
        (b"---\nlogName: projects/p/logs/l\n", ["malformed"]),
        (b"\x00\x01\x02", ["malformed"]),
        (b"[" * 100_000, ["malformed"]),
        (b"[1, {}]", ["not_an_event", "not_an_event"]),
    ],
    ids=lambda each: repr(each[:30]) if isinstance(each, bytes) else ",".join(each),
)
def test_a_file_may_have_any_shape(shape: bytes, wanted: list[str]) -> None:
    """LogEntry, array, JSON lines, pretty-printed, with a mark or in UTF-16: each document is one item."""
    assert kinds(decode.any_shape(shape)) == wanted


@pytest.mark.parametrize("name", names("pushes"))
def test_a_push_body_in_a_file_is_what_it_is_as_a_request(name: str) -> None:
    """Explaining a message says what the function would make of it, wherever that is a message at all."""
    [(delivery, event, raw)] = decode.any_shape(text("pushes", name))
    sent, wanted = decode.request(text("pushes", name), {})
    if name == "payload_unwrapped":  # as a file it is a plain LogEntry
        assert (delivery, type(event)) == (None, LogEntry)
    elif isinstance(wanted, Undecodable):
        assert isinstance(event, Undecodable)
    else:
        assert event == wanted
        assert delivery is not None
        assert delivery.publish_time == sent.publish_time
        assert sent.message_id.startswith("h-") or delivery.message_id == sent.message_id
        assert raw == getattr(wanted, "raw", {"logmend": "tick"})


def test_what_gcloud_pulls_from_a_dead_letter_subscription_is_read() -> None:
    """An array of received messages, each with its acknowledgement id."""
    data = base64.b64encode(LINE).decode()
    message = {"data": data, "messageId": "31", "publishTime": "2026-07-08T13:36:02Z", "attributes": {}}
    pulled = [{"ackId": "RVNEUA", "deliveryAttempt": 6, "message": message}, {"ackId": "x", "message": {}}]
    first, second = decode.any_shape(json.dumps(pulled).encode())
    assert first[0] is not None
    assert (first[0].message_id, first[0].delivery_attempt) == ("31", 6)
    assert first[2] == ENTRY
    assert kinds([first, second]) == ["LogEntry", "no_data"]
    assert kinds(decode.any_shape(json.dumps(message).encode())) == ["LogEntry"]


def test_an_entry_over_the_limit_is_told_by_its_compact_size() -> None:
    """Pretty-printing may not push an entry over a limit under which it travels."""
    many = {str(n): n for n in range(36_000)}
    fits = {"logName": "projects/p-1/logs/l", "jsonPayload": many}
    assert len(json.dumps(fits, indent=8)) > decode.MAX_ENTRY > len(json.dumps(fits, separators=(",", ":")))
    assert kinds(decode.any_shape(json.dumps(fits, indent=8).encode())) == ["LogEntry"]
    over = fits | {"textPayload": "x" * decode.MAX_ENTRY}
    assert kinds(decode.any_shape(json.dumps([over, ENTRY]).encode())) == ["too_large", "LogEntry"]


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        (b"", []),
        (b" \n", []),
        (b"[]", []),
        (json.dumps([ENTRY] * 3, indent=2).encode(), ["LogEntry"] * 3),
        (b"\xef\xbb\xbf\n " + json.dumps([ENTRY]).encode(), ["LogEntry"]),
        ((LINE + b"\n") * 3, ["LogEntry"] * 3),
        (LINE + b"\n{oops\n\n" + LINE, ["LogEntry", "malformed", "LogEntry"]),
        (b"oops\n" + LINE, ["malformed", "LogEntry"]),
        (json.dumps(ENTRY, indent=2).encode() * 3, ["LogEntry"] * 3),
        (b"[" + LINE + b", {]", ["LogEntry", "malformed"]),
        (b"[" + LINE, ["LogEntry", "malformed"]),
        (b"[" * 50_000, ["malformed"]),
        (b'{"logmend": "tick"}', ["Tick"]),
    ],
    ids=lambda each: repr(each[:30]) if isinstance(each, bytes) else ",".join(each),
)
def test_a_stream_is_read_document_by_document(stream: bytes, wanted: list[str]) -> None:
    """An array, JSON lines or documents in a row; what is broken is one item and hides nothing before it."""
    assert kinds(list(decode.entries(io.BytesIO(stream)))) == wanted


class Endless(io.RawIOBase):
    """A stream that makes its text on the way, so that only the reader can hold memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._pieces, b"")
        piece, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def lines(count: int) -> Iterator[bytes]:
    """Yield JSON lines."""
    return (LINE + b"\n" for _ in range(count))


def array(count: int) -> Iterator[bytes]:
    """Yield a pretty-printed array."""
    yield b"["
    for n in range(count):
        yield (b",\n  " if n else b"\n  ") + LINE
    yield b"\n]"


@pytest.mark.parametrize("make", [lines, array])
def test_memory_does_not_grow_with_the_stream(make: Any) -> None:
    """Five thousand entries need no more than a few: a million fit on any workstation."""
    tracemalloc.start()
    try:
        stream = io.BufferedReader(Endless(make(5_000)))
        assert sum(isinstance(event, LogEntry) for _, event, _ in decode.entries(stream)) == 5_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_a_line_without_end_is_passed_over() -> None:
    """One absurd line costs its own memory limit and nothing of what follows."""
    pieces = iter([b'{"a": "', *[b"x" * 2**20] * 30, b'"}\n', b'{"logmend": "tick"}\n'])
    found = [event for _, event, _ in decode.entries(io.BufferedReader(Endless(pieces)))]
    assert isinstance(found[0], Undecodable)
    assert found[0].reason == "too_large"
    assert found[1:] == [Tick()]


BROKEN = {
    "short lines": b"{x\n",
    "objects that nest and never end": b'{"a":\n',
    "arrays that nest and never end": b'{"a":[{},\n',
    "strings that never end": b'{"a":"\n',
    "half surrogates": b'{"\\ud83d\n',
    "long lines": b'{"a":[' + b"0," * 2000 + b"\n",
    "deep lines": b'{"a":' * 50 + b"\n",
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_a_file_of_broken_lines_costs_a_few_looks_at_each_character(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted is what the parser reads; where it fails, it counts lines up to there: no square of them."""
    read = []

    def counted(text: str) -> Any:
        value, end, cut_off = scan(text)
        read.append(end)
        return value, end, cut_off

    monkeypatch.setattr("logmend.stages.decode.stream.scan", counted)
    size = 400_000
    good = b'\n{"logName": "projects/p/logs/l"}\n'
    found = list(decode.entries(io.BytesIO(line * (size // len(line)) + good)))
    assert [kind for kind in kinds(found) if kind != "malformed"] == ["LogEntry"], (
        "what is good is still found"
    )
    assert sum(read) < 20 * size


def test_a_value_over_many_lines_is_found_behind_a_broken_one() -> None:
    """Patience lasts for what really happens: a file cut off, another written behind it."""
    entry = json.dumps({"logName": "projects/p/logs/l", "textPayload": "x" * 50_000}, indent=2)
    text = "\n".join([entry[:40_000], *[entry] * 20, "{", entry]).encode()
    assert kinds(list(decode.entries(io.BytesIO(text)))).count("LogEntry") == 21
