"""The real function process, as functions-framework serves it, on loopback."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import logmend
from logmend.errors import ConfigError
from logmend_cli.pretend.fleet import free_port

SOURCE = Path(logmend.__file__).parent / "function.py"
START_TRIES = 600


@asynccontextmanager
async def serving(settings: Mapping[str, str], log: Path, *, port: int | None = None) -> AsyncIterator[str]:
    """Run the function with only these ``LOGMEND_*`` settings while the context lasts; yield its URL.

    It has its own process group, which ends with it. Raises ``ConfigError`` with the end of ``log`` if it
    does not start.
    """
    port = port or free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOGMEND_", "K_"))}
    command = ["-m", "functions_framework", "--target=remediate", f"--source={SOURCE}",
               "--host=127.0.0.1", f"--port={port}"]  # fmt: skip
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
            env=kept | dict(settings), start_new_session=True,
        )  # fmt: skip
    try:
        await _answering(process, port, log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        await _ended(process)


async def _answering(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    for _ in range(START_TRIES):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if process.returncode is not None:
            break
        await asyncio.sleep(0.05)
    said = (await asyncio.to_thread(log.read_text, errors="replace"))[-2000:]
    raise ConfigError([f"the function did not start: {said or 'it printed nothing'}"])


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 5)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
