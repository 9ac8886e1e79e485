"""A new runbook to start from: a folder that passes lint, with a schema for editors beside it."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from logmend.errors import ConfigError
from logmend.runbook.decode import KEBAB
from logmend.runbook.definition import MAX_NAME

SCHEMA = "runbook.schema.json"
"""The schema to which the first line of a new ``runbook.yaml`` points an editor."""


def make(name: str, into: Path) -> list[Path]:
    """Write the folder ``into/NAME`` and the schema beside it; return the files.

    Raises ``ConfigError`` if the folder exists, or if no runbook may have that name.
    """
    if not re.fullmatch(KEBAB, name) or len(name) > MAX_NAME:
        raise ConfigError(
            [f"{name!r}: expected lower-case words joined by hyphens, at most {MAX_NAME} characters"]
        )
    folder = into / name
    if folder.exists():
        raise ConfigError([f"{folder} already exists"])
    here = resources.files(__package__)
    written = list(_copy(here / "template", folder, name))
    schema = into / SCHEMA
    schema.write_text((here / SCHEMA).read_text(encoding="utf-8"), encoding="utf-8")
    return [*written, schema]


def _copy(source: Traversable, target: Path, name: str) -> list[Path]:
    target.mkdir(parents=True)
    written: list[Path] = []
    for each in sorted(source.iterdir(), key=lambda found: found.name):
        at = target / each.name
        if each.is_dir():
            written += _copy(each, at, name)
        else:
            at.write_text(each.read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8")
            written.append(at)
    return written
