"""How many VMs one instance gets through in a storm, with realistic latency to everything that it calls.

In observe mode, on a Firestore emulator, with as many requests at once as the platform would let through.
What a fleet needs is calculated from it, not measured.
"""

import math
import os
from collections.abc import Iterator

from bench import vms
from bench.delays import away
from bench.figures import Figure, Skipped, plain
from bench.load import load
from bench.processes import ask, ours, push, served, workshop
from logmend.model.struct import replace
from logmend_cli.pretend import emulator

BENCH = "instance"
GAINS = "How many instances a storm takes, and how many requests at once each should get."
AT_ONCE = tuple(map(int, os.environ.get("BENCH_AT_ONCE", "80").split()))
VMS = int(os.environ.get("BENCH_VMS", "2000"))
WARM = 50
COMPUTE, FIRESTORE, SSH = 60.0, 13.0, 5.0
"""Round trips, in milliseconds."""
CHECK = 0.3
"""Seconds that a check takes on a VM."""
FLEET, SPAN = 100_000, 600
"""So many VMs complain within so many seconds."""
MOST = 3
"""Instances that such a storm may take."""


def measure() -> Iterator[Figure]:
    """Measure one instance at each number of concurrent requests, on VMs that it has not seen."""
    if not emulator.installed("cloud-firestore-emulator"):
        raise Skipped("this machine lacks Java or the Cloud SDK's emulator")
    folder, numbers = workshop() / BENCH, iter(range(1_000, vms.OPTED_IN))
    ledger = emulator.firestore_emulator_process()
    name = "FIRESTORE_EMULATOR_HOST"
    with vms.crowd(folder, CHECK) as crowd, emulator.running(ledger, name):
        port = int(os.environ[name].rpartition(":")[2])
        near = {
            "api": (crowd.compute_port, COMPUTE),
            "ssh": (crowd.ssh_port, SSH),
            "ledger": (port, FIRESTORE),
        }
        with away(**near) as far:
            os.environ[name] = f"127.0.0.1:{far['ledger']}"
            there = replace(crowd, ssh_port=far["ssh"], compute_port=far["api"])
            for count in AT_ONCE:
                yield from _one(there, count, [next(numbers) for _ in range(WARM + VMS)])


def _one(crowd: vms.Crowd, count: int, chosen: list[int]) -> Iterator[Figure]:
    state = {"state": f"firestore:bench-project/at-{count}", "mode": "observe"}
    bodies = [push(vms.line(each), f"{each}") for each in chosen]
    with served(ours(), **(crowd.settings() | state)) as function:
        ask(function.port, push(vms.line(1, form="done"), "first"))
        load(function.port, bodies[:WARM], count)
        used, asked = function.cpu(), crowd.asked()
        found = load(function.port, bodies[WARM:], count)
        used, asked = function.cpu() - used, crowd.asked() - asked
    if set(found["said"]) != {"200 planned"}:
        raise AssertionError(f"{count} at once: {found['said']}")
    rate = VMS / found["seconds"]
    yield plain(
        BENCH,
        f"{count} requests at once, {VMS:,} VMs: one instance",
        f"{rate:.1f} VMs a second",
        note=f"{1000 * used / VMS:.1f} ms of CPU a VM, {100 * used / found['seconds']:.0f} % of a core, "
        f"{asked / VMS:.2f} calls to Compute a VM, {1000 * count / rate:.0f} ms each",
    )
    needed = math.ceil(FLEET / SPAN / rate)
    yield plain(
        BENCH,
        f"{count} requests at once: instances for {FLEET:,} VMs in {SPAN // 60} minutes, derived",
        f"{needed}",
        aim=f"≤ {MOST}",
        met=needed <= MOST,
    )
