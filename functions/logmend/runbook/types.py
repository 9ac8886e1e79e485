"""The immutable types into which a runbook's folder is read."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

from logmend.model.struct import Struct, field
from logmend.model.values import Concerns
from logmend.runbook.patterns import first_found

MAX_SCRIPT_CHARACTERS = 32 * 1024
"""Most characters of any script: over SSH it is a single shell argument, which Linux limits to 128 KiB."""

INLINE_CHARACTERS = 1024
"""Characters that every source allows an OS policy's inline script. A longer one goes over SSH only."""

EXECUTORS = ("ssh", "osconfig")
"""How a runbook can reach a VM. SSH works for every runbook, OS Config for those that do not exclude it."""

DIAGNOSE = "diagnose.sh"
"""The script that names a fault's cause. It goes over SSH only, so OS Config's limits do not apply."""

SCRIPT_FILES: Mapping[str, str] = MappingProxyType(
    {
        "validate": "validate.sh",
        "enforce": "enforce.sh",
        "revert_validate": "revert/validate.sh",
        "revert_enforce": "revert/enforce.sh",
    }
)
"""Field of :class:`Scripts` → file in the runbook's folder."""


class Problem(Struct, frozen=True):
    """One problem in a runbook: where it is, what it is, and a hint (may be empty)."""

    file: str
    line: int | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return ``FILE:LINE: MESSAGE; HINT``, as commands print it."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class Variant(Struct, frozen=True):
    """One form of the line. ``pattern`` is RE2 and matches anywhere in the text unless anchored.

    ``cause`` is the cause that a refused line names by itself: one of its runbook's causes, or ``unknown``.
    """

    name: str
    pattern: str
    verdict: Literal["act", "refuse"]
    reason: str | None
    cause: str | None = None


class Condition(Struct, frozen=True):
    """One condition of ``unless`` or ``only`` on a VM.

    ``text`` is ``KEY`` or ``KEY=VALUE`` for a label or metadata, ``PROJECT`` or ``PROJECT/LICENSE`` for an
    image, or a machine family such as ``e2``.
    """

    kind: Literal["label", "metadata", "image", "machine_family"]
    text: str

    def __str__(self) -> str:
        """Return ``KIND TEXT``."""
        return f"{self.kind} {self.text}"


class Cause(Struct, frozen=True):
    """One cause that ``diagnose.sh`` may name: what it means, whom it concerns, and what to do about it.

    ``next_step`` may hold ``{vm}`` and ``{instance}``, as in outcomes. ``runbook`` is the runbook that
    remediates the cause, set only if the cause concerns logmend.
    """

    name: str
    concerns: Concerns
    summary: str
    next_step: str
    runbook: str | None = None


class Limits(Struct, frozen=True):
    """A runbook's own disruption budget: ``disruption_budget`` enforcements per ``budget_window``.

    None stands for the settings' value. The budget in force is within both this one and the settings', so a
    runbook can only narrow what the operator allows.
    """

    disruption_budget: int | None = None
    budget_window: timedelta | None = None


class Scripts(Struct, frozen=True):
    """The scripts with the runbook's parameters filled in, byte for byte as they run on a VM.

    The two revert scripts are empty if the runbook is irreversible; ``diagnose`` is empty if there is none.
    """

    validate: str
    enforce: str
    revert_validate: str = ""
    revert_enforce: str = ""
    diagnose: str = ""

    @property
    def by_file(self) -> Mapping[str, str]:
        """The text of each script that remediates or reverts, by its file in the runbook's folder."""
        texts = {file: getattr(self, attribute) for attribute, file in SCRIPT_FILES.items()}
        return {file: text for file, text in texts.items() if text}

    @property
    def too_long(self) -> str:
        """Which scripts are too long for an OS policy; empty if none is."""
        long = {file: len(text) for file, text in self.by_file.items() if len(text) > INLINE_CHARACTERS}
        sizes = ", ".join(f"{file} has {size:,} characters" for file, size in long.items())
        return sizes and f"{sizes}; an OS policy takes {INLINE_CHARACTERS:,}"


class Runbook(Struct, frozen=True):
    """One runbook, ready for use.

    ``filter`` is in the Logging query language (None: it matches no entry). ``confirmed_by`` is a filter for
    what a repaired VM logs by itself. ``repeats`` is how often the source repeats its line, ``detached`` how
    long 101 after enforcing may still turn into 100, and ``digest`` is ``sha256:…`` over runbook.yaml and the
    rendered scripts. ``programs`` are the programs whose lines the runbook is about, and each of these
    lines contains at least one of ``words``. ``approval_keys`` are the evidence keys to which an approval is
    bound. ``parameters`` are filled into the scripts. ``unless`` and ``only`` are the runbook's own
    guards. ``irreversible`` means that its changes cannot be undone. ``causes`` are those that
    ``diagnose.sh`` may name. ``after`` is the runbook that goes first. ``goes_first`` are all enabled
    runbooks that may go first: that one, and those that remediate a cause. ``executors`` are those of
    :data:`EXECUTORS` that the runbook's author allows.
    """

    name: str
    summary: str
    filter: str | None
    variants: tuple[Variant, ...]
    guards: tuple[str, ...]
    limits: Limits
    repeats: timedelta | None
    detached: timedelta | None
    permissions: tuple[str, ...]
    follow_up: str | None
    scripts: Scripts
    digest: str
    programs: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    approval_keys: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    unless: tuple[Condition, ...] = ()
    only: tuple[Condition, ...] = ()
    irreversible: bool = False
    causes: tuple[Cause, ...] = ()
    confirmed_by: str | None = None
    after: str | None = None
    goes_first: frozenset[str] = frozenset()
    executors: tuple[str, ...] = EXECUTORS

    @property
    def ssh_only(self) -> str:
        """Why OS Config cannot carry this runbook; empty if it can."""
        declared = "" if "osconfig" in self.executors else "its runbook.yaml says executors: [ssh]"
        return self.scripts.too_long or declared

    def variant_of(self, text: str) -> Variant | None:
        """Return the first variant whose pattern matches ``text``; None if the text has an unknown form."""
        index = first_found(tuple([each.pattern for each in self.variants]), text)
        return None if index is None else self.variants[index]
