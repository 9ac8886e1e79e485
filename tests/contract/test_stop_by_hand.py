"""The kill switch without the command: the very lines of docs/operations.md, on the real emulator."""

import re
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.conftest import needs
from tests.emulators import Emulator, firestore_emulator

from logmend.adapters.stores.firestore import FirestoreStore
from logmend.ledger import Controls
from logmend.ledger.documents import BY_HAND
from logmend.model.state import By, Fleet

__all__ = ["firestore_emulator"]

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def stop_by_hand(emulator: Emulator, project: str) -> None:
    """Do what the page says, with the emulator's address and token."""
    command = re.search(r"^```sh\n(curl .*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert command is not None
    text = command[1].replace("https://firestore.googleapis.com", f"http://{emulator.address}")
    text = text.replace("$(gcloud auth print-access-token)", "owner").replace("PROJECT", project)
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert '"stop"' in done.stdout, done.stdout


@pytest.fixture
def project() -> str:
    """Name a ledger of one's own."""
    needs(commands=("gcloud", "java", "curl"))
    return f"stop-{uuid.uuid4().hex[:12]}"


async def fleet(store: FirestoreStore) -> Fleet:
    """Read the switches."""
    return await Controls(store).fleet()


async def test_it_freezes_everything_and_resume_lifts_it(firestore_emulator: Emulator, project: str) -> None:
    """The words show in the freeze, what the ledger held is kept, and one ``resume`` ends it for good."""
    store = FirestoreStore(project, "logmend")
    controls = Controls(store)
    await controls.note_tick(NOW)
    stop_by_hand(firestore_emulator, project)
    found = await fleet(store)
    assert found.frozen is not None
    assert (found.frozen.by, found.frozen.why) == (BY_HAND, "ANNE: LOOKING INTO IT")
    assert found.last_tick == NOW
    await controls.note_tick(NOW + timedelta(minutes=5))  # rewrites the document
    kept = await fleet(store)
    assert kept.frozen == found.frozen
    await controls.resume(By("anne@desk", NOW + timedelta(minutes=6)))
    assert (await fleet(store)).frozen is None
    await store.aclose()


async def test_it_freezes_a_ledger_that_has_no_switches_yet(
    firestore_emulator: Emulator, project: str
) -> None:
    """A function that has never run finds the freeze at its first event."""
    store = FirestoreStore(project, "logmend")
    stop_by_hand(firestore_emulator, project)
    found = await fleet(store)
    assert found.frozen is not None
    assert found.frozen.by == BY_HAND
    await store.aclose()
