"""Read entries from Cloud Logging with ``entries.list``, page by page, over plain REST.

A project allows 60 reads a minute (cloud.google.com/logging/quotas), so reading many entries involves 429s:
it waits and tries again. Folders and organizations do not contain the entries of the projects below them:
those projects are looked up with the Resource Manager and read individually.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from logmend.adapters.google.rest import HttpReply, Rest
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject

ENDPOINT = "https://logging.googleapis.com"
RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"
PAGE = 1000
PROJECTS = 100
"""The most resources that one request may name."""
TIMEOUT = 60.0

_PAUSES = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_LONGEST = 120.0
_FOLDERS = 10_000

Waiting = Callable[[float, str], None]
"""Called before a pause with its seconds and the reason."""


class LogEntries:
    """Reads entries. An ``http://`` endpoint gets no credentials. Close it when done.

    ``pauses`` are the seconds to wait before each further try if the API does not say how long. ``take`` is
    awaited before each request for entries, to keep to a quota of our own.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        resource_manager: str | None = None,
        *,
        waiting: Waiting = lambda _seconds, _why: None,
        pauses: Sequence[float] = _PAUSES,
        take: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._logging = Rest(endpoint or ENDPOINT, timeout=TIMEOUT, threads=2)
        self._folders = Rest(resource_manager or RESOURCE_MANAGER, timeout=TIMEOUT, threads=2)
        self._waiting = waiting
        self._pauses = tuple(pauses)
        self._take = take

    async def pages(
        self, resources: Sequence[str], where: str, *, newest_first: bool = False
    ) -> AsyncIterator[Sequence[JsonObject]]:
        """Yield the entries that the filter ``where`` selects, a page at a time, oldest first.

        ``resources`` are ``projects/P``; they are read in batches of a hundred.
        ``Permanent("not_permitted")`` names the role; ``Transient`` if the API stays unavailable.
        """
        for start in range(0, len(resources), PROJECTS):
            body: dict[str, object] = {
                "resourceNames": list(resources[start : start + PROJECTS]),
                "filter": where,
                "orderBy": "timestamp desc" if newest_first else "timestamp asc",
                "pageSize": PAGE,
            }
            while True:
                if self._take is not None:
                    await self._take()
                answer = await self._patiently(
                    self._logging, "POST", "/v2/entries:list", "roles/logging.viewer", body=body
                )
                yield _dicts(answer.get("entries"))
                if not (token := answer.get("nextPageToken")):
                    break
                body["pageToken"] = token

    async def projects(self, parent: str) -> list[str]:
        """Return the ids of the active projects below ``folders/F`` or ``organizations/O``, at any depth."""
        names: list[str] = []
        parents = [parent]
        for each in parents:  # grows while being iterated over
            below = self._below(each, "projects", "resourcemanager.projects.list")
            names += [str(project["projectId"]) async for project in below if _active(project)]
            async for folder in self._below(each, "folders", "resourcemanager.folders.list"):
                if _active(folder) and len(parents) < _FOLDERS:
                    parents.append(str(folder["name"]))
        return sorted(names)

    async def aclose(self) -> None:
        """Close connections."""
        await self._logging.aclose()
        await self._folders.aclose()

    async def _below(self, parent: str, kind: str, needs: str) -> AsyncIterator[JsonObject]:
        query = {"parent": parent, "pageSize": "300"}
        while True:
            role = f"{needs} (roles/browser)"
            answer = await self._patiently(self._folders, "GET", f"/v3/{kind}", role, query=query)
            for each in _dicts(answer.get(kind)):
                yield each
            if not (token := answer.get("nextPageToken")):
                return
            query["pageToken"] = str(token)

    async def _patiently(
        self,
        api: Rest,
        method: str,
        path: str,
        needs: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> JsonObject:
        for pause in (*self._pauses, None):
            try:
                answer: HttpReply = await api.call(method, path, query=query, body=body)
                if answer.ok:
                    return answer.json or {}
                error: Transient | Permanent = answer.error(needs=needs)
            except Transient as trouble:
                error = trouble
            if isinstance(error, Permanent) or pause is None:
                raise error
            seconds = min(error.retry_after or pause, _LONGEST)
            self._waiting(seconds, error.reason)
            await asyncio.sleep(seconds)
        raise AssertionError("unreachable")


def _active(document: JsonObject) -> bool:
    return document.get("state", "ACTIVE") == "ACTIVE" and ("projectId" in document or "name" in document)


def _dicts(value: object) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
