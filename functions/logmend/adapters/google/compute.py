"""Facts and labels of VMs from the Compute Engine API, over plain REST (docs/adr/0005-compute-over-rest.md).

A look-up makes three requests at once: for the instance (v1; its answer decides), for its partner metadata
(beta, ``view=FULL``, which the Python client does not support) and for the project's common metadata (cached
for a minute).

Look-ups that wait at the same time are combined (:mod:`.compute_look_ups`): one listing of the project for
the instances, and one per zone for partner metadata. Source: the discovery documents of 2026-11-06, in which
``instances.list`` has a ``view`` in beta only and ``aggregatedList`` has none. The filter's grammar allows
``id``, but no page shows it. Therefore, if a listing lacks a VM, it is looked up individually, and only that
look-up can say that it is gone. If the API refuses the listing, each VM is looked up individually.

========================  =================================================================================
response                  becomes
========================  =================================================================================
instance: 404             ``Permanent("instance_gone")``
instance: 403, 400        ``Permanent("opt_in_unknown")``; the detail names permission and role
project: 403, 404, 400    ``project_metadata`` None; the reason in ``unknown["project_metadata"]``
partner metadata: error   ``partner_namespaces`` None; the reason in ``unknown["partner_namespaces"]``
429, quota exceeded       ``Transient("rate_limited")``, with ``retry_after`` if the API gave it
5xx, none, unreadable     ``Transient("compute_unavailable")``, likewise
========================  =================================================================================
"""

import asyncio
import functools
import re
from collections.abc import Mapping
from urllib.parse import quote

from logmend import instance_json
from logmend.adapters.google.compute_answers import VIEWER, instance_of, readable, scopes, unavailable
from logmend.adapters.google.compute_calls import PROJECTS, READS, ComputeCalls, path_of
from logmend.adapters.google.compute_labels import Labels
from logmend.adapters.google.compute_look_ups import LIST, LookUps
from logmend.adapters.google.groups import GroupHealth
from logmend.adapters.google.kept import Answers
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct, replace
from logmend.model.values import Group, InstanceFacts, InstanceRef

PROJECT_TTL = 60.0
"""Seconds for which a project's common metadata is cached."""

GUEST_ATTRIBUTES_POLICY = "constraints/compute.disableGuestAttributesAccess"
"""The organization policy that prevents reading and writing guest attributes."""

NOT_ASKED = "not asked for"

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Listing(Struct, frozen=True):
    """A project's instances; ``unreachable`` names the zones that did not answer."""

    instances: tuple[InstanceFacts, ...]
    unreachable: tuple[str, ...] = ()


class ComputeApi:
    """The Compute Engine API; see :class:`logmend.ports.Compute`.

    ``endpoint`` replaces the public one, without ``/compute/v1``; an ``http://`` one gets no credentials.
    ``reads`` is how many read calls a minute are allowed per project. Further calls wait up to
    :data:`.compute_calls.PATIENCE` seconds; if that is not enough they get ``Transient("rate_limited")``
    with the seconds left.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        connect_timeout: float = 5.0,
        timeout: float = 15.0,
        reads: int = READS,
    ) -> None:
        self._calls = ComputeCalls(endpoint, connect_timeout=connect_timeout, timeout=timeout, reads=reads)
        self._look_ups = LookUps(self._calls)
        self._labels = Labels(self._calls, self._look_ups)
        self._projects = Answers[Mapping[str, str] | str](PROJECTS)
        self._groups = GroupHealth(self._listed_by_group)

    async def facts(self, ref: InstanceRef) -> InstanceFacts:
        """Look up everything about a VM by its numeric id, in the time of one round trip.

        In a storm it waits up to another :data:`.compute_look_ups.PACE` seconds.
        """
        found, project = await asyncio.gather(
            self._look_ups(ref), self._project(ref.project_id), return_exceptions=True
        )
        if isinstance(found, BaseException):  # the instance's error takes precedence
            raise found
        if isinstance(project, BaseException):
            raise project
        document, partner = found
        facts = readable(lambda: instance_json.facts(document, ref.project_id, partner, project))
        if facts.ref != ref:
            raise Permanent("wrong_instance", f"asked for {ref}, the Compute API answered with {facts.ref}")
        return facts

    async def group(self, path: str, project_id: str) -> Group | None:
        """Return the size and the healthy VMs of a managed instance group; see :class:`GroupHealth`.

        ``project_id`` is the VM's project: the path comes from the VM and names the project by number.
        """
        return await self._groups(path, project_id)

    async def find(self, project_id: str, name: str, zone: str | None = None) -> tuple[InstanceFacts, ...]:
        """Look up VMs by name: one if the zone is given, else one per zone in which the name exists.

        For commands only: events name VMs by id. ``Permanent("instance_gone")`` if there is none.
        Partner and project metadata are not requested.
        """
        if not _NAME.fullmatch(name):
            raise Permanent("instance_gone", f"{name!r} is not a valid instance name")
        if zone is not None:
            path = f"/compute/v1/projects/{quote(project_id)}/zones/{quote(zone)}/instances/{name}"
            document = instance_of(await self._calls.read(project_id, path), name, by_operator=True)
            return (readable(lambda: instance_json.facts(document, project_id, NOT_ASKED, NOT_ASKED)),)
        found = await self.instances(project_id, where=f'name = "{name}"')
        if not found.instances:
            raise Permanent("instance_gone", f"project {project_id} has no instance {name}")
        return found.instances

    async def instances(self, project_id: str, *, where: str = "") -> Listing:
        """List a project's VMs in every zone; ``where`` is a filter of the API (``labels.env = "prod"``).

        Zones that do not answer are listed, not silently left out. Partner and project metadata are not
        requested. ``Permanent("not_permitted")`` names the permission; ``Transient("compute_unavailable")``.
        """
        path = f"/compute/v1/projects/{quote(project_id)}/aggregated/instances"
        query = {"returnPartialSuccess": "true", "maxResults": "200"} | ({"filter": where} if where else {})
        instances: list[InstanceFacts] = []
        unreachable: set[str] = set()
        while True:
            answer = await self._calls.read(project_id, path, query)
            if answer.status == 400 and "returnPartialSuccess" in query:
                del query["returnPartialSuccess"]  # Compute v1 no longer documents it
                continue
            page = instance_of(answer, f"project {project_id}", by_operator=True, needs=LIST)
            instances += readable(functools.partial(_page, page, project_id))
            unreachable |= {str(each).rpartition("/")[2] for each in page.get("unreachables") or ()}
            if not (token := page.get("nextPageToken")):
                return Listing(
                    tuple(sorted(instances, key=lambda each: each.ref)), tuple(sorted(unreachable))
                )
            query["pageToken"] = str(token)

    async def completed(self, facts: InstanceFacts) -> InstanceFacts:
        """Return facts from a listing with what only :meth:`facts` requests: partner and project metadata."""
        await self._calls.take(facts.ref.project_id)
        partner, project = await asyncio.gather(
            self._look_ups.partner(facts.ref), self._project(facts.ref.project_id)
        )
        unknown = {"partner_namespaces": partner, "project_metadata": project}
        return replace(
            facts,
            partner_namespaces=partner if isinstance(partner, tuple) else None,
            project_metadata=None if isinstance(project, str) else project,
            unknown={field: why for field, why in unknown.items() if isinstance(why, str)},
        )

    async def guest_attributes(self, ref: InstanceRef, path: str) -> Mapping[str, str]:
        """Return the guest attributes below ``path`` (``hostkeys/``), key to value.

        ``Permanent("not_found")`` if there are none, ``Permanent("not_permitted")`` naming the permission,
        ``Permanent("guest_attributes_disabled")`` naming the organization policy that forbids them (412).
        """
        answer = await self._calls.read(
            ref.project_id, path_of(ref) + "/getGuestAttributes", {"queryPath": path}
        )
        if answer.status == 412:
            said = answer.error().detail
            raise Permanent("guest_attributes_disabled", f"{GUEST_ATTRIBUTES_POLICY} ({said})")
        if not answer.ok:
            error = answer.error(needs="compute.instances.getGuestAttributes (roles/compute.osLogin has it)")
            raise error if isinstance(error, Permanent) else unavailable(error)
        value = (answer.json or {}).get("queryValue") or {}
        return readable(lambda: {str(item["key"]): str(item["value"]) for item in value.get("items") or ()})

    async def set_label(self, facts: InstanceFacts, key: str, value: str | None) -> None:
        """Set one label, or remove it (None), by compare-and-swap; other labels are never lost.

        If it is set already, no call is made. ``Transient("conflict")`` if other writers kept winning,
        ``Permanent("not_permitted")`` naming the permission.
        """
        await self._labels.set_label(facts, key, value)

    async def aclose(self) -> None:
        """Close connections."""
        self._look_ups.close()
        await self._calls.aclose()

    async def _project(self, project_id: str) -> Mapping[str, str] | str:
        """Return a project's common metadata, or why it is unknown. Either is cached for a minute."""
        return await self._projects.get(project_id, lambda: self._project_read(project_id))

    async def _project_read(self, project_id: str) -> tuple[Mapping[str, str] | str, float]:
        answer = await self._calls.read(project_id, f"/compute/v1/projects/{quote(project_id)}")
        if answer.ok:
            document = answer.json or {}
            found = readable(lambda: instance_json.metadata(document.get("commonInstanceMetadata")))
            return found, PROJECT_TTL
        error = answer.error(needs=f"compute.projects.get ({VIEWER})")
        if isinstance(error, Transient):
            raise unavailable(error)
        return str(error), PROJECT_TTL

    async def _listed_by_group(self, project_id: str, path: str, query: Mapping[str, str]) -> JsonObject:
        """List a group's VMs within the read quota, although the method is POST."""
        await self._calls.take(project_id)
        answer = await self._calls.call("POST", path, query)
        if answer.ok:
            return answer.json or {}
        error = answer.error(needs="compute.instanceGroupManagers.get")
        raise error if isinstance(error, Permanent) else unavailable(error)


def _page(page: JsonObject, project_id: str) -> list[InstanceFacts]:
    return [
        instance_json.facts(document, project_id, NOT_ASKED, NOT_ASKED)
        for group in scopes(page)
        for document in group
    ]
