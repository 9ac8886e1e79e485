"""A canary through an open breaker, and reverts by what happened, wave by wave."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result as Ran
from tests.integration.cli.conftest import Place
from tests.integration.cli.test_controls import OFF, ON, environment_of

from logmend.errors import Transient
from logmend.ledger import Controls, Journal
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import Breaker, Record, State
from logmend.model.values import InstanceRef, Outcome
from logmend.settings import Settings
from logmend.stages import intents
from logmend.wiring import application
from logmend_cli import profiles
from logmend_cli.pretend.story import Story, _fail
from logmend_cli.run import waves

Opened = Callable[[Callable[[Story], None]], Place]
RUNBOOK = "workload-cert-refresh"
ACT = ("--enforce", "--yes", "--by", "ann@desk")


def opens_breaker(place: Place) -> None:
    """Open the runbook's breaker, as the function does."""

    async def body() -> None:
        app = application(Settings.from_environment(environment_of(place)))
        await Controls(app.store).open_breaker(RUNBOOK, Breaker(datetime.now(UTC), 5, 6))
        await app.aclose()

    asyncio.run(body())


@pytest.fixture
def fleet(opened: Opened) -> Place:
    """Serve seven VMs with the fault."""

    def tell(story: Story) -> None:
        for number in range(7):
            story.machine(f"web-{number}")

    return opened(tell)


@contextmanager
def ticking(place: Place) -> Iterator[None]:
    """Tick as the scheduler does, only faster, with the function's own settings."""
    over = threading.Event()

    async def ticks() -> None:
        app = application(Settings.from_environment(environment_of(place, mode="enforce")))
        while not over.is_set():
            with suppress(Transient):  # the ledger was busy, and the next one does the work
                await app.ticker.run()
            await asyncio.sleep(0.05)
        await app.aclose()

    function = threading.Thread(target=lambda: asyncio.run(ticks()))
    function.start()
    try:
        yield
    finally:
        over.set()
        function.join()


def timers(place: Place) -> list[str | None]:
    return [each.timer() for each in place.story.machines.values()]


def test_a_canary_goes_through_the_breaker_alone_and_says_what_it_proves(fleet: Place) -> None:
    """One VM; everybody else is held until the breaker is closed, and it says so."""
    opens_breaker(fleet)
    held = fleet.json("run", fleet.ref("web-1"), *ACT)
    assert [each["reason"] for each in held] == ["breaker_open"]
    _fail(fleet.machine("web-0"), "systemctl-disable", "Failed: Read-only file system")
    bad = fleet.logmend("run", "--canary", fleet.ref("web-0"), *ACT)
    assert (bad.exit_code, "The runbook still fails" in bad.stderr) == (1, True)
    shutil.rmtree(fleet.machine("web-0").folder / "pretend" / "fail")
    good = fleet.logmend("run", "--canary", fleet.ref("web-2"), *ACT)
    assert (good.exit_code, "The runbook works again on this VM" in good.stderr) == (0, True)
    assert f"stays open: logmend resume --runbook {RUNBOOK}" in good.stderr
    assert f"passes: the breaker of {RUNBOOK} is open" in good.stderr
    assert fleet.machine("web-2").timer() == OFF
    assert [each["reason"] for each in fleet.json("run", fleet.ref("web-3"), *ACT)] == ["breaker_open"]
    again = fleet.logmend("run", "--canary", fleet.ref("web-2"), *ACT)
    assert "This proves nothing" in again.stderr


def test_a_canary_is_one_vm_and_no_way_round_a_freeze(fleet: Place) -> None:
    """Nor round a breaker that opens after it was ordered."""
    assert fleet.logmend("run", fleet.ref("web-1"), "--canary", fleet.ref("web-2"), *ACT).exit_code == 2
    opens_breaker(fleet)
    fleet.logmend("freeze")
    (said,) = fleet.json("run", "--canary", fleet.ref("web-2"), *ACT)
    assert said["reason"] == "frozen"
    fleet.logmend("resume")
    fleet.logmend("resume", "--runbook", RUNBOOK)
    opens_breaker(fleet)
    fleet.json("tick", mode="enforce")
    assert timers(fleet) == [ON] * 7


def test_what_was_fixed_since_then_is_put_back_in_waves(fleet: Place) -> None:
    """The latest first; what was not fixed, or is another's, is not touched."""
    for number in range(5):
        fleet.json("run", fleet.ref(f"web-{number}"), *ACT)
    plan = fleet.logmend("revert", "--remediated-since", "1h", "--at-most", "2")
    assert plan.stdout.count("planned") == 5, "nothing is changed without --enforce"
    assert timers(fleet) == [OFF] * 5 + [ON] * 2
    told = fleet.logmend("revert", "--remediated-since", "1h", "--at-most", "2", *ACT)
    assert told.exit_code == 0, told.stderr
    assert [f"wave {n}" in told.stderr for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert timers(fleet) == [ON] * 7
    assert (
        "no VM was remediated" in fleet.logmend("revert", "--remediated-since", "1h", "--at-most", "2").stderr
    )


def test_a_wave_with_a_failure_is_the_last(fleet: Place) -> None:
    """The VMs behind it are not begun, and the exit status says so."""
    for number in range(5):
        fleet.json("run", fleet.ref(f"web-{number}"), *ACT)
    _fail(fleet.machine("web-4"), "sudo", "sudo: a password is required")
    told = fleet.logmend("revert", "--remediated-since", "1h", "--at-most", "2", *ACT)
    assert (told.exit_code, "stopped: 3 VMs were not begun" in told.stderr) == (1, True)
    assert timers(fleet) == [OFF, OFF, OFF, ON, OFF, ON, ON]


def test_since_another_zone_or_a_later_time_means_no_vm(fleet: Place) -> None:
    """And what narrows it makes no sense without it."""
    fleet.json("run", fleet.ref("web-0"), *ACT)
    for more in (("--zone", "us-east1-b"), ("--remediated-since", "2100-01-01T00:00:00Z")):
        ran = fleet.logmend("revert", "--remediated-since", "1h", "--at-most", "2", *more, *ACT)
        assert (ran.exit_code, "no VM was remediated" in ran.stderr) == (0, True)
    assert fleet.machine("web-0").timer() == OFF
    assert fleet.logmend("revert", "--remediated-since", "1h").exit_code == 2
    assert fleet.logmend("revert", fleet.ref("web-0"), "--zone", "us-west1-a").exit_code == 2


def fixed(place: Place, *numbers: int) -> None:
    """Remediate some VMs, all at once."""
    place.json("run", *(place.ref(f"web-{number}") for number in numbers), *ACT)


def by_function(place: Place, *, ticks: bool) -> Ran:
    """Have the function revert in waves of two what was remediated, with or without a scheduler."""
    with ticking(place) if ticks else nullcontext():
        return place.logmend("revert", "--remediated-since", "1h", "--at-most", "2", "--via-function", *ACT)


def test_the_function_reverts_wave_by_wave(fleet: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the VMs behind it are not even ordered; the next time all are put back."""
    monkeypatch.setattr(waves, "POLL", 0.05)
    fixed(fleet, 0, 1, 2)
    fixed(fleet, 3)
    _fail(fleet.machine("web-3"), "sudo", "sudo: a password is required")
    told = by_function(fleet, ticks=True)
    assert (told.exit_code, "stopped: 2 VMs were not begun" in told.stderr) == (1, True), told.stderr
    assert "wave 1: 2 VMs: " in told.stderr
    assert ("1 reverted" in told.stderr, "1 failed" in told.stderr) == (True, True)
    assert (timers(fleet)[:4].count(OFF), timers(fleet)[3]) == (3, OFF)
    assert fleet.json("status")["waiting"] == []

    shutil.rmtree(fleet.machine("web-3").folder / "pretend" / "fail")
    told = by_function(fleet, ticks=True)
    assert (told.exit_code, "wave 1: 2 VMs: 2 reverted" in told.stderr) == (0, True), told.stderr
    assert "wave 2: 1 VMs: 1 reverted" in told.stderr
    assert timers(fleet) == [ON] * 7


def test_without_the_function_a_wave_is_left_to_it_and_no_other_is_ordered(
    fleet: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit status and the text say that it is not done yet; the next tick does what was ordered."""
    monkeypatch.setattr(waves, "PATIENCE", 0.001)
    fixed(fleet, 0, 1, 2)
    told = by_function(fleet, ticks=False)
    assert (told.exit_code, "wave 1: 2 VMs: 2 not done" in told.stderr) == (1, True), told.stderr
    assert "stopped: 1 VMs were not begun" in told.stderr
    assert timers(fleet) == [OFF] * 3 + [ON] * 4
    assert fleet.json("tick", mode="enforce")["outcomes"] == {"reverted": 2}
    assert timers(fleet).count(OFF) == 1


def test_a_ledger_that_is_out_of_reach_for_a_moment_ends_no_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again, and what the function did is told."""
    vm, now = InstanceRef("demo-project", "us-west1-a", "42"), datetime.now(UTC)
    order = intents.of_operator(Action.REVERT, vm, RUNBOOK, "ann@desk", now, intent_id="o-1", look_only=False)
    said = Outcome(Result.REVERTED, None, "", now, "1-1", Mode.ENFORCE, "logmend", RUNBOOK, instance=vm)
    answers: list[Record | None] = [Record(order, State.DONE, outcome=said), None]

    async def record(_: Journal, __: str) -> Record | None:
        if (answer := answers.pop()) is None:
            raise Transient("api_unreachable", "no answer")
        return answer

    monkeypatch.setattr(waves, "POLL", 0.0)
    monkeypatch.setattr(Journal, "record", record)

    async def body() -> list[Outcome]:
        app = application(Settings())
        try:
            return await waves.by_function(app, [order])
        finally:
            await app.aclose()

    assert asyncio.run(body()) == [said]


def test_a_revert_by_time_names_the_fleet_once(
    fleet: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A plan reads the fleet's ledger and has none of its own: one fleet all the same."""
    fixed(fleet, 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    profiles.keep(profiles.Profile("demo-project", "us-west1", "logmend", datetime.now(UTC)))
    for more in ((), ACT):
        told = fleet.logmend("revert", "--remediated-since", "1h", "--at-most", "2", *more)
        assert (told.exit_code, told.stderr.count("fleet demo-project/us-west1/logmend")) == (0, 1)
