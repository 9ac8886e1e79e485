"""``logmend cancel``: end waiting requests before they begin."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from logmend.errors import ConfigError
from logmend.model.state import By, Record, State
from logmend.wiring import Application
from logmend_cli import inputs, selection
from logmend_cli.application import (
    by_option,
    for_each,
    instances,
    runbook_option,
    running,
    shared_ledger,
    why_option,
)
from logmend_cli.documented import Command
from logmend_cli.errors import BAD, DONE, confirm, warn
from logmend_cli.output import show_table

WAITS = (State.PARKED, State.WAITING)


@click.command(cls=Command)
@click.argument("ids", metavar="[INTENT]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All waiting work that the other options select.")
@selection.instances_option("What waits for a VM.")
@runbook_option
@selection.ids_option
@why_option
@click.option("--yes", is_flag=True, help="Do not ask before cancelling many.")
@by_option
def command(
    ids: Sequence[str],
    everything: bool,
    named: Sequence[str],
    runbook: str | None,
    listed: Path | None,
    why: str,
    yes: bool,
    by: str,
) -> int:
    """Cancel requests, approvals and events that wait in the ledger, as `logmend status` lists them.

    INTENT is an id, or enough of its beginning. Each ends as `skipped: cancelled`, which the next tick
    records. What has begun or is over is not cancelled: it is named, and the exit status is 1.
    """
    wanted = dict.fromkeys((*ids, *(selection.ids(listed, "intent_id") if listed else ())))
    if not (wanted or everything or named or runbook):
        raise ConfigError(
            ["nothing selected: name what waits, or use --instance, --runbook, --from or --all"]
        )

    async def work(app: Application) -> int:
        app.chosen_runbooks(runbook)
        refs = await instances(app, named)
        known, others = list[Record](), dict[str, State]()
        async for each in app.queues.records():
            if each.state in WAITS:
                known.append(each)
            elif _id(each) in wanted:
                others[_id(each)] = each.state
        found, absent = selection.by_beginning(known, wanted, _id)
        for name in absent:
            warn(
                f"{name}: {f'it is {others[name]}' if name in others else 'nothing with this id is waiting'}"
            )
        chosen = found if wanted else known
        meant = [
            each
            for each in chosen
            if runbook in (None, each.intent.runbook) and (not refs or each.intent.instance in refs)
        ]
        if not meant:
            click.echo("nothing waits")
            return BAD if absent else DONE
        if len(meant) > len(ids) and not yes:
            show_table(
                ("intent", "action", "VM", "runbook", "by"),
                [
                    (i.intent_id, i.action.value, str(i.instance), i.runbook, i.requested_by)
                    for i in (each.intent for each in meant)
                ],
            )
            confirm(f"cancel {len(meant)}?")
        asker = By(by, datetime.now(UTC), why)
        orders = {name: partial(_cancel, app, name, asker) for name in map(_id, meant)}
        return BAD if await for_each("requests", orders) or absent else DONE

    return running(work, shared_ledger(inputs.settings()))


async def _cancel(app: Application, intent_id: str, by: By) -> str:
    await app.journal.cancel(intent_id, by, app.settings)
    return f"cancelled by {by.who}: {intent_id}"


def _id(record: Record) -> str:
    return record.intent.intent_id
