"""An explanation as a person reads it."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

import click

from logmend.explain import NO_TIME, Explanation
from logmend.model.enums import Mode, Result
from logmend.model.values import Event, Incident, LogEntry, Tick, Undecodable
from logmend.outcome import reasons
from logmend.settings import Policies, Settings
from logmend.stages import outcomes
from logmend.stages.intake import Intake
from logmend_cli import inputs
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
    "auto": "over SSH, else by the VM's OS Config agent where its metadata enables it",
    None: "but nothing reaches this VM (no_route): no address, and its metadata enables no OS Config",
}


def show(where: str, said: Explanation, policies: Policies) -> None:
    """Print one explanation in full."""
    width = _columns() - _INDENT - 2
    rows = list(_rows(said, policies.of(said.runbook.name if said.runbook else None), width))
    click.secho(f"{where}: {_event(said.event)}", bold=True)
    label_before = None
    for label, text in rows:
        shown = "" if label == label_before else label
        click.echo(f"  {shown:<{_INDENT - 2}}{text}")
        label_before = label


def show_lines(every: Iterable[tuple[inputs.Input, Explanation]]) -> None:
    """Print a line for each explanation as it comes, and how many of each result there were."""
    totals: Counter[str] = Counter()
    for found, said in every:
        word = _word(said)
        totals[word] += 1
        variant = said.variant.name if said.variant else said.runbook.name if said.runbook else ""
        colour = coloured(said.result.value if said.result else "")
        pad = " " * max(0, 34 - len(word))
        painted = word.replace(said.result.value, colour, 1) if said.result else word
        vm = str(said.instance) if said.instance else "-"
        click.echo(f"{found.number or 1:>5}  {painted}{pad}  {vm:<48}  {variant}".rstrip())
        if said.spoken is not None and said.judgement is not None:
            click.echo(f"       {printable(said.judgement.detail)}")
    click.echo("\n" + ", ".join(f"{count} {word}" for word, count in totals.most_common()))


def _rows(said: Explanation, settings: Settings, width: int) -> Iterator[tuple[str, str]]:
    if said.instance is not None:
        yield "VM", str(said.instance)
    if said.runbook is not None:
        variant = f", variant {said.variant.name}" if said.variant else ""
        yield "runbook", f"{said.runbook.name}{variant}"
    elif said.closest is not None:
        yield "runbook", f"none; closest is {said.closest.name}, whose filter says:"
    for each in said.conditions:
        mark = click.style("holds", fg="green") if each.holds else click.style("fails", fg="red")
        yield "filter", f"{mark}  {shortened(each.text, width - 7)}"
    for guard in said.guards:
        pad = " " * (8 - len(guard.verdict))
        yield "guards", f"{coloured(guard.verdict)}{pad}{guard.name}: {printable(guard.why)}".rstrip(": ")
    yield from _conclusion(said, settings)


def _conclusion(said: Explanation, settings: Settings) -> Iterator[tuple[str, str]]:
    if said.judgement is None:
        yield "result", "none of its own: a tick brings what waits in the ledger further"
        return
    judgement = said.judgement
    yield "result", click.style(_word(said), bold=True)
    if judgement.result is Result.PLANNED and said.runbook is not None:
        executor = _EXECUTORS[said.executor]
        yield "then", f"{_WOULD[settings.mode]}"
        yield "", f"{said.action} with {said.runbook.name} {said.runbook.digest[:19]}, {executor}"
        if judgement.detail:
            yield "but", printable(judgement.detail)
        if said.pending:
            yield "pending", f"{', '.join(said.pending)}: --instance FILE or --live answers"
    else:
        yield "because", printable(judgement.detail) or reasons.meaning(judgement.result, judgement.reason)
        meaning = reasons.meaning(judgement.result, judgement.reason)
        if judgement.detail and judgement.result is not Result.UNMATCHED:
            yield "", meaning
        if step := _next(said, settings):
            yield "next", step
    if said.at is not None and said.at != NO_TIME:
        yield "as of", f"{said.at:%Y-%m-%d %H:%M:%SZ}"


def _next(said: Explanation, settings: Settings) -> str:
    """Say what a person does next; that ``explain`` would tell more is no news here."""
    if not isinstance(said.event, LogEntry | Incident) or said.judgement is None:
        return ""
    read = Intake(said.delivery, said.event, runbook=said.runbook, instance=said.instance)
    step = reasons.next_step(outcomes.of_event(read, said.judgement, settings, said.at or NO_TIME))
    return "" if "logmend explain" in step else step


def _columns() -> int:
    """Say how wide a line is; 100 where nothing tells."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal():
        return max(int(told), 60)
    try:
        return max(os.get_terminal_size(1).columns, 60)
    except OSError:
        return 100


def _word(said: Explanation) -> str:
    if said.judgement is None:
        return "tick"
    reason = said.judgement.reason
    return f"{said.judgement.result}: {reason}" if reason else str(said.judgement.result)


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
