"""Revert the VMs that were remediated since a time, a wave at a time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from logmend.errors import Transient
from logmend.model.enums import Result
from logmend.model.state import Record, State
from logmend.model.values import InstanceRef, Intent, Outcome
from logmend_cli.application import some_at_once, tick_function, written
from logmend_cli.errors import warn

if TYPE_CHECKING:
    from logmend.wiring import Application

GOOD = frozenset({Result.REVERTED, Result.NOTHING_TO_DO, Result.PLANNED, Result.SKIPPED, Result.REFUSED})
"""Results that do not stop the next wave: reverted, nothing to revert, or left alone on purpose."""
POLL = 2.0
"""Seconds between two checks of what the function has done."""
PATIENCE = 2.0
"""Wait for a wave this many times the function's timeout; after that, leave it to the function."""

_Act = Callable[[Sequence[Intent]], Awaitable[list[Outcome]]]


async def remediated_since(
    app: "Application", since: datetime, runbook: str, zone: str | None
) -> list[InstanceRef]:
    """Return the VMs that a runbook fixed since then and that were not reverted, the latest first."""
    fixed = [
        (each.fixed_at, each.instance)
        async for each in app.queues.subjects()
        if each.runbook == runbook
        and each.fixed_at is not None
        and each.fixed_at >= since
        and zone in (None, each.instance.zone)
    ]
    return [instance for _, instance in sorted(fixed, key=lambda each: each[0], reverse=True)]


async def in_waves(orders: Sequence[Intent], size: int, act: _Act) -> list[Outcome]:
    """Carry out requests in waves of ``size``; stop after a wave with a bad result."""
    outcomes: list[Outcome] = []
    for start in range(0, len(orders), size):
        wave = orders[start : start + size]
        ended = await act(wave)
        outcomes += ended
        bad = [each for each in ended if each.result not in GOOD]
        left = len(orders) - start - len(wave)
        warn(f"wave {start // size + 1}: {_came(wave, ended)}")
        if left and (bad or len(ended) < len(wave)):
            warn(f"stopped: {left} VMs were not begun")
            break
    return outcomes


def _came(wave: Sequence[Intent], done: Sequence[Outcome]) -> str:
    """Return a wave's VMs by result, and how many have none, in words."""
    counted = Counter(each.result.value for each in done)
    counted["not done"] = len(wave) - len(done)
    words = ", ".join(f"{many} {word}" for word, many in counted.items() if many)
    return f"{len(wave)} VMs: {words}"


async def by_function(app: "Application", wave: Sequence[Intent]) -> list[Outcome]:
    """Hand a wave to the function and wait for its end; return the final outcomes that arrive in time."""
    ended: dict[str, Outcome] = {}
    left = {each.intent_id for each in await written(app, wave)}
    await tick_function(app.settings.topic)
    try:
        async with asyncio.timeout(PATIENCE * app.settings.function_timeout.total_seconds()):
            while left:
                for known in await some_at_once(partial(_looked_up, app, each) for each in left):
                    if known is not None and known.state is State.DONE and known.outcome is not None:
                        ended[known.intent.intent_id] = known.outcome
                left -= ended.keys()
                if left:
                    await asyncio.sleep(POLL)
    except TimeoutError:
        warn(f"{len(left)} of this wave are not done yet: logmend status")
    return list(ended.values())


async def _looked_up(app: "Application", intent_id: str) -> Record | None:
    """Read the record of a request; try again if the ledger is briefly unreachable."""
    try:
        return await app.journal.record(intent_id)
    except Transient:
        return None
