"""The ledger: what must survive a crash, written once over the small ``Store`` port.

``journal`` admits, commits and concludes intents; ``controls`` are the operators' switches;
``contacts`` is what is known of VMs' SSH servers; ``documents`` says how values become stored documents.
"""

from logmend.ledger.contacts import Contacts
from logmend.ledger.controls import Controls
from logmend.ledger.journal import Conclusion, Journal
from logmend.ledger.queues import Queues

__all__ = ["Conclusion", "Contacts", "Controls", "Journal", "Queues"]
