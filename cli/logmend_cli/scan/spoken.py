"""Count entries that have a runbook's words and match no filter, and keep one of them to show. Pure.

They are either quotes, if a header or field names another program, or of a form that no filter knows: an
unexpected shipper, header or field. VMs with entries of the second kind may have the fault.
"""

import json
import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from logmend.model.values import LogEntry
from logmend.stages.intake import Intake
from logmend.stages.match import texts
from logmend_cli.output import printable, shortened

RESOURCES = 10_000
"""Most resources that are distinguished; if there are more, the count is a lower bound."""
PROGRAMS = 32
"""Most programs that are distinguished; more (a tag is free text) count as ``other``."""
LONGEST = 48
"""Most characters kept of a program's name: the limit of RFC 5424."""
_EXCERPT = 240


@dataclass(slots=True)
class SpokenCounts:
    """The entries so far. ``first`` is the first of unknown form, as JSON data."""

    entries: int = 0
    quotes: Counter[str] = field(default_factory=Counter)
    first: dict[str, Any] | None = None
    _resources: set[int] = field(default_factory=set)

    @property
    def resources(self) -> int:
        """Number of monitored resources with entries of unknown form."""
        return len(self._resources)

    def add(self, entry: LogEntry, read: Intake, where: str | None, path: str) -> None:
        """Take in an entry that no filter selects; ``where`` is its place in a file."""
        if read.spoken is None:
            return
        if (program := read.spoken.quoted_by) is not None:
            name = program[:LONGEST]
            told_apart = name in self.quotes or len(self.quotes) < PROGRAMS
            self.quotes[name if told_apart else "other"] += 1
            return
        self.entries += 1
        if len(self._resources) < RESOURCES:
            labels = json.dumps(entry.resource_labels, sort_keys=True)
            self._resources.add(hash((entry.resource_type, labels)))
        if self.first is None:
            self.first = {
                "where": where,
                "log_path": path,
                "runbook": read.spoken.runbook.name,
                "why": read.verdict.detail if read.verdict else "",
                "text": _excerpt(entry, read.spoken.runbook.words),
                "explain": _command(entry, where),
            }


def _excerpt(entry: LogEntry, words: tuple[str, ...]) -> str:
    """Return the text around the words, safe for a terminal."""
    said = texts(entry)
    text = next((each for each in said if any(word in each for word in words)), "")
    at = min(text.find(word) for word in words if word in text)
    begin = max(at - _EXCERPT // 2, 0)
    return shortened(("…" if begin else "") + text[begin : begin + _EXCERPT], _EXCERPT)


def _command(entry: LogEntry, where: str | None) -> str:
    """Return the command that explains, condition by condition, why no filter selects the entry."""
    if where is not None:
        file, _, number = where.rpartition(":")
        if not (file and number.isdecimal()):
            return f"logmend explain {shlex.quote(printable(where))}"
        return f"logmend explain {shlex.quote(printable(file))}  # entry {number}"
    named = {"logName": entry.log_name, "insertId": entry.insert_id or ""}
    query = " AND ".join(f"{key}={json.dumps(printable(value))}" for key, value in named.items())
    project = entry.log_name.split("/")[1] if entry.log_name.count("/") >= 2 else ""
    when = f" AND timestamp={json.dumps(entry.raw['timestamp'])}" if entry.timestamp else ""
    arguments = f"{shlex.quote(query + when)} --project={shlex.quote(printable(project))}"
    return f"gcloud logging read {arguments} --format=json | logmend explain -"
