"""The operators' switches: freeze and resume, the breaker, waves, approvals.

Each change is kept in the same transaction as an act with who asked for it, for the tick to record.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from logmend.ledger import damage
from logmend.ledger.approvals import Approvals
from logmend.ledger.damage import Damage
from logmend.ledger.freezing import Freezing
from logmend.ledger.switches import act_by
from logmend.model.state import (
    Act,
    Acts,
    Breaker,
    By,
    Counting,
    Fleet,
    Wave,
)
from logmend.model.struct import replace
from logmend.ports import Document, Key


class Controls(Freezing, Approvals):
    """Reads and writes the fleet's, a runbook's or a VM's switches in a store."""

    async def open_breaker(self, runbook: str, breaker: Breaker) -> None:
        """Open a runbook's breaker; an open one stays as it is."""

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            if runbook in fleet.breakers:
                return fleet, []
            opened = replace(fleet, breakers={runbook: breaker} | dict(fleet.breakers))
            return opened, [Act("breaker_opened", breaker.opened_at, detail=f"{breaker}", runbook=runbook)]

        await self._change_fleet(change, breaker.opened_at)

    async def set_wave(self, runbook: str, before: Wave | None, wave: Wave, act: Act) -> None:
        """Move a runbook to another wave, unless it was moved meanwhile."""

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            if fleet.waves.get(runbook) != before:
                return fleet, []
            return replace(fleet, waves=dict(fleet.waves) | {runbook: wave}), [act]

        await self._change_fleet(change, act.at)

    async def hold_wave(self, runbook: str, by: By, *, hold: bool) -> bool:
        """Hold or release a runbook's wave; False if it has none or nothing changes."""

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            wave = fleet.waves.get(runbook)
            if wave is None or (wave.held is not None) is hold:
                return fleet, []
            kept = replace(wave, held=by if hold else None)
            reason = "wave_held" if hold else "wave_released"
            act = act_by(reason, by, f"wave {wave.step + 1}", runbook)
            return replace(fleet, waves=dict(fleet.waves) | {runbook: kept}), [act]

        return await self._change_fleet(change, by.at)

    async def note_tick(
        self, now: datetime, by: str | None = None, counts_from: datetime | None = None
    ) -> None:
        """Remember when the last tick began and on which instance.

        ``counts_from`` is when counting begins, if every tick from now on counts; None if this one does not.
        """

        def noted(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            since = fleet.counts_since or counts_from
            counting = Counting(since, now) if counts_from and since else None
            return replace(fleet, last_tick=now, last_tick_by=by, counting=counting), []

        await self._change_fleet(noted, now)

    async def note_queued(self, queued: Mapping[str, datetime], now: datetime) -> None:
        """Remember, for each runbook, until when intents that wait for a place go before new ones.

        Earlier entries stay until their time is over, because a tick may not reach everything that waits.
        """

        def noted(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            left = {name: until for name, until in fleet.queued.items() if until > now}
            return replace(fleet, queued=left | dict(queued)), []

        await self._change_fleet(noted, now)

    async def told(self, acts: Acts) -> None:
        """Take acts on controls off the list of what is still to be recorded."""
        key = ("acts", acts.acts_id)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            return {key: replace(documents[key], queue=None, due=None)} if key in documents else {}, None

        await self._store.transact([key], step)

    async def damage(self, now: datetime) -> list[Damage]:
        """Return the damage in the ledger."""
        return [each async for each in damage.find(self._store, now)]

    async def repair(self, now: datetime, longest: timedelta) -> list[Damage]:
        """Repair what can be repaired and return it: see :func:`logmend.ledger.damage.repair`."""
        return await damage.repair(self._store, now, longest)
