"""Pub/Sub: publishing (dead letters, replays, ticks), and pulling what is to be replayed.

Google's client honours ``PUBSUB_EMULATOR_HOST``. Nothing is imported or dialled before the first call.
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
"""Seconds for one publish, with the client's own retries, or one pull or acknowledgement."""

BODY_LIMIT = 1024 * 1024
"""Bytes of a dead letter's body that are kept: four times what a log entry may have."""
_ATTRIBUTES = 90  # Pub/Sub takes 100 of 256 + 1024 bytes; ours come on top
_KEY_BYTES = 256
_VALUE_BYTES = 1024


class Pulled(Struct, frozen=True):
    """A message that was pulled and is not acknowledged yet."""

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
        """Publish to ``projects/P/topics/T`` and give the message id once Pub/Sub has it.

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
        # The generated call beneath the client's own: that one takes attributes as keyword arguments, among
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
    """Keeps what can never be decoded; see :class:`logmend.ports.DeadLetter`.

    The message's own attributes are kept as far as Pub/Sub takes them; a body past 1 MiB is cut and marked
    ``logmend_cut``.
    """

    def __init__(self, topic: str, publisher: Publisher | None = None) -> None:
        self._topic = topic
        self._publisher = publisher or Publisher()

    async def publish(self, body: bytes, delivery: Delivery, reason: str) -> None:
        """Keep a copy. ``Transient("dead_letter_unavailable")``, or Permanent as Pub/Sub says it."""
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
    """Pulls from ``projects/P/subscriptions/S``; nothing is acknowledged but by :meth:`acknowledge`."""

    def __init__(self, name: str, *, timeout: float = TIMEOUT) -> None:
        self._name = name
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: SubscriberClient | None = None

    async def pull(self, limit: int = 100, *, wait: float = 5.0) -> Sequence[Pulled]:
        """Pull at most ``limit`` messages; none if there are none within ``wait`` seconds.

        Fewer than there are may come at a time: pull until nothing comes.
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
        """Acknowledge; these messages do not come again."""
        if ack_ids:
            await self._call(
                lambda client: client.acknowledge(
                    subscription=self._name, ack_ids=list(ack_ids), timeout=self._timeout
                )
            )

    async def extend(self, ack_ids: Sequence[str], seconds: int) -> None:
        """Keep messages from coming again for ``seconds`` from now; 0 hands them back at once."""
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
        """Release connections; what was not acknowledged comes again."""
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
    """Return the attributes that Pub/Sub takes: it refuses a message for one that is too long."""
    kept = {
        _clipped(key, _KEY_BYTES): _clipped(value, _VALUE_BYTES)
        for key, value in attributes.items()
        if key and not key.startswith("goog")
    }
    return dict(list(kept.items())[:_ATTRIBUTES])


def _clipped(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
