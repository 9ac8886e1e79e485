"""The plain gcloud path: Google's own client runs the script against a server that records it all.

The server keeps what is put into it by path and calls every operation done. It is our reading of REST in
general, not of each API: what it proves is that real gcloud accepts every command, and what it then sends.
"""

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.conftest import needs
from tests.integration.test_terraform_runbooks import own
from tests.provider_schema import ROOT
from tests.threaded import serving

from logmend import catalog, permissions, sink_filter
from logmend.model.enums import Mode
from logmend.settings import ExecutorChoice, Settings, SshRoute
from logmend.windows import opening

pytestmark = pytest.mark.timeout(1200)  # real gcloud starts once for each of some eighty commands

PROJECT = "logmend-home"
WHERE = f"projects/{PROJECT}/locations/us-central1"
SERVICES = {
    "CLOUDFUNCTIONS": "/",
    "CLOUDRESOURCEMANAGER": "/",
    "CLOUDSCHEDULER": "/",
    "FIRESTORE": "/",
    "IAM": "/",
    "LOGGING": "/",
    "MONITORING": "/",
    "PUBSUB": "/",
    "RUN": "/",
    "SECRETMANAGER": "/",
    "SERVICEUSAGE": "/",
    "STORAGE": "/storage/v1/",
    "ARTIFACTREGISTRY": "/",
    "COMPUTE": "/compute/v1/",
    "EVENTARC": "/",
    "CLOUDBUILD": "/",
}


def done(name: str) -> dict[str, Any]:
    """Give a long-running operation that is over."""
    kind = (
        "google.cloud.functions.v2.OperationMetadata" if "/locations/" in name else "google.protobuf.Struct"
    )
    metadata: dict[str, Any] = {"@type": f"type.googleapis.com/{kind}"}
    return {"name": name, "done": True, "response": {}, "metadata": metadata | {"stages": []}}


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return old | {
        key: _merged(old[key], value)
        if isinstance(value, dict) and isinstance(old.get(key), dict) and key != "environmentVariables"
        else value
        for key, value in new.items()
    }


class Google(ThreadingHTTPServer):
    """Keeps resources by path, and every request in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kept: dict[str, dict[str, Any]] = {
            f"v1/projects/{PROJECT}": {"projectId": PROJECT, "projectNumber": "4711"},
            f"v2/{WHERE}/runtimes": {
                "runtimes": [{"name": "python313", "environment": "GEN_2", "stage": "GA"}]
            },
        }
        self.requests: list[tuple[str, str, Any]] = []
        self.policies: dict[str, dict[str, Any]] = {}
        self.uploads: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path = path.replace("projects/-/", f"projects/{PROJECT}/")
        self.requests.append((method, path, body))
        resource, _, verb = path.partition(":")
        if verb == "generateUploadUrl":
            return 200, {
                "uploadUrl": f"{self.url}/upload",
                "storageSource": {"bucket": "b", "object": "o.zip"},
            }
        if verb == "getIamPolicy":
            return 200, self.policies.get(resource, {"version": 3, "etag": "ACAB"})
        if verb == "setIamPolicy":
            self.policies[resource] = body["policy"]
            return 200, body["policy"]
        if verb in ("batchEnable", "enable"):
            return 200, {"name": "operations/acat.done", "done": True, "response": {}}
        if "/operations/" in path or path.endswith("upload"):
            return 200, done(path.split("/", 1)[-1])
        if method == "DELETE":
            found = self.kept.pop(resource, None)
            operation = re.match(r"v[12]/(projects/[^/]+/(?:databases|locations)/[^/]+)", resource)
            return 200, done(f"{operation[1]}/operations/done") if operation else found or {}
        if method == "GET":
            found = self.kept.get(resource) or self.listed(resource)
            return (
                (200, found)
                if found
                else (404, {"error": {"code": 404, "status": "NOT_FOUND", "message": path}})
            )
        return self.create(method, resource, body or {})

    def listed(self, path: str) -> dict[str, Any] | None:
        """List indexes, custom roles, alerts and dashboards, which the script asks for as a whole."""
        if path.endswith("/collectionGroups/-/indexes"):
            found = [each for name, each in self.kept.items() if name.endswith("/indexes")]
            return {"indexes": found}
        for kind in ("alertPolicies", "dashboards"):
            if path.endswith(f"/{kind}"):
                return {kind: [each for name, each in self.kept.items() if name.startswith(f"{path}/")]}
        if path.endswith("/roles"):
            return {"roles": [each for name, each in self.kept.items() if name.startswith(f"{path}/")]}
        return None

    def create(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Keep what is created or changed, under the name that it will be asked for."""
        name, kept = path, body
        if path.endswith("/serviceAccounts"):
            email = f"{body['accountId']}@{PROJECT}.iam.gserviceaccount.com"
            name, kept = (
                f"{path}/{email}",
                {"email": email, "name": f"projects/{PROJECT}/serviceAccounts/{email}"},
            )
        elif path.endswith("/roles"):
            name = f"{path}/{body['roleId']}"
            kept = body["role"] | {"etag": "ACAB", "name": name.removeprefix("v1/")}
        elif path.endswith("/indexes"):
            kept = body | {"name": f"{path.removeprefix('v1/')}/CICAgJj", "state": "READY"}
        elif path.endswith("/sinks"):
            kept = body | {"writerIdentity": "serviceAccount:sink@logging.example"}
            name = f"{path}/{body['name']}"
        elif path.endswith("/databases"):
            name = f"{path}/logmend"
        elif path.endswith(("/alertPolicies", "/dashboards")):
            name = f"{path}/{len(self.requests)}"
            kept = body | {"name": name.partition("/")[2], "etag": "ACAB"}
        elif path.endswith("/jobs"):
            name = f"v1/{body['name']}"
        elif path.endswith("/functions"):
            name = f"{path}/logmend"
            run = {"uri": "https://logmend-uc.a.run.app", "service": f"{WHERE}/services/logmend"}
            kept = body | {"name": f"{WHERE}/functions/logmend", "state": "ACTIVE", "environment": "GEN_2"}
            kept["serviceConfig"] = body["serviceConfig"] | run
        self.kept[name] = _merged(self.kept.get(name, {}), kept)
        scope = re.match(
            r"v[12]/(projects/[^/]+/(?:databases|locations)(?:/[^/]+)?)(?:/(?:coll|func)|$)", path
        )
        if scope is not None:
            return 200, done(f"{scope[1]}/operations/done")
        return 200, self.kept[name]


class Handler(BaseHTTPRequestHandler):
    """Hands every request to :class:`Google`."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's own names

    def log_message(self, *_: object) -> None:
        """Say nothing; the requests are kept."""

    def _serve(self) -> None:
        google = self.server
        assert isinstance(google, Google)
        split = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = {"bytes": len(raw)}
            google.uploads.append(raw)
        path = unquote(split.path).lstrip("/")
        if split.query and isinstance(body, dict):
            body["?"] = split.query
        status, document = google.answer(self.command, path, body)
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def deployed(google: Google, folder: Path, *arguments: str, **environ: str) -> None:
    """Run the script with real gcloud, which believes that the server is Google."""
    token = folder / "token"
    token.write_text("nothing")
    settings = {
        f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}": google.url + path for service, path in SERVICES.items()
    }
    home = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    }
    ended = subprocess.run(
        [str(ROOT / "deploy" / "gcloud.sh"), *arguments],
        env=home | settings | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=1100,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """Hold what Google would after the script ran once, in observe mode."""
    needs(commands=("gcloud",))
    settings = "LOGMEND_SCOPE_LABELS=pilot=yes,LOGMEND_COOLDOWN_PLANNED=1m"
    with serving(Google()) as server:
        deployed(server, tmp_path_factory.mktemp("gcloud"), PROJECT, SETTINGS=settings)
        yield server


def function(google: Google) -> dict[str, Any]:
    config: dict[str, Any] = google.kept[f"v2/{WHERE}/functions/logmend"]["serviceConfig"]
    return config


def granted(google: Google) -> dict[str, frozenset[str]]:
    prefix = f"v1/projects/{PROJECT}/roles/logmend_"
    found = {name.removeprefix(prefix): kept for name, kept in google.kept.items() if name.startswith(prefix)}
    return {name: frozenset(kept["includedPermissions"]) for name, kept in found.items()}


def test_the_function_is_deployed_with_settings_that_it_reads_and_closed_to_the_outside(google):
    """Real gcloud takes every command and flag; the environment is one that the function starts with."""
    config = function(google)
    settings = Settings.from_environment(config["environmentVariables"] | {"K_SERVICE": "logmend"})
    assert settings.mode is Mode.OBSERVE
    assert settings.state == f"firestore:{PROJECT}/logmend"
    assert settings.scope_projects == (PROJECT,)
    assert settings.dead_letter_topic == f"projects/{PROJECT}/topics/logmend-dead-letter"
    assert config["ingressSettings"] == "ALLOW_INTERNAL_ONLY"
    assert config["timeoutSeconds"] == settings.function_timeout.total_seconds()
    assert (config["maxInstanceRequestConcurrency"], config["maxInstanceCount"]) == (80, 5)


def test_the_custom_roles_hold_what_the_mode_needs_and_are_given_to_the_function(google):
    """The script asks the same list as Terraform; the ledger's role is bound to the ledger."""
    assert granted(google) == permissions.function(Mode.OBSERVE, ExecutorChoice.SSH, SshRoute.IAP)
    member = f"serviceAccount:logmend@{PROJECT}.iam.gserviceaccount.com"
    bindings = google.policies[f"v1/projects/{PROJECT}"]["bindings"]
    held = {each["role"].rpartition("_")[2]: each for each in bindings if member in each["members"]}
    assert held.keys() == {"ledger", "recorder", "fleet"}
    assert held["ledger"]["condition"]["expression"] == (
        f"resource.name == 'projects/{PROJECT}/databases/logmend'"
    )


def test_messages_are_pushed_with_a_token_retried_and_kept_when_they_fail(google):
    """The push subscription and the dead letter are set as Terraform sets them."""
    push = google.kept[f"v1/projects/{PROJECT}/subscriptions/logmend-push"]
    token = push["pushConfig"]["oidcToken"]
    assert token["serviceAccountEmail"] == f"logmend-push@{PROJECT}.iam.gserviceaccount.com"
    assert token["audience"] == push["pushConfig"]["pushEndpoint"] == function(google)["uri"]
    assert push["ackDeadlineSeconds"] == 600
    assert push["retryPolicy"] == {"minimumBackoff": "10s", "maximumBackoff": "600s"}
    assert push["deadLetterPolicy"] == {
        "deadLetterTopic": f"projects/{PROJECT}/topics/logmend-dead-letter",
        "maxDeliveryAttempts": 10,
    }
    agent = "serviceAccount:service-4711@gcp-sa-pubsub.iam.gserviceaccount.com"
    for name in ("topics/logmend-dead-letter", "subscriptions/logmend-push"):
        bindings = google.policies[f"v1/projects/{PROJECT}/{name}"]["bindings"]
        assert any(agent in each["members"] for each in bindings), name


def not_indexed(google: Any, path: str) -> bool:
    """Say whether a field's single-field indexes were taken off."""
    bodies = [body for method, each, body in google.requests if (method, each) == ("PATCH", path)]
    return any(body and "indexConfig" in body and not body["indexConfig"].get("indexes") for body in bodies)


def test_sink_tick_and_ledger_are_those_of_terraform(google):
    """Our filter, a writer that may publish, a tick every five minutes, TTL and indexes."""
    sink = google.kept[f"v2/projects/{PROJECT}/sinks/logmend"]
    assert sink["filter"] == (ROOT / "sink" / "filter.lql").read_text().rstrip("\n")
    bindings = google.policies[f"v1/projects/{PROJECT}/topics/logmend"]["bindings"]
    assert bindings == [{"members": [sink["writerIdentity"]], "role": "roles/pubsub.publisher"}]
    job = google.kept[f"v1/{WHERE}/jobs/logmend-tick"]
    assert json.loads(base64.b64decode(job["pubsubTarget"]["data"])) == {"logmend": "tick"}
    paths = [path for method, path, _ in google.requests if method in ("PATCH", "POST")]
    groups = f"v1/projects/{PROJECT}/databases/logmend/collectionGroups"
    for collection in ("acts", "approvals", "claims", "intents", "places", "repeats", "samples"):
        assert f"{groups}/{collection}/fields/expire_at" in paths
    assert not_indexed(google, f"{groups}/__default__/fields/*")
    for collection in ("acts", "approvals", "intents", "repeats", "subjects"):
        assert f"{groups}/{collection}/indexes" in paths


def test_metrics_alerts_and_dashboard_are_made(google):
    """All of them; other tests see what they are, and that they are Terraform's."""
    kinds = [name.split("/")[3] for name in google.kept if name.startswith(f"v3/projects/{PROJECT}/")]
    assert set(kinds) == {"alertPolicies"}
    assert len(kinds) == 14
    assert f"v2/projects/{PROJECT}/metrics/logmend/outcomes" in google.kept
    assert [name for name in google.kept if name.startswith(f"v1/projects/{PROJECT}/dashboards/")]


def test_the_source_that_is_uploaded_is_the_function_whole(google):
    """The archive itself: gcloud's list of files for an upload once named them all, and uploaded none."""
    with zipfile.ZipFile(io.BytesIO(google.uploads[0])) as archive:
        names = {each for each in archive.namelist() if not each.endswith("/")}
    kinds = {".lark", ".py", ".sh", ".typed", ".yaml"}
    files = {path for path in (ROOT / "functions/logmend").rglob("*") if path.suffix in kinds}
    own = {str(path.relative_to(ROOT / "functions")) for path in files if "cases" not in path.parts}
    assert names == own | {"main.py", "requirements.txt"}


def packed(google: Google, folder: Path) -> catalog.Catalog:
    """Read the runbooks out of what was uploaded last, as the function does."""
    with zipfile.ZipFile(io.BytesIO(google.uploads[-1])) as archive:
        archive.extractall(folder)
    return catalog.read_all(Settings(runbooks=folder / "runbooks.yaml", mode=Mode.ENFORCE))


def test_running_it_again_keeps_the_mode_and_makes_nothing_twice(google, tmp_path):
    """A second run without a mode, of what enforces by now, updates what is there and goes on enforcing.

    Settings that it says nothing of stay as well; blackouts that are set but empty go. With a file of
    runbooks, source, sink and roles are those of the file.
    """
    function(google)["environmentVariables"]["LOGMEND_MODE"] = "enforce"
    function(google)["environmentVariables"]["LOGMEND_BLACKOUTS"] = "12-24..01-02 Europe/Berlin"
    first = len(google.requests)
    assert "secretVolumes" not in function(google)
    more = {"KNOWN_HOSTS_SECRET": "hosts", "KEY_SECRET": "key", "SSH_USER": "sre", "CONFIRM_SILENCE": "true"}
    more["OUTCOME_TOPIC"] = "true"
    more["WINDOWS"] = "Mon,Wed 22:00-06:00 Europe/Berlin; label:env=prod Sat UTC"
    more["BLACKOUTS"] = ""
    chosen = {"time-sync": {"mode": "approve"}, "ops-agent": {"enabled": False}}
    own(tmp_path / "mine")
    (tmp_path / "logmend.yaml").write_text(json.dumps({"folders": ["mine"], "runbooks": chosen}))
    more["LOGMEND_RUNBOOKS"] = str(tmp_path / "logmend.yaml")
    more["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    deployed(google, tmp_path, PROJECT, **more)
    again = google.requests[first:]
    given = permissions.function(Mode.ENFORCE, ExecutorChoice.SSH, SshRoute.IAP, silence=True)
    assert granted(google) == given
    found = packed(google, tmp_path / "source")
    assert function(google)["environmentVariables"]["LOGMEND_RUNBOOKS"] == "runbooks.yaml"
    assert {name: found.policies.of(name).mode for name in found.runbooks} == {
        "time-sync": Mode.APPROVE,
        "workload-cert-refresh": Mode.ENFORCE,
    }
    routed = google.kept[f"v2/projects/{PROJECT}/sinks/logmend"]["filter"]
    assert routed == sink_filter.compose(found.runbooks)
    assert function(google)["environmentVariables"]["LOGMEND_CONFIRM_SILENCE"] == "true"
    assert function(google)["environmentVariables"]["LOGMEND_MODE"] == "enforce"
    settings = Settings.from_environment(function(google)["environmentVariables"])
    assert settings.scope_labels == (("pilot", "yes"),)
    assert settings.cooldown_planned.total_seconds() == 60
    assert settings.outcome_topic == f"projects/{PROJECT}/topics/logmend-outcomes"
    (publisher,) = google.policies[f"v1/{settings.outcome_topic}"]["bindings"]
    assert publisher["role"] == f"projects/{PROJECT}/roles/logmend_dead_letter"
    assert settings.windows == opening(more["WINDOWS"])
    assert "LOGMEND_BLACKOUTS" not in function(google)["environmentVariables"]
    mounted = {
        f"{each['mountPath']}/{version['path'].lstrip('/')}": (each["secret"], version["version"])
        for each in function(google)["secretVolumes"]
        for version in each["versions"]
    }
    assert mounted == {"/secrets/hosts/value": ("hosts", "latest"), "/secrets/key/value": ("key", "latest")}
    assert settings.ssh_host_keys == "known-hosts:/secrets/hosts/value"
    assert (str(settings.ssh_key), settings.ssh_user) == ("/secrets/key/value", "sre")
    for secret in ("hosts", "key"):
        [binding] = google.policies[f"v1/projects/{PROJECT}/secrets/{secret}"]["bindings"]
        assert binding["role"] == "roles/secretmanager.secretAccessor"
    assert not [
        path
        for method, path, _ in again
        if method == "PUT" and ("/topics/" in path or "/subsc" in path) and "outcomes" not in path
    ]
    once = ("/databases", "/roles", "/indexes", "/serviceAccounts", "/jobs")
    assert not [path for method, path, _ in again if method == "POST" and path.endswith(once)]


def test_removing_takes_away_what_it_made_and_can_be_repeated(google, tmp_path):
    """Nothing of ours is left, grants included; what others granted stays."""
    others = {"role": "roles/owner", "members": ["user:somebody@example.com"]}
    google.policies[f"v1/projects/{PROJECT}"]["bindings"].append(others)
    for _ in range(2):
        deployed(google, tmp_path, "--remove", PROJECT)
    left = {name for name in google.kept if name != f"v1/projects/{PROJECT}" and "runtimes" not in name}
    assert {name for name in left if "/collectionGroups/" not in name and "/operations/" not in name} == set()
    bindings = [each for each in google.policies[f"v1/projects/{PROJECT}"]["bindings"] if each["members"]]
    assert bindings == [others]


def test_a_mode_that_does_not_exist_is_refused_before_anything_is_asked_of_google():
    """The script says which modes there are."""
    done = subprocess.run(
        [str(ROOT / "deploy" / "gcloud.sh"), PROJECT, "enforced"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "observe, approve or enforce" in done.stderr


def test_shellcheck_has_nothing_to_say_about_the_script():
    """The script is POSIX sh without the usual traps."""
    needs(commands=("shellcheck",))
    done = subprocess.run(
        ["shellcheck", str(ROOT / "deploy" / "gcloud.sh")], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
