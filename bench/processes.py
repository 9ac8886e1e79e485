"""The processes that are measured: the function as it is deployed, a no-op beside it, and what they cost.

The function runs from a copy of ``functions/`` with compiled bytecode, as after the platform's build. Every
process has its own process group, which is killed at the end.
"""

import base64
import compileall
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT = 60.0

NOOP = """
import functions_framework.aio
from starlette.requests import Request
from starlette.responses import JSONResponse
{imports}

@functions_framework.aio.http
async def remediate(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({{"result": "nothing"}})
"""
"""The least that a function can be: it reads the body and answers with JSON."""

SOAKED = """
import asyncio, threading
import functions_framework.aio
from starlette.responses import JSONResponse
import main

@functions_framework.aio.http
async def remediate(request):
    if request.url.path == "/bench":
        return JSONResponse({"tasks": len(asyncio.all_tasks()), "threads": threading.active_count()})
    return await main.remediate(request)
"""
"""The function, and a path that returns how many tasks and threads there are."""


@functools.cache
def _workshop() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="logmend-bench-"))
    source = folder / "functions"
    shutil.copytree(ROOT / "functions", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (source / "soaked.py").write_text(SOAKED)
    compileall.compile_dir(source, quiet=2)
    return folder


def workshop() -> Path:
    """Return the run's folder; ``functions`` in it is the compiled copy."""
    return _workshop()


def clean() -> None:
    """Remove the run's folder."""
    if _workshop.cache_info().currsize:
        shutil.rmtree(_workshop(), ignore_errors=True)


def ours(name: str = "main.py") -> Path:
    """Return the path of the function's source."""
    return workshop() / "functions" / name


def noop(imports: str = "") -> Path:
    """Write a no-op that also has these imports; return the path of its source."""
    name = "noop-" + (imports.replace("import ", "").replace("\n", "-").replace(".", "_") or "bare")
    folder = workshop() / name[:100]
    folder.mkdir(exist_ok=True)
    source = folder / "main.py"
    source.write_text(NOOP.format(imports=imports))
    return source


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return an environment with only these ``LOGMEND_*`` settings, and bytecode as on the platform."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOGMEND_", "K_", "PYTHON"))}
    return kept | {f"LOGMEND_{name.upper()}": str(value) for name, value in settings.items()}


def beside(source: Path = ROOT / "functions") -> dict[str, str]:
    """Return an environment that imports this package from this repository, and logmend from ``source``."""
    return environment({}) | {"PYTHONPATH": f"{source}:{ROOT}"}


def alone(module: str, *words: object, timeout: float, source: Path = ROOT / "functions") -> Any:
    """Run a benchmark's module as a process, with logmend from ``source``; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=timeout,
        env=beside(source),
    )
    return json.loads(done.stdout)


@dataclass(frozen=True, slots=True)
class Served:
    """A running function. ``started`` is a time of ``time.perf_counter``."""

    process: subprocess.Popen[bytes]
    port: int
    started: float

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/"

    def worker(self) -> int:
        """Return the process that answers: gunicorn's only worker."""
        return int(subprocess.check_output(["pgrep", "-P", str(self.process.pid)]).split()[0])

    def cpu(self) -> float:
        """Return the seconds of CPU that the worker has used."""
        fields = Path(f"/proc/{self.worker()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field: str = "VmRSS") -> float:
        """Return the worker's memory in MiB; ``VmHWM`` is its peak."""
        return memory(self.worker(), field)

    def descriptors(self) -> int:
        """Return the number of the worker's open files."""
        return len(list(Path(f"/proc/{self.worker()}/fd").iterdir()))


def memory(process: int | str, field: str = "VmRSS") -> float:
    """Return a process's memory in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


@contextlib.contextmanager
def served(source: Path, **settings: object) -> Iterator[Served]:
    """Run a function for as long as the context lasts, as Cloud Run starts it. It may not answer yet."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "functions_framework",
        "--target=remediate",
        f"--source={source}",
        "--host=127.0.0.1",
        f"--port={port}",
    ]
    with Path(os.devnull).open("wb") as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment(settings),
            start_new_session=True,
        )
    try:
        yield Served(process, port, started)
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, body: bytes, *, path: str = "/") -> tuple[int, dict[str, Any]]:
    """Post a body, trying every two milliseconds until there is an answer; return its status and JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    ends = time.monotonic() + START_LIMIT
    while time.monotonic() < ends:
        with contextlib.suppress(OSError):
            answer = _exchange(port, head.encode() + body)
            if answer:
                top, _, said = answer.partition(b"\r\n\r\n")
                return int(top.split()[1]), json.loads(said or b"{}")
        time.sleep(0.002)
    raise AssertionError(f"nobody answers on port {port}")


def _exchange(port: int, request: bytes) -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=START_LIMIT) as link:
        link.sendall(request)
        while chunk := link.recv(65536):
            answer += chunk
    return answer


def push(document: Mapping[str, Any], message_id: str) -> bytes:
    """Return the body with which Pub/Sub pushes a document."""
    data = base64.b64encode(json.dumps(document).encode()).decode()
    message = {
        "data": data,
        "messageId": message_id,
        "publishTime": datetime.now(UTC).isoformat(),
        "attributes": {},
    }
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()
