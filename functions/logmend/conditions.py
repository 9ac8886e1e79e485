"""The guards that a runbook writes itself: ``unless`` and ``only``, by what Compute says of a VM. Pure.

``unless`` refuses if any condition holds. ``only`` refuses unless of each kind that it names one holds. A
fact that could not be looked up counts as no in both.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from logmend.guards import Answer, Basis, Passed, Pending
from logmend.model.enums import Action, Result
from logmend.model.values import InstanceFacts, Verdict
from logmend.runbook import Condition, Runbook


def judged(basis: Basis, runbook: Runbook) -> Iterator[tuple[str, Answer]]:
    """Yield the answers of those of ``unless`` and ``only`` that the runbook has, by name."""
    for name, conditions, ask in (("unless", runbook.unless, _unless), ("only", runbook.only, _only)):
        if not conditions:
            continue
        if basis.action is Action.REVERT:
            yield name, Passed("a revert only undoes logmend's own change")
        elif basis.facts is None:
            yield name, Pending("the VM is not looked up yet")
        else:
            yield name, ask(conditions, basis.facts)


def _unless(conditions: Sequence[Condition], facts: InstanceFacts) -> Answer:
    answers = {each: holds(each, facts) for each in conditions}
    for each, answer in answers.items():
        if answer:
            return Verdict(Result.REFUSED, "excluded_by_runbook", f"the runbook leaves VMs with {each} alone")
    return _unknown(answers, facts) or Passed(f"none of {_listed(conditions)}")


def _only(conditions: Sequence[Condition], facts: InstanceFacts) -> Answer:
    for kind, group in groupby(conditions, lambda each: each.kind):
        answers = {each: holds(each, facts) for each in group}
        if True in answers.values():
            continue
        detail = f"the runbook is only for VMs with {kind} {' or '.join(each.text for each in answers)}"
        return _unknown(answers, facts) or Verdict(Result.REFUSED, "not_for_this_vm", detail)
    return Passed(f"it has {_listed(conditions)}")


def _unknown(answers: dict[Condition, bool | None], facts: InstanceFacts) -> Answer | None:
    """Return what could not be judged: pending if it was not looked up, no if looking it up failed."""
    missing = next((each for each, answer in answers.items() if answer is None), None)
    if missing is None:
        return None
    source = "project_metadata" if missing.kind == "metadata" else missing.kind
    if source in facts.unknown:
        return Verdict(Result.REFUSED, "facts_unknown", f"{missing}: {facts.unknown[source]}")
    if missing.kind != "metadata":  # what a look-up of the VM always answers, if it is known
        return Verdict(Result.REFUSED, "facts_unknown", f"{missing}: missing from Compute's answer")
    return Pending(f"{missing}: {source} is not looked up yet")


def _listed(conditions: Sequence[Condition]) -> str:
    return ", ".join(str(each) for each in conditions)


def holds(condition: Condition, facts: InstanceFacts) -> bool | None:
    """Return whether a condition holds on a VM; None if that is not known."""
    match condition.kind:
        case "label":
            key, equals, value = condition.text.partition("=")
            return key in facts.labels and (not equals or facts.labels[key] == value)
        case "metadata":
            return _metadata(condition.text, facts)
        case "image":
            if facts.licenses is None:
                return None
            return any(condition.text in (each, each.partition("/")[0]) for each in facts.licenses)
        case "machine_family":
            return None if facts.machine_type is None else family(facts.machine_type) == condition.text


def _metadata(text: str, facts: InstanceFacts) -> bool | None:
    """Compare as the guest sees it, whatever the case: gcloud's own pages write TRUE as often as true."""
    key, equals, value = text.partition("=")
    if (there := facts.effective(key)) is None:
        return None if facts.project_metadata is None else False
    return not equals or there.strip().lower() == value.strip().lower()


def family(machine_type: str) -> str:
    """Return the family of a machine type: ``e2`` of ``e2-medium``; a custom type without one is an N1."""
    first = machine_type.partition("-")[0]
    return "n1" if first == "custom" else first
