"""Push delivery over the emulator's pull: what Pub/Sub promises of a push subscription, kept to the letter.

The emulator's own push gives messages up: of 20 or 100 that were answered 503 at once, with a retry policy of
one to two seconds, each came two or three times within six seconds and then never again, nor into the dead
letter (2026-11-28; a single one goes on coming every three seconds). Pub/Sub delivers until a message is
acknowledged, expires, or has used up its attempts. So here every message that is pulled is posted until it is
acknowledged or moved to the dead letter.

Where it differs from Pub/Sub: no token, no flow control but a fixed number of requests at once if one is
wanted, a backoff without jitter, and a message is held in this process between attempts.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import httpx
from google.api_core.exceptions import GoogleAPIError
from google.cloud import pubsub_v1
from google.pubsub_v1 import types

ACKNOWLEDGES = frozenset({102, 200, 201, 202, 204})
"""Status codes that acknowledge a push (cloud.google.com/pubsub/docs/push, "Receive push messages")."""
LENT, HELD = 10, 600
"""Seconds for which the emulator leaves a pulled message with us: at first, since the answer to a pull may be
lost, and once it is here. The shortest and the longest that Pub/Sub allows."""

Body = dict[str, Any]
Deliver = Callable[[Body], Awaitable[int]]
"""One attempt: posts a body, gives the HTTP status; any :class:`httpx.HTTPError` is a refusal too."""


@dataclass
class Pusher:
    """Delivers what is in one subscription; ``attempts`` None is a subscription without a dead letter.

    ``at_once`` bounds the requests under way, as Cloud Run does (there what is too much waits or gets a 429).
    """

    subscriber: pubsub_v1.SubscriberClient
    subscription: str
    deliver: Deliver
    backoff: tuple[float, float] = (1.0, 2.0)
    attempts: int | None = None
    bury: Callable[[types.PubsubMessage, int], Awaitable[None]] | None = None
    at_once: int | None = None
    refused: int = 0
    _held: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._room = contextlib.nullcontext() if self.at_once is None else asyncio.Semaphore(self.at_once)

    @property
    def held(self) -> int:
        """How many messages were pulled and are not acknowledged yet."""
        return len(self._held)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Deliver until left."""
        collecting = asyncio.create_task(self._collect())
        try:
            yield
        finally:
            collecting.cancel()
            for each in self._held.values():
                each.cancel()
            ended = await asyncio.gather(collecting, *self._held.values(), return_exceptions=True)
        if broken := [each for each in ended if isinstance(each, Exception)]:
            raise ExceptionGroup("a delivery broke off", broken)

    async def _collect(self) -> None:
        while True:
            for received in await asyncio.to_thread(self._pulled):
                name = received.message.message_id
                if name not in self._held:  # else its ack deadline ran out on a slow machine
                    self._held[name] = asyncio.create_task(self._push(received))
                    self._held[name].add_done_callback(partial(self._let_go, name))

    def _let_go(self, name: str, _: asyncio.Task[None]) -> None:
        del self._held[name]

    def _pulled(self) -> Sequence[types.ReceivedMessage]:
        found: list[types.ReceivedMessage] = []
        with contextlib.suppress(GoogleAPIError):  # none there; or a slow machine, and they come again
            pulled = self.subscriber.pull(
                subscription=self.subscription, max_messages=100, timeout=1.0, retry=None
            )
            found = list(pulled.received_messages)
            if found:
                self.subscriber.modify_ack_deadline(
                    subscription=self.subscription,
                    ack_ids=[each.ack_id for each in found],
                    ack_deadline_seconds=HELD,
                )
        return found

    async def _push(self, received: types.ReceivedMessage) -> None:
        attempt, (wait, longest) = 1, self.backoff
        while await self._refused(received.message, attempt):
            self.refused += 1
            if self.bury is not None and attempt == self.attempts:
                await self.bury(received.message, attempt)
                break
            await asyncio.sleep(wait)
            attempt, wait = attempt + 1, min(2 * wait, longest)
        await asyncio.to_thread(
            lambda: self.subscriber.acknowledge(subscription=self.subscription, ack_ids=[received.ack_id])
        )

    async def _refused(self, message: types.PubsubMessage, attempt: int) -> bool:
        body = wrapped(message, self.subscription)
        if self.attempts is not None:
            body["deliveryAttempt"] = attempt
        with contextlib.suppress(httpx.HTTPError):
            async with self._room:
                return await self.deliver(body) not in ACKNOWLEDGES
        return True


def wrapped(message: types.PubsubMessage, subscription: str) -> Body:
    """Give the body of a push, not unwrapped (cloud.google.com/pubsub/docs/push, "Message wrapping")."""
    published = rfc3339(message.publish_time)
    inner: dict[str, Any] = {
        "data": base64.b64encode(message.data).decode(),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published,
        "publish_time": published,
    }
    if message.attributes:
        inner["attributes"] = dict(message.attributes)
    return {"message": inner, "subscription": subscription}


def rfc3339(moment: datetime) -> str:
    """Give a time as Pub/Sub's JSON has it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
