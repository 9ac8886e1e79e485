"""Filters of the Compute Engine API that the pretend one understands: ANDs of terms, joined by OR."""

import re

from logmend_cli.pretend.failures import Refusal
from logmend_cli.pretend.instance import PretendInstance

_TERM = re.compile(r'\(?\s*(id|name|status|labels\.[a-z0-9_-]+)\s*(?:=|eq)\s*"?([^"()]*?)"?\s*\)?')


def terms(text: str) -> list[list[tuple[str, str]]]:
    """Return the terms of a filter: all terms of one list have to hold. Other filters raise Refusal."""
    either = re.split(r"\bOR\b", text) if text.strip() else [""]
    return [[_term(part, text) for part in re.split(r"\bAND\b", each) if part.strip()] for each in either]


def _term(part: str, text: str) -> tuple[str, str]:
    term = _TERM.fullmatch(part.strip())
    if term is None:
        raise Refusal(400, f"Invalid value for field 'filter': '{text}'")
    return term[1], term[2].strip()


def holds(instance: PretendInstance, name: str, value: str) -> bool:
    """Return whether a term is true of a VM."""
    if name.startswith("labels."):
        return instance.labels.get(name.removeprefix("labels.")) == value
    return bool(getattr(instance, "instance_id" if name == "id" else name) == value)
