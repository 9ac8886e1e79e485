"""`logmend doctor` over HTTP against a deployment that is well, and then ill in every way that it knows."""

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.conftest import needs
from tests.contract.http_fake import serving
from tests.google_home import (
    AGENT,
    FUNCTION,
    HOME,
    PUSH,
    TOPIC,
    URI,
    VMS_ACCOUNT,
    WRITER,
    GoogleHome,
    policy,
    series,
)
from tests.unit.cli.conftest import run

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ledger import Controls
from logmend.ledger.documents import pack, shard_key, subject_key
from logmend.ledger.places import Out, Shard
from logmend.model.state import Breaker, Freeze, Lease, Subject
from logmend.model.struct import replace
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key
from logmend.runbook import BUILT_IN

__all__ = ["run"]

SINK = f"/v2/projects/{HOME}/sinks/logmend"
PUSH_SUBSCRIPTION = f"/v1/projects/{HOME}/subscriptions/logmend-push"
FUNCTION_PATH = f"/v2/projects/{HOME}/locations/us-central1/functions/logmend"
RUN = f"/v2/projects/{HOME}/locations/us-central1/services/logmend"
JOB = f"/v1/projects/{HOME}/locations/us-central1/jobs/logmend-tick"
COMPUTE = f"/compute/v1/projects/{HOME}"
FIREWALLS = f"{COMPUTE}/global/firewalls"
VMS = f"{COMPUTE}/aggregated/instances"
REF = InstanceRef(HOME, "us-central1-a", "1001")
RUNBOOK = "workload-cert-refresh"


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve from a thread, since a command runs in an event loop of its own."""
    ready, over, found = threading.Event(), threading.Event(), list[str]()

    async def body() -> None:
        async with serving(app) as url:
            found.append(url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(body()), daemon=True)
    thread.start()
    assert ready.wait(150)
    try:
        yield found[0]
    finally:
        over.set()
        thread.join(150)


@pytest.fixture
def home() -> GoogleHome:
    """Give a deployment that is well."""
    return GoogleHome()


class Clinic:
    """Runs doctor on a deployment."""

    def __init__(self, run: Callable[..., Result], url: str, state: str) -> None:
        self._run, self._url, self.state = run, url, state

    def __call__(self, *args: str, **settings: str) -> Result:
        chosen = {"state": self.state} | settings
        return self._run("doctor", "--project", HOME, "--endpoint", self._url, *args, **chosen)

    def checks(self, *args: str, **settings: str) -> dict[str, dict[str, Any]]:
        ran = self(*args, "--format", "json", **settings)
        said = json.loads(ran.stdout)
        assert ran.exit_code == (1 if said["totals"]["fail"] else 0)
        return {each["name"]: each for each in said["checks"]}

    def stored(self, use: Callable[[SqliteStore], Any]) -> None:
        async def body() -> None:
            store = SqliteStore(Path(self.state.removeprefix("sqlite:")))
            await use(store)
            await store.aclose()

        asyncio.run(body())

    def ledger(self, use: Callable[[Controls], Any]) -> None:
        self.stored(lambda store: use(Controls(store)))


@pytest.fixture
def doctor(run: Callable[..., Result], home: GoogleHome, tmp_path: Path) -> Iterator[Clinic]:
    """Give a way to run it; the ledger has seen a tick just now."""
    with served(home.app) as url:
        clinic = Clinic(run, url, f"sqlite:{tmp_path / 'ledger.sqlite'}")
        clinic.ledger(lambda controls: controls.note_tick(datetime.now(UTC)))
        yield clinic


def test_a_deployment_that_is_well_is_said_to_be(doctor: Clinic, home: GoogleHome) -> None:
    """Every check is made, and none finds anything; what the function may do is asked as the function."""
    home.answers[FUNCTION_PATH]["serviceConfig"]["environmentVariables"]["LOGMEND_STATE"] = doctor.state
    home.answers[FUNCTION_PATH]["serviceConfig"]["environmentVariables"]["LOGMEND_MODE"] = "observe"
    found = doctor.checks()
    assert {name: each["evidence"] for name, each in found.items() if each["state"] != "ok"} == {}
    assert len(found) >= 25
    assert sorted(home.as_function) == sorted(
        [
            f"/v3/projects/{HOME}:testIamPermissions",
            f"/v3/projects/{HOME}:testIamPermissions",
            f"/v1/{TOPIC}-dead-letter:testIamPermissions",
            f"/v1/projects/{HOME}/serviceAccounts/{VMS_ACCOUNT}:testIamPermissions",
        ]
    )
    assert not [each for each in home.asked if each.startswith("POST") and ":" not in each], "read only"


def change(path: str, *keys: str, **to: Any) -> Callable[[GoogleHome], None]:
    """Change a part of an answer."""

    def do(home: GoogleHome) -> None:
        part = home.answers[path]
        for key in keys:
            part = part[key]
        part |= to

    return do


def gone(path: str) -> Callable[[GoogleHome], None]:
    return lambda home: home.answers.update({path: None})


def put(path: str, answer: Any) -> Callable[[GoogleHome], None]:
    return lambda home: home.answers.update({path: answer})


def environment(**to: str) -> Callable[[GoogleHome], None]:
    return change(FUNCTION_PATH, "serviceConfig", "environmentVariables", **to)


OUTCOMES = "projects/tickets-prod/topics/logmend-outcomes"


def tell(home: GoogleHome, *lacking: str) -> None:
    """Have every final outcome published, to a topic of another project; ``lacking`` may not be done."""
    environment(LOGMEND_OUTCOME_TOPIC=OUTCOMES)(home)
    home.lacking.update(lacking)
    home.answers[f"/v1/{OUTCOMES}"] = {"name": OUTCOMES}


OLD_FILTER = 'resource.type = "gce_instance" AND textPayload : "404"'
ILLS: list[tuple[str, Callable[[GoogleHome], None], str, str, str, str]] = [
    ("an API is off", lambda home: home.disabled.add("iap.googleapis.com"),
     f"APIs of {HOME}", "fail", "iap.googleapis.com", "gcloud services enable iap.googleapis.com"),
    ("no sink", gone(SINK), f"sink in projects/{HOME}", "fail", "there is no sink",
     "gcloud logging sinks create"),
    ("the sink is off", change(SINK, disabled=True), f"sink in projects/{HOME}", "fail", "disabled",
     "--no-disabled"),
    ("another topic", change(SINK, destination="pubsub.googleapis.com/projects/x/topics/y"),
     f"sink in projects/{HOME}", "fail", "projects/x/topics/y", f"pubsub.googleapis.com/{TOPIC}"),
    ("an old filter", change(SINK, filter=OLD_FILTER), f"sink in projects/{HOME}", "fail", "filter",
     "logmend filter show"),
    ("an exclusion", change(SINK, exclusions=[{"name": "noise", "filter": "severity < ERROR"}]),
     f"sink in projects/{HOME}", "warn", "noise", "--remove-exclusions=noise"),
    ("the writer may not publish", put(f"/v1/{TOPIC}:getIamPolicy", policy("roles/pubsub.viewer", WRITER)),
     f"writer of the sink in projects/{HOME}", "fail", WRITER,
     f"--member={WRITER} --role=roles/pubsub.publisher"),
    ("exports fail", put("exports", series(17)), f"export errors in projects/{HOME}", "fail",
     "17 entries", "logmend scan"),
    ("a sink above takes all", put("/v2/organizations/333/sinks",
     {"sinks": [{"name": "siem", "interceptChildren": True, "filter": "severity >= WARNING"}]}),
     f"intercepting sinks above projects/{HOME}", "fail", "siem of organizations/333",
     "--no-intercept-children"),
    ("no topic", gone(f"/v1/{TOPIC}"), "topic", "fail", "there is no",
     "gcloud pubsub topics create logmend"),
    ("a topic that keeps nothing", put(f"/v1/{TOPIC}", {"name": TOPIC}), "topic", "warn", "seek",
     "topics update"),
    ("no subscription", gone(PUSH_SUBSCRIPTION), "push subscription", "fail", "there is no",
     "subscriptions create"),
    ("a pull subscription", change(PUSH_SUBSCRIPTION, pushConfig={}), "push subscription", "fail",
     "no push endpoint", f"--push-endpoint={URI}"),
    ("an old address", change(PUSH_SUBSCRIPTION, "pushConfig", pushEndpoint="https://old.a.run.app"),
     "push subscription", "fail", "https://old.a.run.app", f"--push-endpoint={URI}"),
    ("no token", change(PUSH_SUBSCRIPTION, "pushConfig", oidcToken={}), "push subscription", "fail",
     "without a token", f"--push-auth-service-account={PUSH}"),
    ("its topic was deleted", change(PUSH_SUBSCRIPTION, topic="_deleted-topic_"), "push subscription",
     "fail",
     "_deleted-topic_", "subscriptions delete"),
    ("the push account may not call", put(f"{RUN}:getIamPolicy", {}), "push account calls the function",
     "fail",
     PUSH, "--role=roles/run.invoker"),
    ("Pub/Sub may not sign", put(f"/v1/projects/{HOME}/serviceAccounts/{PUSH}:getIamPolicy", {}),
     "Pub/Sub signs tokens", "fail", AGENT, "serviceAccountOpenIdTokenCreator"),
    ("a short deadline", change(PUSH_SUBSCRIPTION, ackDeadlineSeconds=60), "ack deadline", "fail",
     "60 s, the function may take 300 s", "--ack-deadline=600"),
    ("no dead letter", change(PUSH_SUBSCRIPTION, deadLetterPolicy={}), "dead letter", "fail",
     "tried until it expires", "--dead-letter-topic=logmend-dead-letter"),
    ("nobody reads the dead letter", gone(f"/v1/projects/{HOME}/subscriptions/logmend-dead-letter"),
     "dead letter",
     "fail", "are lost", "subscriptions create logmend-dead-letter"),
    ("the agent may not publish", put(f"/v1/{TOPIC}-dead-letter:getIamPolicy", {}), "dead letter's roles",
     "fail",
     AGENT, "topics add-iam-policy-binding logmend-dead-letter"),
    ("the agent may not take", put(f"{PUSH_SUBSCRIPTION}:getIamPolicy", {}), "dead letter's roles", "fail",
     "forever", "subscriptions add-iam-policy-binding logmend-push"),
    ("a backlog", put("oldest_unacked_message_age logmend-push", series(4000)), "backlog", "fail",
     "3 messages, the oldest 4000 s", "gcloud run services logs read"),
    ("dead letters", put("num_undelivered_messages logmend-dead-letter", series(7)), "dead letters",
     "warn", "7 wait",
     f"logmend replay --subscription logmend-dead-letter --project {HOME}"),
    ("no function", gone(FUNCTION_PATH), "function", "fail", "another --region", "deploy/gcloud.sh"),
    ("it failed to deploy", change(FUNCTION_PATH, state="FAILED",
     stateMessages=[{"message": "Build failed"}]),
     "function", "fail", "Build failed", "gcloud functions describe"),
    ("a misspelt setting", environment(LOGMEND_MODUS="enforce"), "function's settings", "fail",
     "did you mean LOGMEND_MODE?", "--remove-env-vars=LOGMEND_MODUS"),
    ("a bad value", environment(LOGMEND_LEASE="soon"), "function's settings", "fail", "expected a duration",
     "--update-env-vars=LOGMEND_LEASE=VALUE"),
    ("another ledger", environment(LOGMEND_STATE=f"firestore:{HOME}/other"), "function's settings", "warn",
     f"firestore:{HOME}/other", f"export LOGMEND_STATE=firestore:{HOME}/other"),
    ("cut off", change(FUNCTION_PATH, "serviceConfig", timeoutSeconds=60), "function's limits", "fail",
     "attempts are cut off", "--timeout=300"),
    ("no bound", change(FUNCTION_PATH, "serviceConfig", maxInstanceCount=0), "function's limits", "warn",
     "nothing limits a flood",
     "--max-instances=5"),
    ("one at a time", change(FUNCTION_PATH, "serviceConfig", maxInstanceRequestConcurrency=1),
     "function's limits",
     "warn", "takes an instance", "--concurrency=80"),
    ("no job", gone(JOB), "scheduler", "fail", "there is no job",
     "scheduler jobs create pubsub logmend-tick"),
    ("the job is paused", change(JOB, state="PAUSED"), "scheduler", "fail", "PAUSED",
     "scheduler jobs resume"),
    ("the job fails", change(JOB, status={"code": 7, "message": "denied"}), "scheduler", "fail", "denied",
     "jobs run"),
    ("it may not be root", lambda home: home.lacking.add("compute.instances.osAdminLogin"),
     f"function's permissions in {HOME}", "fail", "compute.instances.osAdminLogin",
     "--add-permissions=compute.instances.osAdminLogin"),
    ("it may not act as VMs", lambda home: home.lacking.add("iam.serviceAccounts.actAs"),
     f"logs in where VMs are {VMS_ACCOUNT}", "fail", "actAs", f"--member=serviceAccount:{FUNCTION}"),
    ("it may not record", lambda home: home.lacking.add("logging.logEntries.create"), "function records",
     "fail",
     "logging.logEntries.create", "--role=roles/logging.logWriter"),
    ("no topic of outcomes", environment(LOGMEND_OUTCOME_TOPIC=OUTCOMES), "outcome topic", "fail",
     f"there is no {OUTCOMES}", "gcloud pubsub topics create logmend-outcomes --project=tickets-prod"),
    ("outcomes may not be published", lambda home: tell(home, "pubsub.topics.publish"),
     "outcome topic", "fail", "lacks pubsub.topics.publish",
     "topics add-iam-policy-binding logmend-outcomes --project=tickets-prod --member=serviceAccount:"),
    ("no firewall rule", put(FIREWALLS, {}), f"SSH route in {HOME}", "fail", "35.235.240.0/20",
     "--source-ranges=35.235.240.0/20"),
    ("a rule for another port", put(FIREWALLS, {"items": [{"name": "web", "sourceRanges": ["0.0.0.0/0"],
     "allowed": [{"IPProtocol": "tcp", "ports": ["80", "8000-9000"]}]}]}), f"SSH route in {HOME}", "fail",
     "tcp:22", ""),
    ("a rule that is off", put(FIREWALLS, {"items": [{"name": "ssh", "sourceRanges": ["0.0.0.0/0"],
     "disabled": True,
     "allowed": [{"IPProtocol": "all"}]}]}), f"SSH route in {HOME}", "fail", "tcp:22", ""),
    ("in no VPC", environment(LOGMEND_SSH_ROUTE="direct"), f"SSH route in {HOME}", "fail", "in no VPC",
     "--network=NETWORK"),
    ("no OS Login", change(COMPUTE, commonInstanceMetadata={}), f"OS Login in {HOME}", "warn",
     "enable-oslogin: 5 of 5 running VMs checked do without",
     f"project-info add-metadata --project={HOME} --metadata=enable-oslogin=TRUE"),
    ("a VM without OS Login", lambda home: vms(home)[4].update(metadata={"items": [{"key": "enable-oslogin",
     "value": "FALSE"}]}), f"OS Login in {HOME}", "warn", "1 of 5 running VMs checked do without: web-4",
     "instances add-metadata web-4 --zone=us-west1-a"),
    ("no VM to check", put(VMS, {}), f"host keys in {HOME}", "unknown", "no running VM", ""),
    ("nobody published keys", lambda home: unpublish(home, "published"), f"host keys in {HOME}", "fail",
     "0 of 5 running VMs checked", "gcloud compute ssh web-0 --zone=us-west1-a"),
    ("a VM published no keys", lambda home: unpublish(home, "published", 2), f"host keys in {HOME}", "warn",
     "comes of web-2", "guest-attributes/hostkeys/"),
    ("a direct route pins nothing", lambda home: unpublish(home, "auto", route="direct"),
     f"host keys in {HOME}", "fail", "host_key_unknown", ""),
    ("keys are pinned over IAP", lambda home: unpublish(home, "auto"), f"host keys in {HOME}", "ok",
     "0 of 5 running VMs checked have published theirs; the others' are pinned at first contact: web-0",
     ""),
    ("no agent", environment(LOGMEND_EXECUTOR="osconfig", LOGMEND_SCOPE_ZONES="us-west1-a"),
     f"OS Config agent in {HOME}", "warn", "enable-osconfig", "--metadata=enable-osconfig=TRUE"),
]  # fmt: skip


def vms(home: GoogleHome) -> list[dict[str, Any]]:
    """Give the VMs that run in the healthy project, as the API lists them."""
    found: list[dict[str, Any]] = home.answers[VMS]["items"]["zones/us-west1-a"]["instances"]
    return found


def unpublish(home: GoogleHome, setting: str, *numbers: int, route: str = "iap") -> None:
    """Take VMs' published host keys away (all, if none is numbered), under a setting."""
    environment(LOGMEND_SSH_HOST_KEYS=setting, LOGMEND_SSH_ROUTE=route)(home)
    for number, vm in enumerate(vms(home)):
        if number in numbers or not numbers:
            del home.answers[f"{COMPUTE}/zones/us-west1-a/instances/{vm['id']}/getGuestAttributes"]


def test_an_organization_without_guest_attributes_is_told(doctor: Clinic, home: GoogleHome) -> None:
    """412 names the policy; pinning goes on."""
    for vm in vms(home):
        home.preconditions.add(f"{COMPUTE}/zones/us-west1-a/instances/{vm['id']}/getGuestAttributes")
    found = doctor.checks()[f"host keys in {HOME}"]
    assert found["state"] == "ok"
    assert "constraints/compute.disableGuestAttributesAccess" in found["evidence"]
    environment(LOGMEND_SSH_HOST_KEYS="published")(home)
    found = doctor.checks()[f"host keys in {HOME}"]
    assert (found["state"], "LOGMEND_SSH_HOST_KEYS=auto" in found["repair"]) == ("fail", True)


@pytest.mark.parametrize(
    ("fall_ill", "name", "state", "evidence", "repair"),
    [each[1:] for each in ILLS],
    ids=[each[0] for each in ILLS],
)
def test_an_ill_is_found_with_its_evidence_and_what_mends_it(
    doctor: Clinic, home: GoogleHome, fall_ill: Any, name: str, state: str, evidence: str, repair: str
) -> None:
    """Exit status 1 where a check fails, 0 where it warns."""
    fall_ill(home)
    found = doctor.checks()
    assert found[name]["state"] == state, found[name]
    assert evidence in found[name]["evidence"]
    assert repair in (found[name]["repair"] or "")


SEEN = {
    f"/v3/projects/{HOME}": {"Pub/Sub signs tokens", "dead letter's roles"},
    SINK: {f"sink in projects/{HOME}", f"writer of the sink in projects/{HOME}"},
    f"/v1/projects/{HOME}:getAncestry": {f"intercepting sinks above projects/{HOME}"},
    "/v2/organizations/333/sinks": {f"intercepting sinks above projects/{HOME}"},
    f"/v3/projects/{HOME}/timeSeries": {f"export errors in projects/{HOME}", "backlog", "dead letters"},
    f"/v1/{TOPIC}": {"topic"},
    PUSH_SUBSCRIPTION: {"push subscription", "ack deadline", "dead letter"},
    FUNCTION_PATH: {"function", "function's settings", "mode", "function's limits", "function records",
                    f"function's permissions in {HOME}", "ack deadline", "push subscription"},
    f"{RUN}:getIamPolicy": {"push account calls the function"},
    JOB: {"scheduler"},
    COMPUTE: {f"OS Login in {HOME}"},
    VMS: {f"host keys in {HOME}"},
    FIREWALLS: {f"SSH route in {HOME}"},
    f"/v1/projects/-/serviceAccounts/{FUNCTION}:generateAccessToken": {
        "function records", f"function's permissions in {HOME}", f"logs in where VMs are {VMS_ACCOUNT}"},
    f"/v1/projects/{HOME}/services:batchGet": {f"APIs of {HOME}"},
}  # fmt: skip


def test_the_topic_of_outcomes_is_checked_if_there_is_one(doctor: Clinic, home: GoogleHome) -> None:
    """Whether the function may publish is asked as the function, on that topic; otherwise it is unknown."""
    assert "outcome topic" not in doctor.checks()
    tell(home)
    assert doctor.checks()["outcome topic"] == {
        "name": "outcome topic", "state": "ok", "evidence": f"the function may publish to {OUTCOMES}",
        "repair": None,
    }  # fmt: skip
    assert f"/v1/{OUTCOMES}:testIamPermissions" in home.as_function
    home.refused.add(f"/v1/{OUTCOMES}")
    assert doctor.checks()["outcome topic"]["state"] == "ok", "to look at it is not needed to publish to it"
    home.refused.add(f"/v1/projects/-/serviceAccounts/{FUNCTION}:generateAccessToken")
    found = doctor.checks()["outcome topic"]
    assert (found["state"], "asked as the function only" in found["evidence"]) == ("unknown", True)


@pytest.mark.parametrize("path", SEEN)
def test_a_check_that_cannot_be_made_says_so_and_why(doctor: Clinic, home: GoogleHome, path: str) -> None:
    """Whatever API refuses: unknown, with its words, and neither well nor ill."""
    home.refused.add(path)
    home.answers[FUNCTION_PATH]["serviceConfig"]["environmentVariables"]["LOGMEND_STATE"] = doctor.state
    home.answers[FUNCTION_PATH]["serviceConfig"]["environmentVariables"]["LOGMEND_MODE"] = "observe"
    found = doctor.checks()
    unknown = {name for name, each in found.items() if each["state"] == "unknown"}
    assert SEEN[path] <= unknown
    assert all(found[name]["evidence"] for name in unknown)
    assert any("x.y.get" in found[name]["evidence"] or "403" in found[name]["evidence"] for name in unknown)
    assert {each["state"] for each in found.values()} == {"ok", "unknown"}


def test_nothing_answers_at_all(doctor: Clinic, run: Callable[..., Result]) -> None:
    """Every check of an API is unknown, quickly, and exit status 0: nothing is known to be wrong."""
    ran = run("doctor", "--project", HOME, "--endpoint", "http://127.0.0.1:9", state=doctor.state)
    assert ran.exit_code == 0
    assert "api_unreachable" in ran.stdout
    assert "fail  " not in ran.stdout


def test_what_can_be_read_of_broken_settings_is_gone_by(doctor: Clinic, home: GoogleHome) -> None:
    """A misspelt name does not make the other checks those of another deployment."""
    environment(LOGMEND_MODUS="enforce", LOGMEND_LEASE="soon")(home)
    found = doctor.checks()
    assert found["function's settings"]["evidence"].count("LOGMEND_") >= 2
    assert found[f"SSH route in {HOME}"]["state"] == "ok"
    assert "mode enforce" in found[f"function's permissions in {HOME}"]["evidence"]


def test_host_keys_that_nobody_checks_are_warned_of(doctor: Clinic, home: GoogleHome) -> None:
    """With the setting that checks them."""
    environment(LOGMEND_SSH_HOST_KEYS="insecure", LOGMEND_STATE=doctor.state, LOGMEND_MODE="observe")(home)
    found = doctor.checks()["function's settings"]
    assert found["state"] == "warn"
    assert found["repair"].endswith("--update-env-vars=LOGMEND_SSH_HOST_KEYS=auto")


def test_an_api_that_is_away_is_not_an_ill(doctor: Clinic, home: GoogleHome) -> None:
    """503 is unknown, and said to be."""
    home.broken.add(PUSH_SUBSCRIPTION)
    found = doctor.checks()["push subscription"]
    assert found["state"] == "unknown"
    assert "api_unavailable" in found["evidence"]


def test_without_credentials_what_needs_none_is_checked_and_the_rest_is_unknown(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do about it is said once; what was not looked at is not called well, so the status is 1."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    state = f"sqlite:{tmp_path / 'ledger.sqlite'}"
    ran = run("doctor", "--project", HOME, "--format", "json", state=state)
    assert ran.exit_code == 1
    found = {each["name"]: each for each in json.loads(ran.stdout)["checks"]}
    failed = [name for name, each in found.items() if each["state"] == "fail"]
    assert failed == ["Google credentials"]
    assert found["Google credentials"]["repair"] == "gcloud auth application-default login"
    assert "File of GOOGLE_APPLICATION_CREDENTIALS was not found; " in found["Google credentials"]["evidence"]
    assert found["ledger"]["state"] == found["ledger's documents"]["state"] == "ok"
    assert {found[name]["state"] for name in ("topic", "push subscription", "function", "scheduler")} == {
        "unknown"
    }
    assert "no_credentials" in found["topic"]["evidence"]


def test_a_role_on_the_whole_project_counts(doctor: Clinic, home: GoogleHome) -> None:
    """And one of one's own is asked about rather than guessed at."""
    home.answers[f"/v1/{TOPIC}:getIamPolicy"] = {}
    home.answers[f"/v3/projects/{HOME}:getIamPolicy"] = policy("roles/pubsub.admin", WRITER)
    name = f"writer of the sink in projects/{HOME}"
    assert doctor.checks()[name]["state"] == "ok"
    home.answers[f"/v1/{TOPIC}:getIamPolicy"] = policy(f"projects/{HOME}/roles/mine", WRITER)
    home.answers[f"/v3/projects/{HOME}:getIamPolicy"] = {}
    assert doctor.checks()[name]["state"] == "unknown"
    home.answers[f"/v1/{TOPIC}:getIamPolicy"] = {}
    home.refused.add(f"/v3/projects/{HOME}:getIamPolicy")
    assert doctor.checks()[name]["state"] == "unknown"


def test_the_direct_route_is_checked_from_where_the_function_comes(doctor: Clinic, home: GoogleHome) -> None:
    """A VPC connector's range, or the subnet of Direct VPC egress."""
    environment(LOGMEND_SSH_ROUTE="direct")(home)
    connector = f"projects/{HOME}/locations/us-central1/connectors/logmend"
    home.answers[FUNCTION_PATH]["serviceConfig"]["vpcConnector"] = connector
    home.answers[f"/v1/{connector}"] = {"name": connector, "ipCidrRange": "10.8.0.0/28", "state": "READY"}
    found = doctor.checks()[f"SSH route in {HOME}"]
    assert (found["state"], "10.8.0.0/28" in found["evidence"]) == ("fail", True)
    home.answers[FIREWALLS]["items"][0]["sourceRanges"] = ["10.8.0.0/16"]
    assert doctor.checks()[f"SSH route in {HOME}"]["state"] == "ok"
    home.answers[f"/v1/{connector}"]["state"] = "ERROR"
    assert doctor.checks()[f"SSH route in {HOME}"]["state"] == "fail"
    del home.answers[FUNCTION_PATH]["serviceConfig"]["vpcConnector"]
    home.answers[RUN]["template"] = {
        "vpcAccess": {"networkInterfaces": [{"network": "default", "subnetwork": "run"}]}
    }
    home.answers[f"{COMPUTE}/regions/us-central1/subnetworks/run"] = {"ipCidrRange": "10.8.4.0/26"}
    assert doctor.checks()[f"SSH route in {HOME}"]["state"] == "ok"


def test_the_ledger_tells_of_switches_and_of_the_last_tick(doctor: Clinic, tmp_path: Path) -> None:
    """Frozen, an open breaker, a tick that is late, no tick, a file that is no ledger."""
    at = datetime.now(UTC)
    doctor.ledger(lambda controls: controls.note_tick(at - timedelta(hours=1)))
    assert doctor.checks()["last tick"]["state"] == "fail"
    doctor.ledger(lambda controls: controls.open_breaker("workload-cert-refresh", Breaker(at, 5, 8)))
    found = doctor.checks()["ledger"]
    assert (found["state"], found["repair"]) == ("warn", "logmend resume --runbook workload-cert-refresh")
    doctor.ledger(lambda controls: controls.freeze(Freeze("sre@desk", at, "looking into it")))
    found = doctor.checks()["ledger"]
    assert (found["state"], found["repair"]) == ("warn", "logmend resume")
    assert "sre@desk" in found["evidence"]
    assert doctor.checks(state=f"sqlite:{tmp_path / 'new.sqlite'}")["last tick"]["state"] == "warn"
    (tmp_path / "text").write_text("no ledger " * 200)
    assert doctor.checks(state=f"sqlite:{tmp_path / 'text'}")["ledger"]["state"] == "fail"


async def damage(store: SqliteStore) -> None:
    """Leave a lease and a place whose intents are gone, and a VM's document that nobody can read."""
    now = datetime.now(UTC)
    held = Subject(
        REF, RUNBOOK, fence=7, lease=Lease("dead", 7, "m-lost", now + timedelta(hours=9)), held=True
    )
    unreadable = subject_key(replace(REF, instance_id="6"), RUNBOOK)
    writes: dict[Key, Document | None] = {
        subject_key(REF, RUNBOOK): Document(pack(held), "leased", now + timedelta(hours=9)),
        shard_key("places", RUNBOOK, 3): Document(pack(Shard(600.0, {"m-gone": Out(now, None)}))),
        unreadable: Document({"fence": "high"}),
    }
    await store.transact(list(writes), lambda _: (writes, None))


def test_what_is_amiss_in_the_ledger_is_named_and_repaired_where_that_was_asked_for(doctor: Clinic) -> None:
    """Document by document. Without the option nothing is written; what cannot be read stays, and fails."""
    doctor.stored(damage)
    lease, place = f"subjects/{subject_key(REF, RUNBOOK)[1]}", f"places/{RUNBOOK}~3"
    unreadable = f"subjects/{subject_key(replace(REF, instance_id='6'), RUNBOOK)[1]}"
    for _ in range(2):
        found = doctor.checks()["ledger's documents"]
        assert found["state"] == "fail"
        assert [each in found["evidence"] for each in (lease, place, unreadable)] == [True] * 3
        assert "repaired" not in found["evidence"]
        assert found["repair"].endswith("--repair-ledger")
    found = doctor.checks("--repair-ledger")["ledger's documents"]
    assert found["state"] == "fail"
    assert f"repaired {lease}" in found["evidence"]
    assert f"repaired {place}" in found["evidence"]
    assert f"repaired {unreadable}" not in found["evidence"]
    assert found["repair"] is None
    left: list[Subject | None] = []

    async def look(controls: Controls) -> None:
        left.append(await controls.subject(REF, RUNBOOK))

    doctor.ledger(look)
    assert left[0] is not None
    assert (left[0].lease, left[0].held, left[0].fence) == (None, True, 7)
    found = doctor.checks()["ledger's documents"]
    assert unreadable in found["evidence"]
    assert lease not in found["evidence"]


def test_os_policies_are_looked_for_in_every_zone_of_the_scope(doctor: Clinic, home: GoogleHome) -> None:
    """Those of the mode: check alone in observe mode."""
    environment(LOGMEND_EXECUTOR="osconfig", LOGMEND_SCOPE_ZONES="us-west1-a,us-west1-b")(home)
    for zone, actions in (("a", ("check", "enforce", "revert")), ("b", ("check",))):
        at = f"projects/{HOME}/locations/us-west1-{zone}/osPolicyAssignments"
        home.answers[f"/v1/{at}"] = {
            "osPolicyAssignments": [
                {"name": f"{at}/logmend-workload-cert-refresh-{each}", "rolloutState": "SUCCEEDED"}
                for each in actions
            ]
        }
    found = doctor.checks()
    assert found[f"OS policies in {HOME}/us-west1-a"]["state"] == "ok"
    assert found[f"OS policies in {HOME}/us-west1-b"]["state"] == "fail"
    assert f"--project {HOME} --zone us-west1-b" in found[f"OS policies in {HOME}/us-west1-b"]["repair"]
    assert f"SSH route in {HOME}" not in found


def test_each_runbook_has_its_own_executor_and_mode(doctor: Clinic, home: GoogleHome, tmp_path: Path) -> None:
    """What goes over OS Config has its assignments looked for; SSH is checked for what does not."""
    own = tmp_path / "own/mine"
    shutil.copytree(BUILT_IN / "workload-cert-refresh", own)
    text = (own / "runbook.yaml").read_text()
    (own / "runbook.yaml").write_text(text.replace("name: workload-cert-refresh", "name: mine"))
    chosen = tmp_path / "logmend.yaml"
    osconfig = "executor: osconfig"
    chosen.write_text(
        f"folders: [own]\nrunbooks:\n  workload-cert-refresh: {{{osconfig}, mode: observe}}\n"
        f"  mine: {{{osconfig}}}\n"
    )
    environment(LOGMEND_SCOPE_ZONES="us-west1-a", LOGMEND_EXECUTOR="ssh")(home)
    at = f"projects/{HOME}/locations/us-west1-a/osPolicyAssignments"
    named = ["logmend-workload-cert-refresh-check"]
    named += [f"logmend-mine-{each}" for each in ("check", "enforce", "revert")]

    def checks(*there: str, **more: str) -> dict[str, dict[str, Any]]:
        rolled = [{"name": f"{at}/{each}", "rolloutState": "SUCCEEDED"} for each in there]
        home.answers[f"/v1/{at}"] = {"osPolicyAssignments": rolled} | more
        return doctor.checks(runbooks=str(chosen))

    policies = f"OS policies in {HOME}/us-west1-a"
    found = checks(*named)
    assert (found[policies]["state"], found[policies]["evidence"]) == ("ok", "4 in place")
    assert f"SSH route in {HOME}" in found
    assert f"OS Config agent in {HOME}" in found
    found = checks(*named[:2])
    assert found[policies]["state"] == "fail"
    assert found[policies]["evidence"] == "not there: logmend-mine-enforce, logmend-mine-revert"
    assert checks(*named[:2], nextPageToken="2")[policies]["state"] == "unknown"


def test_a_sink_of_an_organization_is_looked_for_there(doctor: Clinic, home: GoogleHome) -> None:
    """It has to take in the projects below."""
    home.answers["/v2/organizations/333/sinks/logmend"] = home.answers[SINK]
    found = doctor.checks("--organization", "333")
    assert found["sink in organizations/333"]["repair"].endswith("--organization=333 --include-children")
    home.answers[SINK]["includeChildren"] = True
    assert doctor.checks("--organization", "333")["sink in organizations/333"]["state"] == "ok"


def test_people_read_a_line_for_each_check_and_the_command_below_it(doctor: Clinic, home: GoogleHome) -> None:
    """`--problems` leaves out what is well."""
    change(JOB, state="PAUSED")(home)
    lines = doctor("--problems").stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("fail     scheduler: the job is PAUSED"))
    assert lines[at + 1].strip().startswith("gcloud scheduler jobs resume logmend-tick")
    assert not [line for line in lines if line.startswith("ok ")]
    assert any(line.startswith("ok       topic: ") for line in doctor().stdout.splitlines())


def test_every_command_that_mends_is_one_that_gcloud_knows(
    doctor: Clinic, home: GoogleHome, run: Callable[..., Result], tmp_path: Path
) -> None:
    """Each ill's, checked by gcloud itself."""
    needs(commands=("gcloud",))
    repairs = set()
    for each in ILLS:
        fresh = GoogleHome()
        home.answers, home.disabled, home.lacking = fresh.answers, fresh.disabled, fresh.lacking
        each[1](home)
        repairs |= {found["repair"] for found in doctor.checks().values() if found["repair"]}
    shown = sorted(each for each in repairs if each.startswith("gcloud "))
    assert len(shown) > 30
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": each} for each in shown]))
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wrong = {
        each["command_string"]: each["error_message"]
        for each in json.loads(done.stdout)
        if not each["success"]
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which project"),
        (["--project", "No_Such"], "not a project id"),
        (["--project", HOME, "--folder", "x"], "by its number"),
        (["--project", HOME, "--folder", "1", "--organization", "2"], "two sinks deliver every entry twice"),
    ],
)
def test_what_cannot_be_used_is_said(run: Callable[..., Result], args: list[str], said: str) -> None:
    """Status 2, nothing on standard output."""
    ran = run("doctor", *args)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert said in ran.stderr
