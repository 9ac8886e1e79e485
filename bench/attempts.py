"""One function instance with many attempts at once, against bare SSH with as many commands, and the imports.

``python -m bench.attempts PORT KEY KNOWN_HOSTS ADDRESS…`` is the alternative: asyncssh connects to every
address at once, runs three commands on each connection, and prints what it cost.
"""

import asyncio
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh

from bench import vms
from bench.figures import Figure, paired, plain
from bench.load import load
from bench.processes import ROOT, ask, beside, environment, ours, push, served, workshop

BENCH = "attempts"
GAINS = "One instance works on more VMs at once: a fleet is remediated sooner."
ROUNDS = {1: 5, 100: 5}
"""Rounds by the number of attempts at once."""
MOST = 1.25
LIMIT_MIB = 128
COMMANDS = 3
"""What an attempt runs on a VM: check, enforce, check."""
IMPORTS = (
    "import functions_framework.aio, gunicorn.app.base, uvicorn_worker, asyncssh, requests, main\n"
    "import google.auth.transport.requests"
)


def measure() -> Iterator[Figure]:
    """Measure each number of attempts in turn with bare SSH, each round on its own VMs."""
    with vms.crowd(workshop() / "attempts") as crowd:
        numbers = iter(range(10, vms.OPTED_IN))
        for count in ROUNDS:
            yield from _attempts(crowd, count, numbers)


def _attempts(crowd: vms.Crowd, count: int, numbers: Iterator[int]) -> Iterator[Figure]:
    wall, bare_wall, cpu, bare_cpu = [list[float]() for _ in range(4)]
    with served(ours(), **crowd.settings()) as function:
        assert ask(function.port, push(vms.line(next(numbers)), "warm"))[1]["result"] == "remediated"
        before = function.memory()
        for number in range(ROUNDS[count]):
            chosen = [next(numbers) for _ in range(count)]
            bodies = [push(vms.line(each), f"{count}-{number}-{each}") for each in chosen]
            used = function.cpu()
            found = load(function.port, bodies, count)
            if set(found["said"]) != {"200 remediated"}:
                raise AssertionError(f"{count} attempts: {found['said']}")
            wall.append(1000 * found["seconds"])
            cpu.append(1000 * (function.cpu() - used) / count)
            bare = _bare(crowd, chosen)
            bare_wall.append(1000 * bare["seconds"])
            bare_cpu.append(1000 * bare["cpu"] / count)
        peak = function.memory("VmHWM")
    what, against = f"{count} attempts at once", "bare asyncssh: handshakes and three commands"
    aim = MOST if count == 100 else None
    yield paired(BENCH, f"{what}: wall", against, wall, bare_wall, most=aim)
    yield paired(BENCH, f"{what}: CPU per attempt", against, cpu, bare_cpu, most=aim)
    if count == 100:
        yield from _against_gcloud(cpu)
    imports = _imports()
    above = peak - imports
    yield plain(
        BENCH,
        f"{what}: peak memory above the imports",
        f"{above:.0f} MiB",
        against=f"imports alone: {imports:.0f} MiB",
        aim=f"≤ {LIMIT_MIB} MiB" if count == 100 else "",
        met=above <= LIMIT_MIB if count == 100 else None,
        note=f"{before:.0f} MiB after the first attempt",
        gain="The smallest instance does.",
    )


def _against_gcloud(cpu: list[float]) -> Iterator[Figure]:
    """Compare an attempt with what a loop of gcloud costs for each VM before it has reached any."""
    if not (gcloud := shutil.which("gcloud")):
        yield plain(BENCH, "skipped: gcloud compute ssh: gcloud is not installed", "")
        return
    yield paired(
        BENCH,
        "an attempt among 100: CPU",
        "gcloud compute ssh to one VM: CPU until it misses credentials, before any network",
        cpu,
        [_gcloud(gcloud) for _ in cpu],
        gain="What a loop of gcloud over the fleet costs for each VM before it has reached it.",
    )


def _bare(crowd: vms.Crowd, chosen: list[int]) -> dict[str, float]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.attempts",
            str(crowd.ssh_port),
            str(crowd.key),
            str(crowd.known_hosts),
            *map(vms.address, chosen),
        ],
        cwd=ROOT,
        env=beside(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _gcloud(gcloud: str) -> float:
    """Return the milliseconds of CPU that one ``gcloud compute ssh`` takes before it does anything."""
    command = [gcloud, "compute", "ssh", "vm", f"--zone={vms.ZONE}", f"--project={vms.PROJECT}", "--quiet"]
    folder = workshop() / "gcloud"
    folder.mkdir(exist_ok=True)
    before = _used(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        env=environment({}) | {"CLOUDSDK_CONFIG": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )
    if b"credentials" not in done.stderr:
        raise AssertionError(done.stderr[-500:])
    return 1000 * (_used(resource.RUSAGE_CHILDREN) - before)


def _imports() -> float:
    """Return the memory, in MiB, of a function's process that has imported everything and done nothing."""
    code = f"{IMPORTS}\nprint(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ours().parent,
        env=environment({}),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return int(done.stdout) / 1024


async def _shake(port: int, key: str, known_hosts: str, addresses: list[str]) -> None:
    private, known = asyncssh.read_private_key(key), asyncssh.import_known_hosts(known_hosts)

    async def one(address: str) -> None:
        async with asyncssh.connect(
            address,
            port,
            username=vms.USER,
            client_keys=[private],
            known_hosts=known,
            config=None,
            agent_path=None,
            preferred_auth=("publickey",),
            compression_algs=None,
            login_timeout=0,
            connect_timeout=None,
        ) as connection:
            for _ in range(COMMANDS):
                await connection.run("true", input="x" * 1000)

    began, used = time.perf_counter(), _used()
    await asyncio.gather(*map(one, addresses))
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": _used() - used}))


def _used(whose: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    asyncio.run(_shake(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text(), sys.argv[4:]))
