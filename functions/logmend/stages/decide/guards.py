"""What the guards say about an event, and about a VM's facts."""

from logmend import conditions
from logmend import guards as guards_
from logmend.model.enums import Result
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts, Intent, Verdict
from logmend.runbook import Runbook
from logmend.settings import Settings


def event(intent: Intent, runbook: Runbook, settings: Settings) -> Verdict | None:
    """Return the verdict of the first guard that objects without facts of the VM; None if none does.

    It is asked of an event that the ledger does not know, and leaves nothing behind there: an entry can be
    forged, so what it says must not be remembered for the VM that it names.
    """
    answers = (judged.answer for judged in judge_guards(intent, runbook, None, settings))
    return next((answer for answer in answers if isinstance(answer, Verdict)), None)


class Judged(Struct, frozen=True):
    """One guard's answer."""

    guard: str
    answer: guards_.Answer


def judge_guards(
    intent: Intent, runbook: Runbook, facts: InstanceFacts | None, settings: Settings
) -> list[Judged]:
    """Ask the guards of every runbook, then its own in its order, even after one has objected.

    ``unless`` and ``only``, the runbook's own conditions, come last.
    """
    basis = guards_.Basis(intent.instance, intent.source.log_name, facts, settings, intent.action)
    own = (*runbook.guards, guards_.irreversible.__name__) if runbook.irreversible else runbook.guards
    named = [(name, guards_.GUARDS[name](basis)) for name in guards_.asked(own)]
    return [Judged(*each) for each in (*named, *conditions.judged(basis, runbook))]


def guards(intent: Intent, runbook: Runbook, facts: InstanceFacts, settings: Settings) -> Verdict | None:
    """Return the verdict of the first guard that objects; a guard that is still pending objects too."""
    for judged in judge_guards(intent, runbook, facts, settings):
        match judged.answer:
            case Verdict() as verdict:
                return verdict
            case guards_.Pending(why, reason):
                return Verdict(Result.REFUSED, reason, f"{judged.guard}: {why}")
            case guards_.Passed():
                pass
    return None
