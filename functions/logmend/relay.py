"""Lines that a VM shipped for another host, as far as names can tell. Pure.

A central syslog server ships the lines of every host under its own instance id. A host in the line that is
not the VM's name is a sign of that, or of a VM whose operating system has a host name of its own. It is
noted, and decides nothing. The VM that shipped the line is checked; the check there sees its own timer.
"""

from collections.abc import Iterable

from logmend.model.values import InstanceFacts, Intent, LogEntry

_AGENTS_HOST = ("compute.googleapis.com/resource_name", "compute_googleapis_com_resource_name")
"""Label by which agents name the host that they run on (the second as BigQuery spells it)."""


def shipped_by(entry: LogEntry) -> str | None:
    """Return the host name of the agent that shipped an entry; None if it says none, or ``localhost``."""
    labels = entry.raw.get("labels")
    if not isinstance(labels, dict):
        return None
    for key in _AGENTS_HOST:
        if isinstance(name := labels.get(key), str) and name:
            return None if short(name) == "localhost" else name
    return None


def agents_labels(entry: LogEntry) -> dict[str, object]:
    """Return the labels of an entry by which its agent names the host that it runs on."""
    labels = entry.raw.get("labels")
    return {key: labels[key] for key in _AGENTS_HOST if key in labels} if isinstance(labels, dict) else {}


def host(entry: LogEntry) -> str | None:
    """Return the host that the line names, unless it is the agent's own."""
    if entry.host is None:
        return None
    by = shipped_by(entry)
    return None if by is not None and short(entry.host) == short(by) else entry.host


def of_intent(intent: Intent, facts: InstanceFacts | None, name: str | None = None) -> str:
    """Return which host the line of an intent names, if it is not its VM; empty if that is not known."""
    if intent.line_host is None:
        return ""
    if facts is not None:
        return note([intent.line_host], facts.name, (facts.internal_ip, facts.external_ip))
    return note([intent.line_host], name or intent.shipped_by)


def note(hosts: Iterable[str], name: str | None, addresses: Iterable[str | None] = ()) -> str:
    """Return a note on the hosts that are not the VM of this name and these addresses, or nothing."""
    if name is None:
        return ""
    own = {short(name), *(each for each in addresses if each)}
    others = sorted({each for each in hosts if short(each) not in own})
    if not others:
        return ""
    plural = "s" if len(others) > 1 else ""
    named = f"the line names host{plural} {', '.join(others)}, not this VM ({name})"
    return f"{named}: relayed, or the VM calls itself so"


def joined(detail: str, more: str) -> str:
    """Put a note behind a detail."""
    return "; ".join(filter(None, (detail, more)))


def short(name: str) -> str:
    """Return a host's name without its domain, to be compared; an address as it is."""
    return name.lower() if name.replace(".", "").isdigit() else name.partition(".")[0].lower()
