"""What can go wrong on the ways to VMs, SSH and OS Config: facts in, checks out. Pure."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from logmend.model.json import JsonObject
from logmend.settings import Settings, SshRoute
from logmend_cli.doctor import vms
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, WARN, Check, Facts, dicts
from logmend_cli.doctor.questions import interfaces

IAP_RANGE = "35.235.240.0/20"
"""Where IAP's relay connects from (cloud.google.com/iap/docs/using-tcp-forwarding)."""


def route(facts: Facts, project: str) -> Check:
    """See that a firewall rule allows SSH from the function's addresses. Deny rules are not considered."""
    name, reply, found = f"SSH route in {project}", facts[f"firewalls/{project}"], facts.settings
    source, why = _source(facts)
    if source is None:
        return Check(name, *why)
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    rules = [
        each
        for each in dicts(reply.body.get("items"))
        if not each.get("disabled")
        and each.get("direction", "INGRESS") == "INGRESS"
        and _lets_in(each, source, found)
    ]
    if not rules and reply.body.get("nextPageToken"):
        return Check(name, UNKNOWN, "there are more than 500 firewall rules; none of the first lets it in")
    if not rules:
        repair = (
            f"gcloud compute firewall-rules create {facts.place.name}-ssh-{found.ssh_route}"
            f" --project={project} --network=default --direction=INGRESS --allow=tcp:{found.ssh_port}"
            f" --source-ranges={source}"
        )
        return Check(name, FAIL, f"no firewall rule lets tcp:{found.ssh_port} in from {source}", repair)
    shown = [f"{each.get('name')} ({str(each.get('network')).rpartition('/')[2]})" for each in rules]
    tagged = all(each.get("targetTags") or each.get("targetServiceAccounts") for each in rules)
    narrow = "; only for some tags or accounts" if tagged else ""
    return Check(name, OK, f"{found.ssh_route} from {source}: {', '.join(shown[:5])}{narrow}")


def agent(facts: Facts, project: str) -> Check:
    """See that the project's metadata turns the OS Config agent on."""
    name, reply = f"OS Config agent in {project}", facts[f"compute/{project}"]
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    if not vms.is_true(vms.metadata(facts, project).get("enable-osconfig")):
        repair = (
            f"gcloud compute project-info add-metadata --project={project} --metadata=enable-osconfig=TRUE"
        )
        return Check(
            name, WARN, "enable-osconfig is not TRUE for the project; VMs may set it themselves", repair
        )
    return Check(name, OK, "enable-osconfig=TRUE")


def assignments(facts: Facts, project: str) -> Iterator[Check]:
    """See that every runbook's OS policy assignments exist in every zone of the scope."""
    found, wanted = facts.settings, facts.assignments
    if not found.scope_zones:
        yield Check(
            f"OS policies in {project}",
            UNKNOWN,
            "LOGMEND_SCOPE_ZONES is empty: which zones?",
            "logmend policy status",
        )
    for zone in found.scope_zones:
        name, reply = f"OS policies in {project}/{zone}", facts[f"assignments/{project}/{zone}"]
        if reply.body is None:
            yield Check(name, UNKNOWN, reply.why)
            continue
        there = {
            str(each.get("name", "")).rpartition("/")[2]: str(each.get("rolloutState", ""))
            for each in dicts(reply.body.get("osPolicyAssignments"))
        }
        gone = [each for each in wanted if each not in there]
        if gone and reply.body.get("nextPageToken"):
            yield Check(name, UNKNOWN, f"not among the first {len(there)}: {', '.join(gone)}")
            continue
        if gone:
            repair = f"logmend policy apply --project {project} --zone {zone}"
            yield Check(name, FAIL, f"not there: {', '.join(gone)}", repair)
            continue
        rolling = [each for each in wanted if there[each] not in ("SUCCEEDED", "")]
        said = (
            f"{', '.join(f'{each} {there[each]}' for each in rolling)}"
            if rolling
            else f"{len(wanted)} in place"
        )
        yield Check(name, WARN if rolling else OK, said, "logmend policy status" if rolling else None)


def _source(facts: Facts) -> tuple[str | None, tuple[Any, ...]]:
    """Return the range from which the function reaches VMs; if there is none, the rest of a check."""
    place = facts.place
    if facts.settings.ssh_route is SshRoute.IAP:
        return IAP_RANGE, ()
    if facts.service_config.get("vpcConnector"):
        reply = facts["connector"]
        cidr = (reply.body or {}).get("ipCidrRange")
        if reply.body is not None and reply.body.get("state", "READY") != "READY":
            at = f"--project={place.project} --region={place.region}"
            repair = f"gcloud compute networks vpc-access connectors describe {place.name} {at}"
            return None, (FAIL, f"its VPC connector is {reply.body.get('state')}", repair)
        return cidr, (UNKNOWN, f"its VPC connector: {reply.why or 'no range'}")
    if interfaces(facts):
        reply = facts["subnetwork"]
        return (reply.body or {}).get("ipCidrRange"), (UNKNOWN, f"its subnet: {reply.why or 'no range'}")
    if not facts.service_config:
        return None, (UNKNOWN, facts["function"].why)
    repair = (
        f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
        " --network=NETWORK --subnet=SUBNET --vpc-egress=private-ranges-only"
    )
    return None, (FAIL, "the function is in no VPC: it cannot reach internal addresses", repair)


def _lets_in(rule: JsonObject, source: str, settings: Settings) -> bool:
    """Return whether a rule allows the SSH port from every address of ``source``."""
    wanted = ipaddress.ip_network(source)
    ranges = [ipaddress.ip_network(str(each), strict=False) for each in rule.get("sourceRanges") or ()]
    inside = any(each.version == wanted.version and wanted.subnet_of(each) for each in ranges)  # type: ignore[arg-type]
    return inside and any(_is_open(each, settings.ssh_port) for each in dicts(rule.get("allowed")))


def _is_open(allowed: JsonObject, port: int) -> bool:
    if str(allowed.get("IPProtocol")) not in ("tcp", "all", "6"):
        return False
    spans = [str(each).partition("-") for each in allowed.get("ports") or ("0-65535",)]
    return any(int(low) <= port <= int(high or low) for low, _, high in spans)
