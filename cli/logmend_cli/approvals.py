"""``logmend approvals``: plans that wait for a person."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.state import Approval, By, State
from logmend.model.struct import Struct
from logmend.wiring import Application
from logmend_cli import inputs
from logmend_cli.application import (
    by_option,
    chosen_ids,
    runbook_option,
    running,
    shared_ledger,
    span,
    tick_function,
)
from logmend_cli.errors import BAD, DONE, confirm, warn
from logmend_cli.output import format_option, progress, show_rows

COLUMNS = {
    "approval_id": "approval",
    "state": "state",
    "name": "VM",
    "instance": "instance",
    "owner": "owner",
    "will": "what will happen",
    "evidence": "evidence",
    "age": "age",
    "expires_at": "expires",
    "decided_by": "by",
}
AT_ONCE = 16
"""Plans that are decided on at the same time."""


class Chosen(Struct, frozen=True):
    """Which plans are meant: ids or their beginnings, and what narrows them down."""

    ids: tuple[str, ...] = ()
    runbook: str | None = None
    zone: str | None = None
    labels: tuple[str, ...] = ()
    everything: bool = False

    @property
    def asks(self) -> bool:
        """More may be meant than were named one by one."""
        return self.everything or any((self.runbook, self.zone, self.labels))

    def takes(self, approval: Approval) -> bool:
        """Return whether a plan is what was asked for, beside its id."""
        intent = approval.intent
        return (
            self.runbook in (None, intent.runbook)
            and self.zone in (None, intent.instance.zone)
            and all(approval.labels.get(name) == value for name, value in map(_label, self.labels))
        )


def _selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command the options that say which plans are meant."""
    for decorate in reversed(
        (
            click.argument("ids", metavar="[APPROVAL]...", nargs=-1),
            click.option(
                "--all", "everything", is_flag=True, help="Every plan that the other options leave."
            ),
            click.option("--zone", help="Plans for VMs of a zone."),
            click.option(
                "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Of VMs with a label."
            ),
            runbook_option,
            click.option(
                "--from",
                "listed",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="A file with an id at the beginning of each line, or what `list --format json` prints.",
            ),
            click.option("--why", default="", help="Reason, for the record."),
            click.option("--yes", is_flag=True, help="Do not ask before many are decided on."),
            by_option,
        )
    ):
        command = decorate(command)
    return command


@click.group()
def command() -> None:
    """Plans that wait for a person (LOGMEND_MODE=approve).

    An APPROVAL is an id, or enough of its beginning to mean one plan only.
    """


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also show plans that are decided or expired.")
@format_option("table", "json", "csv")
def list_(everything: bool, shape: str) -> None:
    """List the plans, those that expire first at the top."""

    async def work(app: Application) -> list[dict[str, object]]:
        now = datetime.now(UTC)
        found = sorted([each async for each in app.controls.approvals()], key=lambda each: each.expires_at)
        return [row(each, app, now) for each in found]

    rows = running(work, shared_ledger(inputs.settings()))
    shown = [each for each in rows if everything or each["state"] == "pending"]
    show_rows(shape, COLUMNS, shown, empty="no plan waits")


@command.command()
@_selection
def approve(**chosen: Any) -> int:
    """Approve plans. Guards and the check on the VM run again before anything is enforced.

    What differs from what the plan shows is not done: a new plan waits. One tick is asked for, for all.
    """

    async def one(app: Application, approval: Approval, by: By) -> str:
        intent = await app.controls.approve(approval.approval_id, by)
        return f"approved by {by.who}: {_what(approval)}, as {intent.intent_id}"

    return _decide("approve", one, state="pending", ticks=True, **chosen)


@command.command()
@click.option("--for", "time", metavar="DURATION", help="Let new plans be made again after 90m, 2h, 3d, …")
@_selection
def reject(time: str | None, **chosen: Any) -> int:
    """Reject plans. No new one is made for the VM until `logmend resume --instance`, or for --for."""
    lasts = span(time) if time else None

    async def one(app: Application, approval: Approval, by: By) -> str:
        until = by.at + lasts if lasts else None
        await app.controls.reject(approval.approval_id, by, until)
        return f"rejected by {by.who}{f' until {until:%FT%TZ}' if until else ''}: {_what(approval)}"

    return _decide("reject", one, state="pending", **chosen)


@command.command()
@_selection
def withdraw(**chosen: Any) -> int:
    """Take approvals back before they are acted on; what is in hand or done by then is told."""

    async def one(app: Application, approval: Approval, by: By) -> str:
        await app.journal.cancel(f"a-{approval.approval_id}", by, app.settings)
        return f"withdrawn by {by.who}: {_what(approval)}"

    return _decide("withdraw the approval of", one, state="approved", **chosen)


def _decide(
    verb: str,
    one: Callable[[Application, Approval, By], Awaitable[str]],
    *,
    state: str,
    ids: Sequence[str],
    listed: Path | None,
    why: str,
    yes: bool,
    by: str,
    ticks: bool = False,
    **narrowed: Any,
) -> int:
    """Decide on the plans that are meant, after asking; gives the exit status."""
    every = (*ids, *(chosen_ids(listed, "approval_id") if listed else ()))
    chosen = Chosen(every, **narrowed)
    if not every and not chosen.asks:
        raise ConfigError(
            ["no plans selected: name them, or use --all, --zone, --label, --runbook or --from"]
        )
    for label in chosen.labels:
        _label(label)

    async def work(app: Application) -> int:
        app.chosen_runbooks(chosen.runbook)
        now = datetime.now(UTC)
        known = [each async for each in app.controls.approvals()]
        meant = _meant(known, chosen, state, now)
        if state == "approved" and not chosen.ids:  # what was acted on cannot be meant
            meant = [each for each in meant if await _waits(app, each)]
        if not meant:
            click.echo("no such plan")
            return DONE
        if (chosen.asks or listed) and not yes:
            rows = [row(each, app, now) for each in meant]
            columns = {key: COLUMNS[key] for key in COLUMNS if key not in {"state", "decided_by"}}
            show_rows("table", columns, rows)
            many = "1 plan" if len(meant) == 1 else f"{len(meant)} plans"
            confirm(f"{verb} {many}?")
        bad = await _each(app, one, meant, By(by, datetime.now(UTC), why))
        if ticks and bad < len(meant):
            _told(ticked=await tick_function(app.settings.topic))
        return BAD if bad else DONE

    return running(work, shared_ledger(inputs.settings()))


async def _waits(app: Application, approval: Approval) -> bool:
    known = await app.journal.record(f"a-{approval.approval_id}")
    return known is not None and known.state is State.PARKED


async def _each(
    app: Application,
    one: Callable[[Application, Approval, By], Awaitable[str]],
    meant: Sequence[Approval],
    by: By,
) -> int:
    """Decide on each, some at once; what goes wrong with one is told and stops no other."""
    at_once, bad = asyncio.Semaphore(AT_ONCE), 0

    async def decided(approval: Approval, more: Callable[[int], None]) -> None:
        nonlocal bad
        async with at_once:
            try:
                click.echo(await one(app, approval, by))
            except (Permanent, Transient) as error:
                bad += 1
                warn(f"{approval.approval_id}: {error.reason}: {error.detail}")
        more(1)

    with progress("plans", len(meant)) as more:
        await asyncio.gather(*(decided(each, more) for each in meant))
    return bad


def _meant(known: Sequence[Approval], chosen: Chosen, state: str, now: datetime) -> list[Approval]:
    """Return the plans that are meant. One that is named has to be there, and one only."""
    found: dict[str, Approval] = {}
    for name in chosen.ids:
        same = [each for each in known if each.approval_id.startswith(name)]
        exact = [each for each in same if each.approval_id == name] or same
        if not exact:
            raise Permanent("no_such_approval", f"there is no approval {name}")
        if len(exact) > 1:
            raise ConfigError([f"{name} means {len(exact)} plans: {', '.join(e.approval_id for e in exact)}"])
        found[exact[0].approval_id] = exact[0]
    if chosen.ids:
        return [each for each in found.values() if chosen.takes(each)]
    return [each for each in known if state_of(each, now) == state and chosen.takes(each)]


def _told(*, ticked: bool) -> None:
    if ticked:
        click.echo(
            "asked for a tick: the function takes it up unless it is stopped or down (`logmend status`)"
        )
    else:
        click.echo("the scheduler's next tick acts on it; with LOGMEND_TOPIC set, this command asks for one")


def _what(approval: Approval) -> str:
    intent = approval.intent
    return f"{intent.action} {intent.runbook} on {approval.name or intent.instance} ({approval.approval_id})"


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError([f"--label {text}: give KEY=VALUE"])
    return name, value


def state_of(approval: Approval, now: datetime) -> str:
    """Return what became of a plan; one whose time is over is expired, whether a tick has noted it or not."""
    return "expired" if approval.state == "pending" and approval.expires_at <= now else approval.state


def row(approval: Approval, app: Application, now: datetime) -> dict[str, Any]:
    """Return what a person is shown of a plan: of which VM, on what evidence, and what will happen."""
    intent = approval.intent
    runbook = app.pipeline.runbooks.get(intent.runbook)
    summary = f" ({runbook.summary})" if runbook else ""
    seen = approval.plan.evidence if approval.plan else {}
    return {
        "approval_id": approval.approval_id,
        "state": state_of(approval, now),
        "name": approval.name,
        "instance": str(intent.instance),
        "labels": dict(approval.labels),
        "owner": app.settings.owner_of(approval.labels),
        "runbook": intent.runbook,
        "action": intent.action.value,
        "will": f"check, {intent.action} {intent.runbook}{summary}, check",
        "evidence": ", ".join(f"{key}={value}" for key, value in seen.items() if value is not None),
        "age": f"{max(0, round((now - approval.created_at).total_seconds() / 60))} min",
        "created_at": approval.created_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(timespec="seconds"),
        "before": dict(approval.before.values) if approval.before else None,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at.isoformat() if approval.decided_at else None,
    }
