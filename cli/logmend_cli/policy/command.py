"""``logmend policy``: the OS policy assignments of the osconfig executor."""

from collections.abc import Sequence
from pathlib import Path

import click

from logmend.errors import ConfigError
from logmend.model.enums import ZONE_PATTERN
from logmend.osconfig import assignment
from logmend_cli import inputs
from logmend_cli.documented import CommandGroup
from logmend_cli.errors import BAD, DONE, confirm
from logmend_cli.output import format_option, progress, show_rows
from logmend_cli.policy.as_yaml import as_yaml
from logmend_cli.policy.changes import carry_out, opened, row
from logmend_cli.policy.wanted import chosen_assignments, chosen_options, place_options, wanted_documents

ROLLOUT = 3600.0
"""Seconds to wait for a rollout by default; rollouts of twenty to forty minutes are reported."""


@click.group(cls=CommandGroup)
def command() -> None:
    """Manage the OS policy assignments of the osconfig executor.

    Each zone and runbook has three, made from its scripts: check, which changes nothing, enforce and revert.
    They apply to VMs with the label logmend-RUNBOOK, which the function sets and removes. In observe mode
    there is only check.
    """


@command.command()
@chosen_options
@click.option("--zone", help="Zone for the command that is printed above each document.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Write a file for each.")
def render(names: Sequence[str], actions: Sequence[str], zone: str | None, directory: Path | None) -> None:
    """Print the assignments as YAML, as gcloud takes them with --file."""
    settings = inputs.settings()
    if zone is not None and not ZONE_PATTERN.fullmatch(zone):
        raise ConfigError([f"{zone!r} is not a zone"])
    for runbook, action in chosen_assignments(settings, names, actions):
        name = assignment.assignment_id(runbook.name, action)
        text = as_yaml(assignment.assignment(runbook, action, settings.exempt_label))
        how = (
            f"# gcloud compute os-config os-policy-assignments create {name}"
            f" --location={zone or 'ZONE'} --file={name}.yaml\n"
        )
        if directory is None:
            click.echo(f"---\n{how}{text}", nl=False)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name}.yaml").write_text(how + text, encoding="utf-8")
            click.echo(directory / f"{name}.yaml")


@command.command()
@chosen_options
@place_options
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
    wanted = list(wanted_documents(settings, names, actions, projects, zones))
    return carry_out(
        settings,
        [place for place, _ in wanted],
        lambda api, number: api.apply(*wanted[number]),
        timeout=None if detach else timeout,
        shape=shape,
    )


@command.command()
@chosen_options
@place_options
@format_option("table", "json", "csv")
def status(
    names: Sequence[str], actions: Sequence[str], projects: Sequence[str], zones: Sequence[str], shape: str
) -> int:
    """Check that each assignment exists, has these scripts and is rolled out. Exit status 1 if not."""
    settings = inputs.settings()
    rows = []
    wanted = list(wanted_documents(settings, names, actions, projects, zones))
    api = opened(settings)
    with progress("assignments", len(wanted)) as done:
        for place, document in wanted:
            existing = api.find(place, document)
            state = "missing" if existing is None else "outdated" if existing.differences else "current"
            rows.append(
                row(place)
                | {
                    "state": state,
                    "differs_in": list(existing.differences) if existing else [],
                    "rollout": existing.rollout if existing else None,
                    "revision": existing.revision if existing else None,
                }
            )
            done(1)
    columns = {"project_id": "project", "zone": "zone", "assignment": "assignment", "state": "state"}
    show_rows(shape, columns | {"differs_in": "differs in", "rollout": "rollout"}, rows)
    return DONE if all(row["state"] == "current" for row in rows) else BAD


@command.command()
@chosen_options
@place_options
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
    places = [place for place, _ in wanted_documents(settings, names, every, projects, zones, to_go=True)]
    if not yes:
        confirm(f"Delete {len(places)} assignments?")
    return carry_out(
        settings,
        places,
        lambda api, number: api.delete(places[number]),
        timeout=None if detach else timeout,
        shape=shape,
    )
