"""The operator's command against the interpreter's own start."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from bench import vms
from bench.figures import Figure, plain
from bench.processes import environment, workshop

BENCH = "command"
GAINS = "A command answers at once."
ROUNDS = 11
LIMIT = 150.0
RUN = "import sys; from logmend_cli.main import main; sys.exit(main())"


def measure() -> Iterator[Figure]:
    """Measure whole processes, in turn."""
    file = workshop() / "entry.json"
    file.write_text(json.dumps(vms.line(1)))
    commands = {
        "interpreter": ["-c", "pass"],
        "logmend --help": ["-c", RUN, "--help"],
        "logmend explain of one entry": ["-c", RUN, "explain", str(file)],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, arguments in commands.items():
            spent = _run(arguments)
            if number:
                took[name].append(1000 * spent)
    base = took.pop("interpreter")
    for name, spans in took.items():
        extra = median(a - b for a, b in zip(spans, base, strict=True))
        yield plain(
            BENCH,
            f"{name}, beyond the interpreter's start",
            f"{extra:.0f} ms",
            against="python -c pass",
            aim=f"≤ {LIMIT:g} ms more",
            met=extra <= LIMIT,
        )


def _run(arguments: list[str]) -> float:
    paths = {"PYTHONPATH": str(workshop() / "functions")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment({}) | paths,
        capture_output=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: {done.returncode} {done.stderr[-500:]!r}")
    return time.perf_counter() - started
