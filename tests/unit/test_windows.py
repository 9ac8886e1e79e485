"""Maintenance windows and blackouts: when a VM may be changed, and that nothing is lost or done meanwhile."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fakes import REF, START, World, entry, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator
from tests.unit.test_requests import agents_world, ask, fixed

from logmend import windows
from logmend.model.enums import Action, Mode, Origin
from logmend.model.state import By, Freeze
from logmend.model.struct import replace
from logmend.model.values import Intent
from logmend.settings import Settings
from logmend.wiring import application

NIGHT = windows.opening("Mon-Fri 22:00-06:00 UTC")
"""START is a Sunday at noon: it opens in 34 hours."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def is_open(now: str, hours: str = "", blackouts: str = "", labels: dict[str, str] | None = None) -> bool:
    shut = windows.closed(
        windows.opening(hours) if hours else (),
        windows.spans(blackouts) if blackouts else (),
        labels or {},
        at(now),
    )
    return shut is None


def opens(now: str, hours: str = "", blackouts: str = "") -> datetime | None:
    shut = windows.closed(
        windows.opening(hours) if hours else (), windows.spans(blackouts) if blackouts else (), {}, at(now)
    )
    assert shut is not None
    return shut.opens


def test_hours_past_midnight_belong_to_the_day_on_which_they_began() -> None:
    """Friday's night goes on into Saturday, Sunday's does not begin."""
    night = "Mon-Fri 22:00-06:00 UTC"
    assert not is_open("2026-03-06T21:59:59", night)
    assert is_open("2026-03-06T22:00:00", night)
    assert is_open("2026-03-07T05:59:59", night)  # Saturday
    assert not is_open("2026-03-07T06:00:00", night)
    assert not is_open("2026-03-08T23:00:00", night)  # Sunday
    assert not is_open("2026-03-09T05:00:00", night), "Monday morning is Sunday's night"


def test_holidays_by_date_close_a_window_in_their_own_zone() -> None:
    """Each year or in one year alone, over the turn of the year, midnight being where the window is."""
    each_year = "12-24..01-02 Europe/Berlin"
    assert is_open("2026-12-23T22:59:00", blackouts=each_year)
    assert not is_open("2026-12-23T23:00:00", blackouts=each_year)
    assert not is_open("2031-01-02T22:59:00", blackouts=each_year)
    assert is_open("2031-01-02T23:00:00", blackouts=each_year)
    once = "2026-05-01 Asia/Tokyo"
    assert not is_open("2026-04-30T15:00:00", blackouts=once)
    assert is_open("2026-05-01T15:00:00", blackouts=once)
    assert is_open("2027-05-01T00:00:00", blackouts=once)
    assert opens("2026-12-24T12:00:00", blackouts=each_year) == at("2027-01-02T23:00:00")


def test_where_the_clock_is_put_forward_what_it_leaves_out_never_comes() -> None:
    """In Berlin it goes from 02:00 to 03:00 on 29 March 2026, which is at 01:00 UTC."""
    lost = "02:00-03:00 Europe/Berlin"
    assert is_open("2026-03-28T01:30:00", lost)
    assert not any(is_open(f"2026-03-29T{hour:02}:30:00", lost) for hour in range(24))
    assert opens("2026-03-28T12:00:00", lost) == at("2026-03-30T00:00:00")
    cut = "02:30-05:00 Europe/Berlin"
    assert opens("2026-03-28T12:00:00", cut) == at("2026-03-29T01:00:00"), "it shows 03:00 at once"
    assert is_open("2026-03-29T02:59:59", cut)
    assert not is_open("2026-03-29T03:00:00", cut)


def test_where_the_clock_is_put_back_what_it_shows_twice_holds_twice() -> None:
    """In Berlin it goes from 03:00 to 02:00 on 25 October 2026, which is at 01:00 UTC."""
    twice = "02:00-02:30 Europe/Berlin"
    shown = [
        minute
        for minute in range(0, 240, 10)
        if is_open(f"2026-10-25T{minute // 60:02}:{minute % 60:02}:00", twice)
    ]
    assert shown == [0, 10, 20, 60, 70, 80]
    assert opens("2026-10-25T00:40:00", twice) == at("2026-10-25T01:00:00")
    assert not is_open("2026-10-25T01:15:00", blackouts=twice)
    night = "22:00-06:00 America/New_York"  # back on 1 November at 06:00 UTC: nine hours long
    assert is_open("2026-11-01T02:00:00", night)
    assert is_open("2026-11-01T10:59:00", night)
    assert not is_open("2026-11-01T11:00:00", night)


def test_windows_for_any_vm_and_for_each_of_its_labels_all_have_to_be_open() -> None:
    """One of each kind is enough; a label's blackout closes those that carry it alone."""
    hours = "Mon UTC; Tue UTC; label:env=prod Tue-Wed UTC; label:role=db 20:00-22:00 UTC"
    monday, tuesday, wednesday = "2026-03-02", "2026-03-03", "2026-03-04"
    assert is_open(f"{monday}T12:00:00", hours)
    assert is_open(f"{tuesday}T12:00:00", hours)
    prod = {"env": "prod"}
    assert not is_open(f"{monday}T12:00:00", hours, labels=prod)
    assert is_open(f"{tuesday}T12:00:00", hours, labels=prod)
    assert not is_open(f"{wednesday}T12:00:00", hours, labels=prod)
    assert not is_open(f"{tuesday}T12:00:00", hours, labels=prod | {"role": "db"})
    assert is_open(f"{tuesday}T21:00:00", hours, labels=prod | {"role": "db"})
    assert is_open(f"{monday}T12:00:00", hours, labels={"env": "test"})
    assert not is_open(f"{monday}T12:00:00", blackouts="label:env=prod UTC", labels=prod)
    assert is_open(f"{monday}T12:00:00", blackouts="label:env=prod UTC", labels={"env": "test"})


def test_what_never_opens_says_so() -> None:
    """A window whose year is over has no next opening."""
    shut = windows.closed(windows.opening("2020-01-01 UTC"), (), {}, START)
    assert shut is not None
    assert shut.opens is None
    assert "for the next 400 days" in str(shut)


@pytest.mark.parametrize(
    ("hours", "blackouts"),
    [
        ("2025-01-03 20:00-23:00 UTC; 2025-01-04 UTC; 2025-01-05 Asia/Tokyo; 2025-01-06 18:00-06:00 UTC", ""),
        ("", "Europe/Berlin"),
        ("label:a=b 10:00-12:00 UTC; 12:00-13:00 UTC", ""),
        ("Fri 22:00-23:00 UTC", "Fri UTC"),
    ],
)
def test_what_never_opens_is_searched_once_a_day(
    hours: str, blackouts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for each event: a window that is over must not make every one of them pay."""
    searched = list[object]()
    changes = windows.Window.changes

    def counted(window: windows.Window, day: date) -> Iterator[datetime]:
        searched.append(day)
        return changes(window, day)

    monkeypatch.setattr(windows.Window, "changes", counted)
    opening = windows.opening(hours) if hours else ()
    black = windows.spans(blackouts) if blackouts else ()
    start = at("2026-03-01T00:00:07")

    def shut(minutes: int) -> windows.Closed | None:
        return windows.closed(opening, black, {"a": "b"}, start + timedelta(minutes=minutes))

    first = shut(0)
    assert first is not None
    assert first.opens is None
    once = len(searched)
    assert all(shut(minutes) == first for minutes in range(0, 540, 5))
    assert len(searched) == once, "nothing was searched again"
    if "2025" in hours or not hours:
        assert once == 0, "no day is looked at on which no window is open"


def test_the_start_names_windows_that_never_open_again(caplog: pytest.LogCaptureFixture) -> None:
    """Those of a label too, each once; one that opens next week is not named."""
    hours = "Fri UTC; label:env=prod 2020-01-01 UTC; label:env=prod 2020-01-02 UTC"
    application(Settings(windows=windows.opening(hours)))
    over = "label:env=prod 2020-01-01 UTC; label:env=prod 2020-01-02 UTC"
    assert caplog.messages == [f"no VM is changed outside {over}, for the next 400 days"]


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo", "UTC")
# Around changes of the clock: Berlin, New York, Lord Howe (by half an hour), Cairo (at midnight).
DATES = ("2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-04-04", "2026-10-03", "2026-04-23")


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(DATES),
    st.tuples(st.integers(0, 95), st.integers(1, 95)),
    st.integers(0, 1439),
    st.booleans(),
)
@example("Africa/Cairo", "2026-04-23", (1, 2), 0, False)
@example("Australia/Lord_Howe", "2026-10-03", (9, 1), 600, False)
def test_it_opens_at_the_first_moment_at_which_nothing_is_closed(
    zone: str, day: str, span: tuple[int, int], minute: int, black: bool
) -> None:
    """Held against every quarter of an hour in between, over changes of the clock."""
    begins, ends = span[0] * 15, (span[0] + span[1]) * 15 % 1440
    text = f"{begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02} {zone}"
    now = at(f"{day}T00:00:00") + timedelta(minutes=minute)

    def shut(when: datetime) -> windows.Closed | None:
        hours, blackouts = ((), windows.spans(text)) if black else (windows.opening(text), ())
        return windows.closed(hours, blackouts, {}, when)

    if (found := shut(now)) is None:
        return
    first = now + timedelta(minutes=15 - minute % 15)  # all that is drawn, and each offset, is of quarters
    while shut(first) is not None:
        first += timedelta(minutes=15)
    assert found.opens == first


# In the pipeline


@pytest.mark.parametrize("closed", [{"windows": NIGHT}, {"blackouts": windows.spans("Sun-Mon UTC")}])
async def test_what_would_not_be_said_again_waits_for_the_opening(closed: dict[str, Any]) -> None:
    """Not checked on the VM before, remediated by the first tick after it, and told once meanwhile."""
    w = world(**ENFORCE, **closed)
    vm = w.fleet.vms[REF.instance_id]
    outcome = await w.deliver(push(incident()))
    assert (outcome.result, outcome.reason) == ("parked", "outside_window")
    opening = windows.closed(w.settings.windows, w.settings.blackouts, {}, START)
    assert opening is not None
    assert opening.opens is not None
    assert f"until {opening.opens:%FT%TZ}" in outcome.detail
    while w.clock.now() + timedelta(hours=1) < opening.opens:
        await w.tick(hours=1)
    assert (vm.checks, w.outcomes.results) == (0, ["parked:outside_window"])
    await w.tick(hours=1)
    assert w.outcomes.results == ["parked:outside_window", "remediated"]


async def test_what_waits_is_asked_again_each_day_since_windows_may_be_moved() -> None:
    """A deployment with other windows lets go what the earlier one had wait for months."""
    w = world(**ENFORCE, windows=windows.opening("12-24 UTC"))
    await w.deliver(push(incident()))
    moved = world(store=w.store, clock=w.clock, fleet=w.fleet, **ENFORCE)
    await moved.tick(hours=25)
    assert moved.outcomes.results == ["remediated"]


async def test_a_source_that_repeats_is_skipped() -> None:
    """Nothing waits for it in the ledger, and no cooldown keeps its next line from being taken up."""
    w = world(**ENFORCE, windows=NIGHT)
    outcome = await w.deliver(push(entry()))
    assert (outcome.result, outcome.reason) == ("skipped", "outside_window")
    w.clock.tick(hours=34)
    assert (await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))).result == "remediated"


async def test_what_a_label_closes_is_known_once_the_vm_is_looked_up() -> None:
    """Nobody logs in to it; a VM without the label is remediated."""
    w = world(**ENFORCE, blackouts=windows.spans("label:env=prod UTC"))
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"env": "prod"})
    outcome = await w.deliver(push(incident()))
    assert (outcome.result, outcome.reason) == ("parked", "outside_window")
    assert w.fleet.vms[REF.instance_id].checks == 0
    w.fleet.facts_of[REF.instance_id] = facts
    assert (await w.deliver(push(incident(incident_id="inc-2"), "2"))).result == "remediated"


async def test_what_a_label_closes_is_told_once_and_waits_for_the_opening() -> None:
    """As what closes for any VM: nobody looks it up, or tells it, every few minutes until then."""
    w = world(**ENFORCE, blackouts=windows.spans("label:env=prod 12:00-22:00 UTC"))
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"env": "prod"})
    await w.deliver(push(incident()))
    for _ in range(9):
        await w.tick(hours=1)
    assert w.outcomes.results == ["parked:outside_window"]
    await w.tick(hours=1)
    assert w.outcomes.results == ["parked:outside_window", "remediated"]


async def test_a_window_that_closes_during_the_check_is_closed_at_the_commit_point() -> None:
    """The check saw the fault in time, and enforcing came too late: nothing is changed."""
    w = world(**ENFORCE, windows=windows.opening("00:00-12:01 UTC"))
    vm = w.fleet.vms[REF.instance_id]
    vm.on_check = [lambda: w.clock.tick(minutes=2)]
    outcome = await w.deliver(push(incident()))
    assert (outcome.result, outcome.reason, vm.enforcements) == ("parked", "outside_window", 0)
    assert vm.checks == 1


async def test_looking_and_planning_go_on_at_any_time() -> None:
    """What is approved outside of a window waits for it as everything does."""
    observed = world(windows=NIGHT)
    assert (await observed.deliver(push(entry()))).result == "planned"
    w = world(mode=Mode.APPROVE, windows=NIGHT)
    planned = await w.deliver(push(entry()))
    assert planned.result == "planned"
    assert planned.approval_id is not None
    await w.controls.approve(planned.approval_id, By("ann", w.clock.now()))
    await w.tick()
    assert w.outcomes.results[-1] == "parked:outside_window"
    await w.tick(hours=34)
    assert w.outcomes.results[-1] == "remediated"


async def test_a_persons_revert_and_look_pass_and_their_order_to_enforce_waits() -> None:
    """As with freezes; but a revert has not to name a window."""
    w = world(**ENFORCE, windows=NIGHT)
    look = replace(operator(intent_id="o-look"), look_only=True)
    assert (await w.pipeline.work(look)).result == "planned"
    assert (await w.pipeline.work(operator())).reason == "outside_window"
    w.fleet.vms[REF.instance_id].faulty = False
    assert (await w.pipeline.work(operator(Action.REVERT, "o-revert"))).result == "reverted"


def through(w: World, name: str = "o-now", **more: Any) -> Intent:
    """Give an order to enforce that names what is closed at this moment."""
    shut = windows.each_closed(w.settings.windows, w.settings.blackouts, w.clock.now())
    return replace(operator(intent_id=name), passes=tuple(map(str, shut)), why="outage 7", **more)


@pytest.mark.parametrize(
    "closed",
    [
        {"windows": NIGHT, "blackouts": windows.spans("Sun UTC")},
        {"windows": windows.opening("label:env=prod Mon UTC")},
    ],
)
async def test_a_persons_order_goes_through_what_it_names_and_says_so(closed: dict[str, Any]) -> None:
    """Windows and blackouts, of every VM or of a label; who, why and what are on record."""
    w = world(**ENFORCE, **closed)
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"env": "prod"})
    assert (await w.pipeline.work(operator(intent_id="o-blind"))).reason == "outside_window"
    order = through(w)
    outcome = await w.pipeline.work(order)
    assert outcome.result == "remediated"
    assert (outcome.requested_by, outcome.why) == (order.requested_by, "outage 7")
    assert outcome.passes == order.passes
    assert all("until" in each for each in outcome.passes)


@pytest.mark.parametrize("named", [{"windows": NIGHT}, {"blackouts": windows.spans("Sun UTC")}])
async def test_an_order_passes_nothing_that_it_does_not_name(named: dict[str, Any]) -> None:
    """Nor a freeze, whatever it names: that is another person's word."""
    known = world(**ENFORCE, **named)
    both: dict[str, Any] = {"windows": NIGHT, "blackouts": windows.spans("Sun UTC")}
    w = world(**ENFORCE, **both)
    outcome = await w.pipeline.work(through(known))
    assert (outcome.result, outcome.reason) == ("parked", "outside_window")
    freeze = Freeze("ann", START)
    await known.controls.freeze(freeze)
    order = through(known)
    outcome = await known.pipeline.work(replace(order, passes=(*order.passes, freeze.mark)))
    assert outcome.reason == "frozen"


async def test_an_order_passes_this_closing_and_not_the_next() -> None:
    """One that was held up until the window had opened and closed again waits as any other."""
    w = world(**ENFORCE, windows=windows.opening("14:00-15:00 UTC"))
    freeze = Freeze("ann", START)
    await w.controls.freeze(freeze)
    assert (await w.pipeline.work(through(w))).reason == "frozen"
    w.clock.tick(hours=4)
    await w.controls.resume(By("ann", w.clock.now()))
    await w.tick()
    assert w.outcomes.results[-1] == "parked:outside_window"


@pytest.mark.parametrize("origin", [Origin.APPROVAL, Origin.LOG_ENTRY, Origin.FOLLOW_UP])
async def test_nothing_but_a_persons_order_goes_through_a_closed_window(origin: Origin) -> None:
    """An approval is of a plan, which was made at any time of the day."""
    w = world(**ENFORCE, windows=NIGHT)
    assert (await w.pipeline.work(through(w, origin=origin))).reason == "outside_window"


async def test_an_agent_goes_on_under_the_blackout_that_the_order_names_and_not_under_the_next() -> None:
    """The tick takes no label away that was asked for in knowledge of the blackout."""
    w, agents = agents_world(blackouts=windows.spans("label:env=prod 12:00-13:00 UTC; 12:30-14:00 UTC"))
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels=dict(facts.labels) | {"env": "prod"})
    assert (await w.pipeline.work(through(w))).result == "requested"
    await w.tick(minutes=10)
    assert agents.label() == "enforce"
    await w.tick(minutes=25)
    assert (agents.label(), w.outcomes.results[-1]) == (None, "parked:outside_window")


async def test_a_request_that_is_out_when_the_window_closes_is_taken_back_and_made_again() -> None:
    """By the tick, as under a freeze: an agent could act at any later time."""
    w, agents = agents_world(windows=windows.opening("12:00-13:00 UTC"))
    await ask(w)
    assert agents.label() == "enforce"
    await w.tick(hours=1)
    assert w.outcomes.results == ["requested", "parked:outside_window"]
    assert agents.label() is None
    await w.tick(hours=22)
    assert len(w.outcomes.results) == 2
    await w.tick(hours=1)
    assert w.outcomes.results[-1] == "requested"
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    await w.tick()
    assert w.outcomes.results[-1] == "remediated"


async def test_a_request_is_taken_back_by_the_blackout_of_a_label() -> None:
    """Only the VM's facts show that it is concerned."""
    w, agents = agents_world(blackouts=windows.spans("label:env=prod 13:00-14:00 UTC"))
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels=dict(facts.labels) | {"env": "prod"})
    await ask(w)
    await w.tick(hours=1)
    assert w.outcomes.results == ["requested", "parked:outside_window"]
    assert agents.label() is None


async def test_a_runbooks_windows_hold_beside_the_functions() -> None:
    """They narrow: what the function closes, no runbook's file opens."""
    open_now: dict[str, Any] = {"windows": windows.opening("Sun UTC")}
    w = world(**ENFORCE, windows=NIGHT, by_runbook={"workload-cert-refresh": open_now})
    assert (await w.deliver(push(entry()))).reason == "outside_window"
    w = world(**ENFORCE, **open_now, by_runbook={"workload-cert-refresh": {"windows": NIGHT}})
    assert (await w.deliver(push(entry()))).reason == "outside_window"


async def test_a_freeze_is_told_before_a_window() -> None:
    """A person's word counts first, and the event waits for both."""
    w = world(**ENFORCE, windows=NIGHT)
    await w.controls.freeze(Freeze("sre", START))
    assert (await w.deliver(push(incident()))).reason == "frozen"
    await w.controls.resume(By("sre", START))
    await w.tick()
    assert w.outcomes.results[-1] == "parked:outside_window"


@pytest.mark.parametrize(
    "text",
    [
        "22:00-06:00",
        "Mon-Fri 22:00-06:00 Europe/Bern",
        "Mon-Fri Europe",
        "Mon-Fri ../../etc/passwd",
        "Monday UTC",
        "25:00-26:00 UTC",
        "22:00-22:00 UTC",
        "02-30 UTC",
        "2026-02-29 UTC",
        "2026-12-24..01-02 UTC",
        "2026-12-24..2026-12-01 UTC",
        "Mon Tue UTC",
        "label:Env=prod UTC",
        "Mon UTC;",
        "",
    ],
)
def test_what_is_no_window_is_an_error(text: str) -> None:
    """At the start, rather than a window that never opens or never closes."""
    with pytest.raises(ValueError, match=r"window \d+: "):
        windows.opening(text)
