"""A VM that says the same again: an entry when it begins, a count after that, each event once."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.test_ledger_pipeline import Disturbed, Killed
from tests.fakes import ANN, COUNTED, REF, World, entry, incident, push, world
from tests.unit.test_pipeline import operator

from logmend.errors import Permanent, Transient
from logmend.ledger import repeats
from logmend.ledger.documents import FLEET
from logmend.model.enums import Mode, Result
from logmend.model.state import Freeze
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Outcome
from logmend.outcome import ack, document
from logmend.ports import Document, Key
from logmend.settings import RepeatsChoice
from logmend.stages import outcomes

EACH: dict[str, Any] = {**COUNTED, "repeats": RepeatsChoice.EACH}
TEN = {"minutes": 10}
FORGED: dict[str, Any] = {"logName": "projects/other-project/logs/syslog"}


async def says(w: World, number: int, ref: InstanceRef = REF, **changes: Any) -> Outcome:
    """Deliver one more line of a VM, as it is now."""
    now = w.clock.now()
    return await w.deliver(push(entry(ref, at=now, **changes), str(number), at=now))


async def complains(w: World, first: int, times: int) -> None:
    """Let a VM say its line every ten minutes, with a tick after each."""
    for number in range(first, first + times):
        await says(w, number)
        await w.tick(**TEN)


async def counting(w: World) -> None:
    """Let it be known that every instance counts: a tick of each would have come meanwhile."""
    await w.tick()
    w.clock.tick(minutes=11)


def after(first: World, **settings: Any) -> World:
    """Make the process that comes after, with the same ledger, fleet, clock and log of outcomes."""
    later = world(store=first.store, fleet=first.fleet, clock=first.clock, **settings)
    later.outcomes.written = first.outcomes.written
    return later


def told(w: World) -> list[tuple[str, int]]:
    """Give every entry in short, each once, with its count."""
    every = {each.outcome_id: each for each in w.outcomes.written}
    return [
        (f"{each.result}: {each.reason}" if each.reason else str(each.result), each.count)
        for each in every.values()
    ]


def events(w: World) -> int:
    """Sum up of how many events there is a final outcome."""
    every = {each.outcome_id: each for each in w.outcomes.written if each.final}
    return sum(each.count for each in every.values())


async def test_a_complaining_vm_has_four_entries_a_day_that_tell_of_every_line() -> None:
    """In observe: what was seen, that it cools down, how often it said so, and the day's own end."""
    w = world(**COUNTED)
    await complains(w, 0, 3 * 144)
    await w.tick(hours=27)
    assert events(w) == 3 * 144
    assert len(told(w)) <= 4 * 4
    assert [word for word, _ in told(w)[:2]] == ["planned", "skipped: cooling_down"]
    assert w.fleet.vms[REF.instance_id].checks == 3, "counting changes nothing of what is done"


async def test_a_count_says_when_it_began_and_ended_and_names_the_latest() -> None:
    """An entry of 11 lines has the time of the last, the first's beside it, and no intent of its own."""
    w = world(**COUNTED)
    start = w.clock.now()
    await complains(w, 0, 13)
    await w.tick(hours=3)
    last = w.outcomes.written[-1]
    assert (last.count, last.reason, last.intent_id) == (11, "cooling_down", None)
    assert last.first_at == start + timedelta(minutes=20)
    assert last.at == start + timedelta(minutes=120)
    assert (last.message_id, last.instance) == ("12", REF)
    assert "11 more like the one recorded before" in last.detail
    said = document.document(last)
    assert (said["count"], said["first_at"]) == (11, "2026-03-01T12:20:00.000000Z")
    assert document.from_json(said) == last


async def test_the_answer_says_that_an_event_was_counted() -> None:
    """Who delivers by hand is told that there is no entry, and the message is acknowledged."""
    w = world(**COUNTED)
    for number in range(3):
        answer = await says(w, number)
    assert answer.detail.endswith(outcomes.COUNTED)
    assert answer.result is Result.SKIPPED
    assert answer.message_id == "2"


async def test_a_redelivery_never_counts_twice_and_is_no_second_entry() -> None:
    """Each message twenty times, in any order, also long after: entries and counts are of three events."""
    w = world(**COUNTED)
    bodies = [push(entry(at=w.clock.now()), str(number), at=w.clock.now()) for number in range(3)]
    for _ in range(20):
        for body in bodies:
            await w.deliver(body)
    await w.tick(hours=3)
    for body in bodies:
        await w.deliver(body)
    w.clock.tick(days=3)
    for body in bodies:
        await w.deliver(body)
    await w.tick(hours=3)
    assert told(w) == [("planned", 1), ("skipped: cooling_down", 1), ("skipped: cooling_down", 1)]


async def test_a_setting_brings_back_an_entry_each() -> None:
    """LOGMEND_REPEATS=each: every line has its own entry, and nothing is counted anywhere."""
    w = world(repeats=RepeatsChoice.EACH)
    await complains(w, 0, 10)
    await w.tick(hours=3)
    assert [count for _, count in told(w)] == [1] * 10
    assert await w.store.scan("repeats", None, 10) == []


async def test_without_a_ledger_that_is_kept_each_has_an_entry() -> None:
    """A count in memory would end with its process, and nobody would be told."""
    w = world(repeats=RepeatsChoice.COUNTED, state="memory:")
    await complains(w, 0, 5)
    assert [count for _, count in told(w)] == [1] * 5


@pytest.mark.parametrize("changes", [{}, FORGED], ids=["journalled", "refused for what it says"])
async def test_what_was_counted_stays_counted_if_the_setting_is_changed_back(changes: dict[str, Any]) -> None:
    """Each message comes again, to a process with an entry each: none has one, and the count is told."""
    w = world(**COUNTED)
    await counting(w)
    bodies = [push(entry(at=w.clock.now(), **changes), str(number), at=w.clock.now()) for number in range(6)]
    for body in bodies:
        await w.deliver(body)
    known = told(w)
    w = after(w, **EACH)
    for body in bodies:
        await w.deliver(body)
    assert told(w) == known
    await w.tick(hours=3)
    assert told(w) == [*known, (known[-1][0], 6 - len(known))]
    await says(w, 6, **changes)
    await says(w, 7, **changes)
    assert [count for _, count in told(w)[-2:]] == [1, 1], "what is new has an entry each"


@pytest.mark.parametrize("changes", [{}, FORGED], ids=["journalled", "refused for what it says"])
async def test_what_had_an_entry_is_not_counted_if_the_setting_is_changed(changes: dict[str, Any]) -> None:
    """Each message comes again, at once or a day later, to a process that counts: as before, and once."""
    w = world(**EACH)
    await w.tick()
    bodies = [push(entry(at=w.clock.now(), **changes), str(number), at=w.clock.now()) for number in range(6)]
    for body in bodies:
        await w.deliver(body)
    known = told(w)
    assert [count for _, count in known] == [1] * 6
    w = after(w, **COUNTED)
    for _ in range(3):
        for body in bodies:
            await w.deliver(body)
        await w.tick(hours=12)
    assert told(w) == known


async def test_an_instance_that_does_not_count_holds_up_the_counting_of_what_leaves_no_record() -> None:
    """Two versions side by side: what only an entry tells of is not counted until the last tick counts."""
    new = world(**COUNTED)
    old = after(new, **EACH)
    await counting(new)
    await old.tick()
    body = push(entry(at=new.clock.now(), **FORGED), "0", at=new.clock.now())
    for w in (old, new, old, new):
        await w.deliver(body)
    await counting(new)
    for w in (old, new):
        await w.deliver(body)
    for number in range(1, 4):
        await says(new, number, **FORGED)
    await new.tick(hours=3)
    assert told(new) == [("refused: project_mismatch", count) for count in (1, 1, 2)]


async def test_so_does_a_tick_of_a_version_that_knows_no_counts() -> None:
    """It notes when it ticked, and writes back what it does not know."""
    w = world(**COUNTED)
    await counting(w)

    def ticked(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
        data = {**found[FLEET].data, "last_tick": w.clock.now().isoformat()}
        return {FLEET: replace(found[FLEET], data=data)}, None

    await w.store.transact([FLEET], ticked)
    for number in range(3):
        await says(w, number, **FORGED)
    assert told(w) == [("refused: project_mismatch", 1)] * 3


async def test_a_change_of_state_is_an_entry_at_once_and_the_count_before_it_is_kept() -> None:
    """Frozen while it cools down, and thawed: what goes on afterwards is no news."""
    w = world(**COUNTED)
    await complains(w, 0, 5)
    await w.controls.freeze(Freeze("ann", w.clock.now()))
    await complains(w, 5, 5)
    assert told(w) == [("planned", 1), ("skipped: cooling_down", 1)], "a cooldown comes first"
    w.clock.tick(days=1)
    await complains(w, 10, 5)
    assert ("skipped: frozen", 1) in told(w)
    await w.controls.resume(ANN)
    await complains(w, 15, 2)
    await w.tick(hours=3)
    assert events(w) == 17
    assert ("skipped: frozen", 4) in told(w)
    assert [word for word, _ in told(w)].count("planned") == 2


async def test_after_a_silence_the_next_line_is_an_entry_again() -> None:
    """A VM that was quiet for two hours has ended its state: the tick says how often, then it begins anew."""
    w = world(**COUNTED)
    await complains(w, 0, 4)
    await w.tick(hours=3)
    assert told(w)[-1] == ("skipped: cooling_down", 2)
    await says(w, 4)
    assert told(w)[-1] == ("skipped: cooling_down", 1)


async def test_a_line_that_is_refused_for_what_it_says_is_counted_and_leaves_nothing_of_its_vm() -> None:
    """A forged entry can count, and no more: the VM's own document stays unwritten."""
    w = world(**COUNTED)
    await counting(w)
    for number in range(6):
        await says(w, number, **FORGED)
        await w.tick(**TEN)
    await w.tick(hours=3)
    assert len({word for word, _ in told(w)}) == 1
    assert [count for _, count in told(w)] == [1, 5]
    assert await w.store.scan("subjects", None, 10) == []
    assert await w.store.scan("intents", None, 10) == []


async def test_events_that_do_not_repeat_have_an_entry_each() -> None:
    """Incidents are notified once: each is told, also if the VM cools down."""
    w = world(mode=Mode.ENFORCE, **COUNTED)
    for number in range(4):
        await w.deliver(push(incident(incident_id="inc-1"), str(number), at=w.clock.now()))
    assert told(w) == [("remediated", 1), *[("skipped: duplicate", 1)] * 3]


async def test_what_asks_for_a_person_is_never_only_counted() -> None:
    """The first needs_human is an ERROR with an entry; only those after it are counted."""
    w = world(mode=Mode.ENFORCE, needs_human_after=1, cooldown_failed=timedelta(), **COUNTED)
    w.fleet.vms[REF.instance_id].fix_works = False
    await complains(w, 0, 6)
    await w.tick(hours=3)
    errors = [each.reason for each in w.outcomes.written if document.severity(each) == "ERROR"]
    assert errors == ["still_faulty", "needs_human"]
    assert told(w)[-2:] == [("skipped: needs_human", 1), ("skipped: needs_human", 4)]


async def test_more_messages_than_a_document_names_count_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond that each has a record of its own, by which a redelivery is known."""
    monkeypatch.setattr(repeats, "ROOM", 3)
    w = world(**COUNTED)
    bodies = [push(entry(at=w.clock.now()), str(number), at=w.clock.now()) for number in range(9)]
    for body in [*bodies, *bodies]:
        await w.deliver(body)
    await w.tick(hours=3)
    assert told(w) == [("planned", 1), ("skipped: cooling_down", 1), ("skipped: cooling_down", 7)]
    assert len(await w.store.scan("intents", None, 20)) == 2 + 4


async def test_a_state_goes_on_over_the_end_of_a_vms_day() -> None:
    """Each day's count is told once, and the first line of the next day is no entry."""
    w = world(cooldown_planned=timedelta(days=10), **COUNTED)
    await complains(w, 0, 3 * 144)
    await w.tick(hours=3)
    begun = [str(each.result) for each in w.outcomes.written if each.first_at is None]
    assert begun == ["planned", "skipped"]
    assert len(told(w)) == len(begun) + 4, "of four days, of which the first and the last are not whole"
    assert events(w) == 3 * 144


async def test_two_days_of_a_fleet_do_not_end_at_once() -> None:
    """Where a VM's day begins is spread, so that a tick never has a whole fleet's counts to tell."""
    w = world()
    refs = [InstanceRef(REF.project_id, REF.zone, str(number)) for number in range(500)]
    ends = {repeats.day_of(each, "workload-cert-refresh", w.clock.now()).ends.hour for each in refs}
    assert ends == set(range(24))


async def test_a_count_that_could_not_be_recorded_is_recorded_by_the_next_tick() -> None:
    """The log is away, then the process dies before it notes it: the entry is the very same, once."""
    w = world(**COUNTED)
    await complains(w, 0, 5)
    w.clock.tick(hours=3)
    w.outcomes.on_write = [Transient("outcome_log_unavailable")]
    assert (await w.ticker.run()).errors == {"outcome_log_unavailable": 1}
    await says(w, 5)
    await w.tick(minutes=5)
    assert told(w)[2:] == [("skipped: cooling_down", 1), ("skipped: cooling_down", 3)]
    await w.tick(minutes=5)
    assert events(w) == 6


@pytest.mark.parametrize("error", [Killed(), Transient("ledger_unavailable")], ids=["killed", "failed"])
@pytest.mark.parametrize("done", [False, True])
async def test_whichever_transaction_of_a_count_fails_each_event_is_told_once(
    done: bool, error: BaseException
) -> None:
    """A process dies at each transaction in turn, or hears no answer, its writes done or not."""
    disturbed = 0
    for at in range(1, 80):
        first = world(**COUNTED)
        await counting(first)
        store = Disturbed(first.store, at, error, done)
        w = world(store=store, fleet=first.fleet, clock=first.clock, **COUNTED)
        w.outcomes.written = first.outcomes.written
        kinds: list[dict[str, Any]] = [{}] * 6 + [FORGED] * 4
        for number, changes in enumerate(kinds):
            body = push(entry(at=w.clock.now(), **changes), str(number), at=w.clock.now())
            try:
                acknowledged = ack.status((await w.deliver(body)).result) < 300
            except Killed:
                acknowledged, w = False, after(first, **COUNTED)
            if not acknowledged:
                w.clock.tick(minutes=11)
                await w.deliver(body)
        for _ in range(3):
            try:
                await w.tick(hours=3)
            except (Killed, Transient):
                w = after(first, **COUNTED)
        assert events(w) == len(kinds), (at, told(w))
        if store.seen < at:
            break
        disturbed += 1
    assert disturbed > 20


async def test_events_of_no_runbook_are_counted_by_process_and_hour_and_say_that_it_is_approximate() -> None:
    """The first of each kind is an entry; the rest are one, with the first request after the hour."""
    w = world(**COUNTED)
    for number in range(30):
        await says(w, number, jsonPayload={"message": "something else"})
        w.clock.tick(minutes=1)
    assert told(w) == [("unmatched", 1)]
    w.clock.tick(hours=1)
    await says(w, 30, jsonPayload={"message": "something else"})
    assert told(w) == [("unmatched", 1), ("unmatched", 29), ("unmatched", 1)]
    assert w.outcomes.written[1].notes == (outcomes.APPROXIMATE,)
    await says(w, 31, jsonPayload={"message": "something else"})
    await w.pipeline.recorder.tell_unmatched(None)
    assert told(w)[3:] == [("unmatched", 1)]


async def test_a_count_of_unmatched_events_outlives_a_log_that_is_away() -> None:
    """What could not be told is told the next time, with what came meanwhile."""
    w = world(**COUNTED)
    for number in range(5):
        await says(w, number, jsonPayload={"message": "something else"})
    w.clock.tick(hours=2)
    w.outcomes.on_write = [Transient("outcome_log_unavailable")]
    with pytest.raises(Transient):
        await w.pipeline.recorder.tell_unmatched(w.clock.now())
    await w.pipeline.recorder.tell_unmatched(w.clock.now())
    assert told(w) == [("unmatched", 1), ("unmatched", 4)]


@pytest.mark.parametrize("which", ["counted", "untold", "pending", "unemitted", "unverified", "kept"])
async def test_a_list_without_its_index_is_an_error_of_the_tick_and_does_not_end_it(which: str) -> None:
    """The function may be updated before its indexes are: what else waits is taken up all the same."""
    w = world(mode=Mode.ENFORCE)
    await w.journal.write(operator(), w.clock.now())
    due = w.store.due

    async def without(asked: str, queue: str, *more: Any) -> Any:
        if queue == which:
            raise Permanent("ledger_rejected", "The query requires an index.")
        return await due(asked, queue, *more)

    w.store.due = without  # type: ignore[method-assign, assignment]
    tally = await w.ticker.run()
    assert set(tally.errors) == {"ledger_rejected"}
    assert w.outcomes.results == ["remediated"]


async def test_a_ledger_that_does_not_answer_lets_the_tick_come_again() -> None:
    """That is no fault of one list: the caller is told, and asks again at once."""
    w = world()

    async def away(*_: Any) -> Any:
        raise Transient("ledger_unavailable")

    w.store.due = away  # type: ignore[method-assign, assignment]
    with pytest.raises(Transient):
        await w.ticker.run()


@pytest.mark.parametrize("error", [Permanent("not_permitted"), Transient("outcome_log_unavailable")])
async def test_a_log_that_does_not_take_the_count_of_unmatched_events_is_an_error_of_the_tick(
    error: Permanent | Transient,
) -> None:
    """It is counted like any other, and the count is recorded by the next tick."""
    w = world(**COUNTED)
    for number in range(3):
        await says(w, number, jsonPayload={"message": "something else"})
    w.outcomes.on_write = [error]
    w.clock.tick(hours=2)
    assert (await w.ticker.run()).errors == {error.reason: 1}
    await w.tick()
    assert told(w) == [("unmatched", 1), ("unmatched", 2)]
