"""What VMs said again, which is counted."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.state.kept import Kept
from logmend.model.struct import Struct, field
from logmend.model.values import InstanceRef, Outcome


class Repetition(Struct, frozen=True):
    """How often one VM said again what one result and reason stand for, since that was recorded.

    ``fence`` is the VM's when it began (0 if nothing of the VM was asked), ``heard`` when it was said last,
    by our clock. ``ids`` are the intents that were counted, ``begun`` those that have an entry of their own.
    ``count``, ``first_at`` and ``latest`` are of what is yet to be told.
    """

    fence: int
    heard: datetime
    ids: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    count: int = 0
    first_at: datetime | None = None
    latest: Outcome | None = None


class Repeats(Kept, frozen=True):
    """What one VM said again under one runbook, of messages that were published on one day of the VM.

    ``tallies`` are by result and reason; ``untold`` are counts that the tick has yet to record.
    """

    instance: InstanceRef
    runbook: str
    day: int
    tallies: Mapping[str, Repetition] = field(default_factory=dict)
    untold: tuple[Outcome, ...] = ()
