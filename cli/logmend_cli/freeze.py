"""``logmend freeze``: the kill switch."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.state import By, Freeze
from logmend.model.values import InstanceRef
from logmend.wiring import Application
from logmend_cli import inputs, selection
from logmend_cli.application import (
    by_option,
    instances,
    runbook_option,
    running,
    shared_ledger,
    span,
    tick_function,
    why_option,
)
from logmend_cli.documented import Command
from logmend_cli.errors import warn
from logmend_cli.output import printable

FOREVER = datetime.max.replace(tzinfo=UTC)
PAGE = 100
WAIT = 20
"""Seconds until a tick arrives, at most: Pub/Sub and a cold start."""
UNASKED = (
    "not confirmed (LOGMEND_TOPIC is not set): every process that uses {ledger} reads the freeze before it"
    " enforces, and {seen}; this command cannot tell whether the function uses that ledger"
)
OTHERS = (
    "the ledger does not show which other instances run; each reads the freeze in the transaction that"
    " commits an enforcement"
)


@click.command(cls=Command)
@runbook_option
@selection.instances_option("PROJECT/ZONE/ID; may be repeated.")
@click.option("--wave", is_flag=True, help="Only keep the runbook's wave from growing (LOGMEND_WAVES).")
@why_option
@click.option("--for", "time", metavar="DURATION", help="Lift it automatically after 90m, 2h, 3d, …")
@by_option
def command(
    runbook: str | None, named: Sequence[str], why: str, time: str | None, by: str, *, wave: bool
) -> None:
    """Stop all enforcement, that of one runbook, or that on some VMs, until `logmend resume`.

    It takes effect at once for every attempt that has not passed its commit point: each asks the ledger once
    more before it enforces. Events that will not repeat are parked, and the next tick withdraws OS Config
    requests. Freezes stack: each needs its own `logmend resume`, by the name that is printed here. With
    --for, the first tick after that time lifts it, and records that as `freeze_over`. --wave freezes
    nothing: what the runbook's wave allows goes on, and the next does not begin.

    Shows what is in progress, and whether the function has read the freeze: if LOGMEND_TOPIC is set, the
    command asks for a tick, waits for it, and names the instance that began it. A freeze does not reach a
    process that uses another ledger.
    """
    now = datetime.now(UTC)
    if wave:
        if runbook is None or named or time:
            raise ConfigError(["--wave needs --runbook, and neither --instance nor --for"])
        click.echo(hold_wave(runbook, By(by, now, why), hold=True))
        return
    freeze = Freeze(by, now, why, until=now + span(time) if time else None)

    async def work(app: Application) -> tuple[list[str], list[str]]:
        frozen = await switch(app)
        return frozen, await _reach(app)

    async def switch(app: Application) -> list[str]:
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

    frozen, reach = running(work, shared_ledger(inputs.settings()))
    until = f" until {freeze.until:%FT%TZ}" if freeze.until else ""
    click.echo(f"frozen by {by}{until}: {', '.join(frozen)}. Resume with: logmend resume {freeze.name}")
    for line in reach:
        click.echo(f"  {printable(line)}")


def hold_wave(runbook: str, by: By, *, hold: bool) -> str:
    """Hold a runbook's wave, or let it go on; return the new state in words."""

    async def work(app: Application) -> bool:
        app.chosen_runbooks(runbook)
        return await app.controls.hold_wave(runbook, by, hold=hold)

    changed = running(work, shared_ledger(inputs.settings()))
    if not hold:
        return f"{runbook}: the waves go on" if changed else f"{runbook}: no wave is held"
    return f"{runbook}: the wave stays where it is" if changed else f"{runbook}: there is no wave to hold"


async def _reach(app: Application) -> list[str]:
    """Return what the freeze reaches: who has read it, and what was in progress when it was written."""
    before = (await app.controls.fleet()).last_tick
    held, now = await app.queues.expired(FOREVER, PAGE, _ignore), datetime.now(UTC)
    lines = [
        f"in progress: {each.instance} by {each.lease.owner}; if it had committed, it ends on its own"
        for each in held
        if each.lease and each.lease.expires_at > now
    ]
    if len(held) == PAGE:
        lines.append(f"in progress: only the first {PAGE} were checked; there may be more (logmend status)")
    if not await tick_function(app.settings.topic):
        seen = f"the last tick on it was at {before:%FT%TZ}" if before else "no tick has ever run on it"
        return [*lines, UNASKED.format(ledger=app.settings.state, seen=seen)]
    for _ in range(WAIT):
        fleet = await app.controls.fleet()
        if (read := fleet.last_tick) is not None and read != before:
            who = fleet.last_tick_by or "an unnamed instance"
            return [*lines, f"acknowledged: {who} began a tick at {read:%FT%TZ}, after the freeze", OTHERS]
        await asyncio.sleep(1)
    ledger = app.settings.state
    return [*lines, f"not acknowledged: no instance began a tick on {ledger} within {WAIT} s", OTHERS]


def _ignore(name: str, error: Permanent) -> None:
    """Ignore a document that another version wrote: it must not prevent a freeze."""
    del name, error


async def _known(app: Application, refs: Sequence[InstanceRef]) -> None:
    """Refuse a VM that does not exist; if Compute does not answer, go on with the freeze."""
    for ref in refs:
        try:
            await app.compute.facts(ref)
        except (Permanent, Transient) as error:
            if error.reason == "instance_gone":
                raise ConfigError([f"there is no VM {ref}; nothing was frozen"]) from error
            warn(f"{ref}: not looked up ({error})")
