"""The file that says which runbooks are on, and how each is set. Decoded as strictly as ``runbook.yaml``.

``folders`` hold your own runbooks, besides the built-in ones; ``runbooks`` lists, by name, what differs from
the default. Values are written as in environment variables and parsed by the same code (docs/runbooks.md).
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
    """What the file says about one runbook.

    ``enabled`` is None if the file does not say. ``replaces`` means that your own runbook takes the place of
    the built-in one of this name, and ``allow_irreversible`` that irreversible changes need no approval for
    each VM. ``settings`` holds the fields of :class:`~logmend.settings.Settings` that are set for this
    runbook alone.
    """

    enabled: bool | None = None
    replaces: bool = False
    allow_irreversible: bool = False
    settings: JsonObject = MappingProxyType({})
    parameters: Mapping[str, str] = MappingProxyType({})


class Configuration(Struct, frozen=True):
    """A file's content: ``folders``, relative to the file, and what it says about each runbook, by name."""

    folders: tuple[Path, ...] = ()
    runbooks: Mapping[str, Choice] = MappingProxyType({})


def read(path: Path) -> tuple[Configuration, list[Problem]]:
    """Return a configuration and every problem in it, such as an unknown key."""
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
