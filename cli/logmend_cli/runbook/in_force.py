"""The values in force for a runbook, and where each comes from."""

from collections.abc import Container, Iterator

from logmend import catalog
from logmend.model.enums import Mode
from logmend.model.struct import Struct
from logmend.runbook import Runbook
from logmend.runbook.configuration import COOLDOWNS, FIELDS, SCOPE, TIMES, Choice
from logmend.settings import PREFIX, ExecutorChoice, lower, written
from logmend.stages import decide
from logmend.windows import Hours, Window

DEFAULT = "default"
_NONE = frozenset({"blackouts", "disruption_limits"})
"""Settings that limit nothing if they are empty (printed as "none")."""


class Effective(Struct, frozen=True):
    """One value. ``origin`` is default, runbook.yaml, configuration, or the variable that sets it."""

    name: str
    value: str
    origin: str


def values(found: catalog.Catalog, runbook: Runbook, environment: Container[str]) -> Iterator[Effective]:
    """Yield every value that can be set for a runbook, as it applies.

    ``environment`` has the names of the variables that are set.
    """
    choice = found.choices.get(runbook.name, Choice())
    yield _enabled(found, runbook, choice)
    settings, general = found.policies.of(runbook.name), found.policies.general
    asked: Mode = choice.settings.get("mode", general.mode)
    names = {each: each for each in FIELDS}
    names |= {f"cooldowns.{each}": f"cooldown_{each}" for each in COOLDOWNS}
    names |= {f"scope.{each}": f"scope_{each}" for each in SCOPE} | {each: each for each in TIMES}
    for name, field in names.items():
        value, origin = getattr(settings, field), _origin(field, environment)
        if field in choice.settings:
            origin = "configuration"
            if field in TIMES and getattr(general, field):
                origin = f"{_origin(field, environment)} and configuration"
        if field == "disruption_budget":
            value = decide.budget(runbook, settings)
            if field not in choice.settings and value != settings.disruption_budget:
                origin = "runbook.yaml"
        if field == "mode" and runbook.irreversible and value is not lower(general.mode, asked):
            origin = "runbook.yaml: irreversible"
        elif field == "mode" and asked is not lower(general.mode, asked):
            origin = f"{PREFIX}MODE, the ceiling; configuration says {asked}"
        if field == "mode" and value is Mode.APPROVE and runbook.irreversible:
            origin += "; irreversible, and allow_irreversible is not set" * (not choice.allow_irreversible)
        way: ExecutorChoice = choice.settings.get("executor", general.executor)
        if field == "executor" and runbook.ssh_only and way is not ExecutorChoice.SSH:
            origin += f" says {way}; it runs over SSH only: {runbook.ssh_only}"
        yield Effective(name, "none" if field in _NONE and not value else _said(value), origin)
    for name, text in runbook.parameters.items():
        yield Effective(f"parameters.{name}", text, _of_parameter(runbook, name, choice, environment))


def _enabled(found: catalog.Catalog, runbook: Runbook, choice: Choice) -> Effective:
    on = "true" if runbook.name in found.runbooks else "false"
    return Effective("enabled", on, DEFAULT if choice.enabled is None else "configuration")


def _origin(field: str, environment: Container[str]) -> str:
    variable = PREFIX + field.upper()
    return variable if variable in environment else DEFAULT


def _of_parameter(runbook: Runbook, name: str, choice: Choice, environment: Container[str]) -> str:
    if name in choice.parameters:
        return "configuration"
    origin = _origin("ops_agent_version", environment)
    return (
        origin if (runbook.name, name) == ("ops-agent", "version") and origin != DEFAULT else "runbook.yaml"
    )


def _said(value: object) -> str:
    if isinstance(value, tuple):
        between = "; " if value and isinstance(value[0], Hours | Window) else ","
        return between.join(each if isinstance(each, str) else written(each) for each in value) or "any"
    return written(value)
