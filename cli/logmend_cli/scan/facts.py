"""Facts of many VMs: a project with many is listed, the rest is looked up one by one, some at once."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from logmend import settle
from logmend.errors import Permanent, Transient
from logmend.model.enums import Result
from logmend.model.values import InstanceFacts, InstanceRef, Verdict
from logmend_cli.errors import NO_CREDENTIALS

if TYPE_CHECKING:
    from logmend.adapters.google.compute import ComputeApi

T = TypeVar("T")

LISTED_FROM = 20
"""So many VMs of one project are worth a listing (a call for 200 VMs, whichever they are)."""
AT_ONCE = 16

_PAUSES = (1.0, 3.0, 10.0)
_LONGEST = 60.0

FactsByVm = dict[InstanceRef, InstanceFacts | Verdict]


class Lookups:
    """Looks VMs up. What goes wrong with one is a verdict of it; no credentials are an error for all.

    ``more`` is told of each VM that is done, ``pauses`` are the seconds waited before each further try.
    """

    def __init__(
        self, compute: "ComputeApi", more: Callable[[int], None], *, pauses: Sequence[float] = _PAUSES
    ) -> None:
        self._compute = compute
        self._more = more
        self._pauses = tuple(pauses)
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def of(self, refs: Iterable[InstanceRef]) -> FactsByVm:
        """Look all of them up. ``Permanent("no_credentials")`` if there are none to do so with."""
        by_project = defaultdict[str, list[InstanceRef]](list)
        for ref in refs:
            by_project[ref.project_id].append(ref)
        known: FactsByVm = {}
        for project_id, few in by_project.items():
            listed = await self._listed(project_id, few) if len(few) >= LISTED_FROM else {}
            known |= {ref: each for ref, each in listed.items() if isinstance(each, Verdict)}
            self._more(len(known.keys() & set(few)))
            left = [ref for ref in few if ref not in known]
            asked = [self._one(ref, listed.get(ref)) for ref in left]
            known |= dict(zip(left, await asyncio.gather(*asked), strict=True))
        return known

    async def _listed(self, project_id: str, refs: Sequence[InstanceRef]) -> FactsByVm:
        """Take the project's listing; of VMs in zones that do not answer nothing is known by it."""
        try:
            found = await self._patiently(lambda: self._compute.instances(project_id))
        except Permanent as error:
            if error.reason in NO_CREDENTIALS:
                raise
            return {}  # may look at VMs, but not list them
        except Transient:
            return {}
        known: FactsByVm = {facts.ref: facts for facts in found.instances}
        gone = Verdict(Result.SKIPPED, "instance_gone", f"project {project_id} does not list it")
        silent = set(found.unreachable)
        return {ref: known.get(ref, gone) for ref in refs if ref in known or ref.zone not in silent}

    async def _one(self, ref: InstanceRef, listed: InstanceFacts | Verdict | None) -> InstanceFacts | Verdict:
        async def ask() -> InstanceFacts:
            if isinstance(listed, InstanceFacts):
                return await self._compute.completed(listed)
            return await self._compute.facts(ref)

        async with self._at_once:
            try:
                return await self._patiently(ask)
            except (Transient, Permanent) as error:
                if error.reason in NO_CREDENTIALS:
                    raise
                return settle.of_error(error)  # as the pipeline judges it
            finally:
                self._more(1)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        for pause in self._pauses:
            try:
                return await ask()
            except Transient as error:
                await asyncio.sleep(min(error.retry_after or pause, _LONGEST))
        return await ask()
