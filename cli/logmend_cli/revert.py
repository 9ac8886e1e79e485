"""``logmend revert``: put VMs back as they were before logmend changed them."""

from typing import Any

import click

from logmend.model.enums import Action
from logmend_cli.documented import Command
from logmend_cli.run import options, requests


@click.command(cls=Command)
@options.options
@click.option(
    "--at-most",
    type=click.IntRange(1),
    help="Revert at most this many VMs in any window of the disruption budget; the rest waits. With"
    " --remediated-since: this many in a wave.",
)
@click.option(
    "--remediated-since", "since", metavar="TIME", help="The VMs remediated since then: 2h, 7d, or RFC 3339."
)
@click.option("--zone", help="Only the VMs of one zone, with --remediated-since.")
def command(**chosen: Any) -> int:
    """Undo a runbook on VMs, from its record there. Without --enforce, show the plan.

    Until `logmend resume --instance`, automatic events and earlier requests leave a reverted VM alone. With
    --enforce it passes existing freezes and an open breaker, which it shows before it asks, and takes no
    place in the disruption budget. The next freeze stops it.

    --remediated-since selects the VMs that the runbook remediated since then and that were not reverted, the
    latest first, in waves of --at-most: the next wave begins when the one before is done, but not after a
    wave with failures.
    """
    return requests.carry_out(options.OrderOptions(Action.REVERT, **chosen))
