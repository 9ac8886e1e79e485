"""An OS Config API for tests: zonal assignments, rollouts and reports, in Google's own message types.

Whatever comes in is parsed into google-cloud-os-config's messages and whatever goes out is printed from them,
so that an unknown field or a wrong type cannot pass. What the API checks beyond types, how a rollout goes and
what an etag does is our reading of its reference; test_osconfig_oracle.py holds it to gcloud and to Google's
Python client, as far as those can tell.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.cloud.osconfig_v1.types import (
    OSPolicy,
    OSPolicyAssignment,
    OSPolicyAssignmentOperationMetadata,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MAX_ASSIGNMENTS = 20
"""Per zone and project (cloud.google.com/compute/quotas-limits)."""
PAGE = 100
"""The most reports that a page has; the reference does not say how many the API gives."""

_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, word: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.word = word or _STATUS[status]


@dataclass
class Kept:
    """An assignment with its revisions, newest last; ``polls`` until its rollout is done."""

    revisions: list[Any]
    operation: str = ""
    polls: int = 0
    method: int = 0

    @property
    def latest(self) -> Any:
        return self.revisions[-1]


@dataclass
class Failure:
    """What to answer to calls that the pattern is found in, ``times`` times (None: for ever)."""

    pattern: re.Pattern[str]
    status: int
    message: str
    times: int | None


@dataclass
class OsConfigServer:
    """The API. ``app`` is the ASGI application, ``calls`` what was asked of it.

    ``polls`` is how often a rollout's operation is asked for before it is done; ``project_number`` is what
    stands in the names of reports, as the reference says.
    """

    polls: int = 1
    project_number: str = "4711"
    calls: list[str] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    reports: dict[tuple[str, str, str, str], Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        zone = "/v1/projects/{project}/locations/{zone}"
        one = zone + "/osPolicyAssignments/{assignment}"
        reports = zone + "/instances/{instance}/osPolicyAssignments/{assignment}"
        self.app = Starlette(
            routes=[
                Route(one + "/operations/{operation}", self._handler(self._operation)),
                Route(one + ":listRevisions", self._handler(self._revisions)),
                Route(one, self._handler(self._get)),
                Route(one, self._handler(self._patch), methods=["PATCH"]),
                Route(one, self._handler(self._delete), methods=["DELETE"]),
                Route(zone + "/osPolicyAssignments", self._handler(self._list)),
                Route(zone + "/osPolicyAssignments", self._handler(self._create), methods=["POST"]),
                Route(reports + "/report", self._handler(self._report)),
                Route(reports + "/reports", self._handler(self._reports)),
            ]
        )

    # What tests say and ask

    def fail(self, pattern: str, status: int, message: str = "scripted", times: int | None = None) -> None:
        """Script failures of calls such as ``GET /v1/…``."""
        self.failures.append(Failure(re.compile(pattern), status, message, times))

    def disable(self, project: str) -> None:
        """Answer as an API that is not enabled in a project."""
        said = (
            f"OS Config API has not been used in project {project} before or it is disabled. Enable it by"
            " visiting https://console.developers.google.com/apis/api/osconfig.googleapis.com"
        )
        self.fail(f"/projects/{project}/", 403, said)

    def targeting(self, project: str, zone: str, labels: Mapping[str, str]) -> list[Any]:
        """Give the assignments that apply to a VM with these labels, as the service works it out."""
        found = []
        for name, kept in self.kept.items():
            if not name.startswith(f"projects/{project}/locations/{zone}/") or kept.latest.deleted:
                continue
            chosen = kept.latest.instance_filter
            included = chosen.all_ or any(_holds(each, labels) for each in chosen.inclusion_labels)
            if included and not any(_holds(each, labels) for each in chosen.exclusion_labels):
                found.append(kept.latest)
        return found

    def put_report(self, project: str, zone: str, instance: str, report: Any) -> None:
        """Keep what an agent's run came to. ``report.name`` ends in the assignment's id."""
        assignment = report.os_policy_assignment.rpartition("/")[2].partition("@")[0]
        report.name = (
            f"projects/{self.project_number}/locations/{zone}/instances/{instance}"
            f"/osPolicyAssignments/{assignment}/report"
        )
        self.reports[project, zone, instance, assignment] = report

    # Assignments

    async def _create(self, request: Request) -> Any:
        parent = _parent(request)
        wanted = request.query_params.get("osPolicyAssignmentId", "")
        if not _ID.fullmatch(wanted):
            raise ApiError(400, f"Invalid OSPolicyAssignment ID: {wanted!r}")
        name = f"{parent}/osPolicyAssignments/{wanted}"
        if name in self.kept:
            raise ApiError(409, f"Resource '{name}' already exists")
        if sum(each.startswith(f"{parent}/") for each in self.kept) >= MAX_ASSIGNMENTS:
            raise ApiError(429, "Quota exceeded for OS policy assignments per zone")
        assignment = _parsed(OSPolicyAssignment, await request.body())
        _check(assignment)
        kept = self.kept[name] = Kept([])
        return self._rolled_out(kept, name, assignment, 1)

    async def _patch(self, request: Request) -> Any:
        kept, name = self._found(request)
        changed = _parsed(OSPolicyAssignment, await request.body())
        if changed.etag and changed.etag != kept.latest.etag:
            raise ApiError(409, "etag does not match that of the resource", "ABORTED")
        if kept.polls > 0:
            raise ApiError(409, "a rollout of this assignment is in progress", "ABORTED")
        mask = [each for each in request.query_params.get("updateMask", "").split(",") if each]
        after = OSPolicyAssignment(kept.latest)
        for path in mask or ["osPolicies", "instanceFilter", "rollout", "description"]:
            attribute = re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), path.partition(".")[0])
            if attribute not in ("os_policies", "instance_filter", "rollout", "description"):
                raise ApiError(400, f"Invalid update mask: {path}")
            setattr(after, attribute, getattr(changed, attribute))
        _check(after)
        return self._rolled_out(kept, name, after, 2)

    async def _delete(self, request: Request) -> Any:
        kept, name = self._found(request)
        gone = OSPolicyAssignment(kept.latest)
        gone.deleted = True
        return self._rolled_out(kept, name, gone, 3)

    async def _get(self, request: Request) -> Any:
        kept = self._found(request)[0]
        _, at, revision = request.path_params["assignment"].partition("@")
        found = [each for each in kept.revisions if not at or each.revision_id == revision]
        if not found:
            raise ApiError(404, f"Revision '{revision}' was not found")
        return found[-1]

    async def _revisions(self, request: Request) -> Any:
        revisions = reversed(self._found(request)[0].revisions)
        return {"osPolicyAssignments": [_document(request, each) for each in revisions]}

    async def _list(self, request: Request) -> Any:
        prefix = f"{_parent(request)}/osPolicyAssignments/"
        found = [kept.latest for name, kept in sorted(self.kept.items()) if name.startswith(prefix)]
        page, token = _page(request, found)
        return {"osPolicyAssignments": [_document(request, each) for each in page]} | token

    async def _operation(self, request: Request) -> Any:
        kept, name = self._found(request)
        if kept.operation.rpartition("/")[2] != request.path_params["operation"]:
            raise ApiError(404, "no such operation")
        kept.polls = max(0, kept.polls - 1)
        return self._described(kept, name)

    def _rolled_out(self, kept: Kept, name: str, assignment: Any, method: int) -> Any:
        """Commit a revision and begin its rollout."""
        number = next(self._numbers)
        assignment.name = name
        assignment.revision_id = f"rev-{number}"
        assignment.etag = f"etag-{number}"
        assignment.uid = assignment.uid or f"uid-{number}"
        assignment.revision_create_time = datetime.now(UTC)
        assignment.rollout_state = OSPolicyAssignment.RolloutState.IN_PROGRESS
        assignment.reconciling = True
        kept.revisions.append(assignment)
        kept.operation, kept.polls, kept.method = f"{name}/operations/op-{number}", self.polls, method
        return self._described(kept, name)

    def _described(self, kept: Kept, name: str) -> operations_pb2.Operation:
        done, latest = kept.polls == 0, kept.latest
        if done:
            latest.rollout_state = OSPolicyAssignment.RolloutState.SUCCEEDED
            latest.baseline, latest.reconciling = True, False
        metadata = OSPolicyAssignmentOperationMetadata(
            os_policy_assignment=name,
            api_method=kept.method,
            rollout_state=latest.rollout_state,
            rollout_start_time=latest.revision_create_time,
        )
        operation = operations_pb2.Operation(name=kept.operation, done=done)
        operation.metadata.Pack(OSPolicyAssignmentOperationMetadata.pb(metadata))
        if done:
            gone: Any = getattr(empty_pb2, "Empty")()  # noqa: B009  made at run time
            operation.response.Pack(gone if latest.deleted else OSPolicyAssignment.pb(latest))
            if latest.deleted:
                self.kept.pop(name, None)
        return operation

    def _found(self, request: Request) -> tuple[Kept, str]:
        plain = request.path_params["assignment"].partition("@")[0]
        name = f"{_parent(request)}/osPolicyAssignments/{plain}"
        if name not in self.kept:
            raise ApiError(404, f"Resource '{name}' was not found")
        return self.kept[name], name

    # Reports

    async def _report(self, request: Request) -> Any:
        project, zone, instance, assignment = _report_key(request)
        if (report := self.reports.get((project, zone, instance, assignment))) is None:
            raise ApiError(404, f"no report of {assignment} for {instance}")
        return report

    async def _reports(self, request: Request) -> Any:
        project, zone, instance, assignment = _report_key(request)
        if "-" not in (instance, assignment):
            raise ApiError(400, "either instance or assignment has to be '-'")
        found = [
            report
            for key, report in sorted(self.reports.items())
            if key[:2] == (project, zone) and instance in ("-", key[2]) and assignment in ("-", key[3])
        ]
        page, token = _page(request, found)
        return {"osPolicyAssignmentReports": [_document(request, each) for each in page]} | token

    def _handler(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            query = f"?{request.url.query}" if request.url.query else ""
            self.calls.append(f"{request.method} {request.url.path}{query}")
            for failure in self.failures:
                if failure.pattern.search(self.calls[-1]) and failure.times != 0:
                    failure.times = None if failure.times is None else failure.times - 1
                    return _refused(ApiError(failure.status, failure.message))
            try:
                return JSONResponse(_document(request, await answer(request)))
            except ApiError as error:
                return _refused(error)

        return handle


def _parent(request: Request) -> str:
    return f"projects/{request.path_params['project']}/locations/{request.path_params['zone']}"


def _report_key(request: Request) -> tuple[str, str, str, str]:
    path = request.path_params
    return path["project"], path["zone"], path["instance"], path["assignment"]


def _holds(labels: Any, of_vm: Mapping[str, str]) -> bool:
    return all(of_vm.get(key) == value for key, value in labels.labels.items())


def _parsed(kind: Any, body: bytes) -> Any:
    """Parse strictly, as the API does: an unknown field is an error."""
    try:
        return kind.from_json(body.decode(), ignore_unknown_fields=False)
    except (json_format.ParseError, ValueError) as error:
        raise ApiError(400, f"Invalid JSON payload received. {error}") from error


def _document(request: Request, value: Any) -> Any:
    """Print a message as REST does; Google's Python client asks for enums as numbers."""
    if isinstance(value, dict):
        return value
    message = value if isinstance(value, operations_pb2.Operation) else type(value).pb(value)
    numbers = "enum-encoding=int" in request.query_params.get("$alt", "")
    printed: Any = json_format.MessageToDict(message, use_integers_for_enums=numbers)  # type: ignore[no-untyped-call]
    return printed


def _page(request: Request, found: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    size = min(int(request.query_params.get("pageSize") or PAGE) or PAGE, PAGE)
    start = int(request.query_params.get("pageToken") or "0")
    more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
    return found[start : start + size], more


def _refused(error: ApiError) -> JSONResponse:
    details = []
    if "has not been used in project" in str(error):
        details = [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"},
        ]
    content = {"code": error.status, "message": str(error), "status": error.word, "details": details}
    return JSONResponse({"error": content}, error.status)


def _check(assignment: Any) -> None:
    """Check what the reference calls required or limited."""
    if not assignment.os_policies:
        raise ApiError(400, "os_policies is required")
    chosen = assignment.instance_filter
    if not (chosen.all_ or chosen.inclusion_labels or chosen.inventories or chosen.exclusion_labels):
        raise ApiError(400, "instance_filter is required")
    if chosen.all_ and (chosen.inclusion_labels or chosen.inventories or chosen.exclusion_labels):
        raise ApiError(400, "instance_filter.all permits no other criteria")
    budget = assignment.rollout.disruption_budget
    if not (budget.fixed or budget.percent) or "min_wait_duration" not in assignment.rollout:
        raise ApiError(400, "rollout needs disruption_budget and min_wait_duration")
    for policy in assignment.os_policies:
        if not _ID.fullmatch(policy.id) or policy.mode == OSPolicy.Mode.MODE_UNSPECIFIED:
            raise ApiError(400, f"OS policy {policy.id!r} needs a valid id and a mode")
        resources = [each for group in policy.resource_groups for each in group.resources]
        if not resources:
            raise ApiError(400, f"OS policy {policy.id} has no resources")
        for resource in resources:
            _check_exec(resource)


def _check_exec(resource: Any) -> None:
    run = resource.exec_
    if "validate" not in run:
        raise ApiError(400, f"resource {resource.id!r}: exec.validate is required")
    for each in [run.validate, *([run.enforce] if "enforce" in run else [])]:
        if each.interpreter == OSPolicy.Resource.ExecResource.Exec.Interpreter.INTERPRETER_UNSPECIFIED:
            raise ApiError(400, f"resource {resource.id!r}: interpreter is required")
        if not 0 < len(each.script) <= 1024:
            raise ApiError(400, f"resource {resource.id!r}: a script has 1 to 1024 characters")
    if run.validate.output_file_path:
        raise ApiError(400, "output_file_path is for enforce only")
