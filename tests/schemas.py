"""docs/schemas/*.schema.json, made from this file and the code's enums: ``python -m tests.schemas``.

Tests hold what commands print against them, with no key too many; published, they allow further keys, since a
later version may add some.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from logmend.model.enums import Action, Finding, Mode, Result
from logmend.model.state import State
from logmend.runbook import diagnosis

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
WORDS: Schema = {"type": "array", "items": TEXT}
COUNTS: Schema = {"type": "object", "additionalProperties": NUMBER}


def one_of(enum: type[Any]) -> Schema:
    """Give a value of an enum."""
    return {"enum": [each.value for each in enum]}


def maybe(schema: Schema) -> Schema:
    """Give the schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(**keys: Schema) -> Schema:
    """Give an object that always has these keys."""
    return {"type": "object", "properties": keys, "required": list(keys)}


def rows(**keys: Schema) -> Schema:
    """Give an array of such objects."""
    return {"type": "array", "items": record(**keys)}


INSTANCE = record(project_id=TEXT, zone=TEXT, instance_id=TEXT)
EVIDENCE = record(exit_code={"type": "integer"}, finding=one_of(Finding), at=TIME, error=TEXT) | {
    "additionalProperties": TEXT,
    "description": "Beside these keys, the check's own key=value pairs.",
}
VM = {"type": "string", "description": "PROJECT/ZONE/INSTANCE_ID"}
RESULT = one_of(Result)
MADE_OF: Mapping[str, Schema] = {"group": maybe(TEXT), "template": maybe(TEXT), "image": maybe(TEXT)}
ALIKE: Mapping[str, Schema] = {"cause": TEXT, **MADE_OF, "instances": NUMBER, "next_step": maybe(TEXT)}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
CONCERNS: Schema = {"enum": ["owner", "fleet", "logmend"]}

OUTCOME = record(
    timestamp=TIME,
    severity={"enum": ["INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"]},
    result=RESULT,
    reason=maybe(TEXT),
    detail=TEXT,
    next_step=maybe(TEXT),
    runbook=maybe(TEXT),
    runbook_digest=maybe(TEXT),
    variant=maybe(TEXT),
    action=maybe(one_of(Action)),
    mode=one_of(Mode),
    executor=maybe({"enum": ["ssh", "osconfig"]}),
    host_key=maybe(TEXT),
    credential=maybe(TEXT),
    instance=maybe(record(**INSTANCE["properties"], name=maybe(TEXT), **MADE_OF, labels=LABELS)),
    owner=maybe(TEXT),
    attempt=NUMBER,
    committed={"type": "boolean"},
    before=maybe(EVIDENCE),
    after=maybe(EVIDENCE),
    cause=maybe(TEXT),
    cause_why=maybe({"enum": sorted(diagnosis.WHYS)}),
    cause_concerns=maybe(CONCERNS),
    cause_evidence=WORDS,
    cause_step=maybe(TEXT),
    cause_runbook=maybe(TEXT),
    message_id=maybe(TEXT),
    source=maybe(
        record(
            kind=TEXT,
            log_name=maybe(TEXT),
            insert_id=maybe(TEXT),
            timestamp=maybe(TIME),
            incident_id=maybe(TEXT),
        )
    ),
    replay_of=maybe(TEXT),
    requested_by=maybe(TEXT),
    identity=maybe(TEXT),
    why=maybe(TEXT),
    passes=WORDS,
    approval=maybe(record(id=TEXT, expires_at=maybe(TIME))),
    notes=WORDS,
    latency_ms=record(queue=maybe(NUMBER), lookup=maybe(NUMBER), act=maybe(NUMBER), total=maybe(NUMBER)),
    outcome_id=TEXT,
    intent_id=maybe(TEXT),
    count={"type": "integer", "minimum": 1},
    first_at=maybe(TIME),
    version=TEXT,
)

_FORM: Mapping[str, Schema] = {
    "log_path": TEXT,
    "variant": maybe(TEXT),
    "host": maybe(TEXT),
    "count": NUMBER,
    "first_seen": maybe(TIME),
    "last_seen": maybe(TIME),
    "result": RESULT,
    "reason": maybe(TEXT),
}
SCAN = record(
    instances=rows(
        instance=INSTANCE,
        name=maybe(TEXT),
        runbook=TEXT,
        count=NUMBER,
        first_seen=maybe(TIME),
        last_seen=maybe(TIME),
        log_paths=WORDS,
        variants=WORDS,
        hosts=WORDS,
        result=RESULT,
        reason=maybe(TEXT),
        detail=TEXT,
        **MADE_OF,
        owner=maybe(TEXT),
        labels={"type": "object", "additionalProperties": maybe(TEXT)},
        pending_guards=WORDS,
        forms=rows(**_FORM),
    ),
    totals=record(
        instances=NUMBER,
        results=COUNTS,
        entries=NUMBER,
        matched=NUMBER,
        unmatched=NUMBER,
        turned_away=COUNTS,
        unknown_form=record(
            entries=NUMBER,
            resources=NUMBER,
            first=maybe({"type": "object"}),
        ),
        quoted_by=COUNTS,
        ill_formed=COUNTS,
        first_seen=maybe(TIME),
        last_seen=maybe(TIME),
        facts={"enum": ["compute", "none"]},
        alike=rows(**ALIKE),
        owners=COUNTS,
        labels={"type": "object", "additionalProperties": COUNTS},
    ),
)

_SUBJECT: Mapping[str, Schema] = {
    "instance": VM,
    "name": maybe(TEXT),
    "owner": maybe(TEXT),
    "labels": LABELS,
    "runbook": TEXT,
    "result": maybe(RESULT),
    "reason": maybe(TEXT),
    "at": maybe(TIME),
    "failures": NUMBER,
    "relapses": NUMBER,
    "next_step": maybe(TEXT),
    "outcome_id": maybe(TEXT),
}
_QUANTILES = record(count=NUMBER, p50=maybe(NUMBER), p95=maybe(NUMBER), max=maybe(NUMBER))
STATUS = record(
    sources=record(ledger=maybe(TEXT), outcomes=maybe(TEXT)),
    instances=NUMBER,
    results=COUNTS,
    outcomes=COUNTS,
    first_outcome=maybe(TIME),
    last_outcome=maybe(TIME),
    stopped=WORDS,
    freezes=rows(name=TEXT, scope=TEXT, by=TEXT, identity=TEXT, since=TIME, until=maybe(TIME), why=TEXT),
    held=rows(
        instance=VM,
        name=maybe(TEXT),
        runbook=TEXT,
        held_by=maybe(TEXT),
        by=maybe(TEXT),
        identity=maybe(TEXT),
        since=maybe(TIME),
        until=maybe(TIME),
        why=maybe(TEXT),
        next_step=TEXT,
    ),
    waves=rows(runbook=TEXT, wave=TEXT, since=TIME, held_by=maybe(TEXT)),
    closed=rows(scope=TEXT, runbooks=WORDS, closed=TEXT, opens=maybe(TIME)),
    budgets=rows(runbook=TEXT, used=NUMBER, limit=NUMBER, frees=maybe(TIME)),
    last_tick=maybe(TIME),
    unreached=rows(project_id=TEXT, zone=TEXT, instances=NUMBER, of=NUMBER),
    owners=rows(owner=maybe(TEXT), instances=NUMBER, needs_human=NUMBER, failed=NUMBER),
    labels={
        "type": "object",
        "additionalProperties": rows(value=maybe(TEXT), instances=NUMBER, needs_human=NUMBER, failed=NUMBER),
    },
    groups=rows(
        group=TEXT,
        runbook=maybe(TEXT),
        waiting=NUMBER,
        reason=maybe(TEXT),
        why=maybe(TEXT),
        used=NUMBER,
        frees=maybe(TIME),
    ),
    needs_human=rows(**_SUBJECT),
    relapsed=rows(**_SUBJECT),
    controls=rows(
        at=TIME,
        reason=maybe(TEXT),
        by=maybe(TEXT),
        identity=maybe(TEXT),
        runbook=maybe(TEXT),
        instance=maybe(VM),
        approval_id=maybe(TEXT),
        detail=TEXT,
        outcome_id=TEXT,
    ),
    alike=rows(**ALIKE),
    causes=rows(
        result=RESULT,
        reason=maybe(TEXT),
        outcomes=NUMBER,
        instances=NUMBER,
        last_at=TIME,
        next_step=maybe(TEXT),
    ),
    failures=rows(
        at=TIME,
        instance=maybe(VM),
        name=maybe(TEXT),
        labels=LABELS,
        runbook=maybe(TEXT),
        result=RESULT,
        reason=maybe(TEXT),
        detail=TEXT,
        next_step=maybe(TEXT),
        outcome_id=TEXT,
    ),
    intents=COUNTS,
    waiting=rows(
        intent_id=TEXT,
        instance=VM,
        runbook=TEXT,
        action=one_of(Action),
        state=one_of(State),
        reason=maybe(TEXT),
        detail=maybe(TEXT),
        requested_by=maybe(TEXT),
        identity=maybe(TEXT),
        why=maybe(TEXT),
        created_at=TIME,
        position=maybe(NUMBER),
        due=maybe(TIME),
        expected=maybe(TIME),
    ),
    documents=COUNTS,
    approvals=rows(approval_id=TEXT, instance=VM, runbook=TEXT, action=one_of(Action), expires_at=TIME),
    latency_ms=record(queue=_QUANTILES, lookup=_QUANTILES, act=_QUANTILES, total=_QUANTILES),
)

SCHEMAS: Mapping[str, tuple[str, Schema]] = {
    "outcome": ("An outcome of logmend", OUTCOME),
    "scan": ("What `logmend scan --format json` prints", SCAN),
    "status": ("What `logmend status --format json` prints", STATUS),
}


def text(name: str) -> str:
    """Give the file's text."""
    title, schema = SCHEMAS[name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps(head | schema, indent=1) + "\n"


def hold(name: str, document: Any) -> None:
    """Hold a document against its schema, with no key too many; ``ValidationError`` if it is another."""
    validator: Any = jsonschema.Draft202012Validator(_strict(SCHEMAS[name][1]))
    validator.validate(document)


def _strict(schema: Schema) -> Schema:
    found = copy.deepcopy(schema)
    _close(found)
    return found


def _close(node: Any) -> None:
    if isinstance(node, dict):
        if "required" in node:
            node.setdefault("additionalProperties", False)
        for each in node.values():
            _close(each)
    elif isinstance(node, list):
        for each in node:
            _close(each)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SCHEMAS:
        (FOLDER / f"{each}.schema.json").write_text(text(each))
