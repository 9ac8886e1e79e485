"""The freeze stack: what it looks like after a freeze is added or lifted. Pure."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from logmend.model.state import Fleet, Freeze, Scope, Subject
from logmend.model.struct import replace

T = TypeVar("T")

Gone = Callable[[Freeze], bool]
"""Chooses the freezes that are to be lifted."""

STACKED = 10
"""How many freezes a stack keeps, since stores nest at most 20 deep; then a new one replaces the latest."""


def over(known: Freeze | None, freeze: Freeze) -> Freeze:
    """Put a freeze on top of the stack."""
    full = known is not None and len(known.stack) >= STACKED
    return replace(freeze, over=known.over if known and full else known)


def under(known: Freeze | None) -> Freeze | None:
    """Return what is left after the latest freeze is lifted."""
    return known.over if known else None


def lifted(frozen: Mapping[str, Freeze], runbook: str) -> dict[str, Freeze]:
    """Lift a runbook's latest freeze."""
    left = under(frozen.get(runbook))
    return without(frozen, runbook) | ({runbook: left} if left else {})


def without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    """Return the mapping without one name."""
    return {key: value for key, value in mapping.items() if key != name}


def found(known: Freeze | None, gone: Gone) -> list[Freeze]:
    """Return the chosen freezes of a stack."""
    return [each for each in (known.stack if known else ()) if gone(each)]


def left(known: Freeze | None, gone: Gone) -> Freeze | None:
    """Return the stack without the chosen freezes."""
    kept: Freeze | None = None
    for each in reversed(known.stack if known else ()):
        if not gone(each):
            kept = replace(each, over=kept)
    return kept


def of_fleet(fleet: Fleet, gone: Gone) -> tuple[Fleet, list[tuple[Scope, Freeze]]]:
    """Lift the chosen freezes of everything and of runbooks; return what is left and what was lifted."""
    runbooks = {name: left(frozen, gone) for name, frozen in fleet.frozen_runbooks.items()}
    met = [(Scope(), each) for each in found(fleet.frozen, gone)]
    met += [
        (Scope(name), each) for name, frozen in fleet.frozen_runbooks.items() for each in found(frozen, gone)
    ]
    kept = {name: frozen for name, frozen in runbooks.items() if frozen}
    return replace(fleet, frozen=left(fleet.frozen, gone), frozen_runbooks=kept), met


def of_subject(subject: Subject, gone: Gone) -> tuple[Subject, list[tuple[Scope, Freeze]]]:
    """Lift the chosen freezes of a VM; return what is left and what was lifted."""
    scope = Scope(subject.runbook, subject.instance)
    met = [(scope, each) for each in found(subject.frozen, gone)]
    return (replace(subject, frozen=left(subject.frozen, gone)) if met else subject), met
