"""The fixtures with their expectations, and the expected outcome of match in one comparable form."""

import json
from pathlib import Path
from typing import Any

import yaml

from logmend.model.enums import Result
from logmend.model.values import Verdict
from logmend.stages import match

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
EXPECTED: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((FIXTURES / "expected.yaml").read_text())


def names(kind: str) -> list[str]:
    """Names of the fixtures of a kind (entries, incidents, pushes) for which something is expected."""
    return sorted(EXPECTED[kind])


def text(kind: str, name: str) -> bytes:
    """One fixture as it stands in its file."""
    return (FIXTURES / kind / f"{name}.json").read_bytes()


def value(kind: str, name: str) -> Any:
    """One fixture, parsed."""
    return json.loads(text(kind, name))


def outcome(found: match.Matched | match.Unmatched | match.TurnedAway) -> dict[str, str | None]:
    """Say what match found as expected.yaml writes it."""
    match found:
        case match.Matched(runbook, variant):
            return {
                "result": "matched",
                "runbook": runbook.name,
                "variant": variant.name if variant else None,
            }
        case match.Unmatched(_, spoken) if spoken is not None:
            return {"result": "unmatched", "words": "quoted" if spoken.quoted_by else "unknown_form"}
        case match.Unmatched():
            return {"result": "unmatched"}
        case match.TurnedAway(Verdict(Result.SKIPPED, reason)):
            return {"result": "skipped", "reason": reason}
        case match.TurnedAway(Verdict(Result.REFUSED, reason)):
            return {"result": "refused", "reason": reason}
    raise AssertionError(found)
