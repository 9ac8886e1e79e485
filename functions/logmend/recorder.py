"""Recording outcomes: in their log, on the topic if there is one, and in the ledger that this was done."""

from datetime import datetime

from logmend.ledger import Journal
from logmend.model.struct import Struct, field
from logmend.model.values import Outcome
from logmend.ports import Clock, OutcomeFeed, OutcomeLog
from logmend.stages import act
from logmend.unmatched import Unmatched


class Recorder(Struct, frozen=True):
    """Records outcomes. Everything that reaches outside is a port."""

    clock: Clock
    journal: Journal
    outcome_log: OutcomeLog
    feed: OutcomeFeed | None = None
    unmatched: Unmatched = field(default_factory=Unmatched)

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

    async def last_word(self, outcome: Outcome) -> Outcome:
        """Try to record that a message has to come again; it comes again in any case."""
        try:
            return await self.emit(outcome)
        except Exception as error:  # noqa: BLE001  the answer matters more than its record
            act.trouble(error)
            return outcome

    async def tell_unmatched(self, now: datetime | None) -> None:
        """Record how many events of no runbook came in an hour that is over; None: in any."""
        kinds = self.unmatched.over(now)
        try:
            while kinds:
                await self.emit(kinds[-1].outcome)
                kinds.pop()
        finally:
            self.unmatched.back(kinds)

    async def aclose(self) -> None:
        """Disconnect from where outcomes go."""
        await self.outcome_log.aclose()
        if self.feed is not None:
            await self.feed.aclose()
