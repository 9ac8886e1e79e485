"""What a tick did, counted."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from logmend.model.values import Outcome
from logmend.stages import act

log = logging.getLogger(__name__)


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

    def document(self) -> dict[str, object]:
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

    async def alone(self, name: str, work: Awaitable[None]) -> None:
        """Do a part of a tick; what goes wrong in it stops no other."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  the next tick does it again
            self.trouble(name, error)
