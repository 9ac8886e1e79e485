"""A project in which logmend is deployed as `deploy/` does it, as Google's APIs tell of it.

Our reading of the references. Where Google's client is at hand an answer is held to its own message; the
others (functions, run, scheduler, resource manager, service usage, monitoring) to nothing but the reference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.cloud.compute_v1.types import FirewallList, GuestAttributes, InstanceAggregatedList, Project
from google.cloud.logging_v2.types import ListSinksResponse, LogSink
from google.iam.v1 import policy_pb2
from google.protobuf import json_format
from google.pubsub_v1.types import Subscription, Topic
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from logmend import catalog, sink_filter
from logmend.settings import Settings

HOME, REGION, NUMBER = "ops-project", "us-central1", "123456789012"
URI = "https://logmend-abc123-uc.a.run.app"
AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
PUSH = f"logmend-push@{HOME}.iam.gserviceaccount.com"
FUNCTION = f"logmend@{HOME}.iam.gserviceaccount.com"
WRITER = f"serviceAccount:service-{NUMBER}@gcp-sa-logging.iam.gserviceaccount.com"
VMS_ACCOUNT = f"{NUMBER}-compute@developer.gserviceaccount.com"
TOPIC = f"projects/{HOME}/topics/logmend"
TOKEN = "as-the-function"

_FUNCTION = f"/v2/projects/{HOME}/locations/{REGION}/functions/logmend"
_RUN = f"/v2/projects/{HOME}/locations/{REGION}/services/logmend"
_JOB = f"/v1/projects/{HOME}/locations/{REGION}/jobs/logmend-tick"
_PUSH = f"/v1/projects/{HOME}/subscriptions/logmend-push"
_DEAD = f"/v1/projects/{HOME}/subscriptions/logmend-dead-letter"


def policy(role: str, *members: str) -> dict[str, Any]:
    return {"version": 1, "etag": "BwX=", "bindings": [{"role": role, "members": list(members)}]}


def series(*values: int) -> dict[str, Any]:
    return {
        "timeSeries": [
            {
                "metric": {"type": "x"},
                "resource": {"type": "y"},
                "metricKind": "GAUGE",
                "valueType": "INT64",
                "points": [{"interval": {}, "value": {"int64Value": str(value)}}],
            }
            for value in values
        ]
    }


def answers() -> dict[str, Any]:
    """Give what a healthy deployment answers, by path; `METRIC SUBSCRIPTION` for time series."""
    environment = {
        "LOGMEND_MODE": "enforce",
        "LOGMEND_STATE": f"firestore:{HOME}/logmend",
        "LOGMEND_OUTCOMES": "cloud",
        "LOGMEND_PROJECT": HOME,
        "LOGMEND_SCOPE_PROJECTS": HOME,
        "LOGMEND_SSH_ROUTE": "iap",
        "LOGMEND_DEAD_LETTER_TOPIC": f"{TOPIC}-dead-letter",
    }
    return {
        f"/v3/projects/{HOME}": {"name": f"projects/{NUMBER}", "projectId": HOME, "state": "ACTIVE"},
        f"/v3/projects/{HOME}:getIamPolicy": policy("roles/viewer", "user:sre@example.com"),
        f"/v1/projects/{HOME}:getAncestry": {
            "ancestor": [
                {"resourceId": {"type": "project", "id": HOME}},
                {"resourceId": {"type": "folder", "id": "222"}},
                {"resourceId": {"type": "organization", "id": "333"}},
            ]
        },
        "/v2/folders/222/sinks": {"sinks": [{"name": "audit", "destination": "storage.googleapis.com/b"}]},
        "/v2/organizations/333/sinks": {},
        f"/v2/projects/{HOME}/sinks/logmend": {
            "name": "logmend",
            "destination": f"pubsub.googleapis.com/{TOPIC}",
            "filter": sink_filter.compose(catalog.load(Settings())),
            "writerIdentity": WRITER,
        },
        f"/v1/{TOPIC}": {"name": TOPIC, "messageRetentionDuration": "604800s"},
        f"/v1/{TOPIC}:getIamPolicy": policy("roles/pubsub.publisher", WRITER),
        f"/v1/{TOPIC}-dead-letter": {"name": f"{TOPIC}-dead-letter", "messageRetentionDuration": "2678400s"},
        f"/v1/{TOPIC}-dead-letter:getIamPolicy": policy("roles/pubsub.publisher", AGENT),
        _PUSH: {
            "name": _PUSH.removeprefix("/v1/"),
            "topic": TOPIC,
            "pushConfig": {
                "pushEndpoint": URI,
                "oidcToken": {"serviceAccountEmail": PUSH, "audience": URI},
            },
            "ackDeadlineSeconds": 600,
            "deadLetterPolicy": {"deadLetterTopic": f"{TOPIC}-dead-letter", "maxDeliveryAttempts": 10},
            "state": "ACTIVE",
        },
        f"{_PUSH}:getIamPolicy": policy("roles/pubsub.subscriber", AGENT),
        _DEAD: {"name": _DEAD.removeprefix("/v1/"), "topic": f"{TOPIC}-dead-letter", "state": "ACTIVE"},
        f"{_DEAD}:getIamPolicy": {"etag": "ACAB"},
        f"/v1/projects/{HOME}/serviceAccounts/{PUSH}:getIamPolicy": policy(
            "roles/iam.serviceAccountOpenIdTokenCreator", AGENT
        ),
        "exports": {},
        "num_undelivered_messages logmend-push": series(3),
        "oldest_unacked_message_age logmend-push": series(12),
        "num_undelivered_messages logmend-dead-letter": series(0),
        "oldest_unacked_message_age logmend-dead-letter": {},
        _FUNCTION: {
            "name": _FUNCTION.removeprefix("/v2/"),
            "environment": "GEN_2",
            "state": "ACTIVE",
            "updateTime": "2026-11-20T08:00:00.123456789Z",
            "serviceConfig": {
                "service": _RUN.removeprefix("/v2/"),
                "uri": URI,
                "timeoutSeconds": 300,
                "maxInstanceCount": 5,
                "maxInstanceRequestConcurrency": 40,
                "availableCpu": "1",
                "serviceAccountEmail": FUNCTION,
                "environmentVariables": environment,
            },
        },
        _RUN: {"name": _RUN.removeprefix("/v2/"), "template": {}},
        f"{_RUN}:getIamPolicy": policy("roles/run.invoker", f"serviceAccount:{PUSH}"),
        _JOB: {
            "name": _JOB.removeprefix("/v1/"),
            "schedule": "*/5 * * * *",
            "state": "ENABLED",
            "pubsubTarget": {"topicName": TOPIC, "data": "eyJsb2dtZW5kIjoidGljayJ9"},
            "lastAttemptTime": "2026-11-22T12:00:00Z",
            "status": {},
        },
        f"/compute/v1/projects/{HOME}": {
            "name": HOME,
            "defaultServiceAccount": VMS_ACCOUNT,
            "commonInstanceMetadata": {
                "items": [
                    {"key": "enable-oslogin", "value": "TRUE"},
                    {"key": "enable-guest-attributes", "value": "TRUE"},
                ]
            },
        },
        f"/compute/v1/projects/{HOME}/aggregated/instances": {
            "items": {
                "zones/us-west1-a": {"instances": [_vm(number) for number in range(5)]},
                "zones/us-west1-b": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
            }
        },
        **{
            f"/compute/v1/projects/{HOME}/zones/us-west1-a/instances/{_vm(n)['id']}/getGuestAttributes": {
                "queryPath": "hostkeys/",
                "queryValue": {"items": [{"namespace": "hostkeys", "key": "ssh-ed25519", "value": "AAAA"}]},
            }
            for n in range(5)
        },
        f"/compute/v1/projects/{HOME}/global/firewalls": {
            "items": [
                {
                    "name": "logmend-ssh-iap",
                    "network": f"https://www.googleapis.com/compute/v1/projects/{HOME}/global/networks/default",
                    "direction": "INGRESS",
                    "sourceRanges": ["35.235.240.0/20"],
                    "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
                    "disabled": False,
                }
            ]
        },
    }


def _vm(number: int) -> dict[str, Any]:
    """Give a VM that runs, as the API lists it."""
    at = f"https://www.googleapis.com/compute/v1/projects/{HOME}/zones/us-west1-a"
    return {
        "id": str(4775836342981990000 + number),
        "name": f"web-{number}",
        "status": "RUNNING",
        "zone": at,
        "selfLink": f"{at}/instances/web-{number}",
        "labelFingerprint": "42WmSpB8rSM=",
        "networkInterfaces": [{"networkIP": f"10.0.0.{number}"}],
    }


@dataclass
class GoogleHome:
    """Answers as `answers` say.

    `refused` paths get 403, `broken` ones 503, `preconditions` 412, `unused` ones 403 since their API is off;
    `disabled` APIs and `lacking` permissions are not there. `pages` are the page tokens that were sent.
    """

    answers: dict[str, Any] = field(default_factory=answers)
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    preconditions: set[str] = field(default_factory=set)
    unused: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    as_function: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        self.pages += request.query_params.getlist("pageToken")
        if path in self.refused:
            return _error(403, f"Permission 'x.y.get' denied on resource {path}", "PERMISSION_DENIED")
        if path in self.unused:
            said = "Cloud Functions API has not been used in project 1 before or it is disabled."
            return _error(403, said, "PERMISSION_DENIED")
        if path in self.broken:
            return _error(503, "The service is currently unavailable.", "UNAVAILABLE")
        if path in self.preconditions:
            said = f"Constraint constraints/compute.disableGuestAttributesAccess violated for project {HOME}."
            return _error(412, said, "FAILED_PRECONDITION")
        body = json.loads(await request.body() or b"{}")
        if path.endswith(":testIamPermissions"):
            if request.headers.get("authorization") == f"Bearer {TOKEN}":
                self.as_function.append(path)
            wanted = [each for each in body["permissions"] if each not in self.lacking]
            found: Any = {"permissions": wanted} if wanted else {}
        elif path.endswith(":generateAccessToken"):
            found = {"accessToken": TOKEN, "expireTime": "2026-11-22T12:05:00Z"}
        elif path.endswith("/services:batchGet"):
            found = {
                "services": [
                    {
                        "name": name,
                        "state": "DISABLED" if name.rpartition("/")[2] in self.disabled else "ENABLED",
                    }
                    for name in request.query_params.getlist("names")
                ]
            }
        elif path.endswith("/timeSeries"):
            found = self._series(request.query_params["filter"])
        else:
            found = self.answers.get(path)
        if found is None:
            return _error(404, f"Resource not found: {path}", "NOT_FOUND")
        held(path, found)
        return JSONResponse(found)

    def _series(self, where: str) -> Any:
        if "exports/error_count" in where:
            return self.answers["exports"]
        return next(
            found
            for key, found in self.answers.items()
            if len(key.split()) == 2 and key.split()[0] in where and f'"{key.split()[1]}"' in where
        )


def held(path: str, found: Mapping[str, Any]) -> None:
    """Hold an answer to Google's own message, where its client is installed."""
    text = json.dumps(found)
    if path.endswith(":getIamPolicy"):
        json_format.Parse(text, policy_pb2.Policy())  # type: ignore[no-untyped-call]
    elif "/sinks/" in path:
        LogSink.from_json(text)
    elif path.endswith("/sinks"):
        every = json.loads(text)
        for each in every.get("sinks", ()):
            each.pop("interceptChildren", None)  # younger than the client
        ListSinksResponse.from_json(json.dumps(every))
    elif "/topics/" in path and ":" not in path:
        Topic.from_json(text)
    elif "/subscriptions/" in path and ":" not in path:
        Subscription.from_json(text)
    elif path.endswith("/firewalls"):
        FirewallList.from_json(text)
    elif path.endswith("/aggregated/instances"):
        InstanceAggregatedList.from_json(text)
    elif path.endswith("/getGuestAttributes"):
        GuestAttributes.from_json(text)
    elif path.startswith("/compute/v1/projects/") and path.count("/") == 4:
        Project.from_json(text)


def _error(status: int, message: str, code: str) -> JSONResponse:
    return JSONResponse({"error": {"code": status, "message": message, "status": code}}, status)
