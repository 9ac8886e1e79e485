"""The commit point: last guards, a place in each budget, and the record of it, all in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from logmend.errors import Permanent, Transient
from logmend.ledger import changes, places
from logmend.ledger.admission import Admissions
from logmend.ledger.changes import Judge
from logmend.ledger.documents import (
    FLEET,
    intent_key,
    shard_of,
    subject_key,
)
from logmend.model.state import (
    Admitted,
    Record,
)
from logmend.model.values import Evidence, Intent, Verdict
from logmend.ports import Key, Store
from logmend.settings import Budget
from logmend.stages.decide import Cohort


class Commits(Admissions):
    """Commits attempts to enforcing.

    Remembers which budgets were full, to avoid asking for them again and again, and where the current
    attempts hold their places.
    """

    def __init__(
        self,
        store: Store,
        *,
        owner: str,
        lease: timedelta,
        budgets: Mapping[str, Budget] = MappingProxyType({}),
    ) -> None:
        super().__init__(store, owner=owner, lease=lease, budgets=budgets)
        self._full: dict[str, datetime] = {}
        self._places: dict[str, list[Key]] = {}

    async def commit(
        self,
        held: Admitted,
        before: Evidence | None,
        judge: Judge,
        budget: Budget,
        full: Verdict,
        now: datetime,
        *,
        mark: str | None = None,
        detached: timedelta = timedelta(),
        cohorts: Sequence[Cohort] = (),
    ) -> Verdict | None:
        """Pass the commit point: check the fence, ask ``judge`` again, take a place, keep what was seen.

        ``before`` and ``mark`` are kept in the record. Return None if the attempt is committed, otherwise the
        verdict; then nothing is written. If the budget is full, return ``full`` and remember that. The limits
        of ``cohorts`` are budgets as well: a place is taken in all of them or in none.
        Without ``before`` an agent does the work, and only its outcome tells when it ends. A script's work
        ends with the lease at the latest, and work that it ``detached`` that much later. An unreadable
        ledger says nothing about the VM, so it is a transient error here.
        """
        intent = held.record.intent
        until = None if before is None else held.lease.expires_at + detached
        frees = budget.retry_at(now)
        for shard in self._probed(held.record, budget):
            try:
                wanted = changes.places_wanted(intent, budget, shard, cohorts)
                answer = await self._store.transact(
                    self._keys(intent, FLEET, *(each.key for each in wanted)),
                    changes.committing(held, before, judge, wanted, shard, until, mark, now),
                )
            except Permanent as error:
                raise Transient(error.reason, error.detail) from error
            if isinstance(answer, changes.Full):
                frees = min(frees, answer.frees or frees)
                if answer.cohort is not None:
                    if answer.cohort.budget.count:  # no place at all: of this VM alone
                        self._full[f"{intent.runbook} {answer.cohort.name}"] = frees
                    return answer.cohort.full
                continue
            if answer is None:
                if not intent.puts_back:
                    self._full.pop(intent.runbook, None)
                self._places[intent.intent_id] = [each.key for each in wanted]
            return answer
        if not intent.puts_back:
            self._full[intent.runbook] = frees
        return full

    async def read_ahead(self, held: Admitted, budget: Budget, cohorts: Iterable[str]) -> None:
        """Let the store read ahead what a commit will need, as far as it is known; ``cohorts`` are names."""
        intent, shard = held.record.intent, self._probed(held.record, budget)[0]
        beside = [changes.cohort_key(intent, name) for name in cohorts]
        await self._store.read_ahead(self._keys(intent, FLEET, changes.place_key(intent, shard), *beside))

    @staticmethod
    def _probed(record: Record, budget: Budget) -> list[int]:
        """Return the budget documents to ask for a place, first the one in which the intent holds one."""
        count = places.shards(budget)
        first = shard_of(record.intent.intent_id, count)
        probed = [(first + offset) % count for offset in range(min(count, places.PROBES))]
        return probed if record.place is None else list(dict.fromkeys([record.place, *probed]))

    @staticmethod
    def _keys(intent: Intent, *more: Key) -> list[Key]:
        return [intent_key(intent.intent_id), subject_key(intent.instance, intent.runbook), *more]

    def full_until(self, runbook: str, cohort: str | None = None) -> datetime | None:
        """Return until when this process knows a budget to be full; None if it has not seen it full.

        The budget is the runbook's own, or the limit of the named cohort.
        """
        return self._full.get(runbook if cohort is None else f"{runbook} {cohort}")
