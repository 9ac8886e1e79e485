"""One function instance with many attempts at once, against the SSH handshakes alone and the imports alone.

``python -m bench.attempts PORT KEY KNOWN_HOSTS COMMANDS ADDRESS…`` is the alternative: asyncssh connects to
every address at once, runs so many commands on each connection, and prints what it cost.
"""

import asyncio
import json
import resource
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
GAINS = "How many VMs one instance can work on at once, hence how soon a fleet is remediated."
CROWDS = (1, 10, 100, 200)
ROUNDS = {1: 5, 10: 5, 100: 3, 200: 3}
LIMIT_MIB = 128
IMPORTS = (
    "import functions_framework.aio, gunicorn.app.base, uvicorn_worker, asyncssh, requests, main\n"
    "import google.auth.transport.requests"
)


def measure() -> Iterator[Figure]:
    """Measure each number of attempts in turns with the handshakes, each round on VMs of its own."""
    with vms.crowd(workshop() / "attempts") as crowd:
        numbers = iter(range(10, vms.OPTED_IN))
        for count in CROWDS:
            yield from _attempts(crowd, count, numbers)


def _attempts(crowd: vms.Crowd, count: int, numbers: Iterator[int]) -> Iterator[Figure]:
    wall, shaken, worked, cpu, cpu_shaken, cpu_worked = [list[float]() for _ in range(6)]
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
            for commands, seconds, spent in ((0, shaken, cpu_shaken), (3, worked, cpu_worked)):
                bare = _bare(crowd, commands, chosen)
                seconds.append(1000 * bare["seconds"])
                spent.append(1000 * bare["cpu"] / count)
        peak = function.memory("VmHWM")
    what = f"{count} attempts at once"
    yield paired(BENCH, f"{what}: wall", "bare asyncssh handshakes", wall, shaken, most=1.3)
    yield paired(BENCH, f"{what}: wall", "bare asyncssh handshakes and three commands", wall, worked)
    yield paired(BENCH, f"{what}: CPU per attempt", "bare asyncssh handshakes", cpu, cpu_shaken, most=1.3)
    yield paired(
        BENCH, f"{what}: CPU per attempt", "bare asyncssh handshakes and three commands", cpu, cpu_worked
    )
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
    )


def _bare(crowd: vms.Crowd, commands: int, chosen: list[int]) -> dict[str, float]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.attempts",
            str(crowd.ssh_port),
            str(crowd.key),
            str(crowd.known_hosts),
            str(commands),
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


def _imports() -> float:
    """Give the memory of a function's process that has imported everything and done nothing, in MiB."""
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


async def _shake(port: int, key: str, known_hosts: str, commands: int, addresses: list[str]) -> None:
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
            for _ in range(commands):
                await connection.run("true", input="x" * 1000)

    began, used = time.perf_counter(), _used()
    await asyncio.gather(*map(one, addresses))
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": _used() - used}))


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    asyncio.run(
        _shake(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text(), int(sys.argv[4]), sys.argv[5:])
    )
