"""State of one connection to the relay: allowed messages, byte counts, acknowledgements. No I/O."""

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
    """Pass it every message, and send what it returns. Errors are Transient or Permanent; both are final."""

    def __init__(self) -> None:
        self.sid: bytes | None = None
        self.received = 0
        self.acknowledged = 0
        self.sent = 0
        self.confirmed = 0

    @property
    def connected(self) -> bool:
        """Return whether the relay has reached the VM's port; only then may data be sent."""
        return self.sid is not None

    @property
    def ack_due(self) -> bool:
        """Return whether enough bytes have arrived to acknowledge them."""
        return self.received - self.acknowledged > ACK_AFTER

    def receive(self, message: bytes | str) -> bytes:
        """Process a message. Return the application's bytes, empty if it is any other frame."""
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
                pass  # a tag of a later version
        return b""

    def data(self, payload: bytes) -> bytes:
        """Return the message for at most ``MAX_DATA`` bytes, and count them as sent."""
        self.sent += len(payload)
        return encode(Data(payload))

    def ack(self) -> bytes:
        """Return the message that acknowledges everything received."""
        self.acknowledged = self.received
        return encode(Ack(self.received))

    def _confirm(self, received: int) -> None:
        """Check what the relay says it received. Nothing is kept for resending: sessions are not resumed."""
        if not self.connected:
            raise closing.violation("ACK before CONNECT_SUCCESS_SID")
        if not self.confirmed <= received <= self.sent:
            raise closing.violation(
                f"ACK of {received}, {self.sent} were sent, {self.confirmed} confirmed before"
            )
        self.confirmed = received
