"""``logmend runbook``: which runbooks there are, whether they are sound, and what their golden cases say."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from logmend import catalog, guards
from logmend.errors import ConfigError
from logmend.model.struct import Struct
from logmend.runbook import Problem, Runbook, load
from logmend.runbook.decode import suggestion
from logmend.runbook.load import NONE, below, dangling
from logmend.settings import Settings
from logmend_cli import inputs, output
from logmend_cli.documented import CommandGroup
from logmend_cli.errors import BAD, DONE, warn

if TYPE_CHECKING:
    from logmend_cli.runbook.golden import Ran
    from logmend_cli.runbook.trial import TrialStep


@click.group("runbook", cls=CommandGroup, short_help="The runbooks: list, lint, test.")
def command() -> None:
    """Look at runbooks, check them, and run their golden cases.

    A runbook is a folder of data and scripts. LOGMEND_RUNBOOKS names the file that says which are on, and
    how, or a folder that holds all there are.
    """


@command.command(
    "list",
    short_help="Say which runbooks are on, and how.",
    examples=("logmend runbook list", "logmend runbook list ops-agent", "logmend runbook list --format json"),
)
@click.argument("runbook", metavar="[NAME]", required=False)
@output.format_option("table", "json")
def list_(runbook: str | None, shape: str) -> int:
    """Say which runbooks are on, what each goes by, and every value that is not the default.

    With a name: every value of that runbook, and where it comes from: the default, runbook.yaml, the
    configuration that LOGMEND_RUNBOOKS names, or the variable of the environment.
    """
    from logmend_cli.runbook.in_force import DEFAULT, values

    settings = inputs.settings()
    on, every = catalog.read_all(settings), catalog.read_all(settings, every=True).runbooks
    if runbook is not None and runbook not in every:
        raise ConfigError([f"no runbook {runbook!r}; {suggestion(runbook, every)}"])
    there = {name: on.runbooks.get(name, each) for name, each in every.items() if runbook in (None, name)}
    environment = inputs.environment()
    said = {
        name: [msgspec.to_builtins(each) for each in values(on, found, environment)]
        for name, found in there.items()
    }
    if shape == "json":
        output.show_json([_row(found) | {"values": said[name]} for name, found in there.items()])
        return DONE
    rows = [
        _row(found) | {each["name"]: each["value"] for each in said[name]} for name, found in there.items()
    ]
    for row in rows:
        row["digest"] = row["digest"][:19]
    columns = {"name": "runbook", "enabled": "on", "mode": "mode", "executor": "executor"}
    columns |= {"disruption_budget": "budget", "by": "asked by", "digest": "digest", "summary": "summary"}
    output.show_rows(shape, columns, rows)
    told = [
        {"runbook": name} | each
        for name, every_value in said.items()
        for each in every_value
        if runbook is not None or each["origin"] not in (DEFAULT, "runbook.yaml")
    ]
    if told:
        columns = {"runbook": "runbook", "name": "value", "value": "is", "origin": "from"}
        output.show_rows(shape, columns, told)
    return DONE


@command.command(
    "pack",
    short_help="Put own runbooks beside the function's source.",
    examples=("logmend runbook pack ./source",),
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def pack_(folder: Path) -> int:
    """Write what LOGMEND_RUNBOOKS names into the folder that the function is deployed from.

    That is runbooks.yaml and your own runbooks in runbooks/; deploy the function with
    LOGMEND_RUNBOOKS=runbooks.yaml. Nothing that is there is overwritten. deploy/gcloud.sh does it by itself.
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
    """Print ROLE PERMISSION,PERMISSION… a line: what the runbooks that are on take, each in its mode."""
    from logmend import permissions

    settings = inputs.settings()
    found = catalog.read_all(settings)
    roles = permissions.function_of(
        list(catalog.uses(found, settings).values()),
        settings.ssh_route,
        silence=settings.confirm_silence,
        declared=catalog.declared(found),
    )
    for role, wanted in roles.items():
        click.echo(f"{role} {','.join(sorted(wanted))}")
    return DONE


@command.command(
    "lint",
    short_help="Check runbooks strictly.",
    examples=("logmend runbook lint", "logmend runbook lint ./my-runbook"),
)
@click.argument("runbooks", metavar="[NAME|FOLDER]...", nargs=-1)
@output.format_option("text", "json")
def lint(runbooks: Sequence[str], shape: str) -> int:
    """Check runbooks: all of them, those of the given names, or one in a folder of its own.

    Every key is known and every value of its kind; the filter compiles and has no likely mistake; guards and
    permissions exist; scripts are POSIX, short and bounded; every variant has a golden case; and the sink's
    filter fits and selects nothing that logmend writes. Exit status 1 if there is a problem.
    """
    from logmend_cli.runbook import lint as runbook_lint
    from logmend_cli.runbook import sink_rules

    settings = inputs.settings()
    chosen = _chosen(runbooks, settings)
    problems = [each for one in chosen for each in runbook_lint.lint(one.folder, one.parameters)]
    ssh_only: dict[str, str] = {}
    if not problems:
        loaded = [load(one.folder, one.parameters) for one in chosen]
        ssh_only = {each.name: each.ssh_only for each in loaded if each.ssh_only}
        by_name = {each.name: each for each in loaded}
        folders = dict(catalog.folders(settings))
        for one in chosen:
            folders |= below(one.folder.resolve().parent)
        problems += dangling(by_name, folders)
        problems += sink_rules.check(by_name)
    skipped = runbook_lint.skipped()
    if shape == "json":
        told = [msgspec.to_builtins(each) for each in problems]
        output.show_json({"problems": told, "skipped": skipped, "ssh_only": ssh_only})
    else:
        _tell(problems, chosen, skipped)
        for name, why in ssh_only.items():
            click.echo(f"{name} goes over SSH only: {why}")
    return BAD if problems else DONE


@command.command(
    "test",
    short_help="Run golden cases.",
    examples=("logmend runbook test", "logmend runbook test workload-cert-refresh --format json"),
)
@click.argument("runbooks", metavar="[NAME|FOLDER]...", nargs=-1)
@output.format_option("text", "json")
def test(runbooks: Sequence[str], shape: str) -> int:
    """Run golden cases through explain: of all runbooks, those of the given names, or one in a folder.

    Cases are judged with the default settings, whatever the environment says. Exit status 1 if one fails.
    """
    from logmend.explain import Rules
    from logmend_cli.runbook import golden

    settings = inputs.settings()
    defaults = Settings(runbooks=settings.runbooks)
    chosen = _chosen(runbooks, settings)
    together = functools.cache(lambda: Rules.of(catalog.read_all(defaults, every=True).runbooks, defaults))
    ran: list[golden.Ran] = []
    for one in chosen:
        if one.apart:
            found = load(one.folder, one.parameters)
            ran += golden.run(one.folder.resolve(), Rules.of({found.name: found}, defaults))
        else:
            ran += golden.run(one.folder, together())
    if shape == "json":
        output.show_json([_case(each) for each in ran])
    else:
        _report(ran)
    return BAD if any(each.problem for each in ran) else DONE


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
    """Write the folder of a new runbook, which lints: it starts the unit NAME.service if that has failed.

    Beside it comes runbook.schema.json, to which the first line of runbook.yaml points an editor.
    """
    from logmend_cli.runbook import new as begun

    for path in begun.make(name, into):
        click.echo(str(path))
    return DONE


@command.command(
    "try",
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
    help="An event that has to be one for this runbook, in any shape that explain takes.",
)
@click.option(
    "--machine",
    "real",
    is_flag=True,
    help="On a throwaway Debian machine with a systemd of its own; takes root.",
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
    help="With --machine: a shell script that brings the fault about there, as root.",
)
@click.option("--archive", metavar="URL", help="With --machine: the Debian archive to install it from.")
@output.format_option("text", "json")
def trial(runbook: str, units: Sequence[str], event: Path | None, shape: str, **real: Any) -> int:
    """Check, enforce, check, enforce again, and the way back, on a pretend machine that has units of yours.

    Nothing of this computer is touched: the scripts run in namespaces of their own, on a root that has its
    programs read-only and nothing else of it; systemctl, curl, dpkg and the like are stand-ins. Where no
    namespaces can be had, nothing is run. Exit status 1 if a script ends otherwise than it should.

    --machine boots a real machine instead, in namespaces of its own: systemd, apt and dpkg are Debian's, and
    it reaches nothing but its own metadata server. The first time for a release and its packages it is
    installed from a Debian archive, which takes a network and a minute or two. It ends with the command.
    """
    from logmend_cli.runbook import trial as tried

    (chosen,) = _chosen([runbook], inputs.settings())
    found = load(chosen.folder, chosen.parameters)
    if event is not None and (no := tried.objection(found, event.read_bytes())):
        raise ConfigError([f"{event}: {no}"])
    steps = []
    for each in _on_machine(found, units, **real) if real.pop("real") else _on_pretend(found, units, **real):
        steps.append(each)
        if shape != "json":
            said = " ".join(f"{key}={value}" for key, value in each.values.items() if key != "mark")
            mark = click.style("ok ", fg="green") if each.good else click.style("no ", fg="red")
            click.echo(f"{mark} {each.name:22} exit {each.code:<4} {said}".rstrip())
            if not each.good and each.error:
                click.echo(f"    {each.error}")
    if shape == "json":
        output.show_json([msgspec.to_builtins(each) for each in steps])
    return DONE if all(each.good for each in steps) else BAD


def _on_pretend(found: Runbook, units: Sequence[str], **real: Any) -> "Iterator[TrialStep]":
    from logmend_cli.runbook import trial as tried

    if any(real.values()):
        raise ConfigError(["--release, --package, --prepare and --archive go with --machine"])
    return tried.run(found, units)


def _on_machine(
    found: Runbook,
    units: Sequence[str],
    *,
    release: str | None,
    packages: tuple[str, ...],
    prepare: Path | None,
    archive: str | None,
) -> "Iterator[TrialStep]":
    from logmend_cli.machine import roots
    from logmend_cli.runbook import on_machine

    arrange = prepare.read_bytes() if prepare else None
    wanted = on_machine.MachineRecipe(release or roots.RELEASES[0], packages, archive, arrange)
    return on_machine.run(found, units, wanted)


@command.command(
    "export",
    short_help="Print a runbook as one script for one VM.",
    examples=(
        "logmend runbook export workload-cert-refresh >fix.sh",
        "logmend runbook export workload-cert-refresh --revert >undo.sh",
    ),
)
@click.argument("runbook", metavar="NAME|FOLDER")
@click.option("--revert", "undo", is_flag=True, help="The way back.")
def export(runbook: str, undo: bool) -> int:
    """Print one POSIX script that checks, enforces and checks again on the VM that runs it.

    It holds the very text that logmend runs, and needs no Python: for a start-up script, an image build,
    Ansible's script module, or gcloud compute ssh --command. It only looks unless it is run with --enforce
    --labels-unchecked, as root. Its last line is the outcome as JSON.
    """
    from logmend_cli.runbook import export as exported

    (chosen,) = _chosen([runbook], inputs.settings())
    click.echo(exported.script(load(chosen.folder, chosen.parameters), revert=undo), nl=False)
    return DONE


class _Chosen(Struct, frozen=True):
    """A runbook's folder; ``apart`` says that it is not one of those that the settings name."""

    folder: Path
    parameters: Any
    apart: bool


def _chosen(wanted: Sequence[str], settings: Settings) -> list[_Chosen]:
    known, parameters = catalog.folders(settings), catalog.parameters(settings)
    chosen, problems = [], []
    for each in wanted or known:
        if each in known:
            chosen.append(_Chosen(known[each], parameters.get(each, NONE), apart=False))
        elif Path(each).is_dir():
            chosen.append(_Chosen(Path(each), NONE, apart=True))
        else:
            problems.append(f"{each}: neither a runbook nor a folder; {suggestion(each, known)}")
    if problems:
        raise ConfigError(problems)
    return chosen


def _row(runbook: Runbook) -> dict[str, Any]:
    return {
        "name": runbook.name,
        "summary": runbook.summary,
        "by": ["log entry", "incident", "operator"] if runbook.filter else ["incident", "operator"],
        "variants": [each.name for each in runbook.variants],
        "guards": list(guards.asked(runbook.guards)),
        "unless": [str(each) for each in runbook.unless],
        "only": [str(each) for each in runbook.only],
        "repeats_s": runbook.repeats.total_seconds() if runbook.repeats else None,
        "detached_s": runbook.detached.total_seconds() if runbook.detached else None,
        "follow_up": runbook.follow_up,
        "after": runbook.after,
        "permissions": list(runbook.permissions),
        "ssh_only": runbook.ssh_only or None,
        "digest": runbook.digest,
    }


def _tell(problems: Iterable[Problem], chosen: Sequence[_Chosen], skipped: Iterable[str]) -> None:
    problems = list(problems)
    for each in problems:
        click.echo(str(each))
    for check in skipped:
        warn(f"skipped: {check}")
    names = ", ".join(one.folder.resolve().name for one in chosen)
    click.echo(f"{len(problems)} problems" if problems else f"{names}: sound")


def _report(ran: "Sequence[Ran]") -> None:
    for each in ran:
        if each.problem:
            click.echo(f"{output.coloured('fail')} {each.runbook}/{each.case}: {each.problem}")
    for runbook in dict.fromkeys(each.runbook for each in ran):
        of = [each for each in ran if each.runbook == runbook]
        failing = sum(bool(each.problem) for each in of)
        click.echo(f"{runbook}: {len(of) - failing} of {len(of)} cases pass")
    if not ran:
        click.echo("no golden cases; logmend explain FILE --save-case makes one")


def _case(ran: "Ran") -> dict[str, Any]:
    found = msgspec.to_builtins(ran)
    return {
        "runbook": found["runbook"],
        "case": found["case"],
        "verdict": "fail" if ran.problem else "pass",
        "problem": ran.problem or None,
        "expected": found["expected"],
        "answered": found["answered"],
    }
