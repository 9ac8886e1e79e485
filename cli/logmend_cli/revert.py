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
    help="Revert at most this many VMs in any window of the disruption budget; the rest waits. With"
    " --remediated-since: this many in a wave.",
)
@click.option(
    "--remediated-since", "since", metavar="TIME", help="The VMs fixed since then: 2h, 7d, or RFC 3339."
)
@click.option("--zone", help="Of those, the VMs of one zone.")
def command(named: Sequence[str], **chosen: Any) -> int:
    """Undo a runbook on VMs, from its record there. Without --enforce, show the plan.

    Until `logmend resume --instance`, automatic events and earlier requests leave a reverted VM alone. With
    --enforce it passes freezes and an open breaker that exist already, which it shows before it asks, and
    takes no place of the disruption budget. The next freeze stops it.

    --remediated-since takes the VMs that the runbook fixed since then and that were not put back, the latest
    first, in waves of --at-most: the next wave begins when the one before is done, and none does after a
    wave with failures.
    """
    return orders.carry_out(Action.REVERT, named, **chosen)
