"""``logmend explain``: ask the production stages what this event would do, and why."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import click

from logmend import catalog, explain
from logmend.errors import ConfigError
from logmend.explain import Explanation, Rules
from logmend.model.enums import Mode, Result
from logmend.settings import Policies
from logmend_cli import inputs, output
from logmend_cli.documented import Command
from logmend_cli.errors import status_of
from logmend_cli.explain.facts import Lookup, lookup

Explained = tuple[inputs.Input, Explanation]


@click.command(
    "explain",
    cls=Command,
    short_help="What would this event do, and why?",
    examples=(
        "gcloud logging read gce_workload_cert_refresh --limit=9 --format=json | logmend explain -",
        "logmend explain entry.json --instance vm.json --now now",
        "logmend explain entry.json --save-case workload-cert-refresh/my-case",
    ),
)
@click.argument("file", metavar="FILE")
@click.option(
    "--instance",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The VM, as `gcloud compute instances describe --format=json` prints it (or `list`, for several).",
)
@click.option("--live", is_flag=True, help="Look the VM up with the Compute Engine API.")
@click.option(
    "--now", metavar="TIME", help="Judge as of TIME (RFC 3339, or now) instead of the entry's own time."
)
@click.option(
    "--mode",
    type=click.Choice([each.value for each in Mode]),
    help="The mode of the function, instead of LOGMEND_MODE.",
)
@output.format_option("text", "json")
@click.option("-v", "--verbose", is_flag=True, help="Explain each of several events in full.")
@click.option("--save-case", metavar="NAME", help="Keep the event and its result as a golden case.")
@click.option("--why", metavar="TEXT", help="What the saved case shows.")
def command(
    file: str,
    instance: Path | None,
    live: bool,
    now: str | None,
    mode: str | None,
    shape: str,
    verbose: bool,
    save_case: str | None,
    why: str | None,
) -> int:
    """Explain what would happen to each event in FILE (- is standard input).

    An event is a LogEntry, an array or JSON lines of them, a Pub/Sub push body, a CloudEvent or a Monitoring
    incident. The answer comes from the code of the function, offline: which condition of the filter holds,
    which variant and which VM it is, what the guards say, what would be run, and the result. planned means
    that no guard objects so far; the check on the VM is still to come. Cooldowns, budgets and freezes live in
    the ledger, which is not asked.

    Several events get a line each. Exit status 1 if any is rejected or unmatched.
    """
    if instance is not None and live:
        raise click.UsageError("--instance and --live exclude each other: give one")
    if file == inputs.STDIN and str(instance) == inputs.STDIN:
        raise click.UsageError("standard input is either the event or the instance")
    if why is not None and save_case is None:
        raise click.UsageError("--why needs --save-case")
    if save_case is not None and live:
        raise click.UsageError(
            "a case needs its facts in a file: use --save-case with --instance, not with --live"
        )
    settings = inputs.settings(Mode(mode) if mode else None)
    at = inputs.time(now)
    configured = catalog.read_all(settings)
    rules = Rules.of(configured.runbooks, configured.policies)
    results: Counter[Result | None] = Counter()
    with lookup(settings, instance, live=live) as facts:
        several, every = _several(
            (found, _explained(found, rules, facts, at)) for found in inputs.documents(file)
        )
        if save_case is not None:
            if several:
                raise ConfigError([f"{file}: a case is one event, and here are several"])
            from logmend_cli.explain import save

            head = list(every)
            every = iter(head)
            facts.check()
            save.case(save_case, *head[0], facts, at, why, settings)
        if not several:
            facts.check()
        answers = "" if live else "--live" if instance else "--instance FILE or --live"
        _show(_counted(every, results), several, shape, configured.policies, answers, verbose=verbose)
        facts.check()
    return status_of(results)


def _explained(found: inputs.Input, rules: Rules, facts: Lookup, at: datetime | None) -> Explanation:
    """Explain without facts, and again with them if they matter: a verdict without facts costs no look-up."""
    said = explain.event(found.delivery, found.event, rules, None, at)
    if said.instance is not None and said.guards and (facts.free or said.result is Result.PLANNED):
        known = facts(said.instance)
        if known is not None:
            return explain.event(found.delivery, found.event, rules, known, at)
    return said


def _several(every: Iterator[Explained]) -> tuple[bool, Iterator[Explained]]:
    head = list(itertools.islice(every, 2))
    return len(head) > 1, itertools.chain(head, every)


def _counted(every: Iterable[Explained], results: Counter[Result | None]) -> Iterator[Explained]:
    for found, said in every:
        results[said.result] += 1
        yield found, said


def _show(
    every: Iterator[Explained],
    several: bool,
    shape: str,
    policies: Policies,
    answers: str,
    *,
    verbose: bool,
) -> None:
    if shape == "json":
        documents = (explain.document(said) for _, said in every)
        if several:
            output.show_json_array(documents)
        else:
            output.show_json(next(documents))
        return
    from logmend_cli.explain import text

    if several and not verbose:
        text.show_lines(every)
    else:
        for number, (found, said) in enumerate(every):
            if number:
                click.echo()
            text.show(found.where, said, policies, answers)
