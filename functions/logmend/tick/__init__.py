"""The tick: takes up what waits in the ledger, oldest first, and stops in time to be called again.

:meth:`Ticker.run` is the order. Intents go through :meth:`logmend.pipeline.Pipeline.work`; two ticks at once
share the work, since each is admitted once.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from logmend.errors import Permanent
from logmend.ledger import Queues
from logmend.ledger.queues import Unreadable
from logmend.model.state import Record, Repeats, Subject
from logmend.model.struct import Struct
from logmend.model.values import Tick
from logmend.pipeline import Pipeline
from logmend.silence import Listener
from logmend.stages import decide
from logmend.tick.controls import TIMELY, ControlWork
from logmend.tick.drain import ALL, Drain
from logmend.tick.intents import IntentWork, Parked, Requested
from logmend.tick.tally import Tally

__all__ = ["Tally", "Ticker"]


class Ticker(Struct, frozen=True):
    """Runs ticks on a pipeline."""

    pipeline: Pipeline
    queues: Queues
    listener: Listener | None = None

    def untimely(self, tick: Tick) -> timedelta | None:
        """Return how old a tick is by this machine's clock (negative: from the future); None if it is timely.

        Pub/Sub's publish time is the second clock. By a clock that is wrong every tick is untimely, every
        entry stale and every lease run out, so nothing is to be done by it; no tick is then finished, which
        there is an alert for. After a backlog it is a few ticks, and a newer one follows.
        """
        if tick.published_at is None:
            return None
        age = self.pipeline.clock.now() - tick.published_at
        return age if abs(age) > TIMELY else None

    async def run(self) -> Tally:
        """Work through every list until it is empty or time is up; errors of one intent stop no other.

        In this order: freezes and breakers, plans that nobody decided on, uses of controls that are to be
        told, outcomes that may not have reached their log, leases that ran out, what a crash left behind,
        what is unverified, what was requested, what is parked, VMs that have not been heard from for a month;
        last, what the tick itself did to controls, and counts.
        """
        pipeline, queues, began = self.pipeline, self.queues, self.pipeline.clock.now()
        of_controls = ControlWork(pipeline)
        tally = Tally(partial(of_controls.queued, began))
        drain = Drain(pipeline.clock, tally, self._until())
        controls, intents = pipeline.worker.controls, IntentWork(pipeline, tally)

        await controls.note_tick(began, pipeline.journal.owner, self._counts_from(began))
        await tally.alone("freezes that are over", controls.thaw(began))
        await tally.alone("breakers", of_controls.guard_breakers(tally))
        await drain(queues.overdue, of_controls.expire)
        await drain(queues.untold, of_controls.tell)
        await drain(queues.unemitted, intents.emit_again)
        await drain(queues.expired, intents.finish)
        await drain(self._left_behind, intents.resume)
        await drain(queues.unverified, intents.resume)
        requested = Requested(pipeline, tally, await controls.fleet())
        # What stops a request waits for nobody's next look: every tick asks, also before one is due.
        await drain(
            queues.requested, requested.close, page=ALL, prepare=requested.prefetch, ahead=decide.RECHECK
        )
        parked = Parked(pipeline, tally, self.listener)
        await drain(queues.parked, parked.take_up, page=ALL, prepare=parked.listen, first=_in_turn)
        await tally.alone("runbooks that wait for a place", of_controls.note_queued(tally))
        await drain(queues.kept, partial(self._review, tally))
        await drain(queues.untold, of_controls.tell)  # what this tick itself did
        await drain(queues.counted, self._count)
        telling = pipeline.recorder.tell_unmatched(pipeline.clock.now())
        await tally.alone("the count of unmatched events", telling)
        return tally

    def _until(self) -> float:
        """Return when to stop, by the monotonic clock: in time for the attempts at work to end."""
        settings = self.pipeline.policies.general
        left = settings.function_timeout - settings.attempt_deadline
        return time.monotonic() + left.total_seconds() * 0.9

    def _counts_from(self, began: datetime) -> datetime | None:
        """Return from when on all messages come to instances that count; None if this one does not count."""
        return began + TIMELY if self.pipeline.policies.general.counts else None

    async def _left_behind(self, now: datetime, _: int, unreadable: Unreadable) -> Sequence[Record]:
        settings = self.pipeline.policies.general
        patience = settings.request_deadline + settings.lease
        return await self.pipeline.journal.left_behind(now, patience, unreadable)

    async def _review(self, tally: Tally, subject: Subject) -> None:
        """Forget a VM that Compute no longer knows, with all that was held of it."""
        journal = self.pipeline.journal
        if subject.open_request is None:
            try:
                await self.pipeline.worker.compute.facts(subject.instance)
            except Permanent as error:
                if error.reason == "instance_gone":
                    gone = await journal.forget(subject)  # others add to the tally meanwhile
                    tally.forgotten += gone
                    return
        await journal.keep(subject, self.pipeline.clock.now())

    async def _count(self, repeats: Repeats) -> None:
        """Record how often a VM said the same again. Who is killed on the way records the very same again."""
        recorder, counts, now = (
            self.pipeline.recorder,
            self.pipeline.journal.counts,
            self.pipeline.clock.now(),
        )
        recorded = [each for each in await counts.close(repeats, now) if await recorder.record(each)]
        await counts.told(repeats, recorded, now)


def _in_turn(record: Record) -> tuple[object, ...]:
    return decide.in_turn(record.intent)
