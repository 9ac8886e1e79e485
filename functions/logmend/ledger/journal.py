"""The journal of intents: admit one under a lease, commit it to enforcing, conclude it.

Guarantees, each by one transaction over the intent, its subject and the fleet:

* an intent is admitted by at most one attempt at a time; a later attempt has a higher fence;
* only the attempt that holds the highest fence can commit or conclude (:class:`~logmend.errors.Superseded`
  for every other), and only before its lease has run out can it commit;
* what was committed (``before``, and that enforcement may have begun) is durable before anything is enforced;
* an intent that was committed has its place in the budget until its work is over and a window has passed
  (:mod:`logmend.ledger.places`).

Not guaranteed: that an attempt whose lease has run out has stopped working on the VM. There ``flock`` and
the scripts' second check stand between it and a second change.
"""

from datetime import datetime

from logmend.errors import Permanent
from logmend.ledger import changes
from logmend.ledger.conclusion import Conclusions
from logmend.ledger.documents import (
    approval_key,
    decided,
    intent_key,
    unpack,
)
from logmend.ledger.upkeep import Documents
from logmend.model.enums import Result
from logmend.model.state import (
    Approval,
    By,
    Record,
    State,
)
from logmend.model.struct import replace
from logmend.model.values import Intent, Outcome, Verdict
from logmend.ports import Document, Key
from logmend.settings import Settings
from logmend.stages.outcomes import of_intent


class Journal(Conclusions):
    """Intents, leases, budgets and samples in a store: from admission over the commit to the conclusion."""

    async def note_emitted(self, outcome: Outcome, now: datetime, *, done: bool = True) -> None:
        """Take a journalled outcome off the list of what still has to be emitted; not ``done``: put it there.

        Nothing is listed that the ledger does not keep as the outcome of an intent.
        """
        if outcome.intent_id is None:
            return
        mine = intent_key(outcome.intent_id)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], None]:
            document = documents.get(mine)
            if document is None or document.queue != ("unemitted" if done else None):
                return {}, None
            if done:
                return {mine: replace(document, queue=None, due=None)}, None
            record = unpack(Record, document)
            kept = record.outcome is not None and record.outcome.outcome_id == outcome.outcome_id
            return {mine: changes.filed(record, None, now, emitted=False)} if kept else {}, None

        await self._store.transact([mine], step)

    async def write(self, intent: Intent, now: datetime) -> bool:
        """Put an operator's intent in the ledger for the tick. False if that id is there already."""
        mine = intent_key(intent.intent_id)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            return ({}, False) if mine in documents else ({mine: changes.parked(intent, now)}, True)

        return await self._store.transact([mine], step)

    async def cancel(self, intent_id: str, by: By, settings: Settings) -> Outcome:
        """End an intent that waits and was not begun, with its outcome; an approval is withdrawn with it.

        ``Permanent`` says why not: there is none, or it is in hand or done.
        """
        mine, known = intent_key(intent_id), await self.record(intent_id)
        plan = known.intent.approval_id if known else None
        plan_at = approval_key(plan) if plan else None

        def step(found: Documents) -> tuple[dict[Key, Document | None], Outcome]:
            if mine not in found:
                raise Permanent("no_such_order", f"there is no {intent_id}")
            record = unpack(Record, found[mine])
            if record.state not in (State.PARKED, State.WAITING) or record.committed or record.asked:
                raise Permanent("order_in_hand", f"{intent_id} is {record.state}")
            asked = f", requested by {record.intent.requested_by}" if record.intent.requested_by else ""
            said = Verdict(Result.SKIPPED, "cancelled", f"by {by.who}{asked} {by.why}".strip())
            outcome = of_intent(record.intent, said, settings, by.at, number=record.attempt, prior=record)
            outcome = replace(outcome, requested_by=by.who, why=by.why)
            ended = replace(record, state=State.DONE, outcome=outcome)
            writes: dict[Key, Document | None] = {mine: changes.filed(ended, None, by.at, emitted=False)}
            writes |= changes.coming_back(record.intent, outcome, found, by.at)
            if plan_at and plan_at in found:
                writes[plan_at] = decided(unpack(Approval, found[plan_at]), "withdrawn", by.at, by.who)
            return writes, outcome

        after = changes.after_keys(known.intent) if known else []
        return await self._store.transact([mine, *([plan_at] if plan_at else []), *after], step)
