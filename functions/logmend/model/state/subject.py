"""One VM under one runbook, and who is working on it."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.enums import Mode, Result
from logmend.model.state.controls import Declined, Freeze
from logmend.model.state.kept import Kept
from logmend.model.struct import Struct, field
from logmend.model.values import InstanceRef


class Lease(Struct, frozen=True):
    """The right to work on one VM with one runbook, until it expires or a higher fence exists."""

    owner: str
    fence: int
    intent_id: str
    expires_at: datetime


class Cooldown(Struct, frozen=True):
    """Time during which automatic intents leave the VM alone, and the result that started it."""

    until: datetime
    result: Result
    reason: str | None
    mode: Mode


class Subject(Kept, frozen=True):
    """One VM under one runbook.

    ``held`` is set by a revert that put something back, and keeps automatic intents away. ``held_by`` is the
    latest revert, whatever it found: a person's request that does not name it is older or was made without
    knowing about it. ``failures`` counts failures in a row, ``relapses`` how often the fault came back after
    a verified fix and was remediated again. ``human_told`` says that the one ERROR about it was recorded.
    ``open_request`` is the intent whose requested work is still unfinished. ``waiting`` are intents parked
    until the current one is done. ``labels`` are those for outcomes, from the VM's last look-up.
    """

    instance: InstanceRef
    runbook: str
    name: str | None = None
    fence: int = 0
    lease: Lease | None = None
    cooldown: Cooldown | None = None
    held: bool = False
    frozen: Freeze | None = None
    failures: int = 0
    relapses: int = 0
    needs_human: bool = False
    human_told: bool = False
    open_request: str | None = None
    last_result: Result | None = None
    last_reason: str | None = None
    last_at: datetime | None = None
    last_outcome_id: str | None = None
    fixed_at: datetime | None = None
    held_by: str | None = None
    waiting: tuple[str, ...] = ()
    declined: Declined | None = None
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
