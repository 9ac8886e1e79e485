"""What the fault suite shares: the emulators, its size and dice, and the table that it prints."""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.chaos.arena import DICE, Arena
from tests.conftest import needs
from tests.emulators import Emulator, firestore_emulator, pubsub_emulator

__all__ = ["firestore_emulator", "pubsub_emulator"]

DEFAULT_TRIES = 100
TRIES = int(os.environ.get("LOGMEND_CHAOS_TRIES") or DEFAULT_TRIES)
"""About how many events meet a fault in the whole suite."""


@dataclass
class Row:
    """One fault: how many events met it, how often it hit, and what went wrong (nothing)."""

    fault: str
    tries: int
    hits: int
    lost: int
    doubled: int
    untrue: int
    results: dict[str, int]


ROWS: list[Row] = []
Report = Callable[..., None]


@pytest.fixture
def rounds() -> int:
    """How often a test repeats itself."""
    return max(1, round(TRIES / DEFAULT_TRIES))


@pytest.fixture
def report() -> Report:
    """Give what notes a fault's row and fails the test where anything of it is not zero."""

    def note(fault: str, stage: Arena, hits: int, *, ledger_kept: bool = True) -> None:
        verdict = stage.verdict(ledger_kept=ledger_kept)
        row = Row(
            *(fault, len(stage.events), hits),
            *(len(verdict.lost), len(verdict.doubled), len(verdict.untrue)),
            verdict.results,
        )
        ROWS.append(row)
        troubles = verdict.lost + verdict.doubled + verdict.untrue
        assert not troubles, "\n".join([fault, *troubles])
        assert hits > 0, f"{fault}: the fault never hit anything"

    return note


@pytest.fixture
def firestore(firestore_emulator: Emulator) -> str:
    """Give a ledger of one's own in the shared emulator."""
    return f"firestore:chaos-{uuid.uuid4().hex[:12]}/ledger"


@pytest.fixture(autouse=True)
def dice() -> None:
    """Seed the dice; a failing test says with what."""
    needs(commands=("gcloud", "java"), linux=True)
    seed = int(os.environ.get("LOGMEND_CHAOS_SEED") or DICE.randrange(1 << 32))
    DICE.seed(seed)
    print(f"LOGMEND_CHAOS_SEED={seed}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the time that its rounds may take."""
    for item in items:
        if "/tests/chaos/" in str(item.path):
            item.add_marker(pytest.mark.timeout(600 * max(1, round(TRIES / DEFAULT_TRIES))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not ROWS:
        return
    write = terminalreporter.write_line
    terminalreporter.section("faults")
    write(f"{'fault':<48} {'tries':>6} {'hits':>6} {'lost':>5} {'doubled':>8} {'untrue':>7}")
    for row in [*ROWS, _total()]:
        write(f"{row.fault:<48} {row.tries:>6} {row.hits:>6} {row.lost:>5} {row.doubled:>8} {row.untrue:>7}")
    write("tries: events told with the fault about; hits: how often it struck; results:")
    for result, count in sorted(_total().results.items()):
        write(f"  {count:>6} {result}")


def _total() -> Row:
    results: dict[str, int] = {}
    for row in ROWS:
        for result, count in row.results.items():
            results[result] = results.get(result, 0) + count
    return Row(
        "all",
        sum(row.tries for row in ROWS),
        sum(row.hits for row in ROWS),
        sum(row.lost for row in ROWS),
        sum(row.doubled for row in ROWS),
        sum(row.untrue for row in ROWS),
        results,
    )
