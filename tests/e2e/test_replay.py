"""From the dead letter through `logmend replay` and the real function process to one final outcome."""

import asyncio
import os
import sys
from pathlib import Path

from tests.e2e.conftest import Serve, fixes
from tests.e2e.post import Post
from tests.e2e.test_delivery import settled, vm

from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.fleet import PretendFleet

MAIN = "from logmend_cli.main import main; main()"


async def logmend(*args: str) -> str:
    """Run the command; gives what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAIN, *args),
        env=kept | {"PYTHONPATH": str(Path(__file__).parents[2] / "functions")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await ran.communicate()
    assert ran.returncode == 0, out.decode() + err.decode()
    return out.decode()


async def test_what_died_while_an_api_was_away_is_mended_by_replaying_its_dead_letter(
    post: Post, fleet: PretendFleet, serve: Serve
) -> None:
    """Explained, nothing happens; published, the VM is fixed once, and the outcome names the original."""
    machine = fleet.machines["vm-1"]
    fleet.compute.fail(f"v1/.*/instances/{machine.instance.instance_id}$", 503)
    from_dead_letter = ("replay", "--subscription", post.pull_subscription)
    async with serve() as function:
        await post.push_to(function.url)
        await post.publish(entry(vm(machine)))
        for _ in range(20):
            if "planned" in (explained := await logmend(*from_dead_letter)):
                break
        assert "1 explained" in explained
        assert machine.calls() == []

        fleet.compute.recover()
        published = await logmend(*from_dead_letter, "--publish", "--topic", post.topic)
        assert "1 published" in published
        message = published.split("published ")[1].split()[0]
        assert await settled(function, [message]) == {message: "remediated"}
        (outcome,) = function.outcomes(message_id=message)
        assert await logmend(*from_dead_letter) == "no event\n"
    assert outcome["replay_of"]
    assert outcome["replay_of"] != message
    assert fixes(machine) == 1
