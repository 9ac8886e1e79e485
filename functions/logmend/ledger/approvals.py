"""Plans that wait for a person: approved, rejected, or expired."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime

from logmend.errors import Permanent
from logmend.ledger import changes
from logmend.ledger.documents import (
    acts_key,
    approval_key,
    decided,
    every,
    intent_key,
    pack,
    subject_document,
    subject_key,
    unpack,
)
from logmend.ledger.switches import Switches, act_by, recorded
from logmend.model.state import (
    Act,
    Approval,
    By,
    Declined,
    Subject,
)
from logmend.model.struct import replace
from logmend.model.values import Intent
from logmend.ports import Document, Key
from logmend.stages import intents


class Approvals(Switches):
    """Records decisions on plans; each plan is decided once."""

    async def approvals(self) -> AsyncIterator[Approval]:
        """Walk through every approval, decided or not."""
        async for _, document in every(self._store, "approvals"):
            yield unpack(Approval, document)

    async def approve(self, approval_id: str, by: By) -> Intent:
        """Approve a plan once and write its intent for the tick. ``Permanent`` says why not."""
        mine, ordered = approval_key(approval_id), intent_key(intents.approved_id(approval_id))
        acts_at = acts_key(by.at)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], Intent]:
            approval = _pending(documents, mine, by.at)
            intent = intents.of_approval(approval, by)
            return {
                mine: decided(approval, "approved", by.at, by.who),
                ordered: changes.parked(intent, by.at),
            } | recorded(acts_at, [_of_plan("plan_approved", approval, by)]), intent

        return await self._store.transact([mine, ordered, acts_at], step)

    async def reject(self, approval_id: str, by: By, until: datetime | None = None) -> Intent:
        """Reject a plan once. It is never acted on, and no other is made for its VM before ``until``.

        If ``until`` is None, that lasts until the VM is released.
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
            return {mine: decided(approval, "rejected", by.at, by.who), subject_at: written} | recorded(
                acts_at, acts
            ), None

        await self._store.transact([mine, subject_at, acts_at], step)
        return intent

    async def expire(self, approval_id: str, now: datetime, owner: str | None = None) -> None:
        """End a plan that was not decided on in time; before that, record once that it will soon expire.

        ``owner`` is the owner named by the VM's label.
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
            return {mine: written} | recorded(acts_at, [replace(act, owner=owner)]), None

        await self._store.transact([mine, acts_at], step)


def _of_plan(reason: str, approval: Approval, by: By | None, more: str = "") -> Act:
    intent = approval.intent
    detail = f"{intent.action} {intent.runbook} on {intent.instance}{more}"
    act = (
        act_by(reason, by, detail, intent.runbook, intent.instance)
        if by
        else Act(reason, approval.expires_at, None, detail, intent.runbook, intent.instance)
    )
    return replace(act, approval_id=approval.approval_id)


def _pending(documents: Mapping[Key, Document], key: Key, now: datetime) -> Approval:
    if key not in documents:
        raise Permanent("no_such_approval", f"there is no approval {key[1]}")
    approval = unpack(Approval, documents[key])
    if approval.state != "pending":
        raise Permanent(
            "approval_decided", f"{approval.state} by {approval.decided_by} at {approval.decided_at}"
        )
    if approval.expires_at <= now:
        raise Permanent("approval_expired", f"it expired at {approval.expires_at}; a new plan is made")
    return approval
