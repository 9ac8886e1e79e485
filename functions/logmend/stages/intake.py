"""From an event to what it asks for: match ► identify ► the guards that take no facts. Pure.

The function, ``explain`` and ``scan`` all read an event here, so that the order stands in one place.
"""

from collections.abc import Callable
from datetime import datetime

from logmend.model.enums import Result
from logmend.model.struct import Struct
from logmend.model.values import Delivery, Incident, InstanceRef, Intent, LogEntry, Undecodable, Verdict
from logmend.runbook import Runbook, Variant
from logmend.settings import Settings
from logmend.stages import decide, identify, intents, match


class Intake(Struct, frozen=True):
    """What an event asks for, as far as the event itself tells; None for what it does not tell.

    ``verdict`` is why it is turned away, the first reason in the order above; None: it asks for ``runbook``
    on ``instance``. ``spoken`` is set if no filter selects an entry that has a runbook's words.
    """

    delivery: Delivery
    event: LogEntry | Incident | Undecodable
    verdict: Verdict | None = None
    runbook: Runbook | None = None
    variant: Variant | None = None
    instance: InstanceRef | None = None
    spoken: match.Spoken | None = None

    def intent(self, now: datetime) -> Intent | None:
        """Return the intent that it becomes, None if it does not name a runbook and a VM."""
        if isinstance(self.event, Undecodable) or self.runbook is None or self.instance is None:
            return None
        return intents.of_event(self.delivery, self.event, self.runbook, self.variant, self.instance, now)

    def refused(self, intent: Intent, settings: Settings) -> Verdict | None:
        """Return the first no of a guard that takes no facts of the VM; None if there is none."""
        assert self.runbook is not None  # it has an intent
        return decide.event(intent, self.runbook, settings)


def read(
    delivery: Delivery, event: LogEntry | Incident | Undecodable, router: Callable[[], match.Router]
) -> Intake:
    """Return which runbook and which VM an event asks for, or why it is turned away.

    ``router`` is asked for only if there is an event to match.
    """
    if isinstance(event, Undecodable):
        return Intake(delivery, event, Verdict(Result.REJECTED, event.reason, event.detail))
    found, named = match.runbook(event, router()), identify.event(event)
    instance, rejected = (None, named) if isinstance(named, Verdict) else (named, None)
    verdict = found.verdict or rejected
    return Intake(delivery, event, verdict, found.runbook, found.variant, instance, found.spoken)


def unread(delivery: Delivery, event: LogEntry | Incident | Undecodable) -> Intake:
    """Return what is known of an event that could not be read to the end: the VM that it names."""
    named = None if isinstance(event, Undecodable) else identify.event(event)
    return Intake(delivery, event, instance=named if isinstance(named, InstanceRef) else None)
