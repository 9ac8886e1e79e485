"""Start and stop the real emulators of the Google Cloud SDK, for tests.

Each runs in a process group of its own on a free loopback port: the Java process outlives its ``gcloud``,
so the whole group is ended. Fixtures are imported by the ``conftest.py`` of the tiers that need them.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs

READY_TIMEOUT = 90.0
"""Seconds that an emulator may take to answer; a cold Java on a busy machine has needed twenty."""
STOP_TIMEOUT = 10.0
PUBSUB_PROJECT = "emulated-project"


def free_port() -> int:
    """Give a loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Emulator:
    """One emulator: ``start`` waits until it answers, ``stop`` ends its whole process group.

    The port stays the same over stop and start, so that a client finds it again. Nothing is kept on disk.
    """

    def __init__(self, *command: str) -> None:
        self._command = command
        self._folder = tempfile.TemporaryDirectory(prefix="logmend-emulator-")
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{free_port()}"

    @property
    def log(self) -> Path:
        """What the emulator printed."""
        return Path(self._folder.name) / "log"

    def start(self) -> None:
        """Start and wait until the emulator answers; ``RuntimeError`` with its output where it does not."""
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
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{command} does not answer:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every process of the group, kindly at first. Stopping twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        for how, patience in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, STOP_TIMEOUT)):
            deadline = time.monotonic() + patience
            while _signalled(process.pid, how):
                process.poll()  # reaps the leader, else its group would never be empty
                if time.monotonic() > deadline:
                    break
                how = signal.Signals(0) if how is signal.SIGTERM else how  # noqa: PLW2901 (ask once, then look)
                time.sleep(0.05)
        process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """End the group without warning, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            _signalled(process.pid, signal.SIGKILL)
            process.wait(STOP_TIMEOUT)

    def close(self) -> None:
        """Stop and forget the log."""
        self.stop()
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/", timeout=1) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


def _signalled(group: int, how: int) -> bool:
    """Signal a process group; False where no process of it is left."""
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        return False
    return True


def firestore_emulator_process() -> Emulator:
    """Make the Firestore emulator, not started."""
    return Emulator("gcloud", "emulators", "firestore", "start", "--host-port={address}", "--quiet")


def pubsub_emulator_process() -> Emulator:
    """Make the Pub/Sub emulator, not started."""
    return Emulator(
        "gcloud", "beta", "emulators", "pubsub", "start", "--host-port={address}",
        f"--project={PUBSUB_PROJECT}", "--data-dir={folder}/pubsub", "--quiet",
    )  # fmt: skip


@contextlib.contextmanager
def running(emulator: Emulator, variable: str) -> Iterator[Emulator]:
    """Start an emulator, name it in the environment variable of its clients, and stop it at the end."""
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


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[Emulator]:
    """Run the real Firestore emulator for the whole session; ``FIRESTORE_EMULATOR_HOST`` names it.

    Tests share it: use a project or database name of your own, and stop only an emulator of your own.
    """
    needs(commands=("gcloud", "java"))
    with running(firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST") as emulator:
        yield emulator


@pytest.fixture(scope="session")
def pubsub_emulator() -> Iterator[Emulator]:
    """Run the real Pub/Sub emulator for the whole session; ``PUBSUB_EMULATOR_HOST`` names it.

    Tests share it: use topic and subscription names of your own.
    """
    needs(commands=("gcloud", "java"))
    with running(pubsub_emulator_process(), "PUBSUB_EMULATOR_HOST") as emulator:
        yield emulator
