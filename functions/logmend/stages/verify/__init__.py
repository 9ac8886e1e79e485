"""Say what an attempt amounts to. The only place that may say ``remediated`` or ``reverted``.

A fix counts when a read-only check before it saw the fault and the same check after it did not, both on
the VM that is meant, and enforcing is proved in between: by the script's own word that it changed something,
or by the mark that it left on the VM. That enforcing may have begun proves nothing. Everything else has
another name.
"""

from logmend.stages.verify.attempts import result_of
from logmend.stages.verify.reports import report

__all__ = ["report", "result_of"]
