"""What doctor asks the APIs: each question with its name, service, path and body. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from logmend.model.json import JsonObject
from logmend.settings import SshRoute
from logmend_cli.apis import NO_BODY, Deployment
from logmend_cli.doctor import vms
from logmend_cli.doctor.facts import Facts

EXPORT_ERRORS = "logging.googleapis.com/exports/error_count"
UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"
OLDEST = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
Question = tuple[str, str, str, JsonObject | None]
"""Name of the answer, service, path, body."""


def first_questions(place: Deployment) -> Iterable[Question]:
    """Yield the questions that need no other answer."""
    project, at = place.project, f"/v2/projects/{place.project}/locations/{place.region}"
    v1_at = at.replace("/v2/", "/v1/", 1)
    push = f"{place.name}-push@{project}.iam.gserviceaccount.com"
    yield "project", "cloudresourcemanager", f"/v3/projects/{project}", None
    yield "home_policy", "cloudresourcemanager", f"/v3/projects/{project}:getIamPolicy", {}
    yield "function", "cloudfunctions", f"{at}/functions/{place.name}", None
    yield "run", "run", f"{at}/services/{place.name}", None
    yield "run_policy", "run", f"{at}/services/{place.name}:getIamPolicy", None
    yield "job", "cloudscheduler", f"{v1_at}/jobs/{place.name}-tick", None
    for name, resource in (
        ("topic", place.topic),
        ("dead_topic", place.dead_topic),
        ("subscription", place.subscription),
        ("dead_subscription", place.dead_subscription),
    ):
        yield name, "pubsub", f"/v1/{resource}", None
        yield f"{name}_policy", "pubsub", f"/v1/{resource}:getIamPolicy", None
    yield "push_policy", "iam", f"/v1/projects/{project}/serviceAccounts/{push}:getIamPolicy", NO_BODY
    for parent in place.parents:
        yield f"sink/{parent}", "logging", f"/v2/{parent}/sinks/{place.name}", None
        if parent.startswith("projects/"):
            yield f"ancestry/{parent}", "cloudresourcemanager", f"/v1/{parent}:getAncestry", {}
            sink = f'resource.type = "logging_sink" AND resource.labels.name = "{place.name}"'
            yield f"export_errors/{parent}", "monitoring", _series(parent, EXPORT_ERRORS, sink, days=1), None
    home = f"projects/{project}"
    for name, subscription in (("push", place.subscription), ("dead", place.dead_subscription)):
        where = f'resource.labels.subscription_id = "{subscription.rpartition("/")[2]}"'
        yield f"undelivered/{name}", "monitoring", _series(home, UNDELIVERED, where), None
        yield f"oldest/{name}", "monitoring", _series(home, OLDEST, where), None


def second_questions(facts: Facts) -> Iterable[Question]:
    """Yield the questions that need the first answers."""
    place, settings = facts.place, facts.settings
    ssh = facts.over_ssh
    if settings.outcome_topic is not None:
        yield "outcome_topic", "pubsub", f"/v1/{settings.outcome_topic}", None
    for parent in place.parents:
        if parent.startswith("projects/"):
            for ancestor in ancestors(facts, parent):
                yield f"sinks/{ancestor}", "logging", f"/v2/{ancestor}/sinks?pageSize=100", None
    for project in dict.fromkeys((place.project, *place.fleet)):
        names = urlencode(
            [
                ("names", f"projects/{project}/services/{each}.googleapis.com")
                for each in apis_of(facts, project)
            ]
        )
        yield f"apis/{project}", "serviceusage", f"/v1/projects/{project}/services:batchGet?{names}", None
    for project in place.fleet:
        yield f"compute/{project}", "compute", f"/compute/v1/projects/{project}", None
        if ssh:
            path = f"/compute/v1/projects/{project}/global/firewalls?maxResults=500"
            yield f"firewalls/{project}", "compute", path, None
            path = f"/compute/v1/projects/{project}/aggregated/instances?filter=status%3DRUNNING"
            yield f"vms/{project}", "compute", path, None
        if facts.over_osconfig:
            for zone in settings.scope_zones:
                path = f"/v1/projects/{project}/locations/{zone}/osPolicyAssignments?pageSize=100"
                yield f"assignments/{project}/{zone}", "osconfig", path, None
    if ssh and settings.ssh_route is SshRoute.DIRECT:
        if connector := facts.service_config.get("vpcConnector"):
            yield "connector", "vpcaccess", f"/v1/{connector}", None
        for each in interfaces(facts):
            subnet = str(each.get("subnetwork", ""))
            path = (
                subnet
                if "/" in subnet
                else (f"projects/{place.project}/regions/{place.region}/subnetworks/{subnet}")
            )
            yield "subnetwork", "compute", f"/compute/v1/{path}", None


def third_questions(facts: Facts) -> Iterable[Question]:
    """Yield the questions for the host keys that the sampled VMs published."""
    for project in facts.place.fleet:
        for vm in vms.sampled(facts, project):
            path = f"/compute/v1/projects/{project}/zones/{vm.ref.zone}/instances/{vm.ref.instance_id}"
            yield (
                vms.hostkeys(vm),
                "compute",
                f"{path}/getGuestAttributes?queryPath=hostkeys/",
                None,
            )


def may_question(name: str, service: str, path: str, wanted: Iterable[str]) -> Question:
    """Return the question that asks which of these permissions the caller has."""
    return name, service, f"{path}:testIamPermissions", {"permissions": sorted(wanted)}


def _series(parent: str, metric: str, where: str, *, days: float = 0) -> str:
    """Return the path of a time series: daily sums, or the points of the last 15 minutes."""
    now = datetime.now(UTC)
    query = {
        "filter": f'metric.type = "{metric}" AND {where}',
        "interval.endTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "interval.startTime": (now - (timedelta(days=days) or timedelta(minutes=15))).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        ),
    }
    if days:
        query |= {
            "aggregation.alignmentPeriod": f"{int(days * 86400)}s",
            "aggregation.perSeriesAligner": "ALIGN_DELTA",
        }
    return f"/v3/{quote(parent)}/timeSeries?{urlencode(query)}"


def ancestors(facts: Facts, parent: str) -> list[str]:
    """Name the folders and the organization above a project."""
    ancestry = facts.body(f"ancestry/{parent}").get("ancestor") or []
    kinds = {"folder": "folders", "organization": "organizations"}
    ids = [each.get("resourceId", {}) for each in ancestry]
    return [f"{kinds[each['type']]}/{each['id']}" for each in ids if each.get("type") in kinds]


def apis_of(facts: Facts, project: str) -> list[str]:
    """Name the APIs that have to be enabled in a project."""
    place, settings = facts.place, facts.settings
    wanted = ["compute"] if project in place.fleet else []
    if project in place.fleet and facts.over_ssh:
        wanted += ["oslogin"] + (["iap"] if settings.ssh_route is SshRoute.IAP else [])
    if project in place.fleet and facts.over_osconfig:
        wanted.append("osconfig")
    if project == place.project:
        wanted += [
            "cloudbuild",
            "cloudfunctions",
            "cloudscheduler",
            "compute",
            "iam",
            "logging",
            "monitoring",
        ]
        wanted += ["pubsub", "run"]
        wanted += ["firestore"] if settings.state.startswith("firestore:") else []
        # The deployment makes its calls from here: a client's own project needs these as well.
        wanted += ["oslogin"] if facts.over_ssh else []
        wanted += ["osconfig"] if facts.over_osconfig else []
    return sorted(set(wanted))


def interfaces(facts: Facts) -> list[JsonObject]:
    """Return the network interfaces of Direct VPC egress."""
    access = (facts.body("run").get("template") or {}).get("vpcAccess") or {}
    return list(access.get("networkInterfaces") or [])


def vm_accounts(facts: Facts) -> list[tuple[str, str]]:
    """Name the accounts that VMs run as by default, by project."""
    accounts = []
    for project in facts.place.fleet:
        account = facts.body(f"compute/{project}").get("defaultServiceAccount")
        if account:
            accounts.append((project, str(account)))
    return accounts
