"""``logmend cancel``: end what waits before it is begun."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.state import By, Record, State
from logmend.model.values import InstanceRef
from logmend.wiring import Application
from logmend_cli import inputs
from logmend_cli.application import (
    by_option,
    chosen_ids,
    instances,
    runbook_option,
    running,
    shared_ledger,
)
from logmend_cli.errors import BAD, DONE, confirm, warn
from logmend_cli.output import show_table

WAITS = (State.PARKED, State.WAITING)


@click.command()
@click.argument("ids", metavar="[INTENT]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that waits and the other options leave.")
@click.option("--instance", "named", multiple=True, metavar="INSTANCE", help="What waits for a VM.")
@runbook_option
@click.option(
    "--from",
    "listed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an id at the beginning of each line.",
)
@click.option("--why", default="", help="Reason, for the record.")
@click.option("--yes", is_flag=True, help="Do not ask before many are ended.")
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
    """End orders, approvals and events that wait in the ledger, as `logmend status` lists them.

    INTENT is an id, or enough of its beginning. Each ends as `skipped: cancelled`, which the next tick
    records. What is in hand, or was begun, is not cancelled: it is told, and the exit status is 1.
    """
    wanted = (*ids, *(chosen_ids(listed, "intent_id") if listed else ()))
    if not (wanted or everything or named or runbook):
        raise ConfigError(
            ["nothing selected: name what waits, or use --instance, --runbook, --from or --all"]
        )

    async def work(app: Application) -> int:
        app.chosen_runbooks(runbook)
        refs = await instances(app, named)
        known = [each async for each in app.queues.records() if each.state in WAITS]
        meant = _meant(known, wanted, refs, runbook)
        if not meant:
            click.echo("nothing waits")
            return DONE
        if len(meant) > len(ids) and not yes:
            show_table(
                ("intent", "action", "VM", "runbook", "by"),
                [
                    (i.intent_id, i.action.value, str(i.instance), i.runbook, i.requested_by)
                    for i in (each.intent for each in meant)
                ],
            )
            confirm(f"cancel {len(meant)}?")
        bad = 0
        for each in meant:
            try:
                await app.journal.cancel(each.intent.intent_id, By(by, datetime.now(UTC), why), app.settings)
                click.echo(f"cancelled by {by}: {each.intent.intent_id}")
            except (Permanent, Transient) as error:
                bad += 1
                warn(f"{each.intent.intent_id}: {error.reason}: {error.detail}")
        return BAD if bad else DONE

    return running(work, shared_ledger(inputs.settings()))


def _meant(
    known: Sequence[Record], ids: Sequence[str], refs: Sequence[InstanceRef], runbook: str | None
) -> list[Record]:
    found = {}
    for name in ids:
        same = [each for each in known if each.intent.intent_id.startswith(name)]
        exact = [each for each in same if each.intent.intent_id == name] or same
        if not exact:
            raise Permanent("no_such_order", f"nothing waits as {name}")
        if len(exact) > 1:
            raise ConfigError([f"{name} means {len(exact)}; give more of it"])
        found[exact[0].intent.intent_id] = exact[0]
    return [
        each
        for each in (found.values() if ids else known)
        if runbook in (None, each.intent.runbook) and (not refs or each.intent.instance in refs)
    ]
