"""Start and stop the real emulators of the Google Cloud SDK (Java), for demo and tests.

Each runs in its own process group on a free loopback port. The Java process outlives its ``gcloud``, so the
whole group is ended.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from logmend_cli.pretend.fleet import free_port

READY_TIMEOUT = 150.0
"""Seconds that an emulator may take to answer; a cold Java on a busy machine has needed twenty."""
STOP_TIMEOUT = 10.0
PUBSUB_PROJECT = "emulated-project"
LEASH = 'read -r _; kill -KILL "-$1"'
"""Shell text: end a process group once its input ends, which it does when this process ends in any way.

There is no ``--`` before the group: dash takes that for a number and kills nothing.
"""


class Emulator:
    """One emulator: ``start`` waits until it answers; ``stop`` ends its whole process group.

    The port stays the same after a restart, where a client finds it again. Nothing is kept on disk.
    """

    def __init__(self, *command: str) -> None:
        self._command = command
        self._folder = tempfile.TemporaryDirectory(prefix="logmend-emulator-")
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{free_port()}"

    @property
    def log(self) -> Path:
        """What the emulator printed."""
        return Path(self._folder.name) / "log"

    def start(self) -> None:
        """Start and wait until the emulator answers; ``RuntimeError`` with its output if it does not."""
        assert self._process is None, "started already"
        environment = os.environ | {
            "CLOUDSDK_CONFIG": str(Path(self._folder.name) / "config"),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        }
        command = [part.format(address=self.address, folder=self._folder.name) for part in self._command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._leash = subprocess.Popen(
            ["/bin/sh", "-c", LEASH, "leash", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{command} does not answer:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every process of the group, first with SIGTERM. It may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            _signalled(process.pid, how)
            deadline = time.monotonic() + STOP_TIMEOUT
            # poll() reaps the leader: as a zombie it would keep the group from being empty.
            while (process.poll() is None or _signalled(process.pid, 0)) and time.monotonic() < deadline:
                time.sleep(0.02)
        self._forget(process)

    def kill(self) -> None:
        """End the group without warning, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            _signalled(process.pid, signal.SIGKILL)
            self._forget(process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        process.wait(STOP_TIMEOUT)
        leash, self._leash = self._leash, None
        if leash is not None:
            leash.kill()
            leash.communicate()

    def close(self) -> None:
        """Stop the emulator and remove its log."""
        self.stop()
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/", timeout=10) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


def _signalled(group: int, how: int) -> bool:
    """Signal a process group; False if no process of it is left."""
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        return False
    return True


def firestore_emulator_process() -> Emulator:
    """Return the Firestore emulator, not started."""
    return Emulator("gcloud", "emulators", "firestore", "start", "--host-port={address}", "--quiet")


def pubsub_emulator_process() -> Emulator:
    """Return the Pub/Sub emulator, not started."""
    return Emulator(
        "gcloud", "beta", "emulators", "pubsub", "start", "--host-port={address}",
        f"--project={PUBSUB_PROJECT}", "--data-dir={folder}", "--quiet",
    )  # fmt: skip


@contextlib.contextmanager
def running(emulator: Emulator, variable: str) -> Iterator[Emulator]:
    """Start an emulator, set its clients' environment variable to its address, and stop it at the end."""
    before = os.environ.get(variable)
    try:
        emulator.start()
        os.environ[variable] = emulator.address
        yield emulator
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before
        emulator.close()


def installed(component: str) -> bool:
    """Return whether this machine has Java and ``pubsub-emulator`` or ``cloud-firestore-emulator``."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return False
    roots = [Path(gcloud).resolve().parents[1], Path("/usr/lib/google-cloud-sdk")]
    return any((root / "platform" / component).is_dir() for root in roots)
