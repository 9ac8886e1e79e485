"""What the ledger remembers, as values: one record per intent, one subject per VM and runbook, one fleet.

``docs/ledger.md`` says which collection holds what and what is guaranteed about it. A new field needs a
default and nothing else: what is stored without it reads as the default, and a revision that does not know it
yet keeps it as it found it (:class:`Kept`). What cannot be said so is another :data:`SCHEMA`.
"""

from logmend.model.state.admission import Admission, Admitted, Expired, Finished, Turned, View
from logmend.model.state.controls import (
    Act,
    Acts,
    Approval,
    Breaker,
    By,
    Counting,
    Declined,
    Fleet,
    Freeze,
    Scope,
    Wave,
)
from logmend.model.state.journal import Record, State
from logmend.model.state.kept import SCHEMA, Kept
from logmend.model.state.repeats import Repeats, Repetition
from logmend.model.state.subject import Cooldown, Lease, Subject

__all__ = [
    "SCHEMA",
    "Act",
    "Acts",
    "Admission",
    "Admitted",
    "Approval",
    "Breaker",
    "By",
    "Cooldown",
    "Counting",
    "Declined",
    "Expired",
    "Finished",
    "Fleet",
    "Freeze",
    "Kept",
    "Lease",
    "Record",
    "Repeats",
    "Repetition",
    "Scope",
    "State",
    "Subject",
    "Turned",
    "View",
    "Wave",
]
