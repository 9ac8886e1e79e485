"""A topic on the Pub/Sub emulator with push subscription and dead letter as deploy/ makes them, but faster.

What differs from the deployment: a backoff of a second instead of ten, five delivery attempts (the fewest
that Pub/Sub allows) instead of ten, no OIDC token (the emulator sends none).
"""

import asyncio
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from tests.emulators import PUBSUB_PROJECT

DELIVERY_ATTEMPTS = 5
ACK_DEADLINE = 60


class Post:
    """One test's topics and subscriptions. Make it with :func:`post_office`; subscribe before publishing."""

    def __init__(self) -> None:
        word = f"e2e-{uuid.uuid4().hex[:12]}"
        self.topic = f"projects/{PUBSUB_PROJECT}/topics/{word}"
        self.dead_letter = f"{self.topic}-dead-letter"
        self.push_subscription = f"projects/{PUBSUB_PROJECT}/subscriptions/{word}-push"
        self.pull_subscription = f"projects/{PUBSUB_PROJECT}/subscriptions/{word}-dead-letter"
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()
        self.publisher.create_topic(name=self.topic)
        self.publisher.create_topic(name=self.dead_letter)
        self.subscriber.create_subscription(name=self.pull_subscription, topic=self.dead_letter)
        self._subscribed = False

    def push_to(self, url: str, *, attempts: int = DELIVERY_ATTEMPTS) -> None:
        """Create the push subscription: retries, dead letter, and acknowledged messages kept for a seek."""
        self.subscriber.create_subscription(
            request=types.Subscription(
                name=self.push_subscription,
                topic=self.topic,
                push_config=types.PushConfig(push_endpoint=url),
                ack_deadline_seconds=ACK_DEADLINE,
                retain_acked_messages=True,
                message_retention_duration=timedelta(seconds=600),
                retry_policy=types.RetryPolicy(
                    minimum_backoff=timedelta(seconds=1),
                    maximum_backoff=timedelta(seconds=2),
                ),
                dead_letter_policy=types.DeadLetterPolicy(
                    dead_letter_topic=self.dead_letter, max_delivery_attempts=attempts
                ),
            )
        )
        self._subscribed = True

    async def publish(self, *documents: Mapping[str, Any] | bytes, **attributes: str) -> list[str]:
        """Publish one message for each document; gives Pub/Sub's message ids."""
        data = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents]
        extra: dict[str, Any] = dict(attributes)
        futures = [self.publisher.publish(self.topic, each, **extra) for each in data]
        return [await asyncio.wrap_future(future) for future in futures]

    async def seek(self, moment: datetime) -> None:
        """Have everything that was published since ``moment`` delivered again, acknowledged or not."""
        request = types.SeekRequest(subscription=self.push_subscription, time=moment)
        await asyncio.to_thread(self.subscriber.seek, request)

    async def dead_letters(self, count: int, *, within: float = 45.0) -> list[types.PubsubMessage]:
        """Wait until so many messages are in the dead letter; take and give them."""
        found: list[types.PubsubMessage] = []
        ends = asyncio.get_running_loop().time() + within
        while len(found) < count:
            assert asyncio.get_running_loop().time() < ends, f"{len(found)} of {count} dead letters came"
            found += await asyncio.to_thread(self._pull, 2.0)
        return found

    def _pull(self, wait: float) -> list[types.PubsubMessage]:
        try:
            pulled = self.subscriber.pull(
                subscription=self.pull_subscription, max_messages=100, timeout=wait, retry=None
            )
        except DeadlineExceeded:
            return []
        if pulled.received_messages:
            self.subscriber.acknowledge(
                subscription=self.pull_subscription,
                ack_ids=[each.ack_id for each in pulled.received_messages],
            )
        return [each.message for each in pulled.received_messages]

    def close(self) -> None:
        """Delete everything."""
        if self._subscribed:
            self.subscriber.delete_subscription(subscription=self.push_subscription)
        self.subscriber.delete_subscription(subscription=self.pull_subscription)
        self.publisher.delete_topic(topic=self.topic)
        self.publisher.delete_topic(topic=self.dead_letter)
        self.subscriber.close()
        self.publisher.stop()


@contextmanager
def post_office() -> Iterator[Post]:
    """Give a test its own topics on the emulator that ``PUBSUB_EMULATOR_HOST`` names."""
    post = Post()
    try:
        yield post
    finally:
        post.close()


def a_little_before(moment: datetime) -> datetime:
    """Give a time to seek to from which a message published at ``moment`` is delivered again."""
    return moment - timedelta(seconds=1)
