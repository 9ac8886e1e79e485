"""The ops-agent runbook through the whole pipeline on real machines: started detached, closed by the tick.

By alert, with a local https repository that holds stand-in packages. What an outcome claims is compared with
dpkg and systemd on the machine.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.function_process import Function
from tests.fakes import incident, push
from tests.lab import agent_package, ops_agent_repository
from tests.lab.cloud import Cloud, cloud, make_due, new_id, tick, until, until_given_up
from tests.lab.conftest import Boot
from tests.lab.machines import Machine
from tests.lab.ops_agent_repository import VERSIONS, Repository

RUNBOOK = "ops-agent"
RUNNING = {"package": "install ok installed", "active": "active", "enabled": "enabled"}


@dataclass
class Alerted:
    """A function that alerts reach."""

    function: Function
    around: Cloud

    async def alert(self, machine: Machine) -> tuple[str, str]:
        """Send an incident about a machine; gives its intent and the verdict."""
        body = incident(machine.ref, incident_id=str(uuid.uuid4()))
        body["incident"]["policy_user_labels"] = {"logmend-runbook": RUNBOOK}
        body["incident"]["started_at"] = int(datetime.now(UTC).timestamp())
        message = new_id()
        answer = await self.function.push(push(body, message, at=datetime.now(UTC)))
        return f"m-{message}", answer.verdict

    async def closed(self, intent_id: str) -> str:
        """Let the tick look until it is over; gives the last verdict."""

        async def over() -> bool:
            if not self.function.verdicts(intent_id=intent_id)[-1].startswith("requested"):
                return True
            await make_due(self.function, intent_id)
            await self.function.push(tick())
            return False

        await until(over)
        return self.function.verdicts(intent_id=intent_id)[-1]


@asynccontextmanager
async def alerted(
    tmp_path: Path, repository: Repository, *machines: Machine, settle: int = 4, **settings: Any
) -> AsyncIterator[Alerted]:
    """Run a function that alerts reach, with the runbooks that use the repository."""
    folder = ops_agent_repository.runbooks(tmp_path, repository.url, settle=settle)
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(cloud(tmp_path, *machines))
        chosen = {"runbooks": folder} | settings
        yield Alerted(await stack.enter_async_context(around.function(**chosen)), around)


async def test_missing_is_installed_stopped_is_started_and_running_is_left_alone(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """Three machines, one word each; the version is the one that is set; nobody's agent is changed."""
    missing, stopped, running = await asyncio.gather(
        *(boot(timer="disabled", files=repository.files) for _ in range(3))
    )
    for machine in (stopped, running):
        await agent_package.build(machine)
        ran = await agent_package.install(machine)
        assert ran.rc == 0, ran.err
    await stopped.output("systemctl disable --now google-cloud-ops-agent")
    async with alerted(tmp_path, repository, missing, stopped, running, ops_agent_version="2.50.0") as a:
        started = [await a.alert(machine) for machine in (missing, stopped, running)]
        assert started[0][1] == "requested"
        assert [await a.closed(intent) for intent, _ in started] == [
            "remediated",
            "remediated",
            "nothing_to_do",
        ]
    for machine in (missing, stopped, running):
        assert await agent_package.status(machine) == RUNNING
        version = await machine.output("dpkg-query -W -f '${Version}' google-cloud-ops-agent")
        assert version == agent_package.VERSION


async def test_latest_is_the_repositorys_newest(boot: Boot, tmp_path: Path, repository: Repository) -> None:
    """The default."""
    machine = await boot(timer="disabled", files=repository.files)
    async with alerted(tmp_path, repository, machine) as a:
        intent, _ = await a.alert(machine)
        assert await a.closed(intent) == "remediated"
        outcome = a.function.outcomes(intent_id=intent)[-1]
    assert await machine.output("dpkg-query -W -f '${Version}' google-cloud-ops-agent") == VERSIONS[-1]
    assert (outcome["before"]["package"], outcome["after"]["package"]) == ("absent", "installed")


async def test_an_installation_that_fails_is_a_failure_with_its_words(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """A package that cannot be configured, and a repository that is not there; neither is tried for ever."""
    failing, cut_off = await asyncio.gather(
        *(boot(timer="disabled", files=repository.files) for _ in range(2))
    )
    await failing.output("touch /opt/fails")
    nowhere = Repository("https://10.181.243.1:9", repository.authority)
    async with alerted(tmp_path / "a", repository, failing) as a:
        intent, verdict = await a.alert(failing)
        assert verdict == "requested"
        assert await a.closed(intent) == "failed: script_error"
        assert "dpkg" in a.function.outcomes(intent_id=intent)[-1]["detail"]
    async with alerted(tmp_path / "b", nowhere, cut_off) as b:
        intent, verdict = await b.alert(cut_off)
        assert await b.closed(intent) == "failed: script_error"
        assert "curl:" in b.function.outcomes(intent_id=intent)[-1]["detail"]
    assert (await agent_package.status(cut_off))["package"] == ""


async def test_power_lost_in_the_middle_is_a_failure_and_the_next_order_completes_it(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """Half configured is no agent; a connection has nothing to do with it, the machine itself went away."""
    machine = await boot(timer="disabled", files=repository.files)
    await machine.output("touch /opt/hangs")
    async with alerted(tmp_path, repository, machine, cooldown_failed="1s") as a:
        intent, verdict = await a.alert(machine)
        assert verdict == "requested"

        async def half_way() -> bool:
            return "half-configured" in (await agent_package.status(machine))["package"]

        await until(half_way)
        await make_due(a.function, intent)
        await a.function.push(tick())
        assert a.function.verdicts(intent_id=intent) == ["requested"]
        await machine.reset()
        await machine.output("rm /opt/hangs")
        assert await a.closed(intent) == "failed: script_error"

        await machine.output("touch -d '16 minutes ago' /var/lib/logmend/ops-agent.try")
        await asyncio.sleep(1.1)
        intent, verdict = await a.alert(machine)
        assert verdict == "requested"
        assert await a.closed(intent) == "remediated"
    assert await agent_package.status(machine) == RUNNING


async def test_half_an_agent_is_made_whole_and_one_that_dies_again_is_told_with_its_last_lines(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """Under an active parent in both; a third is a policy's, and nobody logs in."""
    half, dying, governed = await asyncio.gather(
        *(boot(timer="disabled", files=repository.files) for _ in range(3))
    )
    for machine, part, program in (
        (half, "fluent-bit", "fluent-bit"),
        (dying, "opentelemetry-collector", "otelopscol"),
    ):
        await agent_package.build(machine)
        ran = await agent_package.install(machine)
        assert ran.rc == 0, ran.err
        await machine.output(f"mkdir /opt/dies; echo 0 >/opt/dies/{program}")
        await machine.output("systemctl restart google-cloud-ops-agent")
        await until_given_up(machine, f"{agent_package.NAME}-{part}")
        assert await agent_package.status(machine) == RUNNING
        assert "failed" in (await agent_package.parts(machine)).values()
    await half.output("rm -r /opt/dies")
    async with alerted(tmp_path, repository, half, dying, governed) as a:
        a.around.instance(governed).labels["goog-ops-agent-policy"] = "v2-x86-template-1-4-0"
        assert (await a.alert(governed))[1] == "refused: managed_by_policy"
        mended, hopeless = [(await a.alert(machine))[0] for machine in (half, dying)]
        assert await a.closed(mended) == "remediated"
        assert await a.closed(hopeless) == "failed: still_faulty"
        before = a.function.outcomes(intent_id=mended)[-1]["before"]
        detail = a.function.outcomes(intent_id=hopeless)[-1]["detail"]
    assert (before["service"], before["service_fluent_bit"]) == ("active", "failed")
    assert "otelopscol: listen tcp 127.0.0.1:20201: bind: address already in use" in detail
    assert set((await agent_package.parts(half)).values()) == {"active"}
    assert (await agent_package.status(governed))["package"] == ""
