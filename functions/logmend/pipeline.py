"""The pipeline: the only file that knows the order of the stages.

decode ► match ► identify ► decide on the event alone ► [journal: admission] ► facts ► guards
► act {check ► commit ► enforce ► check} ► verify ► [journal: conclusion] ► record ► answer.
The first reason to stop wins.

An event ends in exactly one final outcome; whatever goes wrong on the way becomes one, or is answered so
that the message is delivered again. Nothing is decided here: the stages are asked, and obeyed.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from logmend import settle
from logmend.errors import Permanent, Superseded, Transient
from logmend.ledger import Controls, Journal
from logmend.model.enums import Action, Result
from logmend.model.state import Admitted, Expired, Finished, State, Subject, Turned, View
from logmend.model.struct import Struct, replace
from logmend.model.values import (
    Asked,
    Attempt,
    Defer,
    Delivery,
    Event,
    Evidence,
    Incident,
    InstanceFacts,
    InstanceRef,
    Intent,
    Judgement,
    Latency,
    LogEntry,
    Outcome,
    Proceed,
    Skip,
    Stop,
    Tick,
    Undecodable,
    Verdict,
)
from logmend.ports import Clock, Compute, DeadLetter, ExecutorChoice, OutcomeLog, RequestExecutor
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages import act, decide, decode, identify, intents, match, record, verify

log = logging.getLogger(__name__)

TAKEOVERS = 3
"""How many dead attempts one delivery finishes before it asks to be delivered again."""

LOOKS_AT_COMMIT = 3
"""How often facts are read at the commit point until they are young enough when it is passed."""

_LOOK_ONLY = (State.UNVERIFIED, State.REQUESTED)
"""Where an intent stands whose enforcement is behind it: what is left is to see what came of it."""


class Pipeline(Struct, frozen=True):
    """Takes deliveries and intents, gives outcomes. Everything that reaches outside is a port."""

    settings: Settings
    runbooks: Mapping[str, Runbook]
    router: Callable[[], match.Router]
    clock: Clock
    journal: Journal
    controls: Controls
    compute: Compute
    executors: ExecutorChoice
    outcome_log: OutcomeLog
    dead_letter: DeadLetter | None

    async def handle(self, body: bytes, headers: Mapping[str, str]) -> Outcome | Tick:
        """Deal with one request; a tick is given back, to be run by :mod:`logmend.tick`."""
        delivery, event = decode.request(body, headers)
        if isinstance(event, Tick):
            return Tick(delivery.publish_time)
        try:
            return await self._event(delivery, event, body)
        except Exception as error:  # noqa: BLE001  whatever it is, the message must come again
            trouble = act.trouble(error)
            said = Judgement.of(Defer(trouble.reason, trouble.detail))
            named = None if isinstance(event, Undecodable) else identify.event(event)
            return await self._last_word(
                record.of_event(delivery, event, said, self.settings, self.clock.now(), instance=named)
            )

    async def _event(
        self, delivery: Delivery, event: LogEntry | Incident | Undecodable, body: bytes
    ) -> Outcome:
        now = self.clock.now()
        if isinstance(event, Undecodable):
            return await self._reject(delivery, event, event, body)
        matched = match.runbook(event, self.router())
        if isinstance(matched, match.Unmatched):
            return await self.emit(record.of_unmatched(delivery, event, matched.detail, self.settings, now))
        instance = identify.event(event)
        if isinstance(matched, match.TurnedAway):
            away = (matched.verdict, matched.runbook, matched.variant, instance)
            return await self.emit(record.of_turned_away(delivery, event, *away, self.settings, now))
        if isinstance(instance, identify.BadIdentity):
            return await self._reject(delivery, event, Undecodable("bad_identity", instance.detail), body)
        intent = intents.of_event(delivery, event, matched.runbook, matched.variant, instance, now)
        no = decide.event(intent, matched.runbook, self.settings)
        if no is not None and await self.journal.record(intent.intent_id) is None:
            told = (no, matched.runbook, matched.variant, instance)
            return await self.emit(record.of_turned_away(delivery, event, *told, self.settings, now))
        return await self.work(intent, published=delivery.publish_time)

    async def work(
        self,
        intent: Intent,
        *,
        resume: bool = False,
        published: datetime | None = None,
        told: Stop | None = None,
    ) -> Outcome:
        """Bring one intent as far as it gets now. ``resume`` takes up what waits in the ledger (the tick).

        ``told`` ends it without a look at the VM: what the tick was told of many at once.
        """
        runbook, now = self.runbooks.get(intent.runbook), self.clock.now()

        def judge(view: View) -> Verdict:
            full_until = self.journal.full_until(intent.runbook)
            verdict = decide.admission(intent, view, self.settings, now, full_until)
            return verdict if told is None or isinstance(verdict, Skip) else told

        def compose(verdict: Verdict, view: View) -> Outcome:
            return record.of_turned(intent, verdict, view, runbook, self.settings, now)

        for _ in range(TAKEOVERS):
            match await self.journal.admit(intent, judge, compose, now, resume=resume):
                case Finished(known):
                    return await self.emit(known.outcome or record.of_waiting(known, self.settings, now))
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

        None where nobody can, since it is gone or cannot be read: then the VM is freed of its lease.
        """
        if freed := await self.journal.free(instance, runbook, self.clock.now()):
            log.warning("freed %s (%s) of an orphaned %s", instance, runbook, freed)
            return None
        known = await self.journal.record(intent_id)
        return await self.work(known.intent, resume=True) if known else None

    async def _attempt(self, held: Admitted, runbook: Runbook | None, published: datetime | None) -> Outcome:
        intent, started = held.record.intent, _Stopwatch(self.clock.now(), published)
        if held.interrupted:
            await self.emit(record.interrupted(held.record, held.interrupted, self.settings))
        facts: InstanceFacts | None = None
        done: Attempt | None = None
        agent = self.executors.agent(held.record.executor) if held.was is State.REQUESTED else None
        try:
            if agent is not None:
                done, facts, said = await self._read(agent, held, runbook)
            elif runbook is None:
                said = Judgement.of(settle.unknown_runbook(intent))
            else:
                facts = await self.compute.facts(intent.instance)
                started.looked_up()
                verdict = decide.guards(intent, runbook, facts, self.settings)
                if isinstance(verdict, Proceed):
                    done = await self._act(held, facts, runbook)
                    started.acted()
                    said = verify.attempt(
                        intent,
                        done,
                        held.record,
                        detached=runbook.detached is not None,
                        held=held.subject.held,
                    )
                    said = settle.overdue(said, held, runbook, self.settings, self.clock.now())
                else:
                    said = Judgement.of(verdict)
                if said.result is not Result.REQUESTED:
                    left = await act.take_back(self.executors, facts, intent)
                    said = replace(said, detail=said.detail + left)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  the VM must be given back whatever happens
            said = settle.of_error(error, waiting=agent is not None)
        now = self.clock.now()
        concluded = settle.attempt(held, runbook, facts, done, said, self.settings, now, started.latency())
        if concluded is None:
            await self.journal.postpone(held, now + decide.RECHECK, settle.reported(held, done))
            return held.record.outcome or record.of_waiting(held.record, self.settings, now)
        await self.journal.conclude(held, concluded, now)
        await self._guard_breaker(intent.runbook, concluded.failing, now)
        return await self.emit(concluded.outcome, journalled=True)

    async def guarded(self, intent: Intent, runbook: Runbook) -> tuple[InstanceFacts | None, Verdict]:
        """Ask the guards on facts read just now; a VM that Compute gives no facts of is a no as well."""
        try:
            facts = await self.compute.facts(intent.instance)
        except Permanent as error:
            if (verdict := settle.without_facts(error)) is None:
                raise
            return None, verdict
        return facts, decide.guards(intent, runbook, facts, self.settings)

    async def objection(self, intent: Intent, asked: Asked, runbook: Runbook) -> Stop | None:
        """Say what guards have by now against work that an agent is out for; None if it may go on.

        ``Transient`` while Compute gives no answer. A look changes nothing: it is not asked about.
        """
        if asked.action is Action.CHECK:
            return None
        _, verdict = await self.guarded(intent, runbook)
        return None if isinstance(verdict, Proceed) else verdict

    async def _act(self, held: Admitted, facts: InstanceFacts, runbook: Runbook) -> Attempt:
        intent = held.record.intent
        budget, mark = decide.budget(runbook, self.settings, intent), secrets.token_hex(16)
        passed = False

        async def commit(before: Evidence | None) -> Verdict:
            nonlocal passed
            verdict: Verdict = decide.OLD_FACTS
            for _ in range(LOOKS_AT_COMMIT):
                read_at = self.clock.now()
                known, verdict = await self.guarded(intent, runbook)
                if not isinstance(verdict, Proceed):
                    return verdict
                differs = decide.approved(intent, runbook, known, before, self.settings)
                if differs is not None and not held.record.committed:  # what was begun is finished
                    return differs
                now = self.clock.now()
                full = decide.budget_exhausted(intent, budget, now)

                def judge(view: View, read_at: datetime = read_at) -> Verdict:
                    return decide.commit(intent, view, self.settings, self.clock.now() - read_at)

                detached = runbook.detached or timedelta()
                verdict = await self.journal.commit(
                    held, before, judge, budget, full, now, mark=mark, detached=detached
                )
                if verdict != decide.OLD_FACTS:
                    break
            passed = isinstance(verdict, Proceed)
            return verdict

        may_enforce = decide.ceiling(intent, self.settings) and held.was not in _LOOK_ONLY
        done = await act.attempt(
            self.executors(facts),
            facts,
            runbook,
            intent,
            commit if may_enforce else None,
            mark,
            self.settings.attempt_deadline,
        )
        return replace(done, committed=passed)

    async def _read(
        self, agent: RequestExecutor, held: Admitted, runbook: Runbook | None
    ) -> tuple[Attempt, InstanceFacts | None, Judgement]:
        """Read what came of work that an agent was asked for; a request that closes is taken back first."""
        intent, asked, facts = held.record.intent, held.record.request, None
        assert asked is not None
        done = await act.report(agent, asked, held.record, self.settings.attempt_deadline)
        if runbook is None:
            said = Judgement.of(settle.unknown_runbook(intent))
        else:
            stop: Stop | None = decide.recall(
                intent, asked, held.subject, await self.controls.fleet(), self.settings
            )
            with suppress(Transient):  # what was reported is told all the same; the next tick asks again
                stop = stop or await self.objection(intent, asked, runbook)
            said = verify.report(
                intent,
                done,
                held.record,
                stop,
                detached=runbook.detached is not None,
                held=held.subject.held,
            )
            said = settle.overdue(said, held, runbook, self.settings, self.clock.now())
        if said.result is not Result.REQUESTED:
            facts, left = await act.withdraw(agent, self.compute, asked)
            said = replace(said, detail=said.detail + left)
        return done, facts, said

    async def _guard_breaker(self, runbook: str, failing: bool | None, now: datetime) -> None:
        if failing:
            samples = await self.journal.samples(runbook, self.settings.breaker_window, now)
            if breaker := decide.breaker(samples, self.settings, now):
                await self.controls.open_breaker(runbook, breaker)

    async def guard_breakers(self) -> None:
        """Look at each breaker as of its latest failure: who recorded that may have been killed at it."""
        open_already, now = (await self.controls.fleet()).breakers, self.clock.now()
        for runbook in self.runbooks:
            failed = None if runbook in open_already else await self.journal.last_failure(runbook)
            if failed is not None and failed > now - self.settings.breaker_window:
                await self._guard_breaker(runbook, failing=True, now=failed)

    async def thaw(self) -> None:
        """Lift the freezes whose time is over. It is told first: who is killed in between tells it again."""
        now = self.clock.now()
        over = await self.controls.over_by(now)
        for scope, freeze in over:
            await self.emit(record.of_thaw(scope, freeze, self.settings))
        if over:
            await self.controls.thaw(now)

    async def review(self, subject: Subject) -> bool:
        """Forget a VM that Compute no longer knows, with all that was held of it; say whether it was."""
        if subject.open_request is None:
            try:
                await self.compute.facts(subject.instance)
            except Permanent as error:
                if error.reason == "instance_gone":
                    return await self.journal.forget(subject)
        await self.journal.keep(subject, self.clock.now())
        return False

    async def _reject(
        self, delivery: Delivery, event: Event | Undecodable, why: Undecodable, body: bytes
    ) -> Outcome:
        if self.dead_letter is not None:
            await self.dead_letter.publish(body, delivery, why.reason)
        return await self.emit(record.of_rejected(delivery, event, why, self.settings, self.clock.now()))

    async def emit(self, outcome: Outcome, *, journalled: bool = False) -> Outcome:
        """Record an outcome in its log; the ledger is told so where it keeps a list of what is not yet."""
        await self.outcome_log.write(outcome)
        if journalled and outcome.final:
            await self.journal.note_emitted(outcome)
        return outcome

    async def _last_word(self, outcome: Outcome) -> Outcome:
        """Try to record that a message has to come again; it comes again in any case."""
        try:
            return await self.emit(outcome)
        except Exception as error:  # noqa: BLE001  the answer matters more than its record
            act.trouble(error)
            return outcome


class _Stopwatch:
    """Milliseconds between the points of an attempt, by the monotonic clock."""

    def __init__(self, now: datetime, published: datetime | None) -> None:
        self._queue = max(now - published, timedelta()) if published else None
        self._marks = [time.monotonic()]
        self._lookup: int | None = None
        self._act: int | None = None

    def looked_up(self) -> None:
        self._lookup = self._lap()

    def acted(self) -> None:
        self._act = self._lap()

    def _lap(self) -> int:
        self._marks.append(time.monotonic())
        return round(1000 * (self._marks[-1] - self._marks[-2]))

    def latency(self) -> Latency:
        queue = round(1000 * self._queue.total_seconds()) if self._queue is not None else None
        return Latency(queue, self._lookup, self._act, round(1000 * (time.monotonic() - self._marks[0])))
