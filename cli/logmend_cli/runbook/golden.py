"""Golden cases: compare explain's answer for an event with the expected one."""

import json
from collections.abc import Iterator
from pathlib import Path

from logmend import explain, instance_json
from logmend.explain import Explanation, Rules
from logmend.model.struct import Struct
from logmend.model.values import Verdict
from logmend.stages import decode
from logmend_cli import cases
from logmend_cli.cases import EXPECTED, Case, Expected


class Ran(Struct, frozen=True):
    """A case that was run. ``problem`` says how the answer differs; empty if it does not."""

    runbook: str
    case: str
    problem: str
    expected: Expected | None = None
    answered: Expected | None = None


def run(folder: Path, rules: Rules) -> Iterator[Ran]:
    """Run every case of a runbook's folder, in order of name."""
    for path in cases.files(folder):
        case, problems = cases.read(path)
        if case is None:
            yield Ran(folder.name, path.stem, "; ".join(each.message for each in problems))
        else:
            yield ran(folder.name, case, rules)


def answer(explanation: Explanation) -> Expected:
    """Reduce an explanation to the keys that a case expects."""
    verdict = explanation.verdict
    return Expected(
        verdict.result if verdict else None,
        verdict.reason if verdict else None,
        explanation.runbook.name if explanation.runbook else None,
        explanation.variant.name if explanation.variant else None,
    )


def ran(runbook: str, case: Case, rules: Rules) -> Ran:
    """Run one case."""
    items = decode.any_shape(json.dumps(case.event).encode())
    if len(items) != 1:
        return Ran(runbook, case.name, f"a case is about one event, this has {len(items)}")
    delivery, event, _ = items[0]
    facts = None
    if case.instance is not None:
        try:
            facts = instance_json.described(case.instance)
        except ValueError as error:
            return Ran(runbook, case.name, f"instance: {error}")
    explanation = explain.event(delivery, event, rules, facts, case.now)
    if facts is not None and facts.ref != explanation.instance:
        return Ran(
            runbook, case.name, f"instance describes {facts.ref}, the event names {explanation.instance}"
        )
    answered = answer(explanation)
    return Ran(
        runbook, case.name, _difference(case.expect, answered, explanation.verdict), case.expect, answered
    )


def _difference(expected: Expected, answered: Expected, verdict: Verdict | None) -> str:
    differs = [
        f"{name} is {getattr(answered, name)}, not {getattr(expected, name)}"
        for name in EXPECTED
        if getattr(answered, name) != getattr(expected, name)
    ]
    detail = f" ({verdict.detail})" if differs and verdict and verdict.detail else ""
    return "; ".join(differs) + detail
