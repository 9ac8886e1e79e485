"""Freezes of the fleet, a runbook or a VM: a person sets them; a person or their end time lifts them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from logmend.errors import Permanent
from logmend.ledger import damage
from logmend.ledger.documents import (
    FLEET,
    SHARDS,
    acts_key,
    fleet_of,
    pack,
    shard_key,
    subject_key,
    unpack,
)
from logmend.ledger.freezes import Gone, lifted, of_fleet, of_subject, over, under, without
from logmend.ledger.switches import Switches, act_by, recorded, written
from logmend.model.state import (
    Act,
    By,
    Fleet,
    Freeze,
    Scope,
    Subject,
)
from logmend.model.struct import replace
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key

log = logging.getLogger(__name__)

TOGETHER = 50
"""How many VMs are thawed in one transaction."""


class Freezing(Switches):
    """Sets and lifts freezes."""

    async def freeze(self, freeze: Freeze, *, runbook: str | None = None) -> None:
        """Stop all enforcement, or one runbook's. Freezes stack: each has to be lifted."""
        scope = Scope(runbook)

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            if runbook is None:
                return replace(fleet, frozen=over(fleet.frozen, freeze)), [_set(scope, freeze)]
            own = {runbook: over(fleet.frozen_runbooks.get(runbook), freeze)}
            frozen = dict(fleet.frozen_runbooks) | own
            return replace(fleet, frozen_runbooks=frozen), [_set(scope, freeze)]

        await self._change_fleet(change, freeze.at)

    async def resume(self, by: By, *, runbook: str | None = None) -> None:
        """Lift the latest global freeze; for a runbook, lift its latest freeze and close its breaker.

        A breaker that was open starts counting anew: earlier failures no longer count.
        """
        if runbook is None:

            def thawed(fleet: Fleet) -> tuple[Fleet, list[Act]]:
                return replace(fleet, frozen=under(fleet.frozen)), _unset(Scope(), fleet.frozen, by)

            await self._change_fleet(thawed, by.at)
            return
        samples = [shard_key("samples", runbook, shard) for shard in range(SHARDS)]
        acts_at = acts_key(by.at)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            fleet = fleet_of(documents)
            released = replace(
                fleet,
                frozen_runbooks=lifted(fleet.frozen_runbooks, runbook),
                breakers=without(fleet.breakers, runbook),
            )
            acts = _unset(Scope(runbook), fleet.frozen_runbooks.get(runbook), by)
            if (breaker := fleet.breakers.get(runbook)) is not None:
                acts.append(act_by("breaker_closed", by, f"{breaker}", runbook))
            counted = samples if runbook in fleet.breakers else []
            writes: dict[Key, Document | None] = {key: None for key in counted if key in documents}
            return writes | {FLEET: Document(pack(released))} | recorded(acts_at, acts), None

        await self._store.transact([FLEET, *samples, acts_at], step)

    async def freeze_instance(self, instance: InstanceRef, runbook: str, freeze: Freeze) -> None:
        """Stop enforcement of one runbook on one VM. The tick lifts the freeze if it has an end."""
        scope, key, acts_at = Scope(runbook, instance), subject_key(instance, runbook), acts_key(freeze.at)
        ends = freeze.until is not None

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            known = documents.get(key)
            subject = unpack(Subject, known) if known else Subject(instance, runbook)
            frozen = replace(subject, frozen=over(subject.frozen, freeze))
            writes = {key: written(known, frozen)} | recorded(acts_at, [_set(scope, freeze)])
            if ends:
                fleet = fleet_of(documents)
                thawing = tuple(dict.fromkeys([*fleet.thawing, scope]))
                writes[FLEET] = Document(pack(replace(fleet, thawing=thawing)))
            return writes, None

        await self._store.transact([key, acts_at, *([FLEET] if ends else [])], step)

    async def resume_instance(self, instance: InstanceRef, runbook: str, by: By) -> str | None:
        """Release a VM from its latest freeze, hold, rejection, cooldown and the mark that it needs a human.

        Also free a lease whose intent is gone or unreadable, and return which one.
        """

        def change(subject: Subject) -> tuple[Subject, list[Act]]:
            released = replace(
                subject,
                frozen=under(subject.frozen),
                held=False,
                held_by=None,
                cooldown=None,
                needs_human=False,
                human_told=False,
                failures=0,
                relapses=0,
                declined=None,
            )
            if released == subject:
                return subject, []
            return released, [act_by("vm_resumed", by, _released(subject), runbook, instance)]

        await self._change_subject(instance, runbook, change, by.at)
        return await damage.free(self._store, subject_key(instance, runbook))

    async def lift(self, gone: Gone, by: By, scopes: Sequence[Scope] = ()) -> list[tuple[Scope, Freeze]]:
        """Lift the chosen freezes: of everything, of runbooks and of the VMs in ``scopes``."""
        return await self._lift(gone, lambda scope, freeze: _unset(scope, freeze, by)[0], scopes, by.at)

    async def _lift(
        self, gone: Gone, tell: Callable[[Scope, Freeze], Act], scopes: Sequence[Scope], now: datetime
    ) -> list[tuple[Scope, Freeze]]:
        met: list[tuple[Scope, Freeze]] = []
        of_all = of_fleet(await self.fleet(), gone)[1]
        if of_all:

            def thawed(fleet: Fleet) -> tuple[Fleet, list[Act]]:
                left, met = of_fleet(fleet, gone)
                return left, [tell(*each) for each in met]

            await self._change_fleet(thawed, now)
        for scope in scopes:
            assert scope.instance is not None
            assert scope.runbook is not None
            subject = await self.subject(scope.instance, scope.runbook)
            if subject is not None and (lifted_here := of_subject(subject, gone)[1]):

                def released(subject: Subject) -> tuple[Subject, list[Act]]:
                    left, met = of_subject(subject, gone)
                    return left, [tell(*each) for each in met]

                await self._change_subject(scope.instance, scope.runbook, released, now)
                met += lifted_here
        return [*of_all, *met]

    async def thaw(self, now: datetime) -> None:
        """Lift the freezes whose time is over, and take VMs without a timed freeze off the list."""
        await self._lift(lambda each: _over_by(each, now), _ended, (), now)
        thawing = (await self.fleet()).thawing
        for start in range(0, len(thawing), TOGETHER):
            await self._thaw(thawing[start : start + TOGETHER], now)

    async def _thaw(self, scopes: Sequence[Scope], now: datetime) -> None:
        """Thaw VMs. Those that cannot be read stay on the list and do not hold up the others."""
        acts_at, keys = acts_key(now), {each: _key(each) for each in scopes}

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            writes, acts, ended = dict[Key, Document | None](), list[Act](), set[Scope]()
            for scope, key in keys.items():
                try:
                    subject = unpack(Subject, documents[key]) if key in documents else None
                except Permanent as error:
                    log.warning("not thawed: %s: %s", scope, error)
                    continue
                left, met = of_subject(subject, lambda each: _over_by(each, now)) if subject else (None, [])
                if left is not None and met:
                    writes[key] = written(documents[key], left)
                acts += [_ended(*each) for each in met]
                stack = left.frozen.stack if left and left.frozen else ()
                ended |= {scope} if all(each.until is None for each in stack) else set()
            fleet = fleet_of(documents)
            thawing = tuple(each for each in fleet.thawing if each not in ended)
            if thawing != fleet.thawing:
                writes[FLEET] = Document(pack(replace(fleet, thawing=thawing)))
            return writes | recorded(acts_at, acts), None

        read = [FLEET, *keys.values()]
        if step(await self._store.get(read))[0]:
            await self._store.transact([*read, acts_at], step)


def _key(scope: Scope) -> Key:
    assert scope.instance is not None
    assert scope.runbook is not None
    return subject_key(scope.instance, scope.runbook)


def _set(scope: Scope, freeze: Freeze) -> Act:
    return Act("freeze_set", freeze.at, freeze.by, f"{scope}: {freeze}", scope.runbook, scope.instance)


def _unset(scope: Scope, freeze: Freeze | None, by: By) -> list[Act]:
    """Return the act of lifting a freeze; empty if there was none."""
    if freeze is None:
        return []
    return [act_by("freeze_lifted", by, f"{scope}: {freeze}", scope.runbook, scope.instance)]


def _ended(scope: Scope, freeze: Freeze) -> Act:
    detail = f"{scope}: {freeze}"
    return Act("freeze_over", freeze.until or freeze.at, freeze.by, detail, scope.runbook, scope.instance)


def _released(subject: Subject) -> str:
    """Describe what a VM is released from."""
    cooldown = subject.cooldown
    every = (
        str(subject.frozen) if subject.frozen else "",
        f"held by the revert {subject.held_by}" if subject.held else "",
        f"the revert {subject.held_by} of earlier requests" if subject.held_by and not subject.held else "",
        f"cooling down until {cooldown.until:%FT%TZ}" if cooldown else "",
        "left to a person" if subject.needs_human else "",
        str(subject.declined) if subject.declined else "",
        f"{subject.failures} failures" if subject.failures else "",
        f"{subject.relapses} relapses" if subject.relapses else "",
    )
    return "; ".join(filter(None, every))


def _over_by(freeze: Freeze, now: datetime) -> bool:
    return freeze.until is not None and freeze.until <= now
