"""The runbooks as the settings ask for them: loaded, given parameters, checked against the guards."""

from collections.abc import Mapping

from logmend.errors import ConfigError
from logmend.guards import GUARDS
from logmend.runbook import BUILT_IN, Runbook, load_all
from logmend.runbook.decode import suggestion
from logmend.settings import Settings


def load(settings: Settings) -> Mapping[str, Runbook]:
    """Load every runbook of ``LOGMEND_RUNBOOKS`` (the built-in ones by default), by name.

    Raises :class:`ConfigError` with every problem of every file; a guard that does not exist is one, since
    a runbook whose guard vanished would act where it was meant not to.
    """
    folder = settings.runbooks or BUILT_IN
    found = load_all(folder, parameters(settings))
    if problems := [
        f"{folder / each.name / 'runbook.yaml'}: no guard {name}; {suggestion(name, GUARDS)}"
        for each in found.values()
        for name in each.guards
        if name not in GUARDS
    ]:
        raise ConfigError(problems)
    return found


def parameters(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """Give what the settings say of the runbooks' parameters, by runbook, for those that are there."""
    folder = settings.runbooks or BUILT_IN
    values = {"ops-agent": {"version": settings.ops_agent_version}}
    return {name: value for name, value in values.items() if (folder / name / "runbook.yaml").is_file()}
