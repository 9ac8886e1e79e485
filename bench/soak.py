"""Minutes of mixed load on one instance: memory, tasks, threads and descriptors must not grow.

The length is ``--minutes``.
"""

import os
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench import vms
from bench.figures import Figure, plain
from bench.load import load
from bench.processes import ask, ours, push, served, workshop
from logmend_cli.pretend.entries import incident

BENCH = "soak"
GAINS = "An instance lives for as long as the platform lets it, without growing."
TICK = b'{"logmend": "tick"}'
MIX = {"unmatched": 60, "cooling": 40, "new": 12, "duplicate": 10, "garbage": 8}
"""Messages of each kind in a batch; each batch ends with a tick."""


def _message(kind: str, number: int) -> dict[str, Any]:
    match kind:
        case "unmatched":
            return vms.line(1, form="done")
        case "cooling":
            return vms.line(2)
        case "new":
            return vms.line(number)
        case "duplicate":
            return incident((vms.PROJECT, vms.ZONE, str(vms.FIRST + 1)), "soak")
        case _:
            return {"hello": "world"}


def measure() -> Iterator[Figure]:
    """Load, sample after every batch, and compare the second quarter of the time with the last."""
    ends = time.monotonic() + 60 * float(os.environ.get("BENCH_SOAK_MINUTES", "1"))
    folder = workshop() / "soak"
    with vms.crowd(folder) as crowd:
        # A budget's places are kept for its window, which has to end long before the soak does.
        budget = {"disruption_budget": "1000000/30s"}
        settings = crowd.settings() | budget | {"state": f"sqlite:{folder / 'ledger'}"}
        with served(ours("soaked.py"), **settings) as function:
            ask(function.port, TICK)
            samples: list[dict[str, float]] = []
            events, number, began = 0, 1000, time.monotonic()
            while time.monotonic() < ends:
                bodies = []
                for kind, count in MIX.items():
                    for _ in range(count):
                        number += 1
                        bodies.append(push(_message(kind, number), f"soak-{number}"))
                load(function.port, bodies, 16)
                ask(function.port, TICK)
                events += len(bodies) + 1
                inside = ask(function.port, b"{}", path="/bench")[1]
                samples.append(
                    {
                        "MiB": function.memory(),
                        "descriptors": function.descriptors(),
                        "tasks": inside["tasks"],
                        "threads": inside["threads"],
                    }
                )
            took = time.monotonic() - began
    quarter = max(1, len(samples) // 4)
    for what in ("MiB", "tasks", "threads", "descriptors"):
        early = median(each[what] for each in samples[quarter : 2 * quarter] or samples)
        late = median(each[what] for each in samples[-quarter:])
        allowed = 0.03 * early if what == "MiB" else 1
        yield plain(
            BENCH,
            f"{what} of the instance, second quarter and last",
            f"{early:,.1f} → {late:,.1f}",
            aim="no growth" + (" (3 %)" if what == "MiB" else ""),
            met=late - early <= allowed,
            note=f"{took / 60:.1f} min, {events:,} events, {len(samples)} batches",
        )
