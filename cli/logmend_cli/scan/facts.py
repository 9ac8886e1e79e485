"""Facts about many VMs: list a project with many, look the rest up one by one, some at once."""

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
"""List a project from this many VMs on (a call returns 200 VMs, whichever they are)."""
AT_ONCE = 16

_PAUSES = (1.0, 3.0, 10.0)
_LONGEST = 60.0

FactsByVm = dict[InstanceRef, InstanceFacts | Verdict]


class Lookups:
    """Looks VMs up. An error with one VM is its verdict; missing credentials are an error for all.

    ``more`` is called for each VM that is done; ``pauses`` are the seconds before each further try.
    """

    def __init__(
        self, compute: "ComputeApi", more: Callable[[int], None], *, pauses: Sequence[float] = _PAUSES
    ) -> None:
        self._compute = compute
        self._more = more
        self._pauses = tuple(pauses)
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def of(self, refs: Iterable[InstanceRef]) -> FactsByVm:
        """Look all of them up; raise ``Permanent("no_credentials")`` without credentials."""
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
        """Return what the project's listing says; it leaves out VMs in zones that do not answer."""
        try:
            found = await self._patiently(lambda: self._compute.instances(project_id))
        except Permanent as error:
            if error.reason in NO_CREDENTIALS:
                raise
            return {}  # the caller may look at VMs, but not list them
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
