"""What stands in the way of a request, as a person sees it before they confirm it."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from logmend import windows
from logmend.model.state import Subject
from logmend.model.values import InstanceRef
from logmend_cli.application import some_at_once

if TYPE_CHECKING:
    from logmend.wiring import Application


async def held(app: "Application", refs: Sequence[InstanceRef], runbook: str) -> dict[InstanceRef, str]:
    """Name the latest revert of each VM: a request to enforce has to know what it undoes."""
    subjects = await _subjects(app, refs, runbook)
    return {each.instance: each.held_by for each in subjects if each.held_by}


async def breaker(app: "Application", runbook: str) -> dict[str, str]:
    """Name the open breaker, in words; nothing if it is closed."""
    opened = (await app.controls.fleet()).breakers.get(runbook)
    return {opened.mark: f"the breaker of {runbook} is open: {opened}"} if opened else {}


async def freezes(app: "Application", refs: Sequence[InstanceRef], runbook: str) -> dict[str, str]:
    """Name every freeze in force, of everything, the runbook or one of the VMs, in words."""
    fleet = await app.controls.fleet()
    scopes = [
        ("everything", fleet.frozen),
        (runbook, fleet.frozen_runbooks.get(runbook)),
        *((str(each.instance), each.frozen) for each in await _subjects(app, refs, runbook)),
    ]
    return {
        freeze.mark: f"{scope} is {freeze}" for scope, top in scopes for freeze in (top.stack if top else ())
    }


def closed(app: "Application", runbook: str, now: datetime) -> dict[str, str]:
    """Return, in words, the closed windows and current blackouts of every VM or those with a label."""
    settings = app.pipeline.policies.of(runbook)
    shut = windows.each_closed(settings.windows, settings.blackouts, now)
    return {str(each): f"it is {each}" for each in shut}


async def _subjects(app: "Application", refs: Sequence[InstanceRef], runbook: str) -> list[Subject]:
    """Read what the ledger knows about the VMs; leave out those that it does not know."""
    known = await some_at_once(partial(app.controls.subject, ref, runbook) for ref in refs)
    return [each for each in known if each]
