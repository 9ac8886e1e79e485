"""What Compute says of a VM now, and what guards and windows have against working on it."""

from logmend import settle
from logmend.errors import Permanent
from logmend.model.enums import Action
from logmend.model.struct import Struct
from logmend.model.values import Asked, Group, InstanceFacts, Intent, Verdict
from logmend.ports import Clock, Compute
from logmend.runbook import Runbook
from logmend.settings import Policies, Settings
from logmend.stages import decide


class Guarding(Struct, frozen=True):
    """Looks VMs up and asks the guards."""

    policies: Policies
    clock: Clock
    compute: Compute

    async def guarded(self, intent: Intent, runbook: Runbook) -> tuple[InstanceFacts | None, Verdict | None]:
        """Ask the guards, with fresh facts; a VM without facts from Compute is refused, too."""
        try:
            facts = await self.compute.facts(intent.instance)
        except Permanent as error:
            if (verdict := settle.without_facts(error)) is None:
                raise
            return None, verdict
        return facts, decide.guards(intent, runbook, facts, self.policies.of(intent.runbook))

    async def objection(self, intent: Intent, asked: Asked, runbook: Runbook) -> Verdict | None:
        """Return the guard or window that now objects to work handed to an agent; None if there is none.

        ``Transient`` while Compute gives no answer. A check changes nothing, so it is not asked about.
        """
        if asked.action is Action.CHECK:
            return None
        facts, verdict = await self.guarded(intent, runbook)
        if verdict is not None:
            return verdict
        return decide.waiting(
            decide.outside(intent, self.policies.of(intent.runbook), self.clock.now(), facts)
        )

    async def group(self, intent: Intent, facts: InstanceFacts, settings: Settings) -> Group | None:
        """Look up the VM's managed instance group, if it limits this intent; None: not known."""
        path = facts.lineage.group
        bounds = decide.asks_for_group(facts, settings) and decide.ceiling(intent, settings)
        if path is None or not bounds or intent.puts_back:
            return None
        return await self.compute.group(path, facts.ref.project_id)
