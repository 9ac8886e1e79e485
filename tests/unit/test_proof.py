"""That enforcing may have begun proves nothing: what is claimed when nobody saw the end of it."""

from typing import Any

from tests.fakes import REF, World, entry, evidence, push, world
from tests.unit.test_pipeline import operator

from logmend.errors import Transient
from logmend.ledger.documents import intent_key
from logmend.model.enums import Action, Mode, Result
from logmend.model.struct import replace
from logmend.ports import Store

ENFORCE: dict[str, Any] = {"mode": Mode.ENFORCE}


class Dead(BaseException):
    """The function process is gone."""


class Cut:
    """A store that kills the process right after the intent's commit was written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, keys: Any, step: Any) -> Any:
        answer = await self._store.transact(keys, step)
        found = await self._store.get([intent_key("m-1")])
        if any(each.data.get("committed") for each in found.values()):
            raise Dead
        return answer


async def _dies_at_commit() -> World:
    """Give a world whose attempt was committed, died before it enforced, and has lost its lease."""
    first = world(**ENFORCE)
    dead = world(store=Cut(first.store), fleet=first.fleet, clock=first.clock, **ENFORCE)
    try:
        await dead.deliver(push(entry()))
    except Dead:
        first.clock.tick(minutes=11)
        return first
    raise AssertionError("it was to die")


async def test_an_owners_own_repair_is_not_called_our_fix() -> None:
    """The commit's answer is lost, the owner mends the VM, the message comes again: nothing was ours."""
    w = await _dies_at_commit()
    vm = w.fleet.vms[REF.instance_id]
    vm.faulty = False
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == (Result.NOTHING_TO_DO, None)
    assert "an attempt had been committed" in outcome.detail
    assert vm.enforcements == 0


async def test_an_attempt_that_died_before_enforcing_is_done_again() -> None:
    """The fault is there, so it is mended, and that is our fix."""
    w = await _dies_at_commit()
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    assert w.fleet.vms[REF.instance_id].enforcements == 1


async def test_an_attempt_that_died_after_enforcing_is_proved_by_its_mark() -> None:
    """What it left on the VM says that it was ours, though nobody lived to see it."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]

    def die() -> None:
        raise Dead

    vm.on_enforce = [die]
    try:
        await w.deliver(push(entry()))
    except Dead:
        w.clock.tick(minutes=11)
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, vm.enforcements) == (Result.REMEDIATED, 1)
    assert "an earlier attempt enforced" in outcome.detail
    assert "mark" not in outcome.detail


async def test_a_deadline_that_passed_before_the_script_began_is_just_that() -> None:
    """Nothing on the VM shows that enforcing began: the fix did not fail, it never happened."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.fix_works = False

    def too_late() -> None:
        vm.mark = None
        raise Transient("deadline_exceeded", "a script did not end within the attempt's deadline")

    vm.on_enforce = [too_late]
    assert (await w.deliver(push(entry()))).result is Result.UNVERIFIED
    w.clock.tick(minutes=6)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "failed:deadline_exceeded"
    assert "nothing shows that it began" in w.outcomes.written[-1].detail


async def test_a_fix_that_an_operator_reverted_before_it_was_seen_is_no_failed_fix() -> None:
    """The fault is back because a person wanted it back."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [evidence(101), Transient("connection_lost")]
    assert (await w.deliver(push(entry()))).result is Result.UNVERIFIED
    assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.REVERTED
    w.clock.tick(minutes=6)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "skipped:reverted"


async def test_a_record_of_before_there_were_marks_is_read_and_claims_nothing() -> None:
    """An older version left it half way: the VM is clean, and nothing says by whom."""
    w = await _dies_at_commit()
    found = await w.store.get([intent_key("m-1")])
    document = found[intent_key("m-1")]
    old = {name: value for name, value in document.data.items() if name != "mark"}
    assert old != document.data
    await w.store.transact(
        [intent_key("m-1")], lambda _: ({intent_key("m-1"): replace(document, data=old)}, None)
    )
    w.fleet.vms[REF.instance_id].faulty = False
    assert (await w.deliver(push(entry()))).result is Result.NOTHING_TO_DO


async def test_what_enforcing_found_mended_already_is_not_our_fix() -> None:
    """Between the check and the script's own look somebody else was quicker."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_enforce = [evidence(100, instance_id=None, changed="no")]
    outcome = await w.deliver(push(entry()))
    assert outcome.result is Result.NOTHING_TO_DO
    assert outcome.detail.startswith(
        "the fault was gone when the enforcing script checked under its lock; nothing was changed"
    )


async def test_a_fix_whose_second_check_was_lost_is_proved_by_the_scripts_word() -> None:
    """The script said that it changed something; that is kept, whatever mark a later look finds."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [evidence(101), Transient("connection_lost"), evidence(100)]
    await w.deliver(push(entry()))
    w.clock.tick(minutes=6)
    await w.ticker.run()
    assert w.outcomes.results[-1] == "remediated"
