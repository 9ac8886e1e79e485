"""One attempt at a VM, under a lease: from its facts to what the ledger keeps.

facts ► guards ► act {check ► commit ► enforce ► check} ► verify ► [journal: conclusion]. Work that an agent
was asked for is read instead of done. Nothing is decided here: the stages are asked, and obeyed.
"""

import asyncio
import secrets
import time
from contextlib import suppress
from datetime import datetime, timedelta

from logmend import settle
from logmend.errors import Permanent, Superseded, Transient
from logmend.ledger import Controls, Journal
from logmend.model.enums import Action, Mode
from logmend.model.state import Admitted, Breaker, Fleet, State, View, Wave
from logmend.model.struct import Struct, replace
from logmend.model.values import (
    Asked,
    Attempt,
    Evidence,
    Group,
    InstanceFacts,
    Intent,
    Latency,
    Outcome,
    Verdict,
)
from logmend.ports import Clock, Compute, Executors, RequestExecutor
from logmend.runbook import Runbook
from logmend.settings import Policies, Settings
from logmend.stages import act, decide, verify

LOOKS_AT_COMMIT = 3
"""How often facts are read at the commit point until they are young enough when it is passed."""

_LOOK_ONLY = (State.UNVERIFIED, State.REQUESTED)
"""Where an intent stands whose enforcement is behind it: what is left is to see what came of it."""


class Worker(Struct, frozen=True):
    """Works on VMs that an intent was admitted to. Everything that reaches outside is a port."""

    policies: Policies
    clock: Clock
    journal: Journal
    controls: Controls
    compute: Compute
    executors: Executors

    async def work(
        self, held: Admitted, runbook: Runbook | None, published: datetime | None
    ) -> Outcome | None:
        """Make one attempt and conclude it in the ledger; None if it was put off with nothing to say.

        ``Superseded`` if a newer attempt took the lease. Whatever else goes wrong becomes the outcome.
        """
        intent, started = held.record.intent, _Stopwatch(self.clock.now(), published)
        settings = self.policies.of(intent.runbook)
        facts: InstanceFacts | None = None
        attempt: Attempt | None = None
        verdict: Verdict | None = None
        agent = self.executors.agent(held.record.executor) if held.was is State.REQUESTED else None
        try:
            if agent is not None:
                attempt, verdict = await self._read(agent, held, runbook)
            elif runbook is None:
                verdict = settle.unknown_runbook(intent)
            else:
                facts = await self.compute.facts(intent.instance)
                started.looked_up()
                verdict = decide.guards(intent, runbook, facts, settings)
                if verdict is None:
                    group = await self._group(intent, facts, settings)
                    if not held.record.committed:  # what was begun is finished
                        settings = decide.of_group(settings, group)
                    verdict = self._not_now(held, runbook, facts, settings, group)
                if verdict is None:
                    attempt = await self._act(held, facts, runbook, settings)
                    started.acted()
                    verdict = verify.result_of(
                        intent,
                        attempt,
                        held.record,
                        detached=runbook.detached is not None,
                        held=held.subject.held,
                    )
                    verdict = decide.told_of_group(verdict, settings, self.policies.of(intent.runbook))
            end = settle.Ending(held, runbook, facts, attempt, verdict, settings, self.clock.now())
            if settle.closes(end):
                end = await self._take_back(end, agent)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  the VM must be given back whatever happens
            attempt = None if agent else attempt  # a report is read again by the next tick
            verdict = settle.of_error(error, waiting=agent is not None)
            end = settle.Ending(held, runbook, facts, attempt, verdict, settings, self.clock.now())
        conclusion = settle.conclusion(replace(end, latency=started.latency()))
        if conclusion is None:
            await self.journal.postpone(held, end.now + decide.RECHECK, end.reported)
            return None
        await self.journal.conclude(held, conclusion, end.now)
        if conclusion.failing:
            await self.guard_breaker(intent.runbook, end.now)
        return conclusion.outcome

    async def guarded(self, intent: Intent, runbook: Runbook) -> tuple[InstanceFacts | None, Verdict | None]:
        """Ask the guards on facts read just now; a VM that Compute gives no facts of is a no as well."""
        try:
            facts = await self.compute.facts(intent.instance)
        except Permanent as error:
            if (verdict := settle.without_facts(error)) is None:
                raise
            return None, verdict
        return facts, decide.guards(intent, runbook, facts, self.policies.of(intent.runbook))

    async def objection(self, intent: Intent, asked: Asked, runbook: Runbook) -> Verdict | None:
        """Return what guards and windows have by now against work that an agent is out for; None if nothing.

        ``Transient`` while Compute gives no answer. A check changes nothing, so it is not asked about.
        """
        if asked.action is Action.CHECK:
            return None
        facts, verdict = await self.guarded(intent, runbook)
        if verdict is not None:
            return verdict
        return decide.waiting(
            decide.outside(intent, self.policies.of(intent.runbook), self.clock.now(), facts)
        )

    async def _group(self, intent: Intent, facts: InstanceFacts, settings: Settings) -> Group | None:
        """Look the VM's managed instance group up, if it bounds what this intent may do; None: not known."""
        path = facts.lineage.group
        bounds = decide.asks_for_group(facts, settings) and decide.ceiling(intent, settings)
        if path is None or not bounds or intent.puts_back:
            return None
        return await self.compute.group(path, facts.ref.project_id)

    def _not_now(
        self,
        held: Admitted,
        runbook: Runbook,
        facts: InstanceFacts,
        settings: Settings,
        group: Group | None,
    ) -> Verdict | None:
        """Answer if no window is open, or a cohort is known to be full, so that nobody logs in in vain."""
        intent, now = held.record.intent, self.clock.now()
        if held.record.committed:
            return None
        if (verdict := decide.outside(intent, settings, now, facts)) is not None:
            return verdict
        if not intent.automatic or not decide.ceiling(intent, settings):
            return None
        for cohort in decide.cohorts(intent, runbook, facts, settings, now, group):
            until = self.journal.full_until(intent.runbook, cohort.name)
            if cohort.budget.count == 0 or (until is not None and now < until):
                return cohort.full
        until = self.journal.full_until(intent.runbook, decide.WAVE)
        return decide.wave_full(intent, until) if until is not None and now < until else None

    async def _act(
        self, held: Admitted, facts: InstanceFacts, runbook: Runbook, settings: Settings
    ) -> Attempt:
        intent, begun = held.record.intent, held.record.committed
        if begun:  # it waits for what holds it back: no other event finishes it
            intent = replace(intent, repeats=False)
        budget, mark = decide.budget(runbook, settings, intent), secrets.token_hex(16)
        passed = False
        names = [each.name for each in decide.cohorts(intent, runbook, facts, settings, self.clock.now())]
        names += [decide.WAVE] if settings.waves is not None else []

        async def commit(before: Evidence | None) -> Verdict | None:
            nonlocal passed
            verdict: Verdict | None = decide.OLD_FACTS
            for _ in range(LOOKS_AT_COMMIT):
                read_at = self.clock.now()
                # The ledger is read beside the look-up: the commit holds only if that is still so.
                (known, verdict), _ = await asyncio.gather(
                    self.guarded(intent, runbook), self.journal.read_ahead(held, budget, names)
                )
                if verdict is not None:
                    return settle.objected(verdict, held.record)
                differs = decide.approved(intent, runbook, known, before, settings)
                if differs is not None and not begun:  # what was begun is finished
                    return differs
                seen = known or facts
                group = await self._group(intent, seen, settings)
                alone = not decide.ceiling(intent, decide.of_group(settings, group))
                if alone and not begun:
                    return decide.SHRUNK
                now = self.clock.now()
                full = decide.budget_exhausted(intent, budget, now)

                def judge(
                    view: View, read_at: datetime = read_at, seen: InstanceFacts = seen
                ) -> Verdict | None:
                    at = self.clock.now()
                    return decide.commit(intent, view, settings, at, seen, at - read_at)

                detached = runbook.detached or timedelta()
                cohorts = decide.cohorts(intent, runbook, seen, settings, now, group)
                if settings.waves is not None:
                    fleet = await self.controls.fleet()
                    cohorts += decide.of_wave(intent, runbook, fleet, settings, now)
                verdict = await self.journal.commit(
                    held, before, judge, budget, full, now, mark=mark, detached=detached, cohorts=cohorts
                )
                if verdict != decide.OLD_FACTS:
                    break
            passed = verdict is None
            return verdict

        may_enforce = decide.ceiling(intent, settings) and held.was not in _LOOK_ONLY
        attempt = await act.work(
            self.executors(facts, intent.runbook),
            facts,
            runbook,
            intent,
            commit if may_enforce else None,
            mark,
            settings.attempt_deadline,
            # What was begun is finished: it is not skipped for another runbook.
            frozenset() if begun else decide.goes_first(intent, runbook, facts, self.policies),
        )
        return replace(attempt, committed=passed)

    async def _read(
        self, agent: RequestExecutor, held: Admitted, runbook: Runbook | None
    ) -> tuple[Attempt, Verdict]:
        """Read what came of work that an agent was asked for, and ask what stands against it by now."""
        intent, asked = held.record.intent, held.record.request
        assert asked is not None
        settings = self.policies.of(intent.runbook)
        attempt = await act.report(agent, asked, held.record, settings.attempt_deadline)
        if runbook is None:
            return attempt, settle.unknown_runbook(intent)
        stop = decide.recall(
            intent, asked, held.subject, await self.controls.fleet(), settings, self.clock.now()
        )
        with suppress(Transient):  # what was reported is told all the same; the next tick asks again
            stop = stop or await self.objection(intent, asked, runbook)
        verdict = verify.report(
            intent,
            attempt,
            held.record,
            stop,
            detached=runbook.detached is not None,
            held=held.subject.held,
        )
        return attempt, verdict

    async def _take_back(self, end: settle.Ending, agent: RequestExecutor | None) -> settle.Ending:
        """Take back the request that is out, or that a dead attempt may have left."""
        if agent is not None:
            assert end.prior.request is not None
            facts, left = await act.withdraw(agent, self.compute, end.prior.request)
            return replace(end, facts=facts, left=left)
        if end.facts is None:
            return end
        return replace(end, left=await act.take_back(self.executors, end.facts, end.intent))

    async def move_wave(self, runbook: Runbook, fleet: Fleet, now: datetime) -> None:
        """Move a runbook's wave on if what it changed has stood long enough; pause it if too much failed."""
        settings, name = self.policies.of(runbook.name), runbook.name
        if settings.waves is None or settings.mode is not Mode.ENFORCE:
            return
        known, current = fleet.waves.get(name), decide.wave(runbook, fleet, settings, now)
        if current is None:
            return
        moved: Wave | Breaker = current
        if current is known:
            inclusive = timedelta(microseconds=1)
            samples = await self.journal.samples(name, now - current.since + inclusive, now)
            recent = await self.journal.samples(name, settings.waves.soak, now)
            moved = decide.moved(current, runbook, settings, samples, recent, now)
        if isinstance(moved, Breaker):
            await self.controls.open_breaker(name, moved)
        elif moved is not known:
            begun = decide.wave_act(moved, runbook, settings, now)
            await self.controls.set_wave(name, known, moved, begun)

    async def guard_breaker(self, runbook: str, now: datetime) -> None:
        """Open a runbook's breaker if too many distinct VMs went wrong in the window that ends at ``now``."""
        settings = self.policies.of(runbook)
        samples = await self.journal.samples(runbook, settings.breaker_window, now)
        if breaker := decide.breaker(samples, settings, now):
            await self.controls.open_breaker(runbook, breaker)


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
