"""The options of ``run`` and ``revert``: which VMs, by which runbook, and how."""

from pathlib import Path

import click

from logmend.model.enums import Action
from logmend.model.struct import Struct
from logmend_cli import application, output, selection
from logmend_cli.documented import runbook_names, together
from logmend_cli.run import local

PARALLEL = 16


options = together(
    selection.of_vms,
    click.option(
        "--runbook", shell_complete=runbook_names, default="workload-cert-refresh", show_default=True
    ),
    click.option("--enforce", is_flag=True, help="Act. Without it, only check and show the plan."),
    click.option("--yes", is_flag=True, help="Do not ask before acting."),
    click.option(
        "--via-function",
        is_flag=True,
        help="Queue the request for the function. It only checks unless you add --enforce.",
    ),
    click.option("--standalone", is_flag=True, help="Act from here without the fleet's ledger."),
    local.options,
    click.option("--parallel", type=click.IntRange(1, 200), default=PARALLEL, show_default=True),
    application.why_option,
    application.by_option,
    output.format_option("table", "json", "csv"),
)
"""The arguments and options of a request."""


class OrderOptions(Struct, frozen=True):
    """The command's options by name; None if not given.

    ``canary`` and ``outside_window`` belong to ``run``, the four after them to ``revert``.
    """

    action: Action
    named: tuple[str, ...]
    project: str | None
    where: str | None
    scan: Path | None
    runbook: str
    enforce: bool
    yes: bool
    via_function: bool
    standalone: bool
    on_this_vm: bool
    labels_unchecked: bool
    parallel: int
    why: str
    by: str
    shape: str
    canary: str | None = None
    outside_window: bool = False
    at_most: int | None = None
    since: str | None = None
    zone: str | None = None
