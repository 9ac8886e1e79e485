"""Sixteen real systemd machines, from the pushes to verified outcomes, against what an operator would run.

Needs root and the lab (tests/lab/README.md). An alternative that is not installed is skipped and named. The
machines are made faulty again before each turn, which is not measured.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from tests.conftest import missing
from tests.lab import shipper
from tests.lab.cloud import cloud
from tests.lab.disk import TIMER
from tests.lab.lab import Lab
from tests.lab.machines import Machine, TimerState

from bench.figures import Figure, Skipped, paired, plain
from bench.load import load
from bench.processes import ask, ours, push, served, workshop

BENCH = "fanout"
GAINS = "A whole fleet is remediated as fast as by hand, with checks and proof."
CHEAPER = "The machine that remediates a fleet can be small: SSH alone costs it less than a playbook does."
MACHINES = 16
BOOT_LIMIT = 30.0
ROUNDS = 3
SLOW_ROUNDS = {"ansible": 2, "a loop": 1}
"""Alternatives that take a quarter of a minute get fewer turns."""
OFF = TimerState("loaded", "disabled", "inactive")
COMMAND = f"sudo -n systemctl disable --now {TIMER}"
PLAYBOOK = f"""
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.systemd:
        name: {TIMER}
        enabled: false
        state: stopped
"""


def measure() -> Iterator[Figure]:
    """Boot the machines, measure in turn, and take the machines away."""
    lack = missing(
        commands=("mmdebstrap", "systemd-nspawn", "ip", "nsenter", "unshare", "setpriv", "apt-get", "ssh"),
        root=True,
        linux=True,
    )
    if lack:
        raise Skipped(f"the lab needs: {lack}")
    yield from asyncio.run(_measure())


async def _measure() -> list[Figure]:
    lab = Lab()
    machines: list[Machine] = []
    try:
        for _ in range(MACHINES // 4):  # four at a time: two cores boot no faster all at once
            await asyncio.gather(*(_boot(lab, machines) for _ in range(4)))
        return await _turns(machines)
    finally:
        await asyncio.gather(*(each.stop() for each in machines))
        lab.close()


async def _boot(lab: Lab, machines: list[Machine]) -> None:
    """Boot one more; if it takes too long, take it away and try another."""
    for _ in range(3):
        try:
            async with asyncio.timeout(BOOT_LIMIT):
                machines.append(await lab.boot(period=600.0, on_boot=1.0))
                return
        except TimeoutError:
            continue
    raise Skipped("the lab's machines do not come up in time here")


async def _turns(machines: list[Machine]) -> list[Figure]:
    folder = workshop() / "fanout"
    folder.mkdir()
    bodies = []
    for machine in machines:
        await machine.wait_for_line()
        entries = await shipper.SHAPES["ops agent, journald receiver"](machine)
        bodies.append(entries[-1])
    if shutil.which("ansible-playbook"):
        await _python(machines)
    async with cloud(folder, *machines) as around:
        settings: dict[str, object] = {
            "mode": "enforce",
            "project": "lab-project",
            "compute_endpoint": f"http://127.0.0.1:{around.port}",
            "ssh_key": around.key,
            "ssh_user": around.user,
            "cooldown_remediated": "0.1s",
            "needs_human_after": 1000,
            "disruption_budget": "1000/10m",
            "max_event_age": "1h",
        }
        with served(ours(), **settings) as function:
            turn = 0

            async def remediate() -> None:
                nonlocal turn
                turn += 1
                messages = [push(each, f"fan-{turn}-{number}") for number, each in enumerate(bodies)]
                used = function.cpu()
                found = await asyncio.to_thread(load, function.port, messages, MACHINES)
                if set(found["said"]) != {"200 remediated"}:
                    raise AssertionError(f"{found['said']}")
                spans["logmend"].append(found["seconds"])
                costs["logmend"].append(function.cpu() - used)

            ways, lacking = _ways(folder, machines, around.key, around.user)
            spans: dict[str, list[float]] = {"logmend": [], **{name: [] for name in ways}}
            costs: dict[str, list[float]] = {name: [] for name in spans}
            against: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            await asyncio.to_thread(ask, function.port, b"{}")
            for number in range(ROUNDS + 1):
                await _faulty(machines)
                await remediate()
                await _off(machines)
                for name, way in ways.items():
                    if any(name.startswith(each) and number > most for each, most in SLOW_ROUNDS.items()):
                        continue
                    await _faulty(machines)
                    began, used = time.perf_counter(), children()
                    await way()
                    spans[name].append(time.perf_counter() - began)
                    costs[name].append(children() - used)
                    against[name].append((spans["logmend"][-1], costs["logmend"][-1]))
                    await _off(machines)
    figures = []
    for name in against:
        wall, cpu = zip(*against[name][1:], strict=True)
        figures.append(
            paired(
                BENCH,
                f"{MACHINES} machines: wall, with checks before and after",
                name,
                wall,
                spans[name][1:],
                unit="s",
                most=1.1 if name.startswith("parallel-ssh") else None,
            )
        )
        figures.append(
            paired(
                BENCH,
                f"{MACHINES} machines: CPU per VM on the operator's side",
                name,
                [1000 * each / MACHINES for each in cpu],
                [1000 * each / MACHINES for each in costs[name][1:]],
                most=0.1 if name.startswith("ansible") else None,
                gain=CHEAPER,
            )
        )
    return figures + [plain(BENCH, f"skipped: {each}: not installed", "") for each in lacking]


def _ways(
    folder: Path, machines: list[Machine], key: Path, user: str
) -> tuple[dict[str, Callable[[], Awaitable[None]]], list[str]]:
    """Return the alternatives that are installed, and the names of those that are not."""
    known, hosts = folder / "known_hosts", folder / "hosts"
    known.write_text("".join(f"{each.address} {each.host_key}\n" for each in machines))
    hosts.write_text("".join(f"{each.address}\n" for each in machines))
    options = [
        "-i",
        str(key),
        "-o",
        f"UserKnownHostsFile={known}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-F",
        "none",
    ]
    inventory, play = folder / "inventory", folder / "play.yaml"
    inventory.write_text(
        "".join(
            f"{each.address} ansible_user={user} ansible_ssh_private_key_file={key} "
            f"ansible_ssh_common_args='-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes'\n"
            for each in machines
        )
    )
    play.write_text(PLAYBOOK)
    (folder / "ansible.cfg").write_text("[defaults]\nhost_key_checking = true\n")
    found: dict[str, Callable[[], Awaitable[None]]] = {}
    lacking = []
    if pssh := shutil.which("parallel-ssh"):
        found["parallel-ssh, bare systemctl disable --now: no check, no verification"] = lambda: _ran(
            pssh,
            "-h",
            str(hosts),
            "-l",
            user,
            "-p",
            str(MACHINES),
            "-t",
            "60",
            "-x",
            " ".join(options),
            COMMAND,
        )
    else:
        lacking.append("parallel-ssh")
    if ansible := shutil.which("ansible-playbook"):
        found["ansible-playbook, module systemd, 16 forks"] = lambda: _ran(
            ansible, "-i", str(inventory), "-f", str(MACHINES), str(play)
        )
    else:
        lacking.append("ansible-playbook")

    async def loop() -> None:
        for each in machines:
            await _ran("ssh", *options, f"{user}@{each.address}", COMMAND)

    found["a loop of ssh, bare systemctl disable --now"] = loop
    return found, lacking


def children() -> float:
    """Return the seconds of CPU of all child processes that were waited for, and of their children.

    Processes left behind are not included, such as the masters of Ansible's SSH connections.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _python(machines: list[Machine]) -> None:
    """Give every machine this host's Python, which Ansible needs; the lab's roots have none."""
    libraries = [f"/lib/x86_64-linux-gnu/{name}" for name in ("libexpat.so.1", "libz.so.1")]
    packed = await asyncio.to_thread(
        subprocess.check_output,
        [
            "tar",
            "--create",
            "--dereference",
            "--exclude=__pycache__",
            "--exclude=dist-packages",
            "--exclude=config-*",
            "/usr/bin/python3",
            *libraries,
            "/usr/lib/python3.11",
        ],
        stderr=subprocess.DEVNULL,
    )
    for each in machines:
        done = await each.run(["tar", "--extract", "--keep-directory-symlink", "-C", "/"], stdin=packed)
        if done.rc or (await each.run(["/usr/bin/python3", "-c", "import json, zipfile, ssl"])).rc:
            raise AssertionError(f"Python does not run on {each.name}: {done.err}")


async def _ran(*command: str) -> None:
    """Run an alternative; if it is given up, end everything that it started."""
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=os.environ | {"ANSIBLE_CONFIG": str(workshop() / "fanout" / "ansible.cfg")},
        )
        try:
            status = await asyncio.wait_for(process.wait(), 180)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        if status:
            said.seek(0)
            raise AssertionError(f"{command[0]}: {said.read()[-600:].decode(errors='replace')}")


async def _faulty(machines: list[Machine]) -> None:
    await asyncio.gather(
        *(each.output(["systemctl", "enable", "--quiet", "--now", TIMER]) for each in machines)
    )
    await asyncio.sleep(0.5)  # the timer's own first run, and the cooldown


async def _off(machines: list[Machine]) -> None:
    states = await asyncio.gather(*(each.timer_state() for each in machines))
    if any(state != OFF for state in states):
        raise AssertionError(f"not every machine is off: {states}")
