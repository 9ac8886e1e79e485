"""The ledger: what must survive a crash, written once over the small ``Store`` port.

``journal`` is the life of an intent: ``admission``, ``commit`` and ``conclusion``; ``changes`` defines what
each writes. ``places`` is the disruption budget. ``controls`` are the operators' switches, including
``freezing`` and ``approvals``. ``contacts`` is what is known about VMs' SSH servers. ``repeats`` counts
repeated events. ``upkeep`` and ``damage`` make repairs. ``documents`` converts values to stored documents,
and ``migrate`` upgrades an older ledger.
"""

from logmend.ledger.conclusion import Conclusion
from logmend.ledger.contacts import Contacts
from logmend.ledger.controls import Controls
from logmend.ledger.journal import Journal
from logmend.ledger.places import Work
from logmend.ledger.queues import Queues

__all__ = ["Conclusion", "Contacts", "Controls", "Journal", "Queues", "Work"]
