"""What was given up and then replayed comes to its end with the replay."""

from tests.fakes import REF, World, entry, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.errors import Transient
from logmend.model.enums import Result
from logmend.model.state import State
from logmend.model.struct import replace
from logmend.model.values import InstanceRef

OTHER = InstanceRef(REF.project_id, REF.zone, "4775836342981993097")


async def given_up(w: World) -> None:
    """Deliver a message whose VM cannot be reached; Pub/Sub then gives it up."""
    w.fleet.on_open = [Transient("unreachable", "no answer")]
    assert (await w.deliver(push(entry(), "7"))).result is Result.DEFERRED


async def state(w: World) -> State:
    found = await w.journal.record("m-7")
    assert found is not None
    return found.state


async def test_a_replay_that_is_done_ends_the_message_that_was_given_up() -> None:
    """It would wait for a month otherwise. Its last outcome names the replay."""
    w = world(**ENFORCE)
    await given_up(w)
    assert await state(w) is State.WAITING
    again = push(entry(), "8", logmend_replay_of="7")
    assert (await w.deliver(again)).result is Result.REMEDIATED
    assert await state(w) is State.DONE
    await w.ticker.run()
    (last,) = [each for each in w.outcomes.written if each.reason == "replayed"]
    assert (last.intent_id, last.message_id, last.detail) == ("m-7", "7", "replayed as m-8, remediated")


async def test_a_dead_letter_has_another_id_than_the_message_that_it_was() -> None:
    """Pub/Sub publishes it anew; it is known by its event, on its VM alone."""
    w = world(**ENFORCE)
    await given_up(w)
    again = push(entry(), "8", logmend_replay_of="9999")
    assert (await w.deliver(again)).result is Result.REMEDIATED
    assert await state(w) is State.DONE


async def test_another_event_of_the_vm_ends_nothing() -> None:
    """Nor does the same one that is no replay: the message may still come."""
    w = world(**ENFORCE)
    await given_up(w)
    await w.deliver(push(entry(insertId="other"), "8", logmend_replay_of="9999"))
    assert await state(w) is State.WAITING
    await w.deliver(push(entry(), "10"))
    assert await state(w) is State.WAITING


async def test_the_message_itself_is_answered_for_if_it_comes_again_all_the_same() -> None:
    """It is not done a second time."""
    w = world(**ENFORCE)
    await given_up(w)
    await w.deliver(push(entry(), "8", logmend_replay_of="7"))
    assert (await w.deliver(push(entry(), "7"))).reason == "replayed"
    assert w.fleet.vms[REF.instance_id].changes == 1


async def test_an_order_in_its_place_ends_it_as_well() -> None:
    """That is what `replay --allow-stale` writes."""
    w = world(**ENFORCE)
    await given_up(w)
    order = replace(operator(intent_id="o-replay-1"), replay_of="7")
    assert (await w.pipeline.work(order)).result is Result.REMEDIATED
    assert await state(w) is State.DONE


async def test_a_replay_that_is_not_done_leaves_it_waiting() -> None:
    """Deferred, it may be given up itself."""
    w = world(**ENFORCE)
    await given_up(w)
    w.fleet.on_open = [Transient("unreachable", "no answer")]
    await w.deliver(push(entry(), "8", logmend_replay_of="7"))
    assert await state(w) is State.WAITING


async def test_a_replay_of_another_vm_ends_nothing() -> None:
    """Whoever may publish can name any message."""
    w = world(**ENFORCE)
    w.fleet.add(OTHER)
    await given_up(w)
    assert (await w.deliver(push(entry(OTHER), "8", logmend_replay_of="7"))).result is Result.REMEDIATED
    assert await state(w) is State.WAITING


async def test_a_name_that_no_message_has_is_no_trouble() -> None:
    """An insertId, for example, or somebody's text."""
    w = world(**ENFORCE)
    said = await w.deliver(push(entry(), "8", logmend_replay_of="a/b../c"))
    assert said.result is Result.REMEDIATED
