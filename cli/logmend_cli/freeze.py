"""``logmend freeze``: the kill switch."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.state import Freeze
from logmend.model.values import InstanceRef
from logmend.wiring import Application
from logmend_cli import inputs
from logmend_cli.application import by_option, instances, runbook_option, running, shared_ledger


@click.command()
@runbook_option
@click.option(
    "--instance", "named", multiple=True, metavar="INSTANCE", help="PROJECT/ZONE/ID; may be repeated."
)
@click.option("--why", default="", help="Reason, for the record.")
@by_option
def command(runbook: str | None, named: Sequence[str], why: str, by: str) -> None:
    """Stop all enforcement, that of one runbook, or that on some VMs, until `logmend resume`.

    Effective at once for whatever has not passed its commit point: every attempt asks the ledger a last time
    before it enforces. Events that would not be repeated are parked, and OS Config requests are withdrawn by
    the next tick. Freezes stack: each takes a `logmend resume` of its own.
    """
    freeze = Freeze(by, datetime.now(UTC), why)

    async def work(app: Application) -> list[str]:
        chosen = app.chosen_runbooks(runbook)
        if named:
            refs = await instances(app, named)
            await _known(app, refs)
            for ref in refs:
                for name in chosen:
                    await app.controls.freeze_instance(ref, name, freeze)
            return [str(ref) for ref in refs]
        await app.controls.freeze(freeze, runbook=runbook)
        return [runbook or "everything"]

    frozen = running(work, shared_ledger(inputs.settings()))
    click.echo(f"frozen by {by}: {', '.join(frozen)}. Resume with: {_undo(runbook, named)}")


async def _known(app: Application, refs: Sequence[InstanceRef]) -> None:
    """Refuse a VM that does not exist; where Compute does not say, the freeze goes on."""
    for ref in refs:
        try:
            await app.compute.facts(ref)
        except Permanent as error:
            if error.reason == "instance_gone":
                raise ConfigError([f"there is no VM {ref}; nothing was frozen"]) from error
            click.echo(f"{ref}: not looked up ({error.reason})", err=True)
        except Transient as error:
            click.echo(f"{ref}: not looked up ({error.reason})", err=True)


def _undo(runbook: str | None, named: Sequence[str]) -> str:
    words = ["logmend resume", *(f"--instance {each}" for each in named)]
    return " ".join(words + ([f"--runbook {runbook}"] if runbook else []))
