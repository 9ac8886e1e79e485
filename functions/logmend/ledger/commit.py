"""The commit point: a last no, a place in each budget, and what is about to be done, in one transaction."""

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

    Remembers which budgets it found full, so as not to ask for them again and again, and where the attempts
    in hand have their places.
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
        """Pass the commit point: the fence, ``judge`` once more, a place, ``before`` and ``mark`` kept.

        None: it is committed; otherwise nothing is written. A full budget gives ``full``, and is remembered.
        The limits of ``cohorts`` are budgets as well: a place is taken in all of them or in none.
        Without ``before`` the work is an agent's, whose end only its outcome tells; a script's is over when
        the lease has run out at the latest, and what it left ``detached`` so much later. A ledger that cannot
        be read here says nothing of the VM: that is transient.
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
        """Let the store read what a commit will ask for, as far as that is known; ``cohorts`` are names."""
        intent, shard = held.record.intent, self._probed(held.record, budget)[0]
        beside = [changes.cohort_key(intent, name) for name in cohorts]
        await self._store.read_ahead(self._keys(intent, FLEET, changes.place_key(intent, shard), *beside))

    @staticmethod
    def _probed(record: Record, budget: Budget) -> list[int]:
        """Name the documents of the budget that are asked for a place; first the one that has it already."""
        count = places.shards(budget)
        first = shard_of(record.intent.intent_id, count)
        probed = [(first + offset) % count for offset in range(min(count, places.PROBES))]
        return probed if record.place is None else list(dict.fromkeys([record.place, *probed]))

    @staticmethod
    def _keys(intent: Intent, *more: Key) -> list[Key]:
        return [intent_key(intent.intent_id), subject_key(intent.instance, intent.runbook), *more]

    def full_until(self, runbook: str, cohort: str | None = None) -> datetime | None:
        """Return until when a budget is full, as far as this process has seen; None: never seen.

        It is the runbook's own, or that of a cohort by its name.
        """
        return self._full.get(runbook if cohort is None else f"{runbook} {cohort}")
