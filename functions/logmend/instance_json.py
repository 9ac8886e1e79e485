"""A Compute Engine instance in JSON to facts: as the API answers it, and as ``gcloud`` prints it. Pure.

Source: the reference of ``instances.get``; ``gcloud compute instances describe --format=json`` prints the
same document.
"""

from collections.abc import Mapping, Sequence

from logmend.model.json import JsonObject
from logmend.model.values import InstanceFacts, InstanceRef
from logmend.stages import identify


def facts(
    document: JsonObject,
    project_id: str,
    partner: tuple[str, ...] | str | None = None,
    project: Mapping[str, str] | str | None = None,
) -> InstanceFacts:
    """Read an instance. ``partner`` are the namespaces of its partner metadata, ``project`` its project's.

    Of either, a ``str`` says why it is not known, None that it was not asked for. A document of another shape
    than the documented one raises AttributeError, KeyError, TypeError or ValueError.
    """
    zone = str(document["zone"]).rpartition("/")[2]
    ref = identify.instance(project_id, zone, document["id"])
    if not isinstance(ref, InstanceRef):
        raise TypeError(ref.detail)
    identity = document.get("workloadIdentityConfig", {}).get("identityCertificateEnabled", False)
    if not isinstance(identity, bool):
        raise TypeError("identityCertificateEnabled is not a Boolean")
    named, fingerprint = labels(document)
    interface: JsonObject = next(iter(document.get("networkInterfaces", ())), {})
    access = [*interface.get("accessConfigs", ()), {}][0]
    account = [*document.get("serviceAccounts", ()), {}][0]
    unknown = {"partner_namespaces": partner, "project_metadata": project}
    return InstanceFacts(
        ref=ref,
        name=_string(document["name"]),
        status=_string(document["status"]),
        labels=named,
        label_fingerprint=fingerprint,
        metadata=metadata(document.get("metadata")),
        project_metadata=project if isinstance(project, Mapping) else None,
        identity_certificate_enabled=identity,
        partner_namespaces=partner if isinstance(partner, tuple) else None,
        internal_ip=interface.get("networkIP"),
        external_ip=access.get("natIP"),
        service_account=account.get("email"),
        licenses=_licenses(document.get("disks")),
        machine_type=str(document.get("machineType", "")).rpartition("/")[2] or None,
        unknown={field: why for field, why in unknown.items() if isinstance(why, str)},
    )


def described(document: Mapping[str, object]) -> InstanceFacts:
    """Read an instance that stands for itself in a file; its own links say which project it is of.

    Partner metadata counts if the document has it (``view=FULL``); project metadata is never in it, so it
    stays unasked. ValueError says in words what is wrong.
    """
    try:
        path = str(document.get("selfLink") or document["zone"]).partition("/projects/")[2]
        partner = document.get("partnerMetadata")
        namespaces = tuple(sorted(partner)) if isinstance(partner, Mapping) else None
        return facts({"labelFingerprint": "", **document}, path.partition("/")[0], namespaces)
    except KeyError as error:
        raise ValueError(f"not a Compute Engine instance: it has no {error.args[0]}") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not a Compute Engine instance: {error}") from error


def labels(document: JsonObject) -> tuple[Mapping[str, str], str]:
    """Return an instance's labels and their fingerprint."""
    named = {_string(key): _string(value) for key, value in document.get("labels", {}).items()}
    return named, _string(document["labelFingerprint"])


def metadata(document: JsonObject | None) -> Mapping[str, str]:
    """Return the items of a ``Metadata`` as a mapping."""
    items = (document or {}).get("items", ())
    return {_string(item["key"]): _string(item.get("value", "")) for item in items}


def _licenses(disks: Sequence[JsonObject] | None) -> tuple[str, ...] | None:
    """Return the licences of the boot disk as ``PROJECT/NAME``; None if no disk is said to be one."""
    boot = next((each for each in disks or () if each.get("boot")), None)
    if boot is None:
        return None
    urls = (str(each).rpartition("projects/")[2] for each in boot.get("licenses", ()))
    return tuple(each.replace("/global/licenses/", "/") for each in urls)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value
