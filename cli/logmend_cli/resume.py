"""``logmend resume``: lift a freeze, close a breaker, or release a VM that is held."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from logmend.errors import ConfigError
from logmend.ledger import Contacts
from logmend.ledger.freezes import of_fleet, of_subject
from logmend.model.state import By, Freeze, Scope
from logmend.model.values import InstanceRef
from logmend.wiring import Application
from logmend_cli import inputs, selection
from logmend_cli.application import by_option, instances, runbook_option, running, shared_ledger, why_option
from logmend_cli.documented import Command
from logmend_cli.freeze import hold_wave
from logmend_cli.output import printable


@click.command(cls=Command)
@click.argument("freezes", metavar="[FREEZE]...", nargs=-1)
@runbook_option
@selection.instances_option("PROJECT/ZONE/ID; may be repeated.")
@click.option("--forget-host-key", "forget", is_flag=True, help="Also forget the VMs' pinned SSH host keys.")
@click.option("--wave", is_flag=True, help="Let the runbook's waves go on that `freeze --wave` held.")
@why_option
@by_option
def command(
    freezes: Sequence[str],
    runbook: str | None,
    named: Sequence[str],
    *,
    forget: bool,
    wave: bool,
    why: str,
    by: str,
) -> None:
    """Lift freezes by name, or the latest global freeze, or that of a runbook or a VM.

    FREEZE is a name as `logmend freeze` and `logmend status` print it: only that freeze is lifted. Without a
    name, --runbook lifts that runbook's freeze and closes its breaker, and --instance lifts a VM's freeze. If
    there are several, the latest is lifted, and the rest is shown. Resuming an instance also clears its
    cooldown, the hold of a revert, the mark that it needs a human, and a lease whose intent is gone. Parked
    work continues with the next tick. With --forget-host-key the next contact with the VM is a first contact;
    the ledger records who forgot which key, when and why. Find out first why the key has changed.
    """
    if forget and not named:
        raise ConfigError(["--forget-host-key needs --instance"])

    if freezes and (named or runbook):
        raise ConfigError(["a FREEZE is lifted wherever it is: leave out --runbook and --instance"])

    mine = By(by, datetime.now(UTC), why)
    if wave:
        if runbook is None or named or freezes:
            raise ConfigError(["--wave needs --runbook, and no FREEZE or --instance"])
        click.echo(hold_wave(runbook, mine, hold=False))
        return

    async def work(app: Application) -> str:
        if freezes:
            return _said(await _lifted(app, frozenset(freezes), mine), [])
        chosen = app.chosen_runbooks(runbook)
        if named:
            return await _instances_resumed(app, await instances(app, named), chosen, mine, forget=forget)
        return await _fleet_resumed(app, runbook, mine)

    click.echo(printable(running(work, shared_ledger(inputs.settings()))))


def _said(resumed: Sequence[str], still: Sequence[str]) -> str:
    begin = f"resumed: {'; '.join(resumed)}" if resumed else "nothing to lift"
    return "; ".join([begin, *(f"still stopped: {each}" for each in still)])


async def _instances_resumed(
    app: Application, refs: Sequence[InstanceRef], runbooks: Sequence[str], by: By, *, forget: bool
) -> str:
    """Release VMs; return in words what each was released from."""
    resumed, still = list[str](), list[str]()
    for ref in refs:
        resumed.append(str(ref) + (await _forgotten(app, ref, by) if forget else ""))
        for name in runbooks:
            before = await app.controls.subject(ref, name)
            resumed += [f"hold of {name} ended"] if before and before.held else []
            freed = await app.controls.resume_instance(ref, name, by)
            resumed += [f"freed from an orphaned {freed}"] if freed else []
            after = await app.controls.subject(ref, name)
            still += [f"{ref} ({name}) {after.frozen}"] if after and after.frozen else []
    return _said(resumed, still)


async def _fleet_resumed(app: Application, runbook: str | None, by: By) -> str:
    """Lift the latest global freeze, or what stops a runbook; return in words whether there was any."""
    before = await app.controls.fleet()
    await app.controls.resume(by, runbook=runbook)
    after = await app.controls.fleet()
    was_stopped = (
        before.frozen is not None
        if runbook is None
        else runbook in before.frozen_runbooks or runbook in before.breakers
    )
    still = [f"runbook {name} {frozen}" for name, frozen in after.frozen_runbooks.items()]
    still += [f"runbook {name} (breaker open)" for name in after.breakers]
    still += [f"everything {after.frozen}"] if after.frozen else []
    return _said([runbook or "the fleet"] if was_stopped else [], still)


async def _lifted(app: Application, names: frozenset[str], by: By) -> list[str]:
    """Lift freezes by name, also on VMs; if one does not exist, that is an error and none is lifted."""

    def meant(freeze: Freeze) -> bool:
        return freeze.name in names

    fleet = await app.controls.fleet()
    there, scopes = [*of_fleet(fleet, meant)[1]], []
    async for subject in app.queues.subjects():
        if met := of_subject(subject, meant)[1]:
            there += met
            scopes.append(Scope(subject.runbook, subject.instance))
    if unknown := sorted(names - {freeze.name for _, freeze in there}):
        raise ConfigError([f"no freeze {each} (see logmend status); nothing was lifted" for each in unknown])
    return [f"{scope}, {freeze}" for scope, freeze in await app.controls.lift(meant, by, scopes)]


async def _forgotten(app: Application, ref: InstanceRef, by: By) -> str:
    pin = await Contacts(app.store).forget(ref, by)
    return (
        f" (forgotten by {by.who}: {pin.key}, pinned {pin.at:%FT%TZ})" if pin else " (no host key was pinned)"
    )
