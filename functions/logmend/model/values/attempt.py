"""What was seen and done on a VM in one attempt."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from logmend.model.enums import Action, Finding
from logmend.model.struct import Struct
from logmend.model.values.instance import InstanceRef
from logmend.model.values.intent import Verdict

_FINDINGS = {
    100: Finding.DESIRED,
    101: Finding.FAULTY,
    102: Finding.LEAVE_ALONE,
    103: Finding.BUSY,
}


class Evidence(Struct, frozen=True):
    """What a script said on the VM: exit code, ``key=value`` lines (at most 4 KiB), an error's stderr end."""

    exit_code: int
    values: Mapping[str, str]
    at: datetime
    error: str = ""

    @property
    def finding(self) -> Finding:
        """Return the finding: 100 desired, 101 faulty (OS Config), 102 leave alone, 103 busy, else error."""
        return _FINDINGS.get(self.exit_code, Finding.ERROR)

    @property
    def instance_id(self) -> str | None:
        """Return the id that the VM's own metadata server gave, or None."""
        return self.values.get("instance_id") or None


UNKNOWN = "unknown"
"""The cause of a diagnosis that names none."""

Concerns = Literal["owner", "fleet", "logmend"]
"""Whom a cause concerns: the VM's owner; network, image or policy; or a runbook that remediates it."""


class Diagnosis(Struct, frozen=True):
    """Why a VM has its fault, from ``diagnose.sh``: a cause that its runbook declares, or ``unknown``.

    ``evidence`` are lines for people. ``why`` is a word that says why a cause is unknown
    (:data:`logmend.runbook.diagnosis.WHYS`). ``next_step`` is what to do about the cause, ``runbook`` the
    runbook that would remediate it.
    """

    cause: str
    concerns: Concerns | None = None
    evidence: tuple[str, ...] = ()
    next_step: str = ""
    runbook: str | None = None
    why: str | None = None

    def __str__(self) -> str:
        """Return it as one line: ``cause disk_full (owner): disk: /var``."""
        said = self.concerns or self.why
        return f"cause {self.cause}{f' ({said})' if said else ''}: {'; '.join(self.evidence)}".rstrip(": ")


class Trouble(Struct, frozen=True):
    """An error as a value: ``transient`` or not, its reason, and text for people."""

    transient: bool
    reason: str
    detail: str = ""
    retry_after: float | None = None


HostKeySource = Literal["published", "pinned", "first_seen", "known_hosts", "insecure"]
"""How a VM's SSH host key was known; ``first_seen``: it was pinned in this attempt."""

CredentialKind = Literal["certificate", "imported_key", "static"]
"""The kind of credential that a VM's SSH server accepted."""


class Login(Struct, frozen=True):
    """How a session logged in: how the server's key was known, and which credential it accepted."""

    host_key: HostKeySource
    credential: CredentialKind


class Attempt(Struct, frozen=True):
    """What was seen and done on a VM in one attempt; ``verify`` turns it into a result.

    ``enforced`` is true from the moment when enforcement may have begun. ``requested`` says that the work
    was requested from an agent (the OS Config label is set) and that the tick will close it. ``trouble`` is
    the error that ended the attempt early, ``halted`` the commit point's answer if it stopped the attempt.
    ``asked`` is what an agent was asked to do, if one was. ``committed`` says that this attempt passed the
    commit point. ``login`` is how a session logged in, if one did. ``diagnosis`` is why the fault is there,
    if the runbook can diagnose it.
    """

    executor: str
    before: Evidence | None = None
    enforced: bool = False
    enforcement: Evidence | None = None
    after: Evidence | None = None
    requested: bool = False
    halted: Verdict | None = None
    trouble: Trouble | None = None
    asked: Action | None = None
    committed: bool = False
    login: Login | None = None
    diagnosis: Diagnosis | None = None


class Asked(Struct, frozen=True):
    """What an agent on a VM was asked to do: only what it reported after ``since`` counts."""

    instance: InstanceRef
    runbook: str
    action: Action
    since: datetime
