"""Pub/Sub: publish dead letters, replays and ticks, and pull messages to be replayed.

Google's client honours ``PUBSUB_EMULATOR_HOST``. Nothing is imported or connected before the first call.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from logmend.adapters.google import errors
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent, Transient
from logmend.model.struct import Struct
from logmend.model.values import Delivery

if TYPE_CHECKING:
    from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.types import ReceivedMessage

TIMEOUT = 20.0
"""Seconds for one publish, including the client's own retries, or one pull or acknowledgement."""

BODY_LIMIT = 1024 * 1024
"""The most bytes of a dead letter's body that are kept: four times the size limit of a log entry."""
_ATTRIBUTES = 90  # Pub/Sub accepts 100 of 256 + 1024 bytes; ours are added
_KEY_BYTES = 256
_VALUE_BYTES = 1024


class Pulled(Struct, frozen=True):
    """A message that was pulled but not acknowledged yet."""

    ack_id: str
    data: bytes
    delivery: Delivery


class Publisher:
    """Publishes to any topic. Safe for many tasks at once."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: PublisherClient | None = None

    async def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish to ``projects/P/topics/T`` and return the message id once Pub/Sub has it.

        Transient, or Permanent naming the role; ``Permanent("not_found")`` if there is no such topic.
        """
        try:
            return await asyncio.to_thread(self._publish, topic, data, attributes)
        except Exception as error:
            raise errors.classify(error, needs=f"roles/pubsub.publisher on {topic}") from error

    async def aclose(self) -> None:
        """Release connections."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.transport.close)

    def _publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        with ALONE:
            from google import pubsub_v1 as generated
            from google.api_core.retry import Retry
            from google.cloud import pubsub_v1

        with self._lock:
            if self._opened is None:
                self._opened = pubsub_v1.PublisherClient()
        # The generated call below the client's own: that one takes attributes as keyword arguments, among
        # which an attribute named ``topic`` has no place, and batches in threads that outlive the request.
        message = generated.PubsubMessage(data=data, attributes=dict(attributes))
        response = generated.PublisherClient.publish(
            self._opened,
            request=generated.PublishRequest(topic=topic, messages=[message]),
            retry=Retry(timeout=self._timeout),
            timeout=self._timeout,
        )
        return str(response.message_ids[0])


class DeadLetterTopic:
    """Keeps messages that can never be decoded; see :class:`logmend.ports.DeadLetter`.

    The message's own attributes are kept as far as Pub/Sub accepts them. A body over 1 MiB is cut off and
    marked ``logmend_cut``.
    """

    def __init__(self, topic: str, publisher: Publisher | None = None) -> None:
        self._topic = topic
        self._publisher = publisher or Publisher()

    async def publish(self, body: bytes, delivery: Delivery, reason: str) -> None:
        """Publish a copy. ``Transient("dead_letter_unavailable")``, or Pub/Sub's Permanent."""
        attributes = _kept(delivery.attributes) | {
            "logmend_reason": reason,
            "logmend_message_id": _clipped(delivery.message_id, _VALUE_BYTES),
        }
        if len(body) > BODY_LIMIT:
            attributes["logmend_cut"] = str(len(body))
        try:
            await self._publisher.publish(self._topic, body[:BODY_LIMIT], attributes)
        except Transient as error:
            detail = f"{error.reason}: {error.detail}"
            raise Transient("dead_letter_unavailable", detail, retry_after=error.retry_after) from error

    async def aclose(self) -> None:
        """Release connections."""
        await self._publisher.aclose()


class Subscription:
    """Pulls from ``projects/P/subscriptions/S``. Only :meth:`acknowledge` acknowledges anything."""

    def __init__(self, name: str, *, timeout: float = TIMEOUT) -> None:
        self._name = name
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: SubscriberClient | None = None

    async def pull(self, limit: int = 100, *, wait: float = 5.0) -> Sequence[Pulled]:
        """Pull at most ``limit`` messages; none if none arrive within ``wait`` seconds.

        A pull may return fewer messages than there are: pull until it returns none.
        """
        with ALONE:
            from google.api_core.exceptions import DeadlineExceeded

        try:
            response = await asyncio.to_thread(
                lambda: self._client().pull(
                    subscription=self._name, max_messages=limit, timeout=wait, retry=None
                )
            )
        except DeadlineExceeded:
            return ()
        except Exception as error:
            raise self._classified(error) from error
        return tuple(_pulled(each, self._name) for each in response.received_messages)

    async def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Acknowledge messages, so they are not delivered again."""
        if ack_ids:
            await self._call(
                lambda client: client.acknowledge(
                    subscription=self._name, ack_ids=list(ack_ids), timeout=self._timeout
                )
            )

    async def extend(self, ack_ids: Sequence[str], seconds: int) -> None:
        """Keep messages from being redelivered for ``seconds`` from now; 0 returns them at once."""
        if ack_ids:
            await self._call(
                lambda client: client.modify_ack_deadline(
                    subscription=self._name,
                    ack_ids=list(ack_ids),
                    ack_deadline_seconds=seconds,
                    timeout=self._timeout,
                )
            )

    async def aclose(self) -> None:
        """Release connections. Unacknowledged messages are delivered again."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close)

    async def _call(self, call: Callable[["SubscriberClient"], object]) -> None:
        try:
            await asyncio.to_thread(lambda: call(self._client()))
        except Exception as error:
            raise self._classified(error) from error

    def _client(self) -> "SubscriberClient":
        with ALONE:
            from google.cloud import pubsub_v1

        with self._lock:
            if self._opened is None:
                self._opened = pubsub_v1.SubscriberClient()
            return self._opened

    def _classified(self, error: Exception) -> Transient | Permanent:
        return errors.classify(error, needs=f"roles/pubsub.subscriber on {self._name}")


def _pulled(received: "ReceivedMessage", subscription: str) -> Pulled:
    message = received.message
    return Pulled(
        received.ack_id,
        message.data,
        Delivery(
            message.message_id,
            message.publish_time,
            dict(message.attributes),
            subscription,
            received.delivery_attempt or None,
        ),
    )


def _kept(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that Pub/Sub accepts: it refuses a message if one is too long."""
    kept = {
        _clipped(key, _KEY_BYTES): _clipped(value, _VALUE_BYTES)
        for key, value in attributes.items()
        if key and not key.startswith("goog")
    }
    return dict(list(kept.items())[:_ATTRIBUTES])


def _clipped(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
