"""Second stage: which runbook an event asks for, and in which variant. Pure.

A log entry asks by what it is: the runbooks' filters see the entry as it came. An incident asks by the user
label ``logmend-runbook`` of its alert policy. Both only say "look at this VM": acting takes the live check.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from logmend import lql
from logmend.model.enums import Result
from logmend.model.struct import Struct
from logmend.model.values import Incident, LogEntry, Verdict
from logmend.runbook import Runbook, Variant

OWN_LOG_IDS = frozenset({"logmend", "OSConfigAgent"})
"""Logs that logmend writes, itself or through OS Config: acting on them would be a loop."""

CORE_PLUGIN_LOG_ID = "GCEGuestAgent"
"""The guest agent's core plugin refreshes certificates without the timer, and only where the VM opted in."""

NOT_THIS_TIMER = "not_this_timer"


class Matched(Struct, frozen=True):
    """The runbook to run. ``variant`` is the form of the line; None for an incident."""

    runbook: Runbook
    variant: Variant | None


class Spoken(Struct, frozen=True):
    """An entry has the words of a runbook, and its filter does not select it.

    ``quoted_by`` is the other program whose line it is; None where none is named: the form is unknown.
    """

    runbook: Runbook
    quoted_by: str | None


class Unmatched(Struct, frozen=True):
    """No runbook is meant, and ``detail`` says why, without a word of the event's own."""

    detail: str
    spoken: Spoken | None = None


class TurnedAway(Struct, frozen=True):
    """A runbook is meant but the event itself says no; what is known of runbook and variant is named."""

    verdict: Verdict
    runbook: Runbook | None = None
    variant: Variant | None = None


class Router:
    """The runbooks with their compiled filters, in the order in which they are asked.

    Building one compiles every filter; a filter that cannot be compiled raises what :func:`lql.compile` does.
    """

    def __init__(self, runbooks: Mapping[str, Runbook]) -> None:
        self._runbooks = dict(runbooks)
        self._filters = [
            (each, lql.compile(each.filter)) for each in self._runbooks.values() if each.filter is not None
        ]

    def match_filter(self, entry: LogEntry) -> Runbook | None:
        """Return the first runbook whose filter selects the entry."""
        return next((each for each, selects in self._filters if selects.matches(entry.raw)), None)

    def speaks(self, entry: LogEntry) -> Runbook | None:
        """Return the first runbook whose words are anywhere in the entry's log line or payload."""
        every = [each for each, _ in self._filters if each.words]
        if not every:
            return None
        said = list(texts(entry))
        return next((each for each in every if _has(said, each.words)), None)

    def named(self, name: str) -> Runbook | None:
        """Return the runbook of that name."""
        return self._runbooks.get(name)


def runbook(event: LogEntry | Incident, router: Router) -> Matched | Unmatched | TurnedAway:
    """Return the runbook that the event asks for, or the reason why there is nothing to look at."""
    return _entry(event, router) if isinstance(event, LogEntry) else _incident(event, router)


def _entry(entry: LogEntry, router: Router) -> Matched | Unmatched | TurnedAway:
    if entry.log_id in OWN_LOG_IDS:
        return TurnedAway(Verdict(Result.SKIPPED, "own_entry", f"log {entry.log_id}"))
    if (found := router.match_filter(entry)) is None:
        return _unmatched(entry, router.speaks(entry))
    if NOT_THIS_TIMER in found.guards and entry.log_id == CORE_PLUGIN_LOG_ID:
        detail = f"log {entry.log_id}: stopping the timer cannot silence the core plugin"
        return TurnedAway(Verdict(Result.REFUSED, NOT_THIS_TIMER, detail), found)
    seen = [variant for text in entry.texts if (variant := found.variant_of(text)) is not None]
    if not seen:
        return TurnedAway(
            Verdict(Result.REFUSED, "unknown_variant", f"no variant of {found.name} describes this line"),
            found,
        )
    first = min(seen, key=found.variants.index)
    if first.verdict == "refuse":
        return TurnedAway(
            Verdict(Result.REFUSED, first.reason or "unknown_variant", f"variant {first.name}"), found, first
        )
    return Matched(found, first)


def _unmatched(entry: LogEntry, about: Runbook | None) -> Unmatched:
    """Say of an entry that no filter selects whether it speaks of what a runbook is about, and how."""
    if about is None:
        return Unmatched("no runbook's filter selects this entry")
    read = [text for text in entry.texts if _has([text], about.words)]
    others = tuple(each for each in entry.programs if each not in about.programs)
    if others and all(text.startswith(tuple(f"{each}: " for each in others)) for text in read):
        return Unmatched(f"another program quotes the words of {about.name}", Spoken(about, others[0]))
    if entry.resource_type != "gce_instance":
        form = "on a resource that is no gce_instance"
    elif read:
        form = "behind a header that is not read"
    else:
        form = "in a field that is not read"
    return Unmatched(f"it speaks of {about.name} in a form that no filter knows: {form}", Spoken(about, None))


def _has(texts: list[str], words: tuple[str, ...]) -> bool:
    return any(word in text for text in texts for word in words)


def texts(entry: LogEntry) -> Iterator[str]:
    """Yield every string of an entry's ``textPayload`` or ``jsonPayload``."""
    for key in ("textPayload", "jsonPayload"):
        yield from _texts(entry.raw.get(key))


def _texts(value: Any) -> Iterator[str]:
    """Yield every string of a JSON value, which is no deeper than decode lets it be."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _incident(incident: Incident, router: Router) -> Matched | Unmatched | TurnedAway:
    if incident.is_test:
        return TurnedAway(Verdict(Result.SKIPPED, "test_notification", "a test of the notification channel"))
    if incident.state != "open":
        return TurnedAway(
            Verdict(Result.SKIPPED, "incident_closed", f"state {incident.state[:20]!r} is not open")
        )
    if incident.runbook is None:
        return Unmatched("the alert policy has no user label logmend-runbook")
    if (found := router.named(incident.runbook)) is None:
        return TurnedAway(Verdict(Result.REFUSED, "unknown_runbook", f"no runbook {incident.runbook[:63]!r}"))
    return Matched(found, None)
