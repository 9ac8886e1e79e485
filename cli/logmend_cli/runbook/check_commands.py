"""``logmend runbook lint`` and ``test``: whether runbooks are sound, and what their golden cases say."""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from logmend import catalog
from logmend.runbook import Problem, load
from logmend.runbook.load import below, dangling
from logmend.settings import Settings
from logmend_cli import inputs, output
from logmend_cli.documented import Command
from logmend_cli.errors import BAD, DONE, warn
from logmend_cli.runbook.chosen import ChosenRunbook, chosen_runbooks

if TYPE_CHECKING:
    from logmend_cli.runbook.golden import Ran


@click.command(
    "lint",
    cls=Command,
    short_help="Check runbooks strictly.",
    examples=("logmend runbook lint", "logmend runbook lint ./my-runbook"),
)
@click.argument("runbooks", metavar="[NAME|FOLDER]...", nargs=-1)
@output.format_option("text", "json")
def lint(runbooks: Sequence[str], shape: str) -> int:
    """Check runbooks: all of them, the named ones, or one in a folder of its own.

    Checks that keys and values are valid; that the filter compiles and has no likely mistake; that guards and
    permissions exist; that scripts are POSIX, short, and limited in time; that every variant has a golden
    case; and that the sink's filter fits and selects nothing that logmend writes. Exit status 1 if there is a
    problem.
    """
    from logmend_cli.runbook import lint as runbook_lint
    from logmend_cli.runbook import sink_rules

    settings = inputs.settings()
    chosen = chosen_runbooks(runbooks, settings)
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
        rows = [msgspec.to_builtins(each) for each in problems]
        output.show_json({"problems": rows, "skipped": skipped, "ssh_only": ssh_only})
    else:
        _tell(problems, chosen, skipped)
        for name, why in ssh_only.items():
            click.echo(f"{name} runs over SSH only: {why}")
    return BAD if problems else DONE


@click.command(
    "test",
    cls=Command,
    short_help="Run golden cases.",
    examples=("logmend runbook test", "logmend runbook test workload-cert-refresh --format json"),
)
@click.argument("runbooks", metavar="[NAME|FOLDER]...", nargs=-1)
@output.format_option("text", "json")
def test(runbooks: Sequence[str], shape: str) -> int:
    """Run golden cases through explain: those of all runbooks, of the named ones, or of one in a folder.

    Cases are judged with the default settings, whatever the environment says. Exit status 1 if one fails.
    """
    from logmend.explain import Rules
    from logmend_cli.runbook import golden

    settings = inputs.settings()
    defaults = Settings(runbooks=settings.runbooks)
    chosen = chosen_runbooks(runbooks, settings)
    together = functools.cache(lambda: Rules.of(catalog.read_all(defaults, every=True).runbooks, defaults))
    ran: list[golden.Ran] = []
    for one in chosen:
        if one.apart:
            loaded = load(one.folder, one.parameters)
            ran += golden.run(one.folder.resolve(), Rules.of({loaded.name: loaded}, defaults))
        else:
            ran += golden.run(one.folder, together())
    if shape == "json":
        output.show_json([_case(each) for each in ran])
    else:
        _report(ran)
    return BAD if any(each.problem for each in ran) else DONE


def _tell(problems: Iterable[Problem], chosen: Sequence[ChosenRunbook], skipped: Iterable[str]) -> None:
    problems = list(problems)
    for each in problems:
        click.echo(str(each))
    for check in skipped:
        warn(f"skipped: {check}")
    names = ", ".join(one.folder.resolve().name for one in chosen)
    click.echo(f"{len(problems)} problem{'s'[: len(problems) != 1]}" if problems else f"{names}: sound")


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


def _case(ran: "Ran") -> dict[str, object]:
    case = msgspec.to_builtins(ran)
    return {
        "runbook": case["runbook"],
        "case": case["case"],
        "verdict": "fail" if ran.problem else "pass",
        "problem": ran.problem or None,
        "expected": case["expected"],
        "answered": case["answered"],
    }
