"""Managed instance groups: which VMs they have, and which of those are healthy.

One call lists a group's VMs, with the group's current action on each and its health checks' results. It needs
the permission ``compute.instanceGroupManagers.get`` (``instanceGroupManagers.listManagedInstances`` in the
reference, 2026-11; the page for the regional method was not found, so its permission is inferred). A result
is cached for a while, and concurrent callers wait for the same one. If the API is unavailable or the quota is
used up, the callers get that error, and it is not cached.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from logmend.adapters.google.compute_answers import readable
from logmend.adapters.google.kept import Answers
from logmend.errors import Permanent
from logmend.model.json import JsonObject
from logmend.model.values import Group

log = logging.getLogger(__name__)

TTL = 30.0
"""Seconds for which a result is cached. The ledger knows how many VMs are being worked on."""
UNKNOWN_TTL = 60.0
"""Seconds until a group that may not be read or does not exist is requested again."""
KEPT = 2000
PAGE = "500"
"""VMs per page: the maximum. The API only paginates if the group is configured for it."""

_LEAVING = frozenset({"DELETING", "ABANDONING"})


class GroupHealth:
    """Reads groups; concurrent callers share one request per group."""

    def __init__(self, ask: Callable[[str, str, Mapping[str, str]], Awaitable[JsonObject]]) -> None:
        self._ask = ask
        self._kept = Answers[Group | None](KEPT)

    async def __call__(self, path: str, project_id: str) -> Group | None:
        """Return the VMs of ``projects/…/instanceGroupManagers/NAME``; None if they may not be known.

        ``Transient``, for every waiting caller, if the API does not answer now. ``project_id`` is the project
        whose quota is used.
        """
        return await self._kept.get(path, lambda: self._read(path, project_id))

    async def _read(self, path: str, project_id: str) -> tuple[Group | None, float]:
        try:
            pages = await self._pages(path, project_id)
        except Permanent as error:
            log.warning("size and health of %s are not known: %s", path, error)
            return None, UNKNOWN_TTL
        return readable(lambda: _group(pages)), TTL

    async def _pages(self, path: str, project_id: str) -> list[JsonObject]:
        query, pages = {"maxResults": PAGE}, list[JsonObject]()
        while True:
            page = await self._ask(project_id, f"/compute/v1/{quote(path)}/listManagedInstances", query)
            pages.append(page)
            if not (token := page.get("nextPageToken")):
                return pages
            query["pageToken"] = str(token)


def _group(pages: list[JsonObject]) -> Group:
    listed = [each for page in pages for each in page.get("managedInstances") or ()]
    staying = [each for each in listed if each.get("currentAction") not in _LEAVING]
    ids = {str(each["id"]): each for each in staying if each.get("id")}
    return Group(
        len(staying), frozenset(ids), frozenset(name for name, each in ids.items() if _healthy(each))
    )


def _healthy(instance: JsonObject) -> bool:
    """Return whether a VM runs, has no action of the group pending, and passes all health checks, if any."""
    checks = instance.get("instanceHealth") or ()
    return (
        instance.get("instanceStatus") == "RUNNING"
        and instance.get("currentAction", "NONE") == "NONE"
        and all(each.get("detailedHealthState") == "HEALTHY" for each in checks)
    )
