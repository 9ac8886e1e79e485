"""Proxies that add latency between processes of one machine: each byte arrives a while later.

``python -m bench.delays PORT=MILLISECONDS…`` listens for each on a port of its own, prints the ports as a
JSON list, and serves until its input ends. A connection is passed on to the port at the address that was
dialled: one proxy serves every address of 127.0.0.0/8. The milliseconds are a round trip, and connecting
takes as long.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator

from bench.processes import ROOT, beside, end


@contextlib.contextmanager
def away(**places: tuple[int, float]) -> Iterator[dict[str, int]]:
    """Put each port that many milliseconds away; yield the ports of the proxies."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.delays", *(f"{port}={delay}" for port, delay in places.values())],
        cwd=ROOT,
        env=beside(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield dict(zip(places, json.loads(process.stdout.readline()), strict=True))
    finally:
        end(process)


class _End(asyncio.Protocol):
    """One end of a connection: what it receives leaves at the other end, later."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.link: asyncio.Transport | None = None
        self.other: _End | None = None
        self._due: deque[bytes | None] = deque()
        self._early: list[bytes | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.link = transport

    def data_received(self, data: bytes) -> None:
        """Pass the data on, later."""
        self._later(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Close the other end, later."""
        self._later(None)

    def joined(self, other: "_End") -> None:
        """Pass data on to the other end from now on, beginning with what has already come."""
        self.other, early, self._early = other, self._early, []
        for each in early:
            self._later(each)

    def _later(self, data: bytes | None) -> None:
        if self.other is None:
            self._early.append(data)
            return
        self._due.append(data)
        asyncio.get_running_loop().call_later(self.delay, self._pass)

    def _pass(self) -> None:
        data = self._due.popleft()  # in order, though timers of one moment are not
        assert self.other is not None
        link = self.other.link
        if link is None or link.is_closing():
            return
        if data is None:
            link.close()
        else:
            link.write(data)


async def _listen(port: int, delay: float) -> int:
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    class Dialled(_End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(self._dial(transport))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def _dial(self, transport: asyncio.BaseTransport) -> None:
            await asyncio.sleep(2 * self.delay)
            where = transport.get_extra_info("sockname")[0]
            try:
                _, far = await loop.create_connection(lambda: _End(delay), where, port)
            except OSError:
                transport.close()
                return
            far.joined(self)
            self.joined(far)

    server = await loop.create_server(lambda: Dialled(delay), "0.0.0.0", 0, backlog=1024)
    found: int = server.sockets[0].getsockname()[1]
    return found


async def _serve(words: list[str]) -> None:
    places = [word.split("=") for word in words]
    print(json.dumps([await _listen(int(port), float(delay) / 2000) for port, delay in places]), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
