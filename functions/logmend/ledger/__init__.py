"""The ledger: what must survive a crash, written once over the small ``Store`` port.

``journal`` is the life of an intent: ``admission``, ``commit`` and ``conclusion``; ``changes`` says what each
writes. ``places`` is the disruption budget; ``controls`` are the operators' switches, ``freezing`` and
``approvals`` among them; ``contacts`` is what is known of VMs' SSH servers; ``repeats`` counts what is said
again; ``upkeep`` and ``damage`` repair; ``documents`` says how values become stored documents, ``migrate``
how older ones do.
"""

from logmend.ledger.conclusion import Conclusion
from logmend.ledger.contacts import Contacts
from logmend.ledger.controls import Controls
from logmend.ledger.journal import Journal
from logmend.ledger.places import Work
from logmend.ledger.queues import Queues

__all__ = ["Conclusion", "Contacts", "Controls", "Journal", "Queues", "Work"]
