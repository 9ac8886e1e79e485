"""`logmend replay` where nothing is published: explaining, ordering, an outcome's event, bad input."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import REF, ManualClock, World, entry, incident, push, world
from tests.unit.cli.conftest import Run

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.errors import ConfigError
from logmend.model.enums import Mode, Origin
from logmend.model.struct import replace
from logmend.model.values import Delivery, Intent
from logmend_cli.replay.journal import ReplayJournal


@pytest.fixture
def journals(state_home: Path) -> Path:
    """Name the folder in which journals of runs are kept."""
    return state_home / "logmend"


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """Name a SQLite ledger."""
    return f"sqlite:{tmp_path / 'ledger.sqlite'}"


def in_ledger(state: str, use: Callable[[SqliteStore], Any]) -> Any:
    """Use the ledger for a moment."""

    async def body() -> Any:
        store = SqliteStore(Path(state.removeprefix("sqlite:")))
        try:
            return await use(store)
        finally:
            await store.aclose()

    return asyncio.run(body())


def here(store: SqliteStore) -> World:
    """Give an application of today: what is long over is deleted from a ledger."""
    return world(store=store, mode=Mode.ENFORCE, clock=ManualClock(datetime.now(UTC)))


def orders(state: str) -> list[Intent]:
    """Give every intent in the ledger."""

    async def use(store: SqliteStore) -> list[Intent]:
        from logmend.ledger import Queues

        return [each.intent async for each in Queues(store).records()]

    found: list[Intent] = in_ledger(state, use)
    return found


def written(tmp_path: Path, *documents: Any) -> Path:
    file = tmp_path / "events.json"
    file.write_text("\n".join(json.dumps(each) for each in documents))
    return file


# Explaining


def test_a_file_of_any_shape_is_explained_as_of_now(run: Run, tmp_path: Path) -> None:
    """Messages and entries side by side; age is judged, since that is what would become of them."""
    fresh = entry(at=datetime.now(UTC))
    file = written(tmp_path, entry(), push(fresh, "7"), incident())
    ran = run("replay", file, "--format", "json")
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert [
        (each["event"], each["result"], each["reason"], each["replay_of"]) for each in said["events"][:2]
    ] == [
        ("log_entry", "skipped", "stale", "abc123"),
        ("log_entry", "planned", None, "7"),
    ]
    assert said["events"][2]["event"] == "incident"
    assert {each["done"] for each in said["events"]} == {"explained"}
    assert said["totals"] == {"explained": 3}
    assert "nothing was changed" in ran.stderr


def test_explaining_leaves_no_journal(run: Run, tmp_path: Path, journals: Path) -> None:
    """Nothing was begun that could be gone on with."""
    assert run("replay", written(tmp_path, entry())).exit_code == 0
    assert not journals.exists()


def test_the_same_document_twice_is_one_event(run: Run, tmp_path: Path) -> None:
    """As an export and the dead letter may both hold it."""
    said = json.loads(run("replay", written(tmp_path, entry(), entry()), "--format", "json").stdout)
    assert said["totals"] == {"explained": 1, "met twice": 1}


def test_a_line_for_each_event(run: Run, tmp_path: Path) -> None:
    """Where it stands, what would become of it, which VM."""
    ran = run("replay", written(tmp_path, entry(), {"hello": "world"}))
    assert ran.exit_code == 1
    first, second, totals = ran.stdout.splitlines()
    assert "skipped: stale" in first
    assert str(REF) in first
    assert "rejected: not_an_event" in second
    assert totals == "2 explained"


# Ordering


def test_a_stale_event_is_ordered_under_the_operators_name(run: Run, tmp_path: Path, ledger: str) -> None:
    """An operator's intent, linked to its original, on record as theirs."""
    ran = run(
        "replay", written(tmp_path, push(entry(), "7")), "--allow-stale", "--by", "sre@desk", state=ledger
    )
    assert ran.exit_code == 0, ran.output
    assert "ordered o-replay-" in ran.stdout
    (order,) = orders(ledger)
    assert order.intent_id.startswith("o-replay-")
    assert (order.origin, order.requested_by, order.replay_of) == (Origin.OPERATOR, "sre@desk", "7")
    assert (order.allow_stale, order.message_id, order.instance) == (True, None, REF)


def test_ordering_again_is_a_new_order_once_the_first_run_has_ended(
    run: Run, tmp_path: Path, ledger: str
) -> None:
    """A person who says it twice means it twice."""
    for _ in range(2):
        assert run("replay", written(tmp_path, entry()), "--allow-stale", state=ledger).exit_code == 0
    assert len(orders(ledger)) == 2


def test_a_limit_ends_a_run_that_the_next_one_goes_on_with(
    run: Run, tmp_path: Path, ledger: str, journals: Path
) -> None:
    """Three events, two at a time: each is ordered once, and only then is the run over."""
    vms = [replace(REF, instance_id=f"5{n}") for n in range(3)]
    file = written(tmp_path, *(entry(vm, insertId=f"i{n}") for n, vm in enumerate(vms)))
    first = run("replay", file, "--allow-stale", "--limit", "2", state=ledger)
    assert first.exit_code == 0
    assert "there are more than 2 events" in first.stderr
    assert len(list(journals.iterdir())) == 1
    second = run("replay", file, "--allow-stale", "--limit", "2", state=ledger)
    assert "continuing an interrupted run (2 done)" in second.stderr
    assert "1 ordered" in second.stdout
    assert list(journals.iterdir()) == []
    assert sorted(each.replay_of or "" for each in orders(ledger)) == ["i0", "i1", "i2"]


def test_a_vm_that_a_file_tells_of_again_and_again_is_ordered_once(
    run: Run, tmp_path: Path, ledger: str
) -> None:
    """Also over an interruption: a limit of one is met three times."""
    file = written(tmp_path, *(entry(insertId=f"i{n}") for n in range(3)))
    for _ in range(3):
        assert run("replay", file, "--allow-stale", "--limit", "1", state=ledger).exit_code == 0
    (order,) = orders(ledger)
    assert order.replay_of == "i0"


def test_only_what_a_runbook_is_for_is_ordered(run: Run, tmp_path: Path, ledger: str) -> None:
    """No VM, no runbook or a variant that says no: left, and said."""
    text = entry()["jsonPayload"]["message"].replace("404", "412")
    refused = entry(jsonPayload={"message": text}, insertId="b")
    file = written(tmp_path, {"logmend": "tick"}, entry(logName="projects/demo-project/logs/x"), refused)
    ran = run("replay", file, "--allow-stale", "--format", "json", state=ledger)
    said = json.loads(ran.stdout)
    assert {each["done"] for each in said["events"]} <= {"dropped", "left", "ordered"}
    assert (said["events"][0]["done"], said["events"][2]["done"]) == ("dropped", "left")
    assert len(orders(ledger)) == said["totals"].get("ordered", 0)


def test_an_outcomes_event_is_ordered_from_the_ledger_alone(run: Run, ledger: str) -> None:
    """Also an incident's, which no log keeps; by outcome, intent or message id."""
    said = in_ledger(ledger, lambda store: here(store).deliver(push(incident(), "7")))
    for name in (said.outcome_id, "m-7", "7"):
        ran = run("replay", "--outcome", name, "--allow-stale", "--by", "sre@desk", state=ledger)
        assert ran.exit_code == 0, ran.output
    *_, order = (each for each in orders(ledger) if each.intent_id.startswith("o-"))
    assert (order.replay_of, order.requested_by, order.instance) == ("7", "sre@desk", REF)


def test_an_incident_cannot_be_fetched_to_be_published(run: Run, ledger: str) -> None:
    """It says so, and what can be done."""
    in_ledger(ledger, lambda store: here(store).deliver(push(incident(), "7")))
    ran = run("replay", "--outcome", "7", state=ledger)
    assert ran.exit_code == 2
    assert "came from incident, which is kept nowhere" in ran.stderr
    assert "--allow-stale" in ran.stderr


def test_an_outcome_that_the_ledger_does_not_know(run: Run, ledger: str) -> None:
    """Says what is known there."""
    ran = run("replay", "--outcome", "m-1-1-failed", state=ledger)
    assert ran.exit_code == 2
    assert "not in the ledger" in ran.stderr


# Replayed messages at the function's end


async def test_two_messages_of_one_replayed_event_are_one_event() -> None:
    """Published twice by an interrupted replay: one fix, one outcome, emitted twice."""
    here = world(mode=Mode.ENFORCE)
    extra: dict[str, Any] = {"logmend_replay_of": "1", "logmend_replay_id": "ab" * 20}
    first = await here.deliver(push(entry(), "2", **extra))
    second = await here.deliver(push(entry(), "3", **extra))
    assert first == second
    assert (first.result, first.replay_of, first.message_id) == ("remediated", "1", "2")


async def test_an_attribute_cannot_pass_a_message_off_as_one_about_another_vm() -> None:
    """What names a replayed event names it for its VM alone."""
    other = replace(REF, instance_id="5")
    here = world(mode=Mode.ENFORCE)
    here.fleet.add(other)
    extra: dict[str, Any] = {"logmend_replay_of": "1", "logmend_replay_id": "ab" * 20}
    first = await here.deliver(push(entry(), "2", **extra))
    second = await here.deliver(push(entry(other), "3", **extra))
    assert first.intent_id != second.intent_id
    assert [here.fleet.vms[each.instance_id].changes for each in (REF, other)] == [1, 1]


@pytest.mark.parametrize("name", ["", "m-1", "../1", "AB" * 20, "ab" * 21])
async def test_a_name_of_another_form_is_none(name: str) -> None:
    """The message's own id counts."""
    from logmend.stages.intents import event_id

    assert event_id(Delivery("7", attributes={"logmend_replay_id": name})) == "m-7"


async def test_a_replayed_incident_is_no_second_notification_of_it() -> None:
    """The first one's claim does not turn away what a person publishes again on purpose."""
    here = world(mode=Mode.ENFORCE)
    await here.deliver(push(incident(state="closed"), "1"))
    await here.deliver(push(incident(), "2"))
    here.clock.tick(hours=2)
    here.fleet.vms[REF.instance_id].faulty = True
    again = incident(started_at=int(here.clock.now().timestamp()))
    told = await here.deliver(push(again, "3"))
    assert f"{told.result}: {told.reason}" == "skipped: duplicate"
    extra: dict[str, Any] = {"logmend_replay_of": "2", "logmend_replay_id": "cd" * 20}
    assert (await here.deliver(push(again, "4", **extra))).result == "remediated"


# Journals


def test_a_journal_goes_on_behind_what_was_written_whole(tmp_path: Path) -> None:
    """A line that was cut off by the end of the process never was."""
    path = tmp_path / "run.jsonl"
    first = ReplayJournal(path, {})
    first.note("a", "1")
    first.close(finished=False)
    with path.open("a") as file:
        file.write('{"id": "b", "a')
    second = ReplayJournal(path, {})
    assert (second.run, second.done, second.resumed) == (first.run, {"a": "1"}, True)
    second.note("c", "2")
    second.close(finished=False)
    third = ReplayJournal(path, {})
    assert third.done == {"a": "1", "c": "2"}
    third.close(finished=True)
    assert not path.exists()


def test_fresh_forgets_an_interrupted_run(tmp_path: Path) -> None:
    """A new name, nothing done."""
    path = tmp_path / "run.jsonl"
    first = ReplayJournal(path, {})
    first.note("a", "1")
    first.close(finished=False)
    second = ReplayJournal(path, {}, fresh=True)
    assert second.run != first.run
    assert second.done == {}
    second.close(finished=False)


def test_two_runs_of_the_same_do_not_go_on_side_by_side(tmp_path: Path) -> None:
    """The second is told so."""
    path = tmp_path / "run.jsonl"
    first = ReplayJournal(path, {})
    with pytest.raises(ConfigError, match="already running in another process"):
        ReplayJournal(path, {})
    first.close(finished=True)


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    """Nor changed."""
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n")
    with pytest.raises(ConfigError, match="not the journal"):
        ReplayJournal(path, {})
    assert path.read_text() == "buy milk\n"


# Bad input


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give one of FILE"),
        (["a.json", "--subscription", "s"], "give one of FILE"),
        (["--subscription", "s"], "which project?"),
        (["--filter", "x"], "which project?"),
        (["a.json", "--since", "1d"], "--since goes with --filter"),
        (["a.json", "--publish", "--allow-stale"], "give one"),
        (["a.json", "--topic", "projects/p/topics/t"], "--topic goes with --publish"),
        (["a.json", "--all"], "--all goes with --publish"),
        (["a.json", "--publish"], "publish where?"),
        (["a.json", "--publish", "--topic", "t"], "'t' is not a topic"),
        (["--subscription", "projects/p/topics/t"], "is not a subscription"),
        (["a.json", "--allow-stale"], "LOGMEND_STATE"),
        (["--outcome", "x"], "LOGMEND_STATE"),
        (["a.json", "--rate", "0"], "--rate"),
        (["no-such-file.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said(run: Run, args: list[str], said: str) -> None:
    """Status 2, nothing on standard output."""
    ran = run("replay", *args)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert said in ran.stderr
