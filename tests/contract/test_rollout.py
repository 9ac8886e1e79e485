"""Our version beside the released one before it, for real: its code from the repository's history.

Skipped by name where that history is not there (an archive, a shallow clone).
"""

import asyncio
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.contract.old_ledgers import put_back
from tests.contract.stores import Backend, SharedBackend
from tests.contract.test_migration import AT_WORK, STRANGER, held, line, opened

from logmend.model.enums import Result
from logmend.ports import Store
from logmend.settings import Budget

SCHEMA_1 = "cb419fe"
"""The last commit whose ledger has schema 1."""
ROOT = Path(__file__).parents[2]
# Memory is shared with no other process.
pytestmark = pytest.mark.parametrize("backend", ["sqlite", "firestore"], indirect=True)

OLD = """
import asyncio, json, sys
from datetime import datetime, timedelta
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from logmend import decide, record
from logmend.adapters.sqlite import SqliteStore
from logmend.adapters.firestore import FirestoreStore
from logmend.errors import LogmendError
from logmend.ledger import Conclusion, Controls, Journal, Queues
from logmend.model import Evidence, InstanceRef, Intent, Judgement, Proceed, Skip, Source
from logmend.records import Admitted, Freeze
from logmend.settings import Budget, Settings
from logmend.terms import Action, Mode, Origin, Result
from logmend.values import replace

kind, _, where = sys.argv[2].partition(":")
store = SqliteStore(Path(where)) if kind == "sqlite" else FirestoreStore(*where.split("/"))
settings = replace(Settings(), mode=Mode.ENFORCE)
journal, controls, queues = Journal(store, owner="old", lease=settings.lease), Controls(store), Queues(store)
held = {}

def intent(number, now):
    ref = InstanceRef("demo-project", "us-west1-a", str(1000 + number))
    return Intent(f"m-9{number}", "workload-cert-refresh", Action.ENFORCE, ref, Origin.LOG_ENTRY,
                  Source("log_entry"), now, event_time=now, message_id=f"9{number}", repeats=True)

async def do(name, number, now, count):
    it = intent(number, now)
    if name == "admit":
        compose = lambda verdict, view: record.of_turned(it, verdict, view, None, settings, now)
        judge = lambda view: decide.admission(it, view, settings, now)
        held[number] = await journal.admit(it, judge, compose, now)
        return type(held[number]).__name__
    if name == "commit":
        seen = Evidence(101, {"instance_id": str(1000 + number)}, now)
        verdict = await journal.commit(held[number], seen, lambda view: decide.commit(it, view, settings),
                                       Budget(count, timedelta(minutes=10)), Skip("budget_exhausted"), now)
        return type(verdict).__name__
    if name == "conclude":
        outcome = record.of_intent(it, Judgement(Result.REMEDIATED), None, settings, now, number=1)
        await journal.conclude(held[number], Conclusion(outcome, lambda subject: subject), now)
        return "concluded"
    if name == "tick":  # as the released tick begins: the fleet's note, then the lists
        await controls.note_tick(now)
        return len(await queues.requested(now + timedelta(days=1), 10))
    if name == "freeze":
        await controls.freeze(Freeze("old", now))
        return "frozen"
    return str((await controls.fleet()).frozen)

async def main():
    loop = asyncio.get_running_loop()
    while order := await loop.run_in_executor(None, sys.stdin.readline):
        name, number, now, count = json.loads(order)
        try:
            said = await do(name, number, datetime.fromisoformat(now), count)
        except LogmendError as error:
            said = f"{type(error).__name__} {error}"
        except Exception as error:
            said = f"unclassified {error!r}"
        print(json.dumps(said), flush=True)

asyncio.run(main())
"""


class Old:
    """A process of the released version that does what it is told, on the shared ledger."""

    def __init__(self, code: Path, address: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [sys.executable, "-c", OLD, str(code), address]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    async def do(self, name: str, number: int, now: datetime, count: int = 12) -> Any:
        return await asyncio.to_thread(self._do, json.dumps([name, number, now.isoformat(), count]))

    def _do(self, order: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate("", timeout=100)


@pytest.fixture(scope="session")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(commands=("git",))
    folder = tmp_path_factory.mktemp("schema-1")
    archive = subprocess.run(
        ["git", "archive", SCHEMA_1, "functions"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"the history does not hold {SCHEMA_1}, whose ledger has schema 1")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "functions"


@pytest.fixture
def shared(backend: Backend) -> SharedBackend:
    assert isinstance(backend, SharedBackend)
    return backend


@pytest.fixture
async def now(shared: SharedBackend) -> datetime:
    return await put_back(shared, 1)


@pytest.fixture
def old(old_code: Path, shared: SharedBackend, now: datetime) -> Any:
    process = Old(old_code, shared.address)
    yield process
    process.end()


async def test_an_instance_of_the_old_version_at_work_stops_at_the_commit_and_keeps_to_the_limit(
    store: Store, now: datetime, old: Old
) -> None:
    """It has admitted; then the new version arrives. What was committed before counts, nothing is after."""
    for number in (60, 61):
        assert await old.do("admit", number, now) == "Admitted"
    assert await old.do("commit", 60, now) == "Proceed"
    w = opened(store, now, disruption_budget=Budget(12, timedelta(minutes=10)))
    results = [(await line(w, number)).result for number in range(STRANGER, STRANGER + 8)]
    assert results.count(Result.REMEDIATED) == 2, "nine, and the one that was just committed"
    assert "m-960" in await held(w)
    for order in ("commit", "admit"):
        said = await old.do(order, 61, now)
        assert said.startswith(("Permanent ledger_schema", "Permanent ledger_corrupt")), said
    assert "schema 2" in await old.do("admit", 62, now)


async def test_a_rollback_fails_closed_and_says_so(
    store: Store, now: datetime, old_code: Path, shared: SharedBackend
) -> None:
    """The old version on a migrated ledger: no order, no freeze, no list; the reason names both versions."""
    w = opened(store, now)
    await line(w, STRANGER)
    back = Old(old_code, shared.address)
    for order in ("admit", "freeze", "fleet", "tick"):
        said = await back.do(order, 70, now)
        assert str(said).startswith("Permanent ledger_schema"), (order, said)
    back.end()
    assert (await line(w, STRANGER + 1)).result is Result.REMEDIATED, "the new one goes on"


async def test_what_an_old_attempt_did_meanwhile_is_finished_by_the_new_version(
    store: Store, now: datetime, old: Old
) -> None:
    """Whether or not it could still say so: there is one outcome, and the place ends.

    The released version leaves no mark on a VM, so that nothing shows whose change it was.
    """
    await old.do("admit", 60, now)
    assert await old.do("commit", 60, now) == "Proceed"
    w = opened(store, now)
    w.fleet.add(type(w.fleet.vms["1001"].ref)("demo-project", "us-west1-a", "1060")).faulty = False
    await line(w, STRANGER)
    await old.do("conclude", 60, now)
    w.clock.tick(minutes=11)
    await w.ticker.run()
    record = await w.journal.record("m-960")
    assert record is not None
    assert record.outcome is not None
    assert record.outcome.result is Result.NOTHING_TO_DO
    assert "nothing shows that it began to enforce" in record.outcome.detail
    w.clock.tick(hours=3)
    await w.ticker.run()
    assert not AT_WORK - {"m-706", "m-7013"} & {
        name for name, out in (await held(w)).items() if out.until is None
    }
