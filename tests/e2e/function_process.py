"""The real function, served by functions-framework in a process of its own, always ended.

It runs in its own process group. A shell holds that group on a leash: when the test run ends, however it
ends, the shell's input ends and the group is killed.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from logmend_cli.pretend.emulator import LEASH
from logmend_cli.pretend.fleet import free_port

MAIN = Path(__file__).parents[2] / "functions" / "main.py"
START_TIMEOUT = 150.0
"""Seconds until it must listen; a cold start on a busy machine has needed five."""
STOP_TIMEOUT, KILL_TIMEOUT = 10.0, 100.0
"""Seconds after SIGTERM and SIGKILL until its processes must be gone."""
PLATFORM = {
    "LOG_EXECUTION_ID": "true",
    "FUNCTION_TARGET": "remediate",
    "FUNCTION_SIGNATURE_TYPE": "http",
    "K_SERVICE": "logmend",
    "K_REVISION": "logmend-00001-abc",
    "K_CONFIGURATION": "logmend",
    "CLOUD_RUN_TIMEOUT_SECONDS": "300",
}
"""What Cloud Functions (2nd gen) sets beside ``PORT``: cloud.google.com/functions/docs/configuring/env-var,
cloud.google.com/run/docs/container-contract. Its limits of memory and CPU and its metadata server are not
there."""
JSON = {"content-type": "application/json"}
TICK = {"logmend": "tick"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a push was answered with: Pub/Sub acknowledges on a 2xx and delivers again on anything else."""

    status: int
    said: dict[str, Any]

    @property
    def verdict(self) -> str:
        """``RESULT`` or ``RESULT: REASON``."""
        return _verdict(self.said)


@dataclass(frozen=True, slots=True)
class Function:
    """A running function. ``settings`` are the ``LOGMEND_*`` variables it was started with."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path
    state: str
    outcomes_file: Path
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        """Where a push subscription delivers to."""
        return f"http://127.0.0.1:{self.port}/"

    async def push(self, body: Mapping[str, Any] | bytes) -> Answer:
        """Deliver a push body as Pub/Sub would."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.client.post(self.url, content=content, headers=JSON)
        try:
            said = answer.json()
        except ValueError:
            raise AssertionError(f"{answer.status_code}: {answer.text}\n{self.log()}") from None
        return Answer(answer.status_code, said)

    async def tick(self) -> dict[str, Any]:
        """Deliver the scheduler's message; gives the tick's tally."""
        data = base64.b64encode(json.dumps(TICK).encode()).decode()
        answer = await self.push({"message": {"data": data, "messageId": str(uuid.uuid4().int % 10**16)}})
        assert answer.status == 200, answer
        return answer.said

    def lines(self) -> list[bytes]:
        """Every line of the outcomes file, as it is there; one that is just being written is none yet."""
        written = self.outcomes_file.read_bytes() if self.outcomes_file.exists() else b""
        return written[: written.rfind(b"\n") + 1].splitlines()

    def outcomes(self, **having: Any) -> list[dict[str, Any]]:
        """Every outcome in the file, in order; ``having`` picks those with these values at the top level."""
        found = [json.loads(line) for line in self.lines()]
        return [each for each in found if all(each[key] == value for key, value in having.items())]

    def verdicts(self, **having: Any) -> list[str]:
        """Say ``RESULT`` or ``RESULT: REASON`` of each such outcome."""
        return [_verdict(each) for each in self.outcomes(**having)]

    def log(self) -> str:
        """Give what the process printed."""
        return (self.folder / "function.log").read_text(errors="replace")

    def entries(self) -> list[dict[str, Any]]:
        """Give what it printed as Cloud Logging would take it: what is no JSON object is ``textPayload``."""
        found = []
        for line in self.log().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            found.append(entry if isinstance(entry, dict) else {"textPayload": line})
        return found

    def is_gone(self) -> bool:
        """Say that no process of its group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def is_owner(self, owner: str) -> bool:
        """Say whether a lease's owner (MACHINE-PROCESS-RANDOM) is a living process of its group."""
        with contextlib.suppress(ProcessLookupError):
            return os.getpgid(int(owner.split("-")[-2])) == self.process.pid
        return False

    def signal(self, how: int) -> None:
        """Send a signal to every process of its group."""
        _signal(self.process.pid, how)

    async def kill(self) -> None:
        """End the whole group at once, as a crash would."""
        _signal(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        await self._wait_until_gone()

    async def stop(self) -> None:
        """End it kindly, then firmly. More than once is fine."""
        for how, patience in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, KILL_TIMEOUT)):
            _signal(self.process.pid, how)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wait_until_gone(), patience)
                return
        raise AssertionError(f"process group {self.process.pid} cannot be ended:\n{self.log()}")

    async def _wait_until_gone(self) -> None:
        await self.process.wait()
        while not self.is_gone():  # noqa: ASYNC110  the kernel offers nothing to wait for
            await asyncio.sleep(0.02)


@asynccontextmanager
async def function_process(
    folder: Path,
    *,
    port: int | None = None,
    prefix: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    source: Path | None = None,
    **settings: object,
) -> AsyncIterator[Function]:
    """Run ``functions/main.py`` with ``settings``: ``mode="enforce"`` sets ``LOGMEND_MODE``.

    ``folder`` keeps its log and, where the settings do not say otherwise, ledger and outcomes; it may be
    shared by several functions only if they share those. Tests ask what became of each event: unless they say
    otherwise, each has an outcome of its own. Nothing of the caller's own ``LOGMEND_*``
    reaches it. On leaving it is ended, and it is an error if anything of it is left. ``prefix`` is a command
    that runs it, ``environment`` adds to its environment, ``port`` is a fixed one instead of a free one. Its
    environment is the platform's. ``source`` is a folder with another ``main.py``, in which it is run and of
    which its modules are, as on the platform.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    outcomes = folder / "outcomes.jsonl"
    chosen = {
        "state": f"sqlite:{folder / 'ledger.sqlite'}",
        "outcomes": f"file:{outcomes}",
        "repeats": "each",
    } | settings
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LOGMEND_", "K_", "FUNCTION_"))}
    platform = PLATFORM.copy()
    if not str(chosen["state"]).startswith("firestore:"):
        del platform["K_SERVICE"]  # in the cloud no other ledger may enforce
    port = port or free_port()
    command = (
        *prefix,
        *(
            sys.executable,
            "-m",
            "functions_framework",
            f"--source={source / 'main.py' if source else MAIN}",
            "--host=127.0.0.1",
        ),
    )
    with (folder / "function.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=source or folder,
            env=inherited
            | platform
            | {"PORT": str(port)}
            | ({"PYTHONPATH": str(source)} if source else {})
            | dict(environment or {})
            | {f"LOGMEND_{name.upper()}": str(value) for name, value in chosen.items() if value is not None},
            start_new_session=True,
        )
    leash = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", LEASH, "leash", str(process.pid)),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    where = str(chosen["outcomes"]).removeprefix("file:")
    # A connection that is kept may be closed for idleness in the very moment in which it is used again.
    anew = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=anew) as client:
        function = Function(process, port, folder, str(chosen["state"]), Path(where), client)
        try:
            await _listening(function)
            yield function
        finally:
            try:
                await function.stop()
            finally:
                leash.kill()
                await leash.wait()
    assert function.is_gone()


async def _listening(function: Function) -> None:
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT
    while asyncio.get_running_loop().time() < deadline and function.process.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", function.port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the function did not start:\n{function.log()}")


def _verdict(said: Mapping[str, Any]) -> str:
    return f"{said['result']}: {said['reason']}" if said["reason"] else str(said["result"])


def _signal(group: int, how: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, how)
