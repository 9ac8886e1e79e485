"""Cloud Logging's `entries.list` and the Resource Manager's listings, over entries that a test keeps.

Our reading of the references, held to Google's own messages: what is asked has to be a ListLogEntriesRequest,
what is answered is a ListLogEntriesResponse. Filters are evaluated by logmend's own engine, which has a suite
of its own.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from google.cloud.logging_v2.types import ListLogEntriesRequest, ListLogEntriesResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from logmend import lql


@dataclass
class FakeLogging:
    """`entries` by anyone's project; `page` is the most that one answer holds, `refusals` come first."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    page: int = 1000
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[ListLogEntriesRequest] = field(default_factory=list)
    tree: dict[str, dict[str, list[dict[str, str]]]] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v2/entries:list", self._list, methods=["POST"]),
                Route("/v3/{kind}", self._below),
            ]
        )

    async def _list(self, request: Request) -> Response:
        if self.refusals:
            status, headers = self.refusals.pop(0)
            error = {"code": status, "message": "Quota exceeded for quota metric 'Read requests'"}
            return JSONResponse({"error": error}, status, headers)
        body = await request.body()
        asked = ListLogEntriesRequest.from_json(body.decode())
        self.asked.append(asked)
        selects = lql.compile(asked.filter)
        found = [
            each
            for each in self.entries
            if each["logName"].partition("/logs/")[0] in asked.resource_names and selects.matches(each)
        ]
        found.sort(key=lambda each: str(each["timestamp"]), reverse=asked.order_by.endswith("desc"))
        start = int(asked.page_token or 0)
        end = start + min(self.page, asked.page_size)
        answer: dict[str, Any] = {"entries": found[start:end]}
        if end < len(found):
            answer["nextPageToken"] = str(end)
        ListLogEntriesResponse.from_json(json.dumps(answer))
        return JSONResponse(answer)

    async def _below(self, request: Request) -> Response:
        below = self.tree.get(request.query_params["parent"], {})
        kind = request.path_params["kind"]
        every = below.get(kind, [])
        start = int(request.query_params.get("pageToken", 0))
        answer: dict[str, Any] = {kind: every[start : start + 1]}
        if start + 1 < len(every):
            answer["nextPageToken"] = str(start + 1)
        return JSONResponse(answer)
