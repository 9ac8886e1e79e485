"""A pretend Compute Engine API: the few REST calls that logmend makes, over VMs that exist in memory only.

It encodes our reading of the API's reference. tests/contract/test_compute_api.py checks it with Google's own
client, as far as that client knows the calls: ``view=FULL`` and ``partnerMetadata`` it does not.

Answers can be scripted to fail: ``api.fail("instances/42$", 403)``, ``"slow"``, ``"hang"``, ``"garbage"``.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_BASE = "https://www.googleapis.com/compute/v1"
_STATUS = {
    400: ("INVALID_ARGUMENT", "invalid"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    412: ("FAILED_PRECONDITION", "conditionNotMet"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
}
_TERM = re.compile(r'\(?\s*(id|name|status|labels\.[a-z0-9_-]+)\s*(?:=|eq)\s*"?([^"()]*?)"?\s*\)?')


@dataclass
class PretendInstance:
    """One VM as the API knows it. Keys of ``guest_attributes`` are like ``hostkeys/ssh-ed25519``."""

    project_id: str
    zone: str
    instance_id: str
    name: str
    status: str = "RUNNING"
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    internal_ip: str | None = None
    external_ip: str | None = None
    service_account: str | None = None
    identity_certificate_enabled: bool | None = None
    partner_metadata: dict[str, object] = field(default_factory=dict)
    guest_attributes: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    health: str | None = None
    current_action: str = "NONE"

    @property
    def fingerprint(self) -> str:
        """Changes with every change of the labels."""
        return f"fp{self.generation}="

    @property
    def path(self) -> str:
        """Path below the API's version, by name."""
        return f"projects/{self.project_id}/zones/{self.zone}/instances/{self.name}"

    def document(self, *, full: bool = False) -> dict[str, Any]:
        """Return the instance as ``instances.get`` does; ``full`` adds what ``view=FULL`` adds."""
        interface: dict[str, Any] = {"kind": "compute#networkInterface", "name": "nic0"}
        if self.internal_ip:
            interface["networkIP"] = self.internal_ip
        if self.external_ip:
            interface["accessConfigs"] = [{"name": "External NAT", "natIP": self.external_ip}]
        document: dict[str, Any] = {
            "kind": "compute#instance",
            "id": self.instance_id,
            "creationTimestamp": "2026-01-01T00:00:00.000-08:00",
            "name": self.name,
            "status": self.status,
            "zone": f"{_BASE}/projects/{self.project_id}/zones/{self.zone}",
            "selfLink": f"{_BASE}/{self.path}",
            "machineType": f"{_BASE}/projects/{self.project_id}/zones/{self.zone}/machineTypes/e2-small",
            "networkInterfaces": [interface],
            "metadata": {
                "kind": "compute#metadata",
                "fingerprint": "md0=",
                **({"items": _items(self.metadata)} if self.metadata else {}),
            },
            "labelFingerprint": self.fingerprint,
        }
        if self.labels:
            document["labels"] = dict(self.labels)
        if self.service_account:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            document["serviceAccounts"] = [{"email": self.service_account, "scopes": scopes}]
        if self.identity_certificate_enabled is not None:
            document["workloadIdentityConfig"] = {
                "identityCertificateEnabled": self.identity_certificate_enabled
            }
        if full and self.partner_metadata:
            document["partnerMetadata"] = {
                name: {"entries": entries} for name, entries in self.partner_metadata.items()
            }
        return document


def _member(vm: PretendInstance) -> dict[str, object]:
    """Return a VM as ``listManagedInstances`` does, with ``instanceHealth`` if there is a health check."""
    checked = [{"healthCheck": f"{_BASE}/check", "detailedHealthState": vm.health}] if vm.health else []
    return {
        "id": vm.instance_id,
        "instance": f"{_BASE}/{vm.path}",
        "name": vm.name,
        "instanceStatus": vm.status,
        "currentAction": vm.current_action,
        **({"instanceHealth": checked} if checked else {}),
    }


@dataclass
class Failure:
    """What to do to calls whose ``METHOD path`` the pattern is found in, ``times`` times (None: for ever)."""

    pattern: re.Pattern[str]
    kind: int | str
    times: int | None
    retry_after: int | None
    message: str | None = None


class PretendCompute:
    """The API. ``app`` is the ASGI application; change instances, metadata and failures while it is served.

    ``knows_partner_metadata`` False makes it an API that has never heard of ``partnerMetadata``,
    ``filters_by_id`` False one that refuses a filter on ``id``, as the real one may;
    ``polls`` is how often an operation is asked for before it is done; ``calls`` is what was asked.
    """

    def __init__(
        self,
        instances: Iterable[PretendInstance] = (),
        project_metadata: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.instances = list(instances)
        self.project_metadata = {name: dict(items) for name, items in (project_metadata or {}).items()}
        self.knows_partner_metadata = True
        self.filters_by_id = True
        self.unreachable_zones: list[str] = []
        self.polls = 1
        self.calls: list[str] = []
        self._failures: list[Failure] = []
        self._operations: dict[str, int] = {}
        self._numbers = itertools.count(1)
        zone = "/compute/{version}/projects/{project}/zones/{zone}"
        self.app = Starlette(
            routes=[
                Route(zone + "/instances/{instance}/getGuestAttributes", self._handler(self._guest)),
                Route(zone + "/instances/{instance}/setLabels", self._handler(self._set), methods=["POST"]),
                Route(zone + "/instances/{instance}", self._handler(self._get)),
                Route(zone + "/instances", self._handler(self._list)),
                *(
                    Route(
                        f"/compute/{{version}}/projects/{{project}}/{where}/instanceGroupManagers/{{group}}"
                        "/listManagedInstances",
                        self._handler(self._managed),
                        methods=["POST"],
                    )
                    for where in ("zones/{zone}", "regions/{region}")
                ),
                Route(zone + "/operations/{operation}", self._handler(self._operation)),
                Route("/compute/{version}/projects/{project}/aggregated/instances", self._handler(self._all)),
                Route("/compute/{version}/projects/{project}", self._handler(self._project)),
            ]
        )

    def fail(
        self,
        pattern: str,
        kind: int | str,
        *,
        times: int | None = None,
        retry_after: int | None = None,
        message: str | None = None,
    ) -> None:
        """Script failures: an HTTP status, ``slow`` (2 s), ``hang`` (60 s) or ``garbage``."""
        self._failures.append(Failure(re.compile(pattern), kind, times, retry_after, message))

    def recover(self) -> None:
        """Forget every scripted failure."""
        self._failures.clear()

    def _handler(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            call = f"{request.method} {request.url.path}"
            self.calls.append(call + (f"?{request.url.query}" if request.url.query else ""))
            for failure in self._failures:
                if failure.pattern.search(self.calls[-1]) and failure.times != 0:
                    if failure.times is not None:
                        failure.times -= 1
                    permission = "list" if request.url.path.endswith("/instances") else "get"
                    if (failed := await _failed(failure, f"compute.instances.{permission}")) is not None:
                        return failed
            try:
                return _masked(request, await answer(request))
            except _Error as error:
                return _error(error.status, str(error))

        return handle

    async def _get(self, request: Request) -> dict[str, object]:
        full = self._full(request)
        return self._found(request).document(full=full)

    def _full(self, request: Request) -> bool:
        if "partnerMetadata" in request.query_params.get("fields", "") and not self.knows_partner_metadata:
            raise _Error(400, "Request contains an invalid argument. Invalid field selection partnerMetadata")
        return request.query_params.get("view") == "FULL" and self.knows_partner_metadata

    async def _managed(self, request: Request) -> dict[str, object]:
        """List the VMs whose ``created-by`` names the group, in whichever project's words it does.

        Unlike the real one it always pages, and no VM is yet to be made. A group without VMs is not there.
        """
        where = request.url.path.partition("/listManagedInstances")[0].split("/")[5:]
        mine = [
            each for each in self.instances if each.metadata.get("created-by", "").split("/")[2:] == where
        ]
        if not mine:
            raise _Error(404, f"The resource '{'/'.join(where)}' was not found")
        page, token = _page(request, mine)
        return {"managedInstances": [_member(each) for each in page]} | token

    async def _list(self, request: Request) -> dict[str, object]:
        chosen = [
            each
            for each in self._chosen(request)
            if each.zone == request.path_params["zone"]
        ]  # fmt: skip
        full = self._full(request)
        page, token = _page(request, chosen)
        return {"kind": "compute#instanceList", "items": [each.document(full=full) for each in page]} | token

    async def _all(self, request: Request) -> dict[str, Any]:
        partial = request.query_params.get("returnPartialSuccess") == "true"
        if self.unreachable_zones and not partial:
            raise _Error(503, "a zone is unreachable")
        chosen = [each for each in self._chosen(request) if each.zone not in self.unreachable_zones]
        page, token = _page(request, chosen)
        items: dict[str, Any] = {}
        for each in page:
            items.setdefault(f"zones/{each.zone}", {"instances": []})["instances"].append(each.document())
        if self.unreachable_zones:
            token["unreachables"] = [f"{_BASE}/zones/{zone}" for zone in self.unreachable_zones]
        return {"kind": "compute#instanceAggregatedList", "items": items} | token

    async def _project(self, request: Request) -> dict[str, object]:
        name = request.path_params["project"]
        if name not in self.project_metadata and all(each.project_id != name for each in self.instances):
            raise _Error(404, f"The resource 'projects/{name}' was not found")
        items = _items(self.project_metadata.get(name, {}))
        return {
            "kind": "compute#project",
            "id": "1",
            "name": name,
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "pm0="}
            | ({"items": items} if items else {}),
        }

    async def _guest(self, request: Request) -> dict[str, object]:
        instance = self._found(request)
        wanted = request.query_params.get("queryPath", "")
        items = [
            {"namespace": key.partition("/")[0], "key": key.partition("/")[2], "value": value}
            for key, value in instance.guest_attributes.items()
            if key.startswith(wanted)
        ]
        if not items:
            raise _Error(404, f"The resource '{wanted}' of type 'Guest Attribute' was not found.")
        return {
            "kind": "compute#guestAttributes",
            "queryPath": wanted,
            "queryValue": {"items": items},
            "selfLink": f"{_BASE}/{instance.path}/guestAttributes/{wanted}",
        }

    async def _set(self, request: Request) -> dict[str, object]:
        instance = self._found(request)
        body = await request.json()
        if body.get("labelFingerprint") != instance.fingerprint:
            raise _Error(412, "Labels fingerprint either invalid or resource labels have changed")
        instance.labels = dict(body.get("labels", {}))
        instance.generation += 1
        name = f"operation-{next(self._numbers)}"
        self._operations[name] = self.polls
        return self._described(name, instance.zone, instance.project_id)

    async def _operation(self, request: Request) -> dict[str, object]:
        name = request.path_params["operation"]
        if name not in self._operations:
            raise _Error(404, f"The resource '{name}' was not found")
        self._operations[name] = max(0, self._operations[name] - 1)
        return self._described(name, request.path_params["zone"], request.path_params["project"])

    def _described(self, name: str, zone: str, project: str) -> dict[str, object]:
        done = self._operations[name] == 0
        return {
            "kind": "compute#operation",
            "id": name.rpartition("-")[2],
            "name": name,
            "operationType": "setLabels",
            "status": "DONE" if done else "RUNNING",
            "progress": 100 if done else 0,
            "zone": f"{_BASE}/projects/{project}/zones/{zone}",
            "selfLink": f"{_BASE}/projects/{project}/zones/{zone}/operations/{name}",
        }

    def _found(self, request: Request) -> PretendInstance:
        project, zone, wanted = (request.path_params[key] for key in ("project", "zone", "instance"))
        for each in self.instances:
            if (each.project_id, each.zone) == (project, zone) and wanted in (each.instance_id, each.name):
                return each
        raise _Error(404, f"The resource 'projects/{project}/zones/{zone}/instances/{wanted}' was not found")

    def _chosen(self, request: Request) -> list[PretendInstance]:
        text = request.query_params.get("filter", "")
        if "id =" in text and not self.filters_by_id:
            raise _Error(400, f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.")
        either = re.split(r"\bOR\b", text) if text.strip() else [""]
        wanted = [
            [_term(part, text) for part in re.split(r"\bAND\b", each) if part.strip()] for each in either
        ]
        return [
            each
            for each in self.instances
            if each.project_id == request.path_params["project"]
            and any(all(_holds(each, *term) for term in terms) for terms in wanted)
        ]


class _Error(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _term(part: str, text: str) -> tuple[str, str]:
    term = _TERM.fullmatch(part.strip())
    if term is None:
        raise _Error(400, f"Invalid value for field 'filter': '{text}'")
    return term[1], term[2].strip()


def _holds(instance: PretendInstance, name: str, value: str) -> bool:
    if name.startswith("labels."):
        return instance.labels.get(name.removeprefix("labels.")) == value
    return bool(getattr(instance, "instance_id" if name == "id" else name) == value)


def _items(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in metadata.items()]


def _page(request: Request, instances: list[PretendInstance]) -> tuple[list[PretendInstance], dict[str, Any]]:
    size = int(request.query_params.get("maxResults", "500"))
    start = int(request.query_params.get("pageToken") or "0")
    more = {"nextPageToken": str(start + size)} if start + size < len(instances) else {}
    return instances[start : start + size], more


def _masked(request: Request, document: dict[str, object]) -> JSONResponse:
    if fields := request.query_params.get("fields"):
        names = re.sub(r"\([^)]*\)", "", fields).split(",")  # what is inside is given whole
        document = {key: value for key, value in document.items() if key in names}
    return JSONResponse(document)


async def _failed(failure: Failure, permission: str) -> Response | None:
    match failure.kind:
        case "slow":
            await asyncio.sleep(2)
            return None
        case "hang":
            await asyncio.sleep(60)
            return None
        case "garbage":
            return Response("<html>not what you asked for", media_type="application/json")
        case int():
            wait = {} if failure.retry_after is None else {"Retry-After": str(failure.retry_after)}
            message = failure.message or f"scripted failure {failure.kind}"
            if failure.kind == 403:
                message = f"Required '{permission}' permission ({message})"
            return _error(failure.kind, message, wait)
        case _:
            raise ValueError(f"no such failure: {failure.kind}")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    word, reason = _STATUS.get(status, ("INTERNAL", "backendError"))
    errors = [{"message": message, "domain": "global", "reason": reason}]
    content = {"error": {"code": status, "message": message, "errors": errors, "status": word}}
    return JSONResponse(content, status, dict(headers or {}))
