"""The osconfig executor: a label requests work from the VM's OS Config agent, whose report gives the result.

It uses plain REST, like look-ups (docs/adr/0005-compute-over-rest.md). The API allows 60 calls a minute per
project: assignments are read once in ten minutes, and the reports of many VMs are listed together, by zone
and assignment. :func:`logmend.stages.verify.report` has the rules for closing a request.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from logmend.adapters.google.quota import Quota
from logmend.adapters.google.rest import HttpReply, Rest
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.model.values import Asked, Attempt, InstanceFacts, InstanceRef, Trouble
from logmend.osconfig import assignment
from logmend.osconfig import report as policy_report
from logmend.ports import Compute
from logmend.runbook import Runbook
from logmend.stages import decide

ENDPOINT = "https://osconfig.googleapis.com"
CALLS_A_MINUTE = 60
"""The API's quota for each project (cloud.google.com/compute/quotas-limits, "OS policy")."""

PAGE_SIZE = 100
FEW = 10
"""Up to this many requests in one zone and assignment, each report is read individually: a listing has a page
for every hundred VMs that were ever labelled."""

ASSIGNMENT_TTL = 600.0
"""Seconds for which an assignment, once found to be correct, is taken to be so."""
FRESH = 300.0
"""Seconds for which a report read ahead is used: until the next tick reads ahead again."""
PATIENCE = 60.0
"""Seconds that a call may wait for a place in the quota."""

_Report = JsonObject
_Group = tuple[str, str, str]
"""Project, zone and assignment id."""


class _Read(Struct, frozen=True):
    """A report that was read ahead: None if the VM has none, an error if it could not be read."""

    until: float
    report: _Report | Transient | Permanent | None


class OsConfigExecutor:
    """Implements :class:`logmend.ports.RequestExecutor`. ``exempt`` is the label that keeps a VM out.

    A report counts only if its revision has the scripts of ``runbooks``: an assignment can change after it
    was checked, and an agent may not have the newest one yet.
    """

    name = policy_report.EXECUTOR

    def __init__(
        self,
        compute: Compute,
        exempt: tuple[str, str],
        runbooks: Mapping[str, Runbook],
        endpoint: str | None = None,
        *,
        calls_a_minute: int = CALLS_A_MINUTE,
        timeout: float = 15.0,
    ) -> None:
        self._compute = compute
        self._exempt = exempt
        self._runbooks = runbooks
        self._rest = Rest(endpoint or ENDPOINT, timeout=timeout)
        self._quotas: defaultdict[str, Quota] = defaultdict(lambda: Quota(calls_a_minute))
        self._found: dict[_Group, float] = {}
        self._looking: defaultdict[_Group, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reads: dict[Asked, _Read] = {}
        self._revisions: dict[tuple[_Group, str], str | None] = {}

    async def ready(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> None:
        """Check the preconditions, cheapest first. Each has its own reason for not holding."""
        if runbook.ssh_only:
            declared = "osconfig" not in runbook.executors
            raise Permanent("needs_ssh" if declared else "scripts_too_long", runbook.ssh_only)
        if not decide.osconfig_enabled(facts):
            raise Permanent("osconfig_disabled", "effective metadata enable-osconfig is not TRUE")
        if not facts.service_account:
            raise Permanent("no_service_account", "the agent has no service account to report with")
        group = (facts.ref.project_id, facts.ref.zone, assignment.assignment_id(runbook.name, action))
        async with self._looking[group]:
            if self._found.get(group, 0.0) > time.monotonic():
                return
            current = await self._get(group[0], _assignment(group), needs="osconfig.osPolicyAssignments.get")
            if current is None:
                raise Permanent("assignment_missing", f"no assignment {group[2]} in {group[0]}/{group[1]}")
            if parts := assignment.differences(assignment.assignment(runbook, action, self._exempt), current):
                raise Permanent("assignment_outdated", f"{group[2]} differs in {', '.join(parts)}")
            self._found[group] = time.monotonic() + ASSIGNMENT_TTL

    async def request(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> None:
        """Set the VM's label to ``action``."""
        await self._compute.set_label(facts, assignment.label(runbook.name), action.value)

    async def prefetch(self, every: Sequence[Asked]) -> None:
        """Read reports ahead: a few individually, many in one zone and assignment as a listing."""
        groups = defaultdict[_Group, list[Asked]](list)
        for asked in every:
            groups[_group(asked)].append(asked)
        self._reads = {asked: read for asked, read in self._reads.items() if read.until > time.monotonic()}
        await asyncio.gather(*(self._ahead(group, members) for group, members in groups.items()))

    async def report(self, asked: Asked) -> Attempt | None:
        """Return what the agent reported since the request; an older report proves nothing."""
        read = self._reads.get(asked)
        if read is None or read.until <= time.monotonic():
            read = _Read(0.0, await self._one(asked))
        if isinstance(read.report, Transient | Permanent):
            raise read.report
        if read.report is None:
            return None
        try:
            _check_name(read.report, asked)
            if policy_report.updated(read.report) <= asked.since:
                return None
            attempt = policy_report.read(read.report, _group(asked)[2], asked.instance.instance_id)
            revision = None if attempt.trouble else policy_report.revision(read.report)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            detail = f"a report cannot be read: {type(error).__name__}: {error}"
            raise Transient("api_protocol_error", detail) from error
        if revision is not None and (why := await self._foreign(asked, revision)) is not None:
            return Attempt(self.name, trouble=Trouble(True, "assignment_outdated", why))
        return attempt

    async def _foreign(self, asked: Asked, revision: str) -> str | None:
        """Return why a revision's scripts are not the runbook's, or None if they are. Revisions never change.

        "In order to retrieve a previous revision of the assignment, also provide the revision ID in the name"
        (GetOSPolicyAssignment, google.cloud.osconfig.v1).
        """
        group = _group(asked)
        async with self._looking[group]:
            if (group, revision) not in self._revisions:
                path = f"{_assignment(group)}@{quote(revision)}"
                current = await self._get(group[0], path, needs="osconfig.osPolicyAssignments.get")
                wanted = assignment.assignment(self._runbooks[asked.runbook], asked.action, self._exempt)
                parts = (
                    ("everything: it is gone",)
                    if current is None
                    else assignment.differences(wanted, current)
                )
                why = f"the agent ran revision {revision} of {group[2]}, which differs in {', '.join(parts)}"
                self._revisions[group, revision] = why if parts else None
            return self._revisions[group, revision]

    async def withdraw(self, ref: InstanceRef, runbook: str) -> None:
        """Remove the label, whatever its value."""
        try:
            await self._compute.set_label(InstanceFacts(ref, "", ""), assignment.label(runbook), None)
        except Permanent as error:
            if error.reason != "instance_gone":
                raise

    async def aclose(self) -> None:
        """Close connections."""
        await self._rest.aclose()

    async def _ahead(self, group: _Group, members: Sequence[Asked]) -> None:
        """Read the reports of one zone and assignment. An error is kept for each request that it affects."""
        until = time.monotonic() + FRESH
        if len(members) <= FEW:
            reports = await asyncio.gather(*map(self._one, members), return_exceptions=True)
            for asked, report in zip(members, reports, strict=True):
                if isinstance(report, BaseException) and not isinstance(report, Transient | Permanent):
                    raise report
                self._reads[asked] = _Read(until, report)
            return
        listed: dict[str, _Report] = {}
        wanted = {asked.instance.instance_id for asked in members}
        left: Transient | Permanent | None = Transient(
            "rate_limited", "the deadline passed before its report was read"
        )
        try:
            await self._list(group, wanted, listed)
            left = None
        except (Transient, Permanent) as error:
            left = error
        finally:  # also on timeout
            # If the API names VMs differently from its reference, each report is read individually.
            strange = any(not instance.isdigit() for instance in listed)
            for asked in members:
                if asked.instance.instance_id in listed or not strange:
                    self._reads[asked] = _Read(until, listed.get(asked.instance.instance_id, left))

    async def _list(self, group: _Group, wanted: set[str], reports: dict[str, _Report]) -> None:
        """List reports page by page into ``reports``, until it has all that are wanted."""
        path = f"{_parent(group)}/instances/-/osPolicyAssignments/{quote(group[2])}/reports"
        query = {"pageSize": str(PAGE_SIZE)}
        while True:
            page = await self._get(group[0], path, query, needs="osconfig.osPolicyAssignmentReports.list")
            for report in (page or {}).get("osPolicyAssignmentReports") or ():
                if (key := policy_report.key(report)) and (key[0] in wanted or not key[0].isdigit()):
                    reports[key[0]] = report
            token = (page or {}).get("nextPageToken")
            if not token or wanted <= reports.keys():
                return
            query["pageToken"] = str(token)

    async def _one(self, asked: Asked) -> _Report | None:
        group = _group(asked)
        path = (
            f"{_parent(group)}/instances/{asked.instance.instance_id}"
            f"/osPolicyAssignments/{quote(group[2])}/report"
        )
        return await self._get(group[0], path, needs="osconfig.osPolicyAssignmentReports.get")

    async def _get(
        self, project_id: str, path: str, query: Mapping[str, str] | None = None, *, needs: str
    ) -> _Report | None:
        """Make a call; None for 404. A disabled API has its own reason, since its remedy differs."""
        await self._quotas[project_id].take(PATIENCE)
        answer: HttpReply = await self._rest.call("GET", path, query=query)
        if answer.ok:
            return answer.json or {}
        error = answer.error(needs=needs)
        if answer.status == 404:
            return None
        if error.reason == "api_disabled":
            raise Permanent("osconfig_api_disabled", error.detail)
        raise error


def _group(asked: Asked) -> _Group:
    return (
        asked.instance.project_id,
        asked.instance.zone,
        assignment.assignment_id(asked.runbook, asked.action),
    )


def _check_name(report: _Report, asked: Asked) -> None:
    """Check by its name that a report is for the requested VM and assignment."""
    key = policy_report.key(report)
    instance = key[0] if key and key[0].isdigit() else asked.instance.instance_id
    if key is None or (instance, key[1]) != (asked.instance.instance_id, _group(asked)[2]):
        raise ValueError("it is for another VM or assignment")


def _parent(group: _Group) -> str:
    return f"/v1/{assignment.parent(quote(group[0]), group[1])}"


def _assignment(group: _Group) -> str:
    return f"{_parent(group)}/osPolicyAssignments/{quote(group[2])}"
