"""Second stage: find the runbook and variant for an event. Pure.

For a log entry, the runbooks' filters decide, applied to the entry as it arrived. An incident names a runbook
in the user label ``logmend-runbook`` of its alert policy. Both only mean "check this VM": acting requires the
live check.
"""

from collections.abc import Iterator, Mapping

from logmend import guards, lql
from logmend.model.enums import Result
from logmend.model.struct import Struct
from logmend.model.values import Incident, LogEntry, Verdict
from logmend.runbook import Runbook, Variant

OWN_LOG_IDS = frozenset({"logmend", "OSConfigAgent"})
"""Logs that logmend writes, itself or through OS Config: acting on them would create a loop."""


class Spoken(Struct, frozen=True):
    """An entry contains a runbook's words, but the runbook's filter does not select it.

    ``quoted_by`` is the other program that wrote the line; None if none is named, so the form is unknown.
    """

    runbook: Runbook
    quoted_by: str | None


class Match(Struct, frozen=True):
    """What an event asks for: a runbook, and the variant that describes the line (None for an incident).

    ``verdict`` says why the event is turned away; None if it asks for ``runbook``. ``spoken`` is set if an
    entry contains a runbook's words but no filter selects it.
    """

    runbook: Runbook | None = None
    variant: Variant | None = None
    verdict: Verdict | None = None
    spoken: Spoken | None = None


class Router:
    """The runbooks with their compiled filters, in the order in which they are tried.

    Creating a router compiles every filter, and raises what :func:`lql.compile` raises.
    """

    def __init__(self, runbooks: Mapping[str, Runbook]) -> None:
        self._runbooks = dict(runbooks)
        self._filters = [
            (each, lql.compile(each.filter)) for each in self._runbooks.values() if each.filter is not None
        ]
        self._wordy = [each for each, _ in self._filters if each.words]

    def match_filter(self, entry: LogEntry) -> Runbook | None:
        """Return the first runbook whose filter selects the entry."""
        for each, selects in self._filters:
            if selects.matches(entry.raw):
                return each
        return None

    def speaks(self, entry: LogEntry) -> Runbook | None:
        """Return the first runbook whose words occur in the entry's log line or payload."""
        if not self._wordy:
            return None
        said = list(texts(entry))
        for each in self._wordy:
            if _has(said, each.words):
                return each
        return None

    def named(self, name: str) -> Runbook | None:
        """Return the runbook with that name."""
        return self._runbooks.get(name)


def runbook(event: LogEntry | Incident, router: Router) -> Match:
    """Return the runbook that the event asks for, or the reason why there is nothing to check."""
    return _entry(event, router) if isinstance(event, LogEntry) else _incident(event, router)


def _entry(entry: LogEntry, router: Router) -> Match:
    if entry.log_id in OWN_LOG_IDS:
        return Match(verdict=Verdict(Result.SKIPPED, "own_entry", f"log {entry.log_id}"))
    if (runbook := router.match_filter(entry)) is None:
        return _unmatched(entry, router.speaks(entry))
    if (verdict := guards.of_log(runbook.guards, entry.log_name)) is not None:
        return Match(runbook, verdict=verdict)
    seen = [variant for text in entry.texts if (variant := runbook.variant_of(text)) is not None]
    if not seen:
        detail = f"no variant of {runbook.name} describes this line"
        return Match(runbook, verdict=Verdict(Result.REFUSED, "unknown_variant", detail))
    first = seen[0] if len(seen) == 1 else min(seen, key=runbook.variants.index)
    if first.verdict == "refuse":
        verdict = Verdict(Result.REFUSED, first.reason or "unknown_variant", f"variant {first.name}")
        return Match(runbook, first, verdict)
    return Match(runbook, first)


def _unmatched(entry: LogEntry, about: Runbook | None) -> Match:
    """Return the match for an entry that no filter selects, with ``spoken`` if it has a runbook's words."""
    if about is None:
        return Match(verdict=Verdict(Result.UNMATCHED, None, "no runbook's filter selects this entry"))
    read = [text for text in entry.texts if _has([text], about.words)]
    others = tuple(each for each in entry.programs if each not in about.programs)
    if others and all(text.startswith(tuple(f"{each}: " for each in others)) for text in read):
        detail = f"another program quotes the words of {about.name}"
        return Match(verdict=Verdict(Result.UNMATCHED, None, detail), spoken=Spoken(about, others[0]))
    if entry.resource_type != "gce_instance":
        form = "on a resource that is not a gce_instance"
    elif read:
        form = "after an unknown header"
    else:
        form = "in an unknown field"
    detail = f"it contains the words of {about.name} in a form that no filter knows: {form}"
    return Match(verdict=Verdict(Result.UNMATCHED, None, detail), spoken=Spoken(about, None))


def _has(texts: list[str], words: tuple[str, ...]) -> bool:
    return any(word in text for text in texts for word in words)


def texts(entry: LogEntry) -> Iterator[str]:
    """Yield every string in an entry's ``textPayload`` or ``jsonPayload``."""
    for key in ("textPayload", "jsonPayload"):
        yield from _texts(entry.raw.get(key))


def _texts(value: object) -> Iterator[str]:
    """Yield every string in a JSON value, whose depth decode has limited."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _incident(incident: Incident, router: Router) -> Match:
    if incident.is_test:
        return Match(
            verdict=Verdict(Result.SKIPPED, "test_notification", "a test of the notification channel")
        )
    if incident.state != "open":
        detail = f"state {incident.state[:20]!r} is not open"
        return Match(verdict=Verdict(Result.SKIPPED, "incident_closed", detail))
    if incident.runbook is None:
        detail = "the alert policy has no user label logmend-runbook"
        return Match(verdict=Verdict(Result.UNMATCHED, None, detail))
    if (runbook := router.named(incident.runbook)) is None:
        detail = f"no runbook {incident.runbook[:63]!r}"
        return Match(verdict=Verdict(Result.REFUSED, "unknown_runbook", detail))
    return Match(runbook)
