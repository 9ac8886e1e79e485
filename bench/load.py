"""A loader in its own process: a bounded number of keep-alive connections that post bodies.

``python -m bench.load PORT CONNECTIONS < BODIES`` reads one body a line, posts each once, and prints a JSON
object with ``seconds`` and how often each ``status result`` was answered.
"""

import asyncio
import collections
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.processes import ROOT, beside

LIMIT = 300.0


def load(port: int, bodies: Sequence[bytes], connections: int = 16) -> dict[str, Any]:
    """Post every body; return what the loader measured."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", str(port), str(connections)],
        cwd=ROOT,
        env=beside(),
        input=b"\n".join(bodies),
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def _run(port: int, connections: int, bodies: list[bytes]) -> None:
    said: collections.Counter[str] = collections.Counter()
    waiting = iter(bodies)

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            writer.write(
                b"POST / HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            low = head.lower()
            size = int(low.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            answer = json.loads(await reader.readexactly(size) or b"{}")
            reason = answer.get("reason")
            said[f"{head[9:12].decode()} {answer.get('result')}" + (f": {reason}" if reason else "")] += 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    print(json.dumps({"seconds": time.perf_counter() - started, "said": said}))


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer.read().splitlines()))
