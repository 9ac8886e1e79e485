"""The VMs of the last scan, kept so that a shell can complete them and their projects.

``$XDG_STATE_HOME/logmend/scanned`` has one VM a line: ``PROJECT/ZONE/ID``, and its name if that is known.
A shell must see only plain names: ids are checked as they are read, names before they are kept.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import click

from logmend.model.values import InstanceRef
from logmend.stages.identify import NAME_PATTERN
from logmend_cli import profiles

KEPT = 5000
"""Most VMs that are kept; more would be useless for completion."""


def keep(vms: Iterable[tuple[InstanceRef, str | None]]) -> None:
    """Keep the VMs of a scan in place of the last scan's, unless there are none or no file can be written."""
    lines = [
        f"{ref} {name if name and NAME_PATTERN.fullmatch(name) else ''}".rstrip()
        for ref, name in islice(vms, KEPT)
    ]
    if lines:
        with suppress(OSError):  # a scan does not fail because of completion
            profiles.write(_path(), "\n".join(lines).encode() + b"\n")


def complete_vms(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete a VM by its name, or by its id if only that begins with the text."""
    found = list[str]()
    for ref, name in _kept():
        spelt = (f"{ref.rpartition('/')[0]}/{name}", ref) if name else (ref,)
        found += [each for each in spelt if each.startswith(incomplete)][:1]
    return list(dict.fromkeys(found))


def complete_projects(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete a project of these VMs."""
    projects = dict.fromkeys(ref.partition("/")[0] for ref, _ in _kept())
    return [each for each in projects if each.startswith(incomplete)]


def _kept() -> Iterator[tuple[str, str]]:
    with suppress(OSError, UnicodeDecodeError):
        for line in _path().read_text(encoding="ascii").splitlines():
            ref, _, name = line.partition(" ")
            yield ref, name


def _path() -> Path:
    return profiles.state() / "scanned"
