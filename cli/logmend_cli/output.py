"""How commands print: tables for people, JSON and CSV for programs. rich is imported for a table only."""

import itertools
import json
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TextIO, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., object])

_FORMULA = frozenset("=+-@\u2212")

_COLOURS = {
    "planned": "yellow",
    "skipped": "blue",
    "refused": "magenta",
    "parked": "blue",
    "requested": "cyan",
    "remediated": "green",
    "reverted": "green",
    "controlled": "cyan",
    "nothing_to_do": "green",
    "unverified": "yellow",
    "deferred": "yellow",
    "interrupted": "yellow",
    "rejected": "red",
    "unmatched": "bright_black",
    "failed": "red",
    "pass": "green",
    "fail": "red",
    "pending": "yellow",
    "error": "red",
    "warning": "yellow",
}


def format_option(*choices: str) -> Callable[[F], F]:
    """Return the option ``--format``; the first of ``choices`` is the default, the argument is ``shape``."""
    return click.option(
        "--format",
        "shape",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How to print.",
    )


def coloured(word: str) -> str:
    """Return a result or a verdict with its colour, which only a terminal gets."""
    return click.style(word, fg=_COLOURS.get(word))


def colour(word: str) -> str:
    """Return rich's name for the colour of a result or a verdict; empty for any other word."""
    return _COLOURS.get(word, "")


def show_json(value: object) -> None:
    """Print JSON in ASCII, indented."""
    click.echo(msgspec.json.format(json.dumps(value), indent=2))  # json indents in Python, which is slow


def show_json_array(values: Iterable[object]) -> None:
    """Print an array element by element as they come, in constant memory."""
    separator = "[\n"
    for value in values:
        click.echo(separator + json.dumps(value), nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def show_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print CSV as :func:`write_csv` writes it."""
    write_csv(sys.stdout, columns, rows)


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write CSV with a header; None is empty.

    A cell that a spreadsheet would run as a formula is quoted, and there are no control characters.
    """
    import csv

    writer, following = csv.writer(file, lineterminator="\n"), iter(rows)
    first = list(itertools.islice(following, 1))  # an error in reading comes before anything is written
    writer.writerow(columns)
    for row in itertools.chain(first, following):
        writer.writerow(["" if cell is None else _inert(printable(str(cell))) for cell in row])


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, empty: str = ""
) -> None:
    """Print a table; results and verdicts are coloured, None is blank, and markup is not interpreted.

    If the output is not a terminal, lines are as long as they need to be and nothing is cut off. On a
    terminal too narrow for whole words, such as ids, each row is printed as lines. ``empty`` is printed in
    place of a table without rows.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if not cells:
        click.echo(empty or "nothing to show")
        return
    wide = console()
    if sys.stdout.isatty() and _narrowest(columns, cells) > wide.width:
        _show_lines(columns, cells, title, wide.width)
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*[Text(cell, style=_COLOURS.get(cell, "")) for cell in row])
    wide.print(table)


def console() -> "Console":
    """Return a rich console on standard output that leaves a closed pipe to its caller."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704  the BrokenPipeError that rich is handling

    return Plain(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 10_000)


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the smallest width of a table in which no word is broken."""
    longest = [
        max(len(word) for text in column for word in text.split() or [""])
        for column in zip(columns, *rows, strict=True)
    ]
    return sum(longest) + 3 * len(columns)


def _show_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None, width: int) -> None:
    lines = textwrap.TextWrapper(width, "  ", "    ", break_long_words=False, break_on_hyphens=False)
    if title:
        click.secho(title, bold=True)
    for row in rows:
        text = "; ".join(f"{name} {cell}" for name, cell in zip(columns, row, strict=True) if cell)
        click.echo(lines.fill(text))
    click.echo()


def show_rows(
    shape: str,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, object]],
    *,
    title: str | None = None,
    empty: str = "",
) -> None:
    """Print rows in the format ``shape``: ``json`` (unchanged), ``csv`` or ``table``.

    ``columns`` has the keys that the table and CSV show, each with its heading.
    """
    if shape == "json":
        show_json(list(rows))
    elif shape == "csv":
        show_csv(tuple(columns), ([row.get(key) for key in columns] for row in rows))
    else:
        cells = ([_cell(row.get(key)) for key in columns] for row in rows)
        show_table(tuple(columns.values()), cells, title=title, empty=empty)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error during a task, if that is a terminal.

    Yields a function that takes how much more is done. ``total`` None shows a count without an end.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)


def word(result: str, reason: str | None) -> str:
    """Return ``result`` or ``result: reason``."""
    return f"{result}: {reason}" if reason else result


def seconds(at: datetime | None) -> str | None:
    """Return a time as commands print it, in UTC and to the second."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else None


def duration_text(milliseconds: int | None) -> str | None:
    """Return milliseconds for a person: `430 ms`, `1.25 s`, `3.5 min`."""
    if milliseconds is None:
        return None
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {unit}"
    return f"{milliseconds} ms"


def shortened(text: str, width: int) -> str:
    """Fit text into ``width`` characters on one line, leaving out its middle if it is longer."""
    text = printable(" ".join(text.split()))
    if len(text) <= width:
        return text
    head = (width - 3) * 2 // 3
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def printable(text: str) -> str:
    """Replace every character that could control a terminal."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


def _cell(value: object) -> object:
    return ", ".join(str(each) for each in value) if isinstance(value, list | tuple) else value


def _inert(cell: str) -> str:
    """Keep a cell with text from a log from being a formula (owasp.org/www-community/attacks/CSV_Injection).

    This includes formulas after blanks, and the full-width forms that a spreadsheet takes for the same
    characters.
    """
    return f"'{cell}" if unicodedata.normalize("NFKC", cell).lstrip()[:1] in _FORMULA else cell
