"""Decide whether to go on: pure rules over values, one function for each question of the pipeline.

In the order in which they are asked: :func:`event` (what an event shows by itself), :func:`admission` (before
anything is looked up), :func:`guards` (on the facts), :func:`ceiling` (how far the mode lets it go),
:func:`commit` (once more, at the last moment before enforcing), :func:`retry` (after a transient error),
:func:`aftermath` (what a result means for the VM's next events).
"""

from logmend.stages.decide.admission import admission, in_turn
from logmend.stages.decide.aftermath import (
    aftermath,
    goes_first,
    gone,
    noted,
    notes,
    superseding,
    wants_follow_up,
)
from logmend.stages.decide.approvals import DIFFERS, approved, plan
from logmend.stages.decide.ceiling import by_person, ceiling
from logmend.stages.decide.cohorts import (
    GROUP,
    OF_GROUP,
    SHRUNK,
    Cohort,
    asks_for_group,
    cohorts,
    held_by_group,
    of_group,
    told_of_group,
)
from logmend.stages.decide.commit import OLD_FACTS, commit
from logmend.stages.decide.guards import event, guards, judge_guards
from logmend.stages.decide.limits import BUDGET_EXHAUSTED, RECHECK, breaker, budget, budget_exhausted, sample
from logmend.stages.decide.retries import VM_TROUBLES, busy, busy_until, request_deadline, retry
from logmend.stages.decide.stops import outside, recall, stopped, waiting
from logmend.stages.decide.waves import (
    WAVE,
    allowed,
    moved,
    of_wave,
    wave,
    wave_act,
    wave_full,
    wave_in_words,
)
from logmend.stages.decide.ways import executors, no_route, osconfig_enabled

__all__ = [
    "BUDGET_EXHAUSTED",
    "DIFFERS",
    "GROUP",
    "OF_GROUP",
    "OLD_FACTS",
    "RECHECK",
    "SHRUNK",
    "VM_TROUBLES",
    "WAVE",
    "Cohort",
    "admission",
    "aftermath",
    "allowed",
    "approved",
    "asks_for_group",
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
    "gone",
    "guards",
    "held_by_group",
    "in_turn",
    "judge_guards",
    "moved",
    "no_route",
    "noted",
    "notes",
    "of_group",
    "of_wave",
    "osconfig_enabled",
    "outside",
    "plan",
    "recall",
    "request_deadline",
    "retry",
    "sample",
    "stopped",
    "superseding",
    "told_of_group",
    "waiting",
    "wants_follow_up",
    "wave",
    "wave_act",
    "wave_full",
    "wave_in_words",
]
