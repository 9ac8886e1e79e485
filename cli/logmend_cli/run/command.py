"""``logmend run``: remediate VMs, from here or by the function."""

from typing import Any

import click

from logmend.model.enums import Action
from logmend_cli.documented import Command
from logmend_cli.run import options, requests
from logmend_cli.scanned import complete_vms


@click.command(cls=Command)
@options.options
@click.option(
    "--canary",
    metavar="INSTANCE",
    shell_complete=complete_vms,
    help="Enforce on this one VM, even if the breaker is open, and say whether the runbook works again.",
)
@click.option(
    "--outside-window",
    is_flag=True,
    help="Pass the windows and blackouts that are closed now; shows them, and needs --why.",
)
def command(**chosen: Any) -> int:
    """Remediate VMs: PROJECT/ZONE/ID, PROJECT/ZONE/NAME or self links.

    Without --enforce, show the plan: the read-only check on each VM. --enforce goes through the whole
    pipeline: guards, the fleet's lease, budget and freeze, check, enforcement, check, one outcome per VM.
    LOGMEND_MODE=observe forbids it here, too; if no mode is set, --enforce is enough.

    --canary VM --enforce passes an open breaker on that one VM, to see whether the runbook works again. A
    freeze and the budget stop it like any other change. The breaker stays open until
    `logmend resume --runbook`.

    Outside a maintenance window or in a blackout, the request waits. With --outside-window --why TEXT it
    passes those that are closed now; they are shown before it asks, and recorded.

    --local works on the VM that this command runs on, with the script of `logmend runbook export`. There is
    no ledger, so no budget, breaker or cooldown, and --enforce needs --labels-unchecked and root.
    """
    return requests.carry_out(options.OrderOptions(Action.ENFORCE, **chosen))
