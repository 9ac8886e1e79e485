"""Create, update or delete assignments: begin every change, then wait for all rollouts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from logmend.errors import Permanent, Transient
from logmend.settings import Settings
from logmend_cli.errors import BAD, DONE
from logmend_cli.output import progress, show_rows

if TYPE_CHECKING:
    from logmend.adapters.google.osconfig_policies import Applied, AssignmentPlace, Assignments


def carry_out(
    settings: Settings,
    places: Sequence["AssignmentPlace"],
    work: Callable[["Assignments", int], "Applied"],
    *,
    timeout: float | None,
    shape: str,
) -> int:
    """Begin every change, then wait for all; a failure does not stop the others."""
    api, rows, begun = opened(settings), [row(place) for place in places], dict[int, "Applied"]()
    with progress("changes", len(places)) as done:
        for number in range(len(places)):
            try:
                begun[number] = work(api, number)
                rows[number]["change"] = begun[number].change
            except (Transient, Permanent) as error:
                rows[number] |= {"change": "failed", "reason": error.reason, "detail": error.detail}
            done(1)
    with progress("rollouts", len(begun)) as done:
        for number, applied in begun.items() if timeout is not None else ():
            try:
                api.wait(applied, timeout or 0.0)
            except (Transient, Permanent) as error:
                rows[number] |= {"change": "failed", "reason": error.reason, "detail": error.detail}
            done(1)
    api.close()
    columns = {"project_id": "project", "zone": "zone", "assignment": "assignment", "change": "change"}
    failed = any(row["change"] == "failed" for row in rows)
    show_rows(shape, columns | ({"reason": "reason", "detail": "detail"} if failed else {}), rows)
    return BAD if failed else DONE


def opened(settings: Settings) -> "Assignments":
    """Return a client of the OS Config API."""
    from logmend.adapters.google.osconfig_policies import Assignments

    return Assignments(settings.osconfig_endpoint)


def row(place: "AssignmentPlace") -> dict[str, object]:
    """Return an assignment's place, as the tables and JSON show it."""
    return {"project_id": place.project_id, "zone": place.zone, "assignment": place.assignment_id}
