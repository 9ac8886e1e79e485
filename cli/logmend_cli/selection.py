"""What commands work on: VMs by name, filter or scan, and waiting items by id."""

import asyncio
import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from logmend.errors import ConfigError, in_words
from logmend.model.values import InstanceRef
from logmend_cli import application, scanned
from logmend_cli.documented import Decorator, together

if TYPE_CHECKING:
    from logmend.wiring import Application

T = TypeVar("T")

SHOWN = 5
"""Most ids that are named if a prefix is ambiguous."""


of_vms = together(
    click.argument("named", metavar="INSTANCE...", nargs=-1, shell_complete=scanned.complete_vms),
    click.option(
        "--project", shell_complete=scanned.complete_projects, help="Project whose VMs --filter selects."
    ),
    click.option("--filter", "where", help='Filter of the Compute API, e.g. "labels.env = prod".'),
    click.option(
        "--from",
        "scan",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="JSON that `logmend scan --format json` printed: the VMs that have the fault.",
    ),
)
"""The arguments and options that select VMs."""

ids_option = click.option(
    "--from",
    "listed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an id at the beginning of each line, or what `approvals list` prints as JSON or CSV.",
)
"""The option for the file that :func:`ids` reads."""


def instances_option(help_: str) -> Decorator:
    """Return the option that names VMs, ``--instance``; the argument is ``named``."""
    return click.option(
        "--instance",
        "named",
        multiple=True,
        metavar="INSTANCE",
        shell_complete=scanned.complete_vms,
        help=help_,
    )


async def vms(
    app: "Application", named: Sequence[str], project: str | None, where: str | None, scan: Path | None
) -> list[InstanceRef]:
    """Collect the selected VMs, each once."""
    refs = await application.instances(app, named)
    if where is not None:
        if project is None:
            raise ConfigError(["--filter needs --project"])
        listing = await app.compute.instances(project, where=where)
        if listing.unreachable:
            raise ConfigError([f"could not list zones {', '.join(listing.unreachable)}; name the VMs"])
        refs += [each.ref for each in listing.instances]
    if scan is not None:
        refs += await application.instances(app, await asyncio.to_thread(_scanned, scan))
    return list(dict.fromkeys(refs))


def ids(path: Path, key: str) -> list[str]:
    """Read ids from a file: the first word of each line, or ``key`` of each row of JSON or CSV that has one.

    CSV is recognised by its headings. Lines that begin with # are comments. Raises ConfigError if the file is
    unusable or has no id: an empty file must never mean everything.
    """
    if not (found := _ids(path, key)):
        raise ConfigError([f"{path}: it contains no id"])
    return found


def _ids(path: Path, key: str) -> list[str]:
    text = _text(path)
    if text.lstrip().startswith("["):
        try:
            return [str(row[key]) for row in json.loads(text) if row[key]]
        except (ValueError, KeyError, TypeError) as error:
            why = in_words(error)
            raise ConfigError([f"{path}: not rows of JSON that each have {key} ({why})"]) from error
    lines = text.splitlines()
    if lines and key in lines[0].split(","):
        return [row[key] for row in csv.DictReader(lines) if row[key]]
    words = (line.replace(",", " ").split() for line in lines)
    return [found[0] for found in words if found and not found[0].startswith("#")]


def by_beginning(
    known: Iterable[T], names: Iterable[str], id_of: Callable[[T], str]
) -> tuple[list[T], list[str]]:
    """Return the items that ids or prefixes of ids name, each once; and the names that match nothing.

    Raises ConfigError if one is ambiguous.
    """
    there = {id_of(each): each for each in known}
    found: dict[str, T] = {}
    absent: list[str] = []
    for name in names:
        same = [name] if name in there else [each for each in there if each.startswith(name)]
        if not same:
            absent.append(name)
            continue
        if len(same) > 1:
            more = ", …" if len(same) > SHOWN else ""
            raise ConfigError([f"{name!r} means {len(same)}: {', '.join(same[:SHOWN])}{more}"])
        found[same[0]] = there[same[0]]
    return list(found.values()), absent


def _scanned(path: Path) -> list[str]:
    try:
        rows = json.loads(_text(path))["instances"]
        return [
            "{project_id}/{zone}/{instance_id}".format(**row["instance"])
            for row in rows
            if row["result"] == "planned"
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            [f"{path}: not the output of `logmend scan --format json` ({in_words(error)})"]
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: cannot be read: it is not UTF-8"]) from error
