"""The ledger: what must survive a crash, written once over the small ``Store`` port.

``journal`` admits, commits and concludes intents; ``places`` is the disruption budget; ``controls`` are the
operators' switches; ``contacts`` is what is known of VMs' SSH servers; ``repeats`` counts what is said
again; ``upkeep`` and ``damage`` repair; ``documents`` says how values become stored documents, ``migrate``
how older ones do.
"""

from logmend.ledger.contacts import Contacts
from logmend.ledger.controls import Controls
from logmend.ledger.journal import Conclusion, Journal
from logmend.ledger.places import Work
from logmend.ledger.queues import Queues

__all__ = ["Conclusion", "Contacts", "Controls", "Journal", "Queues", "Work"]
