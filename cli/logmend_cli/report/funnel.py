"""How far events got, and how they ended.

The funnel counts each event by the farthest step that it reached; a step counts only if the one before it
does, so the funnel never widens. Reverts do not count.
"""

from logmend.model.enums import Action, Finding, Result
from logmend.model.struct import Struct
from logmend.model.values import Outcome

STEPS = (
    "events",
    "match a runbook",
    "let through by the guards",
    "looked at on the VM",
    "fault seen",
    "enforced",
    "fix verified",
)
ENDS = (
    ("fix verified", "remediated", frozenset({"remediated"})),
    ("nothing to do", "nothing_to_do", frozenset({"nothing_to_do"})),
    (
        "planned or waiting",
        "planned",
        frozenset({"planned", "parked", "requested", "deferred", "interrupted"}),
    ),
    ("left alone", "refused", frozenset({"refused", "skipped"})),
    ("no runbook's", "unmatched", frozenset({"unmatched"})),
    ("failed, unverified, rejected", "failed", frozenset({"failed", "unverified", "rejected"})),
)
"""The ways in which an event may end: in words, with colour and results. Every event is in exactly one."""
_TRIED = frozenset({"script_error", "still_faulty", "unverifiable", "check_failed", "no_second_check"})


class FunnelEvent(Struct, frozen=True):
    """The farthest of ``STEPS`` that an event reached, its latest result, and how many events it is."""

    step: int
    result: str
    count: int


def reached(outcome: Outcome) -> int | None:
    """Return how far in ``STEPS`` an event got by this outcome; None for a revert."""
    if outcome.action is Action.REVERT:
        return None
    if outcome.runbook is None or outcome.result in (Result.UNMATCHED, Result.REJECTED):
        return 0
    if outcome.before is None:
        held = outcome.result in (Result.REFUSED, Result.SKIPPED, Result.PARKED, Result.DEFERRED)
        return 1 if held else 2
    if outcome.before.finding is not Finding.FAULTY:
        return 3
    if outcome.result is Result.REMEDIATED:
        return 6
    tried = outcome.after is not None or outcome.result is Result.UNVERIFIED or outcome.reason in _TRIED
    return 5 if tried else 4
