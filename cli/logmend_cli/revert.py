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
    help="Put back at most so many VMs in any window of the disruption budget; the rest waits.",
)
def command(named: Sequence[str], **chosen: Any) -> int:
    """Undo a runbook on VMs, from what was recorded there. Shows the plan unless --enforce.

    A reverted VM is left alone by automatic events until `logmend resume --instance`, and by orders that
    do not know of the revert. With --enforce it goes on through a freeze or an open breaker that is there
    already, which it shows before it asks, and takes no place of the disruption budget. The next freeze
    stops it.
    """
    return orders.carry_out(Action.REVERT, named, **chosen)
