"""The osconfig executor on real machines: label, policy, agent, report, outcome; both executors compared.

The agent of ``osconfig_agent`` really runs the policies' scripts on the machines; what an outcome claims is
compared with the machines themselves.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.osconfig_v1.types import OSPolicyAssignment

from logmend.model.enums import INTERIM_RESULTS, Action
from logmend.model.struct import replace
from logmend.osconfig import assignment
from logmend.ports import Document, Key
from logmend.runbook import Runbook, load_all
from logmend_cli.pretend.fleet import free_port, serving
from tests.contract.osconfig_server import Kept, OsConfigServer
from tests.e2e.function_process import Function
from tests.lab import osconfig_agent
from tests.lab.cloud import (
    RUNBOOK,
    Cloud,
    cloud,
    id_of,
    ledger,
    line,
    make_due,
    order,
    seen,
    standing,
    tick,
)
from tests.lab.conftest import Boot
from tests.lab.disk import TIMER
from tests.lab.machines import Machine
from tests.lab.test_pipeline_on_machines import CASES, OFF, ON, Case

LABEL = assignment.label(RUNBOOK)
ENFORCE = assignment.assignment_id(RUNBOOK, Action.ENFORCE)
FINAL = ("requested", "unverified", "parked")
ROUNDS = 4

EXCEPTIONS = {
    # The agent is root already, and nobody logs in: what stands against ssh alone does not stand against it.
    "it lets nobody sudo": "remediated",
    "it shows another host key": "remediated",
    # A machine that is another VM has that VM's agent and label: nobody answers for the VM that is meant.
    "another VM has its address": "unverified: no_report",
}
"""Where the two executors differ, and what osconfig says instead of what ssh does."""


@dataclass
class Fleet:
    """Machines, the APIs around them, and a function that reaches them by one executor."""

    around: Cloud
    server: OsConfigServer
    function: Function

    def label(self, machine: Machine) -> str | None:
        return self.around.instance(machine).labels.get(LABEL)

    async def agent(self, machine: Machine) -> list[str]:
        return await osconfig_agent.run(machine, self.server, self.around.compute)

    async def look(self, intent_id: str) -> str:
        """Let the tick take up an intent now, if none has ended it already; gives its latest verdict."""
        if self.function.outcomes(intent_id=intent_id)[-1]["result"] in INTERIM_RESULTS:
            await make_due(self.function, intent_id)
            await self.function.push(tick())
        return self.function.verdicts(intent_id=intent_id)[-1]

    async def closed(self, machine: Machine, intent_id: str) -> str:
        """Let agent and tick take turns until an intent has its final outcome, or the rounds are over."""
        verdict = self.function.verdicts(intent_id=intent_id)[-1]
        for _ in range(ROUNDS):
            if verdict.partition(":")[0] not in FINAL:
                break
            await self.agent(machine)
            verdict = await self.look(intent_id)
        return verdict


def deploy(server: OsConfigServer, project: str, zone: str, runbooks: Path | None = None) -> None:
    """Put every assignment of every runbook in a zone, rolled out."""
    for runbook in load_all(runbooks).values():
        put(server, project, zone, runbook)


def put(server: OsConfigServer, project: str, zone: str, runbook: Runbook) -> None:
    """Put every assignment of a runbook in a zone."""
    for action in assignment.actions(runbook):
        wanted = assignment.assignment(runbook, action, ("logmend", "off"))
        document = OSPolicyAssignment.from_json(json.dumps(wanted))
        name = assignment.assignment_id(runbook.name, action)
        document.name = f"{assignment.parent(project, zone)}/osPolicyAssignments/{name}"
        document.revision_id = "rev-1"
        server.kept[document.name] = Kept([document])


@asynccontextmanager
async def fleet(
    folder: Path, *machines: Machine, executor: str = "osconfig", **settings: Any
) -> AsyncIterator[Fleet]:
    server, port = OsConfigServer(), free_port()
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(cloud(folder, *machines))
        await stack.enter_async_context(serving(server.app, port))
        for machine in machines:
            instance = around.instance(machine)
            instance.metadata["enable-osconfig"] = "TRUE"
            instance.service_account = "vm@lab-project.iam.gserviceaccount.com"
            deploy(server, machine.ref.project_id, machine.ref.zone, settings.get("runbooks"))
        chosen = {"executor": executor, "osconfig_endpoint": f"http://127.0.0.1:{port}"} | settings
        function = await stack.enter_async_context(around.function(**chosen))
        yield Fleet(around, server, function)


async def test_a_silent_systemd_is_told_by_the_agent_too(boot: Boot, tmp_path: Path) -> None:
    """The agent runs on without PID 1; what its check printed is in the report, and nothing is changed."""
    machine = await boot(period=0.5)
    async with fleet(tmp_path, machine) as f:
        body = await line(machine)
        assert (await f.function.push(body)).verdict == "requested"
        machine.hang_systemd()
        assert await f.closed(machine, f"m-{id_of(body)}") == "refused: systemd_silent"
        assert f.label(machine) is None
    assert (await machine.run("ls /var/lib/logmend")).rc != 0


async def test_a_machine_goes_from_its_line_to_remediated_and_back_by_label_and_report_alone(
    boot: Boot, tmp_path: Path
) -> None:
    """Nobody logs in; the label is gone at the end of each way; the timer is as the outcome says."""
    machine = await boot(period=0.5)
    async with fleet(tmp_path, machine) as f:
        body = await line(machine)
        before = await seen(machine)
        assert (await f.function.push(body)).verdict == "requested"
        assert f.label(machine) == "enforce"
        assert await machine.timer_state() == ON

        intent = f"m-{id_of(body)}"
        assert await f.look(intent) == "requested"
        assert await f.agent(machine) == [ENFORCE]
        assert await machine.timer_state() == OFF
        assert await f.look(intent) == "remediated"
        assert f.label(machine) is None
        assert await f.agent(machine) == []

        outcome = f.function.outcomes(intent_id=intent)[-1]
        assert outcome["executor"] == "osconfig"
        assert outcome["before"]["instance_id"] == before["instance_id"]
        assert outcome["instance"]["name"] == machine.name
        assert (await f.function.push(body)).verdict == "remediated"

        undo = await order(f.function, machine, Action.REVERT)
        await f.function.push(tick())
        assert f.label(machine) == "revert"
        await f.agent(machine)
        assert await f.look(undo) == "reverted"
        assert await machine.timer_state() == ON
        assert f.label(machine) is None
        assert (await standing(machine)).as_root == 0


async def test_no_report_that_proves_nothing_is_called_a_fix(boot: Boot, tmp_path: Path) -> None:
    """Stale, without enforcing, no agent, not compliant, in use: each its own word, and no label left."""
    names = ("stale", "mended", "agentless", "stubborn", "in use", "off", "old")
    machines = dict(zip(names, await asyncio.gather(*(boot(period=0.5) for _ in names)), strict=True))
    async with fleet(tmp_path, *machines.values()) as f:
        bodies = {name: await line(machine) for name, machine in machines.items()}
        stale = machines["stale"]
        f.around.instance(stale).labels[LABEL] = "enforce"
        await f.agent(stale)
        await stale.output(f"systemctl enable --now {TIMER}")
        f.around.instance(stale).labels.clear()
        for name, body in bodies.items():
            assert (await f.function.push(body)).verdict == "requested", name
        await machines["mended"].output(f"systemctl disable --now {TIMER}")
        await machines["stubborn"].output(
            "cd /usr/local/bin;"
            " printf '#!/bin/sh\\n[ $1 = disable ] || exec /usr/bin/systemctl \"$@\"\\n' >systemctl;"
            " chmod 755 systemctl"
        )
        machines["in use"].set_config_status(200)
        for name in ("mended", "stubborn", "in use"):
            await f.agent(machines[name])
        for name, reason in {
            "agentless": "no-agent-detected",
            "off": "vm-not-running",
            "old": "os-policies-not-supported-by-agent",
        }.items():
            osconfig_agent.unknown(f.server, machines[name], ENFORCE, reason)
        found = {name: await f.look(f"m-{id_of(body)}") for name, body in bodies.items()}
        assert found == {
            "stale": "requested",
            "mended": "nothing_to_do",
            "agentless": "failed: no_agent_detected",
            "stubborn": "failed: still_faulty",
            "in use": "refused: certificates_in_use",
            "off": "skipped: not_running",
            "old": "failed: agent_too_old",
        }
        assert {name for name, machine in machines.items() if f.label(machine)} == {"stale"}
        assert "remediated" not in f.function.verdicts()


async def test_a_silent_agent_is_unverified_and_then_a_failure(boot: Boot, tmp_path: Path) -> None:
    """Past the deadline the label is gone; looking again is asking for a check."""
    machine = await boot(period=0.5)
    async with fleet(tmp_path, machine, request_deadline="4s", unverified_looks=1) as f:
        body = await line(machine)
        await f.function.push(body)
        intent = f"m-{id_of(body)}"
        await asyncio.sleep(4.2)
        assert await f.look(intent) == "unverified: no_report"
        assert f.label(machine) is None
        assert await f.look(intent) == "requested"
        assert f.label(machine) == "check"
        await asyncio.sleep(4.2)
        assert await f.look(intent) == "failed: unverifiable"
        assert f.label(machine) is None


async def test_observing_asks_the_agent_for_a_look_and_changes_nothing(boot: Boot, tmp_path: Path) -> None:
    """The check assignment has nothing to enforce."""
    machine = await boot(period=0.5)
    async with fleet(tmp_path, machine, mode="observe") as f:
        body = await line(machine)
        before = await standing(machine)
        assert (await f.function.push(body)).verdict == "requested"
        assert f.label(machine) == "check"
        assert await f.closed(machine, f"m-{id_of(body)}") == "planned"
        assert await standing(machine) == before
        assert f.label(machine) is None


async def test_an_unreachable_machine_is_handed_to_its_agent(boot: Boot, tmp_path: Path) -> None:
    """With auto: ssh first, the agent where nothing answers."""
    machine = await boot(period=0.5)
    async with fleet(tmp_path, machine, executor="auto", ssh_port=9) as f:
        body = await line(machine)
        assert (await f.function.push(body)).verdict == "requested"
        assert await f.closed(machine, f"m-{id_of(body)}") == "remediated"


@pytest.mark.parametrize("part", [0, 1])  # a host has room for about fifteen machines at a time
@pytest.mark.parametrize("executor", ["ssh", "osconfig"])
async def test_both_executors_say_the_same_of_the_same_machines(
    boot: Boot, tmp_path: Path, executor: str, part: int
) -> None:
    """Every case of the lab, and one with nothing in the way; where they differ is in ``EXCEPTIONS``."""
    every = CASES | {"nothing is in the way": Case("remediated")}
    cases = {name: case for number, (name, case) in enumerate(every.items()) if number % 2 == part}
    machines = await asyncio.gather(*(boot(period=0.5, **case.options) for case in cases.values()))
    found: dict[str, str] = {}
    async with fleet(tmp_path, *machines, executor=executor, breaker_minimum=99) as f:
        for number, (name, machine) in enumerate(zip(cases, machines, strict=True)):
            body, case = await line(machine), cases[name]
            if case.then is not None:
                await case.then(machine)
            if case.known is not None:
                case.known(f.around, machine, machines[number - 1])
            found[name] = (await f.function.push(body)).verdict
            if found[name] == "requested":
                found[name] = await f.closed(machine, f"m-{id_of(body)}")
            if found[name] == "requested":
                await _let_pass(f.function, f"m-{id_of(body)}")
                found[name] = await f.look(f"m-{id_of(body)}")
    differ = EXCEPTIONS if executor == "osconfig" else {}
    assert found == {name: differ.get(name, case.verdict) for name, case in cases.items()}


async def _let_pass(function: Function, intent_id: str) -> None:
    """Let the deadline of a request have passed, as far as the ledger knows."""
    key: Key = ("intents", intent_id)

    def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
        asked_at = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
        document = found[key]
        return {key: replace(document, data=dict(document.data) | {"requested_at": asked_at})}, None

    async with ledger(function) as store:
        await store.transact([key], step)
