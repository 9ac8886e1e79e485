"""What an outcome means for its VM: cooldown, counters, hold, notes and follow-up."""

from collections.abc import Callable

from logmend.model.enums import Action, Finding, Mode, Result
from logmend.model.state import Cooldown, Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts, Intent, Outcome
from logmend.outcome.reasons import ABOUT, FIRST_NEEDS_HUMAN, About
from logmend.runbook import Runbook
from logmend.settings import Policies, Settings
from logmend.stages.decide.ceiling import ceiling, only_checks
from logmend.stages.decide.commit import RELAPSE_HINT

_TOUCHED = frozenset(
    {Result.PLANNED, Result.NOTHING_TO_DO, Result.REMEDIATED, Result.REVERTED, Result.UNVERIFIED}
)


def aftermath(intent: Intent, outcome: Outcome, settings: Settings) -> Callable[[Subject], Subject]:
    """Return how an outcome changes its VM's state: last result, counters, cooldown, hold."""

    def change(subject: Subject) -> Subject:
        if only_checks(intent):
            return latest(subject, outcome)  # a check is a check: it starts no cooldown
        after = noted(subject, outcome, settings)
        if outcome.result is Result.REMEDIATED and not intent.automatic:
            after = replace(after, held=False, held_by=None)  # a person takes a person's revert back
        if intent.action is Action.REVERT:
            after = superseding(after, intent, outcome)
            after = replace(after, held=after.held or _wants_reverted(outcome))
        return after

    return change


def superseding(subject: Subject, intent: Intent, outcome: Outcome) -> Subject:
    """Return a VM's state in which a revert supersedes what people requested before it, whatever it finds."""
    if intent.action is not Action.REVERT or only_checks(intent) or gone(outcome):
        return subject
    return replace(subject, held_by=intent.intent_id)


def gone(outcome: Outcome) -> bool:
    """Return whether Compute no longer knows the VM. A check that prints this reason refuses."""
    return outcome.result is Result.SKIPPED and outcome.reason == "instance_gone"


def latest(subject: Subject, outcome: Outcome) -> Subject:
    """Return a VM's state with this outcome as its latest."""
    return replace(
        subject,
        name=outcome.instance_name or subject.name,
        owner=outcome.owner,
        labels=outcome.labels,
        last_result=outcome.result,
        last_reason=outcome.reason,
        last_at=outcome.at,
        last_outcome_id=outcome.outcome_id,
    )


def noted(subject: Subject, outcome: Outcome, settings: Settings) -> Subject:
    """Return a VM's state after an outcome, by that outcome alone.

    The only place that counts failures and relapses. A failure counts if Compute or the VM itself reported
    it, a relapse once the fault that came back after a verified fix is remediated again.
    """
    after = latest(subject, outcome)
    match outcome.result:
        case Result.REMEDIATED:
            relapses = subject.relapses + relapsed(subject, outcome)
            after = replace(after, failures=0, relapses=relapses, fixed_at=outcome.at)
        case Result.REVERTED:
            after = replace(after, failures=0, relapses=0, fixed_at=None, needs_human=False)
        case Result.FAILED if learned_of_vm(outcome):
            failures = failures_with(subject, outcome.mode)
            needs_human = subject.needs_human or leaves_to_person(subject, outcome, settings)
            after = replace(after, failures=failures, needs_human=needs_human)
        case Result.SKIPPED if outcome.reason == "needs_human":
            after = replace(after, needs_human=True, human_told=True)
        case Result.PLANNED | Result.NOTHING_TO_DO:
            after = replace(after, failures=0)
        case _:
            pass
    return _cooled(after, outcome, settings)


def failures_with(subject: Subject, mode: Mode) -> int:
    """Count failures in a row with one more in this mode; those in observe mode count only there."""
    cooldown = subject.cooldown
    observed = cooldown is not None and cooldown.mode is Mode.OBSERVE and mode is not Mode.OBSERVE
    return 1 if observed else subject.failures + 1


def leaves_to_person(subject: Subject, outcome: Outcome, settings: Settings) -> bool:
    """Return whether this failure leaves a VM to a person: never one in observe mode."""
    mode = outcome.mode
    return mode is not Mode.OBSERVE and failures_with(subject, mode) >= settings.needs_human_after


def learned_of_vm(outcome: Outcome) -> bool:
    """Return whether Compute or the VM itself reported what an outcome says; only that starts a cooldown.

    A reason that is not in the table, such as one of a user's own runbook, counts if the VM's check gave it.
    """
    if outcome.reason is None:
        return True
    if (about := ABOUT.get(outcome.reason)) is not None:
        return about is About.VM
    evidence = outcome.after or outcome.before
    return evidence is not None and evidence.finding is Finding.LEAVE_ALONE


def relapsed(subject: Subject, outcome: Outcome) -> bool:
    """Return whether the fault was seen after an earlier fix; older evidence does not count."""
    seen = outcome.before.at if outcome.before else outcome.at
    return subject.fixed_at is not None and seen >= subject.fixed_at


def _wants_reverted(outcome: Outcome) -> bool:
    """Return whether a revert is done, may have begun, or waits after the VM showed what it would restore."""
    if outcome.result is Result.PARKED:
        return outcome.before is not None
    return outcome.result in (Result.REVERTED, Result.UNVERIFIED, Result.NOTHING_TO_DO)


def _cooled(subject: Subject, outcome: Outcome, settings: Settings) -> Subject:
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
    if quiet is None or not learned_of_vm(outcome):
        return subject
    return replace(
        subject, cooldown=Cooldown(outcome.at + quiet, outcome.result, outcome.reason, outcome.mode)
    )


def notes(
    intent: Intent, outcome: Outcome, subject: Subject, facts: InstanceFacts | None, settings: Settings
) -> tuple[str, ...]:
    """Return notes that a reader of the outcome needs."""
    texts = []
    if outcome.reason == "needs_human" and not subject.human_told:
        texts.append(FIRST_NEEDS_HUMAN)
    if (
        outcome.result is Result.FAILED
        and learned_of_vm(outcome)
        and leaves_to_person(subject, outcome, settings)
        and intent.automatic
    ):
        texts.append("left to a person from now on")
    if outcome.result is Result.REMEDIATED and relapsed(subject, outcome):
        texts.append(f"relapse {subject.relapses + 1} after a verified fix. {RELAPSE_HINT}")
    if outcome.result is Result.REMEDIATED and outcome.lineage.group is not None:
        texts.append(f"it lasts until {outcome.lineage.group} makes the VM anew")
    if facts is not None and facts.partner_namespaces is None and outcome.result in _TOUCHED:
        texts.append("partner metadata was not answered by the API; the check on the VM decided")
    if settings.ssh_host_keys == "insecure" and outcome.result in _TOUCHED:
        texts.append("host keys were not checked (LOGMEND_SSH_HOST_KEYS=insecure)")
    return tuple(texts)


def wants_follow_up(runbook: Runbook, facts: InstanceFacts, settings: Settings) -> bool:
    """Return whether the operator opted this VM in to the runbook's follow-up, by setting or label."""
    return runbook.follow_up is not None and _opted_in(facts, settings)


def goes_first(intent: Intent, runbook: Runbook, facts: InstanceFacts, policies: Policies) -> frozenset[str]:
    """Name the runbooks that may go before this one if they remediate what stops it.

    The operator opted in as to a follow-up, the mode of each lets it enforce, and none goes first twice.
    """
    if not (intent.automatic and _opted_in(facts, policies.of(runbook.name))):
        return frozenset()
    wanted = runbook.goes_first.difference(intent.gone_first)
    return frozenset(each for each in wanted if ceiling(intent, policies.of(each)))


def _opted_in(facts: InstanceFacts, settings: Settings) -> bool:
    return settings.follow_up or facts.labels.get("logmend-follow-up") == "on"
