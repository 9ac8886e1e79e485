"""A runbook's scripts on a throwaway machine with its own systemd: check, enforce, check, revert."""

import re
import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import resources

from logmend.errors import ConfigError
from logmend.model.evidence import error_text
from logmend.model.struct import Struct
from logmend.runbook import Runbook
from logmend_cli.errors import warn
from logmend_cli.machine import roots, throwaway
from logmend_cli.machine.throwaway import MachineRun, Throwaway
from logmend_cli.runbook import trial
from logmend_cli.runbook.trial import LONGEST, TrialStep

DETACHED = timedelta(minutes=5)
"""The longest wait for work that a script detached."""

ARRANGE = 300.0
"""Seconds that causing the fault may take."""

KINDS = {
    "service": "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    "timer": "[Timer]\nOnActiveSec=1d\n[Install]\nWantedBy=timers.target\n",
}
"""A stand-in for a unit that no package brings, by its kind."""


class MachineRecipe(Struct, frozen=True):
    """What the machine is like: its release, more packages, and a script to run before the first check."""

    release: str
    packages: tuple[str, ...] = ()
    archive: str | None = None
    arrange: bytes | None = None

    @property
    def root(self) -> tuple[str, tuple[str, ...], str, str | None]:
        """What its root is built from."""
        return self.release, (*roots.PACKAGES, *self.packages), roots.CUSTOMIZE, self.archive

    def problems(self) -> list[str]:
        """Return what in it is not a valid name or address."""
        given = [("--release", r"[a-z]+", self.release)]
        given += [("--package", r"[a-z0-9][a-z0-9+.-]+", each) for each in self.packages]
        given += (
            [("--archive", r"(?:https?|file)://[!-~]+", self.archive)] if self.archive is not None else []
        )
        return [
            f"{option} {text!r}: expected {pattern}"
            for option, pattern, text in given
            if not re.fullmatch(pattern, text)
        ]


def run(runbook: Runbook, units: Sequence[str], wanted: MachineRecipe) -> Iterator[TrialStep]:
    """Run a runbook's scripts on a new machine. Units are written ``NAME=ACTIVE[,ENABLED]``."""
    stands = [_stand(*trial.unit(each)) for each in units]
    throwaway.require()
    if problems := wanted.problems():
        raise ConfigError(problems)
    if not roots.place(*wanted.root).is_dir():
        warn(f"installs Debian {wanted.release} below {roots.cache()}, once for these packages")
    with throwaway.booted(roots.root(*wanted.root)) as machine:
        for words in stands:
            _arranged(machine.run(words, root=True, timeout=ARRANGE), shlex.join(words[4:7]))
        if wanted.arrange is not None:
            shell = ["/bin/sh", "-s"]
            _arranged(machine.run(shell, stdin=wanted.arrange, root=True, timeout=ARRANGE), "--prepare")
        for step in trial.plan(runbook):
            yield _step(machine, runbook, step)


def _stand(name: str, active: str, enabled: str) -> list[str]:
    states = {"service": ("active", "inactive", "failed"), "timer": ("active", "inactive")}
    kind = name.rpartition(".")[2]
    if not re.fullmatch(r"[A-Za-z0-9:_.@][A-Za-z0-9:_.@-]*", name) or active not in states.get(kind, ()):
        expected = "a .service that is active, inactive or failed, or a .timer that is active or inactive"
        raise ConfigError([f"--unit {name}={active}: expected {expected}; --prepare causes others"])
    if enabled not in ("enabled", "disabled", "masked"):
        raise ConfigError([f"--unit {name}={active},{enabled}: expected enabled, disabled or masked"])
    text = resources.files(__package__).joinpath("unit.sh").read_text(encoding="utf-8")
    return ["/bin/sh", "-c", text, "unit", name, active, enabled, KINDS[kind]]


def _arranged(ran: MachineRun, what: str) -> None:
    if ran.code != 0:
        said = error_text(ran.err) or "it printed nothing"
        how = "took too long" if ran.code is None else f"ended with {ran.code}"
        raise ConfigError([f"the machine is not in the expected state: {what} {how}: {said}"])


def _step(machine: Throwaway, runbook: Runbook, step: trial.PlannedStep) -> TrialStep:
    """Run one script; before a check, wait for detached work."""
    patience = min(runbook.detached or timedelta(), DETACHED).total_seconds()
    waits = not step.root and step.wanted == {100}
    ends = time.monotonic() + (patience if waits else 0.0)
    while True:
        words = ["/bin/sh", "-c", step.text, "logmend", *([trial.mark()] if step.root else [])]
        ran = machine.run(words, root=step.root, timeout=LONGEST)
        if ran.code is None:
            return trial.late(step)
        if ran.code not in (101, 103) or time.monotonic() >= ends:
            return trial.judged(step, ran.code, ran.out, ran.err)
        time.sleep(1)
