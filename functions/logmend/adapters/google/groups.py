"""Managed instance groups: which VMs they have, and which of those are healthy.

One call lists a group's VMs, with what the group does to each and what its health checks say of it; it takes
the permission ``compute.instanceGroupManagers.get`` (``instanceGroupManagers.listManagedInstances`` in the
reference, 2026-11; the page of the regional method was not found, so that its permission is inferred). An
answer is kept for a while, and whoever asks meanwhile waits for the same. An API that is away, or a quota
that is used up, says nothing of a group: that is told to those who wait, and not kept.
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
"""Seconds for which an answer is taken as read. How many VMs are in hand is the ledger's to know."""
UNKNOWN_TTL = 60.0
"""Seconds until a group that may not be read, or is not there, is asked for again."""
KEPT = 2000
PAGE = "500"
"""VMs on a page, the most that there may be; the API pages only if the group says so."""

_LEAVING = frozenset({"DELETING", "ABANDONING"})


class GroupHealth:
    """Reads groups, each once for all who ask at the same time."""

    def __init__(self, ask: Callable[[str, str, Mapping[str, str]], Awaitable[JsonObject]]) -> None:
        self._ask = ask
        self._kept = Answers[Group | None](KEPT)

    async def __call__(self, path: str, project_id: str) -> Group | None:
        """Return what ``projects/…/instanceGroupManagers/NAME`` is made of; None if that may not be known.

        ``Transient`` if the API gives no answer now, to all who waited for it. ``project_id`` is whose quota
        it takes.
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
    """Return whether a VM runs, is let be, and is well by every health check; many groups have none."""
    checks = instance.get("instanceHealth") or ()
    return (
        instance.get("instanceStatus") == "RUNNING"
        and instance.get("currentAction", "NONE") == "NONE"
        and all(each.get("detailedHealthState") == "HEALTHY" for each in checks)
    )
