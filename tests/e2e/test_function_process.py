"""The helper that serves the function: nothing of it stays, whatever becomes of the test run."""

import asyncio
import os
import signal
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.function_process import function_process

from logmend import wiring
from logmend.ledger import Controls

KILLED_RUN = """
import asyncio, sys
from pathlib import Path
from tests.e2e.function_process import function_process

async def run():
    async with function_process(Path(sys.argv[1])) as function:
        print(function.process.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(run())
"""


async def test_a_killed_run_takes_the_function_with_it(tmp_path: Path) -> None:
    """No process of the function's group is left soon after the run was killed with no chance to tidy up."""
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED_RUN, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert run.stdout is not None
    group = int(await asyncio.wait_for(run.stdout.readline(), 200))
    os.killpg(group, 0)
    run.send_signal(signal.SIGKILL)
    await run.wait()
    for _ in range(2000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"process group {group} outlived its run")


async def test_settings_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    """Every problem is named in what it prints, and nothing listens."""
    with pytest.raises(AssertionError, match="did not start") as refused:
        async with function_process(tmp_path, mode="yes", colour="blue"):
            pytest.fail("it started")
    assert "LOGMEND_MODE='yes': expected one of observe, approve, enforce" in str(refused.value)
    assert "LOGMEND_COLOUR: no such setting" in str(refused.value)


async def test_nothing_of_the_test_runs_own_settings_reaches_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's ``LOGMEND_*`` variables cannot change what a test proves."""
    monkeypatch.setenv("LOGMEND_MODE", "nonsense")
    async with function_process(tmp_path) as function:
        answer = await function.push({"message": {"messageId": "1", "data": "e30="}})
    assert (answer.status, answer.verdict) == (200, "rejected: not_an_event")
    assert function.is_gone()


@pytest.mark.parametrize("off", [timedelta(hours=2), timedelta(minutes=-20)], ids=["ahead", "behind"])
async def test_a_clock_that_is_off_ends_no_tick_and_says_so(tmp_path: Path, off: timedelta) -> None:
    """Pub/Sub's publish time is the second clock: a missing tick has its alert, and nothing is taken over."""
    data = b64encode(b'{"logmend": "tick"}').decode()

    def tick(published: datetime) -> dict[str, Any]:
        return {"message": {"messageId": "1", "data": data, "publishTime": published.isoformat()}}

    async with function_process(tmp_path) as function:
        answer = await function.push(tick(datetime.now(UTC) - off))
        assert (answer.status, answer.said["logmend"]) == (200, "untimely")
        store = wiring.open_store(function.state)
        assert (await Controls(store).fleet()).last_tick is None
        await function.push(tick(datetime.now(UTC) - timedelta(minutes=4)))
        assert (await Controls(store).fleet()).last_tick is not None
        await store.aclose()
        assert '"logmend": "untimely"' in function.log()
