"""Look up VMs, together if many wait at the same time; see :mod:`logmend.adapters.google.compute`."""

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from logmend.adapters.google.compute_answers import VIEWER, instance_of, readable, scopes
from logmend.adapters.google.compute_calls import PROJECTS, ComputeCalls, path_of
from logmend.adapters.google.rest import HttpReply
from logmend.adapters.google.together import Together
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.values import InstanceRef

log = logging.getLogger(__name__)

Looked = tuple[JsonObject, tuple[str, ...] | str]
"""An instance's document, and the namespaces of its partner metadata or why they are unknown."""

LIST = "compute.instances.list"

PACE = 0.25
"""Seconds between two calls in a storm. VMs requested in the meantime are looked up together."""
TOGETHER = 100
"""VMs in one listing. Their ids make a URL of about 4,000 characters."""
ALONE_FOR = 600.0
"""Seconds for which a project's VMs are looked up individually after a listing was refused."""

PARTNER_TIMEOUT = 5.0
"""Seconds that a look-up waits for partner metadata."""


class LookUps:
    """Looks up VMs' documents and partner metadata; see the module on what is requested together."""

    def __init__(self, calls: ComputeCalls) -> None:
        self._calls = calls
        self._together = Together(self._looked_up, pace=PACE)
        self._alone_until: dict[str, float] = {}

    async def __call__(self, ref: InstanceRef) -> Looked:
        """Look up one VM; in a storm it waits up to another :data:`PACE` seconds."""
        return await self._together(ref)

    def close(self) -> None:
        """Make no more calls."""
        self._together.close()

    async def _looked_up(self, refs: Sequence[InstanceRef]) -> Mapping[InstanceRef, Looked | Exception]:
        """Look up VMs that wait at the same time: in one listing per project, or individually."""
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
            except Transient as error:  # individual calls now would make it worse
                return dict.fromkeys(refs, error)
            except Permanent as error:
                log.warning(
                    "VMs of project %s are looked up one by one for %g s: %s", project_id, ALONE_FOR, error
                )
                self._alone_until[project_id] = clock() + ALONE_FOR
                while len(self._alone_until) > PROJECTS:
                    self._alone_until.pop(next(iter(self._alone_until)))
        rest = [ref for ref in refs if ref not in listed]
        answers = await asyncio.gather(*(self._alone(ref) for ref in rest))
        return {**listed, **dict(zip(rest, answers, strict=True))}

    async def _alone(self, ref: InstanceRef) -> Looked | Exception:
        try:
            await self._calls.take(ref.project_id, 2)
        except Transient as error:
            return error
        document, partner = await asyncio.gather(
            self.instance(ref), self.partner(ref), return_exceptions=True
        )
        if isinstance(document, Exception):
            return document
        if isinstance(document, BaseException):
            raise document
        return document, str(partner) if isinstance(partner, BaseException) else partner

    async def _listed(self, project_id: str, refs: Sequence[InstanceRef]) -> Mapping[InstanceRef, Looked]:
        """Return those of these VMs that are on a listing's first page."""
        path = f"/compute/v1/projects/{quote(project_id)}/aggregated/instances"
        zones: dict[str, list[InstanceRef]] = {}
        for ref in refs:
            zones.setdefault(ref.zone, []).append(ref)
        query = {"filter": _ids(refs), "maxResults": str(TOGETHER)}
        await self._calls.take(project_id, 1 + len(zones))
        answer, partners = await asyncio.gather(
            self._calls.call("GET", path, query),
            asyncio.gather(*(self._partners(project_id, *each) for each in zones.items())),
        )
        page = instance_of(answer, f"project {project_id}", by_operator=True, needs=LIST)
        known = {ref: partner for each in partners for ref, partner in each.items()}
        documents = readable(lambda: [each for group in scopes(page) for each in group])
        named = {readable(functools.partial(_ref, project_id, each)): each for each in documents}
        return {ref: (named[ref], known[ref]) for ref in refs if ref in named and ref in known}

    async def _partners(
        self, project_id: str, zone: str, refs: Sequence[InstanceRef]
    ) -> Mapping[InstanceRef, tuple[str, ...] | str]:
        """Return the partner metadata of VMs in one zone, or why it is unknown; see :meth:`partner`."""
        if len(refs) == 1:
            return {refs[0]: await self.partner(refs[0])}
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
                raise error  # individual look-ups may still succeed
            return dict.fromkeys(refs, str(error))
        page = answer.json or {}
        try:
            named = {str(each["id"]): _namespaces(each) for each in page.get("items") or ()}
        except (AttributeError, KeyError, TypeError) as error:
            return dict.fromkeys(refs, f"the listing cannot be read: {type(error).__name__}: {error}")
        return {ref: named[ref.instance_id] for ref in refs if ref.instance_id in named}

    async def instance(self, ref: InstanceRef) -> JsonObject:
        """Look up one VM individually, its place being taken already; ``Permanent`` if it does not exist."""
        return instance_of(await self._calls.call("GET", path_of(ref)), str(ref))

    async def partner(self, ref: InstanceRef) -> tuple[str, ...] | str:
        """Return the namespaces of the partner metadata, or why they are unknown.

        With the field mask, an API that lacks the field answers 400 instead of omitting it.
        """
        query = {"view": "FULL", "fields": "partnerMetadata"}
        answer = await self._best_effort(path_of(ref, "beta"), query)
        if isinstance(answer, str):
            return answer
        return _namespaces(answer.json or {}) if answer.ok else str(answer.error(needs=VIEWER))

    async def _best_effort(self, path: str, query: Mapping[str, str]) -> HttpReply | str:
        """Return the response, or why there is none, within :data:`PARTNER_TIMEOUT`.

        Its place in the quota is taken together with the one for the instance.
        """
        try:
            async with asyncio.timeout(PARTNER_TIMEOUT):
                return await self._calls.rest.call("GET", path, query=query)
        except (Transient, Permanent) as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {PARTNER_TIMEOUT:g} s"


def _ids(refs: Sequence[InstanceRef]) -> str:
    """Return a filter that selects VMs by their numeric ids, which consist of digits only."""
    return " OR ".join(f"(id = {ref.instance_id})" for ref in refs)


def _ref(project_id: str, document: JsonObject) -> InstanceRef:
    return InstanceRef(project_id, str(document["zone"]).rpartition("/")[2], str(document["id"]))


def _namespaces(document: JsonObject) -> tuple[str, ...] | str:
    namespaces = document.get("partnerMetadata") or {}
    if not isinstance(namespaces, Mapping):
        return "partnerMetadata is not an object"
    return tuple(sorted(namespaces))
