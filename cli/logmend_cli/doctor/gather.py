"""Ask the APIs what doctor wants to know. Read only; nothing is judged here."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from logmend import permissions, sink_filter
from logmend.catalog import Catalog
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import replace
from logmend.settings import Settings, SshRoute
from logmend_cli.apis import NO_BODY, Apis, Deployment
from logmend_cli.doctor import vms
from logmend_cli.doctor.facts import Facts

EXPORT_ERRORS = "logging.googleapis.com/exports/error_count"
UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"
OLDEST = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"


async def gather(
    place: Deployment,
    settings: Settings,
    found: Catalog,
    endpoint: str | None,
    *,
    repair: bool = False,
) -> Facts:
    """Ask everything that needs no other answer, then what does, then as the function itself.

    ``repair`` also repairs the ledger.
    """
    apis = Apis(endpoint)
    facts = Facts(
        place, datetime.now(UTC), sink_filter.compose(found.runbooks), {}, found, own_settings=settings
    )
    try:
        facts = await _asked(facts, apis, _first(place))
        facts = _scoped(facts)
        facts = await _asked(facts, apis, _second(facts))
        facts = await _asked(facts, apis, _third(facts))
        facts = await _as_function(facts, apis, endpoint)
        facts = await _with_ledger(facts, endpoint, repair=repair)
    finally:
        await apis.aclose()
    facts = replace(facts, without=apis.refusal)
    return replace(
        facts, now=datetime.now(UTC), skew=sorted(apis.skews)[len(apis.skews) // 2] if apis.skews else None
    )


Question = tuple[str, str, str, JsonObject | None]
"""Name of the answer, service, path, body."""


def _first(place: Deployment) -> Iterable[Question]:
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


def _scoped(facts: Facts) -> Facts:
    """Take the fleet's projects from the function's scope if the operator named none."""
    if facts.place.fleet:
        return facts
    fleet = facts.settings.scope_projects or (facts.place.project,)
    return replace(facts, place=replace(facts.place, fleet=tuple(fleet)))


def _second(facts: Facts) -> Iterable[Question]:
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


def _third(facts: Facts) -> Iterable[Question]:
    """Ask the sampled VMs for the host keys that they published."""
    for project in facts.place.fleet:
        for vm in vms.sampled(facts, project):
            path = f"/compute/v1/projects/{project}/zones/{vm.ref.zone}/instances/{vm.ref.instance_id}"
            yield (
                vms.hostkeys(vm),
                "compute",
                f"{path}/getGuestAttributes?queryPath=hostkeys/",
                None,
            )


async def _as_function(facts: Facts, apis: Apis, endpoint: str | None) -> Facts:
    """Ask what the function may do, as the function: ``testIamPermissions`` answers for who asks."""
    if facts.account is None:
        return facts
    scope = {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "300s"}
    path = f"/v1/projects/-/serviceAccounts/{facts.account}:generateAccessToken"
    token = await apis.ask("iamcredentials", path, body=scope)
    facts = replace(
        facts, answers=dict(facts.answers) | {"token": replace(token, body={} if token.body else None)}
    )
    if token.body is None:
        return facts
    itself = Apis(endpoint, token=str(token.body.get("accessToken")))
    questions = list[Question]()
    wanted = facts.fleet_permissions
    questions += [
        _may(f"may/{project}", "cloudresourcemanager", f"/v3/projects/{project}", wanted)
        for project in facts.place.fleet
    ]
    home = facts.place.project
    questions.append(_may("may_record", "cloudresourcemanager", f"/v3/projects/{home}", permissions.OUTCOMES))
    questions.append(
        _may("may_dead_letter", "pubsub", f"/v1/{facts.place.dead_topic}", permissions.DEAD_LETTER)
    )
    if (topic := facts.settings.outcome_topic) is not None:
        questions.append(_may("may_publish", "pubsub", f"/v1/{topic}", permissions.DEAD_LETTER))
    if facts.over_ssh:
        for project, account in vm_accounts(facts):
            path = f"/v1/projects/{project}/serviceAccounts/{account}"
            questions.append(_may(f"may_act_as/{account}", "iam", path, permissions.ACT_AS))
    try:
        return await _asked(facts, itself, questions)
    finally:
        await itself.aclose()


def _may(name: str, service: str, path: str, wanted: Iterable[str]) -> Question:
    return name, service, f"{path}:testIamPermissions", {"permissions": sorted(wanted)}


async def _with_ledger(facts: Facts, endpoint: str | None, *, repair: bool) -> Facts:
    from logmend import wiring
    from logmend.ledger import Controls

    state = facts.own_settings.state
    if state == "memory:":
        state = facts.settings.state
    if state == "memory:" or (endpoint and state.startswith("firestore:")):
        return replace(facts, ledger="no ledger is named: set LOGMEND_STATE", ledger_state=state)
    store = wiring.open_store(state)
    controls = Controls(store)
    try:
        facts = replace(facts, ledger=await controls.fleet(), ledger_state=state)
        repaired = await controls.repair(facts.now, facts.settings.lease) if repair else ()
        return replace(facts, repaired=repaired, damage=await controls.damage(facts.now))
    except (Transient, Permanent) as error:
        return replace(facts, ledger=str(error), ledger_state=state)
    finally:
        await store.aclose()


async def _asked(facts: Facts, apis: Apis, questions: Iterable[Question]) -> Facts:
    every = list(questions)
    replies = await asyncio.gather(*(apis.ask(service, path, body=body) for _, service, path, body in every))
    answers = {name: reply for (name, *_), reply in zip(every, replies, strict=True)}
    return replace(facts, answers=dict(facts.answers) | answers)


def _series(parent: str, metric: str, where: str, *, days: float = 0) -> str:
    """Return the path of a time series: sums of a day, or the points of the last quarter of an hour."""
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
        # What is deployed asks from here: a client's own project needs these as well.
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
