"""An ``asyncio.Transport`` over one WebSocket to the relay."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from logmend.adapters.ssh.iap import closing
from logmend.adapters.ssh.iap.frames import MAX_DATA
from logmend.adapters.ssh.iap.session import RelaySession
from logmend.errors import Permanent, Transient

HIGH_WATER = 8 * MAX_DATA
LOW_WATER = 2 * MAX_DATA


class RelayTransport(asyncio.Transport):
    """Carries one protocol's bytes. The tunnel creates it after the relay has reached the VM's port.

    One supervisor runs a reader task and a writer task. It ends both, reports to the protocol exactly once,
    and closes the WebSocket. ``connection_lost`` gets None after our own ``close`` or ``abort``, otherwise a
    Transient or Permanent.

    ``abort`` differs from asyncio's in one way: it too tries to send what was written, for at most
    ``close_timeout`` seconds. asyncssh writes its disconnect message and aborts at once; dropping that
    message would leave an error in every VM's log.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        session: RelaySession,
        protocol: asyncio.Protocol,
        *,
        close_timeout: float,
        extra: Mapping[str, object],
        on_lost: Callable[[Transient | Permanent], None],
    ) -> None:
        super().__init__(extra=dict(extra))
        self._websocket = websocket
        self._session = session
        self._protocol: asyncio.Protocol = protocol
        self._close_timeout = close_timeout
        self._on_lost = on_lost
        self._outgoing = bytearray()
        self._high, self._low = HIGH_WATER, LOW_WATER
        self._writing_paused = False
        self._closing = False
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._loop = asyncio.get_running_loop()
        self._reader = self._loop.create_task(self._read(), name="iap-reader")
        self._writer = self._loop.create_task(self._write(), name="iap-writer")
        self.ended = self._loop.create_task(self._supervise(), name="iap-transport")
        """Done when the connection's tasks, socket and callbacks have all ended."""

    # Called by the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes. Once the transport is closing they are silently dropped, as in asyncio's own."""
        if self._closing or not data:
            return
        self._outgoing += data
        self._wake.set()
        if len(self._outgoing) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Return False: the protocol cannot half-close."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes written but not yet passed to the WebSocket."""
        return len(self._outgoing)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and high water marks, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks, in bytes, at which the protocol is paused and resumed."""
        high = HIGH_WATER if high is None else high
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"0 <= {low} <= {high} does not hold")
        self._low, self._high = low, high

    def pause_reading(self) -> None:
        """Read nothing more from the relay. The queue below stays small: TCP holds the sender back."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._may_read.set()

    def is_reading(self) -> bool:
        """Return whether bytes are being delivered."""
        return self._may_read.is_set() and not self._closing

    def is_closing(self) -> bool:
        """Return whether either side has begun to close."""
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError(f"{type(protocol).__name__} is no asyncio.Protocol")
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol in charge."""
        return self._protocol

    def close(self) -> None:
        """Send what was written, then close, all within ``2 * close_timeout`` seconds."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._loop.call_later(self._close_timeout, self._writer.cancel)

    def abort(self) -> None:
        """Do the same as ``close``; see the class."""
        self.close()

    # The tasks

    async def _read(self) -> None:
        """Deliver data until the connection ends. Never returns; always raises."""
        while True:
            await self._may_read.wait()
            payload = self._session.receive(await self._websocket.recv())
            if self._session.ack_due:
                self._wake.set()
            if payload and not self._closing:
                self._protocol.data_received(payload)

    async def _write(self) -> None:
        """Send acknowledgements and data. Returns when the transport is closing and everything is sent."""
        while not (self._closing and not self._outgoing):
            await self._wake.wait()
            self._wake.clear()
            while self._session.ack_due or self._outgoing:
                if self._session.ack_due:
                    await self._websocket.send(self._session.ack())
                if self._outgoing:
                    payload = bytes(self._outgoing[:MAX_DATA])
                    del self._outgoing[:MAX_DATA]
                    await self._websocket.send(self._session.data(payload))
                if self._writing_paused and len(self._outgoing) <= self._low:
                    self._writing_paused = False
                    self._protocol.resume_writing()

    async def _supervise(self) -> None:
        try:
            await asyncio.wait({self._reader, self._writer}, return_when=asyncio.FIRST_COMPLETED)
            if not self._closing and not self._reader.done():
                # Sending failed, so the connection is ending: the reader gets the last data and close code.
                await asyncio.wait({self._reader}, timeout=self._close_timeout)
            error = None if self._closing else self._failure()
            self._closing = True
            if error is not None:
                self._on_lost(error)
            self._protocol.connection_lost(error)
        finally:
            for task in (self._reader, self._writer):
                task.cancel()
            await asyncio.gather(self._reader, self._writer, return_exceptions=True)
            await shut(self._websocket, self._close_timeout)

    def _failure(self) -> Transient | Permanent:
        """Return why it ended. The reader's error is preferred: it saw the last message and close code."""
        failures = [
            failure
            for task in (self._reader, self._writer)
            if task.done() and not task.cancelled() and (failure := task.exception()) is not None
        ]
        failure = failures[0] if failures else ConnectionResetError("the connection ended")
        return closing.classify(failure, connected=self._session.connected)


async def shut(websocket: ClientConnection, timeout: float) -> None:  # noqa: ASYNC109  # it never raises
    """Close politely within ``timeout`` seconds, then by force. Cancelling it closes by force at once."""
    try:
        with suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(timeout):
                await websocket.close()
    finally:
        websocket.transport.abort()
        # The loop calls connection_lost in its next iteration, without waiting for the peer.
        await websocket.wait_closed()
