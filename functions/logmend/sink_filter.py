"""The filter of the log sink: what any runbook selects, and nothing that logmend itself wrote. Pure."""

from collections.abc import Mapping

from logmend import lql
from logmend.runbook import Runbook
from logmend.stages.match import OWN_LOG_IDS

MAX_CHARACTERS = 20_000
"""What Cloud Logging takes (cloud.google.com/logging/quotas), comments included."""


def compose(runbooks: Mapping[str, Runbook]) -> str:
    """Join the runbooks' filters by OR, each in parentheses, under the guard against loops.

    Raises FilterError for a filter that is unusable, or where no runbook has one: an empty filter would route
    every entry there is.
    """
    selected = lql.combine([each.filter for each in runbooks.values() if each.filter is not None])
    return f"{guard()}\nAND (\n{selected}\n)"


def guard() -> str:
    """Exclude the logs that logmend writes to: its outcomes, and the OS Config agent's."""
    return "\nAND ".join(f'NOT log_id("{each}")' for each in sorted(OWN_LOG_IDS, key=str.lower))
