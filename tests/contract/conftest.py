"""Emulators that the contract suites run against, and the three stores."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.stores import Backend, MemoryBackend, firestore_backend, sqlite_backend
from tests.discovery import held_to_discovery
from tests.emulators import firestore_emulator, pubsub_emulator

from logmend.ports import Store

__all__ = ["firestore_emulator", "held_to_discovery", "pubsub_emulator"]


@pytest.fixture(params=["memory", "sqlite", "firestore"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Each kind of store, on a state of its own."""
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "sqlite":
        return sqlite_backend(tmp_path)
    request.getfixturevalue("firestore_emulator")
    return firestore_backend()


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    """Open a store, and release it afterwards."""
    store = backend.open()
    yield store
    await store.aclose()
