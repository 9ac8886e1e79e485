"""What is to be done on a VM, and what stands against it."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.enums import Action, Finding, Origin, Result
from logmend.model.struct import Struct, field
from logmend.model.values.event import Source
from logmend.model.values.instance import InstanceRef


class Plan(Struct, frozen=True):
    """What a person is shown to approve, and all that an approval of it is good for.

    ``guards`` has each guard's verdict in words, ``evidence`` what the check said under the runbook's
    ``approval_keys`` (None: it did not say it).
    """

    action: Action
    digest: str
    finding: Finding | None = None
    guards: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, str | None] = field(default_factory=dict)


class Intent(Struct, frozen=True):
    """What is to be done: one action on one VM with one runbook.

    ``intent_id`` names it in the ledger: ``m-MESSAGE_ID`` for what came as a message, another prefix for
    what an operator, an approval or a follow-up wrote. ``event_time`` is what staleness is judged by.
    ``line_host`` is the host that the line names if that is not ``shipped_by``, the agent's own.
    ``repeats`` says that the source repeats itself if nothing is done. ``overrides`` names the revert that a
    person knew of and takes back. ``approved`` is what the person who approved it saw, and nothing else may
    be done under that approval. A person's revert goes on through the freezes and the breaker that it names
    in ``passes`` (an order to enforce: through the breaker and what windows close), on at most ``at_most``
    VMs in a window of the budget (None: no limit). ``why`` is the reason that the person gave.
    ``back_to`` are the runbooks that this one goes before, the last of which comes again once this one is
    through; ``gone_first`` are all that went first, none does so twice.
    ``ends`` is all that is left to say of it, without a look at the VM: what went first did not help.
    """

    intent_id: str
    runbook: str
    action: Action
    instance: InstanceRef
    origin: Origin
    source: Source
    created_at: datetime
    event_time: datetime | None = None
    line_time: datetime | None = None
    line_host: str | None = None
    shipped_by: str | None = None
    message_id: str | None = None
    variant: str | None = None
    repeats: bool = False
    requested_by: str | None = None
    replay_of: str | None = None
    allow_stale: bool = False
    look_only: bool = False
    approval_id: str | None = None
    overrides: str | None = None
    passes: tuple[str, ...] = ()
    why: str = ""
    at_most: int | None = None
    approved: Plan | None = None
    back_to: tuple[str, ...] = ()
    gone_first: tuple[str, ...] = ()
    ends: "Verdict | None" = None

    @property
    def puts_back(self) -> bool:
        """A person undoes what was done: freezes and the budget of what it undoes do not apply."""
        return self.action is Action.REVERT and self.origin is Origin.OPERATOR

    @property
    def automatic(self) -> bool:
        """No person stands behind it: cooldowns and holds bind it."""
        return self.origin not in (Origin.OPERATOR, Origin.APPROVAL)


class Verdict(Struct, frozen=True):
    """What stands against going on, or what came of it: a result with its reason and text for people.

    Where a stage is asked whether to go on, None means yes. ``not_before`` is when the tick takes up what is
    parked; None for the next tick.
    """

    result: Result
    reason: str | None = None
    detail: str = ""
    not_before: datetime | None = None
