"""A runbook's scripts on a pretend machine, in their own namespaces: check, enforce, check, revert.

A script reaches nothing of the workstation: ``systemctl``, ``curl``, ``dpkg`` and the like are stand-ins
(``cli/logmend_cli/pretend/README.md``), also by their full path; every other program runs on a root without
the workstation's files, network, services and processes (user, mount, PID, network and IPC namespaces).
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from logmend.errors import ConfigError
from logmend.model import evidence
from logmend.model.struct import Struct
from logmend.runbook import Runbook

PRETEND = Path(__file__).resolve().parent.parent / "pretend"
INSTANCE = "4775836342981993096"
NAMESPACES = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--fork",
    "--kill-child",
)
ANSWERS = range(100, 104)
"""Exit codes that a script may have; after the revert, the runbook decides if the fault is back."""
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.[a-z]+")
"""A unit's name with its type, as systemd.unit(5) has it."""
_STATE = re.compile(r"[a-z-]+")
LONGEST = 100.0
"""Seconds for one script."""


class PlannedStep(Struct, frozen=True):
    """One script of a trial: whether root runs it, and the exit codes that it may have."""

    name: str
    text: str
    root: bool
    wanted: Collection[int]


class TrialStep(Struct, frozen=True):
    """The result of one script: ``good`` if its exit code is an expected one."""

    name: str
    code: int
    good: bool
    values: Mapping[str, str]
    error: str


def require() -> None:
    """Check that namespaces can be made here; ``ConfigError`` says what is missing."""
    problem = None
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        problem = "unshare (util-linux) is not installed"
    elif (
        ran := subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    ).returncode:
        problem = f"cannot make namespaces: {ran.stderr.strip()}"
    if problem:
        raise ConfigError([f"{problem}; without them a script could reach this computer, so nothing is run"])


def run(runbook: Runbook, units: Sequence[str]) -> Iterator[TrialStep]:
    """Run a runbook's scripts on a new pretend machine. ``units`` are written ``NAME=ACTIVE[,ENABLED]``."""
    stands = [unit(each) for each in units]
    require()
    with tempfile.TemporaryDirectory(prefix="logmend-try-") as folder:
        root, fakes, machine = (Path(folder) / each for each in ("root", "fakes", "machine"))
        root.mkdir()
        shutil.copytree(PRETEND / "bin", fakes)
        prepare(machine, stands)
        inside = Path(__file__).with_name("sandbox.sh").read_text(encoding="utf-8")
        sandbox = [*NAMESPACES, "/bin/sh", "-c", inside, "sandbox", *map(str, (root, fakes, machine))]
        for step in plan(runbook):
            yield _step(sandbox, step)


def plan(runbook: Runbook) -> Iterator[PlannedStep]:
    """Yield the steps in order: check, enforce, check, enforce again, and the revert if there is one."""
    scripts = runbook.scripts
    yield PlannedStep("check", scripts.validate, False, {101})
    yield PlannedStep("enforce", scripts.enforce, True, {100})
    yield PlannedStep("check", scripts.validate, False, {100})
    yield PlannedStep("enforce again", scripts.enforce, True, {100})
    if not runbook.irreversible:
        yield PlannedStep("check of the revert", scripts.revert_validate, False, {101})
        yield PlannedStep("revert", scripts.revert_enforce, True, {100})
        yield PlannedStep("check of the revert", scripts.revert_validate, False, {100})
        yield PlannedStep("check", scripts.validate, False, ANSWERS)


def objection(runbook: Runbook, event: bytes) -> str:
    """Return why an event would not make a runbook run; empty if it would."""
    from logmend import explain
    from logmend.model.enums import Result
    from logmend.settings import Settings
    from logmend.stages import decode

    rules = explain.Rules.of({runbook.name: runbook}, Settings())
    for delivery, each, _ in decode.any_shape(event):
        explanation = explain.event(delivery, each, rules)
        if explanation.verdict is None or explanation.verdict.result is not Result.PLANNED:
            said_no = explanation.verdict
            return f"its result is {said_no.result}, {said_no.reason}" if said_no else "it is not about a VM"
    return ""


def prepare(machine: Path, units: Iterable[tuple[str, str, str]]) -> None:
    """Make a pretend machine that has a metadata server and ``units``, as :func:`unit` reads them."""
    at = machine / "pretend/http/169.254.169.254/computeMetadata/v1/instance"
    at.mkdir(parents=True)
    (at / "id").write_text(INSTANCE)
    for name, active, enabled in units:
        at = machine / "pretend/units" / name
        at.mkdir(parents=True)
        (at / "active").write_text(active)
        (at / "enabled").write_text(enabled)


def unit(text: str) -> tuple[str, str, str]:
    """Read ``NAME=ACTIVE[,ENABLED]``: a unit's name and its state, in systemctl's words."""
    name, _, state = text.partition("=")
    active, _, enabled = state.partition(",")
    enabled = enabled or "enabled"
    if not _UNIT.fullmatch(name) or not _STATE.fullmatch(active) or not _STATE.fullmatch(enabled):
        raise ConfigError(
            [f"{text!r}: expected UNIT=ACTIVE[,ENABLED], such as chrony.service=failed,enabled"]
        )
    return name, active, enabled


def mark() -> str:
    """Return a new attempt's mark."""
    return secrets.token_hex(16)


def judged(step: PlannedStep, code: int, out: bytes, err: bytes) -> TrialStep:
    """Return a script's result, and whether its exit code is expected."""
    return TrialStep(step.name, code, code in step.wanted, evidence.values(out), evidence.error_text(err))


def late(step: PlannedStep) -> TrialStep:
    """Return the result of a script that did not end in time."""
    return TrialStep(step.name, -1, good=False, values={}, error=f"it took more than {LONGEST:.0f} s")


def _step(sandbox: Sequence[str], step: PlannedStep) -> TrialStep:
    try:
        ran = subprocess.run(
            [*sandbox, step.text, mark()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
            check=False,
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")},
        )
    except subprocess.TimeoutExpired:
        return late(step)
    return judged(step, ran.returncode, ran.stdout, ran.stderr)
