"""A pretend Compute Engine API: the few REST calls that logmend makes, over VMs that exist in memory only.

It follows our reading of the API's reference. tests/contract/test_compute_api.py checks it with Google's own
client, except for ``view=FULL`` and ``partnerMetadata``, which that client does not know.

Answers can be scripted to fail: ``api.fail("instances/42$", 403)``, ``"slow"``, ``"hang"``, ``"garbage"``.
"""

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from logmend_cli.pretend.failures import Failure, Refusal, error_response, failed
from logmend_cli.pretend.instance import BASE, PretendInstance, managed_instance, metadata_items
from logmend_cli.pretend.list_filter import holds, terms


class PretendCompute:
    """The API. ``app`` is the ASGI application; instances, metadata and failures may change while it serves.

    If ``knows_partner_metadata`` is False, it does not know ``partnerMetadata``; if ``filters_by_id`` is
    False, it refuses a filter on ``id``, as the real one may. ``polls`` is how often an operation is polled
    before it is done; ``calls`` are the calls that were made.
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

    def _handler(
        self, answer: Callable[[Request], Awaitable[dict[str, object]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            call = f"{request.method} {request.url.path}"
            self.calls.append(call + (f"?{request.url.query}" if request.url.query else ""))
            for failure in self._failures:
                if failure.pattern.search(self.calls[-1]) and failure.times != 0:
                    if failure.times is not None:
                        failure.times -= 1
                    permission = "list" if request.url.path.endswith("/instances") else "get"
                    if (response := await failed(failure, f"compute.instances.{permission}")) is not None:
                        return response
            try:
                return _masked(request, await answer(request))
            except Refusal as error:
                return error_response(error.status, str(error))

        return handle

    async def _get(self, request: Request) -> dict[str, object]:
        full = self._full(request)
        return self._found(request).document(full=full)

    def _full(self, request: Request) -> bool:
        if "partnerMetadata" in request.query_params.get("fields", "") and not self.knows_partner_metadata:
            raise Refusal(
                400, "Request contains an invalid argument. Invalid field selection partnerMetadata"
            )
        return request.query_params.get("view") == "FULL" and self.knows_partner_metadata

    async def _managed(self, request: Request) -> dict[str, object]:
        """List the VMs whose ``created-by`` names the group, with the project's id or its number.

        Unlike the real API it always pages, and never lists a VM that is still to be created. A group without
        VMs does not exist.
        """
        where = request.url.path.partition("/listManagedInstances")[0].split("/")[5:]
        mine = [
            each for each in self.instances if each.metadata.get("created-by", "").split("/")[2:] == where
        ]
        if not mine:
            raise Refusal(404, f"The resource '{'/'.join(where)}' was not found")
        page, token = _page(request, mine)
        return {"managedInstances": [managed_instance(each) for each in page]} | token

    async def _list(self, request: Request) -> dict[str, object]:
        chosen = [
            each
            for each in self._chosen(request)
            if each.zone == request.path_params["zone"]
        ]  # fmt: skip
        full = self._full(request)
        page, token = _page(request, chosen)
        return {"kind": "compute#instanceList", "items": [each.document(full=full) for each in page]} | token

    async def _all(self, request: Request) -> dict[str, object]:
        partial = request.query_params.get("returnPartialSuccess") == "true"
        if self.unreachable_zones and not partial:
            raise Refusal(503, "a zone is unreachable")
        chosen = [each for each in self._chosen(request) if each.zone not in self.unreachable_zones]
        page, token = _page(request, chosen)
        items: dict[str, dict[str, list[object]]] = {}
        for each in page:
            items.setdefault(f"zones/{each.zone}", {"instances": []})["instances"].append(each.document())
        if self.unreachable_zones:
            token["unreachables"] = [f"{BASE}/zones/{zone}" for zone in self.unreachable_zones]
        return {"kind": "compute#instanceAggregatedList", "items": items} | token

    async def _project(self, request: Request) -> dict[str, object]:
        name = request.path_params["project"]
        if name not in self.project_metadata and all(each.project_id != name for each in self.instances):
            raise Refusal(404, f"The resource 'projects/{name}' was not found")
        items = metadata_items(self.project_metadata.get(name, {}))
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
            raise Refusal(404, f"The resource '{wanted}' of type 'Guest Attribute' was not found.")
        return {
            "kind": "compute#guestAttributes",
            "queryPath": wanted,
            "queryValue": {"items": items},
            "selfLink": f"{BASE}/{instance.path}/guestAttributes/{wanted}",
        }

    async def _set(self, request: Request) -> dict[str, object]:
        instance = self._found(request)
        body = await request.json()
        if body.get("labelFingerprint") != instance.fingerprint:
            raise Refusal(412, "Labels fingerprint either invalid or resource labels have changed")
        instance.labels = dict(body.get("labels", {}))
        instance.generation += 1
        name = f"operation-{next(self._numbers)}"
        self._operations[name] = self.polls
        return self._described(name, instance.zone, instance.project_id)

    async def _operation(self, request: Request) -> dict[str, object]:
        name = request.path_params["operation"]
        if name not in self._operations:
            raise Refusal(404, f"The resource '{name}' was not found")
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
            "zone": f"{BASE}/projects/{project}/zones/{zone}",
            "selfLink": f"{BASE}/projects/{project}/zones/{zone}/operations/{name}",
        }

    def _found(self, request: Request) -> PretendInstance:
        project, zone, wanted = (request.path_params[key] for key in ("project", "zone", "instance"))
        for each in self.instances:
            if (each.project_id, each.zone) == (project, zone) and wanted in (each.instance_id, each.name):
                return each
        raise Refusal(404, f"The resource 'projects/{project}/zones/{zone}/instances/{wanted}' was not found")

    def _chosen(self, request: Request) -> list[PretendInstance]:
        text = request.query_params.get("filter", "")
        if "id =" in text and not self.filters_by_id:
            raise Refusal(400, f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.")
        wanted = terms(text)
        return [
            each
            for each in self.instances
            if each.project_id == request.path_params["project"]
            and any(all(holds(each, *term) for term in every) for every in wanted)
        ]


def _page(
    request: Request, instances: list[PretendInstance]
) -> tuple[list[PretendInstance], dict[str, object]]:
    size = int(request.query_params.get("maxResults", "500"))
    start = int(request.query_params.get("pageToken") or "0")
    more: dict[str, object] = {"nextPageToken": str(start + size)} if start + size < len(instances) else {}
    return instances[start : start + size], more


def _masked(request: Request, document: dict[str, object]) -> JSONResponse:
    if fields := request.query_params.get("fields"):
        names = re.sub(r"\([^)]*\)", "", fields).split(",")  # the fields in parentheses are returned whole
        document = {key: value for key, value in document.items() if key in names}
    return JSONResponse(document)
