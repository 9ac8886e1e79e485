"""The journal of intents: admit one under a lease, commit it to enforcing, conclude it.

Guarantees, each given by one transaction over the intent, its subject and the fleet:

* an intent is admitted by at most one attempt at a time; a later attempt has a higher fence;
* only the attempt with the highest fence can commit or conclude (every other one gets
  :class:`~logmend.errors.Superseded`), and it can commit only before its lease has run out;
* what was committed (``before``, and that enforcement may have begun) is durable before anything is enforced;
* a committed intent keeps its place in the budget until its work is over and a window has passed
  (:mod:`logmend.ledger.places`).

It is not guaranteed that an attempt whose lease has run out has stopped working on the VM. There, ``flock``
and the scripts' second check prevent a second change.
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
    """Intents, leases, budgets and samples in a store, from admission to conclusion."""

    async def note_emitted(self, outcome: Outcome, now: datetime, *, done: bool = True) -> None:
        """Take a journalled outcome off the list of outcomes to emit, or put it there if not ``done``.

        Only an outcome that the ledger keeps for its intent is put on the list.
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
        """Write an operator's intent to the ledger for the tick; False if its id exists already."""
        mine = intent_key(intent.intent_id)

        def step(documents: Documents) -> tuple[dict[Key, Document | None], bool]:
            return ({}, False) if mine in documents else ({mine: changes.parked(intent, now)}, True)

        return await self._store.transact([mine], step)

    async def cancel(self, intent_id: str, by: By, settings: Settings) -> Outcome:
        """End a waiting intent that was not begun, and return its outcome; its approval is withdrawn too.

        ``Permanent`` says why not: there is no such intent, or it is in hand or done.
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
