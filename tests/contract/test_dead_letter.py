"""Dead letters, publishing and pulling against the real Pub/Sub emulator."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.emulators import PUBSUB_PROJECT, Emulator, free_port

from logmend.adapters.google.pubsub import BODY_LIMIT, DeadLetterTopic, Publisher, Pulled, Subscription
from logmend.errors import Permanent, Transient
from logmend.model.values import Delivery


@pytest.fixture
async def topic(names: tuple[str, str]) -> AsyncIterator[DeadLetterTopic]:
    """Give the dead letter under test."""
    letters = DeadLetterTopic(names[0])
    yield letters
    await letters.aclose()


async def one(subscription: Subscription) -> Pulled:
    """Pull the one message there is."""
    for _ in range(40):
        if found := await subscription.pull(wait=3):
            (message,) = found
            return message
    pytest.fail("nothing came")


async def test_a_copy_keeps_body_reason_message_id_and_attributes(
    topic: DeadLetterTopic, subscription: Subscription
) -> None:
    """Whoever looks into the dead letter knows what it was and why it is there."""
    delivery = Delivery("1234", attributes={"logging.googleapis.com/timestamp": "2026-11-22T16:00:00Z"})
    await topic.publish(b"\xff not JSON", delivery, "malformed")
    message = await one(subscription)
    assert message.data == b"\xff not JSON"
    assert message.delivery.attributes == {
        "logging.googleapis.com/timestamp": "2026-11-22T16:00:00Z",
        "logmend_reason": "malformed",
        "logmend_message_id": "1234",
    }


async def test_an_empty_body_is_kept_too(topic: DeadLetterTopic, subscription: Subscription) -> None:
    """The attributes alone tell of it."""
    await topic.publish(b"", Delivery("1"), "no_data")
    assert (await one(subscription)).data == b""


@pytest.mark.parametrize(
    "attributes",
    [
        {"k" * 300: "v"},
        {"": "v"},
        {"k": "ä" * 2000},
        {"k\ud800": "v\ud800"},
        {f"k{number}": "v" for number in range(200)},
        {"googclient_x": "v"},
        {"topic": "v", "data": "v", "retry": "v", "timeout": "v", "ordering_key": "v", "self": "v"},
    ],
    ids=["long key", "empty key", "long value", "surrogate", "many", "reserved", "names of arguments"],
)
async def test_no_attribute_of_a_strangers_message_can_keep_its_copy_from_being_kept(
    topic: DeadLetterTopic, subscription: Subscription, attributes: dict[str, str]
) -> None:
    """Pub/Sub refuses a message for one bad attribute; ours are cut or left out instead."""
    await topic.publish(b"x", Delivery("1" * 3000, attributes=attributes), "malformed")
    message = await one(subscription)
    assert message.delivery.attributes["logmend_reason"] == "malformed"
    assert message.delivery.attributes["logmend_message_id"] == "1" * 1024


async def test_a_body_past_what_pubsub_takes_is_cut_and_marked(
    topic: DeadLetterTopic, subscription: Subscription
) -> None:
    """A part with its reason is better than nothing."""
    await topic.publish(b"x" * (BODY_LIMIT + 5), Delivery("1"), "too_large")
    message = await one(subscription)
    assert len(message.data) == BODY_LIMIT
    assert message.delivery.attributes["logmend_cut"] == str(BODY_LIMIT + 5)


async def test_a_topic_that_does_not_exist_is_permanent(pubsub_emulator: Emulator) -> None:
    """A name that was mistyped."""
    letters = DeadLetterTopic(f"projects/{PUBSUB_PROJECT}/topics/never-made")
    with pytest.raises(Permanent, match="not_found"):
        await letters.publish(b"x", Delivery("1"), "malformed")
    await letters.aclose()


async def test_a_pubsub_that_is_not_there_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is delivered again, and its copy kept then."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    letters = DeadLetterTopic("projects/p-test/topics/t", Publisher(timeout=1))
    with pytest.raises(Transient) as caught:
        await letters.publish(b"x", Delivery("1"), "malformed")
    assert caught.value.reason == "dead_letter_unavailable"
    await letters.aclose()


async def test_what_is_pulled_comes_again_until_it_is_acknowledged(
    names: tuple[str, str], subscription: Subscription
) -> None:
    """Nothing is lost between pulling and dealing with it."""
    publisher = Publisher()
    before = datetime.now(UTC)
    message_id = await publisher.publish(names[0], b'{"logmend": "tick"}', {"a": "b"})
    first = await one(subscription)
    assert (first.data, first.delivery.message_id) == (b'{"logmend": "tick"}', message_id)
    assert first.delivery.attributes == {"a": "b"}
    assert first.delivery.subscription == names[1]
    assert first.delivery.publish_time is not None
    assert abs((first.delivery.publish_time - before).total_seconds()) < 60
    await subscription.extend([first.ack_id], 0)
    second = await one(subscription)
    assert second.delivery.message_id == message_id
    await subscription.acknowledge([second.ack_id])
    assert list(await subscription.pull(wait=1)) == []
    await publisher.aclose()


async def test_a_subscription_that_does_not_exist_is_permanent(pubsub_emulator: Emulator) -> None:
    """An operator's typing error is told as such."""
    subscription = Subscription(f"projects/{PUBSUB_PROJECT}/subscriptions/never-made")
    with pytest.raises(Permanent, match="not_found"):
        await subscription.pull()
    await subscription.aclose()


def test_making_a_topic_loads_no_client() -> None:
    """Most functions never see a dead letter."""
    code = (
        "import sys; from logmend.adapters.google.pubsub import DeadLetterTopic; DeadLetterTopic('t');"
        "print(sorted({'grpc', 'google.auth', 'google.cloud.pubsub_v1'} & set(sys.modules)))"
    )
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"
