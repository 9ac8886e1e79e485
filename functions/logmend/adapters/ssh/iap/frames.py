"""Encode and decode the messages of relay protocol v4. Pure.

One frame per binary WebSocket message, big-endian: a 16-bit tag and a body.

=======  ==========================  ==============================  ==================
tag      frame                       body                            who sends it
=======  ==========================  ==============================  ==================
0x0001   :class:`ConnectSuccess`     u32 length, session id          relay, first
0x0002   :class:`ReconnectSuccess`   u64 bytes that had arrived      relay, first
0x0004   :class:`Data`               u32 length, at most 16,384 B    both
0x0007   :class:`Ack`                u64 total bytes received        both
0x000A   :class:`LongClose`          u32 code, u32 length, UTF-8     relay, last
=======  ==========================  ==============================  ==================

Unknown tags are skipped and bytes after a frame are dropped, as Google's client does.
"""

import struct
from enum import IntEnum

from logmend.model.struct import Struct

MAX_DATA = 16_384
"""The most bytes in one DATA frame."""

MAX_MESSAGE = 4 * MAX_DATA
"""The most bytes of a message that are read. Only the SID and a reason have no limit of their own."""


class Tag(IntEnum):
    """Kind of a frame."""

    CONNECT_SUCCESS_SID = 0x0001
    RECONNECT_SUCCESS_ACK = 0x0002
    DATA = 0x0004
    ACK = 0x0007
    LONG_CLOSE = 0x000A


class FrameError(ValueError):
    """A message that is not a valid frame."""


class ConnectSuccess(Struct, frozen=True):
    """The relay has reached the VM's port. ``sid`` identifies the session for reconnecting."""

    sid: bytes


class ReconnectSuccess(Struct, frozen=True):
    """The relay has found the session again; it had received this many bytes."""

    received: int


class Data(Struct, frozen=True):
    """Bytes of the tunnelled stream."""

    payload: bytes


class Ack(Struct, frozen=True):
    """The number of bytes that the sender of this frame has received since the start."""

    received: int


class LongClose(Struct, frozen=True):
    """Why the relay is about to close; codes as in :mod:`.closing`."""

    code: int
    reason: str


Frame = ConnectSuccess | ReconnectSuccess | Data | Ack | LongClose


def encode(frame: Frame) -> bytes:
    """Return the message for a frame; FrameError if DATA is too long or a number does not fit."""
    try:
        match frame:
            case ConnectSuccess(sid):
                return struct.pack(">HI", Tag.CONNECT_SUCCESS_SID, len(sid)) + sid
            case ReconnectSuccess(received):
                return struct.pack(">HQ", Tag.RECONNECT_SUCCESS_ACK, received)
            case Data(payload):
                if len(payload) > MAX_DATA:
                    raise FrameError(f"{len(payload)} bytes do not fit in one frame")
                return struct.pack(">HI", Tag.DATA, len(payload)) + payload
            case Ack(received):
                return struct.pack(">HQ", Tag.ACK, received)
            case LongClose(code, reason):
                text = reason.encode()
                return struct.pack(">HII", Tag.LONG_CLOSE, code, len(text)) + text
    except struct.error as exc:
        raise FrameError(str(exc)) from exc


def decode(message: bytes) -> Frame | None:
    """Return a message's frame; None for an unknown tag, FrameError if it is truncated or too long."""
    (tag,) = _unpack(">H", message, 0)
    match tag:
        case Tag.CONNECT_SUCCESS_SID:
            return ConnectSuccess(_array(message, 2))
        case Tag.RECONNECT_SUCCESS_ACK:
            return ReconnectSuccess(*_unpack(">Q", message, 2))
        case Tag.DATA:
            payload = _array(message, 2)
            if len(payload) > MAX_DATA:
                raise FrameError(f"DATA of {len(payload)} bytes, {MAX_DATA} are allowed")
            return Data(payload)
        case Tag.ACK:
            return Ack(*_unpack(">Q", message, 2))
        case Tag.LONG_CLOSE:
            (code,) = _unpack(">I", message, 2)
            return LongClose(code, _array(message, 6).decode(errors="replace"))
        case _:
            return None


def _unpack(form: str, message: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, message, offset)
    except struct.error:
        raise FrameError(f"message of {len(message)} bytes is cut short") from None


def _array(message: bytes, offset: int) -> bytes:
    (length,) = _unpack(">I", message, offset)
    end = offset + 4 + length
    if end > len(message):
        raise FrameError(f"{length} bytes announced, {len(message) - offset - 4} came")
    return message[offset + 4 : end]
