"""Which executors may reach a VM."""

from logmend.model.values import InstanceFacts, Trouble
from logmend.settings import ExecutorChoice, Settings, SshAddress, SshRoute


def executors(facts: InstanceFacts, settings: Settings) -> tuple[ExecutorChoice, ...]:
    """Return which executors are tried on a VM, in order; empty if none can reach it."""
    if settings.executor is not ExecutorChoice.AUTO:
        return (settings.executor,)
    internal = settings.ssh_route is SshRoute.IAP or settings.ssh_address is SshAddress.INTERNAL
    address = facts.internal_ip if internal else facts.external_ip
    ways = (
        ExecutorChoice.SSH if address else None,
        ExecutorChoice.OSCONFIG if osconfig_enabled(facts) else None,
    )
    return tuple(way for way in ways if way)


def osconfig_enabled(facts: InstanceFacts) -> bool:
    """Return whether the VM's effective metadata enables its OS Config agent."""
    return (facts.effective("enable-osconfig") or "").strip().lower() == "true"


def no_route(trouble: Trouble, settings: Settings) -> bool:
    """Return whether there is no other way to an unreachable VM: ``auto`` has tried everything else."""
    return settings.executor is ExecutorChoice.AUTO and trouble.reason == "unreachable"
