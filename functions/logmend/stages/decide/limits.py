"""How much is done to a fleet, and how long to wait: budget, breaker, retries."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from logmend.model.enums import Mode, Origin, Result
from logmend.model.state import Breaker, Record
from logmend.model.struct import Struct, replace
from logmend.model.values import Group, InstanceFacts, Intent, Outcome, Trouble, Verdict
from logmend.runbook import Runbook
from logmend.settings import MOST_IN_COHORT, Budget, Lone, Settings

RECHECK = timedelta(minutes=5)
"""When the tick looks again at what is unverified, requested or waits for a retry."""

LONGEST_BUSY = timedelta(hours=1)
"""A VM that is busy is asked again at least so often."""

BUDGET_EXHAUSTED = "budget_exhausted"

VM_TROUBLES = frozenset(
    {
        "unreachable",
        "connection_lost",
        "deadline_exceeded",
        "ssh_busy",
        "ssh_protocol_error",
        "session_refused",
        "not_accepting_logins",
        "login_closed",
    }
)
"""Transient troubles of one VM, which end in ``failed`` after ``LOGMEND_UNREACHABLE_TRIES``; the
infrastructure's own (API or ledger away) are waited out."""


UNLIMITED = 100_000
"""VMs in a window that a person's revert without a limit may put back: more than a fleet has."""


def budget(runbook: Runbook, settings: Settings, intent: Intent | None = None) -> Budget:
    """Return what neither the runbook's own budget nor the settings' is exceeded by; a revert has its own.

    That is the tighter of the two by rate; if its burst is the larger one, in bursts of the other's size.
    """
    limits, general = runbook.limits, settings.disruption_budget
    if intent is not None and intent.puts_back:
        return Budget(intent.at_most or UNLIMITED, general.window)
    own = Budget(limits.disruption_budget or general.count, limits.budget_window or general.window)
    tight, other = sorted((own, general), key=lambda each: each.count / each.window.total_seconds())
    if tight.count <= other.count:
        return tight
    return Budget(other.count, tight.window * other.count / tight.count)


def budget_exhausted(intent: Intent, budget: Budget, now: datetime, among: str = "") -> Verdict:
    """Return the verdict of a full budget: come back when a tenth of the window has passed."""
    detail = f"all {budget.count} enforcements in {budget.window}{among} are used"
    return hold_back(intent, BUDGET_EXHAUSTED, detail, budget.retry_at(now))


class Cohort(Struct, frozen=True):
    """VMs that have something in common, and the budget that they share beside the runbook's own.

    ``name`` is what they have in common (``zone us-west1-a``), ``full`` the answer if no place is free.
    """

    name: str
    budget: Budget
    full: Verdict


def cohorts(
    intent: Intent,
    runbook: Runbook,
    facts: InstanceFacts,
    settings: Settings,
    now: datetime,
    group: Group | None = None,
) -> tuple[Cohort, ...]:
    """Name the cohorts of a VM that have a limit (``LOGMEND_DISRUPTION_LIMITS``); a revert has none.

    A VM outside of any managed instance group has no cohort of that kind. VMs without a label share one.
    ``group`` is the VM's managed instance group, of which no more than a share is changed; None: not known.
    """
    if intent.puts_back:
        return ()
    window = budget(runbook, settings, intent).window
    bounds = []
    for kind, count in settings.disruption_limits:
        value = _common(kind, facts)
        if value is not None:
            name, own = f"{kind} {value}".rstrip(), Budget(count, window)
            bounds.append(Cohort(name, own, budget_exhausted(intent, own, now, f" of {name}")))
    if asks_for_group(facts, settings):
        bounds.append(_share(intent, facts, settings, group, window, now))
    return tuple(bounds)


ONE = "group_of_one"
"""Why there is a plan although the mode is to enforce: nothing else does the VM's work meanwhile."""

SHRUNK = Verdict(Result.DEFERRED, "conflict", "its group has become one of this VM alone")

GROUP = "group "
"""How the name of the cohort begins that is a managed instance group, whichever runbook changes its VMs."""


def asks_for_group(facts: InstanceFacts, settings: Settings) -> bool:
    """Return whether a VM's managed instance group bounds what is done to it."""
    return facts.lineage.group is not None and settings.group_share < 1


def of_group(settings: Settings, group: Group | None) -> Settings:
    """Return the settings for a VM of this group: the only one of a group needs an approval, or a setting."""
    if group is None or group.size != 1 or settings.mode is not Mode.ENFORCE:
        return settings
    return replace(settings, mode=Mode.APPROVE) if settings.groups_of_one is Lone.APPROVE else settings


def told_of_group(verdict: Verdict, settings: Settings, general: Settings) -> Verdict:
    """Say why there is a plan although the mode is to enforce."""
    if verdict.result is not Result.PLANNED or settings.mode is general.mode:
        return verdict
    return replace(verdict, reason=ONE, detail=f"the only VM of its group; {verdict.detail}")


def _share(
    intent: Intent,
    facts: InstanceFacts,
    settings: Settings,
    group: Group | None,
    window: timedelta,
    now: datetime,
) -> Cohort:
    """Bound what is changed of a group: a share of it, and what leaves one healthy VM untouched.

    Of a group that is not known, or that does not name this VM, one at a time is changed.
    """
    name, vm = f"{GROUP}{facts.lineage.group}", facts.ref.instance_id
    if group is None or vm not in group.members:
        own = Budget(1, window)
        why = f" of {name}, whose size is not known"
        return Cohort(name, own, budget_exhausted(intent, own, now, why))
    share = max(1, min(int(settings.group_share * group.size), MOST_IN_COHORT))
    others = len(group.healthy - {vm})
    spare = others if vm in group.healthy else max(1, others)
    own = Budget(share if group.size == 1 else min(share, spare), window)
    if own.count == 0:
        detail = f"none of the other {group.size - 1} VMs of {name.removeprefix(GROUP)} is healthy"
        return Cohort(name, own, hold_back(intent, "last_healthy", detail, now + RECHECK))
    why = f" of {name} with {group.size} VMs, {len(group.healthy)} of them healthy,"
    return Cohort(name, own, budget_exhausted(intent, own, now, why))


OF_GROUP = frozenset({BUDGET_EXHAUSTED, "last_healthy", ONE})
"""Reasons that a managed instance group may be behind."""


def held_by_group(outcome: Outcome) -> bool:
    """Return whether a VM was held back for the sake of its managed instance group."""
    group = outcome.lineage.group
    if group is None or outcome.reason not in OF_GROUP:
        return False
    return outcome.reason != BUDGET_EXHAUSTED or f" of {GROUP}{group}" in outcome.detail  # by :func:`_share`


def _common(kind: str, facts: InstanceFacts) -> str | None:
    if kind == "zone":
        return facts.ref.zone
    if kind == "mig":
        return facts.lineage.group
    return facts.labels.get(kind.removeprefix("label:"), "")


def sample(outcome: Outcome, settings: Settings, *, changing: bool) -> bool | None:
    """Return whether an outcome counts for the breaker as a failing VM, as a good one, or (None) not at all.

    The breaker is for changes of ours that go wrong. ``changing`` says that one was committed to on a VM that
    was heard of: a VM that only cannot be reached is counted by itself
    (:data:`logmend.outcome.reasons.UNREACHED`), and one that was looked at, or is busy, proves nothing about
    enforcing.
    """
    if settings.mode is Mode.OBSERVE or not changing or outcome.reason == "busy":
        return None
    return {
        Result.REMEDIATED: False,
        Result.REVERTED: False,
        Result.FAILED: True,
        Result.UNVERIFIED: True,
    }.get(outcome.result)


def breaker(samples: Mapping[str, bool], settings: Settings, now: datetime) -> Breaker | None:
    """Open the breaker if enough distinct VMs were tried and too many of them fail."""
    failing = sum(samples.values())
    if len(samples) < settings.breaker_minimum or failing < settings.breaker_ratio * len(samples):
        return None
    return Breaker(now, failing, len(samples))


def retry(
    intent: Intent,
    tries: int,
    trouble: Trouble,
    settings: Settings,
    now: datetime,
    *,
    acknowledged: bool = False,
    begun: bool = False,
) -> Verdict | None:
    """Return how to wait out a transient error before anything was enforced; None: it has been tried enough.

    ``acknowledged`` says that the intent's message was answered for before, so that only the ledger keeps it.
    A quota that is used up is waited for in the ledger: deliveries in a row would ask for it again and again.
    What its source says again is skipped instead, or each line of a VM would wait for itself; unless
    enforcing may have ``begun``.
    """
    if intent.look_only or (trouble.reason in VM_TROUBLES and tries >= settings.unreachable_tries):
        return None
    delivered_again = intent.message_id is not None and intent.origin is not Origin.APPROVAL
    if delivered_again and not acknowledged and trouble.reason != "rate_limited":
        return Verdict(Result.DEFERRED, trouble.reason, trouble.detail)
    if delivered_again and not acknowledged and intent.repeats and not begun:
        return Verdict(Result.SKIPPED, trouble.reason, trouble.detail)
    wait = timedelta(seconds=trouble.retry_after or 0)
    return Verdict(
        Result.PARKED,
        "retry",
        f"{trouble.reason}: {trouble.detail}",
        now + max(wait, RECHECK * 2 ** min(max(tries - 1, 0), 6)),
    )


def busy(
    intent: Intent, verdict: Verdict, since: datetime, settings: Settings, now: datetime, *, begun: bool
) -> Verdict:
    """Return what becomes of an intent whose VM is busy: it waits, is said again, or has waited for too long.

    ``begun`` says that enforcing may have begun: then it waits, whatever its source.
    """
    if not begun and (intent.repeats or intent.look_only):
        return replace(verdict, result=Result.SKIPPED)
    if now < since + settings.busy_limit:
        return verdict
    detail = f"{verdict.detail}; so at every look since {since:%FT%TZ}"
    return Verdict(Result.FAILED, "unverifiable" if begun else "busy", detail)


def busy_until(since: datetime, now: datetime) -> datetime:
    """Return when a busy VM is asked again: when it has been busy for as long again, within an hour."""
    return now + min(max(now - since, RECHECK), LONGEST_BUSY)


def request_deadline(runbook: Runbook | None, prior: Record, settings: Settings) -> timedelta:
    """Return how long requested work may take: by the runbook on the VM, by the settings through an agent."""
    if runbook is not None and runbook.detached is not None and prior.executor == "ssh":
        return runbook.detached
    return settings.request_deadline


def hold_back(intent: Intent, reason: str, detail: str, until: datetime | None = None) -> Verdict:
    """Skip what its source will say again; park what would be lost."""
    return (
        Verdict(Result.SKIPPED, reason, detail)
        if intent.repeats
        else Verdict(Result.PARKED, reason, detail, until)
    )
