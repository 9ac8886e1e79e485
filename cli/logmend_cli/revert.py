"""``logmend revert``: put VMs back as they were."""

from collections.abc import Sequence
from typing import Any

import click

from logmend.model.enums import Action
from logmend_cli import orders


@click.command()
@orders.options
@click.option(
    "--at-most",
    type=click.IntRange(1),
    help="Revert at most this many VMs in any window of the disruption budget; the rest waits.",
)
def command(named: Sequence[str], **chosen: Any) -> int:
    """Undo a runbook on VMs, from its record there. Without --enforce, show the plan.

    Until `logmend resume --instance`, automatic events and earlier requests leave a reverted VM alone. With
    --enforce it passes freezes and an open breaker that exist already, which it shows before it asks, and
    takes no place of the disruption budget. The next freeze stops it.
    """
    return orders.carry_out(Action.REVERT, named, **chosen)
