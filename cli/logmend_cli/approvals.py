"""``logmend approvals``: plans that wait for a person."""

from datetime import UTC, datetime
from typing import Any

import click

from logmend.model.state import Approval, By
from logmend.model.values import Intent
from logmend.wiring import Application
from logmend_cli import inputs
from logmend_cli.application import by_option, running, shared_ledger, tick_function
from logmend_cli.output import format_option, show_rows


@click.group()
def command() -> None:
    """Plans that wait for a person (LOGMEND_MODE=approve)."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are decided or expired.")
@format_option("table", "json", "csv")
def list_(everything: bool, shape: str) -> None:
    """List the plans, those that expire first at the top."""

    async def work(app: Application) -> list[Approval]:
        return [each async for each in app.controls.approvals()]

    now = datetime.now(UTC)
    found = sorted(running(work, shared_ledger(inputs.settings())), key=lambda each: each.expires_at)
    rows = [_row(each, now) for each in found]
    columns = {
        "approval_id": "approval",
        "state": "state",
        "instance": "instance",
        "runbook": "runbook",
        "action": "action",
        "expires_at": "expires",
        "decided_by": "by",
    }
    shown = [row for row in rows if everything or row["state"] == "pending"]
    show_rows(shape, columns, shown, empty="no plan waits")


@command.command()
@click.argument("approval_id")
@by_option
def approve(approval_id: str, by: str) -> None:
    """Approve a plan. Guards and the check on the VM run again before anything is enforced."""

    async def work(app: Application) -> tuple[Intent, bool]:
        approved = await app.controls.approve(approval_id, By(by, datetime.now(UTC)))
        return approved, await tick_function(app.settings.topic)

    intent, ticked = running(work, shared_ledger(inputs.settings()))
    click.echo(
        f"approved by {by}: {intent.action} {intent.runbook} on {intent.instance}, as {intent.intent_id};"
    )
    if ticked:
        click.echo("ticked: the function takes it up unless it is stopped or down; see `logmend status`")
    else:
        click.echo("the scheduler's next tick acts on it; with LOGMEND_TOPIC set, this command ticks")


@command.command()
@click.argument("approval_id")
@by_option
def reject(approval_id: str, by: str) -> None:
    """Reject a plan; it is never acted on."""

    async def work(app: Application) -> None:
        await app.controls.reject(approval_id, By(by, datetime.now(UTC)))

    running(work, shared_ledger(inputs.settings()))
    click.echo(f"rejected by {by}: {approval_id}")


def _row(approval: Approval, now: datetime) -> dict[str, Any]:
    expired = approval.state == "pending" and approval.expires_at <= now
    return {
        "approval_id": approval.approval_id,
        "state": "expired" if expired else approval.state,
        "instance": str(approval.intent.instance),
        "runbook": approval.intent.runbook,
        "action": approval.intent.action.value,
        "created_at": approval.created_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(timespec="seconds"),
        "before": dict(approval.before.values) if approval.before else None,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at.isoformat() if approval.decided_at else None,
    }
