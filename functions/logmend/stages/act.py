"""Act on one VM: check, pass the commit point, enforce, check again. Returns what was seen and done.

This is the only stage that reaches a VM, through the executor's port. It does not judge the result of an
attempt; :mod:`logmend.stages.verify` does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from logmend.errors import Permanent, Superseded, Transient
from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Record
from logmend.model.struct import replace
from logmend.model.values import (
    Asked,
    Attempt,
    Evidence,
    InstanceFacts,
    InstanceRef,
    Intent,
    Outcome,
    Trouble,
    Verdict,
)
from logmend.osconfig import assignment
from logmend.ports import Compute, Executors, RequestExecutor, Session, SessionExecutor
from logmend.runbook import Runbook, diagnosis

log = logging.getLogger(__name__)

Commit = Callable[[Evidence | None], Awaitable[Verdict | None]]
"""The commit point: given the evidence before, return a reason not to enforce, or None once recorded."""

OSCONFIG = "osconfig"
"""Name of the executor that works with labels."""

DIAGNOSIS = 30.0
"""The most seconds of an attempt's time for a diagnosis; ``_LEFT`` is what it has to leave over."""
_LEFT = 3.0

GOES_FIRST = "goes_first"
"""Reason of an attempt that first leaves the VM to the runbook that remediates what stops its own."""

NEXT_ROUTE = frozenset({"unreachable", "no_route"})
"""Errors after which another executor may succeed."""


async def work(
    executors: Sequence[SessionExecutor | RequestExecutor],
    facts: InstanceFacts,
    runbook: Runbook,
    intent: Intent,
    commit: Commit | None,
    mark: str,
    deadline: timedelta,
    first: frozenset[str] = frozenset(),
) -> Attempt:
    """Work on a VM through the first executor that reaches it.

    ``commit`` is the commit point; None means check only. ``mark`` is what enforcing in a session leaves on
    the VM, for a later check to find. If one of the runbooks in ``first`` remediates what stops this one, or
    has to run before it, the attempt ends before the commit point (:data:`GOES_FIRST`). ``deadline`` limits
    each executor's part. Every error is returned as ``trouble`` with what was seen and done before it; only
    :class:`~logmend.errors.Superseded` is raised.
    """
    attempt = Attempt(
        "none", trouble=Trouble(transient=False, reason="no_route", detail="no executor can reach this VM")
    )
    for executor in executors:
        if isinstance(executor, SessionExecutor):
            attempt = await _in_session(executor, facts, runbook, intent, commit, mark, deadline, first)
        else:
            attempt = await _by_request(executor, facts, runbook, intent, commit, deadline, first)
        if attempt.enforced or attempt.trouble is None or attempt.trouble.reason not in NEXT_ROUTE:
            break
    return attempt


async def _in_session(
    executor: SessionExecutor,
    facts: InstanceFacts,
    runbook: Runbook,
    intent: Intent,
    commit: Commit | None,
    mark: str,
    deadline: timedelta,
    first: frozenset[str],
) -> Attempt:
    """Work on a VM over a session."""
    attempt = Attempt(executor.name)
    try:
        async with (
            asyncio.timeout(deadline.total_seconds()) as limit,
            executor.open(facts, runbook, intent.action) as vm,
        ):
            attempt = replace(attempt, login=vm.login)
            attempt = replace(attempt, before=await vm.check())
            if commit is None or not _faulty_there(attempt.before, intent):
                return await _diagnosed(vm, attempt, runbook, intent, limit)
            if runbook.after in first:
                return replace(attempt, halted=_after(runbook))
            asked = await _diagnosed(vm, attempt, runbook, intent, limit) if first else attempt
            if (named := asked.diagnosis) is not None and named.runbook in first:
                detail = f"{named.runbook}: {named.cause}"
                return replace(asked, halted=Verdict(Result.SKIPPED, GOES_FIRST, detail))
            if (verdict := await commit(attempt.before)) is not None:
                halted = replace(asked, halted=verdict)
                return halted if named else await _diagnosed(vm, halted, runbook, intent, limit)
            attempt = replace(attempt, enforced=True)
            try:
                attempt = replace(attempt, enforcement=await vm.enforce(mark))
            except Permanent:  # the executor says that the script never started
                attempt = replace(attempt, enforced=False)
                raise
            attempt = replace(attempt, after=await vm.check())
            attempt = await _diagnosed(vm, attempt, runbook, intent, limit)
    except Superseded:
        raise
    except Exception as error:  # noqa: BLE001  an error must not lose what was done
        return replace(attempt, trouble=trouble(error))
    return attempt


def gives_way(answer: Verdict | Outcome) -> bool:
    """Return whether an attempt left the VM to another runbook. A check printing this reason is refused."""
    return answer.result is Result.SKIPPED and answer.reason == GOES_FIRST


def _after(runbook: Runbook) -> Verdict:
    return Verdict(Result.SKIPPED, GOES_FIRST, f"{runbook.after}: {runbook.name} comes after it")


async def _diagnosed(
    vm: Session, attempt: Attempt, runbook: Runbook, intent: Intent, limit: asyncio.Timeout
) -> Attempt:
    """Add the diagnosis, if a fault was seen, nothing is working on it, and the runbook can diagnose.

    This never changes the attempt's result: an error here becomes an unknown cause.
    """
    last = attempt.after or attempt.before
    if not runbook.scripts.diagnose or intent.action is Action.REVERT or last is None:
        return attempt
    started = attempt.enforced and runbook.detached is not None and last.finding is Finding.FAULTY
    elsewhere = last.instance_id not in (None, intent.instance.instance_id)
    if started or elsewhere or last.finding not in (Finding.FAULTY, Finding.ERROR):
        return attempt
    left = (limit.when() or 0.0) - asyncio.get_running_loop().time() - _LEFT
    try:
        async with asyncio.timeout(min(DIAGNOSIS, max(left, 0.0))):
            named = await vm.diagnose()
    except Exception as error:  # noqa: BLE001  see above
        named = diagnosis.unknown("not_reached", f"diagnose.sh: {trouble(error).detail}")
    return attempt if named.why == "at_work" else replace(attempt, diagnosis=named)


async def _by_request(
    executor: RequestExecutor,
    facts: InstanceFacts,
    runbook: Runbook,
    intent: Intent,
    commit: Commit | None,
    deadline: timedelta,
    first: frozenset[str],
) -> Attempt:
    """Request the work from the VM's agent; without ``commit``, only a check.

    There is no evidence from before: the agent itself checks before it enforces, and reports both.
    """
    action = intent.action if commit is not None else Action.CHECK
    attempt = Attempt(executor.name, asked=action)
    if commit is None and intent.action is Action.REVERT:
        unchecked = Trouble(False, "revert_not_checked", "no assignment checks a revert without enforcing it")
        return replace(attempt, trouble=unchecked)
    if commit is not None and runbook.after in first:
        return replace(attempt, halted=_after(runbook))
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            await executor.ready(facts, runbook, action)
            if commit is not None and (verdict := await commit(None)) is not None:
                return replace(attempt, halted=verdict)
            await executor.request(facts, runbook, action)
    except Superseded:
        raise
    except Exception as error:  # noqa: BLE001  see above
        return replace(attempt, trouble=trouble(error))
    return replace(attempt, requested=True)


async def report(agent: RequestExecutor, asked: Asked, record: Record, deadline: timedelta) -> Attempt:
    """Return what an agent reported about the requested work; ``requested`` if there is no report yet.

    Each run of an agent replaces the report of the previous one, so the report is completed with what
    ``record`` keeps from an earlier one.
    """
    waiting = Attempt(agent.name, requested=True, asked=asked.action)
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            reported = await agent.report(asked)
    except Exception as error:  # noqa: BLE001  the next tick reads it again
        return replace(waiting, trouble=trouble(error))
    if reported is None:
        return waiting
    reported = replace(reported, asked=asked.action)
    if reported.enforced or reported.before is None or record.before is None or record.enforcement is None:
        return reported
    return replace(
        reported, before=record.before, enforced=True, enforcement=record.enforcement, after=reported.before
    )


async def withdraw(
    agent: RequestExecutor, compute: Compute, asked: Asked
) -> tuple[InstanceFacts | None, str]:
    """Withdraw a request, so the agent stops. Also return the VM's facts, None if they are unknown.

    If withdrawing is not permitted, the returned text says so. A transient error is raised.
    """
    try:
        facts = await compute.facts(asked.instance)
    except Permanent:
        facts = None  # a report stays valid even if the VM is gone
    return facts, await _unlabelled(agent, asked.instance, asked.runbook)


async def take_back(executors: Executors, facts: InstanceFacts, intent: Intent) -> str:
    """Withdraw the request that a dead attempt may have made, if the VM still has the label.

    The lease is held, so it cannot be another attempt's request. Text and errors are as in :func:`withdraw`.
    """
    if assignment.label(intent.runbook) not in facts.labels or (agent := executors.agent(OSCONFIG)) is None:
        return ""
    return await _unlabelled(agent, intent.instance, intent.runbook)


async def _unlabelled(agent: RequestExecutor, ref: InstanceRef, runbook: str) -> str:
    try:
        await agent.withdraw(ref, runbook)
    except Permanent as error:
        return f"; its label could not be removed: {error}"
    return ""


def trouble(error: Exception) -> Trouble:
    """Return an error as a value. An unclassified one is transient, and logged with its traceback."""
    match error:
        case Transient():
            return Trouble(True, error.reason, error.detail, error.retry_after)
        case Permanent():
            return Trouble(False, error.reason, error.detail)
        case Superseded():
            return Trouble(True, "superseded", str(error))
        case TimeoutError():
            return Trouble(True, "deadline_exceeded", "the attempt did not end by its deadline")
        case _:
            log.error("unclassified error", exc_info=error)
            return Trouble(True, "internal_error", type(error).__name__)


def _faulty_there(before: Evidence | None, intent: Intent) -> bool:
    """Return whether the fault was seen, and on the intended VM."""
    return (
        before is not None
        and before.finding is Finding.FAULTY
        and before.instance_id == intent.instance.instance_id
    )
