"""Lines that a VM shipped for another host, as far as names can tell. Pure.

A central syslog server ships the lines of every host under its own instance id. A host in the line that is
not the VM's name is a sign of that, or of a VM whose operating system has a host name of its own: it is told,
and decides nothing. What is looked at is the VM that shipped the line; the check there sees its own timer.
"""

from collections.abc import Iterable

from logmend.model.values import InstanceFacts, Intent, LogEntry

_AGENTS_HOST = ("compute.googleapis.com/resource_name", "compute_googleapis_com_resource_name")
"""Label by which agents name the host that they run on (the second as BigQuery spells it)."""


def shipped_by(entry: LogEntry) -> str | None:
    """Return the host name of the agent that shipped an entry; None where it says none, or ``localhost``."""
    labels = entry.raw.get("labels")
    if not isinstance(labels, dict):
        return None
    said = next((each for key in _AGENTS_HOST if isinstance(each := labels.get(key), str) and each), None)
    return None if said is None or short(said) == "localhost" else said


def host(entry: LogEntry) -> str | None:
    """Return the host that the line names, unless it is the agent's own."""
    by = shipped_by(entry)
    return None if entry.host is None or (by is not None and short(entry.host) == short(by)) else entry.host


def of_intent(intent: Intent, facts: InstanceFacts | None, name: str | None = None) -> str:
    """Say of which host the line of an intent is, if that is not its VM's name; empty if nothing tells."""
    if intent.line_host is None:
        return ""
    if facts is not None:
        return note([intent.line_host], facts.name, (facts.internal_ip, facts.external_ip))
    return note([intent.line_host], name or intent.shipped_by)


def note(hosts: Iterable[str], name: str | None, addresses: Iterable[str | None] = ()) -> str:
    """Say which of the hosts are not the VM of that name and these addresses; empty if none, or no name."""
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
    """Give a host's name without its domain, to be compared; an address as it is."""
    return name.lower() if name.replace(".", "").isdigit() else name.partition(".")[0].lower()
