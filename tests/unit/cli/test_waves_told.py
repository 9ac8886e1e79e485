"""Waves as commands tell them: how far a runbook's have come, and who holds them."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

from tests.unit.cli.conftest import Run

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ledger import Controls
from logmend.model.state import Act, Wave
from logmend.runbook import load_all

RUNBOOK = "workload-cert-refresh"
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_status_shows_the_wave_and_two_commands_hold_it_and_let_it_go(run: Run, tmp_path: Path) -> None:
    """In words; once it is held there is nothing to hold."""

    async def begin() -> None:
        store = SqliteStore(tmp_path / "ledger")
        wave = Wave(load_all()[RUNBOOK].digest, 1, AT)
        await Controls(store).set_wave(RUNBOOK, None, wave, Act("wave_begun", AT, runbook=RUNBOOK))
        await store.aclose()

    asyncio.run(begin())
    given = {"state": f"sqlite:{tmp_path}/ledger", "waves": "1,10%/1h", "disruption_budget": "50/10m"}

    def row() -> dict[str, str | None]:
        shown = json.loads(run("status", "--format", "json", **given).stdout)["waves"]
        found: dict[str, str | None] = {each["runbook"]: each for each in shown}[RUNBOOK]
        return found

    assert row() == {
        "runbook": RUNBOOK,
        "wave": "wave 2 of 2: at most 5 VMs in a window of the budget",
        "since": "2026-03-01T12:00:00Z",
        "held_by": None,
    }
    held = run("freeze", "--wave", "--runbook", RUNBOOK, "--by", "ann", "--why", "a doubt", **given)
    assert "the wave stays where it is" in held.stdout
    assert (row()["held_by"] or "").startswith("ann (claimed) at ")
    assert "a doubt" in (row()["held_by"] or "")
    assert "there is no wave to hold" in run("freeze", "--wave", "--runbook", RUNBOOK, **given).stdout
    assert "the waves go on" in run("resume", "--wave", "--runbook", RUNBOOK, **given).stdout
    assert row()["held_by"] is None
    assert "Waves, by the settings here" in run("status", **given).stdout
    assert run("freeze", "--wave", **given).exit_code == 2
    assert run("resume", "--wave", "--instance", "p/z-a/1", **given).exit_code == 2
