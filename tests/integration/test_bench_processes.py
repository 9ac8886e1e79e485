"""What benchmarks start ends with them."""

import asyncio
import os
import select
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from bench import fanout


async def test_an_alternative_that_is_given_up_ends_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ansible's connections would otherwise wait for machines that are gone."""
    started, real = asyncio.Event(), asyncio.create_subprocess_exec

    async def start(*words: str, **options: Any) -> Process:
        process = await real(*words, **options)
        started.set()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    monkeypatch.setattr(fanout, "workshop", lambda: tmp_path)
    held = tmp_path / "held"
    os.mkfifo(held)
    running = asyncio.create_task(fanout._ran("sh", "-c", f"sleep 600 >'{held}' & wait"))
    with await asyncio.to_thread(held.open, "rb") as reader:  # opened by both ends
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        readable, _, _ = select.select([reader], [], [], 100)
        assert readable, "it still has somebody who may write"
        assert reader.read() == b""
