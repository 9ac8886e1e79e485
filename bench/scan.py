"""``logmend scan`` of exported entries against the bare decode, json.loads and jq on the same file.

``python -m bench.scan WAY FILE`` is one of the alternatives in a process of its own.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import vms
from bench.figures import Figure, paired, plain
from bench.processes import ROOT, environment, workshop
from logmend_cli import inputs

BENCH = "scan"
MANY = 1_000_000
FEWER = 50_000
ROUNDS = 2
VMS = 2_000
SHAPES: tuple[dict[str, str], ...] = (
    {},
    {"path": "journald"},
    {"path": "serial-old"},
    {"form": "2025"},
    {"form": "done"},
    {"path": "auth"},
)
RUN = (
    "import sys; from logmend_cli.main import main; sys.argv[0] = 'logmend'\n"
    "try:\n    main()\n"
    "except SystemExit:\n    pass\n"
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print(int(peak.split()[1]) // 1024, file=sys.stderr)"
)
FIELDS = "[.resource.labels.instance_id, .timestamp, .logName, (.textPayload // .jsonPayload.message)] | @csv"


def measure() -> Iterator[Figure]:
    """Take turns on the smaller file, then read the large one once. Times are of CPU."""
    small, large = workshop() / "small.json", workshop() / "large.json"
    _write(small, FEWER)
    _write(large, MANY)
    jq = shutil.which("jq")
    spans: dict[str, list[float]] = {"scan": [], "decode": [], "loads": [], "jq": []}
    peak = 0.0
    for _ in range(ROUNDS):
        took, peak = _scan(small)
        spans["scan"].append(took)
        spans["decode"].append(_other("decode", small))
        spans["loads"].append(_other("loads", small))
        if jq:
            spans["jq"].append(_jq(jq, small))
    yield paired(
        BENCH,
        f"scan of {FEWER:,} entries: CPU",
        "the bare decode of the file",
        spans["scan"],
        spans["decode"],
        unit="s",
        most=2.0,
    )
    yield paired(
        BENCH,
        f"scan of {FEWER:,} entries: CPU",
        "json.loads of each line",
        spans["scan"],
        spans["loads"],
        unit="s",
    )
    if jq:
        yield paired(
            BENCH,
            f"scan of {FEWER:,} entries: CPU",
            "jq extracting the fields",
            spans["scan"],
            spans["jq"],
            unit="s",
        )
    took, most = _scan(large)
    decoded = _other("decode", large)
    yield paired(
        BENCH,
        f"scan of {MANY:,} entries: CPU",
        "the bare decode of the file",
        [took],
        [decoded],
        unit="s",
        most=2.0,
    )
    if jq:
        yield paired(
            BENCH,
            f"scan of {MANY:,} entries: CPU",
            "jq extracting the fields",
            [took],
            [_jq(jq, large)],
            unit="s",
        )
    yield plain(
        BENCH,
        f"peak memory, {FEWER:,} and {MANY:,} entries",
        f"{peak:.0f} MiB, {most:.0f} MiB",
        aim="constant",
        met=most <= 1.1 * peak,
        note=f"{VMS:,} VMs",
    )


def _write(file: Path, count: int) -> None:
    lines = [json.dumps(vms.line(number, **SHAPES[number % len(SHAPES)])) + "\n" for number in range(VMS)]
    with file.open("w") as out:
        for number in range(count):
            out.write(lines[number % VMS])


def _cpu() -> float:
    """Give the seconds of CPU of all children that have ended: what else the machine does counts less."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _scan(file: Path) -> tuple[float, float]:
    """Give seconds of CPU and peak MiB."""
    began = _cpu()
    done = subprocess.run(
        [sys.executable, "-c", RUN, "scan", "--offline", "--format", "json", str(file)],
        check=True,
        timeout=600,
        env=environment({}) | {"PYTHONPATH": str(workshop() / "functions")},
        capture_output=True,
    )
    took = _cpu() - began
    totals = json.loads(done.stdout)
    assert totals, done.stderr
    return took, float(done.stderr.split()[-1])


def _other(way: str, file: Path) -> float:
    began = _cpu()
    subprocess.run(
        [sys.executable, "-m", "bench.scan", way, str(file)],
        check=True,
        timeout=600,
        cwd=ROOT,
        env=environment({}) | {"PYTHONPATH": f"{workshop() / 'functions'}:{ROOT}"},
    )
    return _cpu() - began


def _jq(jq: str, file: Path) -> float:
    began = _cpu()
    subprocess.run([jq, "-r", FIELDS, str(file)], check=True, stdout=subprocess.DEVNULL, timeout=600)
    return _cpu() - began


def _alternative(way: str, file: str) -> None:
    if way == "loads":
        with Path(file).open("rb") as lines:
            for line in lines:
                json.loads(line)
        return
    for _ in inputs.documents(file):
        pass


if __name__ == "__main__":
    _alternative(sys.argv[1], sys.argv[2])
