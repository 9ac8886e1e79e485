"""Reverts by what happened: the VMs that were fixed since then, a wave at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from logmend.model.enums import Result
from logmend.model.state import State
from logmend.model.values import InstanceRef, Intent, Outcome
from logmend_cli.application import tick_function
from logmend_cli.errors import warn

if TYPE_CHECKING:
    from logmend.wiring import Application

GOOD = frozenset({Result.REVERTED, Result.NOTHING_TO_DO, Result.PLANNED, Result.SKIPPED, Result.REFUSED})
"""What does not stop the next wave: put back, nothing to put back, or left alone on purpose."""
POLL = 2.0
"""Seconds between two looks at what the function has done."""

_Act = Callable[[Sequence[Intent]], Awaitable[list[Outcome]]]


async def remediated_since(
    app: "Application", since: datetime, runbook: str, zone: str | None
) -> list[InstanceRef]:
    """Give the VMs that a runbook fixed since then and that were not put back, the latest first."""
    found = [
        (each.fixed_at, each.instance)
        async for each in app.queues.subjects()
        if each.runbook == runbook
        and each.fixed_at is not None
        and each.fixed_at >= since
        and zone in (None, each.instance.zone)
    ]
    return [instance for _, instance in sorted(found, key=lambda each: each[0], reverse=True)]


async def in_waves(orders: Sequence[Intent], size: int, act: _Act) -> list[Outcome]:
    """Carry orders out in waves of ``size``. A wave that does not come out well is the last one."""
    outcomes: list[Outcome] = []
    for start in range(0, len(orders), size):
        wave = orders[start : start + size]
        done = await act(wave)
        outcomes += done
        bad = [each for each in done if each.result not in GOOD]
        left = len(orders) - start - len(wave)
        warn(f"wave {start // size + 1}: {len(wave)} VMs, {len(bad) + len(wave) - len(done)} not put back")
        if left and (bad or len(done) < len(wave)):
            warn(f"stopped: {left} VMs were not begun")
            break
    return outcomes


async def by_function(app: "Application", wave: Sequence[Intent]) -> list[Outcome]:
    """Hand a wave to the function and wait for its end; gives the final outcomes that there are in time."""
    for each in wave:
        await app.journal.write(each, each.created_at)
    await tick_function(app.settings.topic)
    done: dict[str, Outcome] = {}
    try:
        async with asyncio.timeout(2 * app.settings.function_timeout.total_seconds()):
            while len(done) < len(wave):
                for each in wave:
                    known = await app.journal.record(each.intent_id)
                    if known is not None and known.state is State.DONE and known.outcome is not None:
                        done[each.intent_id] = known.outcome
                if len(done) < len(wave):
                    await asyncio.sleep(POLL)
    except TimeoutError:
        warn(f"{len(wave) - len(done)} of this wave are not done yet: logmend status")
    return list(done.values())
