"""``logmend approvals``: plans that wait for a person."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TypedDict, Unpack

import click

from logmend.errors import ConfigError, Permanent
from logmend.model.state import Approval, By, State
from logmend.model.struct import Struct
from logmend.stages import intents
from logmend.wiring import Application
from logmend_cli import inputs, selection
from logmend_cli.application import (
    by_option,
    for_each,
    runbook_option,
    running,
    shared_ledger,
    some_at_once,
    span,
    told_of_tick,
    why_option,
)
from logmend_cli.approvals.rows import COLUMNS, row, state_of
from logmend_cli.documented import CommandGroup, together
from logmend_cli.errors import BAD, DONE, confirm
from logmend_cli.output import format_option, show_rows


class Chosen(Struct, frozen=True):
    """Which plans are meant: by ids or prefixes of ids, and further conditions."""

    ids: tuple[str, ...] = ()
    runbook: str | None = None
    zone: str | None = None
    labels: tuple[str, ...] = ()
    everything: bool = False

    @property
    def asks(self) -> bool:
        """Whether the selection may include more than the plans that were named."""
        return self.everything or any((self.runbook, self.zone, self.labels))

    def takes(self, approval: Approval) -> bool:
        """Return whether a plan meets the conditions other than its id."""
        intent = approval.intent
        return (
            self.runbook in (None, intent.runbook)
            and self.zone in (None, intent.instance.zone)
            and all(approval.labels.get(name) == value for name, value in map(_label, self.labels))
        )


class _Selection(TypedDict):
    """The options that select plans, and who decides on them."""

    ids: tuple[str, ...]
    everything: bool
    zone: str | None
    labels: tuple[str, ...]
    runbook: str | None
    listed: Path | None
    why: str
    yes: bool
    by: str


_selection = together(
    click.argument("ids", metavar="[APPROVAL]...", nargs=-1),
    click.option("--all", "everything", is_flag=True, help="Every plan that the other options select."),
    click.option("--zone", help="Plans for VMs of a zone."),
    click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Plans for VMs with a label."),
    runbook_option,
    selection.ids_option,
    why_option,
    click.option("--yes", is_flag=True, help="Do not ask before deciding on many."),
    by_option,
)
"""The options that select plans."""


@click.group(cls=CommandGroup)
def command() -> None:
    """Plans that wait for a person (LOGMEND_MODE=approve).

    An APPROVAL is an id, or enough of its beginning to mean one plan only.
    """


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also show plans that are decided or expired.")
@click.option(
    "--label-column",
    "columns",
    multiple=True,
    metavar="KEY",
    help="Also show this label of the VMs, beside those of LOGMEND_OUTCOME_LABELS.",
)
@format_option("table", "json", "csv")
def list_(everything: bool, columns: Sequence[str], shape: str) -> None:
    """List the plans, those that expire first at the top."""
    columns = tuple(dict.fromkeys((*inputs.settings().outcome_labels, *columns)))

    async def work(app: Application) -> list[dict[str, object]]:
        now = datetime.now(UTC)
        approvals = sorted(
            [each async for each in app.controls.approvals()], key=lambda each: each.expires_at
        )
        labels = () if shape == "json" else columns  # JSON has all of them
        return [
            row(each, app, now) | {f"label:{key}": each.labels.get(key) for key in labels}
            for each in approvals
            if everything or state_of(each, now) == "pending"
        ]

    shown = running(work, shared_ledger(inputs.settings()))
    headings = COLUMNS | ({"intent_id": "intent"} if shape == "csv" else {})
    show_rows(shape, headings | {f"label:{key}": key for key in columns}, shown, empty="no plan waits")


@command.command()
@_selection
def approve(**chosen: Unpack[_Selection]) -> int:
    """Approve plans. Guards and the check on the VM run again before anything is enforced.

    What differs from what the plan shows is not done: a new plan waits. One tick is asked for, for all.
    """

    async def one(app: Application, approval: Approval, by: By) -> str:
        intent = await app.controls.approve(approval.approval_id, by)
        return f"approved by {by.who}: {_what(approval)}, as {intent.intent_id}"

    return _decide("approve", one, chosen, state="pending", ticks=True)


@command.command()
@click.option("--for", "time", metavar="DURATION", help="Let new plans be made again after 90m, 2h, 3d, …")
@_selection
def reject(time: str | None, **chosen: Unpack[_Selection]) -> int:
    """Reject plans. No new one is made for the VM until `logmend resume --instance`, or for --for."""
    lasts = span(time) if time else None

    async def one(app: Application, approval: Approval, by: By) -> str:
        until = by.at + lasts if lasts else None
        await app.controls.reject(approval.approval_id, by, until)
        return f"rejected by {by.who}{f' until {until:%FT%TZ}' if until else ''}: {_what(approval)}"

    return _decide("reject", one, chosen, state="pending")


@command.command()
@_selection
def withdraw(**chosen: Unpack[_Selection]) -> int:
    """Take approvals back before they are acted on.

    What has begun or is over by then is named, and the exit status is 1.
    """

    async def one(app: Application, approval: Approval, by: By) -> str:
        await app.journal.cancel(intents.approved_id(approval.approval_id), by, app.settings)
        return f"withdrawn by {by.who}: {_what(approval)}"

    return _decide("withdraw the approval of", one, chosen, state="approved")


def _decide(
    verb: str,
    one: Callable[[Application, Approval, By], Awaitable[str]],
    options: "_Selection",
    *,
    state: str,
    ticks: bool = False,
) -> int:
    """Decide on the selected plans, after asking; return the exit status."""
    listed = options["listed"]
    every = (*options["ids"], *(selection.ids(listed, "approval_id") if listed else ()))
    chosen = Chosen(every, options["runbook"], options["zone"], options["labels"], options["everything"])
    if not every and not chosen.asks:
        raise ConfigError(
            ["no plans selected: name them, or use --all, --zone, --label, --runbook or --from"]
        )
    for label in chosen.labels:
        _label(label)

    async def work(app: Application) -> int:
        app.chosen_runbooks(chosen.runbook)
        now = datetime.now(UTC)
        approvals = [each async for each in app.controls.approvals()]
        meant = _meant(approvals, chosen, state, now)
        if state == "approved" and not chosen.ids:  # a plan that was acted on cannot be meant
            waits = await some_at_once(partial(_waits, app, each) for each in meant)
            meant = list(compress(meant, waits))
        if not meant:
            click.echo("no such plan")
            return DONE
        if (chosen.asks or listed) and not options["yes"]:
            rows = [row(each, app, now) for each in meant]
            columns = {key: COLUMNS[key] for key in COLUMNS if key not in {"state", "decided_by"}}
            show_rows("table", columns, rows)
            many = "1 plan" if len(meant) == 1 else f"{len(meant)} plans"
            confirm(f"{verb} {many}?")
        asker = By(options["by"], datetime.now(UTC), options["why"])
        bad = await for_each("plans", {each.approval_id: partial(one, app, each, asker) for each in meant})
        if ticks and bad < len(meant):
            click.echo(await told_of_tick(app.settings.topic))
        return BAD if bad else DONE

    return running(work, shared_ledger(inputs.settings()))


async def _waits(app: Application, approval: Approval) -> bool:
    record = await app.journal.record(intents.approved_id(approval.approval_id))
    return record is not None and record.state is State.PARKED


def _meant(known: Sequence[Approval], chosen: Chosen, state: str, now: datetime) -> list[Approval]:
    """Return the selected plans. An id or prefix has to name exactly one."""
    if chosen.ids:
        named, absent = selection.by_beginning(known, chosen.ids, lambda each: each.approval_id)
        if absent:
            raise Permanent("no_such_approval", f"there is no approval {', '.join(absent)}")
        return [each for each in named if chosen.takes(each)]
    return [each for each in known if state_of(each, now) == state and chosen.takes(each)]


def _what(approval: Approval) -> str:
    intent = approval.intent
    return f"{intent.action} {intent.runbook} on {approval.name or intent.instance} ({approval.approval_id})"


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError([f"--label {text}: give KEY=VALUE"])
    return name, value
