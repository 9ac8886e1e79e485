"""Repeats, which are counted per VM."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.state.kept import Kept
from logmend.model.struct import Struct, field
from logmend.model.values import InstanceRef, Outcome


class Repetition(Struct, frozen=True):
    """How often one VM repeated one result and reason since they were recorded.

    ``fence`` is the VM's when it began (0 if the VM was not involved), ``heard`` the time of the last repeat
    by our clock. ``ids`` are the intents that were counted, ``begun`` those that have an entry of their own.
    ``count``, ``first_at`` and ``latest`` describe the repeats not reported yet.
    """

    fence: int
    heard: datetime
    ids: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    count: int = 0
    first_at: datetime | None = None
    latest: Outcome | None = None


class Repeats(Kept, frozen=True):
    """One VM's repeats under one runbook, from messages that were published on one day of the VM.

    ``tallies`` are by result and reason; ``untold`` are counts that the tick has yet to record.
    """

    instance: InstanceRef
    runbook: str
    day: int
    tallies: Mapping[str, Repetition] = field(default_factory=dict)
    untold: tuple[Outcome, ...] = ()
