"""``logmend run``: remediate VMs, from here or by the function."""

from collections.abc import Sequence
from typing import Any

import click

from logmend.model.enums import Action
from logmend_cli import orders


@click.command()
@orders.options
def command(named: Sequence[str], **chosen: Any) -> int:
    """Remediate VMs: PROJECT/ZONE/ID, PROJECT/ZONE/NAME or self links.

    Without --enforce, show the plan: the read-only check on each VM. --enforce goes through the whole
    pipeline: guards, the fleet's lease, budget and freeze, check, enforcement, check, one outcome per VM.
    LOGMEND_MODE=observe forbids it here, too; if no mode is set, --enforce is enough.
    """
    return orders.carry_out(Action.ENFORCE, named, **chosen)
