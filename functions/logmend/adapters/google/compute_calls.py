"""Calls to the Compute API within each project's quota; see :mod:`logmend.adapters.google.compute`."""

from collections.abc import Mapping
from urllib.parse import quote

from logmend.adapters.google.compute_answers import unavailable
from logmend.adapters.google.quota import Quota
from logmend.adapters.google.rest import HttpReply, Rest
from logmend.errors import Transient
from logmend.model.json import JsonObject
from logmend.model.values import InstanceRef

ENDPOINT = "https://compute.googleapis.com"

READS = 1_500
"""Read calls a minute per project: a project's default quota, shared with everything else that reads there
(cloud.google.com/compute/api-quota; each group of methods has its own quota per project)."""
PATIENCE = 2.0
"""Seconds that a call waits for a place in that quota before it is refused. A VM and its group are read one
after the other at the commit point: after both waits the facts must still be fresh enough to enforce."""

PROJECTS = 256
"""How many projects are remembered."""


class ComputeCalls:
    """Makes calls. ``reads`` is how many read calls a minute are allowed per project."""

    def __init__(self, endpoint: str | None, *, connect_timeout: float, timeout: float, reads: int) -> None:
        self.rest = Rest(endpoint or ENDPOINT, connect_timeout=connect_timeout, timeout=timeout)
        self._quotas: dict[str, Quota] = {}
        self._reads = reads

    async def take(self, project_id: str, calls: int = 1) -> None:
        """Wait for places in a project's quota; ``Transient("rate_limited")`` if that takes too long."""
        await self._quota(project_id).take(PATIENCE, calls)

    async def read(self, project_id: str, path: str, query: Mapping[str, str] | None = None) -> HttpReply:
        """Read once there is a place in the project's quota. VM look-ups take their places themselves."""
        await self.take(project_id)
        return await self.call("GET", path, query)

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: JsonObject | None = None,
    ) -> HttpReply:
        """Make one call, for which the caller has taken a place. ``Transient`` names the API."""
        try:
            return await self.rest.call(method, path, query=query, body=body)
        except Transient as error:
            raise unavailable(error) from error

    async def aclose(self) -> None:
        """Close connections."""
        await self.rest.aclose()

    def _quota(self, project_id: str) -> Quota:
        """Return a project's quota. The least recently used one is forgotten."""
        quota = self._quotas.pop(project_id, None) or Quota(self._reads)
        self._quotas[project_id] = quota
        while len(self._quotas) > PROJECTS:
            self._quotas.pop(next(iter(self._quotas)))
        return quota


def path_of(ref: InstanceRef, version: str = "v1") -> str:
    """Return a VM's path in the API."""
    return f"/compute/{version}/projects/{quote(ref.project_id)}/zones/{ref.zone}/instances/{ref.instance_id}"
