"""What is tried again, how often, and until when."""

from datetime import datetime, timedelta

from logmend.model.enums import Origin, Result
from logmend.model.state import Record
from logmend.model.struct import replace
from logmend.model.values import Intent, Trouble, Verdict
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages.decide.limits import RECHECK

LONGEST_BUSY = timedelta(hours=1)
"""A VM that is busy is asked again at least so often."""

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
    detail = f"{verdict.detail}; the same at every check since {since:%FT%TZ}"
    return Verdict(Result.FAILED, "unverifiable" if begun else "busy", detail)


def busy_until(since: datetime, now: datetime) -> datetime:
    """Return when to try a busy VM again: after as long as it has been busy so far, at most an hour."""
    return now + min(max(now - since, RECHECK), LONGEST_BUSY)


def request_deadline(runbook: Runbook | None, prior: Record, settings: Settings) -> timedelta:
    """Return how long requested work may take: on the VM by the runbook, through an agent by the settings."""
    if runbook is not None and runbook.detached is not None and prior.executor == "ssh":
        return runbook.detached
    return settings.request_deadline
