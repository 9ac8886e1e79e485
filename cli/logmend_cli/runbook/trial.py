"""A runbook's scripts on a pretend machine, in namespaces of their own: check, enforce, check, and back.

Nothing that a script calls is the workstation's: ``systemctl``, ``curl``, ``dpkg`` and the like are stand-ins
(``cli/logmend_cli/pretend/README.md``), also by their whole path; every other program runs on a root without
the workstation's files, network, services and processes (user, mount, PID, network and IPC namespaces).
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
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
"""What a script may say; after the way back, whether the fault is there again depends on the runbook."""
LONGEST = 100.0
"""Seconds for one script."""


class TrialStep(Struct, frozen=True):
    """What one script said: ``good`` if its exit code is one that belongs there."""

    name: str
    code: int
    good: bool
    values: Mapping[str, str]
    error: str


def require() -> None:
    """Refuse to try anything where no namespaces can be had. ``ConfigError`` says what is missing."""
    problem = None
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        problem = "unshare (util-linux) is not here"
    elif (
        ran := subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    ).returncode:
        problem = f"no namespaces can be made: {ran.stderr.strip()}"
    if problem:
        raise ConfigError([f"{problem}; without them a script could reach this computer, so nothing is run"])


def run(runbook: Runbook, units: Sequence[str]) -> Iterator[TrialStep]:
    """Play a runbook through on a new pretend machine. ``units`` are as ``NAME=ACTIVE[,ENABLED]``."""
    require()
    with tempfile.TemporaryDirectory(prefix="logmend-try-") as folder:
        root, fakes, machine = (Path(folder) / each for each in ("root", "fakes", "machine"))
        root.mkdir()
        shutil.copytree(PRETEND / "bin", fakes)
        prepare(machine, units)
        inside = Path(__file__).with_name("sandbox.sh").read_text(encoding="utf-8")
        sandbox = [*NAMESPACES, "/bin/sh", "-c", inside, "sandbox", *map(str, (root, fakes, machine))]
        scripts = runbook.scripts
        plan: list[tuple[str, str, Collection[int]]] = [
            ("check", scripts.validate, {101}),
            ("enforce", scripts.enforce, {100}),
            ("check", scripts.validate, {100}),
            ("enforce again", scripts.enforce, {100}),
        ]
        if not runbook.irreversible:
            plan += [
                ("check of the way back", scripts.revert_validate, {101}),
                ("way back", scripts.revert_enforce, {100}),
                ("check of the way back", scripts.revert_validate, {100}),
                ("check", scripts.validate, ANSWERS),
            ]
        for name, text, wanted in plan:
            yield _step(sandbox, name, text, wanted)


def objection(runbook: Runbook, event: bytes) -> str:
    """Say why an event would not make a runbook run; empty if it would."""
    from logmend import explain
    from logmend.model.enums import Result
    from logmend.settings import Settings
    from logmend.stages import decode

    rules = explain.Rules.of({runbook.name: runbook}, Settings())
    for delivery, each, _ in decode.any_shape(event):
        said = explain.event(delivery, each, rules)
        if said.verdict is None or said.verdict.result is not Result.PLANNED:
            said_no = said.verdict
            return f"it comes to {said_no.result}, {said_no.reason}" if said_no else "it is no event of a VM"
    return ""


def prepare(machine: Path, units: Sequence[str]) -> None:
    """Make a pretend machine that has a metadata server and ``units``."""
    at = machine / "pretend/http/169.254.169.254/computeMetadata/v1/instance"
    at.mkdir(parents=True)
    (at / "id").write_text(INSTANCE)
    for each in units:
        name, _, state = each.partition("=")
        active, _, enabled = (state or "failed").partition(",")
        if not name or "/" in name:
            raise ConfigError([f"{each!r}: expected UNIT=ACTIVE, such as chrony.service=failed"])
        unit = machine / "pretend/units" / name
        unit.mkdir(parents=True)
        (unit / "active").write_text(active)
        (unit / "enabled").write_text(enabled or "enabled")


def _step(sandbox: Sequence[str], name: str, text: str, wanted: Collection[int]) -> TrialStep:
    try:
        ran = subprocess.run(
            [*sandbox, text, secrets.token_hex(16)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
            check=False,
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")},
        )
    except subprocess.TimeoutExpired:
        return TrialStep(name, -1, good=False, values={}, error=f"it took more than {LONGEST:.0f} s")
    values, error = evidence.values(ran.stdout), evidence.error_text(ran.stderr)
    return TrialStep(name, ran.returncode, ran.returncode in wanted, values, error)
