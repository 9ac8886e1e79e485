"""`logmend status` from outcomes alone: what came of it, what failed, what to do next, who needs a person."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from tests.fakes import COUNTED, World, entry, incident, push, world
from tests.fakes import REF as FAKE
from tests.unit.cli.conftest import Run
from tests.unit.cli.outcomes import REF, lines, outcome
from tests.unit.cli.test_scan import Terminal
from tests.unit.test_pipeline import operator

from logmend.ledger.places import Out, Over, Shard
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import By, Fleet, Freeze, Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Outcome
from logmend.outcome import document as outcome_json
from logmend.settings import Budget
from logmend.stages import decide
from logmend_cli import output
from logmend_cli.outcome_source import OutcomeQuery
from logmend_cli.status.command import summed
from logmend_cli.status.fleet_rows import quantiles
from logmend_cli.status.spent import spent
from logmend_cli.status.summing import Summing, noted

KEYS = [
    "sources", "instances", "results", "outcomes", "first_outcome", "last_outcome", "stopped",
    "freezes", "closed", "waves", "held", "budgets", "last_tick",
    "unreached",
    "owners", "labels", "groups",
    "needs_human", "relapsed", "controls", "causes", "alike", "failures", "intents", "waiting",
    "documents", "approvals",
    "latency_ms",
]  # fmt: skip
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OTHER = InstanceRef("demo-project", "us-west1-b", "42")


def state(run: Run, *outcomes: Outcome) -> Any:
    ran = run("status", "-", "--format", "json", stdin=lines(*outcomes))
    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)


def test_results_are_counted_by_outcome_and_by_vm(run: Run) -> None:
    """What came of a VM last is what counts for it."""
    found = state(
        run,
        outcome(1, Result.FAILED, "unreachable"),
        outcome(2, Result.REMEDIATED),
        outcome(3, Result.REFUSED, "opted_in", instance=OTHER),
    )
    assert list(found) == KEYS
    assert found["instances"] == 2
    assert found["results"] == {"remediated": 1, "refused: opted_in": 1}
    assert found["outcomes"] == {"failed: unreachable": 1, "remediated": 1, "refused: opted_in": 1}
    assert (found["first_outcome"], found["last_outcome"]) == ("2026-03-01T12:01:00Z", "2026-03-01T12:03:00Z")


def test_failures_come_latest_first_each_with_its_next_step(run: Run) -> None:
    """The commands are ready to paste."""
    one, two = outcome(1, Result.FAILED, "unreachable"), outcome(2, Result.UNVERIFIED, "no_evidence")
    found = state(run, one, two, outcome(3))
    assert [each["outcome_id"] for each in found["failures"]] == [two.outcome_id, one.outcome_id]
    assert "35.235.240.0/20" in found["failures"][1]["next_step"]
    shown = run("status", "-", stdin=lines(one, two)).stdout
    assert f"web-1 {REF}  failed: unreachable" in shown
    assert "next: check that the VM runs sshd" in shown


def test_a_vm_left_to_a_person_stays_so_until_the_person_says_otherwise(run: Run) -> None:
    """As in the ledger, the mark outlives a person's fix, and ends with a revert or `logmend resume`."""
    human = outcome(1, Result.SKIPPED, "needs_human")
    assert [each["instance"] for each in state(run, human)["needs_human"]] == [str(REF)]
    assert "logmend resume" in state(run, human)["needs_human"][0]["next_step"]
    assert state(run, human, outcome(2, Result.REMEDIATED))["needs_human"] != []
    assert state(run, human, outcome(2, Result.REVERTED, action=Action.REVERT))["needs_human"] == []
    assert state(run, human, outcome(2, Result.CONTROLLED, "vm_resumed"))["needs_human"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": {}}, {"owner": {"a": 1}}, {"runbook": 5}, {"passes": [1]}, {"why": 7}, {"notes": [{}]},
        {"instance": {"labels": {"a": {"b": 1}}}}, {"instance": {"name": ["x"]}}, {"instance": {"group": {}}},
        {"instance": {"zone": {}}}, {"before": {"exit_code": 100, "at": "2026-03-01T12:00:00Z", "x": {}}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [("status",), ("report", "--out"), ("export", "--changes")])
def test_what_only_looks_like_an_outcome_is_counted_and_keeps_no_other_from_being_told(
    run: Run, tmp_path: Path, command: tuple[str, ...], wrong: dict[str, Any]
) -> None:
    """Whoever may write one entry to the log does not blind whoever reads it."""
    good, bad = (outcome_json.document(outcome(number)) for number in (1, 2))
    for key, value in wrong.items():
        bad[key] = {**bad[key], **value} if key == "instance" else value
    file = tmp_path / "outcomes.jsonl"
    file.write_text(json.dumps(bad) + "\n" + json.dumps(good) + "\n")
    out = [tmp_path / "report.html"] if "--out" in command else []
    ran = run(*command, *out, file)
    assert "1 items are not outcomes" in ran.stderr
    assert ran.exit_code == 0, ran.stderr


def test_a_list_that_is_cut_does_not_pass_for_all_that_there_is(run: Run) -> None:
    """Ten are printed, a thousand are kept, and there are more."""
    several = [
        outcome(n, Result.SKIPPED, "needs_human", instance=InstanceRef("demo-project", "us-west1-a", str(n)))
        for n in range(1, 1102)
    ]
    shown = run("status", "-", stdin=lines(*several)).stdout
    assert "Left to a person (10 of 1,000 or more; --format json has more)" in shown
    assert "Left to a person (10 of 11;" in run("status", "-", stdin=lines(*several[:11])).stdout


async def test_outcomes_count_failures_and_relapses_as_the_ledger_does() -> None:
    """A fix, a relapse, then failures with a refusal in between, until a person is needed."""
    w = world(mode=Mode.ENFORCE, cooldown_refused=timedelta(minutes=1))
    vm, folded = w.fleet.vms[FAKE.instance_id], Subject(FAKE, "workload-cert-refresh")
    fine = w.fleet.facts_of[FAKE.instance_id]
    counts = []

    def faulty() -> None:
        vm.faulty = True

    def broken() -> None:
        vm.faulty, vm.fix_works = True, False

    def exempt() -> None:
        w.fleet.facts_of[FAKE.instance_id] = replace(fine, labels={"logmend": "off"})

    def unexempt() -> None:
        w.fleet.facts_of[FAKE.instance_id] = fine

    steps = (None, faulty, None, broken, exempt, unexempt, None, None)
    for number, step in enumerate(steps):
        if step is not None:
            step()
        await w.deliver(push(entry(at=w.clock.now()), str(number), at=w.clock.now()))
        for each in w.outcomes.written:
            folded = noted(folded, each, w.settings)
        w.outcomes.written.clear()
        kept = await w.controls.subject(FAKE, "workload-cert-refresh")
        assert kept is not None
        counts.append((kept.failures, kept.relapses, kept.needs_human, kept.fixed_at))
        assert (folded.failures, folded.relapses, folded.needs_human, folded.fixed_at) == counts[-1], number
        w.clock.tick(days=8)
    assert counts[4][:3] == (1, 1, False), "a refusal in between ends no row of failures"
    assert counts[-1][:3] == (3, 1, True)


def test_a_relapse_is_a_fault_seen_again_after_a_verified_fix(run: Run) -> None:
    """Being skipped is none, nor is a revert, whose check looks for the opposite."""
    fixed, skipped = outcome(1), outcome(2, Result.SKIPPED, "cooling_down")
    reverted = outcome(3, Result.REVERTED, action=Action.REVERT, before=outcome(3).before)
    assert state(run, fixed, skipped, reverted, outcome(4))["relapsed"] == []
    again = state(run, fixed, skipped, outcome(3))["relapsed"]
    assert [each["relapses"] for each in again] == [1]


def test_an_outcome_that_was_written_twice_counts_once(run: Run) -> None:
    """A redelivery appends the same line again."""
    assert state(run, outcome(1), outcome(1))["outcomes"] == {"remediated": 1}


def test_since_leaves_out_what_is_older(run: Run) -> None:
    """As a time or a duration."""
    text = lines(outcome(1), outcome(5))
    ran = run("status", "-", "--format", "json", "--since", "2026-03-01T12:03:00Z", stdin=text)
    assert json.loads(ran.stdout)["outcomes"] == {"remediated": 1}


def test_latencies_are_told_by_their_quantiles(run: Run) -> None:
    """Nearest rank, in milliseconds."""
    found = state(run, *(outcome(number) for number in range(1, 101)))["latency_ms"]
    assert found["queue"] == {"count": 100, "p50": 5000, "p95": 9500, "max": 10000}
    assert quantiles([]) == {"count": 0, "p50": None, "p95": None, "max": None}
    assert quantiles([7]) == {"count": 1, "p50": 7, "p95": 7, "max": 7}


def test_what_cloud_logging_exports_is_read_too(run: Run) -> None:
    """`gcloud logging read logName=…/logmend --format=json`: an array of entries around the outcomes."""
    document = outcome_json.document(outcome(1))
    entries = [
        {
            "logName": "projects/p/logs/logmend",
            "timestamp": document.pop("timestamp"),
            "jsonPayload": document,
        }
    ]
    ran = run("status", "-", "--format", "json", stdin=json.dumps(entries))
    assert json.loads(ran.stdout)["outcomes"] == {"remediated": 1}


def test_the_file_of_logmend_outcomes_is_the_default(run: Run, tmp_path: Path) -> None:
    """Where outcomes are put, they are looked for."""
    file = tmp_path / "outcomes.jsonl"
    file.write_text(lines(outcome(1)))
    ran = run("status", "--format", "json", outcomes=f"file:{file}")
    assert json.loads(ran.stdout)["sources"] == {"ledger": None, "outcomes": str(file)}


def test_lines_that_are_no_outcomes_are_told_and_do_not_matter(run: Run) -> None:
    """Another program may write to the same file."""
    ran = run("status", "-", "--format", "json", stdin='{"x": 1}\n' + lines(outcome(1)) + "cut o")
    assert json.loads(ran.stdout)["outcomes"] == {"remediated": 1}
    assert "2 items are not outcomes" in ran.stderr


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        ([], None, "LOGMEND_STATE="),
        (["-"], "not JSON at all", "no outcome in it"),
        (["-"], '{"logName": "projects/p/logs/syslog", "jsonPayload": {}}', "no outcome in it"),
        (["no-such-file"], None, "cannot be read"),
        (["-", "--cloud"], "", "not both"),
        (["--cloud"], None, "LOGMEND_PROJECT"),
        (["-", "--since", "once"], "", "is not a time"),
        (["-", "--format", "csv"], "", "Invalid value"),
    ],
)
def test_input_of_no_use_is_told(run: Run, args: list[str], stdin: str | None, told: str) -> None:
    """Status 2, nothing on standard output."""
    ran = run("status", *args, stdin=stdin)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr


def test_an_outcomes_text_cannot_reach_the_terminal(run: Run) -> None:
    """A VM's own words are anyone's."""
    ran = run(
        "status", "-", stdin=lines(outcome(1, Result.FAILED, "script_error", detail="\x1b]0;owned\x07"))
    )
    assert "\x1b]" not in ran.stdout


def test_lists_are_bounded_and_counts_are_not() -> None:
    """Failures of a bad day: the latest fifty, all of them counted."""
    summing = Summing()
    for number in range(500):
        summing.outcome(outcome(number, Result.FAILED, "unreachable"))
    found = summing.state()
    assert found.outcomes == {"failed: unreachable": 500}
    assert [each.intent_id for each in found.failures] == [f"m-{n}" for n in range(499, 449, -1)]


def test_failures_are_grouped_by_their_cause() -> None:
    """The one that most VMs share comes first."""
    summing = Summing()
    for number in range(3):
        summing.outcome(outcome(number, Result.FAILED, "script_error"))
    for number, ref in enumerate((REF, OTHER)):
        summing.outcome(outcome(10 + number, Result.FAILED, "unreachable", instance=ref))
    causes = summing.state().document()["causes"]
    assert [(each["reason"], each["instances"], each["outcomes"]) for each in causes] == [
        ("unreachable", 2, 2),
        ("script_error", 1, 3),
    ]
    assert "35.235.240.0/20" in causes[0]["next_step"]


def known(runbook: str, minute: int, result: Result, **more: Any) -> Subject:
    return Subject(REF, runbook, last_result=result, last_at=AT + timedelta(minutes=minute), **more)


def test_a_vm_that_two_runbooks_know_counts_once() -> None:
    """What came last of it counts, of whichever runbook."""
    summing = Summing(Fleet())
    summing.subject(known("workload-cert-refresh", 1, Result.REMEDIATED))
    summing.subject(known("ops-agent", 2, Result.FAILED))
    found = summing.state()
    assert (found.instances, dict(found.by_result)) == (1, {"failed": 1})


def test_since_bounds_what_the_ledger_counts_and_never_what_stands_still() -> None:
    """An old freeze or hold is still one."""
    freeze = Freeze("ann", AT, "storm", until=AT + timedelta(hours=2))
    summing = Summing(Fleet(frozen=freeze), AT + timedelta(minutes=5))
    summing.subject(known("ops-agent", 1, Result.REVERTED, held=True, held_by="o-1", needs_human=True))
    found = summing.state().document()
    assert (found["instances"], found["results"], found["needs_human"]) == (0, {}, [])
    assert [each["runbook"] for each in found["held"]] == ["ops-agent"]
    assert found["freezes"] == [
        {
            "name": freeze.name,
            "scope": "everything",
            "by": "ann",
            "identity": "claimed",
            "since": "2026-03-01T12:00:00Z",
            "until": "2026-03-01T14:00:00Z",
            "why": "storm",
        }
    ]


def test_a_full_budget_says_when_its_next_place_is_free() -> None:
    """One that has room does not."""
    budget, over = Budget(2, timedelta(minutes=10)), Over(AT, 1)
    shard = Shard(600.0, {"m-1": Out(AT + timedelta(minutes=1), None)}, {"x": over})
    later = AT + timedelta(minutes=4)
    (full,) = spent({"ops-agent": [shard]}, {"ops-agent": budget}, later)
    assert (full.used, full.limit, full.frees) == (2, 2, AT + timedelta(minutes=10))
    (room,) = spent({"ops-agent": [shard]}, {"ops-agent": Budget(3, budget.window)}, later)
    assert (room.used, room.frees) == (2, None)


async def test_what_waits_is_told_in_turn_with_its_position_and_when_to_expect_it() -> None:
    """A person's order first, then by age; a budget of two a window, so that the fourth is a window later."""
    budget = Budget(2, timedelta(minutes=10))
    w = world(mode=Mode.ENFORCE, disruption_budget=budget)
    refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + number)) for number in range(6)]
    for number, ref in enumerate(refs):
        w.fleet.add(ref)
        await w.deliver(push(incident(ref, incident_id=f"i{number}"), f"m{number}"))
        w.clock.tick(seconds=1)
    order = replace(operator(intent_id="o-late"), instance=refs[5], created_at=w.clock.now())
    assert (await w.pipeline.work(order)).reason == "budget_exhausted"
    found = await state_of(w)
    turns = {each["intent_id"]: (each["position"], each["expected"]) for each in found["waiting"]}
    assert list(turns) == ["o-late", "m-m2", "m-m3", "m-m4", "m-m5"]
    assert [position for position, _ in turns.values()] == [1, 2, 3, 4, 5]
    when = [datetime.fromisoformat(at) for _, at in turns.values()]
    assert w.clock.now() < when[0] == when[1] < when[2] == when[3] < when[4]
    assert when[4] - when[2] == when[2] - when[0] == budget.window
    assert found["documents"]["intents"] == 7
    await w.controls.freeze(Freeze("ann", w.clock.now()))
    await w.tick(minutes=30)
    assert {each["expected"] for each in (await state_of(w))["waiting"]} == {None}, "nobody knows"


async def test_days_that_count_repeats_are_documents_of_the_ledger_too() -> None:
    """There is one for each VM, runbook and day: most of a ledger that counts, beside uses of controls."""
    w = world(**COUNTED)
    for number in range(3):
        await w.deliver(push(entry(at=w.clock.now()), str(number), at=w.clock.now()))
        await w.tick(minutes=10)
    await w.controls.freeze(Freeze("ann", w.clock.now()))
    found = (await state_of(w))["documents"]
    assert (found["repeats"], found["acts"], found["subjects"]) == (1, 1, 1)


async def test_nothing_is_expected_while_it_is_stopped_and_the_rest_is_again_once_it_is_not() -> None:
    """By what is so now, not by why it waited when it was asked last."""
    w = world(mode=Mode.ENFORCE, disruption_budget=Budget(1, timedelta(minutes=10)))
    for number in (1, 2, 3):
        w.fleet.add(ref := InstanceRef(REF.project_id, REF.zone, str(1000 + number)))
        await w.deliver(push(incident(ref, incident_id=f"i{number}"), f"m{number}"))

    async def expected() -> list[bool]:
        return [each["expected"] is not None for each in (await state_of(w))["waiting"]]

    assert await expected() == [True, True]
    freeze = Freeze("ann", w.clock.now())
    runbook = (await state_of(w))["waiting"][1]["runbook"]
    await w.controls.freeze_instance(ref, runbook, freeze)
    assert await expected() == [True, False]
    await w.controls.freeze(freeze)
    assert await expected() == [False, False]
    told = (await state_of(w))["waiting"][0]
    assert (told["reason"], told["position"]) == ("budget_exhausted", 1)
    await w.controls.resume(By("ann", w.clock.now()))
    assert await expected() == [True, False]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_what_waits_can_be_copied_from_a_terminal_of_any_width(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Ids are never cut: where a table would have to, each row is told in lines."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    columns = ("in turn", "reason", "VM", "runbook", "since", "intent id")
    row = ("1", "retry", str(REF), "workload-cert-refresh", "2026-03-01T12:00:00Z", "o-" + 32 * "7")
    output.show_table(columns, [row, ("2", None, *row[2:])], title="Waiting")
    text = click.unstyle(terminal.getvalue())
    assert max(map(len, text.splitlines())) <= width
    assert all(text.count(word) == 2 for word in row[2:])
    assert (width == 200) == ("\u2500" in text), "a table, if it fits"


async def test_the_budget_that_is_told_is_the_one_that_holds_for_the_runbook() -> None:
    """Its own in the configuration, if that is larger than everybody's."""
    own = {"ops-agent": {"disruption_budget": Budget(10, timedelta(minutes=1))}}
    w = world(disruption_budget=Budget(2, timedelta(minutes=10)), by_runbook=own)
    told = {each["runbook"]: each["limit"] for each in (await state_of(w))["budgets"]}
    runbook = w.pipeline.runbooks["ops-agent"]
    assert told["ops-agent"] == decide.budget(runbook, w.pipeline.policies.of("ops-agent")).count == 10
    assert told["workload-cert-refresh"] == 2


async def state_of(w: World) -> Any:
    """Give what status says of a ledger, as the command reads it."""
    app: Any = SimpleNamespace(
        settings=w.settings, controls=w.controls, queues=w.ticker.queues, pipeline=w.pipeline
    )
    summing = await summed(app, OutcomeQuery(None, None, None), w.clock.now(), lambda _: None)
    return summing.state().document()
