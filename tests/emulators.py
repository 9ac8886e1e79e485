"""The real emulators of the Google Cloud SDK as fixtures, for the tiers that need them."""

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from logmend.errors import Transient
from logmend.ports import Document, Key, Store
from logmend_cli.pretend.emulator import (
    PUBSUB_PROJECT,
    Emulator,
    firestore_emulator_process,
    pubsub_emulator_process,
    running,
)
from logmend_cli.pretend.fleet import free_port
from tests.conftest import needs

__all__ = [
    "PUBSUB_PROJECT",
    "Emulator",
    "firestore_emulator_process",
    "free_port",
    "pubsub_emulator_process",
    "running",
]


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[Emulator]:
    """Run the real Firestore emulator for the whole session; ``FIRESTORE_EMULATOR_HOST`` names it.

    Tests share it: use a project or database name of your own, and stop only an emulator of your own.
    """
    needs(commands=("gcloud", "java"))
    with running(firestore_emulator_process(), "FIRESTORE_EMULATOR_HOST") as emulator:
        _answers(emulator)
        yield emulator
        emulator.kill()  # it keeps nothing, and takes long to end kindly after a whole suite


def _answers(emulator: Emulator) -> None:
    """Wait until it commits something: its port is open long before its first answer on a busy host."""
    documents = "projects/warm/databases/(default)/documents"
    write = {"update": {"name": f"{documents}/up/up", "fields": {"n": {"integerValue": "1"}}}}
    request = urllib.request.Request(
        f"http://{emulator.address}/v1/{documents}:commit",
        json.dumps({"writes": [write]}).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer owner"},
    )
    until = time.monotonic() + 100
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


async def warm(store: Store) -> None:
    """Have a ledger's emulator answer once: its first transactions take seconds on a busy machine."""
    key = ("warm", "up")
    async with asyncio.timeout(100):
        for document in (Document({}), None):
            while not await written(store, key, document):
                pass


async def written(store: Store, key: Key, document: Document | None) -> bool:
    """Try to write a document, or to remove it."""
    with contextlib.suppress(Transient):
        await store.transact([key], lambda _: ({key: document}, None))
        return True
    return False


@pytest.fixture(scope="session")
def pubsub_emulator() -> Iterator[Emulator]:
    """Run the real Pub/Sub emulator for the whole session; ``PUBSUB_EMULATOR_HOST`` names it.

    Tests share it: use topic and subscription names of your own.
    """
    needs(commands=("gcloud", "java"))
    with running(pubsub_emulator_process(), "PUBSUB_EMULATOR_HOST") as emulator:
        yield emulator
        emulator.kill()  # as above
