"""The rules for the sink's filter: it fits the limits, and selects nothing that logmend itself writes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import product

from logmend import __version__, lql, sink_filter
from logmend.model.enums import Action, Mode, Result
from logmend.model.values import InstanceRef, Outcome
from logmend.outcome import document as outcome_json
from logmend.outcome.reasons import REASONS
from logmend.runbook import Problem, Runbook
from logmend.stages.match import OWN_LOG_IDS

SINK = "the sink's filter"

_VM = InstanceRef("example-project", "us-west1-a", "4775836342981993096")


def check(runbooks: Mapping[str, Runbook]) -> Iterator[Problem]:
    """Check the combined filter of the runbooks, each of which has to be usable by itself."""
    if not any(each.filter for each in runbooks.values()):
        return
    text = sink_filter.compose(runbooks)
    if len(text) > sink_filter.MAX_CHARACTERS:
        excess = f"{len(text)} characters, {len(text) - sink_filter.MAX_CHARACTERS} too many"
        yield Problem(SINK, None, excess, "shorten the runbooks' filters, or deploy a sink for each")
        return
    composed = lql.compile(text)
    for entry in own_entries(runbooks):
        if composed.matches(entry):
            yield Problem(SINK, None, f"it selects logmend's own entries in {entry['logName']}: a loop")
            return


def own_entries(runbooks: Mapping[str, Runbook]) -> Iterator[dict[str, object]]:
    """Yield entries as logmend writes them: every result, with every reason, about every runbook.

    They are documents of the production code, in its own logs; the OS Config agent's log repeats what our
    scripts print.
    """
    log_names = [f"projects/{_VM.project_id}/logs/{log_id}" for log_id in sorted(OWN_LOG_IDS)]
    for name, result, (reason, meaning) in product(runbooks, Result, REASONS.items()):
        entry = _entry(_outcome(name, result, reason, meaning.meaning))
        for log_name in log_names:
            yield {"logName": log_name, **entry}


def _outcome(runbook: str, result: Result, reason: str, detail: str) -> Outcome:
    return Outcome(
        result=result,
        reason=reason,
        detail=detail,
        at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        outcome_id=f"m-1-1-{result}",
        mode=Mode.ENFORCE,
        version=__version__,
        runbook=runbook,
        action=Action.ENFORCE,
        instance=_VM,
    )


def _entry(outcome: Outcome) -> dict[str, object]:
    document = outcome_json.document(outcome)
    return {
        "resource": {
            "type": "gce_instance",
            "labels": {"project_id": _VM.project_id, "zone": _VM.zone, "instance_id": _VM.instance_id},
        },
        "insertId": outcome_json.insert_id(outcome),
        "timestamp": document["timestamp"],
        "severity": document["severity"],
        "labels": outcome_json.labels(outcome),
        "jsonPayload": document,
    }
