"""Facts and labels of VMs from the Compute Engine API, over plain REST (docs/adr/0005-compute-over-rest.md).

A look-up asks three things at once: the instance (v1, the one that decides), its partner metadata (beta,
``view=FULL``, which the Python client does not know) and the project's common metadata (kept for a minute).

Look-ups that wait at the same time are asked together (:data:`PACE`): one listing of the project for the
instances, one for each zone for partner metadata. Source: the discovery documents of 2026-11-06, which give
``instances.list`` a ``view`` in beta only and ``aggregatedList`` none. That the filter takes ``id`` follows
from its grammar, but no page shows it. So a VM that a listing does not name is looked up by itself, and only
that look-up can say that it is gone; an API that refuses the listing is asked for each VM alone.

========================  =================================================================================
answer                    becomes
========================  =================================================================================
instance: 404             ``Permanent("instance_gone")``
instance: 403, 400        ``Permanent("opt_in_unknown")``, the detail names permission and role
project: 403, 404, 400    ``project_metadata`` None, the reason in ``unknown["project_metadata"]``
partner metadata: any no  ``partner_namespaces`` None, the reason in ``unknown["partner_namespaces"]``
429, a used-up quota      ``Transient("rate_limited")`` with ``retry_after`` if the API said so
5xx, none, garbage        ``Transient("compute_unavailable")``, likewise
========================  =================================================================================
"""

import asyncio
import functools
import logging
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from logmend import instance_json
from logmend.adapters.google.compute_answers import VIEWER, instance_of, readable, unavailable
from logmend.adapters.google.groups import GroupHealth
from logmend.adapters.google.kept import Answers
from logmend.adapters.google.quota import Quota
from logmend.adapters.google.rest import HttpReply, Rest
from logmend.adapters.google.together import Together
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct, replace
from logmend.model.values import Group, InstanceFacts, InstanceRef

log = logging.getLogger(__name__)

Looked = tuple[JsonObject, tuple[str, ...] | str]
"""An instance's document, and the namespaces of its partner metadata or why they are not known."""

ENDPOINT = "https://compute.googleapis.com"
LIST = "compute.instances.list"

PROJECT_TTL = 60.0
"""Seconds for which a project's common metadata is taken as read."""
_PROJECTS = 256

GUEST_ATTRIBUTES_POLICY = "constraints/compute.disableGuestAttributesAccess"
"""The organization policy under which guest attributes can neither be read nor written."""

READS = 1_500
"""Calls a minute that read, of one project: the quota that a project has by default, shared with everything
else that reads there (cloud.google.com/compute/api-quota; each group of methods has its own, per project)."""
PATIENCE = 2.0
"""Seconds that a call waits for its place in that quota, before it is refused. A VM and its group are read
one after the other at the commit point: both waits must leave the facts young enough to enforce on."""

PACE = 0.25
"""Seconds between two calls in a storm; VMs that come meanwhile are asked for together."""
TOGETHER = 100
"""VMs in one listing: with their ids the address has some 4,000 characters."""
ALONE_FOR = 600.0
"""Seconds for which a project's VMs are looked up one by one after its listing was refused."""

PARTNER_TIMEOUT = 5.0
"""Seconds that partner metadata may take; a look-up does not wait for it any longer."""
NOT_ASKED = "not asked for"

_SWAPS = 5
_POLLS = (0.2, 0.5, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0)
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Listing(Struct, frozen=True):
    """Instances of a project; ``unreachable`` names the zones that did not answer."""

    instances: tuple[InstanceFacts, ...]
    unreachable: tuple[str, ...] = ()


class ComputeApi:
    """The Compute Engine API; see :class:`logmend.ports.Compute`.

    ``endpoint`` replaces the public one, without ``/compute/v1``; an ``http://`` one gets no credentials.
    ``reads`` is how many calls a minute may read from one project: who comes later waits for :data:`PATIENCE`
    seconds, and is then told ``Transient("rate_limited")`` with the seconds left.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        connect_timeout: float = 5.0,
        timeout: float = 15.0,
        reads: int = READS,
    ) -> None:
        self._rest = Rest(endpoint or ENDPOINT, connect_timeout=connect_timeout, timeout=timeout)
        self._projects = Answers[Mapping[str, str] | str](_PROJECTS)
        self._quotas: dict[str, Quota] = {}
        self._reads = reads
        self._together = Together(self._looked_up, pace=PACE)
        self._alone_until: dict[str, float] = {}
        self._groups = GroupHealth(self._listed_by_group)

    async def facts(self, ref: InstanceRef) -> InstanceFacts:
        """Look a VM up by its numeric id; all there is to know of it, in one round trip's time.

        In a storm it waits up to :data:`PACE` seconds more.
        """
        found, project = await asyncio.gather(
            self._together(ref), self._project(ref.project_id), return_exceptions=True
        )
        if isinstance(found, BaseException):  # the instance's no counts before the project's
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

        ``project_id`` is the VM's: the path is the VM's own word, and names the project by its number.
        """
        return await self._groups(path, project_id)

    async def find(self, project_id: str, name: str, zone: str | None = None) -> tuple[InstanceFacts, ...]:
        """Look VMs up by name: one if the zone is given, else one for each zone that has that name.

        For commands only: events name VMs by id. ``Permanent("instance_gone")`` if there is none;
        partner and project metadata are not asked for.
        """
        if not _NAME.fullmatch(name):
            raise Permanent("instance_gone", f"{name!r} is no name of an instance")
        if zone is not None:
            path = f"/compute/v1/projects/{quote(project_id)}/zones/{quote(zone)}/instances/{name}"
            document = instance_of(await self._read(project_id, path), name, by_operator=True)
            return (readable(lambda: instance_json.facts(document, project_id, NOT_ASKED, NOT_ASKED)),)
        found = await self.instances(project_id, where=f'name = "{name}"')
        if not found.instances:
            raise Permanent("instance_gone", f"project {project_id} has no instance {name}")
        return found.instances

    async def instances(self, project_id: str, *, where: str = "") -> Listing:
        """List a project's VMs in every zone; ``where`` is a filter of the API (``labels.env = "prod"``).

        Zones that do not answer are named rather than left out in silence. Partner and project metadata are
        not asked for. ``Permanent("not_permitted")`` naming the permission, ``compute_unavailable``.
        """
        path = f"/compute/v1/projects/{quote(project_id)}/aggregated/instances"
        query = {"returnPartialSuccess": "true", "maxResults": "200"} | ({"filter": where} if where else {})
        instances: list[InstanceFacts] = []
        unreachable: set[str] = set()
        while True:
            answer = await self._read(project_id, path, query)
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
        """Add to facts out of a listing what only :meth:`facts` asks for: partner and project metadata."""
        await self._quota(facts.ref.project_id).take(PATIENCE)
        partner, project = await asyncio.gather(self._partner(facts.ref), self._project(facts.ref.project_id))
        unknown = {"partner_namespaces": partner, "project_metadata": project}
        return replace(
            facts,
            partner_namespaces=partner if isinstance(partner, tuple) else None,
            project_metadata=None if isinstance(project, str) else project,
            unknown={field: why for field, why in unknown.items() if isinstance(why, str)},
        )

    async def guest_attributes(self, ref: InstanceRef, path: str) -> Mapping[str, str]:
        """Read guest attributes below ``path`` (``hostkeys/``), key to value.

        ``Permanent("not_found")`` if there are none, ``Permanent("not_permitted")`` naming the permission,
        ``Permanent("guest_attributes_disabled")`` naming the organization policy that forbids them (412).
        """
        answer = await self._read(ref.project_id, _path(ref) + "/getGuestAttributes", {"queryPath": path})
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

        Already so: nothing is called. ``Transient("conflict")`` if others kept winning,
        ``Permanent("not_permitted")`` naming the permission.
        """
        labels, fingerprint = facts.labels, facts.label_fingerprint
        for _ in range(_SWAPS):
            if not fingerprint:
                await self._quota(facts.ref.project_id).take(PATIENCE)
                document = await self._instance(facts.ref)
                labels, fingerprint = readable(functools.partial(instance_json.labels, document))
            if labels.get(key) == value:
                return
            wanted = {name: text for name, text in labels.items() if name != key}
            if value is not None:
                wanted[key] = value
            body = {"labels": wanted, "labelFingerprint": fingerprint}
            answer = await self._call("POST", _path(facts.ref) + "/setLabels", body=body)
            if answer.ok:
                await self._done(facts.ref, answer.json or {})
                return
            error = answer.error(needs="compute.instances.setLabels")
            if answer.status == 404:
                raise Permanent("instance_gone", error.detail)
            if answer.status != 412:
                raise error if isinstance(error, Permanent) else unavailable(error)
            fingerprint = ""
        raise Transient("conflict", f"the labels of {facts.ref} change faster than they can be swapped")

    async def aclose(self) -> None:
        """Close connections."""
        self._together.close()
        await self._rest.aclose()

    async def _looked_up(self, refs: Sequence[InstanceRef]) -> Mapping[InstanceRef, Looked | Exception]:
        """Look VMs up that wait at the same time: by project in one listing, or one by one."""
        groups: dict[str, list[InstanceRef]] = {}
        for ref in refs:
            groups.setdefault(ref.project_id, []).append(ref)
        parts = [
            (project_id, group[start : start + TOGETHER])
            for project_id, group in groups.items()
            for start in range(0, len(group), TOGETHER)
        ]
        answers = await asyncio.gather(*(self._part(*part) for part in parts))
        return {ref: answer for each in answers for ref, answer in each.items()}

    async def _part(
        self, project_id: str, refs: Sequence[InstanceRef]
    ) -> Mapping[InstanceRef, Looked | Exception]:
        clock = asyncio.get_running_loop().time
        listed: Mapping[InstanceRef, Looked] = {}
        if len(refs) > 1 and clock() >= self._alone_until.get(project_id, 0.0):
            try:
                listed = await self._listed(project_id, refs)
            except Transient as error:  # asking for each of them now would make it worse
                return dict.fromkeys(refs, error)
            except Permanent as error:
                log.warning(
                    "VMs of project %s are looked up one by one for %g s: %s", project_id, ALONE_FOR, error
                )
                self._alone_until[project_id] = clock() + ALONE_FOR
                while len(self._alone_until) > _PROJECTS:
                    self._alone_until.pop(next(iter(self._alone_until)))
        rest = [ref for ref in refs if ref not in listed]
        answers = await asyncio.gather(*(self._alone(ref) for ref in rest))
        return {**listed, **dict(zip(rest, answers, strict=True))}

    async def _alone(self, ref: InstanceRef) -> Looked | Exception:
        try:
            await self._quota(ref.project_id).take(PATIENCE, 2)
        except Transient as error:
            return error
        document, partner = await asyncio.gather(
            self._instance(ref), self._partner(ref), return_exceptions=True
        )
        if isinstance(document, Exception):
            return document
        if isinstance(document, BaseException):
            raise document
        return document, str(partner) if isinstance(partner, BaseException) else partner

    async def _listed(self, project_id: str, refs: Sequence[InstanceRef]) -> Mapping[InstanceRef, Looked]:
        """Return what a listing names of these VMs; the first page has them all, or they are left out."""
        path = f"/compute/v1/projects/{quote(project_id)}/aggregated/instances"
        zones: dict[str, list[InstanceRef]] = {}
        for ref in refs:
            zones.setdefault(ref.zone, []).append(ref)
        query = {"filter": _ids(refs), "maxResults": str(TOGETHER)}
        await self._quota(project_id).take(PATIENCE, 1 + len(zones))
        answer, partners = await asyncio.gather(
            self._call("GET", path, query),
            asyncio.gather(*(self._partners(project_id, *each) for each in zones.items())),
        )
        page = instance_of(answer, f"project {project_id}", by_operator=True, needs=LIST)
        known = {ref: partner for each in partners for ref, partner in each.items()}
        documents = readable(lambda: [each for group in _scopes(page) for each in group])
        named = {readable(functools.partial(_ref, project_id, each)): each for each in documents}
        return {ref: (named[ref], known[ref]) for ref in refs if ref in named and ref in known}

    async def _partners(
        self, project_id: str, zone: str, refs: Sequence[InstanceRef]
    ) -> Mapping[InstanceRef, tuple[str, ...] | str]:
        """Return the partner metadata of VMs of one zone, or why it is not known; see :meth:`_partner`."""
        if len(refs) == 1:
            return {refs[0]: await self._partner(refs[0])}
        path = f"/compute/beta/projects/{quote(project_id)}/zones/{quote(zone)}/instances"
        query = {
            "view": "FULL",
            "fields": "items(id,partnerMetadata)",
            "filter": _ids(refs),
            "maxResults": str(TOGETHER),
        }
        answer = await self._best_effort(path, query)
        if isinstance(answer, str):
            return dict.fromkeys(refs, answer)
        if not answer.ok:
            error = answer.error(needs=f"{LIST} ({VIEWER})")
            if isinstance(error, Permanent):
                raise error  # each VM alone may still be answered for
            return dict.fromkeys(refs, str(error))
        page = answer.json or {}
        try:
            named = {str(each["id"]): _namespaces(each) for each in page.get("items") or ()}
        except (AttributeError, KeyError, TypeError) as error:
            return dict.fromkeys(refs, f"the listing cannot be read: {type(error).__name__}: {error}")
        return {ref: named[ref.instance_id] for ref in refs if ref.instance_id in named}

    async def _instance(self, ref: InstanceRef) -> JsonObject:
        return instance_of(await self._call("GET", _path(ref)), str(ref))

    async def _partner(self, ref: InstanceRef) -> tuple[str, ...] | str:
        """Namespaces of the partner metadata, or why they are not known.

        The field mask makes an API that lacks the field say so (400) instead of leaving it out.
        """
        query = {"view": "FULL", "fields": "partnerMetadata"}
        answer = await self._best_effort(_path(ref, "beta"), query)
        if isinstance(answer, str):
            return answer
        return _namespaces(answer.json or {}) if answer.ok else str(answer.error(needs=VIEWER))

    async def _best_effort(self, path: str, query: Mapping[str, str]) -> HttpReply | str:
        """Return an answer, or say why there is none; a look-up waits no longer than this for it.

        Its place in the quota is taken with that of what it goes with.
        """
        try:
            async with asyncio.timeout(PARTNER_TIMEOUT):
                return await self._rest.call("GET", path, query=query)
        except (Transient, Permanent) as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {PARTNER_TIMEOUT:g} s"

    async def _project(self, project_id: str) -> Mapping[str, str] | str:
        """Return a project's common metadata, or why it is not known; either for a minute."""
        return await self._projects.get(project_id, lambda: self._project_read(project_id))

    async def _project_read(self, project_id: str) -> tuple[Mapping[str, str] | str, float]:
        answer = await self._read(project_id, f"/compute/v1/projects/{quote(project_id)}")
        if answer.ok:
            document = answer.json or {}
            found = readable(lambda: instance_json.metadata(document.get("commonInstanceMetadata")))
            return found, PROJECT_TTL
        error = answer.error(needs=f"compute.projects.get ({VIEWER})")
        if isinstance(error, Transient):
            raise unavailable(error)
        return str(error), PROJECT_TTL

    async def _read(self, project_id: str, path: str, query: Mapping[str, str] | None = None) -> HttpReply:
        """Read, once it has a place in the project's quota; looking up VMs takes its places itself."""
        await self._quota(project_id).take(PATIENCE)
        return await self._call("GET", path, query)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: JsonObject | None = None,
    ) -> HttpReply:
        try:
            return await self._rest.call(method, path, query=query, body=body)
        except Transient as error:
            raise unavailable(error) from error

    async def _listed_by_group(self, project_id: str, path: str, query: Mapping[str, str]) -> JsonObject:
        """List a group's VMs, within the quota as whatever reads; the method is POST all the same."""
        await self._quota(project_id).take(PATIENCE)
        answer = await self._call("POST", path, query)
        if answer.ok:
            return answer.json or {}
        error = answer.error(needs="compute.instanceGroupManagers.get")
        raise error if isinstance(error, Permanent) else unavailable(error)

    def _quota(self, project_id: str) -> Quota:
        """Return the quota of a project; that of the least recently used is forgotten."""
        quota = self._quotas.pop(project_id, None) or Quota(self._reads)
        self._quotas[project_id] = quota
        while len(self._quotas) > _PROJECTS:
            self._quotas.pop(next(iter(self._quotas)))
        return quota

    async def _done(self, ref: InstanceRef, operation: JsonObject) -> None:
        """Wait for a zone operation. Asking again for one that is not done in time finds it done."""
        for pause in (*_POLLS, 0.0):
            if operation.get("status") == "DONE":
                errors = (operation.get("error") or {}).get("errors") or ()
                if errors:
                    raise Transient(
                        "compute_unavailable", f"setLabels: {errors[0].get('message', errors[0])}"
                    )
                return
            await asyncio.sleep(pause)
            name = quote(str(operation.get("name", "")), safe="")
            path = f"/compute/v1/projects/{quote(ref.project_id)}/zones/{ref.zone}/operations/{name}"
            answer = await self._read(ref.project_id, path)
            if not answer.ok:
                raise unavailable(answer.error(needs="compute.zoneOperations.get"))
            operation = answer.json or {}
        raise Transient("compute_unavailable", "setLabels is accepted, but not done yet")


def _path(ref: InstanceRef, version: str = "v1") -> str:
    return f"/compute/{version}/projects/{quote(ref.project_id)}/zones/{ref.zone}/instances/{ref.instance_id}"


def _ids(refs: Sequence[InstanceRef]) -> str:
    """Select VMs by their numeric ids, which are digits and nothing else."""
    return " OR ".join(f"(id = {ref.instance_id})" for ref in refs)


def _ref(project_id: str, document: JsonObject) -> InstanceRef:
    return InstanceRef(project_id, str(document["zone"]).rpartition("/")[2], str(document["id"]))


def _namespaces(document: JsonObject) -> tuple[str, ...] | str:
    namespaces = document.get("partnerMetadata") or {}
    if not isinstance(namespaces, Mapping):
        return "partnerMetadata is not an object"
    return tuple(sorted(namespaces))


def _scopes(page: JsonObject) -> list[Sequence[JsonObject]]:
    return [scope.get("instances", ()) for scope in page.get("items", {}).values()]


def _page(page: JsonObject, project_id: str) -> list[InstanceFacts]:
    return [
        instance_json.facts(document, project_id, NOT_ASKED, NOT_ASKED)
        for group in _scopes(page)
        for document in group
    ]
