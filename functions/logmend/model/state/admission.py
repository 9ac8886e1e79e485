"""What decide sees of the ledger, and what an admission may answer."""

from logmend.model.state.controls import Fleet
from logmend.model.state.journal import Record, State
from logmend.model.state.subject import Lease, Subject
from logmend.model.struct import Struct
from logmend.model.values import Outcome


class View(Struct, frozen=True):
    """What decide sees of the ledger at one moment: the intent's record, its subject and the fleet."""

    record: Record | None
    subject: Subject
    fleet: Fleet


class Admitted(Struct, frozen=True):
    """The lease is held. ``was`` is where the intent stood before, None for a new one.

    ``interrupted`` is the lease of this intent's earlier attempt, if one died.
    """

    lease: Lease
    record: Record
    subject: Subject
    was: State | None
    interrupted: Lease | None = None


class Finished(Struct, frozen=True):
    """The very message was dealt with before: its outcome is to be emitted again."""

    record: Record


class Turned(Struct, frozen=True):
    """Not admitted: the outcome that was journalled for it, and whether it only says again what was said.

    ``counted`` says that it has no entry of its own.
    """

    outcome: Outcome
    said_before: bool = False
    counted: bool = False


class Expired(Struct, frozen=True):
    """Another intent's lease has run out: finish that intent first, then come again."""

    intent_id: str


Admission = Admitted | Finished | Turned | Expired
