"""The frozen values that a runbook's folder is read into."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

from logmend.model.struct import Struct, field
from logmend.model.values import Concerns
from logmend.runbook.patterns import first_found

MAX_SCRIPT_CHARACTERS = 32 * 1024
"""What a script may have at all: over SSH it is one argument of a shell, of which Linux takes 128 KiB."""

INLINE_CHARACTERS = 1024
"""What every source agrees an inline script of an OS policy may have. A longer one goes over SSH only."""

EXECUTORS = ("ssh", "osconfig")
"""What can carry a runbook to a VM. Over SSH each goes; by OS Config, those that say nothing against it."""

DIAGNOSE = "diagnose.sh"
"""The script that names a fault's cause. It goes over SSH only, so no limit of OS Config's binds it."""

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
    """One thing wrong with a runbook: where, what, and what to do about it (may be empty)."""

    file: str
    line: int | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """``FILE:LINE: MESSAGE; HINT``, as commands print it."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class Variant(Struct, frozen=True):
    """One form that the line can have. ``pattern`` is RE2, found anywhere in the text unless anchored.

    ``cause`` is the cause that a line which is refused names by itself, one of its runbook's, or ``unknown``.
    """

    name: str
    pattern: str
    verdict: Literal["act", "refuse"]
    reason: str | None
    cause: str | None = None


class Condition(Struct, frozen=True):
    """One thing that ``unless`` or ``only`` asks of a VM.

    ``text`` is ``KEY`` or ``KEY=VALUE`` of a label or of metadata, ``PROJECT`` or ``PROJECT/LICENSE`` of an
    image, or the family of a machine type, such as ``e2``.
    """

    kind: Literal["label", "metadata", "image", "machine_family"]
    text: str

    def __str__(self) -> str:
        """Return ``KIND TEXT``."""
        return f"{self.kind} {self.text}"


class Cause(Struct, frozen=True):
    """One cause that ``diagnose.sh`` may name: what it means, whose it is, what to do about it.

    ``next_step`` may hold ``{vm}`` and ``{instance}``, as in outcomes. ``runbook`` remediates it if it
    concerns logmend, and only there.
    """

    name: str
    concerns: Concerns
    summary: str
    next_step: str
    runbook: str | None = None


class Limits(Struct, frozen=True):
    """A runbook's own disruption budget: ``disruption_budget`` enforcements per ``budget_window``.

    None stands for the settings' value. A runbook can only narrow what the operator allows as a whole
    by being named; which of the two binds is decided where budgets are reserved.
    """

    disruption_budget: int | None = None
    budget_window: timedelta | None = None


class Scripts(Struct, frozen=True):
    """The scripts' text, with the runbook's parameters filled in: what runs on a VM, to the byte.

    The two of the revert are empty if the runbook is irreversible, ``diagnose`` if it has none.
    """

    validate: str
    enforce: str
    revert_validate: str = ""
    revert_enforce: str = ""
    diagnose: str = ""

    @property
    def by_file(self) -> Mapping[str, str]:
        """Text of each script that remediates or goes back, by its file in the runbook's folder."""
        texts = {file: getattr(self, attribute) for attribute, file in SCRIPT_FILES.items()}
        return {file: text for file, text in texts.items() if text}

    @property
    def too_long(self) -> str:
        """Which of them are longer than an OS policy takes; empty if none is."""
        long = {file: len(text) for file, text in self.by_file.items() if len(text) > INLINE_CHARACTERS}
        sizes = ", ".join(f"{file} has {size:,} characters" for file, size in long.items())
        return sizes and f"{sizes}; an OS policy takes {INLINE_CHARACTERS:,}"


class Runbook(Struct, frozen=True):
    """One runbook, ready for use.

    ``filter`` is Logging query language (None: never matches an entry), ``confirmed_by`` the filter of what a
    repaired VM says by itself, ``repeats`` how often the source
    says the same again, ``detached`` until when 101 after enforcing may still turn into 100, ``digest``
    ``sha256:…`` over runbook.yaml and the rendered scripts. ``programs`` and ``words`` are whose lines it is
    about, and what is in each of them, whatever their form. ``approval_keys`` are the keys of the
    evidence that an approval is bound to. ``parameters`` are the values that the scripts were given.
    ``unless`` and ``only`` are the guards that it writes itself.
    ``irreversible`` says that its changes cannot be undone. ``causes`` are all that ``diagnose.sh``
    may name, ``after`` the runbook that goes first, ``goes_first`` all that are on and
    may: that one, and those that remediate a cause. ``executors`` are those of :data:`EXECUTORS` by which it
    may go, as its author says.
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
        """Why OS Config cannot take this runbook; empty if it can."""
        declared = "" if "osconfig" in self.executors else "its runbook.yaml says executors: [ssh]"
        return self.scripts.too_long or declared

    def variant_of(self, text: str) -> Variant | None:
        """Return the first variant whose pattern is found in ``text``; None if none is: an unknown form."""
        index = first_found(tuple([each.pattern for each in self.variants]), text)
        return None if index is None else self.variants[index]
