"""Limits and the edges of their settings: breaker, tries, relapses, durations."""

import asyncio
from datetime import timedelta

import pytest
from tests.fakes import ANN, REF, START, entry, evidence, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.errors import ConfigError, Transient
from logmend.model.enums import Result
from logmend.model.state import Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Verdict
from logmend.runbook import Limits, load_all
from logmend.settings import Budget, Settings, duration
from logmend.stages import decide, outcomes

RUNBOOK = "workload-cert-refresh"


def vm(number: int) -> InstanceRef:
    return InstanceRef(REF.project_id, REF.zone, str(1000 + number))


async def test_a_breaker_that_was_released_judges_anew() -> None:
    """What failed before a person mended the cause does not open it again at the first failure."""
    w = world(**ENFORCE)
    for number in range(8):
        w.fleet.add(vm(number)).fix_works = False
    for number in range(5):
        await w.deliver(push(entry(vm(number)), f"m{number}"))
    assert RUNBOOK in (await w.controls.fleet()).breakers
    await w.controls.resume(ANN, runbook=RUNBOOK)
    await w.deliver(push(entry(vm(6)), "m6"))
    assert w.outcomes.results[-1] == "failed:still_faulty"
    assert (await w.controls.fleet()).breakers == {}


@pytest.mark.parametrize("reason", ["ssh_protocol_error", "session_refused", "ssh_busy"])
async def test_a_vm_that_always_answers_oddly_ends_as_failed(reason: str) -> None:
    """The trouble is the VM's own: its message does not go round until the dead letter without an outcome."""
    w = world(**ENFORCE)
    w.fleet.on_open = [Transient(reason)] * 3
    results = [(await w.deliver(push(entry()))).result for _ in range(3)]
    assert results == [Result.DEFERRED, Result.DEFERRED, Result.FAILED]


async def test_a_fix_that_is_verified_late_is_no_relapse() -> None:
    """A relapse is a live check that sees the fault after a fix; here it saw it before."""
    w = world(**ENFORCE)
    machine = w.fleet.vms[REF.instance_id]
    machine.on_check = [evidence(101), evidence(1)]
    assert (await w.deliver(push(entry(), "1"))).result is Result.UNVERIFIED
    machine.faulty = True
    machine.on_check = [lambda: evidence(101, w.clock.now())]
    w.clock.tick(minutes=2)
    assert (await w.pipeline.work(operator())).result is Result.REMEDIATED
    w.clock.tick(minutes=5)
    await w.ticker.run()
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert (w.outcomes.results[-1], subject.relapses) == ("remediated", 0)


@pytest.mark.parametrize("name", ["COOLDOWN_PLANNED", "LEASE", "APPROVAL_TTL", "BREAKER_WINDOW"])
def test_a_duration_beyond_any_calendar_stops_the_start(name: str) -> None:
    """Added to a date it would fail every event, after the VM was touched."""
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({f"LOGMEND_{name}": "9999999d"})


def test_the_longest_quiet_time_after_failures_can_be_added_to_a_date() -> None:
    """However often a VM failed."""
    settings = Settings(cooldown_failed=timedelta(days=3650), cooldown_failed_max=timedelta(days=3650))
    intent = operator()
    outcome = outcomes.of_intent(intent, Verdict(Result.FAILED, "unreachable"), settings, START)
    subject = replace(Subject(REF, RUNBOOK), failures=1000)
    after = decide.aftermath(intent, outcome, settings)(subject)
    assert after.cooldown is not None
    assert after.cooldown.until == START + timedelta(days=3650)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DISRUPTION_BUDGET", "20/0s"),
        ("BREAKER_WINDOW", "0s"),
        ("ATTEMPT_DEADLINE", "0s"),
        ("APPROVAL_TTL", "0s"),
        ("MAX_EVENT_AGE", "0s"),
        ("REQUEST_DEADLINE", "0m"),
    ],
)
def test_a_window_of_nothing_stops_the_start(name: str, value: str) -> None:
    """A budget that never fills and a breaker that never opens are no limits."""
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({f"LOGMEND_{name}": value})


def test_no_quiet_time_may_be_asked_for() -> None:
    """A cooldown of zero means none, and says so."""
    assert Settings.from_environment({"LOGMEND_COOLDOWN_PLANNED": "0s"}).cooldown_planned == timedelta()


@pytest.mark.parametrize(
    ("own", "general", "both"),
    [
        ((100, "1d"), "20/10m", (20, timedelta(hours=4, minutes=48))),
        ((10, "1h"), "20/10m", (10, timedelta(hours=1))),
        ((50, "10m"), "20/10m", (20, timedelta(minutes=10))),
        ((30, None), "20/10m", (20, timedelta(minutes=10))),
        ((None, "1h"), "20/10m", (20, timedelta(hours=1))),
        ((None, None), "20/10m", (20, timedelta(minutes=10))),
    ],
)
def test_a_runbooks_own_budget_only_narrows_the_operators(
    own: tuple[int | None, str | None], general: str, both: tuple[int, timedelta]
) -> None:
    """Neither the rate of the one nor the burst of the other is exceeded."""
    runbook = load_all()["ops-agent"]
    window = duration(own[1]) if own[1] else None
    runbook = replace(runbook, limits=Limits(own[0], window))
    found = decide.budget(runbook, Settings(disruption_budget=Budget.parse(general)), operator())
    assert (found.count, found.window) == both


async def test_two_ticks_at_once_leave_one_outcome() -> None:
    """What the other one has in hand is nobody's news."""
    w = world(**ENFORCE)
    for number in range(5):
        w.fleet.add(vm(number))
        await w.journal.write(replace(operator(intent_id=f"o-{number}"), instance=vm(number)), START)
    await asyncio.gather(w.ticker.run(), w.ticker.run())
    assert w.outcomes.results == ["remediated"] * 5
