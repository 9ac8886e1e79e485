"""The operators' switches: freeze and resume, the breaker, approvals.

What a person or logmend does with them is kept in the same transaction, with who asked, for the tick to tell.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from logmend.errors import Permanent
from logmend.ledger import changes, damage
from logmend.ledger.damage import Damage
from logmend.ledger.documents import (
    FLEET,
    SHARDS,
    acts_document,
    acts_key,
    approval_key,
    decided,
    every,
    fleet_of,
    intent_key,
    pack,
    shard_key,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.freezes import Gone, lifted, of_fleet, of_subject, over, under, without
from logmend.model.state import (
    Act,
    Acts,
    Approval,
    Breaker,
    By,
    Counting,
    Declined,
    Fleet,
    Freeze,
    Scope,
    Subject,
    Wave,
)
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent
from logmend.ports import Document, Key, Store
from logmend.stages import intents

log = logging.getLogger(__name__)

TOGETHER = 50
"""VMs that are thawed in one transaction."""


class Controls:
    """Reads and writes the fleet's, a runbook's or a VM's switches in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fleet(self) -> Fleet:
        """Read the switches that hold for every VM."""
        documents = await self._store.get([FLEET])
        return fleet_of(documents)

    async def subject(self, instance: InstanceRef, runbook: str) -> Subject | None:
        """Read one VM's state under a runbook."""
        key = subject_key(instance, runbook)
        documents = await self._store.get([key])
        return unpack(Subject, documents[key]) if documents else None

    async def freeze(self, freeze: Freeze, *, runbook: str | None = None) -> None:
        """Stop all enforcement, or that of one runbook. Freezes stack: each has to be lifted."""
        scope = Scope(runbook)

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            if runbook is None:
                return replace(fleet, frozen=over(fleet.frozen, freeze)), [_set(scope, freeze)]
            own = {runbook: over(fleet.frozen_runbooks.get(runbook), freeze)}
            frozen = dict(fleet.frozen_runbooks) | own
            return replace(fleet, frozen_runbooks=frozen), [_set(scope, freeze)]

        await self._change_fleet(change, freeze.at)

    async def resume(self, by: By, *, runbook: str | None = None) -> None:
        """Lift the latest global freeze, or a runbook's latest freeze and its open breaker.

        A breaker that was open counts from now on, not what failed before.
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
                acts.append(_act("breaker_closed", by, f"{breaker}", runbook))
            counted = samples if runbook in fleet.breakers else []
            writes: dict[Key, Document | None] = {key: None for key in counted if key in documents}
            return writes | {FLEET: Document(pack(released))} | _kept(acts_at, acts), None

        await self._store.transact([FLEET, *samples, acts_at], step)

    async def open_breaker(self, runbook: str, breaker: Breaker) -> None:
        """Open a runbook's breaker; an open one stays as it is."""

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            if runbook in fleet.breakers:
                return fleet, []
            opened = replace(fleet, breakers={runbook: breaker} | dict(fleet.breakers))
            return opened, [Act("breaker_opened", breaker.opened_at, detail=f"{breaker}", runbook=runbook)]

        await self._change_fleet(change, breaker.opened_at)

    async def set_wave(self, runbook: str, before: Wave | None, wave: Wave, act: Act) -> None:
        """Move a runbook's wave, unless it was moved meanwhile."""

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            if fleet.waves.get(runbook) != before:
                return fleet, []
            return replace(fleet, waves=dict(fleet.waves) | {runbook: wave}), [act]

        await self._change_fleet(change, act.at)

    async def hold_wave(self, runbook: str, by: By, *, hold: bool) -> bool:
        """Keep a runbook's wave where it is, or let it go on; False if there is none, or it is so already."""

        def change(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            wave = fleet.waves.get(runbook)
            if wave is None or (wave.held is not None) is hold:
                return fleet, []
            kept = replace(wave, held=by if hold else None)
            reason = "wave_held" if hold else "wave_released"
            act = _act(reason, by, f"wave {wave.step + 1}", runbook)
            return replace(fleet, waves=dict(fleet.waves) | {runbook: kept}), [act]

        return await self._change_fleet(change, by.at)

    async def note_tick(
        self, now: datetime, by: str | None = None, counts_from: datetime | None = None
    ) -> None:
        """Remember when the last tick began, and on which instance.

        ``counts_from`` is when counting begins if every tick from now on counts; None if this one does not.
        """

        def noted(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            since = fleet.counts_since or counts_from
            counting = Counting(since, now) if counts_from and since else None
            return replace(fleet, last_tick=now, last_tick_by=by, counting=counting), []

        await self._change_fleet(noted, now)

    async def note_queued(self, queued: Mapping[str, datetime], now: datetime) -> None:
        """Remember for each runbook until when what waits for a place is ahead of what comes anew.

        What was remembered before counts on until its time: not all that waits is asked for by each tick.
        """

        def noted(fleet: Fleet) -> tuple[Fleet, list[Act]]:
            left = {name: until for name, until in fleet.queued.items() if until > now}
            return replace(fleet, queued=left | dict(queued)), []

        await self._change_fleet(noted, now)

    async def freeze_instance(self, instance: InstanceRef, runbook: str, freeze: Freeze) -> None:
        """Stop enforcement of one runbook on one VM. If it has an end, the tick finds it from then on."""
        scope, key, acts_at = Scope(runbook, instance), subject_key(instance, runbook), acts_key(freeze.at)
        ends = freeze.until is not None

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            known = documents.get(key)
            subject = unpack(Subject, known) if known else Subject(instance, runbook)
            frozen = replace(subject, frozen=over(subject.frozen, freeze))
            writes = {key: _written(known, frozen)} | _kept(acts_at, [_set(scope, freeze)])
            if ends:
                fleet = fleet_of(documents)
                thawing = tuple(dict.fromkeys([*fleet.thawing, scope]))
                writes[FLEET] = Document(pack(replace(fleet, thawing=thawing)))
            return writes, None

        await self._store.transact([key, acts_at, *([FLEET] if ends else [])], step)

    async def resume_instance(self, instance: InstanceRef, runbook: str, by: By) -> str | None:
        """Release a VM: its latest freeze, hold, rejection, cooldown, and the mark that it needs a human.

        A lease whose intent is gone or cannot be read is taken off as well: the answer says which.
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
            return released, [_act("vm_resumed", by, _released(subject), runbook, instance)]

        await self._change_subject(instance, runbook, change, by.at)
        return await damage.free(self._store, subject_key(instance, runbook))

    async def lift(self, gone: Gone, by: By, scopes: Sequence[Scope] = ()) -> list[tuple[Scope, Freeze]]:
        """Lift the chosen freezes: of everything, of runbooks, and on the VMs of ``scopes``."""
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
        """Lift the freezes whose time is over; VMs on which none has an end any more are forgotten."""
        await self._lift(lambda each: _over_by(each, now), _ended, (), now)
        thawing = (await self.fleet()).thawing
        for start in range(0, len(thawing), TOGETHER):
            await self._thaw(thawing[start : start + TOGETHER], now)

    async def _thaw(self, scopes: Sequence[Scope], now: datetime) -> None:
        """Thaw VMs; those that cannot be read stay on the list, and keep no other from it."""
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
                    writes[key] = _written(documents[key], left)
                acts += [_ended(*each) for each in met]
                stack = left.frozen.stack if left and left.frozen else ()
                ended |= {scope} if all(each.until is None for each in stack) else set()
            fleet = fleet_of(documents)
            thawing = tuple(each for each in fleet.thawing if each not in ended)
            if thawing != fleet.thawing:
                writes[FLEET] = Document(pack(replace(fleet, thawing=thawing)))
            return writes | _kept(acts_at, acts), None

        read = [FLEET, *keys.values()]
        if step(await self._store.get(read))[0]:
            await self._store.transact([*read, acts_at], step)

    async def told(self, acts: Acts) -> None:
        """Take what was done to controls off the list of what is still to be recorded."""
        key = ("acts", acts.acts_id)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            return {key: replace(documents[key], queue=None, due=None)} if key in documents else {}, None

        await self._store.transact([key], step)

    async def damage(self, now: datetime) -> list[Damage]:
        """Name what is amiss in the ledger."""
        return [each async for each in damage.find(self._store, now)]

    async def repair(self, now: datetime, longest: timedelta) -> list[Damage]:
        """Repair what can be repaired, and name it: see :func:`logmend.ledger.damage.repair`."""
        return await damage.repair(self._store, now, longest)

    # Approvals

    async def approvals(self) -> AsyncIterator[Approval]:
        """Walk through every approval, decided or not."""
        async for _, document in every(self._store, "approvals"):
            yield unpack(Approval, document)

    async def approve(self, approval_id: str, by: By) -> Intent:
        """Approve once: mark the plan and write its intent for the tick. ``Permanent`` says why not."""
        mine, ordered = approval_key(approval_id), intent_key(intents.approved_id(approval_id))
        acts_at = acts_key(by.at)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], Intent]:
            approval = _pending(documents, mine, by.at)
            intent = intents.of_approval(approval, by)
            return {
                mine: decided(approval, "approved", by.at, by.who),
                ordered: changes.parked(intent, by.at),
            } | _kept(acts_at, [_of_plan("plan_approved", approval, by)]), intent

        return await self._store.transact([mine, ordered, acts_at], step)

    async def reject(self, approval_id: str, by: By, until: datetime | None = None) -> Intent:
        """Reject once; the plan is never acted on, and no other is made for its VM before ``until``.

        None is until the VM is released.
        """
        mine, acts_at = approval_key(approval_id), acts_key(by.at)
        intent = _pending(await self._store.get([mine]), mine, by.at).intent
        subject_at = subject_key(intent.instance, intent.runbook)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            approval = _pending(documents, mine, by.at)
            declined = Declined(by.who, by.at, until, by.why)
            acts = [_of_plan("plan_rejected", approval, by, f" until {until:%FT%TZ}" if until else "")]
            known = documents.get(subject_at)
            subject = unpack(Subject, known) if known else Subject(intent.instance, intent.runbook)
            written = replace(
                known or subject_document(subject, by.at), data=pack(replace(subject, declined=declined))
            )
            return {mine: decided(approval, "rejected", by.at, by.who), subject_at: written} | _kept(
                acts_at, acts
            ), None

        await self._store.transact([mine, subject_at, acts_at], step)
        return intent

    async def expire(self, approval_id: str, now: datetime, owner: str | None = None) -> None:
        """End a plan that nobody decided on in time, once; before that, have it told once that it will end.

        ``owner`` is whom its VM's label names.
        """
        mine, acts_at = approval_key(approval_id), acts_key(now)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            approval = unpack(Approval, documents[mine]) if mine in documents else None
            if approval is None or approval.state != "pending":
                return {}, None
            if approval.expires_at <= now:
                written = decided(approval, "expired", approval.expires_at)
                act = _of_plan("approval_expired", approval, None)
            elif not approval.warned and approval.warn_at <= now:
                warned = pack(replace(approval, warned=True))
                written = replace(documents[mine], data=warned, due=approval.expires_at)
                act = _of_plan("approval_expiring", approval, None, f" until {approval.expires_at:%FT%TZ}")
                act = replace(act, at=now)
            else:
                return {}, None
            return {mine: written} | _kept(acts_at, [replace(act, owner=owner)]), None

        await self._store.transact([mine, acts_at], step)

    async def _change_fleet(
        self, change: Callable[[Fleet], tuple[Fleet, Sequence[Act]]], now: datetime
    ) -> bool:
        """Change the switches of every VM in one transaction; False if they are as they were."""
        acts_at = acts_key(now)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], bool]:
            fleet = fleet_of(documents)
            changed, acts = change(fleet)
            if changed == fleet:
                return {}, False
            return {FLEET: Document(pack(changed))} | _kept(acts_at, acts), True

        return await self._store.transact([FLEET, acts_at], step)

    async def _change_subject(
        self,
        instance: InstanceRef,
        runbook: str,
        change: Callable[[Subject], tuple[Subject, Sequence[Act]]],
        now: datetime,
    ) -> None:
        key, acts_at = subject_key(instance, runbook), acts_key(now)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            document = documents.get(key)
            subject = unpack(Subject, document) if document else Subject(instance, runbook)
            changed, acts = change(subject)
            if document is None and changed == subject:
                return {}, None  # nothing is kept of a VM of which there is nothing to say
            return {key: _written(document, changed)} | _kept(acts_at, acts), None

        await self._store.transact([key, acts_at], step)


def _key(scope: Scope) -> Key:
    assert scope.instance is not None
    assert scope.runbook is not None
    return subject_key(scope.instance, scope.runbook)


def _written(document: Document | None, changed: Subject) -> Document:
    """Make the document of a VM whose switches were changed; it stays on the work list that it is on."""
    at = changed.frozen.at if changed.frozen else changed.last_at
    listed = document is not None and document.queue is not None
    kept = (document or Document({})) if listed or at is None else subject_document(changed, at)
    return replace(kept, data=pack(changed))


def _act(
    reason: str, by: By, detail: str, runbook: str | None = None, instance: InstanceRef | None = None
) -> Act:
    said = f"{detail}: {by.why}" if by.why else detail
    return Act(reason, by.at, by.who, said, runbook, instance)


def _set(scope: Scope, freeze: Freeze) -> Act:
    return Act("freeze_set", freeze.at, freeze.by, f"{scope}: {freeze}", scope.runbook, scope.instance)


def _unset(scope: Scope, freeze: Freeze | None, by: By) -> list[Act]:
    """Return the act of lifting a freeze; empty if there was none."""
    if freeze is None:
        return []
    return [_act("freeze_lifted", by, f"{scope}: {freeze}", scope.runbook, scope.instance)]


def _ended(scope: Scope, freeze: Freeze) -> Act:
    detail = f"{scope}: {freeze}"
    return Act("freeze_over", freeze.until or freeze.at, freeze.by, detail, scope.runbook, scope.instance)


def _released(subject: Subject) -> str:
    """Return in words what a VM is released from."""
    cooldown = subject.cooldown
    every = (
        str(subject.frozen) if subject.frozen else "",
        f"held by the revert {subject.held_by}" if subject.held else "",
        f"the revert {subject.held_by} of earlier orders" if subject.held_by and not subject.held else "",
        f"cooling down until {cooldown.until:%FT%TZ}" if cooldown else "",
        "left to a person" if subject.needs_human else "",
        str(subject.declined) if subject.declined else "",
        f"{subject.failures} failures" if subject.failures else "",
        f"{subject.relapses} relapses" if subject.relapses else "",
    )
    return "; ".join(filter(None, every))


def _of_plan(reason: str, approval: Approval, by: By | None, more: str = "") -> Act:
    intent = approval.intent
    detail = f"{intent.action} {intent.runbook} on {intent.instance}{more}"
    act = (
        _act(reason, by, detail, intent.runbook, intent.instance)
        if by
        else Act(reason, approval.expires_at, None, detail, intent.runbook, intent.instance)
    )
    return replace(act, approval_id=approval.approval_id)


def _kept(key: Key, acts: Sequence[Act]) -> dict[Key, Document | None]:
    return {key: acts_document(key, acts)} if acts else {}


def _pending(documents: Mapping[Key, Document], key: Key, now: datetime) -> Approval:
    if key not in documents:
        raise Permanent("no_such_approval", f"there is no approval {key[1]}")
    approval = unpack(Approval, documents[key])
    if approval.state != "pending":
        raise Permanent(
            "approval_decided", f"{approval.state} by {approval.decided_by} at {approval.decided_at}"
        )
    if approval.expires_at <= now:
        raise Permanent(
            "approval_expired", f"it expired at {approval.expires_at}; the plan is looked up anew"
        )
    return approval


def _over_by(freeze: Freeze, now: datetime) -> bool:
    return freeze.until is not None and freeze.until <= now
