"""What to do on a VM, and reasons not to do it."""

from collections.abc import Mapping
from datetime import datetime

from logmend.model.enums import Action, Finding, Origin, Result
from logmend.model.struct import Struct, field
from logmend.model.values.event import Source
from logmend.model.values.instance import InstanceRef


class Plan(Struct, frozen=True):
    """What a person is asked to approve, and everything that the approval permits.

    ``guards`` has each guard's verdict in words, ``evidence`` the check's values for the runbook's
    ``approval_keys`` (None if the check did not print it).
    """

    action: Action
    digest: str
    finding: Finding | None = None
    guards: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, str | None] = field(default_factory=dict)


class Intent(Struct, frozen=True):
    """Work to do: one action on one VM with one runbook.

    ``intent_id`` names it in the ledger: ``m-MESSAGE_ID`` if it came as a message, another prefix if it came
    from an operator, an approval or a follow-up. Staleness is judged by ``event_time``. ``line_host`` is the
    host that the line names, if it differs from ``shipped_by``, the agent's own. ``repeats`` says that the
    source repeats itself if nothing is done. ``overrides`` names the revert that a person knew about and
    takes back. ``approved`` is what the approving person saw; the approval permits nothing else. A person's
    revert passes the freezes and the breaker named in ``passes`` (an order to enforce passes the breaker and
    closed windows), on at most ``at_most`` VMs in a window of the budget (None: no limit). ``why`` is the
    reason that the person gave. ``back_to`` are the runbooks that this one goes before, the last of which
    comes again once this one is done; ``gone_first`` are all that went first, each at most once. ``ends`` is
    the final verdict, without a look at the VM, if what went first did not help.
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
        """Return whether a person undoes what was done: freezes and that work's budget do not apply."""
        return self.action is Action.REVERT and self.origin is Origin.OPERATOR

    @property
    def automatic(self) -> bool:
        """Return whether no person asked for it: cooldowns and holds apply."""
        return self.origin not in (Origin.OPERATOR, Origin.APPROVAL)


class Verdict(Struct, frozen=True):
    """Why to stop, or how the work ended: a result with its reason and text for people.

    If a stage decides whether to go on, None means yes. ``not_before`` is when the tick resumes a parked
    intent; None means the next tick.
    """

    result: Result
    reason: str | None = None
    detail: str = ""
    not_before: datetime | None = None
