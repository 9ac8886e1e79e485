"""Say why a VM has its fault, on demand: look it up, ask the guards, run ``diagnose.sh`` over SSH.

Nothing is changed. An owner's no applies here, too: logmend does not log in to a VM that a guard refuses. If
the guard's reason is itself a cause that the runbook declares (such as an Ops Agent policy), that is the
answer.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime

from logmend.model.enums import Action
from logmend.model.state import Act, Acts
from logmend.model.struct import Struct
from logmend.model.values import Diagnosis, InstanceFacts, InstanceRef
from logmend.ports import Compute, Executors, SessionExecutor
from logmend.runbook import Runbook, diagnosis
from logmend.settings import Settings
from logmend.stages import act, decide, intents


class Diagnosed(Struct, frozen=True):
    """One VM's answer; ``facts`` is None if Compute had none."""

    instance: InstanceRef
    diagnosis: Diagnosis
    facts: InstanceFacts | None = None


async def vm(
    ref: InstanceRef,
    runbook: Runbook,
    compute: Compute,
    executors: Executors,
    settings: Settings,
    now: datetime,
    *,
    as_root: bool = False,
) -> Diagnosed:
    """Diagnose one VM. Whatever goes wrong on the way is an unknown cause that says so; nothing is raised."""
    check = intents.of_operator(
        Action.CHECK, ref, runbook.name, None, now, intent_id=uuid.uuid4().hex, look_only=True
    )
    facts = None
    try:
        facts = await compute.facts(ref)
        verdict = decide.guards(check, runbook, facts, settings)
        if verdict is not None:
            return Diagnosed(ref, _refused(runbook, verdict.reason or "", verdict.detail), facts)
        for executor in executors(facts, runbook.name):
            if isinstance(executor, SessionExecutor):
                async with executor.open(facts, runbook, Action.CHECK) as session:
                    return Diagnosed(ref, await session.diagnose(as_root=as_root), facts)
    except Exception as error:  # noqa: BLE001  one VM's trouble is its own row
        trouble = act.trouble(error)
        return Diagnosed(ref, diagnosis.unknown("not_reached", f"{trouble.reason}: {trouble.detail}"), facts)
    return Diagnosed(ref, diagnosis.unknown("not_reached", "diagnose.sh runs over SSH only"), facts)


def as_root(refs: Sequence[InstanceRef], runbook: str, by: str, now: datetime) -> Acts:
    """Make the outcome that records who had VMs diagnosed as root."""
    acts = [Act("diagnosed_as_root", now, by, runbook=runbook, instance=ref) for ref in refs]
    return Acts(uuid.uuid4().hex, tuple(acts))


def _refused(runbook: Runbook, reason: str, detail: str) -> Diagnosis:
    cause = next((each for each in runbook.causes if each.name == reason), None)
    if cause is None:
        return diagnosis.unknown("not_asked", f"{reason}: {detail}")
    return Diagnosis(cause.name, cause.concerns, (detail,), cause.next_step, cause.runbook)
