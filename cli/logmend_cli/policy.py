"""``logmend policy``: the OS policy assignments of the osconfig executor."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.enums import PROJECT_PATTERN, ZONE_PATTERN, Action
from logmend.osconfig import assignment
from logmend.runbook import Runbook
from logmend.settings import ExecutorChoice, Settings
from logmend_cli import inputs
from logmend_cli.documented import runbook_names
from logmend_cli.errors import BAD, DONE, confirm, warn
from logmend_cli.output import format_option, progress, show_rows
from logmend_cli.scanned import complete_projects

if TYPE_CHECKING:
    from logmend.adapters.google.osconfig_policies import Applied, AssignmentPlace, Assignments

F = TypeVar("F", bound=Callable[..., Any])

ROLLOUT = 3600.0
"""Seconds that a rollout is waited for by default; twenty to forty minutes are reported."""


@click.group()
def command() -> None:
    """Manage the OS policy assignments of the osconfig executor.

    Each zone and runbook has three, made from its scripts: check, which changes nothing, enforce and revert.
    They apply to VMs with the label logmend-RUNBOOK, which the function sets and removes. In observe mode
    there is only check.
    """


def _chosen(function: F) -> F:
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


def _placed(function: F) -> F:
    """Add the options that say where."""
    project = click.option(
        "--project",
        "projects",
        multiple=True,
        shell_complete=complete_projects,
        help="Project; default LOGMEND_SCOPE_PROJECTS, or your own.",
    )
    zone = click.option("--zone", "zones", multiple=True, help="Zone; default LOGMEND_SCOPE_ZONES.")
    return project(zone(function))


@command.command()
@_chosen
@click.option("--zone", help="Zone for the command that is printed above each document.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Write a file for each.")
def render(names: Sequence[str], actions: Sequence[str], zone: str | None, directory: Path | None) -> None:
    """Print the assignments as YAML, as gcloud takes them with --file."""
    settings = inputs.settings()
    for runbook, action in _each(settings, names, actions):
        name = assignment.assignment_id(runbook.name, action)
        text = _yaml(assignment.assignment(runbook, action, settings.exempt_label))
        how = (
            f"# gcloud compute os-config os-policy-assignments create {name}"
            f" --location={zone or 'ZONE'} --file={name}.yaml\n"
        )
        if directory is None:
            click.echo(f"---\n{how}{text}", nl=False)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name}.yaml").write_text(how + text)
            click.echo(directory / f"{name}.yaml")


@command.command()
@_chosen
@_placed
@click.option("--detach", is_flag=True, help="Do not wait for the rollouts.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=ROLLOUT, show_default=True, help="Seconds for each."
)
@format_option("table", "json")
def apply(
    names: Sequence[str],
    actions: Sequence[str],
    projects: Sequence[str],
    zones: Sequence[str],
    detach: bool,
    timeout: float,
    shape: str,
) -> int:
    """Create the assignments, or update those that differ. Safe to repeat: the others are not changed."""
    settings = inputs.settings()
    wanted = list(_wanted(settings, names, actions, projects, zones))
    return _carry_out(
        settings,
        [place for place, _ in wanted],
        lambda api, number: api.apply(*wanted[number]),
        timeout=None if detach else timeout,
        shape=shape,
    )


@command.command()
@_chosen
@_placed
@format_option("table", "json", "csv")
def status(
    names: Sequence[str], actions: Sequence[str], projects: Sequence[str], zones: Sequence[str], shape: str
) -> int:
    """Check that each assignment exists, has these scripts and is rolled out. Exit status 1 if not."""
    settings = inputs.settings()
    rows = []
    wanted = list(_wanted(settings, names, actions, projects, zones))
    api = _open(settings)
    with progress("assignments", len(wanted)) as done:
        for place, document in wanted:
            found = api.find(place, document)
            state = "missing" if found is None else "outdated" if found.differences else "current"
            rows.append(
                _row(place)
                | {
                    "state": state,
                    "differs_in": list(found.differences) if found else [],
                    "rollout": found.rollout if found else None,
                    "revision": found.revision if found else None,
                }
            )
            done(1)
    columns = {"project_id": "project", "zone": "zone", "assignment": "assignment", "state": "state"}
    show_rows(shape, columns | {"differs_in": "differs in", "rollout": "rollout"}, rows)
    return DONE if all(row["state"] == "current" for row in rows) else BAD


@command.command()
@_chosen
@_placed
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Do not wait for the rollouts.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=ROLLOUT, show_default=True, help="Seconds for each."
)
@format_option("table", "json")
def delete(
    names: Sequence[str],
    actions: Sequence[str],
    projects: Sequence[str],
    zones: Sequence[str],
    yes: bool,
    detach: bool,
    timeout: float,
    shape: str,
) -> int:
    """Delete the assignments. Nothing is undone on VMs; open requests end without a report."""
    settings = inputs.settings()
    every = actions or [each.value for each in assignment.ACTIONS]
    places = [place for place, _ in _wanted(settings, names, every, projects, zones, to_go=True)]
    if not yes:
        confirm(f"Delete {len(places)} assignments?")
    return _carry_out(
        settings,
        places,
        lambda api, number: api.delete(places[number]),
        timeout=None if detach else timeout,
        shape=shape,
    )


def _carry_out(
    settings: Settings,
    places: Sequence["AssignmentPlace"],
    work: Callable[["Assignments", int], "Applied"],
    *,
    timeout: float | None,
    shape: str,
) -> int:
    """Begin every change, then wait for all; one that fails stops no other."""
    api, rows, begun = _open(settings), [_row(place) for place in places], dict[int, Any]()
    with progress("changes", len(places)) as done:
        for number in range(len(places)):
            try:
                begun[number] = work(api, number)
                rows[number]["change"] = begun[number].change
            except (Transient, Permanent) as error:
                rows[number] |= {"change": "failed", "reason": error.reason, "detail": error.detail}
            done(1)
    with progress("rollouts", len(begun)) as done:
        for number, applied in begun.items() if timeout is not None else ():
            try:
                api.wait(applied, timeout or 0.0)
            except (Transient, Permanent) as error:
                rows[number] |= {"change": "failed", "reason": error.reason, "detail": error.detail}
            done(1)
    api.close()
    columns = {"project_id": "project", "zone": "zone", "assignment": "assignment", "change": "change"}
    failed = any(row["change"] == "failed" for row in rows)
    show_rows(shape, columns | ({"reason": "reason", "detail": "detail"} if failed else {}), rows)
    return BAD if failed else DONE


def _each(
    settings: Settings, names: Sequence[str], actions: Sequence[str], *, to_go: bool = False
) -> Iterator[tuple[Runbook, Action]]:
    """Yield the chosen runbooks and actions; without a choice, what the mode has.

    What goes over SSH has no assignments; those that it had are ``to_go`` if it is named.
    """
    from logmend import catalog

    found = catalog.read_all(settings)
    loaded = found.runbooks
    if unknown := [name for name in names if name not in loaded]:
        raise ConfigError([f"no runbook {name!r}; known are {', '.join(loaded)}" for name in unknown])
    any_way = to_go and bool(names)
    over_ssh = {
        name: loaded[name].ssh_only for name in names or loaded if loaded[name].ssh_only and not any_way
    }
    if named := [f"{name} goes over SSH only: {why}" for name, why in over_ssh.items() if name in names]:
        raise ConfigError(named)
    for name, why in over_ssh.items():
        warn(f"skipped: {name} goes over SSH only: {why}")
    for name in [each for each in names or loaded if each not in over_ssh]:
        choice = found.choices.get(name)
        if not any_way and choice is not None and choice.settings.get("executor") is ExecutorChoice.SSH:
            warn(f"skipped: {name} goes over SSH: LOGMEND_RUNBOOKS says so")
            continue
        runbook, asked = loaded[name], set(map(Action, actions))
        by_mode = assignment.of_mode(runbook, found.policies.of(name).mode)
        for action in (each for each in assignment.actions(runbook) if each in (asked or by_mode)):
            yield runbook, action


def _wanted(
    settings: Settings,
    names: Sequence[str],
    actions: Sequence[str],
    projects: Sequence[str],
    zones: Sequence[str],
    *,
    to_go: bool = False,
) -> Iterator[tuple["AssignmentPlace", dict[str, object]]]:
    """Yield every place with the document that belongs there."""
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
    for runbook, action in _each(settings, names, actions, to_go=to_go):
        document = assignment.assignment(runbook, action, settings.exempt_label)
        for project in in_projects:
            for zone in in_zones:
                yield AssignmentPlace(project, zone, assignment.assignment_id(runbook.name, action)), document


def _open(settings: Settings) -> "Assignments":
    from logmend.adapters.google.osconfig_policies import Assignments

    return Assignments(settings.osconfig_endpoint)


def _row(place: "AssignmentPlace") -> dict[str, object]:
    return {"project_id": place.project_id, "zone": place.zone, "assignment": place.assignment_id}


def _yaml(document: dict[str, object]) -> str:
    """Print YAML for people: scripts as blocks, keys in their order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    printed: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return printed
