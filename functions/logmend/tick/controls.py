"""What a tick does to controls, and records of them: plans, breakers, waves, and who waits for a place."""

from datetime import datetime, timedelta

from logmend.model.enums import Action
from logmend.model.state import Acts, Approval, Fleet
from logmend.model.struct import Struct
from logmend.model.values import Outcome
from logmend.pipeline import Pipeline
from logmend.runbook import Runbook
from logmend.stages import decide, outcomes
from logmend.tick.tally import Tally

TIMELY = timedelta(minutes=10)
"""How far a tick's publication may lie from this machine's clock: two ticks, and some."""


class ControlWork(Struct, frozen=True):
    """The part of a tick that is about controls."""

    pipeline: Pipeline

    async def expire(self, approval: Approval) -> None:
        """End a plan that nobody decided on in time, or tell that it is about to end."""
        owner = self.pipeline.policies.of(approval.intent.runbook).owner_of(approval.labels)
        controls, now = self.pipeline.worker.controls, self.pipeline.clock.now()
        await controls.expire(approval.approval_id, now, owner)

    async def tell(self, acts: Acts) -> None:
        """Record what was done to controls. Who is killed before it is noted tells it again, the same."""
        done = True
        for number, act in enumerate(acts.acts):
            settings = self.pipeline.policies.of(act.runbook)
            done &= await self.pipeline.recorder.record(outcomes.of_act(acts, number, settings))
        if done:
            await self.pipeline.worker.controls.told(acts)

    def queued(self, began: datetime, outcome: Outcome) -> bool:
        """Return whether an intent waits for a place in its runbook's own budget.

        A cohort's limit and a person's revert in waves have the same reason: others need not wait for those.
        """
        if outcome.reason != decide.BUDGET_EXHAUSTED or outcome.action is Action.REVERT:
            return False
        full = self.pipeline.journal.full_until(outcome.runbook or "")
        return full is not None and full > began

    async def note_queued(self, tally: Tally) -> None:
        """Remember of which runbooks intents wait for a place, until they are asked again, and some."""
        runbooks, now = self.pipeline.runbooks, self.pipeline.clock.now()
        budgets = {
            name: decide.budget(runbooks[name], self.pipeline.policies.of(name))
            for name in sorted(tally.queued)
            if name in runbooks
        }
        until = {name: budget.retry_at(now) + TIMELY for name, budget in budgets.items()}
        await self.pipeline.worker.controls.note_queued(until, now)

    async def guard_breakers(self, tally: Tally) -> None:
        """Look at the breaker and the wave of each runbook."""
        fleet = await self.pipeline.worker.controls.fleet()
        for runbook in self.pipeline.runbooks.values():
            guarded = self._guard_breaker(runbook, fleet)
            await tally.alone(f"breaker and wave of {runbook.name}", guarded)

    async def _guard_breaker(self, runbook: Runbook, fleet: Fleet) -> None:
        """Look at a breaker as of its latest failure: who recorded that may have been killed at it."""
        worker, name, now = self.pipeline.worker, runbook.name, self.pipeline.clock.now()
        if name in fleet.breakers:
            return  # which pauses its wave as well
        failed = await worker.journal.last_failure(name)
        await worker.breakers.move_wave(runbook, fleet, now)
        if failed is not None and failed > now - worker.policies.of(name).breaker_window:
            await worker.breakers.guard_breaker(name, failed)
