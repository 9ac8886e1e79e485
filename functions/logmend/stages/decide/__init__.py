"""Decide whether to go on: pure rules over values, each place where the pipeline asks being one function.

In the order in which they are asked: :func:`event` (what an event shows by itself), :func:`admission` (before
anything is looked up), :func:`guards` (on the facts), :func:`ceiling` (how far the mode lets it go),
:func:`commit` (once more, at the last moment before enforcing), :func:`retry` (after a transient error),
:func:`aftermath` (what a result means for the VM's next events).
"""

from logmend.stages.decide.aftermath import aftermath, goes_first, noted, notes, superseding, wants_follow_up
from logmend.stages.decide.approvals import DIFFERS, approved, plan
from logmend.stages.decide.gates import (
    OLD_FACTS,
    admission,
    by_person,
    ceiling,
    commit,
    event,
    guards,
    judge_guards,
    outside,
    recall,
    waiting,
)
from logmend.stages.decide.limits import (
    BUDGET_EXHAUSTED,
    RECHECK,
    VM_TROUBLES,
    Cohort,
    breaker,
    budget,
    budget_exhausted,
    busy,
    busy_until,
    cohorts,
    request_deadline,
    retry,
    sample,
)
from logmend.stages.decide.ways import executors, no_route, osconfig_enabled

__all__ = [
    "BUDGET_EXHAUSTED",
    "DIFFERS",
    "OLD_FACTS",
    "RECHECK",
    "VM_TROUBLES",
    "Cohort",
    "admission",
    "aftermath",
    "approved",
    "breaker",
    "budget",
    "budget_exhausted",
    "busy",
    "busy_until",
    "by_person",
    "ceiling",
    "cohorts",
    "commit",
    "event",
    "executors",
    "goes_first",
    "guards",
    "judge_guards",
    "no_route",
    "noted",
    "notes",
    "osconfig_enabled",
    "outside",
    "plan",
    "recall",
    "request_deadline",
    "retry",
    "sample",
    "superseding",
    "waiting",
    "wants_follow_up",
]
