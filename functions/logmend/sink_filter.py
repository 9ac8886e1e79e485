"""The filter of the log sink: what any runbook selects, and nothing that logmend itself wrote. Pure."""

from collections.abc import Mapping

from logmend import lql
from logmend.runbook import Runbook
from logmend.stages.match import OWN_LOG_IDS

MAX_CHARACTERS = 20_000
"""What Cloud Logging takes (cloud.google.com/logging/quotas), comments included."""


def compose(runbooks: Mapping[str, Runbook]) -> str:
    """Join the runbooks' filters by OR, each in parentheses, under the guard against loops.

    Raises FilterError for a filter that is unusable, or if no runbook has one: an empty filter would route
    every entry there is.
    """
    return f"{guard()}\nAND (\n{_selected(runbooks)}\n)"


def widened(runbooks: Mapping[str, Runbook]) -> str:
    """Select also what has the runbooks' words in any form and is no audit log: what a scan reads."""
    words = [f'"{word}"' for each in runbooks.values() for word in each.words]
    if not words:
        return compose(runbooks)
    spoken = f"(NOT protoPayload:* AND ({' OR '.join(words)}))"
    return f"{guard()}\nAND (\n(\n{_selected(runbooks)}\n)\nOR {spoken}\n)"


def _selected(runbooks: Mapping[str, Runbook]) -> str:
    return lql.combine([each.filter for each in runbooks.values() if each.filter is not None])


def guard() -> str:
    """Exclude the logs that logmend writes to: its outcomes, and the OS Config agent's."""
    return "\nAND ".join(f'NOT log_id("{each}")' for each in sorted(OWN_LOG_IDS, key=str.lower))
