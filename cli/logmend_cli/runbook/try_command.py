"""``logmend runbook try``: run a runbook's scripts on a pretend machine, or on a real one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
import msgspec

from logmend.errors import ConfigError
from logmend.runbook import Runbook, load
from logmend_cli import inputs, output
from logmend_cli.documented import Command
from logmend_cli.errors import BAD, DONE
from logmend_cli.runbook.chosen import chosen_runbooks

if TYPE_CHECKING:
    from logmend_cli.runbook.trial import TrialStep


class MachineOptions(TypedDict):
    """The options that only ``--machine`` takes; None or empty if not given."""

    release: str | None
    packages: tuple[str, ...]
    prepare: Path | None
    archive: str | None


@click.command(
    "try",
    cls=Command,
    short_help="Play a runbook through on a pretend machine, or on a real one.",
    examples=(
        "logmend runbook try runbooks/time-sync --unit chrony.service=failed",
        "logmend runbook try runbooks/time-sync --unit chrony.service=failed --machine",
    ),
)
@click.argument("runbook", metavar="NAME|FOLDER")
@click.option("--unit", "units", multiple=True, metavar="UNIT=ACTIVE[,ENABLED]", help="A unit that it has.")
@click.option(
    "--event",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An event that this runbook has to match, in any shape that explain accepts.",
)
@click.option(
    "--machine",
    "real",
    is_flag=True,
    help="On a throwaway Debian machine with a systemd of its own; needs root.",
)
@click.option(
    "--release", metavar="CODENAME", help="With --machine: its Debian release; bookworm by default."
)
@click.option(
    "--package", "packages", multiple=True, metavar="NAME", help="With --machine: a package that it has."
)
@click.option(
    "--prepare",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --machine: a shell script that causes the fault there, as root.",
)
@click.option("--archive", metavar="URL", help="With --machine: the Debian archive to install it from.")
@output.format_option("text", "json")
def trial(
    runbook: str,
    units: Sequence[str],
    event: Path | None,
    shape: str,
    *,
    real: bool,
    **machine: Unpack[MachineOptions],
) -> int:
    """Check, enforce, check, enforce again, and revert, on a pretend machine with the units that you name.

    Nothing on this computer is touched: the scripts run in namespaces of their own, on a root with only its
    programs, read-only; systemctl, curl, dpkg and the like are stand-ins. If namespaces are not available,
    nothing is run. Exit status 1 if a script does not end as it should.

    --machine boots a real machine instead, in namespaces of its own: systemd, apt and dpkg are Debian's, and
    it reaches nothing but its own metadata server. For the first run with a release and its packages, it is
    installed from a Debian archive, which needs a network and a minute or two. It ends with the command.
    """
    from logmend_cli.runbook import trial as tried

    (chosen,) = chosen_runbooks([runbook], inputs.settings())
    loaded = load(chosen.folder, chosen.parameters)
    if event is not None and (no := tried.objection(loaded, event.read_bytes())):
        raise ConfigError([f"{event}: {no}"])
    steps = []
    for each in (_on_machine if real else _on_pretend)(loaded, units, machine):
        steps.append(each)
        if shape != "json":
            shown = " ".join(f"{key}={value}" for key, value in each.values.items() if key != "mark")
            mark = click.style("ok ", fg="green") if each.good else click.style("no ", fg="red")
            click.echo(f"{mark} {each.name:22} exit {each.code:<4} {shown}".rstrip())
            if not each.good and each.error:
                click.echo(f"    {each.error}")
    if shape == "json":
        output.show_json([msgspec.to_builtins(each) for each in steps])
    return DONE if all(each.good for each in steps) else BAD


def _on_pretend(found: Runbook, units: Sequence[str], machine: MachineOptions) -> "Iterator[TrialStep]":
    from logmend_cli.runbook import trial as tried

    if any(machine.values()):
        raise ConfigError(["--release, --package, --prepare and --archive go with --machine"])
    return tried.run(found, units)


def _on_machine(found: Runbook, units: Sequence[str], machine: MachineOptions) -> "Iterator[TrialStep]":
    from logmend_cli.machine import roots
    from logmend_cli.runbook import on_machine

    arrange = machine["prepare"].read_bytes() if machine["prepare"] else None
    release = machine["release"] or roots.RELEASES[0]
    wanted = on_machine.MachineRecipe(release, machine["packages"], machine["archive"], arrange)
    return on_machine.run(found, units, wanted)
