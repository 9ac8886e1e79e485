"""What decide sees of the ledger, and the possible answers of an admission."""

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
    """The same message was handled before: emit its outcome again."""

    record: Record


class Turned(Struct, frozen=True):
    """Not admitted: the outcome journalled for the intent, and whether it is only a repeat.

    ``counted`` says that it has no entry of its own.
    """

    outcome: Outcome
    said_before: bool = False
    counted: bool = False


class Expired(Struct, frozen=True):
    """Another intent's lease has expired: finish that intent first, then try again."""

    intent_id: str


Admission = Admitted | Finished | Turned | Expired
