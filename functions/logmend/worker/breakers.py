"""What the failures of many VMs mean for a runbook: its breaker, and its waves."""

from datetime import datetime, timedelta

from logmend.ledger import Controls, Journal
from logmend.model.enums import Mode
from logmend.model.state import Breaker, Fleet, Wave
from logmend.model.struct import Struct
from logmend.runbook import Runbook
from logmend.settings import Policies
from logmend.stages import decide


class Breakers(Struct, frozen=True):
    """Opens breakers and moves waves on, by what the journal counted."""

    policies: Policies
    journal: Journal
    controls: Controls

    async def guard_breaker(self, runbook: str, now: datetime) -> None:
        """Open a runbook's breaker if too many distinct VMs failed in the window that ends at ``now``."""
        settings = self.policies.of(runbook)
        samples = await self.journal.samples(runbook, settings.breaker_window, now)
        if breaker := decide.breaker(samples, settings, now):
            await self.controls.open_breaker(runbook, breaker)

    async def move_wave(self, runbook: Runbook, fleet: Fleet, now: datetime) -> None:
        """Begin a runbook's next wave if the changes of this one have lasted; pause it if too many failed."""
        settings, name = self.policies.of(runbook.name), runbook.name
        if settings.waves is None or settings.mode is not Mode.ENFORCE:
            return
        known, current = fleet.waves.get(name), decide.wave(runbook, fleet, settings, now)
        if current is None:
            return
        moved: Wave | Breaker = current
        if current is known:
            inclusive = timedelta(microseconds=1)
            samples = await self.journal.samples(name, now - current.since + inclusive, now)
            recent = await self.journal.samples(name, settings.waves.soak, now)
            moved = decide.moved(current, runbook, settings, samples, recent, now)
        if isinstance(moved, Breaker):
            await self.controls.open_breaker(name, moved)
        elif moved is not known:
            begun = decide.wave_act(moved, runbook, settings, now)
            await self.controls.set_wave(name, known, moved, begun)
