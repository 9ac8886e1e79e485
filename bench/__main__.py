"""Run the benchmarks, print a table, and write out/bench.json: ``python -m bench [--only NAME]…``.

The soak, which measures no time, runs in its own process beside the benchmarks that only count. If a
benchmark fails or exceeds its time limit, the table says why, and the others still run.
"""

import argparse
import atexit
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from bench import figures, processes
from bench.figures import Figure, Skipped
from logmend.model.struct import replace

SECONDS = {
    "cold": 30,
    "rate": 60,
    "fanout": 150,
    "attempts": 60,
    "instance": 50,
    "command": 10,
    "scan": 220,
    "storm": 130,
    "cost": 5,
    "ceilings": 40,
    "blast": 70,
    "soak": 190,
}
"""Rough time of each on two cores (the soak: beyond those beside it), in order; 17 minutes in all."""
NAMES = tuple(SECONDS)
PATIENCE = 3
"""A benchmark may take this many times as long."""
BESIDE = "ceilings"
"""A full run starts the soak with this benchmark: from here on they only count."""
FAILED = "failed: "
MINUTES = 5.0
"""Default length of the soak, in minutes."""
OUT = processes.ROOT / "out" / "bench.json"


class Late(KeyboardInterrupt):
    """A benchmark exceeded its time limit.

    It interrupts as Ctrl-C does: code that catches errors to try again does not catch it, and an event loop
    does not take it for the failure of one callback.
    """


def bench(name: str) -> Callable[[], Iterable[Figure]]:
    """Return the benchmark of that name: its module's function ``measure``."""
    found: Callable[[], Iterable[Figure]] = import_module(f"bench.{name}").measure
    return found


def gains(name: str) -> str:
    """Return what the benchmark of that name means for a user."""
    found: str = import_module(f"bench.{name}").GAINS
    return found


@contextlib.contextmanager
def bounded(left: float, of: float) -> Iterator[None]:
    """Raise Late in the body after ``left`` seconds; ``of`` is the whole limit, which the message names."""

    def late(*_: object) -> None:
        raise Late(f"not done after {of:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    of_others = signal.setitimer(signal.ITIMER_REAL, max(0.01, left))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *of_others)
        signal.signal(signal.SIGALRM, before)


def measured(name: str, found: Iterable[Figure], seconds: float) -> Iterator[Figure]:
    """Yield a benchmark's figures, each with its gain; if it fails or is skipped, the last says why."""
    rest, ends = iter(found), time.monotonic() + seconds
    each: Figure | None
    while True:
        try:
            with bounded(ends - time.monotonic(), seconds):
                each = next(rest, None)
        except Skipped as missing:
            each, rest = figures.plain(name, f"skipped: {missing}", ""), iter(())
        except (Exception, Late) as error:  # noqa: BLE001  the other benchmarks are worth having
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            each, rest = figures.plain(name, f"{FAILED}{why}", ""), iter(())
        if each is None:
            return
        yield replace(each, gain=each.gain or gains(name))


def machine() -> dict[str, object]:
    """Describe the machine and the commit that is measured."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memory_gib": round(int(memory.split()[1]) / 1024 / 1024, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": [round(each, 1) for each in os.getloadavg()],
    }


class _Soak:
    """The soak in its own process, which ends with this one."""

    def __init__(self, out: Path, minutes: float) -> None:
        self._out, self._limit = out, 60 * minutes + 300
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "bench", "--only=soak", f"--minutes={minutes}", f"--out={out}"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self._stop)

    def figures(self) -> Iterable[Figure]:
        """Wait for it and yield what it measured."""
        self._process.wait(self._limit)
        for each in json.loads(self._out.read_text())["figures"]:
            yield Figure(**each)

    def _stop(self) -> None:
        """Interrupt it if this run ends first, which lets it end what it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self._process.wait(20)
        processes.end(self._process)


def told(machine: Mapping[str, object], seconds: float) -> str:
    """Describe the run and the machine in words for docs/performance.md."""
    at = datetime.fromisoformat(str(machine["at"]))
    took = f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return (
        f"{at:%Y-%m-%d %H:%M} UTC, commit {machine['commit']}, unattended: {took}. {machine['cores']} cores "
        f"({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}, Python "
        f"{machine['python']}; load before {machine['load_before']}."
    )


def _write(out: Path, report: dict[str, object]) -> None:
    """Write the report so far, so that a run that ends early leaves what it has measured."""
    out.parent.mkdir(parents=True, exist_ok=True)
    load = [round(each, 1) for each in os.getloadavg()]
    out.write_text(json.dumps(report | {"load_after": load}, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """Run the benchmarks that were asked for; return 1 if one failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="length of the soak")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    os.environ["BENCH_SOAK_MINUTES"] = str(asked.minutes)
    where, began = machine(), time.monotonic()
    rows: list[Figure] = []
    seconds: dict[str, int] = {}
    soak: _Soak | None = None
    for name in asked.only or NAMES:
        started = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        if name == BESIDE and not asked.only:
            soak = _Soak(asked.out.with_name("soak.json"), asked.minutes)
        found = soak.figures() if soak and name == "soak" else bench(name)()
        most = PATIENCE * SECONDS[name] + (60 * asked.minutes if name == "soak" else 0)
        for each in measured(name, found, most):
            rows.append(each)
            print(
                f"  {each.measure}: {each.ours} / {each.theirs} {each.ratio or ''}",
                file=sys.stderr,
                flush=True,
            )
        seconds[name] = round(time.monotonic() - started)
        rest = {"seconds": seconds, "figures": [asdict(each) for each in rows]}
        _write(asked.out, {"machine": where, **rest})
    processes.clean()
    print(told(where, time.monotonic() - began) + "\n")
    print(figures.table(rows))
    return 1 if any(each.measure.startswith(FAILED) for each in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
