"""What must not be lost on the way: final outcomes, second looks, reverts, and the rest of a tick."""

import asyncio
from datetime import timedelta

import pytest
from tests.fakes import ANN, REF, START, World, entry, evidence, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator
from tests.unit.test_requests import agents_world, fixed

from logmend.errors import Transient
from logmend.ledger.documents import pack, shard_key, subject_key
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import Freeze, Lease, Record, State
from logmend.model.struct import replace
from logmend.model.values import Attempt, Outcome
from logmend.ports import Document, Key
from logmend.settings import ExecutorChoice, RepeatsChoice
from logmend.stages import verify

RUNBOOK = "workload-cert-refresh"
SUBJECT = subject_key(REF, RUNBOOK)


async def unverified(w: World) -> Outcome:
    """Enforce on the VM, with a second check that says nothing."""
    w.fleet.vms[REF.instance_id].on_check = [evidence(101), evidence(1)]
    outcome = await w.deliver(push(entry()))
    assert outcome.result is Result.UNVERIFIED
    return outcome


async def parked_after_enforcing(w: World) -> None:
    """Let an attempt die while enforcing, and its takeover meet trouble before it gets to the VM."""
    w.fleet.vms[REF.instance_id].on_enforce = [asyncio.CancelledError()]  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await w.deliver(push(entry()))
    w.clock.tick(minutes=11)
    w.fleet.on_facts = [Transient("compute_unavailable", "503")]
    await w.ticker.run()
    assert w.outcomes.results[-1] == "parked:retry"


async def test_the_last_word_on_a_parked_event_is_emitted_though_the_log_was_away() -> None:
    """Its message was acknowledged when it was parked: only the tick can say it again."""
    w = world(**ENFORCE)
    await w.controls.freeze(Freeze("sre", START))
    assert (await w.deliver(push(incident()))).result is Result.PARKED
    await w.controls.resume(ANN)
    w.clock.tick(minutes=1)
    assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.NOTHING_TO_DO
    w.outcomes.on_write = [Transient("outcome_log_unavailable")]
    w.clock.tick(minutes=5)
    await w.ticker.run()
    w.clock.tick(minutes=5)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "skipped:reverted"
    assert [o.message_id for o in w.outcomes.written if o.final] == [None, "1"]


class Feed:
    """A topic that is there or does not answer."""

    def __init__(self) -> None:
        self.up = True
        self.got = list[Outcome]()

    async def publish(self, outcome: Outcome) -> bool:
        if self.up:
            self.got.append(outcome)
        return self.up

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("repeats", RepeatsChoice)
async def test_what_was_not_admitted_reaches_a_topic_that_was_away(repeats: RepeatsChoice) -> None:
    """The first needs_human is an ERROR that somebody waits for: the tick hands it on, once."""
    w = world(mode=Mode.ENFORCE, needs_human_after=1, cooldown_failed=timedelta(), repeats=repeats)
    feed = Feed()
    w.pipeline = replace(w.pipeline, recorder=replace(w.pipeline.recorder, feed=feed))
    w.ticker = replace(w.ticker, pipeline=w.pipeline)
    w.fleet.vms[REF.instance_id].fix_works = False
    await w.deliver(push(entry(at=w.clock.now()), "1", at=w.clock.now()))
    w.clock.tick(minutes=10)
    feed.up = False
    body = push(entry(at=w.clock.now()), "2", at=w.clock.now())
    for _ in range(2):  # also if its answer is lost
        assert (await w.deliver(body)).reason == "needs_human"
    await w.tick()
    assert [each.reason for each in feed.got] == ["still_faulty"]
    feed.up = True
    for _ in range(3):
        await w.tick()
    assert [each.reason for each in feed.got] == ["still_faulty", "needs_human"]


async def test_a_redelivery_is_handed_on_though_the_topic_went_away_between_log_and_topic() -> None:
    """The log was away at the first delivery, the topic at the second, which is acknowledged."""
    w = world(mode=Mode.ENFORCE)
    feed = Feed()
    w.pipeline = replace(w.pipeline, recorder=replace(w.pipeline.recorder, feed=feed))
    w.ticker = replace(w.ticker, pipeline=w.pipeline)
    await w.controls.freeze(Freeze("sre", START))
    w.outcomes.on_write = [Transient("outcome_log_unavailable")]
    assert (await w.deliver(push(entry()))).result is Result.DEFERRED
    feed.up = False
    assert (await w.deliver(push(entry()))).reason == "frozen"
    feed.up = True
    for _ in range(2):
        await w.tick()
    assert [each.reason for each in feed.got if each.message_id] == ["frozen"]


async def test_an_unverified_vm_that_another_attempt_holds_is_looked_at_later() -> None:
    """Enforced is enforced: a neighbour's lease does not turn the event into a duplicate."""
    w = world(**ENFORCE)
    await unverified(w)
    w.clock.tick(minutes=6)
    held = Lease("two", 9, "m-other", w.clock.now() + timedelta(minutes=1))
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    await w.store.transact(
        [SUBJECT],
        lambda _: ({SUBJECT: Document(pack(replace(subject, lease=held, fence=9)))}, None),
    )
    await w.ticker.run()
    assert not any(o.final for o in w.outcomes.written)
    await w.store.transact([SUBJECT], lambda _: ({SUBJECT: Document(pack(replace(subject, fence=9)))}, None))
    w.clock.tick(minutes=6)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "remediated"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [({"status": "TERMINATED"}, "not_running"), ({"labels": {"logmend": "off"}}, "exempt")],
)
async def test_a_no_after_enforcing_does_not_hide_that_it_was_enforced(
    facts: dict[str, object], reason: str
) -> None:
    """Skipped and refused say that nothing was done; here the second check is what is missing."""
    w = world(**ENFORCE)
    await unverified(w)
    vm = w.fleet.vms[REF.instance_id]
    w.fleet.add(REF, **facts)
    w.fleet.vms[REF.instance_id] = vm
    w.clock.tick(minutes=6)
    await w.ticker.run()
    assert w.outcomes.results[-1] == f"unverified:{reason}"
    for _ in range(4):
        w.clock.tick(minutes=6)
        await w.ticker.run()
    assert w.outcomes.results[-1] == "failed:unverifiable"
    assert vm.enforcements == 1


async def test_what_a_person_reverted_is_not_finished_by_an_older_attempt() -> None:
    """A hold binds also the intent that was committed before it."""
    w = world(**ENFORCE)
    await parked_after_enforcing(w)
    vm = w.fleet.vms[REF.instance_id]
    assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.REVERTED
    w.clock.tick(hours=1)
    await w.ticker.run()
    assert (vm.faulty, vm.enforcements) == (True, 2)
    assert w.outcomes.results[-1] == "skipped:reverted"


async def test_a_revert_whose_second_check_is_missing_holds_off_automatic_work_all_the_same() -> None:
    """Else the next line of the VM would undo what a person just asked for."""
    w = world(**ENFORCE)
    await w.deliver(push(entry(), "1"))
    w.clock.tick(days=1)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [evidence(101), evidence(1)]
    assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.UNVERIFIED
    line = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert (line.result, line.reason) == (Result.SKIPPED, "reverted")
    w.clock.tick(minutes=6)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "reverted"


async def test_a_vm_that_opted_in_after_the_fix_can_be_reverted() -> None:
    """That is when its owner needs the timer back; only disabling it is refused."""
    w = world(**ENFORCE)
    await w.deliver(push(entry()))
    vm = w.fleet.vms[REF.instance_id]
    w.fleet.add(REF, metadata={"enable-workload-certificate": "true"}, project_metadata=None)
    w.fleet.vms[REF.instance_id] = vm
    assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.REVERTED
    refused = await w.pipeline.work(replace(operator(intent_id="o-2"), overrides="o-1"))
    assert (refused.result, refused.reason) == (Result.REFUSED, "opted_in")


def test_a_look_after_a_crash_that_names_no_vm_is_looked_at_again() -> None:
    """Enforcement may have begun: no evidence is unverified, as it is right after enforcing."""
    done = Attempt("ssh", before=evidence(100, instance_id=None))
    begun = Record(operator(), State.RUNNING, before=evidence(101), committed=True)
    assert verify.result_of(operator(), done, begun).result is Result.UNVERIFIED
    assert verify.result_of(operator(), done, Record(operator(), State.RUNNING)).result is Result.FAILED


async def test_a_record_that_cannot_be_read_stops_no_tick() -> None:
    """What another version wrote is counted and told; everything else is worked on."""
    w = world(**ENFORCE)
    strange: dict[Key, Document | None] = {
        (collection, f"strange-{queue}"): Document({"state": "dreaming"}, queue=queue, due=START)
        for queue, collection in (("parked", "intents"), ("unemitted", "intents"), ("leased", "subjects"))
    }
    await w.store.transact(list(strange), lambda _: (strange, None))
    await w.journal.write(operator(), START)
    tally = await w.ticker.run()
    assert w.outcomes.results == ["remediated"]
    assert tally.errors == {"ledger_corrupt": 3}


async def test_neither_samples_nor_a_freeze_that_cannot_be_read_stop_a_tick(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor does a list of runbooks that cannot be kept: each is counted and named, and the rest is done."""
    w = world(**ENFORCE)
    odd = shard_key("samples", "ops-agent", 3)
    await w.store.transact([odd], lambda _: ({odd: Document({"1": "yesterday"})}, None))
    await w.journal.write(operator(), START)

    async def away(*_: object) -> None:
        raise Transient("ledger_unavailable", "no answer")

    w.controls.thaw = away  # type: ignore[method-assign, assignment]
    w.controls.note_queued = away  # type: ignore[method-assign, assignment]
    tally = await w.ticker.run()
    assert w.outcomes.results == ["remediated"]
    assert tally.errors == {"ledger_unavailable": 2, "internal_error": 1}
    assert "left for the next tick: freezes that are over: ledger_unavailable" in caplog.text
    assert "left for the next tick: breaker and wave of ops-agent: internal_error" in caplog.text
    await w.tick(minutes=1)
    assert (await w.controls.fleet()).last_tick == w.clock.now()


async def test_an_event_that_meets_a_ledger_that_is_away_still_names_its_vm() -> None:
    """Deferred is all that there is to see at three in the morning."""
    w = world(**ENFORCE)

    async def away(*_: object) -> object:
        raise Transient("ledger_unavailable", "no answer")

    w.store.transact = away  # type: ignore[method-assign, assignment]
    outcome = await w.deliver(push(entry()))
    assert (outcome.reason, outcome.instance) == ("ledger_unavailable", REF)


async def test_a_plan_may_wait_longer_than_finished_intents_are_kept() -> None:
    """A store may not delete what can still be approved."""
    w = world(mode=Mode.APPROVE, approval_ttl=timedelta(days=60))
    planned = await w.deliver(push(entry()))
    assert planned.approval_id is not None
    key = ("approvals", planned.approval_id)
    kept = (await w.store.get([key]))[key].expire_at
    assert kept is not None
    assert planned.approval_expires_at is not None
    assert kept > planned.approval_expires_at


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ENFORCE])
async def test_a_request_whose_reader_died_in_a_freeze_blocks_its_vm_no_longer_than_the_freeze(
    mode: Mode,
) -> None:
    """The mark of an open request goes with the request, however it ends; so does the label."""
    w, agents = agents_world(mode=mode)
    assert (await w.deliver(push(entry(), "1"))).result is Result.REQUESTED
    real = agents.report

    async def dies(*_: object) -> None:
        raise asyncio.CancelledError

    w.clock.tick(minutes=1)
    agents.says(
        Action.CHECK if mode is Mode.OBSERVE else Action.ENFORCE, Attempt("osconfig", before=evidence(100))
    )
    record = await w.journal.record("m-1")
    assert record is not None
    agents.report = dies  # type: ignore[method-assign, assignment]
    with pytest.raises(asyncio.CancelledError):
        await w.pipeline.work(record.intent, resume=True)
    agents.report = real  # type: ignore[method-assign]
    await w.controls.freeze(Freeze("sre", w.clock.now()))
    for _ in range(3):
        w.clock.tick(minutes=11)
        await w.ticker.run()
    assert agents.label() is None
    await w.controls.resume(ANN)
    w.clock.tick(days=2)
    await w.ticker.run()
    later = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert later.reason != "already_requested" or agents.label() is not None
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    if subject.open_request is not None:
        out = await w.journal.record(subject.open_request)
        assert out is not None
        assert out.state is State.REQUESTED


async def test_a_redelivery_leaves_an_open_request_marked() -> None:
    """It only says again what was said; the request is still out."""
    w, _ = agents_world()
    for _ in range(2):
        assert (await w.deliver(push(entry(), "1"))).result is Result.REQUESTED
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.open_request == "m-1"


async def test_a_look_of_one_event_leaves_the_request_of_another_alone() -> None:
    """One label serves one request: the look waits until that is closed."""
    w, agents = agents_world(ssh_first=True, executor=ExecutorChoice.AUTO)
    await unverified(w)
    w.fleet.on_open = [Transient("unreachable")] * 9
    w.clock.tick(minutes=1)
    assert (await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))).result is Result.REQUESTED
    for _ in range(3):
        w.clock.tick(minutes=6)
        await w.ticker.run()
    assert agents.label() == "enforce"
    agents.says(Action.ENFORCE, fixed())
    w.fleet.on_open = []
    w.fleet.vms[REF.instance_id].faulty = False
    for _ in range(2):
        w.clock.tick(minutes=6)
        await w.ticker.run()
    assert [str(o.result) for o in w.outcomes.written if o.final] == ["remediated", "remediated"]
    assert agents.label() is None


async def test_what_waits_for_others_of_its_vm_says_so_once() -> None:
    """Whether it waits out a cooldown or another's attempt is no news for a log; that it is frozen is."""
    w = world()
    for number in range(3):
        told = incident(incident_id=f"i{number}")
        await w.deliver(push(told, str(number), at=w.clock.now()))
    for _ in range(80):
        w.clock.tick(hours=1)
        await asyncio.gather(w.ticker.run(), w.ticker.run())
    assert sorted(w.outcomes.results) == ["parked:cooling_down"] * 2 + ["planned"] * 3


async def test_a_revert_that_waits_after_it_began_holds_off_automatic_work() -> None:
    """It died while reverting, and its takeover met trouble: the VM's next line changes nothing."""
    w = world(**ENFORCE)
    await w.deliver(push(entry(), "1"))
    w.clock.tick(days=1)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_enforce = [asyncio.CancelledError()]  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await w.pipeline.work(operator(Action.REVERT))
    w.clock.tick(minutes=11)
    w.fleet.on_facts = [Transient("compute_unavailable", "503")]
    await w.ticker.run()
    assert w.outcomes.results[-1] == "parked:retry"
    line = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert (line.reason, vm.faulty) == ("reverted", True)
    w.clock.tick(hours=1)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "reverted"
