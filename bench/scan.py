"""``logmend scan`` of exported entries against jq extracting the same fields from the same file.

No line of a file repeats another, since a cache of texts would look too good.
"""

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import vms
from bench.figures import Figure, Skipped, paired, plain
from bench.processes import environment, workshop

BENCH = "scan"
GAINS = "An SRE knows sooner which VMs have the fault, from an export of the log as it is."
MANY = 1_000_000
FEWER = 100_000
ROUNDS = 3
VMS = 2_000
SHAPES: tuple[dict[str, str], ...] = (
    {},
    {"path": "journald"},
    {"path": "serial-old"},
    {"form": "2025"},
    {"form": "done"},
    {"path": "auth"},
)
OURS_OF = 20
"""In an export of everything, one entry in this many has the line."""
RUN = (
    "import sys; from logmend_cli.main import main; sys.argv[0] = 'logmend'\n"
    "try:\n    main()\n"
    "except SystemExit:\n    pass\n"
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print(int(peak.split()[1]) // 1024, file=sys.stderr)"
)
_CLOCK = re.compile(r"\d\d:\d\d:\d\d")
FIELDS = "[.resource.labels.instance_id, .timestamp, .logName, (.textPayload // .jsonPayload.message)] | @csv"
OTHER = "sshd[{0}]: Accepted publickey for user{0} from 10.0.0.7 port {0} ssh2: ED25519 SHA256:{0:043x}"


class Used(NamedTuple):
    """Seconds of CPU and of elapsed time, and the peak memory in MiB."""

    cpu: float
    wall: float
    peak: float = 0.0


def measure() -> Iterator[Figure]:
    """Read the large files once, then measure in turn on exports of everything."""
    jq = shutil.which("jq")
    if jq is None:
        raise Skipped("jq is not installed")
    file, peaks = workshop() / "export.json", []
    for count, indented in ((FEWER, False), (MANY, False), (MANY, True)):
        _write(file, count, indented=indented)
        ours, theirs = _turns(jq if count == MANY else None, file, 1, indented=indented)
        peaks.append(max(each.peak for each in ours))
        if theirs:
            shape = "indented" if indented else "compact"
            yield from _against_jq(f"scan of {count:,} entries that have the line, {shape}", ours, theirs)
    yield plain(
        BENCH,
        f"peak memory, {FEWER:,} and {MANY:,} entries",
        f"{peaks[0]:.0f} MiB, {max(peaks):.0f} MiB",
        aim="constant",
        met=max(peaks) <= 1.1 * peaks[0],
        note=f"{VMS:,} VMs",
        gain="An export of any size can be scanned on a small machine.",
    )
    file.unlink()
    yield from _foreign(jq)


def _foreign(jq: str) -> Iterator[Figure]:
    """Measure an export of everything, and what each line of another program costs in it."""
    for name, indented in (("compact", False), ("indented", True)):
        whole, few = workshop() / "whole.json", workshop() / "few.json"
        _write(whole, FEWER, of=OURS_OF, indented=indented)
        _write(few, FEWER, of=OURS_OF, indented=indented, foreign=False)
        ours, theirs = _turns(jq, whole, ROUNDS, indented=indented)
        yield from _against_jq(f"scan of {FEWER:,} entries, 95 % other programs' lines, {name}", ours, theirs)
        alone, _ = _turns(None, few, ROUNDS, indented=indented)
        each = median((a.cpu - b.cpu) / (FEWER - FEWER // OURS_OF) for a, b in zip(ours, alone, strict=True))
        yield plain(
            BENCH,
            f"another program's line, {name}: CPU",
            f"{each * 1e6:.1f} µs",
            aim="≤ 2 µs",
            met=each <= 2e-6,
        )


def _against_jq(what: str, ours: list[Used], theirs: list[Used]) -> Iterator[Figure]:
    for kind, most in (("cpu", 1.4), ("wall", 0.6)):
        mine, other = ([getattr(each, kind) for each in used] for used in (ours, theirs))
        yield paired(BENCH, f"{what}: {kind}", "jq extracting the fields", mine, other, unit="s", most=most)


def _write(file: Path, count: int, *, of: int = 1, indented: bool, foreign: bool = True) -> None:
    """Write entries, one in ``of`` with the line; each has its own id, times and number.

    Without ``foreign`` the others are left out.
    """
    forms = [
        _CLOCK.sub("@CLOCK@", json.dumps(_marked(each), indent=2 if indented else None)) for each in SHAPES
    ]
    others = [json.dumps(_other(SHAPES[n]), indent=2 if indented else None) for n in range(2)]
    with file.open("w") as out:
        out.write("[\n" if indented else "")
        for number in range(0, count, 1 if foreign else of):
            chosen = forms[number // of % len(forms)] if number % of == 0 else others[number % 2]
            text = chosen.replace("@ID@", f"{number:x}").replace("@TEXT@", OTHER.format(number))
            text = text.replace("@VM@", str(vms.FIRST + number % VMS))
            clock = f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
            text = text.replace("@AT@", f"{clock}.{number:06}").replace("@CLOCK@", clock)
            if indented:
                out.write((",\n" if number else "") + "  " + text.replace("\n", "\n  "))
            else:
                out.write(text + "\n")
        out.write("\n]\n" if indented else "")


def _marked(shape: dict[str, str]) -> dict[str, object]:
    entry = vms.line(0, **shape)
    entry["resource"]["labels"]["instance_id"] = "@VM@"
    return entry | {"insertId": "@ID@", "timestamp": "2026-03-01T@AT@Z"}


def _other(shape: dict[str, str]) -> dict[str, object]:
    field = "MESSAGE" if shape else "message"
    return _marked(shape) | {"jsonPayload": {field: "@TEXT@", "SYSLOG_IDENTIFIER": "sshd", "_PID": "929"}}


def _turns(jq: str | None, file: Path, rounds: int, *, indented: bool) -> tuple[list[Used], list[Used]]:
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_scan(file))
        if jq:
            theirs.append(_used([jq, "-r", (".[] | " if indented else "") + FIELDS, str(file)])[0])
    return ours, theirs


def _scan(file: Path) -> Used:
    used, told = _used([sys.executable, "-c", RUN, "scan", "--offline", "--format", "json", str(file)])
    return used._replace(peak=float(told.split()[-1]))


def _used(command: list[str]) -> tuple[Used, bytes]:
    """Run a command; measure its and its children's CPU, which waits for nothing else on the machine."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command,
        check=True,
        timeout=600,
        env=environment({}) | {"PYTHONPATH": str(workshop() / "functions")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Used(cpu, wall), done.stderr
