"""Whatever arrives, decode answers with a value that every later stage can bear."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.unit.corpus import names, value

from logmend.model.values import Delivery, Incident, InstanceRef, LogEntry, Tick, Undecodable, Verdict
from logmend.stages import decode, identify
from logmend.stages.decode import envelope, lines, payload

REASONS = {"malformed", "no_data", "too_large", "not_an_event"}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = [value("entries", name) for name in names("entries")]
INCIDENTS = [value("incidents", name) for name in names("incidents")]
HEADERS = st.dictionaries(
    st.sampled_from(["ce-type", "CE-ID", "content-type", "x"]),
    st.sampled_from(["google.cloud.pubsub.topic.v1.messagePublished", "application/cloudevents+json", ""]),
)


def bearable(event: object) -> None:
    """Assert what later stages rely on: known reasons, typed fields, text that can be encoded."""
    match event:
        case Undecodable(reason, detail):
            assert reason in REASONS
            assert detail
        case LogEntry():
            assert json.dumps(event.raw, ensure_ascii=False).encode() is not None
            assert all(each.encode() is not None for each in event.texts)
            assert all(isinstance(part, str) for pair in event.resource_labels.items() for part in pair)
            assert all(t is None or t.tzinfo is not None for t in (event.timestamp, event.line_time))
            assert isinstance(identify.event(event), InstanceRef | Verdict)
        case Incident():
            assert event.state == event.state.lower()
            assert isinstance(identify.event(event), InstanceRef | Verdict)
        case _:
            assert event == Tick()


@given(st.binary(max_size=2000), HEADERS)
def test_any_bytes_give_a_delivery_and_an_event_or_a_reason(body: bytes, headers: dict[str, str]) -> None:
    """No body and no header makes decode raise."""
    delivery, event = decode.request(body, headers)
    assert isinstance(delivery, Delivery)
    assert delivery.message_id
    bearable(event)


@given(st.binary(max_size=500), VALUES, VALUES)
def test_any_message_gives_a_delivery_and_an_event_or_a_reason(
    data: bytes, attributes: Any, other: Any
) -> None:
    """Nor does any data in a proper message, or anything improper beside it."""
    message = {"data": base64.b64encode(data).decode(), "attributes": attributes, "messageId": other}
    body = json.dumps({"message": message, "deliveryAttempt": other, "subscription": other}).encode()
    delivery, event = decode.request(body, {})
    assert "/" not in delivery.message_id
    bearable(event)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Return a fixture of which some parts are replaced by anything at all."""
    raw = json.loads(json.dumps(draw(st.sampled_from(ENTRIES + INCIDENTS))))
    for _ in range(draw(st.integers(0, 3))):
        at: Any = raw
        while True:
            key = draw(st.sampled_from(sorted(at)))
            if isinstance(at[key], dict) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            at[key] = draw(VALUES)
            break
    return raw


@examples(300)
@given(damaged())
def test_a_damaged_document_is_read_or_refused_but_never_raises(raw: Any) -> None:
    """Every field of a real payload may hold anything."""
    bearable(decode.document(raw))
    body = json.dumps({"message": {"data": base64.b64encode(json.dumps(raw).encode()).decode()}}).encode()
    bearable(decode.request(body, {})[1])


@given(st.binary(max_size=2000))
def test_any_file_gives_at_least_one_item(text: bytes) -> None:
    """A command always has something to say about a file."""
    items = decode.any_shape(text)
    assert items
    for _, event, _ in items:
        bearable(event)


@given(
    st.lists(st.sampled_from([*(json.dumps(e) for e in ENTRIES[:5]), "oops", "{", "", "[1", "]"]), max_size=6)
)
def test_broken_lines_never_swallow_what_was_read_before(parts: list[str]) -> None:
    """Each whole entry before the first broken line comes out, in order."""
    whole = []
    for part in parts:
        if not part.startswith('{"'):
            break
        whole.append(json.loads(part))
    found = [
        raw for _, event, raw in decode.any_shape("\n".join(parts).encode()) if isinstance(event, LogEntry)
    ]
    assert found[: len(whole)] == whole


@given(st.text())
def test_unescaping_undoes_the_consoles_escaping(text: str) -> None:
    """Whatever the serial console spells out comes back as it was."""
    spelled = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in text.encode()
    )
    assert lines.unescape(spelled) == text


@given(st.text(), st.none() | st.text(max_size=10), st.booleans())
def test_any_text_makes_a_line(text: str, program: str | None, escaped: bool) -> None:
    """A line is never longer than its text by more than its program, so that memory stays bounded."""
    line = lines.read(text, program=program, escaped=escaped)
    assert len(line.text) <= len(text) + len(program or "") + 2


JSON_TEXTS = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    ),
    VALUES,
    st.booleans(),
    st.none() | st.just(1),
)
SPELLINGS = st.sampled_from(
    [
        b'"\\ud83d\\ude00"',
        b'"\\ud800"',
        b"-0",
        b"1e5",
        b"1E400",
        b"-0.0",
        b"9" * 25,
        b"9" * 5000,
        b"NaN",
        b'{"a":1,"a":2}',
        b"\xef\xbb\xbf1",
        b'"\\/\\u007f\x7f"',
        b'"\xed\xa0\x80"',
        b"[1,]",
        b"01",
        b"1 2",
        b" ",
    ]
)


@examples(400)
@given(JSON_TEXTS | SPELLINGS, st.integers(0, 400), st.binary(max_size=2))
def test_the_fast_reader_reads_what_the_careful_one_does(text: bytes, at: int, put: bytes) -> None:
    """Whole and with bytes put in: msgspec never accepts what json refuses, nor reads it as anything else."""
    for each in (text, text[:at] + put + text[at:], text[:at] + put + text[at + len(put) :]):
        assert repr(payload.loads(each)) == repr(payload._loads(each))


@given(st.binary(min_size=1, max_size=40), st.text("ABCxyz019+/-_= \n\0é\ud800", max_size=12))
def test_data_is_read_in_either_alphabet_padded_or_not_and_else_is_malformed(data: bytes, text: str) -> None:
    """The quick way takes nothing that the other one would not, and takes it for the same bytes."""
    for spelled in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert envelope._base64(spelled) == envelope._base64(spelled.rstrip("=")) == data
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    if re.fullmatch(r"[A-Za-z0-9+/]*", standard) and len(standard) % 4 != 1:
        assert envelope._base64(text) == base64.b64decode(standard + "=" * (-len(standard) % 4))
    else:
        with pytest.raises(ValueError):
            envelope._base64(text)


@examples(500)
@given(
    st.sampled_from(["2026-03-01T23:59:59.123456789Z", "2026-12-31T00:00:00.120Z", "0001-01-01T00:00:00.1Z"]),
    st.lists(st.tuples(st.integers(0, 29), st.sampled_from([*"09-:.,TZ+ W٣\0", ""])), max_size=2),
)
def test_a_time_is_read_alike_however_its_letters_are_written(
    text: str, changes: list[tuple[int, str]]
) -> None:
    """What is read the short way, as Google writes it, is what the general form says, or nothing in both."""
    for at, char in changes:
        text = text[:at] + char + text[at + 1 :]
    assert payload.instant(text) == payload.instant(text[:10] + text[10:].lower())
