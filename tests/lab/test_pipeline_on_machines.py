"""The whole pipeline on real machines: from the line that a unit wrote to a fix that the machine confirms.

Each message is shipped from a machine's own log and pushed to the real function process, which reaches the
machine over ssh. What the outcome claims is compared with what the machine says when asked from inside.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from logmend.model.enums import Action
from logmend_cli.machine.roots import RELEASES
from tests.e2e.function_process import Function
from tests.lab import agent_installer, agent_package, ops_agent_repository, shipper
from tests.lab.cloud import (
    Cloud,
    changes,
    cloud,
    host_key_of,
    id_of,
    let_go,
    line,
    logins,
    make_due,
    new_id,
    order,
    seen,
    standing,
    tick,
    told_again,
    until,
    until_changed,
    until_changing,
    until_off,
    watch,
)
from tests.lab.conftest import Boot
from tests.lab.disk import CREDENTIALS, TIMER, Agent
from tests.lab.machines import Machine, TimerState

ON = TimerState("loaded", "enabled", "active")
OFF = TimerState("loaded", "disabled", "inactive")
AGENTS: tuple[Agent, ...] = ("20220927.00", "20221018.00", "20230913.00", "20231004.02")
SHORT = {"attempt_deadline": "10s", "function_timeout": "11s", "lease": "12s"}
"""Deadlines for tests in which an attempt runs into them."""


def claims(evidence: dict[str, Any] | None) -> dict[str, Any]:
    """Give of an outcome's evidence what the machine can be asked for as well."""
    known = ("unit", "timer_enabled", "timer_active", "config_status", "instance_id")
    return {key: (evidence or {}).get(key) for key in known}


async def test_a_line_of_every_shape_and_agent_becomes_a_fix_that_the_machine_confirms(
    boot: Boot, tmp_path: Path
) -> None:
    """The fault was there, the fix ends it, no line follows, and the same line told again does nothing."""
    shapes = list(shipper.SHAPES)
    machines = await asyncio.gather(
        *(
            boot(
                release=RELEASES[number % len(RELEASES)],
                agent=AGENTS[number % len(AGENTS)],
                rsyslog=True,
                serial_console=True,
                period=0.5,
                timezone=("Etc/UTC", "America/Los_Angeles", "Asia/Tokyo")[number % 3],
            )
            for number in range(len(shapes))
        )
    )
    async with cloud(tmp_path, *machines) as around, around.function() as function:

        async def from_line_to_fix(machine: Machine, shape: str) -> None:
            body, before, files = (
                await line(machine, shape),
                await seen(machine),
                await machine.unit_checksums(),
            )
            others = [await line(machine, other) for other in shapes if other != shape]
            assert before["timer_active"] == "active"

            answer = await function.push(body)
            assert (answer.status, answer.verdict) == (200, "remediated"), answer
            (outcome,) = function.outcomes(message_id=id_of(body))
            assert claims(outcome["before"]) == before
            assert claims(outcome["after"]) == await seen(machine)
            assert await machine.timer_state() == OFF
            assert await machine.starts_in(periods=2) == 0
            assert await machine.unit_checksums() == files
            assert (outcome["instance"]["name"], outcome["executor"]) == (machine.name, "ssh")

            fixed = await standing(machine)
            assert fixed.as_root == 1
            assert [(await function.push(other)).verdict for other in others] == ["skipped: cooling_down"] * 5
            assert (await function.push(body)).verdict == "remediated", "told again, it is the same outcome"
            assert await standing(machine) == fixed
            assert await logins(machine) == 1

        await asyncio.gather(*map(from_line_to_fix, machines, shapes))
        fixes = [each for each in function.outcomes() if each["result"] == "remediated"]
    assert len(fixes) == 2 * len(machines), "once when it happened, once when it was told again"


@dataclass
class Case:
    """What happens to a machine between its line and our looking, and what must come of it."""

    verdict: str
    options: dict[str, Any] = field(default_factory=dict)
    then: Callable[[Machine], Awaitable[Any]] | None = None
    known: Callable[[Cloud, Machine, Machine], None] | None = None
    sudo: int = 0
    logins: int = 1


def inside(command: str) -> Callable[[Machine], Awaitable[Any]]:
    """Run a command as root on the machine, behind logmend's back."""
    return lambda machine: machine.output(command)


def answering(status: int | None) -> Callable[[Machine], Awaitable[Any]]:
    """Change what the metadata server says of certificates."""

    async def change(machine: Machine) -> None:
        machine.set_config_status(status)

    return change


async def _becomes_another(machine: Machine) -> None:
    machine.metadata.attributes["instance/id"] = "42"


def _opts_in(around: Cloud, machine: Machine, _: Machine) -> None:
    around.instance(machine).metadata["enable-workload-certificate"] = "True"


def _has_the_key_of(around: Cloud, machine: Machine, other: Machine) -> None:
    around.instance(machine).guest_attributes = host_key_of(other)


CASES = {
    "its unit is gone": Case(
        "nothing_to_do",
        then=inside(
            f"systemctl stop {TIMER}; rm -f $(find / -xdev -name '{TIMER}'); systemctl daemon-reload"
        ),
    ),
    "its timer is off already": Case("nothing_to_do", then=inside(f"systemctl disable --now {TIMER}")),
    "its certificates answer 200": Case("refused: certificates_in_use", then=answering(200)),
    "its certificates answer 412 now": Case("refused: certificates_in_use", then=answering(412)),
    "its own line says 412": Case(
        "refused: certificates_configured", options={"config_status": 412}, logins=0
    ),
    "its metadata server is silent": Case("refused: config_status_unknown", then=answering(None)),
    "it has credentials": Case(
        "refused: certificates_in_use",
        then=inside(f"mkdir -p {CREDENTIALS}; touch {CREDENTIALS}/certificates.pem"),
    ),
    "somebody masked its timer": Case(
        "refused: masked_by_others",
        then=inside(f"systemctl stop {TIMER}; systemctl mask --runtime {TIMER}"),
    ),
    "its owner opted in": Case(
        "refused: opted_in", options={"agent": "20231011.00", "opted_in": True}, known=_opts_in, logins=0
    ),
    "its own line proves the opt-in": Case(
        "refused: opted_in", options={"agent": "20260724.00", "opted_in": True}, logins=0
    ),
    "it lets nobody sudo": Case("failed: not_permitted", options={"sudo": False}, sudo=0),
    "another VM has its address": Case("failed: wrong_instance", then=_becomes_another),
    "it shows another host key": Case("failed: host_key_mismatch", known=_has_the_key_of, logins=0),
    "its disk is read-only": Case(
        "failed: script_error",
        then=inside("mkdir -p /var/lib/logmend; mount -t tmpfs -o ro none /var/lib/logmend"),
        sudo=1,
    ),
    "its systemd does not answer": Case(
        "refused: systemd_silent",
        then=inside(
            "printf '#!/bin/sh\\nexit 1\\n' >/usr/local/bin/systemctl; chmod 755 /usr/local/bin/systemctl"
        ),
    ),
}


@pytest.mark.parametrize("kind", ["nothing_to_do", "refused", "failed"])
async def test_whatever_stands_against_fixing_leaves_the_machine_as_it_was(
    boot: Boot, tmp_path: Path, kind: str
) -> None:
    """Each wrote the line; then something was different. The outcome says what, and nothing was touched."""
    cases = {name: case for name, case in CASES.items() if case.verdict.startswith(kind)}
    booted = await asyncio.gather(*(boot(period=0.5, **case.options) for case in cases.values()))
    machines = dict(zip(cases, booted, strict=True))
    async with cloud(tmp_path, *booted) as around, around.function() as function:

        async def judged(name: str, case: Case) -> tuple[str, bool, int, int]:
            machine = machines[name]
            body = await line(machine)
            if case.then is not None:
                await case.then(machine)
            if case.known is not None:
                case.known(around, machine, booted[0])
            before = await standing(machine)
            answer = await function.push(body)
            assert answer.status == 200
            after = await standing(machine)
            touched = (after.timer, after.units, after.records) != (
                before.timer,
                before.units,
                before.records,
            )
            return answer.verdict, touched, after.as_root - before.as_root, await logins(machine)

        found = await asyncio.gather(*(judged(*each) for each in cases.items()))
        verdicts = function.verdicts()
    expected = {name: (case.verdict, False, case.sudo, case.logins) for name, case in cases.items()}
    assert dict(zip(cases, found, strict=True)) == expected
    assert sorted(verdicts) == sorted(case.verdict for case in cases.values())


async def test_observing_finds_the_fault_without_root_and_changes_nothing(boot: Boot, tmp_path: Path) -> None:
    """The plan rests on the live check; once the mode changes, the next line is acted on at once."""
    machine, rootless = await asyncio.gather(boot(period=0.5), boot(period=0.5, sudo=False))
    async with cloud(tmp_path, machine, rootless) as around:
        async with around.function(mode="observe") as function:

            async def planned(each: Machine) -> None:
                body, before = await line(each), await standing(each)
                assert (await function.push(body)).verdict == "planned"
                (outcome,) = function.outcomes(message_id=id_of(body))
                assert claims(outcome["before"]) == await seen(each)
                assert outcome["after"] is None
                assert await standing(each) == before
                await each.starts_again()
                assert (await function.push(await line(each))).verdict == "skipped: cooling_down"

            await asyncio.gather(planned(machine), planned(rootless))
        async with around.function(mode="enforce") as function:
            assert (await function.push(await line(machine))).verdict == "remediated"
    assert await machine.timer_state() == OFF


async def test_an_operators_revert_gives_back_what_was_and_nothing_else(boot: Boot, tmp_path: Path) -> None:
    """What was enabled is enabled again, what only ran only runs, and what we never touched stays."""
    fixed, started, untouched = await asyncio.gather(
        boot(period=0.5), boot(period=0.5, timer="disabled"), boot(period=0.5)
    )
    await started.output(f"systemctl start {TIMER}")
    async with cloud(tmp_path, fixed, started, untouched) as around, around.function() as function:
        was = await asyncio.gather(*(machine.timer_state() for machine in (fixed, started, untouched)))
        bodies = await asyncio.gather(line(fixed), line(started))
        assert [(await function.push(body)).verdict for body in bodies] == ["remediated"] * 2
        assert [await machine.timer_state() for machine in (fixed, started)] == [OFF, OFF]

        orders = [await order(function, each, Action.REVERT) for each in (fixed, started, untouched)]
        assert (await function.push(tick())).said["outcomes"] == {"reverted": 2, "refused": 1}
        verdicts = [function.verdicts(intent_id=each) for each in orders]
        assert verdicts == [["reverted"], ["reverted"], ["refused: no_previous_state"]]
        assert [await machine.timer_state() for machine in (fixed, started, untouched)] == was
        (outcome,) = function.outcomes(intent_id=orders[0])
        assert (outcome["before"]["was_enabled"], outcome["before"]["timer_enabled"]) == (
            "enabled",
            "disabled",
        )
        assert (outcome["after"]["timer_enabled"], outcome["requested_by"]) == ("enabled", "sre@example.com")

        await fixed.starts_again()  # the line is back, as the operator wants it
        assert (await function.push(await line(fixed))).verdict == "skipped: reverted"
    assert await fixed.timer_state() == ON


@pytest.mark.parametrize("how", ["it refuses", "it is silent"])
async def test_a_vm_that_does_not_answer_is_tried_three_times(boot: Boot, tmp_path: Path, how: str) -> None:
    """A message gives up after the third try; an operator's order waits in the ledger for the VM."""
    machine = await boot(period=0.5)
    body = await line(machine)
    hasty = SHORT | {"attempt_deadline": "6s"}
    async with (
        cloud(tmp_path, machine) as around,
        around.function("hasty", **around.shared, **hasty) as function,
        around.function("patient", **around.shared) as patient,
    ):
        if how == "it refuses":
            await machine.output("systemctl stop ssh.socket ssh.service")
        else:
            await machine.cut_network()
        answers = [await function.push(body) for _ in range(3)]
        assert [(each.status, each.verdict) for each in answers] == [
            (503, "deferred: unreachable"),
            (503, "deferred: unreachable"),
            (200, "failed: unreachable"),
        ]
        ordered = await order(function, machine, Action.ENFORCE)
        assert (await function.push(tick())).said["outcomes"] == {"parked": 1}
        assert await machine.timer_state() == ON

        await machine.restore_network()
        await machine.output("systemctl start ssh.service")
        assert (await function.push(tick())).said["outcomes"] == {}, "it is not time yet"
        await make_due(function, ordered)
        assert (await patient.push(tick())).said["outcomes"] == {"remediated": 1}
        assert function.verdicts(intent_id=ordered) == ["parked: retry", "remediated"]
    assert await machine.timer_state() == OFF


async def test_trouble_of_the_cloud_is_waited_out(boot: Boot, tmp_path: Path) -> None:
    """While the Compute API is away the message comes again; what else the program says concerns nobody."""
    machine = await boot(period=0.5)
    body = await line(machine)
    others: list[dict[str, Any]] = []

    async def said_more() -> bool:
        others.extend(await shipper.ops_agent_journald(machine, complaints=False))
        return bool(others)

    await until(said_more)
    done = others[0]
    assert done["jsonPayload"]["MESSAGE"].endswith("Done")
    async with cloud(tmp_path, machine) as around, around.function() as function:
        around.compute.fail(f"v1/.*/instances/{machine.ref.instance_id}$", 503)
        for _ in range(4):
            answer = await function.push(body)
            assert (answer.status, answer.verdict) == (503, "deferred: compute_unavailable")
        assert (await function.push(shipper.pubsub_push(done, message_id=new_id()))).verdict == "unmatched"
        assert await logins(machine) == 0
        around.compute.recover()
        assert (await function.push(body)).verdict == "remediated"
    assert await machine.timer_state() == OFF


async def test_where_the_owner_opted_in_the_agent_follows_the_fix(boot: Boot, tmp_path: Path) -> None:
    """The fix writes the next intent; installing goes on by itself and is done when the agent runs."""
    wanted, plain = await asyncio.gather(boot(period=0.5), boot(period=0.5))
    await agent_installer.offer(wanted)
    runbooks = ops_agent_repository.runbooks(tmp_path)
    async with cloud(tmp_path, wanted, plain) as around, around.function(runbooks=runbooks) as function:
        around.instance(wanted).labels["logmend-follow-up"] = "on"
        bodies = await asyncio.gather(line(wanted), line(plain))
        assert [(await function.push(body)).verdict for body in bodies] == ["remediated"] * 2
        assert (await function.push(tick())).said["outcomes"] == {"requested": 1}
        follow_up = f"f-m-{id_of(bodies[0])}"

        async def closed() -> bool:
            await make_due(function, follow_up)
            await function.push(tick())
            return function.verdicts(intent_id=follow_up)[-1] != "requested"

        await until(closed)
        outcomes = function.outcomes(intent_id=follow_up)
        assert [(each["result"], each["runbook"]) for each in outcomes] == [
            ("requested", "ops-agent"),
            ("remediated", "ops-agent"),
        ]
        before, after = outcomes[-1]["before"], outcomes[-1]["after"]
    assert (before["package"], before["service"]) == ("absent", "inactive")
    assert (after["package"], after["service"]) == ("installed", "active")
    there = {"package": "install ok installed", "active": "active", "enabled": "enabled"}
    assert await agent_package.status(wanted) == there
    assert (await agent_package.status(plain))["package"] == ""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An attempt on a watched machine that something happens to, by a function that does not wait for long.

    ``patient`` shares its ledger and has time for the later look, however busy the host. A tick takes up
    whatever is due: ``turn`` lets one of them look at a time.
    """

    machine: Machine
    function: Function
    patient: Function
    turn: asyncio.Lock

    async def when(self, held: str, disaster: Callable[[], Awaitable[Any]]) -> str:
        """Push the machine's line; the disaster strikes while the change is held. Gives the message id.

        Whatever happens, the first outcome says no more than that nothing is known yet.
        """
        await watch(self.machine, held)
        body, before = await line(self.machine), await seen(self.machine)
        pushed = asyncio.create_task(self.function.push(body))
        await until_changing(self.machine)
        await disaster()
        answer = await pushed
        assert (answer.status, answer.said["result"]) == (200, "unverified"), answer
        (outcome,) = self.function.outcomes(message_id=id_of(body))
        assert (claims(outcome["before"]), outcome["after"]) == (before, None)
        return id_of(body)

    async def look(self, message_id: str, by: Function | None = None) -> str:
        """Let the tick look again; gives the verdict, whose claim is compared with the machine."""
        async with self.turn:
            await make_due(self.function, f"m-{message_id}")
            await (by or self.patient).push(tick())
        last = self.function.outcomes(message_id=message_id)[-1]
        if last["after"] is not None:
            assert claims(last["after"]) == await seen(self.machine)
        return self.function.verdicts(message_id=message_id)[-1]


async def test_a_machine_lost_in_the_middle_is_never_called_fixed_without_evidence(
    boot: Boot, tmp_path: Path
) -> None:
    """Power or network goes before, after or behind the change: a later look decides, by what it sees."""
    machines = await asyncio.gather(*(boot(period=0.5) for _ in range(4)))
    unlucky, cut_off, rebooted, unchecked = machines
    turn = asyncio.Lock()
    # Four machines at once: each has to get to its change in time. No lease may run out here.
    hurried = {"attempt_deadline": "20s", "function_timeout": "21s", "lease": "60s"}
    async with (
        cloud(tmp_path, *machines) as around,
        around.function("hasty", **around.shared, **hurried) as hasty,
        around.function("patient", **around.shared) as patient,
    ):

        async def power_fails_before_the_change() -> None:
            attempt = Interrupted(unlucky, hasty, patient, turn)
            message = await attempt.when("before", unlucky.reset)
            assert await unlucky.timer_state() == ON
            assert await attempt.look(message) == "failed: still_faulty"
            assert await changes(unlucky) == ["begin"]

        async def network_fails_after_the_change() -> None:
            async def disaster() -> None:
                await until_off(cut_off)
                await cut_off.cut_network()

            attempt = Interrupted(cut_off, hasty, patient, turn)
            message = await attempt.when("after", disaster)
            assert (await attempt.look(message, by=hasty)).startswith("unverified"), "still no evidence"
            await cut_off.restore_network()
            await let_go(cut_off, "after")
            assert await attempt.look(message) == "remediated"
            assert await changes(cut_off) == ["begin", "end"]

        async def it_reboots_after_the_change() -> None:
            async def disaster() -> None:
                await until_off(rebooted)
                await rebooted.reboot()

            attempt = Interrupted(rebooted, hasty, patient, turn)
            message = await attempt.when("after", disaster)
            assert await attempt.look(message) == "remediated"

        async def network_fails_during_the_second_check() -> None:
            async def disaster() -> None:
                await unchecked.output("touch /run/lab-hold-check")
                await let_go(unchecked, "before")
                await until_changed(unchecked)
                await unchecked.cut_network()

            attempt = Interrupted(unchecked, hasty, patient, turn)
            message = await attempt.when("before", disaster)
            await unchecked.restore_network()
            await let_go(unchecked, "check")
            assert await attempt.look(message) == "remediated"

        await asyncio.gather(
            power_fails_before_the_change(),
            network_fails_after_the_change(),
            it_reboots_after_the_change(),
            network_fails_during_the_second_check(),
        )
    states = [await machine.timer_state() for machine in machines]
    assert states == [ON, OFF, OFF, OFF]


async def test_two_functions_with_one_ledger_enforce_once(boot: Boot, tmp_path: Path) -> None:
    """While one is at work the other leaves the VM alone, whatever it is told of it."""
    machine = await boot(period=0.5)
    await watch(machine, "before")
    body = await line(machine)
    async with (
        cloud(tmp_path, machine) as around,
        around.function("one", **around.shared) as one,
        around.function("two", **around.shared) as two,
    ):
        pushed = asyncio.create_task(one.push(body))
        await until_changing(machine)
        again, other = await asyncio.gather(two.push(body), two.push(await line(machine)))
        assert (again.status, again.verdict) == (503, "deferred: in_hand")
        assert (other.status, other.verdict) == (200, "skipped: duplicate")
        await let_go(machine, "before")
        assert (await pushed).verdict == "remediated"
        assert (await two.push(body)).verdict == "remediated", "the other one tells the same outcome"
    assert await changes(machine) == ["begin", "end"]
    assert (await standing(machine)).as_root == 1
    assert await logins(machine) == 1


async def test_two_functions_with_ledgers_of_their_own_do_not_enforce_at_once(
    boot: Boot, tmp_path: Path
) -> None:
    """Where no lease keeps them apart the machine's lock does: the second waits, looks, changes nothing."""
    machine = await boot(period=0.5)
    await watch(machine, "before")
    async with (
        cloud(tmp_path, machine) as around,
        around.function("one") as one,
        around.function("two") as two,
    ):
        first = asyncio.create_task(one.push(await line(machine)))
        await until_changing(machine)
        second = asyncio.create_task(two.push(await line(machine)))

        async def both_began() -> bool:
            return (await standing(machine)).as_root == 2

        await until(both_began)
        assert await changes(machine) == ["begin"]
        await let_go(machine, "before")
        assert [(await each).verdict for each in (first, second)] == ["remediated", "nothing_to_do"]
    assert await changes(machine) == ["begin", "end"], "one change, however many tried"
    assert await machine.timer_state() == OFF


async def test_a_killed_functions_attempt_is_finished_under_its_own_id(boot: Boot, tmp_path: Path) -> None:
    """What the function began the machine ends; the next message has it looked at and told first."""
    machine = await boot(period=0.5)
    await watch(machine, "before")
    body = await line(machine)
    async with cloud(tmp_path, machine) as around:
        async with around.function(**SHORT) as doomed:
            pushed = asyncio.create_task(doomed.push(body))
            await until_changing(machine)
            await doomed.kill()
            await asyncio.gather(pushed, return_exceptions=True)
            assert doomed.outcomes() == []
        await let_go(machine, "before")
        await until_changed(machine)
        assert await machine.timer_state() == OFF, "a change is not torn when whoever asked for it is gone"

        async with around.function() as function:

            async def lease_ran_out() -> bool:
                answer = await function.push(told_again(body))
                assert answer.verdict in ("skipped: duplicate", "skipped: cooling_down")
                return answer.verdict == "skipped: cooling_down"

            await until(lease_ran_out)
            assert function.verdicts(message_id=id_of(body)) == ["interrupted", "remediated"]
            assert function.outcomes(message_id=id_of(body))[-1]["before"]["timer_active"] == "active"
    assert await changes(machine) == ["begin", "end"]
    assert await machine.timer_state() == OFF


NEVER = """#!/bin/sh
[ ! -e /run/lab-hold-sudo ] || {
    echo held >/tmp/lab-held
    exec sleep 600
}
exec /usr/bin/sudo "$@"
"""
"""For ``/usr/local/bin/sudo``: the script of an attempt that is held here never begins."""


async def _held_at_sudo(machine: Machine) -> None:
    async def held() -> bool:
        return (await machine.run("test -e /tmp/lab-held")).rc == 0

    await until(held)


async def test_nothing_is_claimed_of_a_script_that_never_began(boot: Boot, tmp_path: Path) -> None:
    """Killed, or too late, before the script: an owner's repair is theirs, a fault is no failed fix."""
    repaired, late = await asyncio.gather(boot(period=0.5), boot(period=0.5))
    bodies = await asyncio.gather(line(repaired), line(late))
    for machine in (repaired, late):
        await machine.run("cat >/usr/local/bin/sudo", stdin=NEVER.encode())
        await machine.output("chmod 755 /usr/local/bin/sudo; touch /run/lab-hold-sudo")
    async with cloud(tmp_path, repaired, late) as around:
        async with around.function(**SHORT) as doomed:
            answer = await doomed.push(bodies[1])
            assert answer.verdict == "unverified: deadline_exceeded"
            pushed = asyncio.create_task(doomed.push(bodies[0]))
            await _held_at_sudo(repaired)
            await doomed.kill()
            await asyncio.gather(pushed, return_exceptions=True)
        await repaired.output(f"systemctl disable --now {TIMER}")
        await late.output("rm /run/lab-hold-sudo")

        async with around.function() as function:

            async def taken_over() -> bool:
                answer = await function.push(bodies[0])
                return answer.verdict == "nothing_to_do"

            await until(taken_over)
            (outcome,) = function.outcomes(message_id=id_of(bodies[0]))[-1:]
            assert "an attempt had been committed" in outcome["detail"]
            await make_due(function, f"m-{id_of(bodies[1])}")
            await function.push(tick())
            assert function.verdicts(message_id=id_of(bodies[1]))[-1] == "failed: deadline_exceeded"
    assert await late.timer_state() == ON
    for machine in (repaired, late):
        assert (await machine.run("ls /var/lib/logmend")).rc != 0, "no script of ours ever began"


async def test_a_function_frozen_past_its_lease_changes_nothing_when_it_wakes(
    boot: Boot, tmp_path: Path
) -> None:
    """Another one took over meanwhile, before the commit point or after it: the late one records nothing."""
    looking, changing = await asyncio.gather(boot(period=0.5), boot(period=0.5))
    both = (looking, changing)
    # Both are seen where they are held before the first of them is out of time.
    longer = {"attempt_deadline": "20s", "function_timeout": "21s", "lease": "22s"}
    await asyncio.gather(watch(looking, "check"), watch(changing, "before"))
    bodies = await asyncio.gather(*map(line, both))
    async with (
        cloud(tmp_path, *both) as around,
        around.function("sleeper", **around.shared, **longer) as sleeper,
        around.function("waker", **around.shared) as waker,
    ):
        pushed = [asyncio.create_task(sleeper.push(body)) for body in bodies]
        await until_changing(changing)

        async def looked() -> bool:
            return await logins(looking) == 1

        await until(looked)
        sleeper.signal(signal.SIGSTOP)
        await asyncio.gather(let_go(looking, "check"), let_go(changing, "before"))

        for body in bodies:

            async def taken_over(body: dict[str, Any] = body) -> bool:
                return (await waker.push(told_again(body))).verdict == "skipped: cooling_down"

            await until(taken_over)
        sleeper.signal(signal.SIGCONT)
        late = await asyncio.gather(*pushed)
        assert [(each.status, each.verdict) for each in late] == [(503, "deferred: superseded")] * 2
        again = [(await sleeper.push(body)).verdict for body in bodies]
        assert again == ["remediated"] * 2, "delivered once more, it tells what the other one found"
        for body in bodies:
            finals = [
                each for each in waker.outcomes(message_id=id_of(body)) if each["result"] == "remediated"
            ]
            assert len({each["outcome_id"] for each in finals}) == 1
    assert [await changes(machine) for machine in both] == [["begin", "end"]] * 2
    assert [(await standing(machine)).as_root for machine in both] == [1, 1]
    assert [await machine.timer_state() for machine in both] == [OFF, OFF]
