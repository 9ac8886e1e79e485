"""The pipeline: from a request to its one final outcome.

decode ► :mod:`~logmend.stages.intake` {match ► identify ► guards without facts} ► [journal: admission] ► an
attempt (:mod:`logmend.worker`) ► outcome ► answer. The first reason to stop wins; only these three
files know the order.

An event ends in exactly one final outcome, which is recorded, or counted with others of its VM that say the
same; whatever goes wrong on the way becomes one, or is answered so that the message is delivered again.
Nothing is decided here: the stages are asked, and obeyed.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from logmend.errors import Transient
from logmend.ledger import Journal
from logmend.ledger.changes import said_again
from logmend.ledger.repeats import Day, countable, day_of
from logmend.model.enums import Result
from logmend.model.state import Admitted, Expired, Finished, Turned, View
from logmend.model.struct import Struct, field
from logmend.model.values import InstanceRef, Intent, Outcome, Tick, Verdict
from logmend.ports import Clock, DeadLetter, OutcomeFeed, OutcomeLog
from logmend.runbook import Runbook
from logmend.settings import Policies, Settings
from logmend.stages import act, decide, decode, intake, match, outcomes
from logmend.stages.intake import Intake
from logmend.unmatched import Unmatched
from logmend.worker import Worker

log = logging.getLogger(__name__)

TAKEOVERS = 3
"""How many dead attempts one delivery finishes before it asks to be delivered again."""


class Pipeline(Struct, frozen=True):
    """Takes deliveries and intents, gives outcomes. Everything that reaches outside is a port."""

    policies: Policies
    runbooks: Mapping[str, Runbook]
    router: Callable[[], match.Router]
    clock: Clock
    journal: Journal
    worker: Worker
    outcome_log: OutcomeLog
    dead_letter: DeadLetter | None
    feed: OutcomeFeed | None = None
    unmatched: Unmatched = field(default_factory=Unmatched)

    async def handle(self, body: bytes, headers: Mapping[str, str]) -> Outcome | Tick:
        """Deal with one request; a tick is given back, to be run by :mod:`logmend.tick`."""
        delivery, event = decode.request(body, headers)
        if isinstance(event, Tick):
            return Tick(delivery.publish_time)
        try:
            await self.tell_unmatched(self.clock.now())
            return await self._event(intake.read(delivery, event, self.router), body)
        except Exception as error:  # noqa: BLE001  whatever it is, the message must come again
            trouble = act.trouble(error)
            verdict = Verdict(Result.DEFERRED, trouble.reason, trouble.detail)
            bare = intake.unread(delivery, event)
            return await self._last_word(
                outcomes.of_event(bare, verdict, self.policies.general, self.clock.now())
            )

    async def _event(self, read: Intake, body: bytes) -> Outcome:
        now = self.clock.now()
        rejected = read.verdict is not None and read.verdict.result is Result.REJECTED
        settings = self.policies.of(read.runbook.name if read.runbook and not rejected else None)
        if read.verdict is not None:
            if rejected and self.dead_letter is not None:
                await self.dead_letter.publish(body, read.delivery, read.verdict.reason or "")
            return await self._turned_away(read, read.verdict, settings, now)
        intent = read.intent(now)
        assert intent is not None  # without a verdict it names a runbook and a VM
        verdict = read.refused(intent, settings)
        if verdict is not None and await self.journal.record(intent.intent_id) is None:
            return await self._turned_away(read, verdict, settings, now)
        return await self.work(intent, published=read.delivery.publish_time)

    async def _turned_away(
        self, read: Intake, verdict: Verdict, settings: Settings, now: datetime
    ) -> Outcome:
        """Record or count what goes no further for what it shows itself."""
        outcome, intent = outcomes.of_event(read, verdict, settings, now), read.intent(now)
        if verdict.result is Result.UNMATCHED and self._counts:
            if self.unmatched.counted(outcome):
                return outcomes.counted(outcome)
            await self.emit(outcome)
            self.unmatched.recorded(outcome, now)
            return outcome
        day = self._day(intent, read.delivery.publish_time) if intent else None
        if intent is None or day is None or not countable(outcome, None):
            return await self.emit(outcome)
        if await self.journal.counts.refuse(intent, outcome, day, now, counting=self._counts):
            return outcomes.counted(outcome)
        return await self.emit(outcome)

    @property
    def _counts(self) -> bool:
        return self.policies.general.counts

    def _day(self, intent: Intent, published: datetime | None) -> Day | None:
        """Return the day on which an event is counted, or was before that was turned off; None: never."""
        kept = self.policies.general.ledger_is_kept
        if published is None or not (intent.repeats and intent.message_id and kept):
            return None
        return day_of(intent.instance, intent.runbook, published)

    async def tell_unmatched(self, now: datetime | None) -> None:
        """Record how many events of no runbook came in an hour that is over; None: in any."""
        kinds = self.unmatched.over(now)
        try:
            while kinds:
                await self.emit(kinds[-1].outcome)
                kinds.pop()
        finally:
            self.unmatched.back(kinds)

    async def work(
        self,
        intent: Intent,
        *,
        resume: bool = False,
        published: datetime | None = None,
        told: Verdict | None = None,
    ) -> Outcome:
        """Bring one intent as far as it gets now. ``resume`` takes up what waits in the ledger (the tick).

        ``told`` ends it without a check of the VM: what the tick heard about many at once. So does what the
        intent itself ends with.
        """
        told = told or intent.ends
        runbook, now = self.runbooks.get(intent.runbook), self.clock.now()
        settings = self.policies.of(intent.runbook)

        def judge(view: View) -> Verdict | None:
            full_until = self.journal.full_until(intent.runbook)
            verdict = decide.admission(intent, view, settings, now, full_until)
            skipped = verdict is not None and verdict.result is Result.SKIPPED
            return verdict if told is None or skipped else told

        def compose(verdict: Verdict, view: View) -> Outcome:
            return outcomes.of_turned(intent, verdict, view, runbook, settings, now)

        day = None if resume else self._day(intent, published)
        for _ in range(TAKEOVERS):
            match await self.journal.admit(
                intent, judge, compose, now, resume=resume, day=day, counting=self._counts
            ):
                case Finished(known) if known.counted and known.outcome is not None:
                    return outcomes.counted(known.outcome)
                case Turned(outcome, counted=True):
                    return outcomes.counted(outcome)
                case Finished(known):
                    return await self.emit(known.outcome or outcomes.of_waiting(known, settings, now))
                case Turned(outcome, said_before):
                    if resume and (said_before or outcome.result is Result.DEFERRED):
                        return outcome  # no news: it waits where it stood
                    return await self.emit(outcome, journalled=resume or intent.message_id is None)
                case Expired(intent_id):
                    await self.finish(intent_id, intent.instance, intent.runbook)
                case Admitted() as held:
                    return await self._attempt(held, runbook, published)
        raise Transient("ledger_contention", "attempt after attempt has died on this VM")

    async def finish(self, intent_id: str, instance: InstanceRef, runbook: str) -> Outcome | None:
        """Finish an intent whose attempt died, under its own id.

        None if nobody can, since it is gone or cannot be read: then the VM is freed of its lease.
        """
        if freed := await self.journal.free(instance, runbook, self.clock.now()):
            log.warning("freed %s (%s) of an orphaned %s", instance, runbook, freed)
            return None
        known = await self.journal.record(intent_id)
        return await self.work(known.intent, resume=True) if known else None

    async def _attempt(self, held: Admitted, runbook: Runbook | None, published: datetime | None) -> Outcome:
        settings = self.policies.of(held.record.intent.runbook)
        if held.interrupted:
            await self.emit(outcomes.interrupted(held.record, held.interrupted, settings))
        outcome = await self.worker.work(held, runbook, published)
        if outcome is None:
            return held.record.outcome or outcomes.of_waiting(held.record, settings, self.clock.now())
        unseen = outcome.result is Result.PARKED and outcome.executor is None
        if unseen and said_again(held.record.outcome, outcome)[1]:
            return outcome  # no news: it waits where it stood, and nobody was at the VM
        return await self.emit(outcome, journalled=True)

    async def emit(self, outcome: Outcome, *, journalled: bool = False) -> Outcome:
        """Record an outcome in its log; the ledger notes it, if that is not what it holds already.

        It lists one that is ``journalled`` as not recorded yet, and any other that it keeps as recorded.
        """
        done = await self.record(outcome)
        if outcome.final and done is journalled:
            await self.journal.note_emitted(outcome, self.clock.now(), done=done)
        return outcome

    async def record(self, outcome: Outcome) -> bool:
        """Record an outcome in its log and hand a final one on; False if that is to be tried again."""
        await self.outcome_log.write(outcome)
        return self.feed is None or not outcome.final or await self.feed.publish(outcome)

    async def _last_word(self, outcome: Outcome) -> Outcome:
        """Try to record that a message has to come again; it comes again in any case."""
        try:
            return await self.emit(outcome)
        except Exception as error:  # noqa: BLE001  the answer matters more than its record
            act.trouble(error)
            return outcome
