"""The operators' switches: freeze and resume, the breaker, approvals. Each write says who asked."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from logmend.errors import Permanent
from logmend.ledger import damage
from logmend.ledger.damage import Damage
from logmend.ledger.documents import (
    FLEET,
    KEEP,
    SHARDS,
    approval_key,
    fleet_of,
    intent_key,
    pack,
    shard_key,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.freezes import Gone, lifted, of_fleet, of_subject, over, under, without
from logmend.model.enums import Origin
from logmend.model.state import Approval, Breaker, Fleet, Freeze, Record, Scope, State, Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent
from logmend.ports import Document, Key, Store


class Controls:
    """Reads and writes the fleet's, a runbook's or a VM's switches in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fleet(self) -> Fleet:
        """Read the switches that hold for every VM."""
        found = await self._store.get([FLEET])
        return fleet_of(found)

    async def subject(self, instance: InstanceRef, runbook: str) -> Subject | None:
        """Read one VM's state under a runbook."""
        key = subject_key(instance, runbook)
        found = await self._store.get([key])
        return unpack(Subject, found[key]) if found else None

    async def freeze(self, freeze: Freeze, *, runbook: str | None = None) -> None:
        """Stop all enforcement, or that of one runbook. Freezes stack: each has to be lifted."""
        if runbook is None:
            await self._change_fleet(lambda fleet: replace(fleet, frozen=over(fleet.frozen, freeze)))
        else:
            await self._change_fleet(
                lambda fleet: replace(
                    fleet,
                    frozen_runbooks=dict(fleet.frozen_runbooks)
                    | {runbook: over(fleet.frozen_runbooks.get(runbook), freeze)},
                )
            )

    async def resume(self, *, runbook: str | None = None) -> None:
        """Lift the latest global freeze, or a runbook's latest freeze and its open breaker.

        A breaker that was open judges anew: what failed before it was released does not count any more.
        """
        if runbook is None:
            await self._change_fleet(lambda fleet: replace(fleet, frozen=under(fleet.frozen)))
            return
        samples = [shard_key("samples", runbook, shard) for shard in range(SHARDS)]

        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            fleet = fleet_of(found)
            released = replace(
                fleet,
                frozen_runbooks=lifted(fleet.frozen_runbooks, runbook),
                breakers=without(fleet.breakers, runbook),
            )
            counted = samples if runbook in fleet.breakers else []
            return {FLEET: Document(pack(released))} | {key: None for key in counted if key in found}, None

        await self._store.transact([FLEET, *samples], step)

    async def open_breaker(self, runbook: str, breaker: Breaker) -> None:
        """Open a runbook's breaker; an open one stays as it is."""
        await self._change_fleet(
            lambda fleet: replace(fleet, breakers={runbook: breaker} | dict(fleet.breakers))
        )

    async def note_tick(self, now: datetime) -> None:
        """Remember when the last tick ran."""
        await self._change_fleet(lambda fleet: replace(fleet, last_tick=now))

    async def freeze_instance(self, instance: InstanceRef, runbook: str, freeze: Freeze) -> None:
        """Stop enforcement of one runbook on one VM."""
        if freeze.until is not None:
            scope = Scope(runbook, instance)
            await self._change_fleet(
                lambda fleet: replace(fleet, thawing=tuple(dict.fromkeys([*fleet.thawing, scope])))
            )
        await self._change_subject(
            instance, runbook, lambda subject: replace(subject, frozen=over(subject.frozen, freeze))
        )

    async def resume_instance(self, instance: InstanceRef, runbook: str) -> str | None:
        """Release a VM: its latest freeze, hold, cooldown, and the mark that it needs a human.

        A lease whose intent is gone or cannot be read is taken off as well: the answer says which.
        """
        await self._change_subject(
            instance,
            runbook,
            lambda subject: replace(
                subject,
                frozen=under(subject.frozen),
                held=False,
                held_by=None,
                cooldown=None,
                needs_human=False,
                human_told=False,
                failures=0,
                relapses=0,
            ),
        )
        return await damage.free(self._store, subject_key(instance, runbook))

    async def lift(self, gone: Gone, scopes: Sequence[Scope] = ()) -> list[tuple[Scope, Freeze]]:
        """Lift the freezes that are meant, of everything, of runbooks, and on the VMs of ``scopes``."""
        met: list[tuple[Scope, Freeze]] = []
        of_all = of_fleet(await self.fleet(), gone)[1]
        if of_all:
            await self._change_fleet(lambda fleet: of_fleet(fleet, gone)[0])
        for scope in scopes:
            assert scope.instance is not None
            assert scope.runbook is not None
            subject = await self.subject(scope.instance, scope.runbook)
            if subject is not None and (lifted_here := of_subject(subject, gone)[1]):
                await self._change_subject(
                    scope.instance, scope.runbook, lambda subject: of_subject(subject, gone)[0]
                )
                met += lifted_here
        return [*of_all, *met]

    async def over_by(self, now: datetime) -> list[tuple[Scope, Freeze]]:
        """Give the freezes whose time is over: of everything, of runbooks, and on VMs."""
        fleet = await self.fleet()
        met = of_fleet(fleet, lambda each: _over_by(each, now))[1]
        for scope in fleet.thawing:
            assert scope.instance is not None
            assert scope.runbook is not None
            subject = await self.subject(scope.instance, scope.runbook)
            met += of_subject(subject, lambda each: _over_by(each, now))[1] if subject else []
        return met

    async def thaw(self, now: datetime) -> None:
        """Lift the freezes whose time is over; VMs on which none has an end any more are forgotten."""
        thawing = (await self.fleet()).thawing
        await self.lift(lambda each: _over_by(each, now), thawing)
        ended = []
        for scope in thawing:
            assert scope.instance is not None
            assert scope.runbook is not None
            subject = await self.subject(scope.instance, scope.runbook)
            stack = subject.frozen.stack if subject and subject.frozen else ()
            ended += [scope] if all(each.until is None for each in stack) else []
        if ended:
            await self._change_fleet(
                lambda fleet: replace(
                    fleet, thawing=tuple(each for each in fleet.thawing if each not in ended)
                )
            )

    async def damage(self, now: datetime) -> list[Damage]:
        """Name what is amiss in the ledger."""
        return [each async for each in damage.find(self._store, now)]

    async def repair(self, now: datetime, longest: timedelta) -> list[Damage]:
        """Repair what can be repaired, and name it: see :func:`logmend.ledger.damage.repair`."""
        return await damage.repair(self._store, now, longest)

    # Approvals

    async def approvals(self, page: int = 500) -> AsyncIterator[Approval]:
        """Walk through every approval, decided or not."""
        after: str | None = None
        while found := await self._store.scan("approvals", after, page):
            for _, document in found:
                yield unpack(Approval, document)
            after = found[-1][0]

    async def approve(self, approval_id: str, by: str, now: datetime) -> Intent:
        """Approve once: mark the plan and write its intent for the tick. ``Permanent`` says why not."""
        mine, ordered = approval_key(approval_id), intent_key(f"a-{approval_id}")

        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], Intent]:
            approval = _pending(found, mine, now)
            decided = replace(approval, state="approved", decided_by=by, decided_at=now)
            intent = replace(
                approval.intent,
                intent_id=ordered[1],
                origin=Origin.APPROVAL,
                created_at=now,
                event_time=None,
                line_time=None,
                message_id=None,
                repeats=False,
                requested_by=by,
                approval_id=approval_id,
                approved=approval.plan,
                source=replace(approval.intent.source, incident_id=None),
            )
            return {
                mine: Document(pack(decided), expire_at=now + KEEP),
                ordered: Document(pack(Record(intent, State.PARKED)), queue="parked", due=now),
            }, intent

        return await self._store.transact([mine, ordered], step)

    async def reject(self, approval_id: str, by: str, now: datetime) -> None:
        """Reject once; the plan is never acted on."""
        mine = approval_key(approval_id)

        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            decided = replace(_pending(found, mine, now), state="rejected", decided_by=by, decided_at=now)
            return {mine: Document(pack(decided), expire_at=now + KEEP)}, None

        await self._store.transact([mine], step)

    async def _change_fleet(self, change: Callable[[Fleet], Fleet]) -> None:
        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            fleet = fleet_of(found)
            changed = change(fleet)
            return ({FLEET: Document(pack(changed))} if changed != fleet else {}), None

        await self._store.transact([FLEET], step)

    async def _change_subject(
        self, instance: InstanceRef, runbook: str, change: Callable[[Subject], Subject]
    ) -> None:
        key = subject_key(instance, runbook)

        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            document = found.get(key)
            subject = unpack(Subject, document) if document else Subject(instance, runbook)
            changed = change(subject)
            if document is None and changed == subject:
                return {}, None  # nothing is kept of a VM of which there is nothing to say
            at = changed.frozen.at if changed.frozen else changed.last_at
            listed = document is not None and document.queue is not None
            kept = (document or Document({})) if listed or at is None else subject_document(changed, at)
            return {key: replace(kept, data=pack(changed))}, None

        await self._store.transact([key], step)


def _pending(found: Mapping[Key, Document], key: Key, now: datetime) -> Approval:
    if key not in found:
        raise Permanent("no_such_approval", f"there is no approval {key[1]}")
    approval = unpack(Approval, found[key])
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
