"""The ledger's rules on each store: memory, SQLite and the real Firestore emulator."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.contract.stores import RACE_TIMEOUT, Backend
from tests.fakes import ANN, REF, START, evidence

from logmend.errors import Permanent, Superseded, Transient
from logmend.ledger import Conclusion, Controls, Journal, Queues, Work, conclusion
from logmend.ledger.documents import SHARDS, intent_key, subject_key
from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.state import (
    Admission,
    Admitted,
    Approval,
    Breaker,
    By,
    Expired,
    Finished,
    Freeze,
    State,
    Turned,
    View,
)
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent, Outcome, Source, Verdict
from logmend.ports import Document, Store
from logmend.settings import Budget, Settings
from logmend.stages import decide, outcomes

RUNBOOK = "workload-cert-refresh"
SETTINGS = replace(Settings(), mode=Mode.ENFORCE)
LEASE = SETTINGS.lease
FULL = Verdict(Result.PARKED, "budget_exhausted")
ROOMY = Budget(1000, timedelta(minutes=10))
FAULT = evidence(101)


def at(**later: float) -> datetime:
    return START + timedelta(**later)


def vm(number: int) -> InstanceRef:
    return InstanceRef(REF.project_id, REF.zone, str(1000 + number))


def message(number: int | str = 1, ref: InstanceRef = REF, **changes: Any) -> Intent:
    """Make the intent of a log entry's message."""
    intent = Intent(
        intent_id=f"m-{number}",
        runbook=RUNBOOK,
        action=Action.ENFORCE,
        instance=ref,
        origin=Origin.LOG_ENTRY,
        source=Source("log_entry"),
        created_at=START,
        event_time=START,
        message_id=str(number),
        repeats=True,
    )
    return replace(intent, **changes)


def notified(number: int, incident_id: str, ref: InstanceRef = REF, runbook: str = RUNBOOK) -> Intent:
    """Make the intent of an incident's notification."""
    source = Source("incident", incident_id=incident_id)
    return message(number, ref, origin=Origin.INCIDENT, source=source, repeats=False, runbook=runbook)


class Books:
    """A process's view of the ledger, with the real rules of admission."""

    def __init__(self, store: Store, owner: str = "one", **changes: Any) -> None:
        self.journal = Journal(store, owner=owner, lease=LEASE)
        self.controls, self.queues = Controls(store), Queues(store)
        self.settings = replace(SETTINGS, **changes)

    async def admit(self, intent: Intent, now: datetime = START, *, resume: bool = False) -> Admission:
        def compose(verdict: Verdict, view: View) -> Outcome:
            return outcomes.of_turned(intent, verdict, view, None, self.settings, now)

        return await self.journal.admit(
            intent,
            lambda view: decide.admission(intent, view, self.settings, now),
            compose,
            now,
            resume=resume,
        )

    async def admitted(self, intent: Intent, now: datetime = START, *, resume: bool = False) -> Admitted:
        answer = await self.admit(intent, now, resume=resume)
        assert isinstance(answer, Admitted), answer
        return answer

    async def turned(self, intent: Intent, now: datetime = START, *, resume: bool = False) -> str:
        answer = await self.admit(intent, now, resume=resume)
        assert isinstance(answer, Turned), answer
        return f"{answer.outcome.result}:{answer.outcome.reason}"

    async def commit(
        self,
        held: Admitted,
        now: datetime = START,
        budget: Budget = ROOMY,
        cohorts: Sequence[decide.Cohort] = (),
    ) -> Verdict | None:
        intent, settings = held.record.intent, self.settings
        return await self.journal.commit(
            held,
            FAULT,
            lambda view: decide.commit(intent, view, settings, now, None),
            budget,
            FULL,
            now,
            cohorts=cohorts,
        )

    async def conclude(
        self,
        held: Admitted,
        result: Result = Result.REMEDIATED,
        now: datetime = START,
        reason: str | None = None,
        **more: Any,
    ) -> Outcome:
        outcome = outcomes.of_intent(
            held.record.intent,
            Verdict(result, reason),
            self.settings,
            now,
            number=held.record.attempt,
        )
        await self.journal.conclude(held, Conclusion(outcome, lambda subject: subject, **more), now)
        return outcome


@pytest.fixture
def books(store: Store) -> Books:
    return Books(store)


# Admission and lease


async def test_the_first_claim_holds_the_vm(books: Books) -> None:
    """Record and lease are there for everyone: who, for which intent, until when."""
    held = await books.admitted(message())
    assert (held.was, held.interrupted, held.lease.fence, held.record.attempt) == (None, None, 1, 1)
    assert held.lease.expires_at == at() + LEASE
    known = await books.journal.record("m-1")
    assert known is not None
    assert (known.state, known.intent) == (State.RUNNING, message())
    subject = await books.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.lease == held.lease


async def test_others_are_told_that_the_vm_is_in_hand(store: Store, books: Books) -> None:
    """What repeats is skipped, what does not is parked until the lease's end, the message itself deferred."""
    held = await books.admitted(message(1))
    other = Books(store, "two")
    assert await other.turned(message(2)) == "skipped:duplicate"
    assert await other.turned(notified(3, "inc")) == "parked:busy"
    assert await other.turned(message(1)) == "deferred:in_hand"
    parked = await books.queues.parked(held.lease.expires_at, 10)
    assert [each.intent.intent_id for each in parked] == ["m-3"]
    assert await books.queues.parked(held.lease.expires_at - timedelta(seconds=1), 10) == []
    known = await books.journal.record("m-1")
    assert known is not None
    assert (known.state, known.outcome) == (State.RUNNING, None), "the holder's record is the holder's"


async def test_another_vm_and_another_runbook_are_free(books: Books) -> None:
    """A lease is for one VM and one runbook."""
    await books.admitted(message(1))
    await books.admitted(message(2, vm(2)))
    await books.admitted(message(3, runbook="ops-agent"))


async def test_expiry_is_checked_in_code_to_the_instant(store: Store, books: Books) -> None:
    """Nothing deletes the lease document; it is void all the same from the moment on that it names."""
    await books.admitted(message(1))
    other = Books(store, "two")
    assert await other.turned(message(2), at() + LEASE - timedelta(microseconds=1)) == "skipped:duplicate"
    assert await other.admit(message(3), at() + LEASE) == Expired("m-1")
    found = await store.get([subject_key(REF, RUNBOOK)])
    assert found, "the dead lease is still stored"


async def test_a_takeover_has_a_higher_fence_and_says_whom_it_interrupts(store: Store, books: Books) -> None:
    """The second attempt of the very intent."""
    first = await books.admitted(message(1))
    second = await Books(store, "two").admitted(message(1), at() + LEASE)
    assert (second.lease.fence, second.record.attempt, second.was) == (2, 2, State.RUNNING)
    assert second.interrupted == first.lease
    third = await Books(store, "three").admitted(message(1), at() + 2 * LEASE)
    assert (third.lease.fence, third.interrupted) == (3, second.lease)


async def test_the_fence_never_falls(books: Books) -> None:
    """Not with the lease given back, nor with another intent."""
    fences = []
    for number in range(3):
        held = await books.admitted(message(number))
        fences.append(held.lease.fence)
        await books.conclude(held)
    assert fences == [1, 2, 3]


async def test_a_finished_message_is_finished_whoever_asks(store: Store, books: Books) -> None:
    """Its outcome comes back, byte for byte, through whatever store."""
    held = await books.admitted(message(1))
    outcome = await books.conclude(held)
    again = await Books(store, "two").admit(message(1), at(days=20))
    assert isinstance(again, Finished)
    assert again.record.outcome == outcome


async def test_a_parked_message_is_finished_for_a_delivery_and_open_for_the_tick(books: Books) -> None:
    """Its redelivery has nothing to do; the tick has."""
    await books.controls.freeze(Freeze("sre", START))
    assert await books.turned(notified(1, "inc")) == "parked:frozen"
    assert isinstance(await books.admit(notified(1, "inc")), Finished)
    await books.controls.resume(ANN)
    assert (await books.admitted(notified(1, "inc"), resume=True)).was is State.PARKED


# Fence and commit point


async def test_a_stale_owner_can_neither_commit_nor_conclude_nor_postpone(store: Store, books: Books) -> None:
    """A newer attempt holds the VM: whatever the old one found is not written."""
    stale = await books.admitted(message(1))
    fresh = await Books(store, "two").admitted(message(1), at() + LEASE)
    for attempt in (
        books.commit(stale),
        books.commit(stale, at() + LEASE),
        books.conclude(stale),
        books.journal.postpone(stale, at(hours=1)),
    ):
        with pytest.raises(Superseded):
            await attempt
    known = await books.journal.record("m-1")
    assert known == fresh.record
    assert (await books.commit(fresh, at() + LEASE)) is None


async def test_nobody_commits_after_the_leases_end_even_if_nobody_else_has_come(books: Books) -> None:
    """Being late is enough; what was found may still be recorded."""
    held = await books.admitted(message(1))
    with pytest.raises(Superseded, match="expired"):
        await books.commit(held, at() + LEASE)
    await books.conclude(held, Result.NOTHING_TO_DO, at() + LEASE)
    known = await books.journal.record("m-1")
    assert known is not None
    assert (known.state, known.committed) == (State.DONE, False)


async def test_an_attempt_concludes_once(books: Books) -> None:
    """Its lease is gone with its conclusion."""
    held = await books.admitted(message(1))
    await books.conclude(held)
    with pytest.raises(Superseded):
        await books.conclude(held, Result.FAILED)
    with pytest.raises(Superseded):
        await books.commit(held)


async def test_committing_puts_the_evidence_on_record_before_anything_is_enforced(
    store: Store, books: Books
) -> None:
    """Whoever takes over knows what was seen, and that enforcement may have begun."""
    held = await books.admitted(message(1))
    assert (await books.commit(held)) is None
    taken = await Books(store, "two").admitted(message(1), at() + LEASE)
    assert taken.record.committed
    assert taken.record.before == FAULT


async def test_evidence_that_is_on_record_stays(store: Store, books: Books) -> None:
    """A later attempt's look does not replace what the first one acted on."""
    await books.commit(await books.admitted(message(1)))
    other = Books(store, "two")
    later = await other.admitted(message(1), at() + LEASE)
    seen = evidence(101, at() + LEASE, unit_present="yes")
    intent = later.record.intent
    now = at() + LEASE
    await other.journal.commit(
        later, seen, lambda view: decide.commit(intent, view, SETTINGS, now, None), ROOMY, FULL, now
    )
    known = await books.journal.record("m-1")
    assert known is not None
    assert known.before == FAULT


SWITCHES: list[Callable[[Controls], Any]] = [
    lambda controls: controls.freeze(Freeze("sre", START)),
    lambda controls: controls.freeze(Freeze("sre", START), runbook=RUNBOOK),
    lambda controls: controls.freeze_instance(REF, RUNBOOK, Freeze("sre", START)),
]


@pytest.mark.parametrize("freeze", SWITCHES, ids=["fleet", "runbook", "instance"])
async def test_a_freeze_holds_at_the_commit_point_and_nothing_is_committed(
    store: Store, books: Books, freeze: Callable[[Controls], Any]
) -> None:
    """However late it comes: the next thing asked is the ledger, and it says no."""
    held = await books.admitted(message(1))
    await freeze(Controls(store))
    verdict = await books.commit(held, budget=Budget(1, timedelta(hours=1)))
    assert verdict is not None
    assert verdict.result is Result.SKIPPED
    assert verdict.reason == "frozen"
    known = await books.journal.record("m-1")
    assert known is not None
    assert not known.committed
    await books.controls.resume(ANN)
    await books.controls.resume(ANN, runbook=RUNBOOK)
    await books.controls.resume_instance(REF, RUNBOOK, ANN)
    assert (await books.commit(held, budget=Budget(1, timedelta(hours=1)))) is None, "not used up"


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        *((each, "frozen") for each in SWITCHES),
        (lambda controls: controls.open_breaker(RUNBOOK, Breaker(START, 5, 6)), "breaker_open"),
    ],
    ids=["fleet", "runbook", "instance", "breaker"],
)
async def test_what_another_process_switches_after_it_was_read_ahead_holds(
    backend: Backend, store: Store, books: Books, switch: Callable[[Controls], Any], reason: str
) -> None:
    """What was read ahead lets nothing through: the commit goes by it only if it is still so."""
    budget = Budget(1, timedelta(hours=1))
    first = await books.admitted(message(1, vm(1)))
    await books.commit(first, budget=budget)
    await books.conclude(first, Result.NOTHING_TO_DO, work=Work.NONE)  # all that a commit reads is there now
    held = await books.admitted(message(2))
    await books.journal.read_ahead(held, budget, ())
    other = backend.open()
    await switch(Controls(other))
    verdict = await books.commit(held, budget=budget)
    assert verdict is not None
    assert verdict.reason == reason
    known = await books.journal.record("m-2")
    assert known is not None
    assert not known.committed
    if other is not store:
        await other.aclose()


async def test_the_mode_is_asked_once_more_at_the_commit_point(store: Store, books: Books) -> None:
    """An instance of another mode that finds the intent enforces nothing."""
    held = await books.admitted(message(1))
    verdict = await Books(store, mode=Mode.OBSERVE).commit(held)
    assert verdict is not None
    assert verdict.result is Result.REFUSED


async def test_an_open_breaker_holds_at_the_commit_point(books: Books) -> None:
    """Until a person resumes the runbook."""
    held = await books.admitted(message(1))
    await books.controls.open_breaker(RUNBOOK, Breaker(START, 5, 6))
    verdict = await books.commit(held)
    assert verdict is not None
    assert verdict.result is Result.SKIPPED
    assert verdict.reason == "breaker_open"
    await books.controls.resume(ANN, runbook=RUNBOOK)
    assert (await books.commit(held)) is None


# Cohorts


def cohort(name: str, count: int = 1, window: timedelta = ROOMY.window) -> decide.Cohort:
    """Give VMs that have something in common, and may be enforced so many at a time."""
    return decide.Cohort(name, Budget(count, window), Verdict(Result.SKIPPED, "budget_exhausted", name))


async def test_a_cohorts_limit_holds_others_back_and_leaves_the_budget_to_them(books: Books) -> None:
    """Whoever finds its zone full takes no place anywhere; a VM of another zone goes on."""
    full, free = cohort("zone us-west1-a"), cohort("zone us-west1-b")
    budget = Budget(2, ROOMY.window)
    one, two, three = [await books.admitted(message(n, vm(n))) for n in (1, 2, 3)]
    assert await books.commit(one, budget=budget, cohorts=[full]) is None
    assert await books.commit(two, budget=budget, cohorts=[free, full]) == full.full
    assert await books.commit(three, budget=budget, cohorts=[free]) is None
    assert books.journal.full_until(RUNBOOK, full.name) is not None
    assert books.journal.full_until(RUNBOOK) is None


async def test_a_cohorts_place_is_given_back_if_nothing_was_changed_and_counted_if_it_was(
    books: Books,
) -> None:
    """As one of the budget, in the same transaction."""
    same = cohort("mig web")
    one, two, three = [await books.admitted(message(n, vm(n))) for n in (1, 2, 3)]
    assert await books.commit(one, cohorts=[same]) is None
    await books.conclude(one, Result.REFUSED, work=Work.NONE)
    assert await books.commit(two, cohorts=[same]) is None
    await books.conclude(two, Result.REMEDIATED, work=Work.OVER)
    assert await books.commit(three, cohorts=[same]) == same.full
    late = START + ROOMY.window
    four = await books.admitted(message(4, vm(4)), late)
    assert await books.commit(four, late, cohorts=[same]) is None


async def test_a_takeover_goes_on_with_the_places_of_the_dead_attempt(store: Store, books: Books) -> None:
    """It finds the limit full by itself, and its end frees every place, also in a group that it left."""
    before, after = cohort("mig old"), cohort("mig new")
    held = await books.admitted(message(1))
    assert await books.commit(held, cohorts=[before]) is None
    other = Books(store, "two")
    again = await other.admitted(message(1), START + LEASE)
    assert await other.commit(again, START + LEASE, cohorts=[before, after]) is None
    await other.conclude(again, Result.REFUSED, START + LEASE, work=Work.NONE)
    late = START + LEASE
    for number, each in enumerate((before, after), 2):
        newcomer = await other.admitted(message(number, vm(number)), late)
        assert await other.commit(newcomer, late, cohorts=[each]) is None, each.name


# Budget


@pytest.mark.parametrize("count", [1, 3, 11])
async def test_a_budget_is_used_to_the_last_unit_and_never_beyond(books: Books, count: int) -> None:
    """Fewer than its documents, or more: that many intents pass, and the rest are told so."""
    budget = Budget(count, timedelta(minutes=10))
    verdicts = [
        await books.commit(await books.admitted(message(n, vm(n))), budget=budget) for n in range(count + 4)
    ]
    assert [each is None for each in verdicts] == [True] * count + [False] * 4
    assert verdicts[-1] == FULL


async def test_a_full_budget_is_remembered_until_a_place_gets_free(books: Books) -> None:
    """Never beyond the end of the oldest that counts, and never for longer than a tenth of the window."""
    budget = Budget(2, timedelta(minutes=8))
    assert books.journal.full_until(RUNBOOK) is None
    held = [await books.admitted(message(n, vm(n))) for n in range(4)]
    for n, each in enumerate(held[:3]):
        await books.commit(each, START + timedelta(seconds=n), budget=budget)
        if n < 2:
            await books.conclude(each, now=START + timedelta(seconds=n), work=Work.OVER)
    assert books.journal.full_until(RUNBOOK) == START + timedelta(seconds=50)
    await books.commit(held[3], START + timedelta(seconds=470), budget=budget)
    assert books.journal.full_until(RUNBOOK) == START + timedelta(minutes=8)
    assert (await books.commit(held[3], START + timedelta(seconds=480), budget=budget)) is None
    assert books.journal.full_until(RUNBOOK) is None


async def test_a_budget_holds_against_many_at_once(books: Books) -> None:
    """Twelve at the same moment, six may: the six."""
    budget = Budget(6, timedelta(minutes=10))
    held = [await books.admitted(message(n, vm(n))) for n in range(12)]

    async def persistently(one: Admitted) -> Verdict | None:
        for _ in range(100):
            try:
                return await books.commit(one, budget=budget)
            except Transient as error:
                if error.reason != "ledger_contention":
                    raise
        raise AssertionError("contention never ended")

    verdicts = await asyncio.gather(*map(persistently, held))
    assert sum(each is None for each in verdicts) == 6


async def test_a_budget_holds_against_processes_that_read_ahead(backend: Backend, store: Store) -> None:
    """Four read the budget before any of them commits, again and again: a place is never given twice."""
    budget = Budget(10, timedelta(minutes=10))
    stores = [store, *(backend.open() for _ in range(3))]
    processes = [Books(each, f"{number}") for number, each in enumerate(stores)]

    async def one(number: int) -> Verdict | None:
        books = processes[number % 4]
        held = await books.admitted(message(number, vm(number)))
        await ready.wait()
        for _ in range(100):
            await books.journal.read_ahead(held, budget, ())
            with suppress(Transient):
                return await books.commit(held, budget=budget)
        raise AssertionError("contention never ended")

    ready = asyncio.Barrier(16)
    verdicts = await asyncio.gather(*map(one, range(16)))
    assert sum(each is None for each in verdicts) == 10
    for each in stores[1:]:
        await each.aclose()


async def test_a_budget_frees_itself_when_its_window_has_passed(books: Books) -> None:
    """Any span of the window, not hours of the clock; it begins with the end of the change."""
    budget = Budget(1, timedelta(minutes=5))
    first = await books.admitted(message(1, vm(1)), at(seconds=-80))
    assert (await books.commit(first, at(seconds=-80), budget)) is None
    await books.conclude(first, now=START, work=Work.OVER)
    second = await books.admitted(message(2, vm(2)))
    assert await books.commit(second, at(minutes=4, seconds=59), budget) == FULL
    assert (await books.commit(second, at(minutes=5), budget)) is None


async def test_an_intent_takes_one_unit_however_often_it_commits(store: Store, books: Books) -> None:
    """A takeover goes on with the reservation of the attempt that died."""
    budget = Budget(2, timedelta(hours=1))
    await books.commit(await books.admitted(message(1, vm(1))), budget=budget)
    again = await Books(store, "two").admitted(message(1, vm(1)), at() + LEASE)
    assert (await books.commit(again, at() + LEASE, budget)) is None
    other = await books.admitted(message(2, vm(2)), at() + LEASE)
    assert (await books.commit(other, at() + LEASE, budget)) is None


async def test_a_clock_that_steps_back_makes_no_room(books: Books) -> None:
    """A reservation from what is now the future counts."""
    budget = Budget(1, timedelta(minutes=5))
    await books.commit(await books.admitted(message(1, vm(1))), budget=budget)
    early = at(hours=-3)
    second = await books.admitted(message(2, vm(2), event_time=early), early)
    assert await books.commit(second, early, budget) == FULL


# Incidents


async def test_an_incident_is_claimed_once(store: Store, books: Books) -> None:
    """Per runbook and VM; another process knows of it too, also after the first notification is done."""
    held = await books.admitted(notified(1, "inc"))
    other = Books(store, "two")
    assert await other.turned(notified(2, "inc")) == "skipped:duplicate"
    await books.conclude(held)
    assert await other.turned(notified(3, "inc"), at(days=9)) == "skipped:duplicate"
    await other.admitted(notified(4, "another"))
    await other.admitted(notified(5, "inc", vm(5)))
    await other.admitted(notified(6, "inc", runbook="ops-agent"))


async def test_an_incidents_own_message_is_no_duplicate_of_itself(store: Store, books: Books) -> None:
    """Deferred, taken over or parked: its redelivery goes on with the same claim."""
    held = await books.admitted(notified(1, "inc"))
    await books.conclude(held, Result.DEFERRED, reason="unreachable")
    await Books(store, "two").admitted(notified(1, "inc"))


# Concluding


async def test_what_is_concluded_waits_to_be_emitted_until_it_is_noted(books: Books) -> None:
    """A crash between ledger and log leaves it on the tick's list; noting twice is fine."""
    held = await books.admitted(message(1))
    outcome = await books.conclude(held)
    assert [each.outcome for each in await books.queues.unemitted(at(), 10)] == [outcome]
    await books.journal.note_emitted(outcome, at())
    await books.journal.note_emitted(outcome, at())
    assert await books.queues.unemitted(at(days=1), 10) == []
    assert isinstance(await books.admit(message(1)), Finished)


async def test_what_did_not_reach_everybody_is_listed_again_if_it_is_what_the_ledger_keeps(
    books: Books,
) -> None:
    """Another outcome of the same intent, or of one that has no record, is not listed."""
    held = await books.admitted(message(1))
    outcome = await books.conclude(held)
    await books.journal.note_emitted(outcome, at())
    for strange in ({"outcome_id": "another"}, {"intent_id": "m-9"}, {"intent_id": None}):
        await books.journal.note_emitted(replace(outcome, **strange), at(), done=False)
    assert await books.queues.unemitted(at(days=1), 10) == []
    await books.journal.note_emitted(outcome, at(), done=False)
    assert [each.outcome for each in await books.queues.unemitted(at(), 10)] == [outcome]


@pytest.mark.parametrize("state", [State.PARKED, State.REQUESTED, State.UNVERIFIED])
async def test_what_is_not_final_is_on_its_work_list_when_it_is_due(books: Books, state: State) -> None:
    """And off it while the tick has it in hand."""
    held = await books.admitted(message(1))
    await books.conclude(held, Result(state.value), due=at(minutes=5))
    due = getattr(books.queues, state.value)
    assert await due(at(minutes=4), 10) == []
    assert [each.state for each in await due(at(minutes=5), 10)] == [state]
    again = await books.admitted(message(1), at(minutes=5), resume=True)
    assert again.was is state
    assert await due(at(days=1), 10) == []
    await books.journal.postpone(again, at(minutes=10))
    assert [each.state for each in await due(at(minutes=10), 10)] == [state]
    assert await due(at(minutes=9), 10) == []
    await books.admitted(message(1), at(minutes=10), resume=True)


async def test_a_dead_lease_is_on_the_list_of_the_tick_and_a_live_one_is_not(books: Books) -> None:
    """It is found by its time, not by a scan."""
    held = await books.admitted(message(1))
    await books.conclude(await books.admitted(message(2, vm(2))))
    assert await books.queues.expired(held.lease.expires_at - timedelta(seconds=1), 10) == []
    (dead,) = await books.queues.expired(held.lease.expires_at, 10)
    assert dead.lease == held.lease


async def test_a_plan_and_a_follow_up_come_with_the_outcome_or_not_at_all(store: Store, books: Books) -> None:
    """Superseded: neither is written."""
    plan = Approval("abc", message(1), FAULT, START, at(days=1))
    follow_up = message(1, intent_id="f-m-1", runbook="ops-agent", message_id=None, origin=Origin.FOLLOW_UP)
    stale = await books.admitted(message(1))
    fresh = await Books(store, "two").admitted(message(1), at() + LEASE)
    with pytest.raises(Superseded):
        await books.conclude(stale, approval=plan, follow_up=follow_up)
    assert [each async for each in books.controls.approvals()] == []
    assert await books.journal.record("f-m-1") is None
    await books.conclude(fresh, approval=plan, follow_up=follow_up)
    assert [each async for each in books.controls.approvals()] == [plan]
    (waiting,) = await books.queues.parked(at(hours=1), 10)
    assert waiting.intent == follow_up


async def test_the_breakers_samples_hold_each_vms_latest(books: Books) -> None:
    """A VM counts once, by how it ended last, and not after the window."""
    for number, failing in ((1, True), (2, True), (1, False), (3, True)):
        held = await books.admitted(message(f"{number}{failing}", vm(number)))
        await books.conclude(held, Result.FAILED if failing else Result.REMEDIATED, failing=failing)
    window = timedelta(hours=1)
    samples = await books.journal.samples(RUNBOOK, window, at(minutes=59))
    assert samples == {str(vm(1)): False, str(vm(2)): True, str(vm(3)): True}
    assert await books.journal.samples(RUNBOOK, window, at(hours=1)) == {}
    assert await books.journal.samples("ops-agent", window, at()) == {}


async def test_the_breakers_samples_are_the_latest_and_do_not_grow_for_ever(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storm over a large fleet would fill their documents otherwise, and each conclusion rewrites one."""
    monkeypatch.setattr(conclusion, "SAMPLES", 1)
    count = 2 * SHARDS
    for number in range(count):
        held = await books.admitted(message(number, vm(number)))
        await books.conclude(held, failing=False)
    samples = await books.journal.samples(RUNBOOK, timedelta(hours=1), at())
    assert len(samples) <= SHARDS
    assert str(vm(count - 1)) in samples


# Operators


async def test_an_order_is_written_once_and_waits_for_the_tick(store: Store, books: Books) -> None:
    """The same id again changes nothing."""
    order = message("x", intent_id="o-1", origin=Origin.OPERATOR, message_id=None, repeats=False)
    assert await books.journal.write(order, START)
    assert not await Books(store, "two").journal.write(replace(order, runbook="ops-agent"), START)
    (waiting,) = await books.queues.parked(START, 10)
    assert (waiting.intent, waiting.state) == (order, State.PARKED)


async def test_freezes_stack_and_each_is_lifted_by_itself_for_everyone(store: Store, books: Books) -> None:
    """Who froze, when and why is kept of each."""
    ann, bob = Freeze("ann", START, "storm"), Freeze("bob", at(minutes=1))
    await books.controls.freeze(ann)
    await Controls(store).freeze(bob)
    assert (await Controls(store).fleet()).frozen == Freeze("bob", at(minutes=1), over=ann)
    assert await books.turned(message(1)) == "skipped:frozen"
    await Controls(store).resume(ANN)
    assert (await Controls(store).fleet()).frozen == ann
    await Controls(store).resume(ANN)
    await books.admitted(message(2))


async def test_resuming_an_instance_keeps_a_lease_that_is_held(store: Store, books: Books) -> None:
    """Clearing cooldown, hold and marks takes the VM from nobody."""
    held = await books.admitted(message(1))
    await Controls(store).resume_instance(REF, RUNBOOK, ANN)
    assert await Books(store, "two").turned(message(2)) == "skipped:duplicate"
    assert (await books.commit(held)) is None
    assert await books.queues.expired(at() + LEASE, 10), "the tick still finds it should its owner die"


async def test_an_expired_plan_and_one_that_never_was_cannot_be_approved(store: Store, books: Books) -> None:
    """Each says why."""
    held = await books.admitted(message(1))
    plan = Approval("abc", message(1), FAULT, START, at(days=1))
    await books.conclude(held, Result.PLANNED, approval=plan)
    for approval_id, now, reason in (
        ("abc", at(days=1), "approval_expired"),
        ("no", START, "no_such_approval"),
    ):
        with pytest.raises(Permanent) as refused:
            await Controls(store).approve(approval_id, By("ann", now))
        assert refused.value.reason == reason
    await Controls(store).reject("abc", By("ann", START))
    with pytest.raises(Permanent, match="rejected by ann"):
        await Controls(store).approve("abc", By("bob", START))
    assert await books.queues.parked(at(days=1), 10) == []


# Races. Memory's rivals are threads: it does not reach beyond its process. The others' are processes.


async def claim_another(store: Store, number: int) -> str:
    return await _claimed(Books(store, f"rival-{number}"), message(number), START)


async def claim_the_same(store: Store, number: int) -> str:
    return await _claimed(Books(store, f"rival-{number}"), message(1), START)


async def take_over(store: Store, number: int) -> str:
    return await _claimed(Books(store, f"rival-{number}"), message(1), at() + LEASE)


async def notify(store: Store, number: int) -> str:
    return await _claimed(Books(store, f"rival-{number}"), notified(number, "inc"), START)


async def _claimed(books: Books, intent: Intent, now: datetime) -> str:
    """Claim as a delivery does: again where the ledger says that there was contention."""
    for _ in range(50):
        try:
            answer = await books.admit(intent, now)
        except Transient as error:
            if error.reason != "ledger_contention":
                raise
            continue
        match answer:
            case Admitted():
                return "owner"
            case Turned(outcome):
                return f"{outcome.result}:{outcome.reason}"
            case _:
                return type(answer).__name__
    raise AssertionError("contention never ended")


async def approve(store: Store, number: int) -> str:
    for _ in range(50):
        try:
            await Controls(store).approve("abc", By(f"rival-{number}", START))
        except Permanent as error:
            return error.reason
        except Transient as error:
            if error.reason != "ledger_contention":
                raise
        else:
            return "owner"
    raise AssertionError("contention never ended")


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_sixteen_processes_that_race_for_one_vm_give_one_owner(backend: Backend) -> None:
    """Different messages about the same VM: one acts, the others are duplicates."""
    told = await asyncio.to_thread(backend.race, claim_another, 16)
    assert sorted(told) == ["owner"] + ["skipped:duplicate"] * 15


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_eight_deliveries_of_one_message_give_one_owner(backend: Backend) -> None:
    """The others are to come again."""
    told = await asyncio.to_thread(backend.race, claim_the_same, 8)
    assert sorted(told) == ["deferred:in_hand"] * 7 + ["owner"]


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_eight_processes_that_race_for_a_dead_lease_give_one_owner(
    backend: Backend, books: Books
) -> None:
    """One takes over, with the one next fence."""
    await books.admitted(message(1))
    told = await asyncio.to_thread(backend.race, take_over, 8)
    assert sorted(told) == ["deferred:in_hand"] * 7 + ["owner"]
    subject = await books.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.fence == 2


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_eight_notifications_of_one_incident_at_once_give_one_owner(backend: Backend) -> None:
    """Whichever was first; the others are duplicates of it."""
    told = await asyncio.to_thread(backend.race, notify, 8)
    assert sorted(told) == ["owner"] + ["skipped:duplicate"] * 7


@pytest.mark.timeout(RACE_TIMEOUT)
async def test_eight_people_who_approve_at_once_give_one_order(backend: Backend, books: Books) -> None:
    """One click counts; the others are told who was first."""
    held = await books.admitted(message(1))
    await books.conclude(held, Result.PLANNED, approval=Approval("abc", message(1), FAULT, START, at(days=1)))
    told = await asyncio.to_thread(backend.race, approve, 8)
    assert sorted(told) == ["approval_decided"] * 7 + ["owner"]
    (order,) = await books.queues.parked(START, 10)
    assert order.intent.intent_id == "a-abc"
    (plan,) = [each async for each in books.controls.approvals()]
    assert order.intent.requested_by == plan.decided_by


# What is stored


@pytest.mark.parametrize(
    "strange", [{}, {"state": "dreaming"}, {"intent": None, "state": "done"}, {"intent": [], "state": 7}]
)
async def test_a_record_that_is_none_stops_whoever_reads_it(
    store: Store, books: Books, strange: dict[str, Any]
) -> None:
    """Neither admitted nor taken for new: the ledger is called corrupt."""
    key = intent_key("m-1")
    await store.transact([key], lambda _: ({key: Document(strange)}, None))
    with pytest.raises(Permanent) as refused:
        await books.admit(message(1))
    assert refused.value.reason == "ledger_corrupt"


async def test_what_is_finished_may_be_deleted_by_the_store_and_what_is_open_may_not(
    store: Store, books: Books
) -> None:
    """Kept a day longer than Pub/Sub keeps messages; what still waits is kept until it is done."""
    key = intent_key("m-1")
    held = await books.admitted(message(1))
    assert (await store.get([key]))[key].expire_at is None
    await books.conclude(held, Result.PARKED, reason="retry", due=START)
    assert (await store.get([key]))[key].expire_at is None
    held = await books.admitted(message(1), resume=True)
    await books.conclude(held)
    assert (await store.get([key]))[key].expire_at == at(days=32)
