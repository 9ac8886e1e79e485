"""One attempt at a VM, under a lease: from its facts to what the ledger keeps.

facts ► guards ► act {check ► commit ► enforce ► check} ► verify ► [journal: conclusion]. If an agent was
asked, its report is read instead. Nothing is decided here: the stages are asked, and obeyed.
"""

import secrets
from contextlib import suppress
from datetime import datetime

from logmend import settle
from logmend.errors import Superseded, Transient
from logmend.ledger import Controls, Journal
from logmend.model.state import Admitted, State
from logmend.model.struct import Struct, replace
from logmend.model.values import Attempt, Group, InstanceFacts, Outcome, Verdict
from logmend.ports import Clock, Compute, Executors, RequestExecutor
from logmend.runbook import Runbook
from logmend.settings import Policies, Settings
from logmend.stages import act, decide, verify
from logmend.worker.breakers import Breakers
from logmend.worker.commit_point import CommitPoint
from logmend.worker.guarding import Guarding
from logmend.worker.stopwatch import Stopwatch

__all__ = ["Worker"]

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

    @property
    def guarding(self) -> Guarding:
        """Look-ups of VMs, and the guards."""
        return Guarding(self.policies, self.clock, self.compute)

    @property
    def breakers(self) -> Breakers:
        """Breakers and waves."""
        return Breakers(self.policies, self.journal, self.controls)

    async def work(
        self, held: Admitted, runbook: Runbook | None, published: datetime | None
    ) -> Outcome | None:
        """Make one attempt and conclude it in the ledger; None if it was put off with nothing to say.

        ``Superseded`` if a newer attempt took the lease. Whatever else goes wrong becomes the outcome.
        """
        intent, started = held.record.intent, Stopwatch(self.clock.now(), published)
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
                    group = await self.guarding.group(intent, facts, settings)
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
            await self.breakers.guard_breaker(intent.runbook, end.now)
        return conclusion.outcome

    def _not_now(
        self,
        held: Admitted,
        runbook: Runbook,
        facts: InstanceFacts,
        settings: Settings,
        group: Group | None,
    ) -> Verdict | None:
        """Return a verdict if no window is open, or a cohort is known to be full: no login in vain."""
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
        point = CommitPoint(
            self.clock,
            self.journal,
            self.controls,
            self.guarding,
            held,
            intent,
            facts,
            runbook,
            settings,
            secrets.token_hex(16),
        )
        may_enforce = decide.ceiling(intent, settings) and held.was not in _LOOK_ONLY
        attempt = await act.work(
            self.executors(facts, intent.runbook),
            facts,
            runbook,
            intent,
            point if may_enforce else None,
            point.mark,
            settings.attempt_deadline,
            # What was begun is finished: it is not skipped for another runbook.
            frozenset() if begun else decide.goes_first(intent, runbook, facts, self.policies),
        )
        return replace(attempt, committed=point.passed)

    async def _read(
        self, agent: RequestExecutor, held: Admitted, runbook: Runbook | None
    ) -> tuple[Attempt, Verdict]:
        """Read the report of work handed to an agent, and check what now objects to it."""
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
            stop = stop or await self.guarding.objection(intent, asked, runbook)
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
