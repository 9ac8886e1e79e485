"""Emulators that the contract suites run against, and the three stores."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from google.cloud import pubsub_v1
from tests.contract.stores import Backend, MemoryBackend, firestore_backend, sqlite_backend
from tests.discovery import held_to_discovery
from tests.emulators import PUBSUB_PROJECT, Emulator, firestore_emulator, pubsub_emulator

from logmend.adapters.google.pubsub import Subscription
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


@pytest.fixture
def names(pubsub_emulator: Emulator) -> Iterator[tuple[str, str]]:
    """Give a topic and a subscription of this test's own."""
    word = f"t{uuid.uuid4().hex}"
    topic, subscription = (f"projects/{PUBSUB_PROJECT}/{kind}/{word}" for kind in ("topics", "subscriptions"))
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic, ack_deadline_seconds=10)
    yield topic, subscription
    subscriber.delete_subscription(subscription=subscription)
    publisher.delete_topic(topic=topic)
    subscriber.close()
    publisher.stop()


@pytest.fixture
async def subscription(names: tuple[str, str]) -> AsyncIterator[Subscription]:
    """Give what reads it."""
    pulled = Subscription(names[1])
    yield pulled
    await pulled.aclose()
