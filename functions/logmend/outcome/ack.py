"""What each result tells Pub/Sub: one table, complete by test. 2xx acknowledges, anything else redelivers."""

from collections.abc import Mapping
from types import MappingProxyType

from logmend.model.enums import Result

ACKNOWLEDGED = 200
AGAIN = 503

STATUS: Mapping[Result, int] = MappingProxyType(
    {
        Result.UNMATCHED: ACKNOWLEDGED,
        Result.REJECTED: ACKNOWLEDGED,
        Result.REFUSED: ACKNOWLEDGED,
        Result.SKIPPED: ACKNOWLEDGED,
        Result.PARKED: ACKNOWLEDGED,
        Result.PLANNED: ACKNOWLEDGED,
        Result.NOTHING_TO_DO: ACKNOWLEDGED,
        Result.REQUESTED: ACKNOWLEDGED,
        Result.REMEDIATED: ACKNOWLEDGED,
        Result.REVERTED: ACKNOWLEDGED,
        Result.UNVERIFIED: ACKNOWLEDGED,
        Result.FAILED: ACKNOWLEDGED,
        Result.CONTROLLED: ACKNOWLEDGED,
        Result.INTERRUPTED: AGAIN,
        Result.DEFERRED: AGAIN,
    }
)


def status(result: Result) -> int:
    """Return the HTTP status that answers a delivery with this result."""
    return STATUS[result]
