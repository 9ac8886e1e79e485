"""What commands leave for the tick, and a tick from a workstation: the fleet's is not spoiled by it."""

import asyncio
from pathlib import Path

from tests.fakes import REF, START, ManualClock
from tests.unit.cli.conftest import Run
from tests.unit.test_pipeline import operator

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.errors import Superseded
from logmend.ledger import Journal
from logmend.model.state import State
from logmend.model.values import Intent, Outcome
from logmend.pipeline import Pipeline
from logmend.settings import Settings


def written(path: Path, intent: Intent) -> None:
    async def write() -> None:
        store = SqliteStore(path, clock=ManualClock())
        await Journal(store, owner="test", lease=Settings().lease).write(intent, START)
        await store.aclose()

    asyncio.run(write())


def state(path: Path, intent: Intent) -> State | None:
    async def read() -> State | None:
        store = SqliteStore(path, clock=ManualClock())
        record = await Journal(store, owner="test", lease=Settings().lease).record(intent.intent_id)
        await store.aclose()
        return record.state if record else None

    return asyncio.run(read())


def test_a_tick_that_does_not_know_the_functions_mode_spoils_no_order(run: Run, tmp_path: Path) -> None:
    """Observe, the default, would refuse it for good."""
    ledger = tmp_path / "ledger.db"
    written(ledger, operator())
    ran = run("tick", state=f"sqlite:{ledger}")
    assert ran.exit_code == 2
    assert "LOGMEND_MODE and LOGMEND_OUTCOMES not set" in ran.stderr
    assert state(ledger, operator()) is State.PARKED
    ran = run("tick", state=f"sqlite:{ledger}", mode="observe", outcomes="none")
    assert ran.exit_code == 0, ran.stderr
    assert state(ledger, operator()) is State.DONE


def test_an_order_that_is_overtaken_is_told_and_does_not_crash_the_command(
    run: Run, monkeypatch: object
) -> None:
    """Another attempt took the lease: one line, exit status of what has an outcome."""

    async def overtaken(*_: object, **__: object) -> Outcome:
        raise Superseded("fence 1 is not the latest: 2")

    monkeypatch.setattr(Pipeline, "work", overtaken)  # type: ignore[attr-defined]
    ran = run("run", str(REF))
    assert "fence 1 is not the latest" in ran.stderr
    assert not isinstance(ran.exception, Superseded)
