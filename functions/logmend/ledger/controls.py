"""The operators' switches: freeze and resume, the breaker, approvals. Each write says who asked."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

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
from logmend.model.enums import Origin
from logmend.model.state import Approval, Breaker, Fleet, Freeze, Record, State, Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent
from logmend.ports import Document, Key, Store

T = TypeVar("T")


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
            await self._change_fleet(lambda fleet: replace(fleet, frozen=_over(fleet.frozen, freeze)))
        else:
            await self._change_fleet(
                lambda fleet: replace(
                    fleet,
                    frozen_runbooks=dict(fleet.frozen_runbooks)
                    | {runbook: _over(fleet.frozen_runbooks.get(runbook), freeze)},
                )
            )

    async def resume(self, *, runbook: str | None = None) -> None:
        """Lift the latest global freeze, or a runbook's latest freeze and its open breaker.

        A breaker that was open judges anew: what failed before it was released does not count any more.
        """
        if runbook is None:
            await self._change_fleet(lambda fleet: replace(fleet, frozen=_under(fleet.frozen)))
            return
        samples = [shard_key("samples", runbook, shard) for shard in range(SHARDS)]

        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            fleet = fleet_of(found)
            released = replace(
                fleet,
                frozen_runbooks=_lifted(fleet.frozen_runbooks, runbook),
                breakers=_without(fleet.breakers, runbook),
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
        await self._change_subject(
            instance, runbook, lambda subject: replace(subject, frozen=_over(subject.frozen, freeze))
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
                frozen=_under(subject.frozen),
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


STACKED = 10
"""Freezes that are kept one over the other, since stores nest 20 deep at most; then the latest replaces."""


def _over(known: Freeze | None, freeze: Freeze) -> Freeze:
    """Put a freeze over those that are there."""
    full = known is not None and len(known.stack) >= STACKED
    return replace(freeze, over=known.over if known and full else known)


def _under(known: Freeze | None) -> Freeze | None:
    """Give what is left when the latest freeze is lifted."""
    return known.over if known else None


def _lifted(frozen: Mapping[str, Freeze], runbook: str) -> dict[str, Freeze]:
    left = _under(frozen.get(runbook))
    return _without(frozen, runbook) | ({runbook: left} if left else {})


def _without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in mapping.items() if key != name}
