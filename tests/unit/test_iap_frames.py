"""The codec and the state of the IAP relay protocol, without any I/O."""

import contextlib
import importlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_error_tables import unexpected
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidMessage
from websockets.frames import Close

from logmend.adapters import error_table
from logmend.adapters.ssh.iap import closing, frames
from logmend.adapters.ssh.iap.session import RelaySession
from logmend.errors import Permanent, Transient

U64 = st.integers(0, 2**64 - 1)
FRAMES = st.one_of(
    st.binary(max_size=frames.MAX_DATA).map(frames.Data),
    st.binary(max_size=200).map(frames.ConnectSuccess),
    U64.map(frames.Ack),
    U64.map(frames.ReconnectSuccess),
    st.builds(frames.LongClose, st.integers(0, 2**32 - 1), st.text(max_size=100)),
)


@given(FRAMES, st.binary(max_size=10))
def test_every_frame_survives_the_wire_and_bytes_after_it_are_dropped(
    frame: frames.Frame, rest: bytes
) -> None:
    """Decoding what was encoded gives the same frame."""
    assert frames.decode(frames.encode(frame) + rest) == frame


@given(FRAMES, st.data())
def test_a_message_cut_anywhere_is_an_error(frame: frames.Frame, data: st.DataObject) -> None:
    """No cut is mistaken for a shorter frame."""
    message = frames.encode(frame)
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(frames.FrameError):
        frames.decode(message[:cut])


@given(st.binary(max_size=100))
def test_no_message_raises_anything_but_a_frame_error(message: bytes) -> None:
    """Whatever bytes come, the decoder answers or says that it is no frame."""
    with contextlib.suppress(frames.FrameError):
        frames.decode(message)


def test_the_bytes_are_those_of_the_table() -> None:
    """Written out once by hand, so that encoder and decoder cannot be wrong together."""
    assert frames.encode(frames.Data(b"hi")) == bytes.fromhex("0004 00000002 6869")
    assert frames.encode(frames.Ack(70_000)) == bytes.fromhex("0007 0000000000011170")
    assert frames.encode(frames.ConnectSuccess(b"s")) == bytes.fromhex("0001 00000001 73")
    assert frames.decode(bytes.fromhex("000a 00000fa3 00000002 6e6f")) == frames.LongClose(4003, "no")
    assert frames.decode(bytes.fromhex("0042 ffff")) is None


def test_too_much_data_for_a_frame_is_refused_on_both_sides() -> None:
    """16,384 bytes fit, one more does not."""
    fits = b"x" * frames.MAX_DATA
    assert frames.decode(frames.encode(frames.Data(fits))) == frames.Data(fits)
    with pytest.raises(frames.FrameError):
        frames.encode(frames.Data(fits + b"x"))
    with pytest.raises(frames.FrameError):
        frames.decode(struct.pack(">HI", frames.Tag.DATA, len(fits) + 1) + fits + b"x")


def connected() -> RelaySession:
    session = RelaySession()
    session.receive(frames.encode(frames.ConnectSuccess(b"sid")))
    return session


def test_nothing_is_connected_before_the_session_id() -> None:
    """Only the relay's word that it reached the VM opens the way."""
    assert not RelaySession().connected
    assert connected().connected
    assert connected().sid == b"sid"


@given(st.lists(st.integers(1, frames.MAX_DATA), max_size=40))
def test_an_acknowledgement_is_due_above_two_frames_and_counts_from_the_start(sizes: list[int]) -> None:
    """Never more than 2 times 16,384 bytes stay unacknowledged, and each ACK carries the total."""
    session = connected()
    for size in sizes:
        assert session.receive(frames.encode(frames.Data(b"x" * size))) == b"x" * size
        assert session.ack_due is (session.received - session.acknowledged > 32_768)
        if session.ack_due:
            assert frames.decode(session.ack()) == frames.Ack(session.received)
            assert not session.ack_due
    assert session.received == sum(sizes)


def test_the_relay_may_confirm_what_was_sent_and_nothing_else() -> None:
    """An ACK that goes back, or beyond what was sent, is a violation."""
    session = connected()
    session.data(b"x" * 100)
    session.receive(frames.encode(frames.Ack(60)))
    session.receive(frames.encode(frames.Ack(60)))
    for total in (59, 101):
        with pytest.raises(Transient, match="iap_protocol_error"):
            session.receive(frames.encode(frames.Ack(total)))


@given(
    st.lists(st.one_of(FRAMES.map(frames.encode), st.binary(max_size=40), st.text(max_size=5)), max_size=8)
)
def test_no_sequence_of_messages_ends_in_anything_but_an_error_of_ours(messages: list[bytes | str]) -> None:
    """Whatever the other side sends, the session goes on or ends with a reason."""
    session = RelaySession()
    with contextlib.suppress(Transient, Permanent):
        for message in messages:
            session.receive(message)


@pytest.mark.parametrize("row", sorted(closing.CLOSE_CODES))
def test_every_close_code_is_in_the_documentation(row: int) -> None:
    """The table in the docstring and the table in the code are one."""
    assert closing.__doc__ is not None
    reason = closing.CLOSE_CODES[row].reason
    code = {1005: "1006", 1012: "1011-4", 1013: "1011-4", 1014: "1011-4", 1011: "1011-4"}.get(row, str(row))
    line = next(line for line in closing.__doc__.splitlines() if line.startswith(code + " "))
    assert reason in line
    assert closing.CLOSE_CODES[row].kind in line.lower()


def test_every_exception_of_the_websocket_library_has_a_row() -> None:
    """An upgrade cannot bring an exception that nobody thought about."""
    assert unexpected(("websockets",), closing.TABLE) == set()


def test_every_row_names_a_class_that_exists() -> None:
    """A misspelt or vanished class name does not sit in the table unnoticed."""
    for name in closing.TABLE:
        module, _, cls = name.rpartition(".")
        assert hasattr(importlib.import_module(module), cls), name


def gone(cause: BaseException) -> InvalidMessage:
    exc = InvalidMessage("did not receive a valid HTTP response")
    exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    ("exc", "connected", "kind", "reason"),
    [
        (ConnectionClosedError(Close(4033, "no"), None), True, Permanent, "iap_not_authorized"),
        (ConnectionClosedOK(Close(1000, ""), None), True, Transient, "connection_lost"),
        (ConnectionClosedOK(Close(1000, ""), None), False, Transient, "unreachable"),
        (ConnectionClosedError(None, None), True, Transient, "connection_lost"),
        (ConnectionClosedError(None, None), False, Transient, "unreachable"),
        (ConnectionClosedError(None, Close(1009, "too big")), True, Transient, "iap_protocol_error"),
        (gone(EOFError("ended")), False, Transient, "unreachable"),
        (gone(ValueError("HTTP/0.9")), False, Transient, "iap_protocol_error"),
        (ConnectionResetError("reset"), True, Transient, "connection_lost"),
        (ConnectionRefusedError("no"), False, Transient, "unreachable"),
        (ZeroDivisionError("a bug"), True, Transient, error_table.UNEXPECTED),
    ],
)
def test_exceptions_are_judged_by_what_was_reached_before(
    exc: Exception, connected: bool, kind: type, reason: str
) -> None:
    """The same loss means another thing before and after the VM was reached."""
    error = closing.classify(exc, connected=connected)
    assert (type(error), error.reason) == (kind, reason)


def test_an_error_of_ours_passes_unchanged() -> None:
    """What was classified once is not classified again."""
    error = Permanent("iap_not_authorized", "as it was")
    assert closing.classify(error) is error
