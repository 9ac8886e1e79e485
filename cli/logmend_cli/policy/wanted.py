"""Which assignments are meant: their runbooks, actions, projects and zones."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from logmend.errors import ConfigError
from logmend.model.enums import PROJECT_PATTERN, ZONE_PATTERN, Action
from logmend.osconfig import assignment
from logmend.runbook import Runbook
from logmend.runbook.decode import suggestion
from logmend.settings import ExecutorChoice, Settings
from logmend_cli.documented import runbook_names
from logmend_cli.errors import warn
from logmend_cli.scanned import complete_projects

if TYPE_CHECKING:
    from logmend.adapters.google.osconfig_policies import AssignmentPlace


F = TypeVar("F", bound=Callable[..., object])


def chosen_options(function: F) -> F:
    """Add the options that choose runbooks and actions."""
    runbook = click.option(
        "--runbook",
        "names",
        shell_complete=runbook_names,
        multiple=True,
        help="Only this runbook; may be repeated.",
    )
    action = click.option(
        "--action",
        "actions",
        type=click.Choice([each.value for each in assignment.ACTIONS]),
        multiple=True,
        help="Only this assignment; may be repeated. Default: those of LOGMEND_MODE.",
    )
    return runbook(action(function))


def place_options(function: F) -> F:
    """Add the options that select projects and zones."""
    project = click.option(
        "--project",
        "projects",
        multiple=True,
        shell_complete=complete_projects,
        help="Project; default LOGMEND_SCOPE_PROJECTS, or your own.",
    )
    zone = click.option("--zone", "zones", multiple=True, help="Zone; default LOGMEND_SCOPE_ZONES.")
    return project(zone(function))


def chosen_assignments(
    settings: Settings, names: Sequence[str], actions: Sequence[str], *, to_go: bool = False
) -> Iterator[tuple[Runbook, Action]]:
    """Yield the chosen runbooks and actions; without a choice, those of the mode.

    A runbook over SSH has no assignments; if it is named, those that it had before are ``to_go``.
    """
    from logmend import catalog

    configured = catalog.read_all(settings)
    loaded = configured.runbooks
    if unknown := [name for name in names if name not in loaded]:
        raise ConfigError([f"no runbook {name!r}; {suggestion(name, loaded)}" for name in unknown])
    any_way = to_go and bool(names)
    over_ssh = {
        name: loaded[name].ssh_only for name in names or loaded if loaded[name].ssh_only and not any_way
    }
    if named := [f"{name} runs over SSH only: {why}" for name, why in over_ssh.items() if name in names]:
        raise ConfigError(named)
    for name, why in over_ssh.items():
        warn(f"skipped: {name} runs over SSH only: {why}")
    for name in [each for each in names or loaded if each not in over_ssh]:
        choice = configured.choices.get(name)
        if not any_way and choice is not None and choice.settings.get("executor") is ExecutorChoice.SSH:
            warn(f"skipped: {name} runs over SSH: LOGMEND_RUNBOOKS says so")
            continue
        runbook, asked = loaded[name], set(map(Action, actions))
        by_mode = assignment.of_mode(runbook, configured.policies.of(name).mode)
        for action in (each for each in assignment.actions(runbook) if each in (asked or by_mode)):
            yield runbook, action


def wanted_documents(
    settings: Settings,
    names: Sequence[str],
    actions: Sequence[str],
    projects: Sequence[str],
    zones: Sequence[str],
    *,
    to_go: bool = False,
) -> Iterator[tuple["AssignmentPlace", dict[str, object]]]:
    """Yield each place with its document."""
    from logmend.adapters.google.osconfig_policies import AssignmentPlace

    own = (settings.project,) if settings.project else ()
    in_projects, in_zones = projects or settings.scope_projects or own, zones or settings.scope_zones
    problems = [] if in_projects else ["no project: name one with --project (or LOGMEND_SCOPE_PROJECTS)"]
    problems += [] if in_zones else ["no zone: name one with --zone (or LOGMEND_SCOPE_ZONES)"]
    problems += [
        f"{each!r} is not a project id" for each in in_projects if not PROJECT_PATTERN.fullmatch(each)
    ]
    problems += [f"{each!r} is not a zone" for each in in_zones if not ZONE_PATTERN.fullmatch(each)]
    if problems:
        raise ConfigError(problems)
    for runbook, action in chosen_assignments(settings, names, actions, to_go=to_go):
        document = assignment.assignment(runbook, action, settings.exempt_label)
        for project in in_projects:
            for zone in in_zones:
                yield AssignmentPlace(project, zone, assignment.assignment_id(runbook.name, action)), document
