"""The tick: takes up what waits in the ledger, oldest first, and stops in time to be called again.

In this order: plans that nobody decided on, uses of controls that are to be told, outcomes that may not have
reached their log, leases that ran out, what is unverified, what was requested, what is parked, VMs that have
not been heard from for a month; last, what the tick itself did to controls, and counts. Intents go through
:meth:`logmend.pipeline.Pipeline.work`; two ticks at once share the work, since each is admitted once.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from logmend.errors import Permanent, Transient
from logmend.ledger import Queues
from logmend.ledger.queues import Unreadable
from logmend.model.enums import Action, Result
from logmend.model.state import Acts, Approval, Fleet, Record, Repeats, Subject
from logmend.model.struct import Struct
from logmend.model.values import Asked, Intent, Outcome, Tick, Verdict
from logmend.pipeline import Pipeline
from logmend.runbook import Runbook
from logmend.silence import Listener
from logmend.stages import act, decide, outcomes
from logmend.stages.intents import SILENCE

log = logging.getLogger(__name__)

_Item = Record | Subject | Acts | Approval | Repeats
T = TypeVar("T", Record, Subject, Acts, Approval, Repeats)

PAGE = 100
ALL = 10_000
"""Requests whose reports are read together: most of a report's cost is the call."""
TIMELY = timedelta(minutes=10)
"""How far a tick's publication may lie from this machine's clock: two ticks, and some."""
CONCURRENCY = 16
"""Intents of a tick at work at once: enough to hide the network, few enough for one instance."""


@dataclass(slots=True)
class Tally:
    """What a tick did: results with their numbers, errors, and whether work was left for the next.

    ``freed`` counts VMs whose lease was for an intent that is gone, ``forgotten`` those that Compute no
    longer knows.
    ``queued`` are runbooks of which intents still wait for a place in the runbook's own budget, which
    ``waits`` says of an outcome.
    """

    waits: Callable[[Outcome], bool]
    outcomes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    emitted_again: int = 0
    freed: int = 0
    forgotten: int = 0
    left: bool = False
    queued: set[str] = field(default_factory=set)

    def document(self) -> dict[str, Any]:
        """Return the tally as JSON data."""
        return {
            "outcomes": dict(self.outcomes),
            "errors": dict(self.errors),
            "emitted_again": self.emitted_again,
            "freed": self.freed,
            "forgotten": self.forgotten,
            "left": self.left,
        }

    def trouble(self, name: str, error: Exception) -> None:
        """Count what stays on its list for the next tick, and say which it is."""
        reason = act.trouble(error).reason
        self.errors[reason] = self.errors.get(reason, 0) + 1
        log.warning("left for the next tick: %s: %s", name, reason)

    def add(self, outcome: Outcome | None) -> None:
        """Count one outcome."""
        if outcome is not None:
            self.outcomes[outcome.result] = self.outcomes.get(outcome.result, 0) + 1
            if outcome.runbook is not None and self.waits(outcome):
                self.queued.add(outcome.runbook)


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
        """Work through every list until it is empty or time is up; errors of one intent stop no other."""
        settings, began = self.pipeline.policies.general, self.pipeline.clock.now()
        tally = Tally(partial(self._queued, began))
        until = (
            time.monotonic() + (settings.function_timeout - settings.attempt_deadline).total_seconds() * 0.9
        )
        controls = self.pipeline.worker.controls
        await controls.note_tick(began, self.pipeline.journal.owner, self._counts_from(began))
        await _alone("freezes that are over", controls.thaw(began), tally)
        await _alone("breakers", self._guard_breakers(tally), tally)

        async def emit_again(record: Record) -> None:
            if record.outcome is not None:
                await self.pipeline.emit(record.outcome, journalled=True)
                tally.emitted_again += 1

        patience = settings.request_deadline + settings.lease
        heard: dict[str, Verdict | None] = {}

        async def resume(record: Record) -> None:
            tally.add(await self.pipeline.work(record.intent, resume=True))

        async def parked(record: Record) -> None:
            if record.intent.source.kind != SILENCE:
                await resume(record)
            elif (intent_id := record.intent.intent_id) in heard:
                tally.add(await self.pipeline.work(record.intent, resume=True, told=heard[intent_id]))

        async def listen(records: Sequence[Record]) -> None:
            asked = [each for each in records if each.intent.source.kind == SILENCE]
            # An attempt that was begun had heard the line: the VM is looked at until it answers.
            heard.update({each.intent.intent_id: None for each in asked if each.attempt})
            heard.update(await self._hear([each.intent for each in asked if not each.attempt]))

        async def close(record: Record) -> None:
            if await self._news(record, fleet):
                tally.add(await self.pipeline.work(record.intent, resume=True))

        async def left_behind(now: datetime, _: int, unreadable: Unreadable) -> Sequence[Record]:
            return await self.pipeline.journal.left_behind(now, patience, unreadable)

        async def review(subject: Subject) -> None:
            gone = await self._review(subject)
            tally.forgotten += gone

        async def finish(subject: Subject) -> None:
            if subject.lease is not None:
                done = await self.pipeline.finish(subject.lease.intent_id, subject.instance, subject.runbook)
                tally.freed += done is None
                tally.add(done)

        await self._drain(self.queues.overdue, self._expire, tally, until)
        await self._drain(self.queues.untold, self._tell, tally, until)
        await self._drain(self.queues.unemitted, emit_again, tally, until)
        await self._drain(self.queues.expired, finish, tally, until)
        await self._drain(left_behind, resume, tally, until)
        await self._drain(self.queues.unverified, resume, tally, until)
        fleet = await self.pipeline.worker.controls.fleet()
        # What stops a request waits for nobody's next look: every tick asks, also before one is due.
        await self._drain(
            self.queues.requested,
            close,
            tally,
            until,
            page=ALL,
            prepare=self._prefetch,
            ahead=decide.RECHECK,
        )
        await self._drain(
            self.queues.parked,
            parked,
            tally,
            until,
            page=ALL,
            prepare=listen,
            first=lambda each: decide.in_turn(each.intent),
        )
        await _alone("runbooks that wait for a place", self._note_queued(tally), tally)
        await self._drain(self.queues.kept, review, tally, until)
        await self._drain(self.queues.untold, self._tell, tally, until)  # what this tick itself did
        await self._tell_counts(tally, until)
        return tally

    async def _expire(self, approval: Approval) -> None:
        """End a plan that nobody decided on in time, or tell that it is about to end."""
        owner = self.pipeline.policies.of(approval.intent.runbook).owner_of(approval.labels)
        controls, now = self.pipeline.worker.controls, self.pipeline.clock.now()
        await controls.expire(approval.approval_id, now, owner)

    async def _tell(self, acts: Acts) -> None:
        """Record what was done to controls. Who is killed before it is noted tells it again, the same."""
        done = True
        for number, act_ in enumerate(acts.acts):
            settings = self.pipeline.policies.of(act_.runbook)
            done &= await self.pipeline.record(outcomes.of_act(acts, number, settings))
        if done:
            await self.pipeline.worker.controls.told(acts)

    def _queued(self, began: datetime, outcome: Outcome) -> bool:
        """Return whether an intent waits for a place in its runbook's own budget.

        A cohort's limit and a person's revert in waves have the same reason: others need not wait for those.
        """
        if outcome.reason != decide.BUDGET_EXHAUSTED or outcome.action is Action.REVERT:
            return False
        full = self.pipeline.journal.full_until(outcome.runbook or "")
        return full is not None and full > began

    async def _note_queued(self, tally: Tally) -> None:
        """Remember of which runbooks intents wait for a place, until they are asked again, and some."""
        runbooks, now = self.pipeline.runbooks, self.pipeline.clock.now()
        budgets = {
            name: decide.budget(runbooks[name], self.pipeline.policies.of(name))
            for name in sorted(tally.queued)
            if name in runbooks
        }
        until = {name: budget.retry_at(now) + TIMELY for name, budget in budgets.items()}
        await self.pipeline.worker.controls.note_queued(until, now)

    def _counts_from(self, began: datetime) -> datetime | None:
        """Return from when on all messages come to instances that count; None if this one does not count."""
        return began + TIMELY if self.pipeline.policies.general.counts else None

    async def _tell_counts(self, tally: Tally, until: float) -> None:
        """Record how often what was recorded before was said again."""
        await self._drain(self.queues.counted, self._count, tally, until)
        telling = self.pipeline.tell_unmatched(self.pipeline.clock.now())
        await _alone("the count of unmatched events", telling, tally)

    async def _count(self, repeats: Repeats) -> None:
        """Record how often a VM said the same again. Who is killed on the way records the very same again."""
        counts, now = self.pipeline.journal.counts, self.pipeline.clock.now()
        done = [each for each in await counts.close(repeats, now) if await self.pipeline.record(each)]
        await counts.told(repeats, done, now)

    async def _guard_breakers(self, tally: Tally) -> None:
        fleet = await self.pipeline.worker.controls.fleet()
        for runbook in self.pipeline.runbooks.values():
            guarded = self._guard_breaker(runbook, fleet)
            await _alone(f"breaker and wave of {runbook.name}", guarded, tally)

    async def _guard_breaker(self, runbook: Runbook, fleet: Fleet) -> None:
        """Look at a breaker as of its latest failure: who recorded that may have been killed at it."""
        worker, name, now = self.pipeline.worker, runbook.name, self.pipeline.clock.now()
        if name in fleet.breakers:
            return  # which pauses its wave as well
        failed = await worker.journal.last_failure(name)
        await worker.move_wave(runbook, fleet, now)
        if failed is not None and failed > now - worker.policies.of(name).breaker_window:
            await worker.guard_breaker(name, failed)

    async def _review(self, subject: Subject) -> bool:
        """Forget a VM that Compute no longer knows, with all that was held of it; say whether it was."""
        journal = self.pipeline.journal
        if subject.open_request is None:
            try:
                await self.pipeline.worker.compute.facts(subject.instance)
            except Permanent as error:
                if error.reason == "instance_gone":
                    return await journal.forget(subject)
        await journal.keep(subject, self.pipeline.clock.now())
        return False

    async def _drain(
        self,
        due: Callable[[datetime, int, Unreadable], Awaitable[Sequence[T]]],
        work: Callable[[T], Awaitable[None]],
        tally: Tally,
        until: float,
        *,
        page: int = PAGE,
        prepare: Callable[[Sequence[T]], Awaitable[None]] | None = None,
        ahead: timedelta = timedelta(),
        first: Callable[[T], tuple[object, ...]] | None = None,
    ) -> None:
        """Take page after page of what was due when the list was begun; each item once.

        ``prepare`` gets a page before its items are worked on, for what is cheaper asked of many at once;
        ``ahead`` takes what falls due by then as well. ``first`` is what a page is sorted by: items
        with another first part of it do not overlap, the others begin in order. No two of a VM and runbook
        overlap.
        """
        now, seen = self.pipeline.clock.now(), set[str]()
        at_once = asyncio.Semaphore(CONCURRENCY)

        def unreadable(name: str, error: Permanent) -> None:
            if name not in seen:
                seen.add(name)
                tally.trouble(name, error)

        vms = defaultdict[str, asyncio.Lock](asyncio.Lock)

        async def one(item: T) -> None:
            async with vms[_vm(item)], at_once:
                if time.monotonic() > until:
                    tally.left = True
                    return
                await _alone(_name(item), work(item), tally)

        while not tally.left:
            try:
                found = await due(now + ahead, page + len(seen), unreadable)
            except Permanent as error:  # a list without its index, say: the others are read all the same
                tally.trouble("a list of what is due", error)
                return
            items = [item for item in found if _name(item) not in seen]
            if not items:
                return
            seen.update(_name(item) for item in items)
            if prepare is not None:
                try:
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        await prepare(items)
                except Exception as error:  # noqa: BLE001  each item then says what it lacks
                    tally.trouble(f"{len(items)} read ahead", error)
            if first is None:
                await asyncio.gather(*map(one, items))
                continue
            for _, rank in groupby(sorted(items, key=first), key=lambda item: first(item)[0]):
                await asyncio.gather(*map(one, rank))

    async def _hear(self, intents: Sequence[Intent]) -> dict[str, Verdict | None]:
        """Ask the log what became of fixes. If it may no longer be read, that is the answer."""
        if self.listener is not None:
            return await self.listener.hear(intents, self.pipeline.runbooks, self.pipeline.clock.now())
        unread = Verdict(Result.SKIPPED, "silence_unknown", "LOGMEND_CONFIRM_SILENCE is off by now")
        return {each.intent_id: unread for each in intents}

    async def _prefetch(self, records: Sequence[Record]) -> None:
        """Let agents read the reports of all open requests in few calls."""
        asked = defaultdict[str, list[Asked]](list)
        for each in records:
            if each.executor is not None and each.request is not None:
                asked[each.executor].append(each.request)
        for name, every in asked.items():
            if (agent := self.pipeline.worker.executors.agent(name)) is not None:
                await agent.prefetch(every)

    async def _news(self, record: Record, fleet: Fleet) -> bool:
        """Return whether requested work is worth taking up: thousands may be out that nothing is new of.

        An agent's is, once it reported, is overdue, or may not go on; what runs detached has to be checked.
        Whether a guard has anything against it by now takes a look-up of each VM that may be changed.
        """
        agent, asked = self.pipeline.worker.executors.agent(record.executor), record.request
        intent, now = record.intent, self.pipeline.clock.now()
        settings = self.pipeline.policies.of(intent.runbook)
        if agent is None or asked is None:
            return record.requested_at is None or now >= record.requested_at + decide.RECHECK
        if now >= asked.since + settings.request_deadline:
            return True
        subject = await self.pipeline.worker.controls.subject(intent.instance, intent.runbook)
        if subject is None or decide.recall(intent, asked, subject, fleet, settings, now) is not None:
            return True
        runbook = self.pipeline.runbooks.get(intent.runbook)
        try:
            if runbook is None or await self.pipeline.worker.objection(intent, asked, runbook) is not None:
                return True
        except Transient:
            if await agent.report(asked) is None:
                raise
        return await agent.report(asked) is not None


async def _alone(name: str, work: Awaitable[None], tally: Tally) -> None:
    """Do a part of a tick; what goes wrong in it stops no other."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  the next tick does it again
        tally.trouble(name, error)


def _vm(item: _Item) -> str:
    match item:
        case Record():
            return f"{item.intent.instance}/{item.intent.runbook}"
        case _:
            return _name(item)


def _name(item: _Item) -> str:
    match item:
        case Record():
            return item.intent.intent_id
        case Subject():
            return f"{item.instance}/{item.runbook}"
        case Repeats():
            return f"{item.instance}/{item.runbook} of day {item.day}"
        case Acts():
            return item.acts_id
        case Approval():
            return item.approval_id
