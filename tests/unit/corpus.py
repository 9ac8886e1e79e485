"""The fixtures with their expectations, and the expected outcome of match in one comparable form."""

import json
from pathlib import Path
from typing import Any

import yaml

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


def outcome(found: match.Match) -> dict[str, str | None]:
    """Say what match found as expected.yaml writes it."""
    if found.verdict is None:
        assert found.runbook is not None
        variant = found.variant.name if found.variant else None
        return {"result": "matched", "runbook": found.runbook.name, "variant": variant}
    if found.spoken is not None:
        return {"result": "unmatched", "words": "quoted" if found.spoken.quoted_by else "unknown_form"}
    reason = {"reason": found.verdict.reason} if found.verdict.reason else {}
    return {"result": found.verdict.result.value, **reason}
