"""Publish final outcomes to Pub/Sub, in addition to the log, for systems that open tickets or post to chats.

A message is the outcome's JSON document. Its attributes are the labels of the log entry (``result``,
``reason``, ``runbook``, ``cause``), and ``severity``, ``owner``, ``project``, ``zone`` and ``outcome_id``;
those that do not apply are left out. ``outcome_id`` stays the same if an outcome is published again: both
Pub/Sub and logmend deliver at least once.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from logmend.adapters.google.pubsub import Publisher
from logmend.errors import Permanent, Transient
from logmend.model.values import Outcome
from logmend.outcome import document

log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds for one publish, retries included: the event waits for its answer."""
PAUSE = 60.0
"""Seconds without a try after Pub/Sub did not answer, to avoid waiting for each outcome."""


class OutcomeTopic:
    """Publishes outcomes; see :class:`logmend.ports.OutcomeFeed`.

    This module logs a WARNING for each outcome that was not published: ``not published: REASON: …``. The
    metric ``unpublished`` in ``deploy/metrics.tf`` counts them.
    """

    def __init__(
        self,
        topic: str,
        publisher: Publisher | None = None,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._publisher = publisher or Publisher(timeout=timeout)
        self._limit = 2 * timeout  # the first time, this includes opening the client
        self._clock = clock
        self._paused_until = 0.0

    async def publish(self, outcome: Outcome) -> bool:
        """Publish within seconds; never raises. An outcome of a message from this topic is not published."""
        if outcome.reason == "own_entry":
            return True
        if self._clock() < self._paused_until:
            log.warning("not published: paused: %s", outcome.outcome_id)
            return False
        try:
            async with asyncio.timeout(self._limit):
                data = document.line(outcome).encode()
                await self._publisher.publish(self._topic, data, attributes(outcome))
        except Permanent as error:
            log.warning("not published: %s: %s", error, outcome.outcome_id)
        except (Transient, TimeoutError) as error:
            self._paused_until = self._clock() + PAUSE
            why = error if isinstance(error, Transient) else f"api_unreachable: none in {self._limit:g} s"
            log.warning("not published: %s: %s", why, outcome.outcome_id)
            return False
        return True

    async def aclose(self) -> None:
        """Release connections."""
        await self._publisher.aclose()


def attributes(outcome: Outcome) -> dict[str, str]:
    """Return the attributes by which a subscription can filter."""
    ref = outcome.instance
    more = {
        "severity": document.severity(outcome),
        "owner": outcome.owner,
        "project": ref.project_id if ref else None,
        "zone": ref.zone if ref else None,
        "outcome_id": document.insert_id(outcome),
    }
    return document.labels(outcome) | {key: value for key, value in more.items() if value}
