"""Which VM is meant, and what the Compute API says of it."""

import re
from collections.abc import Mapping

from logmend.model.struct import Struct, field


class InstanceRef(Struct, frozen=True, order=True):
    """Identity of a VM: the only three things that are trusted to name it.

    Construct through :func:`logmend.stages.identify.instance`, which validates all three.
    """

    project_id: str
    zone: str
    instance_id: str

    def __str__(self) -> str:
        """``PROJECT/ZONE/INSTANCE_ID``, as commands take and print it."""
        return f"{self.project_id}/{self.zone}/{self.instance_id}"

    @property
    def region(self) -> str:
        """The zone without its last part: ``us-west1`` of ``us-west1-a``."""
        return self.zone.rpartition("-")[0]


class Lineage(Struct, frozen=True):
    """What a VM was made from, as far as its own look-up tells; None means that nothing is said of it.

    ``group`` and ``template`` are paths (``projects/…``) that a managed instance group leaves in the metadata
    of its VMs, ``image`` the first licence that the image gave the boot disk, ``PROJECT/NAME``.
    """

    group: str | None = None
    template: str | None = None
    image: str | None = None


class Group(Struct, frozen=True):
    """A managed instance group: how many VMs it has or is to have, their ids, and those of healthy ones."""

    size: int
    members: frozenset[str]
    healthy: frozenset[str]


_GROUP = re.compile(r"projects/[\w.:-]{1,99}/(?:zones|regions)/[\w-]{1,63}/instanceGroupManagers/[\w-]{1,63}")

_TEMPLATE = re.compile(r"projects/[\w.:-]{1,99}/(?:global|regions/[\w-]{1,63})/instanceTemplates/[\w-]{1,63}")


class InstanceFacts(Struct, frozen=True):
    """What the Compute API says of a VM. None always means *unknown*, never *no*.

    ``metadata`` are the instance's own items, ``project_metadata`` the project's common ones.
    ``partner_namespaces`` are the namespaces of ``partnerMetadata`` (REST ``view=FULL`` only).
    ``licenses`` are those that its image gave the boot disk, ``PROJECT/NAME``; an instance names no image.
    ``unknown`` says of fields that were asked for and not answered why not.
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
        """Value of a metadata item as the guest sees it: the instance's own, else the project's."""
        own = self.metadata.get(key)
        return own if own is not None else (self.project_metadata or {}).get(key)

    @property
    def lineage(self) -> Lineage:
        """Group, template and image that it was made from; the first two as its group wrote them down."""
        group, template = self.metadata.get("created-by", ""), self.metadata.get("instance-template", "")
        return Lineage(
            group=group if _GROUP.fullmatch(group) else None,
            template=template if _TEMPLATE.fullmatch(template) else None,
            image=next(iter(self.licenses or ()), None),
        )
