"""The pipeline: from a request to its one final outcome.

decode ► :mod:`~logmend.stages.intake` {match ► identify ► guards without facts} ► [journal: admission] ► an
attempt (:mod:`logmend.worker`) ► outcome ► :mod:`~logmend.recorder` ► answer. The first reason to stop
wins; only these four files know the order.

An event ends in exactly one final outcome, which is recorded, or counted with others of its VM that repeat
it. Whatever goes wrong becomes one, or is answered in a way that has the message delivered again. Nothing is
decided here: the stages are asked, and obeyed.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from logmend.errors import Transient
from logmend.ledger import Journal
from logmend.ledger.changes import said_again
from logmend.ledger.repeats import Day, countable, day_of
from logmend.model.enums import Result
from logmend.model.state import Admitted, Expired, Finished, Record, Turned, View
from logmend.model.struct import Struct
from logmend.model.values import InstanceRef, Intent, Outcome, Tick, Verdict
from logmend.ports import Clock, DeadLetter
from logmend.recorder import Recorder
from logmend.runbook import Runbook
from logmend.settings import Policies, Settings
from logmend.stages import act, decide, decode, intake, match, outcomes
from logmend.stages.intake import Intake
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
    recorder: Recorder
    dead_letter: DeadLetter | None

    async def handle(self, body: bytes, headers: Mapping[str, str]) -> Outcome | Tick:
        """Deal with one request; return a tick, for :mod:`logmend.tick` to run."""
        delivery, event = decode.request(body, headers)
        if isinstance(event, Tick):
            return Tick(delivery.publish_time)
        try:
            await self.recorder.tell_unmatched(self.clock.now())
            return await self._event(intake.read(delivery, event, self.router), body)
        except Exception as error:  # noqa: BLE001  whatever it is, the message must come again
            trouble = act.trouble(error)
            verdict = Verdict(Result.DEFERRED, trouble.reason, trouble.detail)
            bare = intake.unread(delivery, event)
            return await self.recorder.last_word(
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
        """Record or count an event that goes no further because of what it shows itself."""
        outcome, intent = outcomes.of_event(read, verdict, settings, now), read.intent(now)
        if verdict.result is Result.UNMATCHED and self._counts:
            if self.recorder.unmatched.counted(outcome):
                return outcomes.counted(outcome)
            await self.recorder.emit(outcome)
            self.recorder.unmatched.recorded(outcome, now)
            return outcome
        day = self._day(intent, read.delivery.publish_time) if intent else None
        if intent is None or day is None or not countable(outcome, None):
            return await self.recorder.emit(outcome)
        if await self.journal.counts.refuse(intent, outcome, day, now, counting=self._counts):
            return outcomes.counted(outcome)
        return await self.recorder.emit(outcome)

    @property
    def _counts(self) -> bool:
        return self.policies.general.counts

    def _day(self, intent: Intent, published: datetime | None) -> Day | None:
        """Return the day on which an event is counted, or was before counting was turned off; None: never."""
        kept = self.policies.general.ledger_is_kept
        if published is None or not (intent.repeats and intent.message_id and kept):
            return None
        return day_of(intent.instance, intent.runbook, published)

    async def work(
        self,
        intent: Intent,
        *,
        resume: bool = False,
        published: datetime | None = None,
        answer: Verdict | None = None,
    ) -> Outcome:
        """Bring one intent as far as it gets now. ``resume`` takes up what waits in the ledger (the tick).

        ``answer`` ends it without a check of the VM: what the tick heard about many at once. So does what the
        intent itself ends with.
        """
        answer = answer or intent.ends
        runbook, now = self.runbooks.get(intent.runbook), self.clock.now()
        settings = self.policies.of(intent.runbook)

        def judge(view: View) -> Verdict | None:
            full_until = self.journal.full_until(intent.runbook)
            verdict = decide.admission(intent, view, settings, now, full_until)
            skipped = verdict is not None and verdict.result is Result.SKIPPED
            return verdict if answer is None or skipped else answer

        def compose(verdict: Verdict, view: View) -> Outcome:
            return outcomes.of_turned(intent, verdict, view, runbook, settings, now)

        day = None if resume else self._day(intent, published)
        for _ in range(TAKEOVERS):
            match await self.journal.admit(
                intent, judge, compose, now, resume=resume, day=day, counting=self._counts
            ):
                case Admitted() as held:
                    return await self._work_on(held, runbook, published)
                case Expired(intent_id):
                    await self.finish(intent_id, intent.instance, intent.runbook)
                case Finished(record):
                    return await self._again(record, settings, now)
                case Turned() as turned:
                    return await self._not_admitted(turned, intent, resume=resume)
        raise Transient("ledger_contention", "attempt after attempt has died on this VM")

    async def _again(self, record: Record, settings: Settings, now: datetime) -> Outcome:
        """Answer a message that was dealt with before with its earlier outcome."""
        if record.counted and record.outcome is not None:
            return outcomes.counted(record.outcome)
        return await self.recorder.emit(record.outcome or outcomes.of_waiting(record, settings, now))

    async def _not_admitted(self, turned: Turned, intent: Intent, *, resume: bool) -> Outcome:
        """Record why an intent was not admitted, unless it is counted, or waits where it stood."""
        outcome = turned.outcome
        if turned.counted:
            return outcomes.counted(outcome)
        if resume and (turned.said_before or outcome.result is Result.DEFERRED):
            return outcome
        return await self.recorder.emit(outcome, journalled=resume or intent.message_id is None)

    async def finish(self, intent_id: str, instance: InstanceRef, runbook: str) -> Outcome | None:
        """Finish an intent whose attempt died, under its own id.

        None if that is impossible, since it is gone or cannot be read: then the VM's lease is released.
        """
        if freed := await self.journal.free(instance, runbook, self.clock.now()):
            log.warning("freed %s (%s) of an orphaned %s", instance, runbook, freed)
            return None
        record = await self.journal.record(intent_id)
        return await self.work(record.intent, resume=True) if record else None

    async def _work_on(self, held: Admitted, runbook: Runbook | None, published: datetime | None) -> Outcome:
        settings = self.policies.of(held.record.intent.runbook)
        if held.interrupted:
            await self.recorder.emit(outcomes.interrupted(held.record, held.interrupted, settings))
        outcome = await self.worker.work(held, runbook, published)
        if outcome is None:
            return held.record.outcome or outcomes.of_waiting(held.record, settings, self.clock.now())
        unseen = outcome.result is Result.PARKED and outcome.executor is None
        if unseen and said_again(held.record.outcome, outcome)[1]:
            return outcome  # no news: it waits where it stood, and nobody was at the VM
        return await self.recorder.emit(outcome, journalled=True)
