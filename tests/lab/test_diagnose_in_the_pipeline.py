"""Causes through everything: an alert, real ssh, diagnose.sh, the outcome; and the command beside it.

Each cause that a runbook remediates goes from the incident to an agent that is checked, in one chain.
"""

import asyncio
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab import agent_package, ops_agent_repository
from tests.lab.cloud import Cloud, cloud, make_due, tick, until
from tests.lab.conftest import Boot
from tests.lab.machines import Machine
from tests.lab.ops_agent_repository import Repository
from tests.lab.test_diagnose import (
    EVERYTHING,
    INSTALL,
    SCOPES,
    SOURCES,
    WORK,
    Prepare,
    given_up,
    install,
    shell,
    source_gone,
)
from tests.lab.test_library_on_machines import interrupted
from tests.lab.test_ops_agent_on_machines import RUNNING, Alerted, alerted


async def machines(boot: Boot, repository: Repository, number: int) -> list[Machine]:
    """Boot machines that reach the repository and whose scopes are enough."""
    files = {**repository.files, SOURCES: ""}
    found = await asyncio.gather(*(boot(timer="disabled", files=files) for _ in range(number)))
    for machine in found:
        machine.metadata.attributes[SCOPES] = EVERYTHING
    return list(found)


async def logmend(around: Cloud, folder: Path, *arguments: str, **settings: str) -> tuple[int, Any, str]:
    """Run the command as an operator does; gives exit status, JSON and standard error."""
    reach = {
        "compute_endpoint": f"http://127.0.0.1:{around.port}",
        "ssh_key": str(around.key),
        "ssh_user": around.user,
        "runbooks": str(folder),
        "outcomes": f"file:{around.folder}/operator.jsonl",
    } | settings
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LOGMEND_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from logmend_cli.main import main; main()", *arguments, "--format", "json"),
        env=inherited | {f"LOGMEND_{key.upper()}": value for key, value in reach.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode or 0, json.loads(out or "null"), error.decode()


async def test_the_command_asks_many_vms_and_root_only_if_told(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """Over ssh: each its own cause, one whose policy answers without a login, and what only root reads."""
    full, healthy, dying, governed = await machines(boot, repository, 4)
    await INSTALL["disk"][0](full)
    for machine in (healthy, dying):
        await install(machine)
    await given_up(dying)
    folder = ops_agent_repository.runbooks(tmp_path, repository.url)
    every = [full, healthy, dying, governed]
    async with cloud(tmp_path, *every) as around:
        around.instance(governed).labels["goog-ops-agent-policy"] = "v2"
        names = [str(each.ref) for each in every]
        status, said, error = await logmend(around, folder, "diagnose", *names)
        assert status == 1, error
        causes = {each["instance"]["instance_id"]: (each["cause"], each["why"]) for each in said["instances"]}
        assert causes == {
            full.ref.instance_id: ("disk_full", None),
            healthy.ref.instance_id: ("unknown", "no_cause_fits"),
            dying.ref.instance_id: ("unknown", "not_readable"),
            governed.ref.instance_id: ("managed_by_policy", None),
        }
        assert said["unknown"] == {"no_cause_fits": 1, "not_readable": 1}
        await dying.synced()
        sudo = await dying.journal("SYSLOG_IDENTIFIER=sudo")
        assert not sudo, "nobody asked for root"

        status, _, error = await logmend(around, folder, "diagnose", str(dying.ref), "--as-root")
        assert (status, "grants no root" in error) == (2, True)
        status, said, error = await logmend(
            around, folder, "diagnose", str(dying.ref), "--as-root", "--by", "ann", mode="enforce"
        )
        assert "address already in use" in "; ".join(said["instances"][0]["evidence"]), error
        await dying.synced()
        assert await dying.journal("SYSLOG_IDENTIFIER=sudo")
        (kept,) = [json.loads(each) for each in (tmp_path / "operator.jsonl").read_text().splitlines()]
        assert (kept["result"], kept["reason"], kept["requested_by"]) == (
            "controlled",
            "diagnosed_as_root",
            "ann",
        )
        standing = await agent_package.status(full)
        assert standing["package"] == "", "nothing was changed"


CHAINS: dict[str, tuple[bool, Prepare, str]] = {
    "absent": (False, shell("true"), "not_installed"),
    "stopped": (True, WORK["stopped"][0], "stopped"),
    "interrupted": (False, INSTALL["interrupted"][0], "packages_interrupted"),
}


@pytest.mark.parametrize("chain", CHAINS)
async def test_what_a_runbook_remediates_goes_from_incident_to_verified_agent(
    chain: str, boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """Observed first, with its cause in the outcome; then enforced, and the agent is up."""
    present, prepare, cause = CHAINS[chain]
    (machine,) = await machines(boot, repository, 1)
    if present:
        await install(machine)
    await prepare(machine)
    async with alerted(tmp_path / "observing", repository, machine, mode="observe") as a:
        intent, verdict = await a.alert(machine)
        assert verdict == "planned"
        outcome = a.function.outcomes(intent_id=intent)[-1]
        assert (outcome["cause"], outcome["cause_concerns"]) == (cause, "logmend")
        assert outcome["cause_runbook"] == ("dpkg-interrupted" if chain == "interrupted" else "ops-agent")
    async with alerted(tmp_path / "enforcing", repository, machine) as a:
        intent, verdict = await a.alert(machine)
        assert verdict == "requested"
        assert await a.closed(intent) == "remediated"
    assert await agent_package.status(machine) == RUNNING


async def log_full(machine: Machine) -> None:
    """Have the agent stopped, and its own log fill the file system that it is on."""
    await install(machine)
    folder = f"/var/log/{agent_package.NAME}"
    await machine.output(
        f"systemctl stop {agent_package.NAME}; mount -t tmpfs -o size=12m log {folder};"
        f" mkdir {folder}/subagents"
    )
    full = await machine.run(f"dd if=/dev/zero of={folder}/subagents/logging-module.log bs=4k")
    assert "No space left" in full.err


FIRST: dict[str, tuple[Prepare, str, str]] = {
    "packages_interrupted": (interrupted, "dpkg-interrupted", "absent"),
    "apt_source_gone": (source_gone, "apt-source-gone", "absent"),
    "agent_log_full": (log_full, "agent-log-disk", "installed"),
}
CHOSEN = """runbooks:
  ops-agent:
    parameters: {{repo_url: '{url}', packages_url: '{url}', settle: '4', log_megabytes: '8'}}
  apt-source-gone: {{enabled: true}}
  dpkg-interrupted: {{enabled: true, allow_irreversible: true}}
  agent-log-disk: {{enabled: true, allow_irreversible: true, parameters: {{megabytes: '8'}}}}
"""


async def test_what_another_runbook_remediates_goes_first_and_the_agent_is_installed_after_it(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """One incident, one chain: cause, its own runbook, the agent; each with an outcome of its own."""
    every = await machines(boot, repository, len(FIRST))
    await asyncio.gather(
        *(prepare(machine) for machine, (prepare, *_) in zip(every, FIRST.values(), strict=True))
    )
    chosen = tmp_path / "logmend.yaml"
    chosen.write_text(CHOSEN.format(url=repository.url))
    async with alerted(tmp_path, repository, *every, runbooks=chosen) as a:
        intents = []
        for machine, (cause, (_, runbook, _)) in zip(every, FIRST.items(), strict=True):
            a.around.instance(machine).labels["logmend-follow-up"] = "on"
            intent, verdict = await a.alert(machine)
            assert verdict == "skipped: goes_first"
            (first,) = a.function.outcomes(intent_id=intent)
            assert (first["cause"], first["cause_runbook"], first["committed"]) == (cause, runbook, False)
            intents.append(intent)
        for follows in [f"f-{each}" for each in intents] + [f"f-f-{each}" for each in intents]:
            await until(partial(_taken_up, a, follows))
            assert await a.closed(follows) == "remediated"
        for intent, (_, runbook, package) in zip(intents, FIRST.values(), strict=True):
            assert a.function.outcomes(intent_id=f"f-{intent}")[-1]["runbook"] == runbook
            last = a.function.outcomes(intent_id=f"f-f-{intent}")[-1]
            assert (last["runbook"], last["before"]["package"]) == ("ops-agent", package)
    for machine in every:
        assert await agent_package.status(machine) == RUNNING


async def _taken_up(a: Alerted, intent: str) -> bool:
    """Let the tick take an intent up, unless it was already."""
    if [each for each in a.function.verdicts(intent_id=intent) if not each.startswith("parked")]:
        return True
    await a.function.push(tick())
    return False


async def test_an_enforcement_in_vain_says_why(boot: Boot, tmp_path: Path, repository: Repository) -> None:
    """The tick's last look asks: the agent was installed, and somebody else holds its port."""
    (machine,) = await machines(boot, repository, 1)
    await install(machine)
    await WORK["port"][0](machine)
    async with alerted(tmp_path, repository, machine) as a:
        intent, verdict = await a.alert(machine)
        assert verdict == "requested"
        assert await a.closed(intent) == "failed: still_faulty"
        outcome = a.function.outcomes(intent_id=intent)[-1]
    assert outcome["cause"] == "port_taken", outcome["cause_evidence"]
    assert outcome["next_step"].startswith("move what holds the port")


async def test_at_the_default_settling_what_dies_after_a_minute_is_still_faulty(
    boot: Boot, tmp_path: Path, repository: Repository
) -> None:
    """Ninety seconds, as shipped: a missing agent is remediated, and one that dies late is no success."""
    missing, late = await machines(boot, repository, 2)
    await install(late)
    await late.output(f"mkdir /opt/dies; echo 60 >/opt/dies/otelopscol; systemctl stop {agent_package.NAME}")
    async with alerted(tmp_path, repository, missing, late, settle=90) as a:
        began, verdicts = time.monotonic(), ["requested", "requested"]
        intents = [(await a.alert(machine))[0] for machine in (missing, late)]
        while "requested" in verdicts:
            assert time.monotonic() - began < 450, verdicts
            await asyncio.sleep(5)
            for intent in intents:
                if a.function.verdicts(intent_id=intent)[-1] == "requested":
                    await make_due(a.function, intent)
            await a.function.push(tick())
            verdicts = [a.function.verdicts(intent_id=intent)[-1] for intent in intents]
        assert verdicts == ["remediated", "failed: still_faulty"]
        assert time.monotonic() - began > 80
    assert await agent_package.status(missing) == RUNNING
