"""The runbooks as the operator asks for them: those that are on, with parameters, and settings for each."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from logmend.errors import ConfigError
from logmend.guards import GUARDS
from logmend.model.enums import Mode
from logmend.model.struct import Struct, replace
from logmend.permissions import GRANTABLE
from logmend.runbook import BUILT_IN, Limits, Problem, Runbook, load_each
from logmend.runbook.configuration import Choice, Configuration, read
from logmend.runbook.decode import suggestion
from logmend.runbook.load import below, dangling
from logmend.settings import Budget, ExecutorChoice, Policies, Settings, lower, narrowed
from logmend.stages import decide

ON = frozenset({"workload-cert-refresh", "ops-agent"})
"""Built-in runbooks that are on unless somebody says otherwise. ``ops-agent`` only tells of what its filter
selects: it is run by whoever names it."""


class Catalog(Struct, frozen=True):
    """What is in force.

    ``runbooks`` are those that are on, ``policies`` the settings of each, ``folders`` where each is, also of
    those that are off, ``choices`` what the configuration says of them.
    """

    runbooks: Mapping[str, Runbook]
    policies: Policies
    folders: Mapping[str, Path]
    choices: Mapping[str, Choice]


def load(settings: Settings) -> Mapping[str, Runbook]:
    """Load the runbooks that are on, by name, as :func:`read_all` does."""
    return read_all(settings).runbooks


def read_all(settings: Settings, *, every: bool = False) -> Catalog:
    """Load the runbooks that are on (``every``: all that there are), with the settings of each.

    Raises :class:`ConfigError` with every problem of every file; a guard that does not exist is one, since
    a runbook whose guard vanished would act where it was meant not to, and so is a permission that logmend is
    never granted, since a runbook's file must not widen the function's role.
    """
    configuration, folders, problems = _configured(settings)
    choices = configuration.runbooks
    given = {name: _parameters(name, choices.get(name), settings) for name in folders}
    wanted = {name: at for name, at in folders.items() if every or _on(name, choices.get(name), at)}
    sound, wrong = load_each(wanted, {name: given[name] for name in wanted})
    problems += [
        *wrong,
        *dangling(sound, folders),
        *_unguarded(sound, folders),
        *_greedy(sound, folders),
    ]
    by_runbook = dict[str, Settings]()
    for name, choice in choices.items():
        if name in sound:
            sound[name] = _budgeted(sound[name], choice)
            try:
                by_runbook[name] = narrowed(settings, choice.settings)
            except ValueError as error:
                problems.append(Problem(str(settings.runbooks), None, f"runbooks.{name}: {error}"))
    for name, each in sound.items():
        policy = by_runbook.get(name, settings)
        allowed = name in choices and choices[name].allow_irreversible
        if each.irreversible and not allowed and policy.mode is Mode.ENFORCE:
            policy = by_runbook[name] = replace(policy, mode=Mode.APPROVE)
        if (way := _way(each, policy.executor)) is not policy.executor:
            policy = by_runbook[name] = replace(policy, executor=way)
        if _on(name, choices.get(name), folders[name]):
            problems += _floods(each, policy)
            problems += _misplaced(each, choices.get(name), folders[name], policy)
    if problems:
        raise ConfigError([str(each) for each in problems])
    loaded = {name: among(each, sound) for name, each in sound.items()}
    return Catalog(MappingProxyType(loaded), Policies(settings, by_runbook), folders, choices)


def uses(catalog: Catalog, settings: Settings) -> Mapping[str, tuple[Mode, ExecutorChoice]]:
    """Return mode and executor of each runbook that is on, in a function with these settings."""
    own = {name: catalog.choices.get(name, Choice()).settings for name in catalog.runbooks}
    return {
        name: (
            lower(each.get("mode", settings.mode), settings.mode),
            _way(catalog.runbooks[name], each.get("executor", settings.executor)),
        )
        for name, each in own.items()
    }


def declared(catalog: Catalog) -> frozenset[str]:
    """Return the permissions that the runbooks that are on name as theirs, each in :data:`GRANTABLE`."""
    return frozenset(name for each in catalog.runbooks.values() for name in each.permissions)


def folders(settings: Settings) -> Mapping[str, Path]:
    """Return the folders of all runbooks that there are, on or off, by name; ConfigError as above."""
    _, paths, problems = _configured(settings)
    if problems:
        raise ConfigError([str(each) for each in problems])
    return paths


def parameters(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """Return what the operator says of the runbooks' parameters, by runbook."""
    configuration, paths, _ = _configured(settings)
    return {name: _parameters(name, configuration.runbooks.get(name), settings) for name in paths}


def _configured(settings: Settings) -> tuple[Configuration, Mapping[str, Path], list[Problem]]:
    """Read the configuration, and find the runbooks there are: the built-in ones, and its own beside them."""
    path = settings.runbooks
    if path is None:
        return Configuration(), below(BUILT_IN), []
    if path.is_dir():
        found = below(path)
        problem = Problem(str(path), None, "no runbooks here", "expected */runbook.yaml")
        return Configuration(), found, [] if found else [problem]
    configuration, problems = read(path)
    found, own = dict(below(BUILT_IN)), dict[str, Path]()
    for folder in configuration.folders:
        beside = below(folder)
        if not beside:
            problems.append(Problem(str(folder), None, "no runbooks here", "expected */runbook.yaml"))
        for name, at in beside.items():
            if name in own:
                problems.append(Problem(str(at), None, f"{name} is in {own[name].parent} too"))
            own[name] = at
    for name, choice in configuration.runbooks.items():
        if name not in found and name not in own:
            hint = suggestion(name, {*found, *own})
            problems.append(Problem(str(path), None, f"runbooks.{name}: no such runbook", hint))
        elif choice.replaces and (name not in found or name not in own):
            problems.append(
                Problem(str(path), None, f"runbooks.{name}.replaces: there is no other runbook of that name")
            )
    for name, at in own.items():
        said = configuration.runbooks.get(name)
        if name in found and (said is None or not said.replaces):
            hint = f"say runbooks.{name}.replaces: true to replace it"
            problems.append(Problem(str(at), None, f"{name} is a built-in runbook", hint))
    return configuration, dict(sorted((found | own).items())), problems


def _on(name: str, choice: Choice | None, folder: Path) -> bool:
    if choice is not None and choice.enabled is not None:
        return choice.enabled
    return name in ON or folder.parent != BUILT_IN


def _parameters(name: str, choice: Choice | None, settings: Settings) -> Mapping[str, str]:
    """Return the parameters of a runbook: what the configuration says counts before the environment."""
    general = {"version": settings.ops_agent_version} if name == "ops-agent" else {}
    return general | dict(choice.parameters if choice else {})


def _budgeted(runbook: Runbook, choice: Choice) -> Runbook:
    """Let the budget that an operator set for this very runbook stand for its author's."""
    own: Budget | None = choice.settings.get("disruption_budget")
    return runbook if own is None else replace(runbook, limits=Limits(own.count, own.window))


def _way(runbook: Runbook, executor: ExecutorChoice) -> ExecutorChoice:
    """Return by what a runbook goes: what OS Config cannot carry is never left to ``auto``."""
    return ExecutorChoice.SSH if runbook.ssh_only and executor is ExecutorChoice.AUTO else executor


def _misplaced(runbook: Runbook, choice: Choice | None, folder: Path, policy: Settings) -> list[Problem]:
    """Refuse a runbook that somebody turned on for OS Config, which cannot carry it.

    One that is on by itself does not stop a fleet that has OS Config alone: asked for, it is refused there.
    """
    if policy.executor is not ExecutorChoice.OSCONFIG or not runbook.ssh_only:
        return []
    settings_ = choice.settings if choice else {}
    if "executor" not in settings_ and not (choice and choice.enabled) and folder.parent == BUILT_IN:
        return []
    where = f"runbooks.{runbook.name}.executor" if "executor" in settings_ else "LOGMEND_EXECUTOR=osconfig"
    message = f"{where}: {runbook.name} runs over SSH only: {runbook.ssh_only}"
    hint = f"say runbooks.{runbook.name}.executor: ssh, or enabled: false"
    return [Problem(str(policy.runbooks or folder), None, message, hint)]


def _floods(runbook: Runbook, policy: Settings) -> list[Problem]:
    """Refuse waves that could never move on within a runbook's own budget."""
    misfit = policy.waves and policy.waves.misfit(decide.budget(runbook, policy))
    if not misfit:
        return []
    where = str(policy.runbooks or "LOGMEND_WAVES")
    return [Problem(where, None, f"the waves of {runbook.name} do not fit its budget: {misfit}")]


def _unguarded(runbooks: Mapping[str, Runbook], folders: Mapping[str, Path]) -> list[Problem]:
    return [
        Problem(str(folders[each.name] / "runbook.yaml"), None, f"no guard {name}", suggestion(name, GUARDS))
        for each in runbooks.values()
        for name in each.guards
        if name not in GUARDS
    ]


def _greedy(runbooks: Mapping[str, Runbook], folders: Mapping[str, Path]) -> list[Problem]:
    return [
        Problem(
            str(folders[each.name] / "runbook.yaml"),
            None,
            f"logmend is never granted {name}",
            suggestion(name, GRANTABLE),
        )
        for each in runbooks.values()
        for name in each.permissions
        if name not in GRANTABLE
    ]


def among(runbook: Runbook, on: Mapping[str, Runbook]) -> Runbook:
    """Join a runbook with those that are on: nothing that is off follows it, or goes first."""
    named = {runbook.after, *(each.runbook for each in runbook.causes)} - {runbook.name}
    follows = runbook.follow_up if runbook.follow_up in on else None
    first = frozenset(each for each in named if each is not None and each in on)
    return replace(runbook, follow_up=follows, goes_first=first)
