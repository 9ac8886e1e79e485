"""What an approval covers: what the person saw, and how that differs from the present state."""

from logmend.guards import Answer, Passed, Pending
from logmend.model.enums import Origin, Result
from logmend.model.values import Evidence, InstanceFacts, Intent, Plan, Verdict
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages.decide.guards import judge_guards

DIFFERS = "approval_differs"


def plan(
    intent: Intent,
    runbook: Runbook,
    facts: InstanceFacts | None,
    seen: Evidence | None,
    settings: Settings,
) -> Plan:
    """Put together what a person is shown. Anything that was not checked again is as it was approved."""
    approved = intent.approved if seen is None else None
    return Plan(
        action=intent.action,
        digest=runbook.digest,
        finding=seen.finding if seen else approved.finding if approved else None,
        guards={each.guard: _verdict(each.answer) for each in judge_guards(intent, runbook, facts, settings)},
        evidence={key: seen.values.get(key) for key in runbook.approval_keys}
        if seen
        else approved.evidence
        if approved
        else {},
    )


def approved(
    intent: Intent,
    runbook: Runbook,
    facts: InstanceFacts | None,
    seen: Evidence | None,
    settings: Settings,
) -> Verdict | None:
    """Return how an approved intent differs from what its approval was for; None if it does not.

    ``seen`` is None if an agent is asked, which checks by itself; then only the rest can be compared.
    """
    if intent.origin is not Origin.APPROVAL:
        return None
    if intent.approved is None:
        return Verdict(
            Result.PLANNED, DIFFERS, "the version that requested it did not record the approved plan"
        )
    differing = differences(intent.approved, plan(intent, runbook, facts, seen, settings))
    return Verdict(Result.PLANNED, DIFFERS, "; ".join(differing)) if differing else None


def differences(then: Plan, now: Plan) -> list[str]:
    """Return in words what has changed since the approval."""
    single = (
        ("action", then.action, now.action),
        ("runbook digest", then.digest, now.digest),
        ("finding", then.finding, now.finding),
    )
    found = [f"{what} was {was}, is {now_}" for what, was, now_ in single if was != now_]
    for what, before, after in (
        ("guard", then.guards, now.guards),
        ("evidence", then.evidence, now.evidence),
    ):
        found += [
            f"{what} {key} was {_shown(before.get(key))}, is {_shown(after.get(key))}"
            for key in dict.fromkeys([*before, *after])
            if before.get(key) != after.get(key)
        ]
    return found


def _shown(value: str | None) -> str:
    return "absent" if value is None else repr(value)


def _verdict(answer: Answer) -> str:
    match answer:
        case Passed(why):
            return f"go on; {why}"
        case Pending(why):
            return f"pending: {why}"
        case Verdict():
            return f"{answer.reason}: {answer.detail}"
