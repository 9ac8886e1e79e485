"""What the ledger keeps, as values: one record per intent, one subject per VM and runbook, one fleet.

``docs/ledger.md`` describes the collections and their guarantees. A new field only needs a default:
documents stored without the field read as the default, and a revision that does not know it yet preserves it
(:class:`Kept`). A change that cannot be made this way needs another :data:`SCHEMA`.
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
