"""The last question before enforcing, asked in the transaction that takes a place in the budget."""

from datetime import datetime, timedelta

from logmend.model.enums import Result
from logmend.model.state import View
from logmend.model.values import InstanceFacts, Intent, Verdict
from logmend.settings import Settings
from logmend.stages.decide.ceiling import ceiling
from logmend.stages.decide.stops import reverted_since, stopped

FRESH = timedelta(seconds=5)
"""How old the facts may be on which guards are judged when enforcing is committed to."""

OLD_FACTS = Verdict(
    Result.DEFERRED,
    "compute_unavailable",
    f"the VM's facts were more than {FRESH.seconds} s old at the commit point",
)


RELAPSE_HINT = (
    "A timer comes back when the guest agent is purged (rpm: removed) and installed again, on a rollback from"
    " the plugin agent, with metadata enable-guest-agent-core-plugin=false, on a recreated VM or a new disk,"
    " and at the first boot of an image without machine-id. Repair the image or the start-up script, or use a"
    " guest agent of 20231011 or later, which is silent unless the owner opted in."
)


def commit(
    intent: Intent,
    view: View,
    settings: Settings,
    now: datetime,
    facts: InstanceFacts | None,
    age: timedelta = timedelta(),
) -> Verdict | None:
    """Ask once more, after the check has seen the fault: all that may stop it, mode and relapses.

    ``age`` is the age of the facts on which the guards passed.
    """
    if not timedelta() <= age <= FRESH:
        return OLD_FACTS
    if (no := reverted_since(intent, view.subject)) is not None:
        return no
    if (stop := stopped(intent, view.subject, view.fleet, settings, now, facts)) is not None:
        return stop
    if not ceiling(intent, settings):
        return Verdict(Result.REFUSED, "observe_mode", "the mode does not allow enforcing")
    relapses = view.subject.relapses + (1 if view.subject.fixed_at else 0)
    if intent.automatic and view.subject.fixed_at and relapses >= settings.needs_human_after:
        return Verdict(
            Result.SKIPPED,
            "needs_human",
            f"the fault came back {relapses} times after a verified fix. {RELAPSE_HINT}",
        )
    return None
