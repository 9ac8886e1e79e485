"""How a tick takes up intents: those that wait, those whose work is out, and those that listen for a line."""

from collections import defaultdict
from collections.abc import Sequence

from logmend.errors import Transient
from logmend.model.enums import Result
from logmend.model.state import Fleet, Record, Subject
from logmend.model.struct import Struct, field
from logmend.model.values import Asked, Intent, Verdict
from logmend.pipeline import Pipeline
from logmend.silence import Listener
from logmend.stages import decide
from logmend.stages.intents import SILENCE
from logmend.tick.tally import Tally


class IntentWork(Struct, frozen=True):
    """Takes intents up again, each through the pipeline."""

    pipeline: Pipeline
    tally: Tally

    async def emit_again(self, record: Record) -> None:
        """Record an outcome that may not have reached its log."""
        if record.outcome is not None:
            await self.pipeline.recorder.emit(record.outcome, journalled=True)
            self.tally.emitted_again += 1

    async def resume(self, record: Record) -> None:
        """Go on with an intent."""
        self.tally.add(await self.pipeline.work(record.intent, resume=True))

    async def finish(self, subject: Subject) -> None:
        """Finish the attempt whose lease on this VM has run out."""
        if subject.lease is not None:
            outcome = await self.pipeline.finish(subject.lease.intent_id, subject.instance, subject.runbook)
            self.tally.freed += outcome is None
            self.tally.add(outcome)


class Requested(Struct, frozen=True):
    """Work that is out with an agent, or runs detached."""

    pipeline: Pipeline
    tally: Tally
    fleet: Fleet

    async def close(self, record: Record) -> None:
        """Take up what there is news of."""
        if await self._news(record):
            self.tally.add(await self.pipeline.work(record.intent, resume=True))

    async def prefetch(self, records: Sequence[Record]) -> None:
        """Let agents read the reports of all open requests in few calls."""
        asked = defaultdict[str, list[Asked]](list)
        for each in records:
            if each.executor is not None and each.request is not None:
                asked[each.executor].append(each.request)
        for name, every in asked.items():
            if (agent := self.pipeline.worker.executors.agent(name)) is not None:
                await agent.prefetch(every)

    async def _news(self, record: Record) -> bool:
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
        if subject is None or decide.recall(intent, asked, subject, self.fleet, settings, now) is not None:
            return True
        runbook, guarding = self.pipeline.runbooks.get(intent.runbook), self.pipeline.worker.guarding
        try:
            if runbook is None or await guarding.objection(intent, asked, runbook) is not None:
                return True
        except Transient:
            if await agent.report(asked) is None:
                raise
        return await agent.report(asked) is not None


class Parked(Struct, frozen=True):
    """Intents that wait for their time; of those that listen for a line, the log is asked at once."""

    pipeline: Pipeline
    tally: Tally
    listener: Listener | None
    heard: dict[str, Verdict | None] = field(default_factory=dict)

    async def listen(self, records: Sequence[Record]) -> None:
        """Ask the log what became of fixes, for all that wait for it."""
        asked = [each for each in records if each.intent.source.kind == SILENCE]
        # An attempt that was begun had heard the line: the VM is looked at until it answers.
        self.heard.update({each.intent.intent_id: None for each in asked if each.attempt})
        self.heard.update(await self._hear([each.intent for each in asked if not each.attempt]))

    async def take_up(self, record: Record) -> None:
        """Go on with an intent; what listens and was not answered waits on."""
        if record.intent.source.kind != SILENCE:
            self.tally.add(await self.pipeline.work(record.intent, resume=True))
        elif (intent_id := record.intent.intent_id) in self.heard:
            verdict = self.heard[intent_id]
            self.tally.add(await self.pipeline.work(record.intent, resume=True, answer=verdict))

    async def _hear(self, intents: Sequence[Intent]) -> dict[str, Verdict | None]:
        """Ask the log what became of fixes. If it may no longer be read, that is the answer."""
        if self.listener is not None:
            return await self.listener.hear(intents, self.pipeline.runbooks, self.pipeline.clock.now())
        unread = Verdict(Result.SKIPPED, "silence_unknown", "LOGMEND_CONFIRM_SILENCE has been turned off")
        return {each.intent_id: unread for each in intents}
