"""A topic on the Pub/Sub emulator with push delivery and dead letter as deploy/ makes them, but faster.

What differs from the deployment: a backoff of a second instead of ten, five delivery attempts (the fewest
that Pub/Sub allows) instead of ten, no OIDC token; and it is :mod:`tests.pusher` that pushes.
"""

import asyncio
import json
import os
import re
import shlex
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from tests.emulators import PUBSUB_PROJECT
from tests.provider_schema import ROOT
from tests.pusher import LENT, Body, Pusher, rfc3339

GUIDE = (ROOT / "docs" / "operations.md").read_text()
DELIVERY_ATTEMPTS = 5
CONCURRENCY = 80
"""Requests that an instance takes at once: the variable ``concurrency`` of ``deploy/``."""


class Post:
    """One test's topics and subscriptions. Make it with :func:`post_office`; subscribe before publishing."""

    def __init__(self, word: str | None = None) -> None:
        word = word or f"e2e-{uuid.uuid4().hex[:12]}"
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
        self._pushing = AsyncExitStack()
        self._pusher: Pusher | None = None

    def subscribe(self) -> None:
        """Create the subscription: acknowledged messages are kept for a seek."""
        self.subscriber.create_subscription(
            request=types.Subscription(
                name=self.push_subscription,
                topic=self.topic,
                ack_deadline_seconds=LENT,
                retain_acked_messages=True,
                message_retention_duration=timedelta(seconds=600),
            )
        )
        self._subscribed = True

    async def push_to(self, url: str, *, attempts: int = DELIVERY_ATTEMPTS, instances: int = 1) -> None:
        """Subscribe, and deliver to ``url`` from now on, with retries and a dead letter."""
        await asyncio.to_thread(self.subscribe)
        client = await self._pushing.enter_async_context(
            httpx.AsyncClient(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None))
        )

        async def deliver(body: Body) -> int:
            return (await client.post(url, json=body)).status_code

        self._pusher = Pusher(
            self.subscriber,
            self.push_subscription,
            deliver,
            attempts=attempts,
            bury=self._bury,
            at_once=CONCURRENCY * instances,
        )
        await self._pushing.enter_async_context(self._pusher.at_work())

    async def give_up_after(self, attempts: int) -> None:
        """Change after how many deliveries a message goes to the dead letter, once none is under way."""
        await self.all_acknowledged()
        assert self._pusher is not None
        self._pusher.attempts = attempts

    async def all_acknowledged(self, *, within: float = 120.0) -> None:
        """Wait until whatever was pulled so far is acknowledged."""
        async with asyncio.timeout(within):
            while self._pusher is not None and self._pusher.held:  # noqa: ASYNC110  the emulator tells nothing
                await asyncio.sleep(0.05)

    async def stop_pushing(self) -> None:
        """Deliver nothing any more, nor again: what was refused so far stays where it is."""
        await self._pushing.aclose()

    async def _bury(self, message: types.PubsubMessage, attempts: int) -> None:
        """Forward to the dead letter, with the attributes that Pub/Sub adds (docs/handling-failures)."""
        extra: dict[str, Any] = dict(message.attributes) | {
            "CloudPubSubDeadLetterSourceDeliveryCount": str(attempts),
            "CloudPubSubDeadLetterSourceSubscription": self.push_subscription.rpartition("/")[2],
            "CloudPubSubDeadLetterSourceSubscriptionProject": PUBSUB_PROJECT,
            "CloudPubSubDeadLetterSourceTopicPublishTime": rfc3339(message.publish_time),
        }
        await asyncio.wrap_future(self.publisher.publish(self.dead_letter, message.data, **extra))

    async def publish(self, *documents: Mapping[str, Any] | bytes, **attributes: str) -> list[str]:
        """Publish one message for each document; gives Pub/Sub's message ids."""
        data = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents]
        extra: dict[str, Any] = dict(attributes)
        futures = [self.publisher.publish(self.topic, each, **extra) for each in data]
        return [await asyncio.wrap_future(future) for future in futures]

    async def seek(self, moment: datetime) -> None:
        """Have everything that was published since ``moment`` delivered again, by the guide's own line."""
        (command,) = re.findall(r"(?m)^(gcloud pubsub subscriptions seek logmend-push) --time=\S+$", GUIDE)
        name = self.push_subscription.rpartition("/")[2]
        ran = await asyncio.create_subprocess_exec(
            *shlex.split(command.replace("logmend-push", name)),
            f"--time={rfc3339(moment)}",
            env=os.environ
            | {
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{os.environ['PUBSUB_EMULATOR_HOST']}/",
                "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
                "CLOUDSDK_CORE_PROJECT": PUBSUB_PROJECT,
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await ran.communicate()
        assert ran.returncode == 0, printed.decode()

    async def dead_letters(self, count: int, *, within: float = 120.0) -> list[types.PubsubMessage]:
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


@asynccontextmanager
async def post_office() -> AsyncIterator[Post]:
    """Give a test its own topics on the emulator that ``PUBSUB_EMULATOR_HOST`` names."""
    post = await asyncio.to_thread(Post)
    try:
        yield post
    finally:
        await post.stop_pushing()
        await asyncio.to_thread(post.close)


def a_little_before(moment: datetime) -> datetime:
    """Give a time to seek to from which a message published at ``moment`` is delivered again."""
    return moment - timedelta(seconds=1)
