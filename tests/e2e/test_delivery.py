"""From a topic on the Pub/Sub emulator through the real function process to VMs and one final outcome."""

import asyncio
import contextlib
import json
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import Serve, fixes
from tests.e2e.function_process import TICK, Function
from tests.e2e.post import DELIVERY_ATTEMPTS, Post, a_little_before
from tests.e2e.relay import relay

from logmend import wiring
from logmend.errors import Transient
from logmend.ledger import Controls, Queues
from logmend.model.enums import INTERIM_RESULTS
from logmend.model.state import By, Freeze, Lease
from logmend.ports import Store
from logmend_cli.pretend.entries import entry, incident
from logmend_cli.pretend.fleet import Machine, PretendFleet


def vm(machine: Machine) -> tuple[str, str, str]:
    return machine.instance.project_id, machine.instance.zone, machine.instance.instance_id


async def settled(
    function: Function, messages: Iterable[str], *, within: float = 150.0, ticking: bool = False
) -> dict[str, str]:
    """Wait until every message has a final outcome; give it as ``RESULT: REASON`` by message id.

    It fails once no further one has got its own for ``within`` seconds. ``ticking`` has the function do the
    scheduler's work meanwhile: what a busy machine parked is nobody else's to take up.
    """
    waiting, had = set(messages), 0
    ends = asyncio.get_running_loop().time() + within
    while True:
        final = {
            each["message_id"]: f"{each['result']}: {each['reason']}" if each["reason"] else each["result"]
            for each in function.outcomes()
            if each["result"] not in INTERIM_RESULTS and each["message_id"] in waiting
        }
        if final.keys() == waiting:
            return final
        if len(final) > had:
            had, ends = len(final), asyncio.get_running_loop().time() + within
        if asyncio.get_running_loop().time() > ends:  # not sooner: it reads every outcome for every message
            missing = {each: function.verdicts(message_id=each) for each in waiting - final.keys()}
            pytest.fail(f"messages without a final outcome, and what they have: {missing}\n{function.log()}")
        if ticking:
            # The ledger was busy, or the connection just closed for idleness: the next one does the work.
            with contextlib.suppress(AssertionError, httpx.TransportError):
                await function.tick()
        await asyncio.sleep(1 if ticking else 0.1)


async def lines_of(function: Function, count: int, *, within: float = 150.0) -> list[bytes]:
    """Wait until so many lines are in the outcomes file."""
    ends = asyncio.get_running_loop().time() + within
    while len(lines := function.lines()) < count:
        assert asyncio.get_running_loop().time() < ends, f"{len(lines)} of {count} lines"
        await asyncio.sleep(0.1)
    return lines


async def finals_of(function: Function, count: int, *, within: float = 150.0) -> list[bytes]:
    """Wait until so many lines with a final outcome are in the outcomes file."""
    ends = asyncio.get_running_loop().time() + within
    while len(lines := [each for each in function.lines() if is_final(each)]) < count:
        assert asyncio.get_running_loop().time() < ends, f"{len(lines)} of {count} final outcomes"
        await asyncio.sleep(0.1)
    return lines


def is_final(line: bytes) -> bool:
    return json.loads(line)["result"] not in INTERIM_RESULTS


def message_of(line: bytes) -> Any:
    return json.loads(line)["message_id"]


async def test_a_transient_error_is_delivered_again_until_it_succeeds(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """The Compute API is away for the first two deliveries; the third finds the VM and fixes it, once."""
    machine = fleet.machines["vm-1"]
    # One look-up asks a second time by itself before it gives up.
    fleet.compute.fail(f"v1/.*/instances/{machine.instance.instance_id}$", 503, times=4)
    async with serve() as function:
        await post.push_to(function.url)
        (message,) = await post.publish(entry(vm(machine)))
        assert await settled(function, [message]) == {message: "remediated"}
        said = function.verdicts(message_id=message)
    assert said == ["deferred: compute_unavailable"] * 2 + ["remediated"]
    assert machine.timer() == "disabled inactive"
    assert fixes(machine) == 1
    assert function.is_gone()


async def test_a_poison_message_ends_in_the_dead_letter_and_can_be_replayed_from_there(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """What never succeeds is given up after the last attempt; it holds nobody up, and it is not lost."""
    poisoned, healthy = fleet.machines["vm-1"], fleet.machines["vm-2"]
    fleet.compute.fail(f"v1/.*{poisoned.instance.instance_id}", 503)  # a listing that names it fails as well
    line = entry(vm(poisoned))
    async with serve() as function:
        await post.push_to(function.url)
        poison, other = await post.publish(line, entry(vm(healthy)))
        assert await settled(function, [other]) == {other: "remediated"}
        (letter,) = await post.dead_letters(1)
        assert json.loads(letter.data) == line
        assert letter.attributes["CloudPubSubDeadLetterSourceSubscription"].endswith("-push")
        assert function.verdicts(message_id=poison) == ["deferred: compute_unavailable"] * DELIVERY_ATTEMPTS
        assert poisoned.calls() == []

        fleet.compute.recover()
        (replayed,) = await post.publish(letter.data, logmend_replay_of=poison)
        assert await settled(function, [replayed]) == {replayed: "remediated"}
        (outcome,) = function.outcomes(message_id=replayed)
    assert outcome["replay_of"] == poison
    assert fixes(poisoned) == fixes(healthy) == 1


async def test_garbage_is_acknowledged_and_kept_with_its_reason(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """What can never be decoded is not delivered again; a copy of it waits in the dead-letter topic."""
    machine = fleet.machines["vm-1"]
    project, zone, _ = vm(machine)
    async with serve(dead_letter_topic=post.dead_letter) as function:
        await post.push_to(function.url)
        messages = await post.publish(
            b"\x00\xff{{{", {"hello": "world"}, entry((project, zone, "1; reboot #")), entry(vm(machine))
        )
        final = await settled(function, messages)
        letters = await post.dead_letters(3)
        # Were one of them not acknowledged, it would have come again by now.
        await asyncio.sleep(2.5)
        counts = Counter(each["message_id"] for each in function.outcomes())
    assert [final[message] for message in messages] == [
        "rejected: malformed",
        "rejected: not_an_event",
        "rejected: bad_identity",
        "remediated",
    ]
    assert counts == dict.fromkeys(messages, 1)
    kept = {
        letter.attributes["logmend_message_id"]: (
            letter.attributes["logmend_reason"],
            json.loads(letter.data)["message"]["messageId"],
        )
        for letter in letters
    }
    assert kept == {
        messages[0]: ("malformed", messages[0]),
        messages[1]: ("not_an_event", messages[1]),
        messages[2]: ("bad_identity", messages[2]),
    }


async def test_duplicates_have_one_effect(post: Post, fleet: PretendFleet, serve: Serve) -> None:
    """Lines of two log paths, an incident told twice, and a lost acknowledgement: each VM is fixed once."""
    talkative, alerted = fleet.machines["vm-1"], fleet.machines["vm-2"]
    async with serve() as function, relay(function.url) as lossy:
        await post.push_to(lossy.url)
        lossy.lose_answers = 1
        (first,) = await post.publish(entry(vm(talkative)))
        await settled(function, [first])
        lines = await lines_of(function, 2)
        assert lossy.lost == 1
        assert [message_of(line) for line in lines] == [first, first]
        assert lines[0] == lines[1], "delivered again, the very same outcome is recorded again"

        again = await post.publish(
            entry(vm(talkative), path="serial"), entry(vm(talkative), path="journald"), entry(vm(talkative))
        )
        told = await post.publish(incident(vm(alerted), "inc-1"), incident(vm(alerted), "inc-1"))
        final = await settled(function, [*again, *told])
    assert {final[message] for message in again} == {"skipped: cooling_down"}
    assert sorted(final[message] for message in told) == ["remediated", "skipped: duplicate"]
    assert fixes(talkative) == fixes(alerted) == 1


async def test_a_seek_tells_the_same_outcomes_again_and_acts_on_nothing(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """All that Pub/Sub retained is delivered once more: same bytes, no look-up, no connection to any VM."""
    machines = [fleet.machines[f"vm-{number}"] for number in range(1, 6)]
    answers = machines[1].folder / "pretend/http/169.254.169.254/computeMetadata/v1/instance"
    (answers / "id").write_text("42")
    machines[2].instance.metadata["enable-workload-certificate"] = "true"
    started = datetime.now(UTC)
    async with serve() as function:
        await post.push_to(function.url)
        messages = await post.publish(
            *(entry(vm(machine)) for machine in machines[:3]),
            incident(vm(machines[3]), "inc-1"),
            entry(vm(machines[4]), "done"),
            b"no event",
        )
        final = await settled(function, messages)
        before = await finals_of(function, len(messages))
        looked_up, calls = len(fleet.compute.calls), [machine.calls() for machine in machines]

        # The fault is back on one VM: a seek must not act on it, however true the old line is again.
        (machines[0].units / "gce-workload-cert-refresh.timer" / "active").write_text("active\n")
        await post.all_acknowledged()  # what is acknowledged after the seek would not come again
        await post.seek(a_little_before(started))
        after = await finals_of(function, 2 * len(before))
        await asyncio.sleep(1.5)
        assert await finals_of(function, 0) == after, "nothing but the retained messages comes again"
    assert [final[message] for message in messages] == [
        "remediated",
        "failed: wrong_instance",
        "refused: opted_in",
        "remediated",
        "unmatched",
        "rejected: malformed",
    ]
    assert Counter(after) == Counter(before * 2), "the same lines, byte for byte, once more each"
    assert (looked_up, calls) == (len(fleet.compute.calls), [machine.calls() for machine in machines])
    assert machines[0].timer() == "disabled active"


async def test_what_a_freeze_held_back_is_done_by_a_tick_after_it(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """Frozen, a line is dropped and an incident waits in the ledger, until the scheduler's message."""
    alerted, talkative = fleet.machines["vm-1"], fleet.machines["vm-2"]
    async with serve() as function:
        await post.push_to(function.url)
        store = wiring.open_store(function.state)
        controls = Controls(store)
        await controls.freeze(Freeze("sre@example.com", datetime.now(UTC), "change freeze"))
        told, said = await post.publish(incident(vm(alerted), "inc-1"), entry(vm(talkative)))
        assert await settled(function, [said]) == {said: "skipped: frozen"}
        await lines_of(function, 2)
        assert function.verdicts(message_id=told) == ["parked: frozen"]
        await post.publish(TICK)

        await controls.resume(By("sre", datetime.now(UTC)))
        await store.aclose()
        await post.publish(TICK)
        assert await settled(function, [told]) == {told: "remediated"}
        assert function.verdicts(message_id=told)[:1] == ["parked: frozen"]
    assert (fixes(alerted), fixes(talkative)) == (1, 0)


def burst(fleet: PretendFleet, size: int) -> list[dict[str, Any]]:
    """Give so many lines of the fleet's VMs, in turn, on every log path."""
    paths = ("syslog", "journald", "serial", "fluentd-text", "fluentd-json")
    machines = list(fleet.machines.values())
    return [
        entry(vm(machines[number % len(machines)]), path=paths[number % len(paths)]) for number in range(size)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("instances", [1, 2])
async def test_a_burst_gives_each_vm_one_enforcement_and_each_message_its_outcome(
    post: Post, fleet: PretendFleet, serve: Serve, instances: int
) -> None:
    """500 messages about 20 VMs: exactly 20 enforcements, and no message without its final outcome."""
    machines = list(fleet.machines.values())
    async with AsyncExitStack() as stack:
        functions = [await stack.enter_async_context(serve()) for _ in range(instances)]
        spread = await stack.enter_async_context(relay(*(function.url for function in functions)))
        # Delivered until each is done: on a busy machine the ledger's emulator refuses many a time.
        await post.push_to(spread.url, attempts=50, instances=instances)
        messages = await post.publish(*burst(fleet, 500))
        final = await settled(functions[0], messages)
        finals = [each for each in functions[0].outcomes() if each["result"] not in INTERIM_RESULTS]
    assert [fixes(machine) for machine in machines] == [1] * 20
    assert {machine.timer() for machine in machines} == {"disabled inactive"}
    results = Counter(final.values())
    assert results["remediated"] == 20
    assert results.keys() <= {"remediated", "skipped: duplicate", "skipped: cooling_down"}
    fixed = {each["instance"]["instance_id"] for each in finals if each["result"] == "remediated"}
    assert fixed == {machine.instance.instance_id for machine in machines}
    assert len({each["outcome_id"] for each in finals}) == len(messages), "one final outcome each"


FOREVER = datetime.max.replace(tzinfo=UTC)
SHORT = {"attempt_deadline": "15s", "function_timeout": "16s", "lease": "18s"}


async def leases(store: Store, until: datetime) -> dict[str, Lease]:
    """Give the leases that end by then, by the ids of their VMs."""
    leased = await Queues(store).expired(until, 100)
    return {each.instance.instance_id: each.lease for each in leased if each.lease}


async def killed_at_work(store: Store, doomed: Function) -> dict[str, Lease]:
    """Kill an instance while it holds leases, and give those: stop it, look again, and only then kill it."""
    held: dict[str, Lease] = {}
    async with asyncio.timeout(150):
        while not held:
            await asyncio.sleep(0.05)
            if not await leases_of(store, doomed):
                continue  # it is not stopped for a look: on a busy machine that takes longer than the work
            doomed.signal(signal.SIGSTOP)
            held = await leases_of(store, doomed)
            if not held:
                doomed.signal(signal.SIGCONT)
    await doomed.kill()
    return held


async def leases_of(store: Store, function: Function) -> dict[str, Lease]:
    """Give the leases of one function; none if the ledger does not answer, as when it was stopped."""
    with contextlib.suppress(Transient):
        found = await leases(store, FOREVER)
        return {vm_id: lease for vm_id, lease in found.items() if function.is_owner(lease.owner)}
    return {}


def messages_of(held: Mapping[str, Lease]) -> list[str]:
    """Give the ids of the messages whose intents hold leases."""
    return [each.intent_id.removeprefix("m-") for each in held.values()]


@pytest.mark.timeout(700)
async def test_an_instance_that_dies_in_a_burst_loses_nothing(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """Of two instances one is killed at work; what it began is finished and told under its own message.

    On a busy machine an attempt may be parked for ``decide.RECHECK``, five minutes: the tick has it then.
    """
    machines = list(fleet.machines.values())
    async with serve(**SHORT) as doomed, serve(**SHORT) as other, relay(doomed.url, other.url) as spread:
        store = wiring.open_store(other.state)
        await post.push_to(spread.url, attempts=50, instances=2)
        messages = await post.publish(*burst(fleet, 100))
        held = await killed_at_work(store, doomed)
        final = await settled(other, messages, within=340, ticking=True)
        outcomes = other.outcomes()
        await store.aclose()
    assert {machine.timer() for machine in machines} == {"disabled inactive"}
    # An answer that was lost with the instance has the same outcome told twice.
    told = {
        each["outcome_id"]: each["instance"]["instance_id"]
        for each in outcomes
        if each["result"] == "remediated"
    }
    assert Counter(told.values()) == {machine.instance.instance_id: 1 for machine in machines}
    interrupted = {each["message_id"] for each in outcomes if each["result"] == "interrupted"}
    assert interrupted >= set(messages_of(held)), "it was killed at work"
    assert {final[message] for message in interrupted} == {"remediated"}
    assert Counter(final.values()).keys() <= {"remediated", "skipped: duplicate", "skipped: cooling_down"}


@pytest.mark.timeout(600)
async def test_what_a_dead_instance_had_in_hand_is_finished_by_the_tick_if_nobody_delivers_again(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """The next tick after a lease has run out takes it over, whether or not the message ever comes again.

    It has under a second to begin in, with these deadlines: on a busy machine it says that it left something.
    """
    async with serve(**SHORT) as doomed, serve(**SHORT) as other:
        store = wiring.open_store(other.state)
        await post.push_to(doomed.url)
        await post.publish(*burst(fleet, 20))
        held = await killed_at_work(store, doomed)
        await post.stop_pushing()
        async with asyncio.timeout(120):
            while len(await leases(store, datetime.now(UTC))) < len(held):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.2)
        tallies = [await other.tick()]
        async with asyncio.timeout(120):
            while tallies[-1]["left"]:
                tallies.append(await other.tick())
        final = await settled(other, messages_of(held), within=5)
        left = await leases(store, FOREVER)
        await store.aclose()
    assert set(final.values()) == {"remediated"}
    outcomes = sum((Counter(each["outcomes"]) for each in tallies), Counter[str]())
    assert outcomes == {"remediated": len(held)}
    assert ([each["errors"] for each in tallies if each["errors"]], left) == ([], {})
    fixed = {each.instance.instance_id: fixes(each) for each in fleet.machines.values()}
    assert {fixed[vm_id] for vm_id in held} == {1}
