"""State of one connection to the relay: what may come when, byte counts, when to acknowledge. No I/O."""

from logmend.adapters.ssh.iap import closing
from logmend.adapters.ssh.iap.frames import (
    MAX_DATA,
    Ack,
    ConnectSuccess,
    Data,
    FrameError,
    LongClose,
    ReconnectSuccess,
    decode,
    encode,
)

ACK_AFTER = 2 * MAX_DATA
"""An ACK is due when more than this many received bytes are unacknowledged (as Google's client does)."""


class RelaySession:
    """Feed it every message; send what it gives. Errors are Transient or Permanent and end the connection."""

    def __init__(self) -> None:
        self.sid: bytes | None = None
        self.received = 0
        self.acknowledged = 0
        self.sent = 0
        self.confirmed = 0

    @property
    def connected(self) -> bool:
        """The relay has said that it reached the VM's port; only now may data be sent."""
        return self.sid is not None

    @property
    def ack_due(self) -> bool:
        """So much has come that the relay wants to hear of it."""
        return self.received - self.acknowledged > ACK_AFTER

    def receive(self, message: bytes | str) -> bytes:
        """Take one message in; the bytes for the application, empty for any other frame."""
        if isinstance(message, str):
            raise closing.violation("a text message")
        try:
            frame = decode(message)
        except FrameError as exc:
            raise closing.violation(str(exc)) from exc
        match frame:
            case ConnectSuccess(sid):
                if self.connected:
                    raise closing.violation("a second CONNECT_SUCCESS_SID")
                self.sid = sid
            case Data(payload):
                if not self.connected:
                    raise closing.violation("DATA before CONNECT_SUCCESS_SID")
                self.received += len(payload)
                return payload
            case Ack(received):
                self._confirm(received)
            case LongClose(code, reason):
                raise closing.from_close_code(code, reason, connected=self.connected)
            case ReconnectSuccess():
                raise closing.violation("RECONNECT_SUCCESS_ACK without a reconnect")
            case None:
                pass  # a tag from the future
        return b""

    def data(self, payload: bytes) -> bytes:
        """Message for at most ``MAX_DATA`` bytes of the application's, counted as sent."""
        self.sent += len(payload)
        return encode(Data(payload))

    def ack(self) -> bytes:
        """Message that acknowledges all that has come."""
        self.acknowledged = self.received
        return encode(Ack(self.received))

    def _confirm(self, received: int) -> None:
        """Check what the relay says it has; nothing is kept to be sent again, since nothing is resumed."""
        if not self.connected:
            raise closing.violation("ACK before CONNECT_SUCCESS_SID")
        if not self.confirmed <= received <= self.sent:
            raise closing.violation(
                f"ACK of {received}, {self.sent} were sent, {self.confirmed} confirmed before"
            )
        self.confirmed = received
