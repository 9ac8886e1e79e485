"""``logmend doctor``: what can go wrong between sink and VM, each check with the command that repairs it."""

import asyncio
from collections import Counter

import click
import msgspec

from logmend import catalog
from logmend.errors import ConfigError
from logmend.model.enums import PROJECT_PATTERN
from logmend_cli import inputs, output, profiles
from logmend_cli.apis import Deployment
from logmend_cli.doctor.facts import Health
from logmend_cli.documented import Command
from logmend_cli.errors import BAD, DONE
from logmend_cli.scanned import complete_projects

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "bright_black"}


@click.command(
    "doctor",
    cls=Command,
    examples=(
        "logmend doctor --project my-project --region us-central1",
        "logmend doctor --project my-project --fleet shop-prod --fleet shop-staging --problems",
        "logmend doctor --project my-project --organization 123456789012 --format json > doctor.json",
    ),
)
@click.option(
    "--project",
    shell_complete=complete_projects,
    help="Project that logmend runs in. [default: LOGMEND_PROJECT]",
)
@click.option("--region", help="Region of the function. [default: the profile's, else us-central1]")
@click.option(
    "--name", help="Name that everything was deployed under. [default: the profile's, else logmend]"
)
@click.option(
    "--fleet", multiple=True, help="Project of VMs and of a sink; may be repeated. [default: the scope]"
)
@click.option("--folder", help="The sink is in this folder (its number).")
@click.option("--organization", help="The sink is in this organization (its number).")
@click.option(
    "--repair-ledger",
    is_flag=True,
    help="Free leases and places in budgets whose intent is gone; each is named.",
)
@click.option("--problems", is_flag=True, help="Show problems only.")
@click.option("--endpoint", hidden=True, help="One address for every API: a fake, or a proxy.")
@output.format_option("text", "json")
def command(
    project: str | None,
    region: str | None,
    name: str | None,
    fleet: tuple[str, ...],
    folder: str | None,
    organization: str | None,
    repair_ledger: bool,
    problems: bool,
    endpoint: str | None,
    shape: str,
) -> int:
    """Check everything between the log sink and the VMs, in the order of an event's path.

    It changes nothing, except with --repair-ledger. Each check says what it saw and, if something is wrong,
    the command that repairs it; a check that could not be made says why (unknown). You need roles/viewer and
    roles/iam.securityReviewer and, since the function's permissions are tested with its own identity,
    roles/iam.serviceAccountTokenCreator on its account. Exit status 1 if a check fails.

    Without credentials, only settings, runbooks and a ledger on this machine are checked; everything else is
    unknown, and the exit status is 1.
    """
    settings = inputs.settings()
    used = profiles.current() if project is None else None
    project = project or settings.project
    region = region or (used.region if used else "us-central1")
    name = name or (used.function if used else "logmend")
    wrong = [
        f"{each!r} is not a project id"
        for each in (project, *fleet)
        if each and not PROJECT_PATTERN.fullmatch(each)
    ]
    wrong += [] if project else ["which project does logmend run in? --project or LOGMEND_PROJECT"]
    for number in (folder, organization):
        if number is not None and not number.isdecimal():
            wrong.append(f"{number!r}: a folder or an organization is named by its number")
    if folder and organization:
        wrong.append("--folder and --organization: choose one: two sinks deliver every entry twice")
    if wrong:
        raise ConfigError(wrong)
    assert project is not None
    above = [f"folders/{folder}"] if folder else [f"organizations/{organization}"] if organization else []
    own = fleet or settings.scope_projects
    parents = tuple(above) or tuple(f"projects/{each}" for each in own or (project,))
    place = Deployment(project, region, name, parents, tuple(own))

    from logmend_cli.doctor import checks as doctor_checks
    from logmend_cli.doctor import function, gather

    with output.progress("asking"):
        facts = asyncio.run(
            gather.gather(place, settings, catalog.read_all(settings), endpoint, repair=repair_ledger)
        )
    checks = [*doctor_checks.path(facts), *function.function_to_vm(facts)]
    counts = Counter(each.state for each in checks)
    shown = [each for each in checks if not problems or each.state is not Health.OK]
    if shape == "json":
        documents: list[dict[str, object]] = msgspec.to_builtins(shown)
        output.show_json({"checks": documents, "totals": {state.value: counts[state] for state in Health}})
    else:
        for each in shown:
            mark = click.style(f"{each.state.value:<7}", fg=_COLOURS[each.state.value])
            click.echo(f"{mark}  {click.style(each.name, bold=True)}: {output.printable(each.evidence)}")
            if each.repair and each.state is not Health.OK:
                click.echo(f"         {each.repair}")
        click.echo("\n" + ", ".join(f"{counts[state]} {state.value}" for state in Health))
    return BAD if counts[Health.FAIL] else DONE
