"""Golden cases: one file per case in a runbook's ``cases/``, named for what is odd about it.

::

    {
      "why": "What is odd, in a sentence.",
      "event": {…},               any shape that explain takes
      "instance": {…},            optional: as `gcloud compute instances describe --format=json` prints it
      "now": "2026-07-08T14:00:00Z",   optional: the time to judge at; the entry's own if absent
      "expect": {"result": "refused", "reason": "exempt", "runbook": "workload-cert-refresh", "variant": null}
    }

``expect`` has all four keys; a value that does not apply is null.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from logmend.model.enums import Result
from logmend.model.struct import Struct
from logmend.runbook import Problem
from logmend.runbook.decode import KEBAB, suggestion

KEYS = ("why", "event", "instance", "now", "expect")
EXPECTED = ("result", "reason", "runbook", "variant")


class Expected(Struct, frozen=True):
    """The expected answer of explain. ``result`` is None for a tick."""

    result: Result | None
    reason: str | None
    runbook: str | None
    variant: str | None


class Case(Struct, frozen=True):
    """An event, optionally with facts and a time, and the expected answer."""

    name: str
    why: str
    event: object
    expect: Expected
    instance: Mapping[str, object] | None = None
    now: datetime | None = None


def files(folder: Path) -> list[Path]:
    """Return the case files of a runbook's folder, in order of name."""
    return sorted((folder / "cases").glob("*.json"))


def read(path: Path) -> tuple[Case | None, list[Problem]]:
    """Read one case strictly: unknown keys and other shapes are problems."""
    file = str(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return None, [Problem(file, None, f"cannot be read: {error.strerror}")]
    except json.JSONDecodeError as error:
        return None, [Problem(file, error.lineno, f"no JSON: {error.msg}")]
    except ValueError:
        return None, [Problem(file, None, "not UTF-8")]
    if not isinstance(raw, dict):
        return None, [Problem(file, 1, "expected an object with why, event and expect")]
    problems = _unknown(file, raw, KEYS)
    if not re.fullmatch(KEBAB, path.stem):
        problems.append(Problem(file, None, "the name is not lower-case words joined by hyphens"))
    if not isinstance(raw.get("why"), str) or not raw["why"].strip():
        problems.append(
            Problem(file, None, "why: a sentence that says what is odd about the event is missing")
        )
    if "event" not in raw:
        problems.append(Problem(file, None, "event is missing"))
    if not isinstance(raw.get("instance", {}), dict):
        problems.append(Problem(file, None, "instance: expected an object"))
    now = _instant(raw.get("now"))
    if "now" in raw and now is None:
        problems.append(
            Problem(file, None, "now: expected a time with its zone such as 2026-07-08T14:00:00Z")
        )
    expect, wrong = _expected(file, raw.get("expect"))
    problems += wrong
    if problems or expect is None:
        return None, problems
    return Case(path.stem, raw["why"], raw["event"], expect, raw.get("instance"), now), []


def write(folder: Path, case: Case) -> Path:
    """Write a case into a runbook's folder and return its path; raise FileExistsError if it exists."""
    path = folder / "cases" / f"{case.name}.json"
    path.parent.mkdir(exist_ok=True)
    raw: dict[str, object] = {"why": case.why, "event": case.event}
    if case.instance is not None:
        raw["instance"] = case.instance
    if case.now is not None:
        raw["now"] = case.now.isoformat().replace("+00:00", "Z")
    raw["expect"] = {name: getattr(case.expect, name) for name in EXPECTED}
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(raw, indent=2, ensure_ascii=False) + "\n")
    return path


def _unknown(file: str, raw: Mapping[str, object], known: tuple[str, ...]) -> list[Problem]:
    return [
        Problem(file, None, f"unknown key {key}", suggestion(key, known)) for key in raw if key not in known
    ]


def _instant(value: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else None


def _expected(file: str, raw: object) -> tuple[Expected | None, list[Problem]]:
    if not isinstance(raw, dict):
        return None, [Problem(file, None, "expect: expected an object with " + ", ".join(EXPECTED))]
    problems = _unknown(file, raw, EXPECTED)
    problems += [
        Problem(file, None, f"expect.{name} is missing", "null where it does not apply")
        for name in EXPECTED
        if name not in raw
    ]
    problems += [
        Problem(file, None, f"expect.{name}: expected text or null")
        for name in EXPECTED
        if not isinstance(raw.get(name), str | None)
    ]
    result = raw.get("result")
    if isinstance(result, str) and result not in list(Result):
        problems.append(
            Problem(file, None, f"expect.result: no such result {result}", suggestion(result, Result))
        )
    if problems:
        return None, problems
    return Expected(Result(result) if result else None, raw["reason"], raw["runbook"], raw["variant"]), []
