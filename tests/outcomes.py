"""Write down what becomes of every fixture and every runbook's case: ``python -m tests.outcomes``.

``tests/fixtures/outcomes.jsonl`` has a line per event: how it is explained, and the outcome that the pipeline
records on the memory ledger, in mode enforce, with a faulty VM that answers. It leaves out what is null and
what changes with every release. A refactoring leaves the file as it is.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from logmend import catalog, explain, instance_json
from logmend.model.enums import Mode
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts
from logmend.outcome import document
from logmend.runbook import BUILT_IN
from logmend.settings import RepeatsChoice, Settings
from logmend.stages import decode
from logmend_cli import cases
from tests.fakes import FakeFleet, ManualClock, push, world
from tests.unit.corpus import FIXTURES, names, value

FILE = FIXTURES / "outcomes.jsonl"
SETTINGS = replace(Settings(), mode=Mode.ENFORCE)
LEFT_OUT = (
    "version", "runbook_digest", "mode", "next_step", "latency_ms", "conditions", "event", "guards", "mark",
    "pending_guards", "count"
)  # fmt: skip


def lines() -> list[str]:
    """Return each event's line, in order of name."""
    rules = explain.Rules.of(catalog.load(SETTINGS), SETTINGS)
    return [
        json.dumps({"of": name, **asyncio.run(_told(raw, rules, facts, now))}, ensure_ascii=False)
        for name, raw, facts, now in _events()
    ]


def _events() -> Iterator[tuple[str, Any, InstanceFacts | None, datetime | None]]:
    for kind in ("entries", "exports", "incidents", "pushes"):
        every = names(kind) if kind != "exports" else sorted(_stems(FIXTURES / kind))
        yield from ((f"{kind}/{name}", value(kind, name), None, None) for name in every)
    for folder in sorted(BUILT_IN.iterdir()):
        for path in cases.files(folder):
            case, problems = cases.read(path)
            assert case is not None, problems
            facts = None if case.instance is None else instance_json.described(case.instance)
            yield f"{folder.name}/{case.name}", case.event, facts, case.now


def _stems(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.json")]


async def _told(
    raw: Any, rules: explain.Rules, facts: InstanceFacts | None, now: datetime | None
) -> dict[str, Any]:
    explained, outcomes = [], []
    for delivery, event, payload in decode.any_shape(json.dumps(raw).encode()):
        said = explain.event(delivery, event, rules, facts, now)
        explained.append({**_present(explain.document(said)), "detail": _detail(said)})
        body = json.dumps(payload if payload is None or delivery else push(payload)).encode()
        body = json.dumps(raw).encode() if delivery is not None else body
        w = _world(said, facts)
        for _ in range(2):
            await w.pipeline.handle(body, {})
        first, again = w.outcomes.written or (None, None)
        assert first == again, raw  # a second delivery says the same
        outcomes += [_present(document.document(first))] if first else []
    return {"explained": explained, "outcomes": outcomes}


def _detail(said: explain.Explanation) -> str | None:
    return said.verdict.detail if said.verdict else None


def _world(said: explain.Explanation, facts: InstanceFacts | None) -> Any:
    clock = ManualClock(said.at) if said.at else ManualClock()
    fleet = FakeFleet(clock)
    if said.instance is not None:
        fleet.add(said.instance)
    if facts is not None:
        fleet.add(facts.ref)
        fleet.facts_of[facts.ref.instance_id] = facts
    return world(clock=clock, fleet=fleet, mode=Mode.ENFORCE, repeats=RepeatsChoice.EACH)


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _present(each) if isinstance(each, dict) else each
        for key, each in found.items()
        if each not in (None, [], "") and each is not False and key not in LEFT_OUT
    }


if __name__ == "__main__":
    FILE.write_text("".join(f"{each}\n" for each in lines()))
