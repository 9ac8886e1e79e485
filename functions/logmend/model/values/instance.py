"""A VM's identity, and what the Compute API says about it."""

import re
from collections.abc import Mapping

from logmend.model.struct import Struct, field


class InstanceRef(Struct, frozen=True, order=True):
    """Identity of a VM: the only three values that are trusted to identify it.

    Create it with :func:`logmend.stages.identify.instance`, which validates all three.
    """

    project_id: str
    zone: str
    instance_id: str

    def __str__(self) -> str:
        """Return ``PROJECT/ZONE/INSTANCE_ID``, as commands accept and print it."""
        return f"{self.project_id}/{self.zone}/{self.instance_id}"

    @property
    def region(self) -> str:
        """Return the zone without its last part: ``us-west1`` for ``us-west1-a``."""
        return self.zone.rpartition("-")[0]


class Lineage(Struct, frozen=True):
    """What a VM was made from, as far as its own look-up says; None means unknown.

    ``group`` and ``template`` are paths (``projects/…``) that a managed instance group leaves in the metadata
    of its VMs, ``image`` the first licence that the image gave the boot disk, ``PROJECT/NAME``.
    """

    group: str | None = None
    template: str | None = None
    image: str | None = None


class Group(Struct, frozen=True):
    """A managed instance group: its actual or target size, its VMs' ids, and the healthy VMs' ids."""

    size: int
    members: frozenset[str]
    healthy: frozenset[str]


_GROUP = re.compile(r"projects/[\w.:-]{1,99}/(?:zones|regions)/[\w-]{1,63}/instanceGroupManagers/[\w-]{1,63}")

_TEMPLATE = re.compile(r"projects/[\w.:-]{1,99}/(?:global|regions/[\w-]{1,63})/instanceTemplates/[\w-]{1,63}")


class InstanceFacts(Struct, frozen=True):
    """What the Compute API says about a VM. None always means *unknown*, never *no*.

    ``metadata`` are the instance's own items, ``project_metadata`` the project's common ones.
    ``partner_namespaces`` are the namespaces of ``partnerMetadata`` (REST ``view=FULL`` only).
    ``licenses`` are those that the image gave the boot disk, ``PROJECT/NAME``; an instance names no image.
    ``unknown`` says why fields that were requested are missing.
    """

    ref: InstanceRef
    name: str
    status: str
    labels: Mapping[str, str] = field(default_factory=dict)
    label_fingerprint: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    project_metadata: Mapping[str, str] | None = None
    identity_certificate_enabled: bool | None = None
    partner_namespaces: tuple[str, ...] | None = None
    internal_ip: str | None = None
    external_ip: str | None = None
    service_account: str | None = None
    licenses: tuple[str, ...] | None = None
    machine_type: str | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)

    def effective(self, key: str) -> str | None:
        """Return a metadata item's value as the guest sees it: the instance's own, else the project's."""
        own = self.metadata.get(key)
        return own if own is not None else (self.project_metadata or {}).get(key)

    @property
    def lineage(self) -> Lineage:
        """Return the group, template and image it was made from, the first two from its group's metadata."""
        group, template = self.metadata.get("created-by", ""), self.metadata.get("instance-template", "")
        return Lineage(
            group=group if _GROUP.fullmatch(group) else None,
            template=template if _TEMPLATE.fullmatch(template) else None,
            image=next(iter(self.licenses or ()), None),
        )
