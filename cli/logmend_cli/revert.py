"""``logmend revert``: put VMs back as they were."""

from collections.abc import Sequence
from typing import Any

import click

from logmend.model.enums import Action
from logmend_cli import orders


@click.command()
@orders.options
def command(named: Sequence[str], **chosen: Any) -> int:
    """Undo a runbook on VMs, from what was recorded there. Shows the plan unless --enforce.

    A reverted VM is left alone by automatic events until `logmend resume --instance`.
    """
    return orders.carry_out(Action.REVERT, named, **chosen)
