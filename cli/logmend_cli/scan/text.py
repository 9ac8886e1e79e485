"""A scan for a person: two lines for each VM on a terminal, else one, which a program may read."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from logmend_cli import output
from logmend_cli.scan import document

EMPTY = "no VM has the fault"
ALIKE = 5
"""Most groups of similar VMs in the text; JSON has all."""


def empty(totals: Mapping[str, Any]) -> str:
    """Return what it means that no VM was found: nothing, if there are the words in unknown forms."""
    if totals["unknown_form"]["entries"]:
        return "no filter selects any entry; it is unknown whether a VM has the fault"
    if totals["quoted_by"]:
        return "no filter selects any entry; other programs quote the line"
    return EMPTY


def show(rows: Sequence[Mapping[str, Any]], *, empty: str = EMPTY) -> None:
    """Print the rows of :func:`scan_document.row`, or ``empty``."""
    several = len({row["project_id"] for row in rows}) > 1
    if rows and sys.stdout.isatty():
        _two_lines(rows, several=several)
        return
    columns = {"vm": "VM"} | ({"project_id": "project"} if several else {}) | {"zone": "zone"}
    columns |= {"owner": "owner"} if any(row["owner"] for row in rows) else {}
    columns |= {f"label:{key}": key for key in (rows[0]["labels"] if rows else ())}
    columns |= {"count": "lines", "first_seen": "first seen", "last_seen": "last seen"}
    columns |= {"runbook": "runbook"} if _runbooks(rows) > 1 else {}
    columns |= {"log_paths": "logged through", "variants": "agent form", "result": "would be", "why": "why"}
    output.show_rows("table", columns, rows, empty=empty)


def _runbooks(rows: Sequence[Mapping[str, Any]]) -> int:
    return len({row["runbook"] for row in rows})


def summary(totals: Mapping[str, Any]) -> Iterator[str]:
    """Yield the totals, and what to do next."""
    for count, name, means in document.meaning(totals["results"]):
        yield f"{count:>6} {name}  {means}".rstrip()
    yield ""
    yield (
        f"{totals['entries']} log entries: {totals['matched']} match a runbook's filter"
        f" ({totals['instances']} VMs), {totals['unmatched']} do not"
    )
    for name, count in totals["turned_away"].items():
        yield f"{count} turned away ({name})"
    for name, count in totals["ill_formed"].items():
        yield f"{count} could not be read ({name})"
    if totals["owners"]:
        yield _by("owner", totals["owners"])
    yield from (_by(key, counts) for key, counts in totals["labels"].items())
    yield from spoken(totals)
    yield from alike(totals["alike"])
    if any(name.startswith("planned") for name in totals["results"]):
        yield "Next, only check those VMs (from outside their network with LOGMEND_SSH_ROUTE=iap):"
        yield "  logmend scan … --format json > scan.json; logmend run --from scan.json"


def _by(what: str, counts: Mapping[str, int]) -> str:
    return f"By {what}: {', '.join(f'{name} {count}' for name, count in counts.items()) or 'none'}"


def alike(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield which VMs come from the same template or image, where one fix serves them all."""
    for each in [each for each in rows if each["group"] or each["instances"] > 1][:ALIKE]:
        if each["next_step"]:
            many = "1 VM" if each["instances"] == 1 else f"{each['instances']} VMs"
            yield f"{many} alike ({each['cause']}): {output.printable(each['next_step'])}"


def spoken(totals: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text about entries that have a runbook's words and match no filter."""
    unknown = totals["unknown_form"]
    for program, count in totals["quoted_by"].items():
        yield f"{count} quote the line: written by {output.printable(program)}, not by the program itself"
    if not (first := unknown["first"]):
        return
    yield (
        f"{unknown['entries']} entries of {unknown['resources']} resources speak of this in a form that no"
        " filter knows. The first:"
    )
    place = f"{first['where']}: " if first["where"] else ""
    yield f"  {output.printable(place + first['log_path'])}: {first['text']}"
    yield f"  {first['why']}"
    yield f"  {first['explain']}"


def _two_lines(rows: Sequence[Mapping[str, Any]], *, several: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    # A narrow terminal loses these columns first: the answer is what would be done, and why.
    with_times, with_forms = console.width >= 80, console.width >= 105
    named = _runbooks(rows) > 1
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("VM\nzone", overflow="fold", min_width=20)
    table.add_column("lines", justify="right")
    if with_times:
        table.add_column("first seen\nlast seen", no_wrap=True)
    if with_forms:
        table.add_column("logged through\nagent form", overflow="fold")
    table.add_column("would be\nwhy", overflow="fold", min_width=24)
    for row in rows:
        place = f"{row['project_id']} {row['zone']}" if several else row["zone"]
        place += "".join(f" {key}={value}" for key, value in row["labels"].items() if value is not None)
        would = Text(row["result"], style=output.colour(row["result"]))
        cells = [_pair(row["vm"], place), str(row["count"])]
        if with_times:
            cells.append(_pair(row["first_seen"] or "", row["last_seen"] or ""))
        if with_forms:
            paths = ", ".join(row["log_paths"]).replace("jsonPayload.", "")
            whose = f"{row['runbook']}: " if named else ""
            cells.append(_pair(paths, whose + ", ".join(row["variants"])))
        table.add_row(*cells, would.append(f"\n{output.printable(row['why'])}", style="dim"))
    console.print(table)


def _pair(first: str, second: str) -> Any:
    from rich.text import Text

    return Text(output.printable(first)).append(f"\n{output.printable(second)}", style="dim")
