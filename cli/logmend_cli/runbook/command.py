"""``logmend runbook``: which runbooks there are, whether they are sound, and what their golden cases say."""

from pathlib import Path

import click

from logmend import catalog
from logmend.runbook import load
from logmend_cli import inputs
from logmend_cli.documented import CommandGroup
from logmend_cli.errors import DONE
from logmend_cli.runbook import check_commands, list_command, try_command
from logmend_cli.runbook.chosen import chosen_runbooks


@click.group("runbook", cls=CommandGroup, short_help="The runbooks: list, lint, test.")
def command() -> None:
    """List, write, check, try and export runbooks.

    A runbook is a folder of data and scripts. LOGMEND_RUNBOOKS names the file that says which are on, and
    how, or a folder with all runbooks.
    """


@command.command(
    "pack",
    short_help="Put own runbooks beside the function's source.",
    examples=("logmend runbook pack ./source",),
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def pack_(folder: Path) -> int:
    """Write what LOGMEND_RUNBOOKS names into the folder that the function is deployed from.

    That is runbooks.yaml and your own runbooks in runbooks/; deploy the function with
    LOGMEND_RUNBOOKS=runbooks.yaml. Existing files are not overwritten. deploy/gcloud.sh does this by itself.
    """
    from logmend_cli.runbook.pack import pack

    for each in pack(inputs.settings(), folder):
        click.echo(each)
    return DONE


@command.command(
    "permissions",
    short_help="Say what the function has to be granted.",
    examples=("logmend runbook permissions",),
)
def permissions_() -> int:
    """Print ROLE PERMISSION,PERMISSION… a line: what the enabled runbooks need in their modes."""
    from logmend import permissions

    settings = inputs.settings()
    configured = catalog.read_all(settings)
    roles = permissions.function_of(
        list(catalog.uses(configured, settings).values()),
        settings.ssh_route,
        silence=settings.confirm_silence,
        declared=catalog.declared(configured),
    )
    for role, wanted in roles.items():
        click.echo(f"{role} {','.join(sorted(wanted))}")
    return DONE


@command.command(
    "new",
    short_help="Begin a runbook of your own.",
    examples=("logmend runbook new time-sync --into runbooks",),
)
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder that holds your runbooks; the present one by default.",
)
def new(name: str, into: Path) -> int:
    """Write the folder of a new runbook that passes lint: it starts the unit NAME.service if that has failed.

    It also writes runbook.schema.json beside it; the first line of runbook.yaml points editors to it.
    """
    from logmend_cli.runbook import new as begun

    for path in begun.make(name, into):
        click.echo(str(path))
    return DONE


@command.command(
    "export",
    short_help="Print a runbook as one script for one VM.",
    examples=(
        "logmend runbook export workload-cert-refresh >fix.sh",
        "logmend runbook export workload-cert-refresh --revert >undo.sh",
    ),
)
@click.argument("runbook", metavar="NAME|FOLDER")
@click.option("--revert", "undo", is_flag=True, help="The runbook's revert instead.")
def export(runbook: str, undo: bool) -> int:
    """Print one POSIX script that checks, enforces and checks again on the VM that runs it.

    It contains the same text that logmend runs, and needs no Python: for a start-up script, an image build,
    Ansible's script module, or gcloud compute ssh --command. It only checks unless root runs it with
    --enforce --labels-unchecked. Its last line is the outcome as JSON.
    """
    from logmend_cli.runbook import export as exported

    (chosen,) = chosen_runbooks([runbook], inputs.settings())
    click.echo(exported.script(load(chosen.folder, chosen.parameters), revert=undo), nl=False)
    return DONE


for _each in (list_command.list_, check_commands.lint, check_commands.test, try_command.trial):
    command.add_command(_each)
