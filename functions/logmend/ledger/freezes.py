"""Freezes as they stack: what is left of a stack when one is put over it or taken out. Pure."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from logmend.model.state import Fleet, Freeze, Scope, Subject
from logmend.model.struct import replace

T = TypeVar("T")

Gone = Callable[[Freeze], bool]
"""Which freezes are to be lifted."""

STACKED = 10
"""Freezes that are kept one over the other, since stores nest 20 deep at most; then the latest replaces."""


def over(known: Freeze | None, freeze: Freeze) -> Freeze:
    """Put a freeze over those that are there."""
    full = known is not None and len(known.stack) >= STACKED
    return replace(freeze, over=known.over if known and full else known)


def under(known: Freeze | None) -> Freeze | None:
    """Return what is left when the latest freeze is lifted."""
    return known.over if known else None


def lifted(frozen: Mapping[str, Freeze], runbook: str) -> dict[str, Freeze]:
    """Lift a runbook's latest freeze."""
    left = under(frozen.get(runbook))
    return without(frozen, runbook) | ({runbook: left} if left else {})


def without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    """Leave one name out."""
    return {key: value for key, value in mapping.items() if key != name}


def found(known: Freeze | None, gone: Gone) -> list[Freeze]:
    """Return the chosen freezes of a stack."""
    return [each for each in (known.stack if known else ()) if gone(each)]


def left(known: Freeze | None, gone: Gone) -> Freeze | None:
    """Return a stack without the chosen freezes."""
    kept: Freeze | None = None
    for each in reversed(known.stack if known else ()):
        if not gone(each):
            kept = replace(each, over=kept)
    return kept


def of_fleet(fleet: Fleet, gone: Gone) -> tuple[Fleet, list[tuple[Scope, Freeze]]]:
    """Lift freezes of everything and of runbooks; say which there were."""
    runbooks = {name: left(frozen, gone) for name, frozen in fleet.frozen_runbooks.items()}
    met = [(Scope(), each) for each in found(fleet.frozen, gone)]
    met += [
        (Scope(name), each) for name, frozen in fleet.frozen_runbooks.items() for each in found(frozen, gone)
    ]
    kept = {name: frozen for name, frozen in runbooks.items() if frozen}
    return replace(fleet, frozen=left(fleet.frozen, gone), frozen_runbooks=kept), met


def of_subject(subject: Subject, gone: Gone) -> tuple[Subject, list[tuple[Scope, Freeze]]]:
    """Lift freezes of a VM; say which there were."""
    scope = Scope(subject.runbook, subject.instance)
    met = [(scope, each) for each in found(subject.frozen, gone)]
    return (replace(subject, frozen=left(subject.frozen, gone)) if met else subject), met
