"""Run the benchmarks, print a table, and write out/bench.json: ``python -m bench [--only NAME]…``.

The soak, which measures no time, runs in a process of its own beside what counts and what measures CPU.
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
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from bench import figures, processes
from bench.figures import Figure, Skipped

NAMES = (
    "cold",
    "rate",
    "matching",
    "fanout",
    "attempts",
    "command",
    "cost",
    "storm",
    "ceilings",
    "blast",
    "scan",
    "soak",
)
BESIDE = "ceilings"
"""Where the soak begins in a run of everything: what comes after counts, or takes CPU and not time."""
OUT = processes.ROOT / "out" / "bench.json"


def bench(name: str) -> Callable[[], Iterable[Figure]]:
    """Give the benchmark of that name: the function ``measure`` of its module."""
    found: Callable[[], Iterable[Figure]] = import_module(f"bench.{name}").measure
    return found


def gains(name: str) -> str:
    """Give what a user gains by the benchmark of that name."""
    found: str = import_module(f"bench.{name}").GAINS
    return found


def machine() -> dict[str, object]:
    """Describe the machine and what is measured."""
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
    """The soak in a process of its own, which ends with this one."""

    def __init__(self, out: Path, minutes: float) -> None:
        self._out, self._limit = out, 60 * minutes + 300
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "bench", "--only=soak", f"--minutes={minutes}", f"--out={out}"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self._stop)

    def figures(self) -> Iterable[Figure]:
        """Wait for it; give what it measured."""
        self._process.wait(self._limit)
        for each in json.loads(self._out.read_text())["figures"]:
            yield Figure(**each)

    def _stop(self) -> None:
        """Interrupt it, so that it ends what it started, where this run ends before it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self._process.wait(20)
        processes.end(self._process)


def _write(out: Path, report: dict[str, object]) -> None:
    """Write what there is so far: a run that is ended early leaves what it has measured."""
    out.parent.mkdir(parents=True, exist_ok=True)
    load = [round(each, 1) for each in os.getloadavg()]
    out.write_text(json.dumps(report | {"load_after": load}, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """Run what was asked for; a benchmark that fails is reported and makes the status 1."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the soak")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    os.environ["BENCH_SOAK_MINUTES"] = str(asked.minutes)
    report: dict[str, object] = {"machine": machine()}
    rows: list[Figure] = []
    seconds: dict[str, int] = {}
    failed = False
    soak: _Soak | None = None
    for name in asked.only or NAMES:
        started = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        if name == BESIDE and not asked.only:
            soak = _Soak(asked.out.with_name("soak.json"), asked.minutes)
        try:
            for each in soak.figures() if soak and name == "soak" else bench(name)():
                rows.append(each)
                print(
                    f"  {each.measure}: {each.ours} / {each.theirs} {each.ratio or ''}",
                    file=sys.stderr,
                    flush=True,
                )
        except Skipped as why:
            rows.append(figures.plain(name, f"skipped: {why}", ""))
        except Exception as error:  # noqa: BLE001  the other benchmarks are worth having
            failed = True
            rows.append(figures.plain(name, f"failed: {type(error).__name__}: {str(error)[:300]}", ""))
        seconds[name] = round(time.monotonic() - started)
        _write(asked.out, report | {"seconds": seconds, "figures": [asdict(each) for each in rows]})
    processes.clean()
    print(figures.table(rows))
    print("\n| bench | what a user gains |\n|---|---|")
    for name in asked.only or NAMES:
        print(f"| {name} | {gains(name)} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
