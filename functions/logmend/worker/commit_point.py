"""The commit point of an attempt: asked once the check has seen the fault, and before anything is changed.

Facts and group are read again, all guards are asked on them, and the ledger decides in one transaction, which
takes a place in the budget. Facts that got too old meanwhile are read once more.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from logmend import settle
from logmend.ledger import Controls, Journal
from logmend.model.state import Admitted, View
from logmend.model.values import Evidence, Group, InstanceFacts, Intent, Verdict
from logmend.ports import Clock
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages import decide
from logmend.stages.decide import Cohort
from logmend.worker.guarding import Guarding

LOOKS_AT_COMMIT = 3
"""How often facts are read at the commit point until they are young enough when it is passed."""


@dataclass(slots=True)
class CommitPoint:
    """Call it with the evidence of the fault; None lets the attempt enforce, and ``passed`` is then true.

    ``facts`` are those of the attempt's start. ``mark`` is what enforcing will leave on the VM.
    """

    clock: Clock
    journal: Journal
    controls: Controls
    guarding: Guarding
    held: Admitted
    intent: Intent
    facts: InstanceFacts
    runbook: Runbook
    settings: Settings
    mark: str
    passed: bool = False

    async def __call__(self, before: Evidence | None) -> Verdict | None:
        """Return what stands against enforcing now; None if nothing does."""
        intent, budget = self.intent, decide.budget(self.runbook, self.settings, self.intent)
        for _ in range(LOOKS_AT_COMMIT):
            read_at = self.clock.now()
            # The ledger is read beside the look-up: the commit holds only if that is still so.
            (facts, verdict), _ = await asyncio.gather(
                self.guarding.guarded(intent, self.runbook),
                self.journal.read_ahead(self.held, budget, self._budgets()),
            )
            if verdict is not None:
                return settle.objected(verdict, self.held.record)
            if (differs := self._differs(before, facts)) is not None:
                return differs
            seen = facts or self.facts
            group = await self.guarding.group(intent, seen, self.settings)
            if self._shrunk(group):
                return decide.SHRUNK
            now = self.clock.now()

            def judge(view: View, read_at: datetime = read_at, seen: InstanceFacts = seen) -> Verdict | None:
                at = self.clock.now()
                return decide.commit(intent, view, self.settings, at, seen, at - read_at)

            verdict = await self.journal.commit(
                self.held,
                before,
                judge,
                budget,
                decide.budget_exhausted(intent, budget, now),
                now,
                mark=self.mark,
                detached=self.runbook.detached or timedelta(),
                cohorts=await self._cohorts(seen, now, group),
            )
            if verdict != decide.OLD_FACTS:
                self.passed = verdict is None
                return verdict
        return decide.OLD_FACTS

    def _budgets(self) -> list[str]:
        """Name the budgets that the commit will read besides the runbook's own, as far as is known."""
        now, settings = self.clock.now(), self.settings
        names = [each.name for each in decide.cohorts(self.intent, self.runbook, self.facts, settings, now)]
        return [*names, decide.WAVE] if settings.waves is not None else names

    def _differs(self, before: Evidence | None, facts: InstanceFacts | None) -> Verdict | None:
        """Return a no if it is not what was approved; what was begun is finished."""
        differs = decide.approved(self.intent, self.runbook, facts, before, self.settings)
        return None if self.held.record.committed else differs

    def _shrunk(self, group: Group | None) -> bool:
        """Return whether the group leaves no VM to change by now; what was begun is finished."""
        alone = not decide.ceiling(self.intent, decide.of_group(self.settings, group))
        return alone and not self.held.record.committed

    async def _cohorts(self, seen: InstanceFacts, now: datetime, group: Group | None) -> tuple[Cohort, ...]:
        """Return whose limits the change counts for, the wave's among them."""
        cohorts = decide.cohorts(self.intent, self.runbook, seen, self.settings, now, group)
        if self.settings.waves is None:
            return cohorts
        fleet = await self.controls.fleet()
        return cohorts + decide.of_wave(self.intent, self.runbook, fleet, self.settings, now)
