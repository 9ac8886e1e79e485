"""An explanation as a person reads it."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

import click

from logmend.explain import NO_TIME, Explanation
from logmend.model.enums import Mode, Result
from logmend.model.values import Event, Incident, LogEntry, Tick, Undecodable
from logmend.outcome import reasons
from logmend.settings import ExecutorChoice, Policies, Settings
from logmend.stages import outcomes
from logmend.stages.intake import Intake
from logmend_cli import inputs, output
from logmend_cli.output import coloured, printable, shortened

_INDENT = 11

_WOULD = {
    Mode.OBSERVE: "would run the read-only check on the VM; observe mode changes nothing",
    Mode.APPROVE: "would run the read-only check; if it sees the fault, the plan waits for a person",
    Mode.ENFORCE: "would run the read-only check; if it sees the fault, remediate it and check again",
}

_EXECUTORS = {
    "ssh": "over SSH",
    "osconfig": "by the VM's OS Config agent",
    "ssh, else osconfig": "over SSH, else by the VM's OS Config agent",
    "auto": "over SSH, else by the VM's OS Config agent if its metadata enables it",
    None: "but this VM cannot be reached (no_route): no address, and its metadata does not enable OS Config",
}


def show(where: str, explanation: Explanation, policies: Policies, answers: str = "") -> None:
    """Print one explanation in full; ``answers`` are the options that would answer pending guards."""
    width = _columns() - _INDENT - 2
    settings = policies.of(explanation.runbook.name if explanation.runbook else None)
    rows = list(_rows(explanation, settings, width, answers))
    click.secho(f"{where}: {_event(explanation.event)}", bold=True)
    label_before = None
    for label, text in rows:
        shown = "" if label == label_before else label
        click.echo(f"  {shown:<{_INDENT - 2}}{text}")
        label_before = label


def show_lines(every: Iterable[tuple[inputs.Input, Explanation]]) -> None:
    """Print a line for each explanation as it comes, then the number of each result."""
    totals: Counter[str] = Counter()
    for found, explanation in every:
        word = _word(explanation)
        totals[word] += 1
        named = (explanation.runbook, explanation.variant)
        runbook = ": ".join(each.name for each in named if each is not None)
        colour = coloured(explanation.result.value if explanation.result else "")
        pad = " " * max(0, 34 - len(word))
        painted = word.replace(explanation.result.value, colour, 1) if explanation.result else word
        vm = str(explanation.instance) if explanation.instance else "-"
        click.echo(f"{found.number or 1:>5}  {painted}{pad}  {vm:<48}  {runbook}".rstrip())
        if explanation.spoken is not None and explanation.verdict is not None:
            click.echo(f"       {printable(explanation.verdict.detail)}")
    click.echo("\n" + ", ".join(f"{count} {word}" for word, count in totals.most_common()))


def _rows(
    explanation: Explanation, settings: Settings, width: int, answers: str
) -> Iterator[tuple[str, str]]:
    if explanation.instance is not None:
        yield "VM", str(explanation.instance)
    if explanation.runbook is not None:
        variant = f", variant {explanation.variant.name}" if explanation.variant else ""
        yield "runbook", f"{explanation.runbook.name}{variant}"
    elif explanation.closest is not None:
        yield "runbook", f"none; closest is {explanation.closest.name}, whose filter says:"
    for each in explanation.conditions:
        mark = click.style("holds", fg="green") if each.holds else click.style("fails", fg="red")
        yield "filter", f"{mark}  {shortened(each.text, width - 7)}"
    for guard in explanation.guards:
        pad = " " * (8 - len(guard.verdict))
        yield "guards", f"{coloured(guard.verdict)}{pad}{guard.name}: {printable(guard.why)}".rstrip(": ")
    yield from _conclusion(explanation, settings, answers)


def _conclusion(explanation: Explanation, settings: Settings, answers: str) -> Iterator[tuple[str, str]]:
    if explanation.verdict is None:
        yield "result", "no runbook of its own: a tick processes what waits in the ledger"
        return
    verdict, runbook = explanation.verdict, explanation.runbook
    yield "result", click.style(_word(explanation), bold=True)
    if verdict.result is Result.PLANNED and runbook is not None:
        executor = _EXECUTORS[explanation.executor]
        if explanation.executor is None and settings.executor is ExecutorChoice.OSCONFIG:
            executor = f"but it runs over SSH only, not by OS Config: {runbook.ssh_only}"
        yield "then", f"{_WOULD[settings.mode]}"
        yield (
            "",
            f"{explanation.action} with {runbook.name} {runbook.digest[:19]}, {executor}",
        )
        if verdict.detail:
            yield "but", printable(verdict.detail)
        if explanation.pending:
            hint = f": {answers} answers" if answers else ""
            yield "pending", ", ".join(explanation.pending) + hint
    else:
        yield "because", printable(verdict.detail) or reasons.meaning(verdict.result, verdict.reason)
        meaning = reasons.meaning(verdict.result, verdict.reason)
        if verdict.detail and verdict.result is not Result.UNMATCHED:
            yield "", meaning
        if step := _next(explanation, settings):
            yield "next", step
    if explanation.at is not None and explanation.at != NO_TIME:
        yield "as of", f"{explanation.at:%Y-%m-%d %H:%M:%SZ}"


def _next(explanation: Explanation, settings: Settings) -> str:
    """Return what a person does next, without the advice to run ``explain``."""
    if not isinstance(explanation.event, LogEntry | Incident) or explanation.verdict is None:
        return ""
    read = Intake(
        explanation.delivery, explanation.event, runbook=explanation.runbook, instance=explanation.instance
    )
    step = reasons.next_step(
        outcomes.of_event(read, explanation.verdict, settings, explanation.at or NO_TIME)
    )
    return "" if "logmend explain" in step else step


def _columns() -> int:
    """Return the width of a line; 100 if it is not known."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal():
        return max(int(told), 60)
    try:
        return max(os.get_terminal_size(1).columns, 60)
    except OSError:
        return 100


def _word(explanation: Explanation) -> str:
    if explanation.verdict is None:
        return "tick"
    return output.word(explanation.verdict.result, explanation.verdict.reason)


def _event(event: Event | Undecodable) -> str:
    match event:
        case LogEntry():
            time = f" of {event.timestamp:%Y-%m-%d %H:%M:%SZ}" if event.timestamp else ""
            return f"log entry{time} in {shortened(event.log_name, 90)}"
        case Incident():
            return f"incident {shortened(event.incident_id or '?', 60)}, {shortened(event.state or '?', 20)}"
        case Tick():
            return "a tick"
        case Undecodable():
            return "no event"
