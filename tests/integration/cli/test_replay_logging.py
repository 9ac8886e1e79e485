"""`logmend replay` from Cloud Logging: by a query, and by an earlier outcome."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.fakes import REF, ManualClock, entry, push, world
from tests.integration.cli.test_doctor import served
from tests.logging_fake import FakeLogging
from tests.unit.cli.conftest import run

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ledger import Queues
from logmend.model.values import Intent

__all__ = ["run"]

NOW = datetime.now(UTC)


@pytest.fixture
def logs() -> Iterator[tuple[FakeLogging, str]]:
    """Serve a log with three entries: of now, of two hours and of three days ago."""
    fake = FakeLogging(
        [entry(at=NOW - timedelta(hours=age), insertId=f"h{age}") for age in (72, 2, 0)], page=1
    )
    with served(fake.app) as url:
        yield fake, url


Replay = Callable[..., Result]


@pytest.fixture
def replay(
    run: Callable[..., Result], logs: tuple[FakeLogging, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Replay:
    """Run `logmend replay` with that log and a SQLite ledger."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    state = f"sqlite:{tmp_path / 'ledger.sqlite'}"
    return lambda *args: run("replay", *args, state=state, logging_endpoint=logs[1], project=REF.project_id)


def in_ledger(tmp_path: Path, use: Callable[[SqliteStore], Any]) -> Any:
    async def body() -> Any:
        store = SqliteStore(tmp_path / "ledger.sqlite")
        try:
            return await use(store)
        finally:
            await store.aclose()

    return asyncio.run(body())


def orders(tmp_path: Path) -> list[Intent]:
    async def use(store: SqliteStore) -> list[Intent]:
        every = [each.intent async for each in Queues(store).records()]
        return [each for each in every if each.intent_id.startswith("o-")]

    found: list[Intent] = in_ledger(tmp_path, use)
    return found


def test_a_query_gives_the_entries_of_its_time(replay: Replay) -> None:
    """A day by default; `--since` says otherwise. Newest first, each judged as of now."""
    said = json.loads(replay("--filter", "gce_workload_cert_refresh", "--format", "json").stdout)
    assert [(each["replay_of"], each["result"]) for each in said["events"]] == [
        ("h0", "planned"),
        ("h2", "skipped"),
    ]
    said = json.loads(
        replay("--filter", 'severity="ERROR" OR insertId:"h"', "--since", "7d", "--format", "json").stdout
    )
    assert [each["replay_of"] for each in said["events"]] == ["h0", "h2", "h72"]


def test_what_a_query_gives_is_ordered_and_an_interrupted_run_keeps_its_span_of_time(
    replay: Replay, logs: tuple[FakeLogging, str], tmp_path: Path
) -> None:
    """`--since 1d` means the day before the first run, however long after it the second one is."""
    arguments = ("--filter", "gce_workload_cert_refresh", "--allow-stale", "--limit", "1")
    assert replay(*arguments).exit_code == 0
    first = logs[0].asked[0].filter
    logs[0].entries.append(entry(at=datetime.now(UTC) + timedelta(seconds=1), insertId="later"))
    assert replay(*arguments).exit_code == 0
    assert logs[0].asked[-1].filter == first
    assert [each.replay_of for each in orders(tmp_path)] == ["h0"], "the newest, once for its VM"


def test_a_query_with_or_does_not_reach_beyond_its_span_of_time(replay: Replay) -> None:
    """It is put in parentheses."""
    ran = replay("--filter", "insertId = h72 OR insertId = h2", "--since", "1d", "--format", "json")
    assert [each["replay_of"] for each in json.loads(ran.stdout)["events"]] == ["h2"]


@pytest.mark.parametrize("by", ["outcome_id", "intent_id", "message_id"])
def test_an_outcomes_entry_is_found_by_what_the_ledger_says_of_it(
    replay: Replay, logs: tuple[FakeLogging, str], tmp_path: Path, by: str
) -> None:
    """Exactly that entry: log name, insertId and time."""

    async def deliver(store: SqliteStore) -> Any:
        return await world(store=store, clock=ManualClock(NOW)).deliver(push(logs[0].entries[1], "7"))

    outcome = in_ledger(tmp_path, deliver)
    ran = replay("--outcome", getattr(outcome, by), "--format", "json")
    (event,) = json.loads(ran.stdout)["events"]
    assert event["replay_of"] == "7", "the message that it came in"
    assert event["instance"]["instance_id"] == REF.instance_id
    logs[0].entries.clear()
    gone = replay("--outcome", getattr(outcome, by))
    assert gone.exit_code == 2
    assert "no longer in Cloud Logging" in gone.stderr
