"""A week of operating 150 VMs, played day by day: whoever takes the wheel is obeyed, seen and on record.

At the end of every day ledger, outcomes, status, report, export and the machines' own records agree.
"""

import csv
import io
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.e2e.post import DELIVERY_ATTEMPTS
from tests.e2e.week import OFF, ON, PATIENT_ATTEMPTS, RUNBOOK, Week, changes, own_runbook, playing, unit
from tests.emulators import Emulator

from logmend_cli.pretend.story import _fail

SIZE = 150
BUDGET = 20


@pytest.fixture
def week(
    tmp_path: Path,
    firestore_emulator: Emulator,
    pubsub_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> object:
    """Serve 150 VMs, both emulators, and a function whose clock is moved."""
    del firestore_emulator, pubsub_emulator
    with playing(tmp_path, SIZE, monkeypatch) as week:
        yield week


def web(*numbers: int) -> list[str]:
    """Name VMs."""
    return [f"web-{each:03}" for each in numbers]


@pytest.mark.timeout(1500)
def test_a_week_of_operating_is_obeyed_seen_and_on_record(week: Week) -> None:
    """Observe, count, approve, enforce with a budget, an outage, reverts, an own runbook, clean-up."""
    for day in (observing, complaining, approving, enforcing, outage, reverting, own, clean_up):
        day(week)
        week.later(hours=3)  # what is said again is counted, and told once the VM was silent for two
        week.agree()
        week.later(hours=21)


def observing(week: Week) -> None:
    """Nothing is changed for anyone, and what is learned needs no person later."""
    exempt, fine, wrong = web(140, 141, 142)
    week.fleet.machines[exempt].instance.labels["logmend"] = "off"
    unit(week.fleet.machines[fine], "enabled", "disabled")
    unit(week.fleet.machines[fine], "active", "inactive")
    metadata = week.fleet.machines[wrong].folder / "pretend/http/169.254.169.254/computeMetadata/v1/instance"
    true = (metadata / "id").read_text()
    (metadata / "id").write_text("1111")
    week.start("observe")
    said = week.lines(*web(*range(20)), exempt, fine, wrong)
    assert Counter(said.values()) == {
        "planned": 20,
        "refused: exempt": 1,
        "nothing_to_do": 1,
        "failed: wrong_instance": 1,
    }
    week.later(minutes=11)
    assert set(week.lines(*web(*range(5))).values()) == {"skipped: cooling_down"}
    for hours in (1, 3):
        week.later(hours=hours)
        assert week.lines(wrong) == {wrong: "failed: wrong_instance"}
    (metadata / "id").write_text(true)
    refused = week.run("run", week.ref("web-000"), "--enforce", "--yes")
    assert (refused.exit_code, "LOGMEND_MODE=observe" in refused.stderr) == (2, True), "the mode is a ceiling"
    week.does("run", week.ref("web-000"), "--enforce", "--yes", "--via-function", "--by", "ann@desk")
    week.tick()
    assert week.told("web-000")[-1] == "refused: observe_mode"
    assert week.changed() == 0
    assert week.json("status")["needs_human"] == []


def complaining(week: Week) -> None:
    """Two VMs go on complaining: one entry when it begins and one with the count, of every line."""
    names, before = web(143, 144), len(week.counted())
    assert set(week.lines(*names).values()) == {"planned"}
    week.later(minutes=10)
    assert set(week.lines(*names).values()) == {"skipped: cooling_down"}
    for number in range(5):
        week.later(minutes=10)
        assert set(week.lines(*names).values()) == {"skipped: cooling_down"}
        assert len(week.counted()) == before + 2 * number + 2
    week.later(hours=3)
    week.tick()
    assert [_entries(week, name) for name in names] == [(["planned", "skipped: cooling_down"], 5)] * 2
    assert set(week.lines(*names).values()) == {"skipped: cooling_down"}
    week.start("observe", repeats="each")
    for _ in range(2):
        week.later(minutes=10)
        assert set(week.lines(*names).values()) == {"skipped: cooling_down"}
    assert [_entries(week, name) for name in names] == [(["planned", *["skipped: cooling_down"] * 4], 5)] * 2
    week.start("observe", repeats="counted")


def _entries(week: Week, name: str) -> tuple[list[str], int]:
    """Give the verdicts on a VM that have an entry each, and how many events the other entries tell of."""
    counts = [each["count"] for each in week.outcomes() if each["first_at"] and week.is_of(each, name)]
    return week.told(name, first_at=None), sum(counts)


def approving(week: Week) -> None:
    """Let a person decide on what was seen: on many at once, and on nothing else."""
    week.start("approve")
    assert set(week.lines(*web(*range(24))).values()) == {"planned"}
    listed = {each["name"]: each for each in week.json("approvals", "list")}
    assert sorted(listed) == web(*range(24))
    assert "timer_enabled=enabled" in listed["web-000"]["evidence"]
    unit(week.fleet.machines["web-003"], "active", "inactive")  # no longer what the person sees
    week.does("freeze", "--why", "change window", "--by", "ann@desk")
    approve = ("approvals", "approve", "--by", "ann@desk")
    told = week.does(*approve, "--label", "team=red", "--why", "CHG-7", "--yes")
    assert "acts on it now" not in told
    assert told.count("approved by ann@desk") == 8
    week.does("approvals", "withdraw", listed["web-021"]["approval_id"], "--by", "bob@desk")
    week.tick()
    assert week.changed() == 0, "a freeze stops an approval too"
    week.does("resume", "--by", "ann@desk")
    week.tick()
    assert week.timers(*web(0, 6, 9, 12, 15, 18)) == {OFF}
    assert week.told("web-003")[-1] == "planned: approval_differs"
    assert week.told("web-021")[-1] == "skipped: cancelled"
    assert changes(week.fleet.machines["web-003"]) == changes(week.fleet.machines["web-021"]) == []
    unit(week.fleet.machines["web-003"], "active", "active")
    beginning = listed["web-001"]["approval_id"][:8]
    week.does("approvals", "reject", beginning, "--why", "to be replaced", "--by", "ann@desk")
    week.later(days=2)
    assert week.lines("web-001") == {"web-001": "skipped: declined"}
    week.tick()
    assert week.json("approvals", "list") == []
    expired = [each for each in week.outcomes() if each["reason"] == "approval_expired"]
    assert len(expired) == 16, "who was not decided on, and the plan that differed"
    assert {each["identity"] for each in week.outcomes(result="controlled")} == {"claimed", None}


def enforcing(week: Week) -> None:
    """Never more than the budget, persons before automation, the oldest first."""
    week.start("enforce")
    assert week.lines("web-142") == {"web-142": "remediated"}, "what observing met with needs no person"
    week.later(minutes=11)
    before = week.changed()
    first = web(*range(24, 29))  # on another day these are reverted
    assert set(week.lines(*first).values()) == {"remediated"}
    lines = Counter(week.lines(*web(*range(29, 50))).values())
    assert lines == {"remediated": BUDGET - len(first), "skipped: budget_exhausted": 6}
    alerts = week.alerts(*web(*range(50, 74)))
    assert set(alerts.values()) == {"parked: budget_exhausted"}
    assert week.changed() == before + BUDGET
    used = next(each for each in week.json("status")["budgets"] if each["runbook"] == RUNBOOK)
    assert (used["used"], used["limit"], used["frees"] is not None) == (BUDGET, BUDGET, True)
    last = week.ref("web-074")
    for _ in range(2):
        week.does("run", last, "--enforce", "--yes", "--via-function", "--by", "ann@desk")
    week.later(minutes=12)
    week.tick()
    assert week.changed() == before + 2 * BUDGET
    assert week.told("web-074") == ["remediated", "nothing_to_do"], "neither waits for a lease to run out"
    done = [name for name in web(*range(50, 74)) if week.told(name)[-1] == "remediated"]
    assert len(done) == BUDGET - 1, "a person's order goes first"
    for _ in range(2):
        week.later(minutes=12)
        week.tick()
    assert week.timers(*web(*range(50, 75))) == {OFF}
    typo = week.alerts("web-075", runbook="workload-cert-refesh")
    assert typo == {"web-075": "refused: unknown_runbook"}
    assert week.outcomes(reason="unknown_runbook")[0]["severity"] == "ERROR"
    assert week.run("freeze", "--instance", "e2e-project/us-west1-a/1234").exit_code == 2, (
        "there is no such VM"
    )


def outage(week: Week) -> None:
    """Bring what died while an API was away to its end; have a breaker stop what goes wrong."""
    names = web(*range(75, 83))
    week.fleet.compute.fail(r"/instances/\d+", 503)
    week.on(week.post.give_up_after(DELIVERY_ATTEMPTS))
    at = week.now()
    sent = week.send({name: _line(week, name, at) for name in names})
    letters = ("replay", "--subscription", week.post.pull_subscription)
    for _ in range(30):
        if f"{len(names)} explained" in week.does(*letters):
            break
    else:
        raise AssertionError("not every message was given up")
    week.given_up |= sent.keys()
    week.on(week.post.give_up_after(PATIENT_ATTEMPTS))
    week.fleet.compute.recover()
    published = week.does(*letters, "--publish", "--topic", week.post.topic)
    assert f"{len(names)} published" in published
    week.until(lambda: week.timers(*names) == {OFF})
    week.on(week.post.all_acknowledged())
    week.tick()
    assert [week.told(name, reason="replayed") for name in names] == [["skipped: replayed"]] * len(names)

    broken = web(*range(83, 89))
    for name in broken:
        _fail(week.fleet.machines[name], "systemctl-disable", "Failed: Read-only file system")
    week.later(hours=2)
    said = week.lines(*broken)
    assert set(said.values()) == {"failed: script_error"}
    assert week.lines("web-090") == {"web-090": "skipped: breaker_open"}
    week.tick()
    opened = [each for each in week.outcomes(result="controlled") if each["reason"] == "breaker_opened"]
    assert [each["requested_by"] for each in opened] == [None]
    for name in broken:
        shutil.rmtree(week.fleet.machines[name].folder / "pretend" / "fail")
    week.does("resume", "--runbook", RUNBOOK, "--why", "disk was full", "--by", "ann@desk")
    week.later(hours=1)
    assert set(week.lines(*broken, "web-090").values()) == {"remediated"}


def _line(week: Week, name: str, at: object) -> dict[str, object]:
    from logmend_cli.pretend.entries import entry

    return entry(week.vm(name), host=name, at=at)  # type: ignore[arg-type]


def reverting(week: Week) -> None:
    """Freeze, revert, find the cause: a way back goes on, and no older order undoes it."""
    first, others = "web-024", web(25, 26, 27, 28)
    order = ("--enforce", "--yes", "--by", "ann@desk")
    week.does("freeze", "--instance", week.ref(first), "--by", "eve@desk")
    week.does("run", week.ref(first), "--via-function", *order)
    week.tick()
    assert week.told(first)[-1] == "parked: frozen"
    assert week.json("tick", mode="observe")["errors"] == {}
    assert [each["instance"] for each in week.json("status")["waiting"]] == [week.ref(first)], "not lost"
    week.does("freeze", "--why", "complaints", "--by", "ann@desk")
    week.does("freeze", "--why", "night", "--by", "bob@desk")
    assert len(week.json("status")["freezes"]) == 4, "of everything twice, of the VM under each runbook"
    shown = week.run("revert", *(week.ref(each) for each in (first, *others)), *order)
    assert shown.exit_code == 0, shown.stderr
    assert "everything is frozen by ann@desk" in shown.stderr
    assert week.timers(first, *others) == {ON}, "a freeze, and the fix's budget, are not for the way back"
    week.does("resume", "--by", "bob@desk")
    assert [each["by"] for each in week.json("status")["freezes"] if each["scope"] == "everything"] == [
        "ann@desk"
    ], "each has to be lifted"
    week.does("resume", "--by", "ann@desk")
    freeze = next(each["name"] for each in week.json("status")["freezes"])
    week.does("resume", freeze, "--by", "eve@desk")
    week.later(hours=1)  # as long as an order waits that a tick in mode observe has met
    week.tick()
    assert week.told(first)[-1] == "skipped: superseded_by_revert"
    assert week.timers(first, *others) == {ON}
    week.later(hours=2)
    said = week.lines(first, *others)
    assert set(said.values()) == {"skipped: reverted"}
    story = [each["what"] for each in week.json("history", week.ref(first))]
    assert "ordered: revert" in story
    assert "freeze set" in story
    assert story.index("reverted") < story.index("skipped: superseded_by_revert")
    assert {each["instance"] for each in week.json("status")["held"] if each["held_by"].startswith("o-")} == {
        week.ref(each) for each in (first, *others)
    }


def own(week: Week) -> None:
    """Let a runbook of the user's own go the same way; a hold of another runbook is not for it."""
    own_runbook(week.folder / "runbooks")
    choices = week.folder / "logmend.yaml"
    choices.write_text("folders: [runbooks]\nrunbooks:\n  motd:\n    mode: enforce\n")
    week.start("enforce", runbooks=str(choices))
    names = ["web-024", *web(100, 101)]
    assert set(week.alerts(*names, runbook="motd").values()) == {"remediated"}
    marks = [week.fleet.machines[name].folder / "var/lib/logmend/motd" for name in names]
    assert all(each.exists() for each in marks)
    assert week.json("status")["instances"] == len({each.instance for each in week.ledger()[1]})
    week.does("revert", week.ref("web-101"), "--runbook", "motd", "--enforce", "--yes")
    assert [each.exists() for each in marks] == [True, True, False]


def clean_up(week: Week) -> None:
    """Nothing waits, nothing is held or frozen, and the whole week is told to whoever asks."""
    held = week.json("status")["held"]
    for each in held:
        week.does("resume", "--instance", each["instance"], "--runbook", each["runbook"], "--by", "ann@desk")
    week.later(hours=1)
    left = [
        name for name in web(*range(150)) if week.fleet.machines[name].timer() == ON and name != "web-140"
    ]
    for start in range(0, len(left), BUDGET):
        assert set(week.lines(*left[start : start + BUDGET]).values()) == {"remediated"}
        week.later(minutes=12)
    assert week.timers(*(name for name in web(*range(150)) if name != "web-140")) == {OFF}
    status = week.json("status")
    assert [status[key] for key in ("stopped", "freezes", "held", "waiting", "approvals")] == [[]] * 5
    rows = week.json("export", "--changes")
    who = Counter(each["by"] for each in rows if each["kind"] == "control")
    assert who["ann@desk"] > who["bob@desk"] > 0
    assert all(row["before"] and row["after"] for row in rows if row["changed"] == "proven"), "with evidence"
    table = list(csv.DictReader(io.StringIO(week.does("export", "--changes", "--format", "csv"))))
    assert [each["outcome_id"] for each in table] == [each["outcome_id"] for each in rows]
