"""The file that says which runbooks are on, and each how. Decoded as strictly as ``runbook.yaml``.

``folders`` hold runbooks of one's own, beside the built-in ones; ``runbooks`` says by name what is other than
the default. The values are those of the environment's settings, by the same parsers (docs/runbooks.md).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.runbook.decode import Reader
from logmend.runbook.types import Problem
from logmend.settings import parsed

FIELDS = ("mode", "executor", "disruption_budget", "disruption_limits", "waves")
COOLDOWNS = ("planned", "refused", "nothing_to_do", "remediated", "failed", "failed_max")
SCOPE = ("projects", "zones", "labels")
TIMES = ("windows", "blackouts")


class Choice(Struct, frozen=True):
    """What is said of one runbook.

    ``enabled`` is None if it is not said. ``replaces`` says that an own runbook stands for the built-in one
    of this name, ``allow_irreversible`` that what nothing can put back needs no approval for each VM.
    ``settings`` holds fields of :class:`~logmend.settings.Settings` that are set for it alone.
    """

    enabled: bool | None = None
    replaces: bool = False
    allow_irreversible: bool = False
    settings: JsonObject = MappingProxyType({})
    parameters: Mapping[str, str] = MappingProxyType({})


class Configuration(Struct, frozen=True):
    """A file's content: ``folders`` from where the file is, and what is said of runbooks, by name."""

    folders: tuple[Path, ...] = ()
    runbooks: Mapping[str, Choice] = MappingProxyType({})


def read(path: Path) -> tuple[Configuration, list[Problem]]:
    """Read a configuration, with every problem in it. An unknown key is one."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        return Configuration(), [Problem(str(path), None, f"cannot be read: {why}")]
    from logmend.runbook.parse import document  # noqa: PLC0415  most cold starts need no YAML

    top = document(str(path), text)
    folders = [path.parent / each for each in top.strings("folders", "folder", r"[^\0]+")]
    named = top.mapping("runbooks")
    choices = {str(name): _choice(named.mapping(str(name))) for name in named.values}
    top.done()
    return Configuration(tuple(folders), choices), top.problems


def _choice(each: Reader) -> Choice:
    enabled = each.take("enabled", bool, "true or false")
    replaces = each.take("replaces", bool, "true or false")
    irreversible = each.take("allow_irreversible", bool, "true or false")
    values: dict[str, object] = {}
    for name in FIELDS:
        _take(each, name, name, values)
    for name in TIMES:
        if listed := each.strings(name, "window", r"[^;]+"):
            _parse(each, name, name, ";".join(listed), values)
    cooldowns = each.mapping("cooldowns")
    for name in COOLDOWNS:
        _take(cooldowns, name, f"cooldown_{name}", values)
    cooldowns.done()
    scope = each.mapping("scope")
    for name in SCOPE:
        if listed := scope.strings(name, "text", r"[^,]+"):
            _parse(scope, name, f"scope_{name}", ",".join(listed), values)
    scope.done()
    parameters = each.mapping("parameters")
    given = {
        str(name): text
        for name in parameters.values
        if (text := parameters.text(str(name), "text, in quotes if it is a number")) is not None
    }
    each.done()
    return Choice(enabled, bool(replaces), bool(irreversible), values, given)


def _take(each: Reader, key: str, setting: str, values: dict[str, object]) -> None:
    text = each.text(key)
    if text is not None:
        _parse(each, key, setting, text, values)


def _parse(each: Reader, key: str, setting: str, text: str, values: dict[str, object]) -> None:
    try:
        values[setting] = parsed(setting, text)
    except ValueError as error:
        each.wrong(key, f"{'.'.join(str(part) for part in (*each.path, key))}: {error}")
