"""Decide whether to go on: pure rules over values, each place where the pipeline asks being one function.

In the order in which they are asked: :func:`admission` (before anything is looked up), :func:`guards`
(on the facts), :func:`ceiling` (how far the mode lets it go), :func:`commit` (once more, at the last
moment before enforcing), :func:`retry` (after a transient error), :func:`aftermath` (what a result means
for the VM's next events).
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from logmend import guards as guards_
from logmend.model import (
    Action,
    Asked,
    Defer,
    InstanceFacts,
    Intent,
    Mode,
    Origin,
    Outcome,
    Park,
    Proceed,
    Refuse,
    Result,
    Skip,
    Stop,
    Trouble,
    Verdict,
)
from logmend.reasons import FIRST_NEEDS_HUMAN
from logmend.records import Breaker, Cooldown, Fleet, Record, State, Subject, View
from logmend.runbook import Runbook
from logmend.settings import Budget, ExecutorChoice, Settings, SshAddress, SshRoute
from logmend.values import Struct, replace

RECHECK = timedelta(minutes=5)
"""When the tick looks again at what is unverified, requested or waits for a retry."""

RELEASE = timedelta(hours=1)
"""How soon at the latest the tick asks again for what waits out a cooldown: a person may have ended it."""


def admission(intent: Intent, view: View, settings: Settings, now: datetime) -> Verdict:
    """Say whether this intent may be worked on, as far as the ledger knows."""
    subject, lease = view.subject, view.subject.lease
    if lease is not None and lease.intent_id == intent.intent_id and lease.expires_at > now:
        return Defer("in_hand", "an earlier delivery of this message is still at work")
    if view.record is not None and view.record.asked and view.record.state is State.PARKED:
        # A request that was taken back is not said again by anyone: it waits, whatever its source.
        stop = stopped(intent, subject, view.fleet)
        if stop is not None and not isinstance(stop, Proceed):
            return Park(stop.reason, stop.detail, now + RECHECK)
    if view.record is not None and _begun(view.record):
        # What was begun is finished, if not now, then later; commit asks again.
        return _held_elsewhere(intent, view.record, subject, now) or Proceed()
    if not _only_looks(intent) and _ordered(intent) and settings.mode is Mode.OBSERVE:
        return Refuse("observe_mode", "the function's mode is observe: it changes nothing for anyone")
    if view.record is None and not intent.allow_stale and (age := _stale(intent, settings, now)):
        return Skip("stale", f"the event is {_said(age)} old, more than {_said(settings.max_event_age)}")
    if intent.automatic:
        if subject.held:
            return Skip("reverted", REVERT_HOLDS)
        if subject.needs_human:
            return Skip("needs_human", "left to a person after repeated failure or relapse")
        cooldown = subject.cooldown
        if cooldown and cooldown.until > now and not _outgrown(subject, settings):
            return _hold_back(
                intent,
                "cooling_down",
                f"after {cooldown.result} until {cooldown.until:%FT%TZ}",
                min(cooldown.until, now + RELEASE),
            )
    if (stop := stopped(intent, subject, view.fleet)) is not None:
        return stop
    if subject.open_request not in (None, intent.intent_id):
        if intent.repeats:
            return Skip("already_requested", f"requested as {subject.open_request}")
        return Park("busy", f"requested as {subject.open_request}", now + RECHECK)
    return _in_hand(intent, subject, now) or Proceed()


class Judged(Struct, frozen=True):
    """One guard's answer."""

    guard: str
    answer: guards_.Answer


def judge_guards(
    intent: Intent, runbook: Runbook, facts: InstanceFacts | None, settings: Settings
) -> list[Judged]:
    """Ask every guard of the runbook, in its order, also behind the first that says no."""
    known = guards_.Known(intent.instance, intent.source.log_name, facts, settings, intent.action)
    return [Judged(name, guards_.GUARDS[name](known)) for name in runbook.guards]


def guards(intent: Intent, runbook: Runbook, facts: InstanceFacts, settings: Settings) -> Verdict:
    """Give the first guard's no; what is still pending with the facts at hand is a no as well."""
    for judged in judge_guards(intent, runbook, facts, settings):
        match judged.answer:
            case Skip() | Refuse() as no:
                return no
            case guards_.Pending(why):
                return Refuse("opt_in_unknown", f"{judged.guard}: {why}")
            case Proceed():
                pass
    return Proceed()


def ceiling(intent: Intent, settings: Settings) -> bool:
    """Say whether the mode lets this intent change the VM; if not, the attempt ends after looking."""
    if _only_looks(intent):
        return False
    match settings.mode:
        case Mode.ENFORCE:
            return True
        case Mode.APPROVE:
            return _ordered(intent)
        case _:
            return False


def commit(intent: Intent, view: View, settings: Settings) -> Verdict:
    """Ask once more, with the fault seen on the VM a moment ago: hold, freeze, breaker, mode and relapses."""
    if intent.automatic and view.subject.held:
        return Skip("reverted", REVERT_HOLDS)
    if (stop := stopped(intent, view.subject, view.fleet)) is not None:
        return stop
    if not ceiling(intent, settings):
        return Refuse("observe_mode", "the mode does not let it enforce")
    relapses = view.subject.relapses + (1 if view.subject.fixed_at else 0)
    if intent.automatic and view.subject.fixed_at and relapses >= settings.needs_human_after:
        return Skip(
            "needs_human", f"the fault came back {relapses} times after a verified fix. {RELAPSE_HINT}"
        )
    return Proceed()


REVERT_HOLDS = "a revert holds this VM; `logmend resume --instance` lets it go"

RELAPSE_HINT = (
    "A timer comes back when the guest agent is removed and installed again, on a rollback from the plugin"
    " agent, with metadata enable-guest-agent-core-plugin=false, on a recreated VM or a new disk, and at the"
    " first boot of an image without machine-id. Mend the image or the start-up script, or use a guest agent"
    " of 20250901 or later."
)


def budget(runbook: Runbook, settings: Settings) -> Budget:
    """Give what neither the runbook's own budget nor the settings' is exceeded by.

    That is the tighter of the two by rate; where its burst is the larger one, in bursts of the other's size.
    """
    limits, general = runbook.limits, settings.disruption_budget
    own = Budget(limits.disruption_budget or general.count, limits.budget_window or general.window)
    tight, other = sorted((own, general), key=lambda each: each.count / each.window.total_seconds())
    if tight.count <= other.count:
        return tight
    return Budget(other.count, tight.window * other.count / tight.count)


def budget_exhausted(intent: Intent, budget: Budget, now: datetime) -> Verdict:
    """Give the answer for a full budget: come back when a tenth of the window has passed."""
    detail = f"all {budget.count} enforcements in {budget.window} are used"
    return _hold_back(intent, "budget_exhausted", detail, now + budget.window / 10)


def recall(
    intent: Intent, asked: Asked, subject: Subject, fleet: Fleet, settings: Settings
) -> Verdict | None:
    """Say why work that an agent was asked for must not go on: a freeze, a breaker, or the mode by now."""
    if asked.action is not Action.CHECK and not ceiling(intent, settings):
        return Refuse("observe_mode", f"the mode is {settings.mode} by now: the request is withdrawn")
    return stopped(intent, subject, fleet)


def executors(facts: InstanceFacts, settings: Settings) -> tuple[ExecutorChoice, ...]:
    """Say which executors are tried on a VM, in order; none of them where nothing reaches it."""
    if settings.executor is not ExecutorChoice.AUTO:
        return (settings.executor,)
    internal = settings.ssh_route is SshRoute.IAP or settings.ssh_address is SshAddress.INTERNAL
    address = facts.internal_ip if internal else facts.external_ip
    ways = (
        ExecutorChoice.SSH if address else None,
        ExecutorChoice.OSCONFIG if osconfig_enabled(facts) else None,
    )
    return tuple(way for way in ways if way)


def osconfig_enabled(facts: InstanceFacts) -> bool:
    """Say whether the VM's effective metadata turns its OS Config agent on."""
    return (facts.effective("enable-osconfig") or "").strip().lower() == "true"


def no_route(trouble: Trouble, settings: Settings) -> bool:
    """Say whether an unreachable VM has no other way to it: with ``auto``, nothing else was left to try."""
    return settings.executor is ExecutorChoice.AUTO and trouble.reason == "unreachable"


def retry(
    intent: Intent,
    tries: int,
    trouble: Trouble,
    settings: Settings,
    now: datetime,
    *,
    acknowledged: bool = False,
) -> Stop | None:
    """Say how to wait out a transient error before anything was enforced; None: it has been tried enough.

    ``acknowledged`` says that the intent's message was answered for before, so that only the ledger keeps it.
    """
    if intent.look_only or (trouble.reason in VM_TROUBLES and tries >= settings.unreachable_tries):
        return None
    if intent.message_id is not None and intent.origin is not Origin.APPROVAL and not acknowledged:
        return Defer(trouble.reason, trouble.detail)
    wait = timedelta(seconds=trouble.retry_after or 0)
    return Park(
        "retry",
        f"{trouble.reason}: {trouble.detail}",
        now + max(wait, RECHECK * 2 ** min(max(tries - 1, 0), 6)),
    )


VM_TROUBLES = frozenset(
    {
        "unreachable",
        "connection_lost",
        "deadline_exceeded",
        "ssh_busy",
        "ssh_protocol_error",
        "session_refused",
    }
)
"""Transient troubles of one VM, which end in ``failed`` after ``LOGMEND_UNREACHABLE_TRIES``; the
infrastructure's own (API or ledger away) are waited out."""


def sample(outcome: Outcome, settings: Settings) -> bool | None:
    """Say whether an outcome counts for the breaker as a failing VM, as a good one, or (None) not at all.

    Only what was enforced counts as good: looking proves nothing about enforcing.
    """
    if settings.mode is Mode.OBSERVE:
        return None
    return {
        Result.REMEDIATED: False,
        Result.REVERTED: False,
        Result.FAILED: True,
        Result.UNVERIFIED: True,
    }.get(outcome.result)


def breaker(samples: Mapping[str, bool], settings: Settings, now: datetime) -> Breaker | None:
    """Open the breaker where enough distinct VMs were tried and too many of them fail."""
    failing = sum(samples.values())
    if len(samples) < settings.breaker_minimum or failing < settings.breaker_ratio * len(samples):
        return None
    return Breaker(now, failing, len(samples))


def request_deadline(runbook: Runbook | None, prior: Record, settings: Settings) -> timedelta:
    """Say how long requested work may take: by the runbook on the VM, by the settings through an agent."""
    if runbook is not None and runbook.detached is not None and prior.executor == "ssh":
        return runbook.detached
    return settings.request_deadline


def notes(
    intent: Intent, said: Outcome, subject: Subject, facts: InstanceFacts | None, settings: Settings
) -> tuple[str, ...]:
    """Say what else a reader of the outcome has to know."""
    found = []
    if said.reason == "needs_human" and not subject.human_told:
        found.append(FIRST_NEEDS_HUMAN)
    if (
        said.result is Result.FAILED
        and subject.failures + 1 >= settings.needs_human_after
        and intent.automatic
    ):
        found.append("left to a person from now on")
    if said.result is Result.REMEDIATED and relapsed(subject, said):
        found.append(f"relapse {subject.relapses + 1} after a verified fix. {RELAPSE_HINT}")
    if facts is not None and facts.partner_namespaces is None and said.result in _TOUCHED:
        found.append("partner metadata was not answered by the API; the check on the VM decided")
    if settings.ssh_host_keys == "insecure" and said.result in _TOUCHED:
        found.append("host keys were not checked (LOGMEND_SSH_HOST_KEYS=insecure)")
    return tuple(found)


_TOUCHED = frozenset(
    {Result.PLANNED, Result.NOTHING_TO_DO, Result.REMEDIATED, Result.REVERTED, Result.UNVERIFIED}
)


def wants_follow_up(runbook: Runbook, facts: InstanceFacts, settings: Settings) -> bool:
    """Say whether the operator opted this VM in to the runbook's follow-up, by setting or label."""
    return runbook.follow_up is not None and (
        settings.follow_up or facts.labels.get("logmend-follow-up") == "on"
    )


def aftermath(
    intent: Intent, outcome: Outcome, settings: Settings, now: datetime
) -> Callable[[Subject], Subject]:
    """Give the change that an outcome makes to its VM's state: cooldown, counters, hold."""

    def change(subject: Subject) -> Subject:
        noted = replace(
            subject,
            name=outcome.instance_name or subject.name,
            last_result=outcome.result,
            last_reason=outcome.reason,
            last_at=outcome.at,
            last_outcome_id=outcome.outcome_id,
        )
        if _only_looks(intent):
            return noted  # a look is a look: it starts no quiet time
        match outcome.result:
            case Result.REMEDIATED:
                relapses = subject.relapses + relapsed(subject, outcome)
                held = subject.held and intent.automatic  # a person's order takes a person's revert back
                noted = replace(noted, failures=0, relapses=relapses, fixed_at=now, held=held)
            case Result.REVERTED:
                noted = replace(noted, failures=0, relapses=0, fixed_at=None, needs_human=False)
            case Result.FAILED:
                failures = subject.failures + 1
                needs_human = subject.needs_human or failures >= settings.needs_human_after
                noted = replace(noted, failures=failures, needs_human=needs_human)
            case Result.SKIPPED if outcome.reason == "needs_human":
                noted = replace(noted, needs_human=True, human_told=True)
            case Result.PLANNED | Result.NOTHING_TO_DO:
                noted = replace(noted, failures=0)
            case _:
                pass
        if intent.action is Action.REVERT and _wants_reverted(outcome):
            noted = replace(noted, held=True)
        return _cooled(noted, outcome, settings, now)

    return change


def _wants_reverted(outcome: Outcome) -> bool:
    """Say whether a revert is done, may have begun, or waits after the VM showed what it would restore."""
    if outcome.result is Result.PARKED:
        return outcome.before is not None
    return outcome.result in (Result.REVERTED, Result.UNVERIFIED, Result.NOTHING_TO_DO)


def relapsed(subject: Subject, outcome: Outcome) -> bool:
    """Say whether the fault of a fix was seen after an earlier fix; evidence from before that one is none."""
    seen = outcome.before.at if outcome.before else outcome.at
    return subject.fixed_at is not None and seen >= subject.fixed_at


def _cooled(subject: Subject, outcome: Outcome, settings: Settings, now: datetime) -> Subject:
    quiet = {
        Result.PLANNED: settings.cooldown_planned,
        Result.REFUSED: settings.cooldown_refused,
        Result.NOTHING_TO_DO: settings.cooldown_nothing_to_do,
        Result.REMEDIATED: settings.cooldown_remediated,
        Result.REVERTED: settings.cooldown_remediated,
        Result.FAILED: min(
            settings.cooldown_failed * 2 ** min(max(subject.failures - 1, 0), 16),
            settings.cooldown_failed_max,
        ),
    }.get(outcome.result)
    if quiet is None:
        return subject
    return replace(subject, cooldown=Cooldown(now + quiet, outcome.result, outcome.reason, outcome.mode))


_LOOKED_AT = frozenset({State.REQUESTED, State.UNVERIFIED})


def _in_hand(intent: Intent, subject: Subject, now: datetime) -> Verdict | None:
    """Say what to do where another intent's attempt holds the VM."""
    if (lease := subject.lease) is not None and lease.expires_at > now:
        if intent.repeats:
            return Skip("duplicate", f"in hand as {lease.intent_id}")
        return Park("busy", f"in hand as {lease.intent_id}", lease.expires_at)
    return None


def _begun(record: Record) -> bool:
    """Say whether something may be out for this intent: enforcement, or a request whose reader has died."""
    asked = record.asked is not None and record.state is State.RUNNING
    return record.committed or asked or record.state in _LOOKED_AT


def _held_elsewhere(intent: Intent, record: Record, subject: Subject, now: datetime) -> Defer | None:
    """Have what was begun wait where it stands while another intent has the VM in hand, or its one label.

    But for a dead attempt, which whoever comes next has to finish first.
    """
    if (lease := subject.lease) is not None and lease.expires_at > now:
        return Defer("busy", f"in hand as {lease.intent_id}")
    if record.state is not State.RUNNING and subject.open_request not in (None, intent.intent_id):
        return Defer("busy", f"requested as {subject.open_request}")
    return None


def _only_looks(intent: Intent) -> bool:
    return intent.look_only or intent.action is Action.CHECK


def _ordered(intent: Intent) -> bool:
    return intent.origin in (Origin.OPERATOR, Origin.APPROVAL)


def _outgrown(subject: Subject, settings: Settings) -> bool:
    """Say whether a cooldown from looking only is void because the mode may act now."""
    cooldown = subject.cooldown
    return (
        cooldown is not None
        and cooldown.mode is not settings.mode
        and (cooldown.mode is Mode.OBSERVE or cooldown.result is Result.PLANNED)
    )


def stopped(intent: Intent, subject: Subject, fleet: Fleet) -> Verdict | None:
    """Say what a freeze or an open breaker means for this intent; None where there is none."""
    if _only_looks(intent) and _ordered(intent):
        return None  # an operator may always look
    freeze = fleet.frozen or fleet.frozen_runbooks.get(intent.runbook) or subject.frozen
    if freeze is not None:
        return _hold_back(
            intent, "frozen", f"frozen by {freeze.by} at {freeze.at:%FT%TZ} {freeze.why}".strip()
        )
    if (breaker := fleet.breakers.get(intent.runbook)) is not None:
        detail = f"{breaker.failing} of {breaker.seen} VMs failed by {breaker.opened_at:%FT%TZ}"
        return _hold_back(intent, "breaker_open", detail)
    return None


def _hold_back(intent: Intent, reason: str, detail: str, until: datetime | None = None) -> Stop:
    """Skip what its source will say again; park what would be lost."""
    return Skip(reason, detail) if intent.repeats else Park(reason, detail, until)


def _said(span: timedelta) -> str:
    """Say a span in its two largest units, such as `1d 2h` or `90m` as `1h 30m`."""
    left, parts = int(span.total_seconds()), list[str]()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def _stale(intent: Intent, settings: Settings, now: datetime) -> timedelta | None:
    """Age of the event where it is too old: the older of the entry's time and the line's own."""
    times = [time for time in (intent.event_time, intent.line_time) if time is not None]
    if not times or now - min(times) <= settings.max_event_age:
        return None
    return timedelta(seconds=int((now - min(times)).total_seconds()))
