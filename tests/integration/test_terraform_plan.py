"""Real Terraform evaluates our modules; the plan is held against what the function itself expects."""

import asyncio
import base64
import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from google.cloud.logging_v2 import Resource
from tests import monitoring
from tests.conftest import needs
from tests.provider_schema import ROOT
from tests.terraform_run import PROJECT, Plan, Terraform
from tests.unit.test_outcome_json import but as outcome

from logmend import catalog, lql, permissions
from logmend.adapters.google.cloud_logging import CloudOutcomeLog
from logmend.adapters.google.outcome_topic import OutcomeTopic
from logmend.adapters.google.pubsub import Publisher
from logmend.errors import Permanent
from logmend.model.enums import INTERIM_RESULTS, Mode, Result
from logmend.model.struct import replace
from logmend.model.values import Incident, Outcome, Tick
from logmend.osconfig import assignment
from logmend.outcome import document, reasons
from logmend.runbook import load_all
from logmend.settings import PREFIX, ExecutorChoice, Settings, SshRoute
from logmend.stages import decode, identify, match

FUNCTION = "google_cloudfunctions2_function.remediate"
pytestmark = pytest.mark.timeout(300)  # Terraform starts several times in one test

ZONE = "us-central1-a"
CONNECTOR = {"network": "default", "ip_cidr_range": "10.8.0.0/28"}
ORGANIZATION = {
    "organization_id": "4711",
    "vm_service_accounts": {"shop": ["vm@shop.iam.gserviceaccount.com"]},
}


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform, initialised on a copy of ``deploy/``."""
    needs(commands=("terraform",))
    return Terraform(tmp_path_factory.mktemp("terraform"), "deploy")


def exported(lines: str) -> dict[str, str]:
    """Give what a shell has in its environment after it read the lines."""
    command = ["/bin/sh", "-c", 'eval "$0" && env -0', lines]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    every = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
    return {name: value for name, value in every.items() if name.startswith("LOGMEND_")}


def environment(plan: Plan) -> dict[str, str]:
    config = plan.one(FUNCTION)["service_config"][0]
    found: dict[str, str] = config["environment_variables"]
    return found


def roles(plan: Plan) -> dict[str, frozenset[str]]:
    """Permissions of each custom role in the plan, by the end of its id."""
    found = plan.of_type("google_project_iam_custom_role") | plan.of_type(
        "google_organization_iam_custom_role"
    )
    return {
        each["role_id"].removeprefix("logmend_"): frozenset(each["permissions"]) for each in found.values()
    }


# It is valid, and plans


@pytest.mark.parametrize("module", ["deploy", "sink"])
def test_the_module_is_valid(module, tmp_path):
    """``terraform validate`` is content with every reference, type and expression."""
    needs(commands=("terraform",))
    done = Terraform(tmp_path, module).run("validate")
    assert done.returncode == 0, done.stderr


def test_the_files_are_formatted():
    """``terraform fmt`` would change nothing."""
    needs(commands=("terraform",))
    for module in ("deploy", "sink"):
        command = ["terraform", f"-chdir={ROOT / module}", "fmt", "-check", "-recursive"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"mode": "enforce", "ssh_networks": ["projects/shop-prod/global/networks/default"]},
        {"mode": "enforce", "ssh_route": "direct", "connector": CONNECTOR},
        {"executor": "osconfig", "zones": [ZONE], "mode": "enforce"},
        {"executor": "auto", "zones": [ZONE], "projects": ["shop-prod", "shop-test"]},
        ORGANIZATION,
        ORGANIZATION | {"folder_id": "42", "projects": ["shop-prod"]},
        {
            "incident_runbooks": ["ops-agent", "workload-cert-refresh"],
            "operators": ["group:sre@example.com"],
            "alert_emails": ["sre@example.com"],
            "keep_ledger": True,
        },
    ],
    ids=["default", "enforce", "direct", "osconfig", "auto", "organization", "folder", "people"],
)
def test_it_plans_while_nothing_is_known_that_only_google_can_tell(deploy, variables):
    """No ``for_each`` or ``count`` hangs on a value that exists only after applying."""
    assert len(deploy.plan(**variables).resources) > 40


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "project_id": ("Shop", "A project id"),
            "mode": ("enforced", "observe, approve or enforce"),
            "executor": ("agent", "ssh, osconfig or auto"),
            "folder_id": ("42", "needs organization_id"),
            "projects": (["shop-prod", "shop-prod"], "Each project once"),
            "settings": ({"LOGMEND_COOLDOWN_PLANED": "12h"}, "LOGMEND_COOLDOWN_PLANED"),
            "attempt_deadline_seconds": (300, "30 to 240"),
            "disruption_budget": ("twenty", "COUNT/DURATION"),
            "exempt_label": ("logmend", "KEY=VALUE"),
            "windows": (["Mon-Fri 22:00-06:00"], "22:00-06:00 Europe/Berlin"),
            "blackouts": (["24 December Europe/Berlin"], "12-24..01-02 Europe/Berlin"),
            "operators": (["allUsers"], "allUsers is not one"),
            "incident_runbooks": (["opsagent"], "have a policy"),
            "message_retention_days": (32, "1 to 31"),
            "memory": ("256Mi", "512Mi"),
            "ledger_database": ("(default)", "is not used"),
            "name": ("sre", "6 to 20"),
            "ssh_host_keys": ("known-hosts:/tmp/x", "auto, pinned, published or insecure"),
            "ssh_user": ("sre", "go together"),
            "alerts": ({"failed": {"share": 5}}, "from 0 to 1"),
            "guide_url": ("docs/operations.md", "without #"),
        },
        {
            "executor": ("osconfig", "needs zones"),
            "connector": ({"network": "default", "ip_cidr_range": "10.8.0.0/16"}, "/28"),
            "folder_id": ("folders/42", "without folders/"),
            "settings": ({"LOGMEND_MODE": "enforce"}, "variable of its own"),
            "alerts": ({"faild": {}}, "No such alert: faild"),
            "vm_service_accounts": ({"shop-prod": ["somebody@example.com"]}, "email addresses"),
        },
        {
            "ssh_route": ("direct", "needs connector"),
            "zones": (["us-central1"], "Zones such as"),
            "alerts": ({"missed_tick": {"threshold": 2}}, "missed_tick has no threshold"),
            "owners": ({"web": []}, "owners needs settings.LOGMEND_OWNER_LABEL"),
        },
    ],
    ids=["each", "together", "route"],
)
def test_variables_that_make_no_sense_are_refused_before_anything_is_made(deploy, wrong):
    """Every validation refuses, all at once, in words that tell what is expected."""
    done = deploy.try_plan(**{name: value for name, (value, _) in wrong.items()})
    assert done.returncode != 0
    said = " ".join(done.stderr.replace("│", " ").split())
    assert [words for _, words in wrong.values() if words not in said] == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"projects": ["shop-prod"], "folder_id": "42"}, "One of projects, folder_id and organization_id"),
        ({"filter": " "}, "would route every log entry"),
    ],
)
def test_a_sink_that_would_deliver_twice_or_everything_is_refused(tmp_path, variables, said):
    """Used alone, the sink module refuses two scopes at once and an empty filter."""
    needs(commands=("terraform",))
    sink = Terraform(tmp_path, "sink")
    assert sink.plan().one('google_logging_project_sink.this["logmend-home"]')["project"] == PROJECT
    done = sink.try_plan(**variables)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_applying_twice_changes_nothing_and_destroying_leaves_no_resource(deploy):
    """A second plan is empty, and after destroy the state is too."""
    variables = {"mode": "enforce", "executor": "auto", "zones": [ZONE], "incident_runbooks": ["ops-agent"]}
    assert deploy.try_plan(**variables).returncode == 0
    assert deploy.run("apply", "-input=false", "-auto-approve", "plan.bin").returncode == 0
    again = deploy.run("plan", "-input=false", "-detailed-exitcode")
    try:
        assert again.returncode == 0, again.stdout
    finally:
        gone = deploy.run("destroy", "-input=false", "-auto-approve")
    assert gone.returncode == 0, gone.stderr
    assert "values" not in json.loads(deploy.run("show", "-json").stdout)


# What the function is given


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "mode": "enforce",
            "ssh_route": "direct",
            "connector": CONNECTOR,
            "follow_up": True,
            "confirm_silence": True,
        },
        {"mode": "approve", "executor": "auto", "zones": [ZONE], "projects": ["shop-prod", "shop-test"]},
        ORGANIZATION
        | {
            "scope_labels": {"team": "shop"},
            "settings": {"LOGMEND_COOLDOWN_PLANNED": "12h"},
            "windows": ["Mon-Fri,Sun 22:00-06:00 America/Port-au-Prince", "label:env=prod Sat UTC"],
            "blackouts": ["12-24..01-02 Europe/Berlin"],
        },
    ],
)
def test_the_functions_environment_is_what_settings_read(deploy, variables):
    """Every name is known, every value parses, and together they say what the variables said."""
    plan = deploy.plan(known=True, **variables)
    settings = Settings.from_environment(environment(plan) | {"K_SERVICE": "logmend"})
    for_people = Settings.from_environment(plan.outputs["operator_settings"])
    assert replace(for_people, topic=None) == settings
    assert exported(plan.outputs["operator_exports"]) == plan.outputs["operator_settings"]
    assert settings.mode == variables.get("mode", "observe")
    assert settings.executor == variables.get("executor", "ssh")
    assert settings.ssh_route == variables.get("ssh_route", "iap")
    assert settings.state == f"firestore:{PROJECT}/logmend"
    assert (settings.outcomes, settings.project) == ("cloud", PROJECT)
    assert settings.follow_up is variables.get("follow_up", False)
    assert settings.confirm_silence is variables.get("confirm_silence", False)
    wide = "organization_id" in variables
    assert settings.scope_projects == tuple(variables.get("projects", [] if wide else [PROJECT]))
    assert settings.scope_zones == tuple(variables.get("zones", []))
    assert dict(settings.scope_labels) == variables.get("scope_labels", {})
    assert "; ".join(map(str, settings.windows)) == "; ".join(variables.get("windows", []))
    assert "; ".join(map(str, settings.blackouts)) == "; ".join(variables.get("blackouts", []))
    assert settings.service_account == f"logmend@{PROJECT}.iam.gserviceaccount.com"
    assert settings.dead_letter_topic == f"projects/{PROJECT}/topics/logmend-dead-letter"


def test_every_setting_is_either_set_or_can_be_set(deploy):
    """A setting that is new in the function and unknown to Terraform fails here, and so does the reverse."""
    text = (ROOT / "deploy" / "function.tf").read_text()
    listed = re.search(r"(?s)tunable_settings = \[(.*?)\]", text)
    assert listed is not None
    tunable = set(re.findall(r'"(LOGMEND_[A-Z_]+)"', listed[1]))
    own = set(re.findall(r"(?m)^    (LOGMEND_[A-Z_]+) +=", text))
    # The deployed function has no files but its own and mounted secrets: runbooks come with the archive.
    # It reads from the topic through its subscription; only people's commands publish.
    # Only the scan of a folder or an organization asks the Resource Manager.
    local = {"LOGMEND_RUNBOOKS", "LOGMEND_TOPIC", "LOGMEND_RESOURCEMANAGER_ENDPOINT"}
    assert not tunable & own
    assert tunable | own | local == {PREFIX + each.name.upper() for each in fields(Settings)}


def test_the_timeouts_fit_into_each_other(deploy):
    """Attempt < function < lease, and function < ack deadline: no message is at work twice."""
    for seconds in (30, 240):
        plan = deploy.plan(known=True, attempt_deadline_seconds=seconds)
        settings = Settings.from_environment(environment(plan))
        timeout = timedelta(seconds=plan.one(FUNCTION)["service_config"][0]["timeout_seconds"])
        ack = timedelta(seconds=plan.one("google_pubsub_subscription.push")["ack_deadline_seconds"])
        assert settings.attempt_deadline == timedelta(seconds=seconds)
        assert settings.attempt_deadline + timedelta(minutes=1) <= timeout == settings.function_timeout
        assert timeout < settings.lease
        assert timeout < ack <= timedelta(seconds=600)


def test_the_function_is_closed_to_the_outside_and_has_no_trigger_of_its_own(deploy):
    """Only the push account may call it, only from inside; a second subscription would deliver twice."""
    plan = deploy.plan(known=True)
    function = plan.one(FUNCTION)
    config = function["service_config"][0]
    assert config["ingress_settings"] == "ALLOW_INTERNAL_ONLY"
    assert function["event_trigger"] == []
    assert (config["available_cpu"], config["max_instance_request_concurrency"]) == ("1", 80)
    assert config["max_instance_count"] == 5
    invokers = [each for each in plan.resources.values() if each.get("role") == "roles/run.invoker"]
    assert [each["member"] for each in invokers] == [
        f"serviceAccount:logmend-push@{PROJECT}.iam.gserviceaccount.com"
    ]
    push = plan.one("google_pubsub_subscription.push")
    assert push["push_config"][0]["oidc_token"][0]["audience"] == push["push_config"][0]["push_endpoint"]
    assert push["retry_policy"] == [{"minimum_backoff": "10s", "maximum_backoff": "600s"}]
    assert push["dead_letter_policy"][0]["max_delivery_attempts"] == 10


# Who may do what


COMBINATIONS = [
    *itertools.product([Mode.OBSERVE, Mode.ENFORCE], ExecutorChoice, [SshRoute.IAP]),
    (Mode.APPROVE, ExecutorChoice.SSH, SshRoute.IAP),
    (Mode.OBSERVE, ExecutorChoice.SSH, SshRoute.DIRECT),
    (Mode.ENFORCE, ExecutorChoice.AUTO, SshRoute.DIRECT),
]


@pytest.mark.parametrize(("mode", "executor", "route"), COMBINATIONS)
def test_the_custom_roles_hold_exactly_what_the_adapters_declare(deploy, mode, executor, route):
    """Neither more nor less, in every combination of mode, executor and route."""
    plan = deploy.plan(
        known=True,
        mode=mode,
        executor=executor,
        ssh_route=route,
        connector=CONNECTOR if route is SshRoute.DIRECT else None,
        zones=[ZONE],
    )
    planned = roles(plan)
    assert planned.pop("operator") == permissions.OPERATOR
    assert planned == permissions.function(mode, executor, route)
    fleet = planned["fleet"]
    assert ("compute.instances.osAdminLogin" in fleet) is (
        mode is not Mode.OBSERVE and executor is not ExecutorChoice.OSCONFIG
    )


def test_reading_logs_is_one_variable_and_one_permission(deploy):
    """Whoever does not ask for it grants nothing of it."""
    without, with_it = (roles(deploy.plan(known=True, confirm_silence=each)) for each in (False, True))
    assert with_it == without | {"fleet": without["fleet"] | permissions.SILENCE}


def test_enforcing_is_one_variable_and_changes_the_function_and_one_role(deploy):
    """Between observing and enforcing over ssh nothing else differs, as docs/deploy.md says."""
    observing, enforcing = deploy.plan(known=True), deploy.plan(known=True, mode="enforce")
    assert observing.resources.keys() == enforcing.resources.keys()
    changed = {at for at, each in observing.resources.items() if enforcing.resources[at] != each}
    assert changed == {FUNCTION, f'google_project_iam_custom_role.fleet["{PROJECT}/fleet"]'}
    before, after = environment(observing), environment(enforcing)
    assert {name for name in before if before[name] != after[name]} == {"LOGMEND_MODE"}


def test_the_function_gets_nothing_but_those_roles(deploy):
    """No predefined role, no owner or editor, and the ledger's role only on the ledger."""
    plan = deploy.plan(known=True, mode="enforce", projects=["shop-prod", "shop-test"])
    member = f"serviceAccount:logmend@{PROJECT}.iam.gserviceaccount.com"
    grants = [each for each in plan.resources.values() if each.get("member") == member]
    assert len(grants) == 7
    assert all(re.match(r"projects/[^/]+/roles/logmend_", each["role"]) for each in grants), grants
    ledger = plan.one("google_project_iam_member.ledger")
    assert ledger["condition"][0]["expression"] == f'resource.name == "projects/{PROJECT}/databases/logmend"'
    accounts = {at for at in plan.resources if at.startswith("google_service_account_iam_member.act_as")}
    assert len(accounts) == 2


def test_secrets_are_mounted_where_the_settings_look_and_nothing_else_may_be_read(deploy):
    """A known_hosts file and a key for fleets without OS Login; without them, no grant and no API."""
    plan = deploy.plan(known=True, ssh_known_hosts_secret="hosts", ssh_key_secret="key", ssh_user="sre")
    settings = Settings.from_environment(environment(plan) | {"K_SERVICE": "logmend"})
    mounted = {
        f"{each['mount_path']}/{each['versions'][0]['path']}": each["secret"]
        for each in plan.one(FUNCTION)["service_config"][0]["secret_volumes"]
    }
    assert settings.ssh_host_keys.partition(":")[::2] == ("known-hosts", "/secrets/known-hosts/value")
    assert (settings.ssh_key, settings.ssh_user) == (Path("/secrets/ssh-key/value"), "sre")
    assert mounted == {"/secrets/known-hosts/value": "hosts", "/secrets/ssh-key/value": "key"}
    grants = plan.of_type("google_secret_manager_secret_iam_member").values()
    assert {(each["secret_id"], each["role"]) for each in grants} == {
        (secret, "roles/secretmanager.secretAccessor") for secret in ("hosts", "key")
    }
    plain = deploy.plan(known=True, ssh_host_keys="published", ssh_import_keys=False)
    assert not plain.of_type("google_secret_manager_secret_iam_member")
    assert not [each for each in plain.resources if "secretmanager" in each]
    settings = Settings.from_environment(environment(plain) | {"K_SERVICE": "logmend"})
    assert (settings.ssh_host_keys, settings.ssh_import_keys) == ("published", False)


def test_the_function_may_publish_to_the_topic_of_outcomes_and_to_no_other(deploy):
    """Without the variable there is neither topic nor grant nor setting."""
    plan = deploy.plan(known=True, outcome_topic=True)
    topic = f"projects/{PROJECT}/topics/logmend-outcomes"
    settings = Settings.from_environment(environment(plan) | {"K_SERVICE": "logmend"})
    assert settings.outcome_topic == plan.outputs["outcome_topic"] == topic
    member = f"serviceAccount:logmend@{PROJECT}.iam.gserviceaccount.com"
    publishers = {
        each["topic"]: each["role"]
        for each in plan.of_type("google_pubsub_topic_iam_member").values()
        if each["member"] == member
    }
    assert publishers.keys() == {"logmend-dead-letter", "logmend-outcomes"}
    assert {roles(plan)[each.rpartition("logmend_")[2]] for each in publishers.values()} == {
        permissions.DEAD_LETTER
    }
    plain = deploy.plan(known=True)
    assert [each for each in plain.resources if "outcomes" in each and "pubsub" in each] == []
    assert Settings.from_environment(environment(plain)).outcome_topic is None


def test_a_role_is_granted_only_where_it_is_defined(deploy):
    """A project's custom role means nothing in another project; a folder takes the organization's."""
    plan = deploy.plan(known=True, projects=["shop-prod", "shop-test"])
    for at, each in plan.of_type("google_project_iam_member").items():
        if each["role"].startswith("projects/"):
            assert each["role"].split("/")[1] == each["project"], at
    folder = deploy.plan(known=True, **ORGANIZATION, folder_id="42", projects=["shop-prod"])
    granted = folder.one("google_folder_iam_member.fleet[0]")
    assert (granted["folder"], granted["role"]) == ("folders/42", "organizations/4711/roles/logmend_fleet")
    assert not folder.of_type("google_organization_iam_member")
    assert not folder.of_type("google_logging_organization_sink")


# What travels


def test_there_is_one_sink_with_our_filter_for_each_scope(deploy):
    """Two sinks over the same logs would deliver every entry twice."""
    expected = (ROOT / "sink" / "filter.lql").read_text()
    for variables, scopes in (
        ({}, [("google_logging_project_sink", PROJECT)]),
        (
            {"projects": ["shop-prod", "shop-test"]},
            [("google_logging_project_sink", "shop-prod"), ("google_logging_project_sink", "shop-test")],
        ),
        (ORGANIZATION, [("google_logging_organization_sink", None)]),
        (
            ORGANIZATION | {"folder_id": "42", "projects": ["shop-prod"]},
            [("google_logging_folder_sink", None)],
        ),
    ):
        plan = deploy.plan(known=True, **variables)
        found = {
            at: each for at, each in plan.resources.items() if "google_logging_" in at and "_sink." in at
        }
        assert sorted((at.split(".")[2], each.get("project")) for at, each in found.items()) == scopes
        assert {each["filter"] for each in found.values()} == {expected}
        writers = plan.of_type("google_pubsub_topic_iam_member")
        assert sum("writer" in at for at in writers) == len(scopes)


def test_the_scheduler_sends_what_decode_calls_a_tick(deploy):
    """The job's message, pushed the way Pub/Sub pushes, is a tick."""
    job = deploy.plan(known=True).one("google_cloud_scheduler_job.tick")
    data = job["pubsub_target"][0]["data"]
    assert json.loads(base64.b64decode(data)) == {"logmend": "tick"}
    body = json.dumps({"message": {"data": data, "messageId": "1"}, "subscription": "s"}).encode()
    _, event = decode.request(body, {})
    assert isinstance(event, Tick)
    assert job["schedule"] == "*/5 * * * *"


# OS Config


def assignments(plan: Plan) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in plan.of_type("google_os_config_os_policy_assignment").values()}


def test_observing_deploys_checks_and_nothing_that_could_change_a_vm(deploy):
    """In observe mode no assignment has an enforcement step."""
    found = assignments(deploy.plan(executor="osconfig", zones=[ZONE]))
    assert found
    assert {name.rpartition("-")[2] for name in found} == {"check"}
    for each in found.values():
        assignment = each["os_policies"][0]
        assert assignment["mode"] == "VALIDATION"
        assert assignment["resource_groups"][0]["resources"][0]["exec"][0]["enforce"] == []


def test_the_assignments_are_to_the_byte_what_the_function_expects_to_find(deploy):
    """The same scripts as over ssh, filter, modes and rollout: else the function says assignment_outdated."""
    variables = {"ops_agent_version": "2.50.0", "exempt_label": "remediation=none"}
    found = assignments(deploy.plan(executor="osconfig", zones=[ZONE], mode="enforce", **variables))
    # Which leaves out what goes over SSH only.
    runbooks = {name: each for name, each in catalog.load(Settings()).items() if not each.ssh_only}
    assert found.keys() == {
        assignment.assignment_id(name, act) for name in runbooks for act in assignment.ACTIONS
    }
    for name, runbook in runbooks.items():
        for action in assignment.ACTIONS:
            wanted = assignment.assignment(runbook, action, ("remediation", "none"))
            planned = as_rest(found[assignment.assignment_id(name, action)])
            assert assignment.differences(wanted, planned) == ()
            assert planned["description"] == wanted["description"]


def as_rest(value: Any) -> Any:
    """Turn Terraform's form (snake_case, lists for single blocks, null for absent) into that of REST."""
    many = {"os_policies", "resource_groups", "resources", "inclusion_labels", "exclusion_labels"}
    if not isinstance(value, dict):
        return value
    found = {}
    for key, each in value.items():
        if isinstance(each, list) and (not each or isinstance(each[0], dict)):
            items = [as_rest(item) for item in each]
            kept = items if key in many else (items or [None])[0]
        else:
            kept = as_rest(each) if key != "labels" else each
        if kept is not None:
            found[re.sub(r"_([a-z])", lambda m: m[1].upper(), key)] = kept
    return found


# What people see


def test_the_dashboard_shows_results_and_labels_that_exist(deploy):
    """A chart of a misspelt result would stay empty for ever; events are summed, not entries."""
    plan = deploy.plan(known=True)
    text = json.dumps(plan.one("google_monitoring_dashboard.logmend"))
    assert set(re.findall(r'metric\.labels?\.result ?= ?\\+"([a-z_]+)', text)) == {"failed", "remediated"}
    summed = re.findall(r"logging_googleapis_com:user_logmend_(\w+)\{monitored_resource=[^}]*\}", text)
    assert summed == ["events_sum"] * 4, "of VMs and of the function, by result and by reason"
    counting = plan.one("google_logging_metric.events")
    assert counting["value_extractor"] == "EXTRACT(jsonPayload.count)"
    left_out = set(re.findall(r'"([a-z_]+)"', counting["filter"].partition("NOT")[2]))
    assert left_out == INTERIM_RESULTS | {Result.CONTROLLED}, "each event once, and no use of a control"
    outcomes = monitoring.rest(plan.one("google_logging_metric.outcomes"))["labelExtractors"]
    used = set(re.findall(r"metric\.labels?\.([a-z_]+)", text)) - {"response_code_class"}
    assert used <= outcomes.keys()


OWNERS = {"payments": ["projects/p/notificationChannels/1"], "web": ["projects/p/notificationChannels/2"]}
EMAIL = 'google_monitoring_notification_channel.email["sre@example.com"]'
TOLD: dict[str, Any] = {
    "outcome_topic": True,
    "alert_emails": ["sre@example.com"],
    "guide_url": "https://git.example/operations.md",
    "owners": OWNERS,
    "settings": {"LOGMEND_OWNER_LABEL": "team"},
}
"""Everything of which people can be told."""
ASKED_FOR: dict[str, Callable[[Outcome], bool]] = {
    "failed": lambda each: each.result is Result.FAILED,
    "unverified": lambda each: each.result is Result.UNVERIFIED,
    "needs_human": lambda each: each.reason == "needs_human" and document.severity(each) == "ERROR",
    "line_goes_on": lambda each: each.reason == "line_goes_on",
    "approval_waits": lambda each: each.result is Result.PLANNED and each.approval_id is not None,
    "approval_expiring": lambda each: each.reason == "approval_expiring",
    "unreached": lambda each: (
        each.result in (Result.FAILED, Result.UNVERIFIED) and each.reason in reasons.UNREACHED
    ),
    "breaker_open": lambda each: each.reason == ("breaker_open" if each.instance else "breaker_opened"),
}
"""Of which outcomes each alert tells, said once more by itself."""
OF_THE_PLATFORM = {
    "pubsub.googleapis.com/subscription/num_undelivered_messages": {
        "resource.type": "pubsub_subscription",
        "resource.labels.subscription_id": "logmend-dead-letter",
    },
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age": {
        "resource.type": "pubsub_subscription",
        "resource.labels.subscription_id": "logmend-push",
    },
    "logging.googleapis.com/exports/error_count": {
        "resource.type": "logging_sink",
        "resource.labels.name": "logmend",
    },
    "run.googleapis.com/request_count": {
        "resource.type": "cloud_run_revision",
        "resource.labels.service_name": "logmend",
        "metric.labels.response_code_class": "5xx",
    },
}
"""Metrics of Google's, and of what they are asked for (cloud.google.com/monitoring/api/metrics_gcp)."""


def every_outcome() -> list[Outcome]:
    """Give an outcome of each result with each reason that there is, of VMs of three owners and of none."""
    found = []
    owners: list[str | None] = [*OWNERS, "somebody", None]
    pairs = itertools.product(enumerate(Result), enumerate([None, *reasons.REASONS]))
    for (row, result), (column, reason) in pairs:  # each result, and each reason, of every owner's
        owner = owners[(row + column) % len(owners)]
        plain = outcome(result=result, reason=reason, owner=owner, approval_id=None, notes=())
        if reason != "approval_expiring":
            first = replace(plain, notes=(reasons.FIRST_NEEDS_HUMAN,))
            found += [plain, first, replace(plain, approval_id="a1")]
            if result is Result.CONTROLLED and reason == "breaker_opened":  # of a runbook, not of a VM
                found.append(replace(plain, instance=None, instance_name=None, owner=None))
        elif result is Result.CONTROLLED:  # it is of controls alone, on plans
            found += [replace(plain, owner=owner) for owner in owners]
    return found


class Filed:
    """Cloud Logging's logger, which keeps the entry that the adapter files."""

    def log_struct(self, payload: Mapping[str, Any], *, resource: Any, labels: Any, **more: Any) -> None:
        self.entry = {
            "logName": f"projects/{PROJECT}/logs/{document.LOG_ID}",
            "resource": {"type": resource.type, "labels": resource.labels},
            "labels": labels,
            "severity": more["severity"],
            "jsonPayload": payload,
        }


FILED = Filed()
OUTCOME_LOG = CloudOutcomeLog(PROJECT)
OUTCOME_LOG._opened = (None, FILED)  # type: ignore[assignment]
OUTCOME_LOG._own = Resource("cloud_run_revision", {"location": "us-west1", "service_name": "logmend"})


def logged(each: Outcome) -> dict[str, Any]:
    """Give the entry that the adapter makes of an outcome."""
    OUTCOME_LOG._write(each)
    return FILED.entry


def test_each_alert_counts_the_outcomes_that_it_tells_of_and_no_others(deploy):
    """Every outcome there may be goes through the metric's filter and labels, and the alert's own matchers.

    Labels that an alert groups by, and variables of its text, are of that metric or of the VM. The link to
    the log shows the same outcomes, whoever their owner is.
    """
    defined = monitoring.definitions(deploy.plan(known=True, **TOLD))
    outcomes = every_outcome()
    entries = [logged(each) for each in outcomes]
    series = {
        each["name"].partition("/")[2]: monitoring.series(each, entries)
        for each in defined["metrics"]
        if each["name"] != "logmend/latency"  # of which no alert asks, and whose labels are none
    }
    asked = set()
    for policy in defined["policies"]:
        name, _, owner = policy["userLabels"]["logmend-alert"].partition("-")
        condition, *more = policy["conditions"]
        if (promql := condition.get("conditionPrometheusQueryLanguage")) is not None:
            (found, known) = counted_by_promql(promql["query"], series)
        else:
            threshold = condition.get("conditionThreshold") or condition["conditionAbsent"]
            (found, known) = counted_by_filter(threshold, series)
        for each in more:
            (others, same) = counted_by_filter(each["conditionThreshold"], series)
            assert others, name
            assert same == known, name
            found = sorted([*(found or []), *others])
        texts = json.dumps(policy["documentation"])
        assert set(re.findall(r"\$\{metric_or_resource\.label\.(\w+)\}", texts)) <= known, name
        assert ("${metric.label.value}" in texts) is (promql is not None)
        if (wanted := ASKED_FOR.get(name)) is None:
            assert found is None, name
            continue
        asked.add(name)
        meant = [at for at, each in enumerate(outcomes) if wanted(each)]
        assert found == [at for at in meant if not owner or outcomes[at].owner == owner], name
        links = {each["displayName"]: each["url"] for each in policy["documentation"]["links"]}
        query = re.search(r"query=([^;]+);duration=PT1H", links["Outcomes of the last hour"])
        assert query is not None
        shown = lql.compile(unquote(query[1]))
        assert set(meant) <= {at for at, entry in enumerate(entries) if shown.matches(entry)}, name
        assert not shown.matches(logged(outcome(result=Result.REMEDIATED, reason=None, approval_id=None)))
    assert asked == ASKED_FOR.keys()


Series = Mapping[str, Sequence[Mapping[str, str]]]
"""By metric, the labels that each of its entries counts under."""


def counted_by_promql(query: str, series: Series) -> tuple[list[int] | None, set[str]]:
    """Give which entries the query selects, and the labels of its result. Each selector has to find some."""
    chosen: list[list[int]] = []
    for name, matchers in monitoring.selectors(query):
        known = series[name.removeprefix("logging_googleapis_com:user_logmend_")]
        assert matchers.pop("monitored_resource") == "gce_instance"
        assert matchers.keys() <= known[0].keys(), matchers
        found = [
            int(each["#"])
            for each in known
            if each["resource.type"] == "gce_instance"
            and all(re.fullmatch(worth, each[label]) for label, worth in matchers.items())
        ]
        assert found, matchers
        chosen.append(found)
    for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", query):
        assert set(grouped.split(", ")) <= known[0].keys(), grouped
    result = re.match(r"\(\(count by \(([^)]*)\)", query)
    assert result is not None
    return chosen[0], set(result[1].split(", "))


def test_an_alert_fires_also_if_no_reason_is_common(deploy):
    """Where no reason is a fifth of the VMs, one series of all of them is compared with the thresholds."""
    policies = monitoring.definitions(deploy.plan(known=True, **TOLD))["policies"]
    found = {each["userLabels"]["logmend-alert"]: each["conditions"][0] for each in policies}
    queries = {
        name: each["conditionPrometheusQueryLanguage"]["query"]
        for name, each in found.items()
        if "conditionPrometheusQueryLanguage" in each
    }
    assert {"failed", "failed-web", "unreached"} < queries.keys()
    for name, query in queries.items():
        by = "project_id, zone" if name == "unreached" else "runbook"
        every = re.escape(f"count by ({by}) ") + r"\(sum by \([^)]*\) \(increase\([^)]*\)\) > 0\)"
        first = by.partition(",")[0]
        common = re.escape(f" >= on ({by}) group_left () 0.2 * ")
        or_all = re.escape(f" or on ({by}) label_replace(")
        said = re.escape(f', "reason", "various", "{first}", ".*"))')
        shape = rf"\(\(count by .*{common}({every})\){or_all}({every}){said} and on .*"
        parts = re.fullmatch(shape, query)
        assert parts is not None, query
        assert parts[1] == parts[2], name


def counted_by_filter(condition: Mapping[str, Any], series: Series) -> tuple[list[int] | None, set[str]]:
    """Give the same of a condition with a filter; None if nothing that it counts is an outcome."""
    asked: dict[str, str] = dict(re.findall(r'([\w.]+) = "([^"]*)"', condition["filter"]))
    assert " AND ".join(f'{field} = "{worth}"' for field, worth in asked.items()) == condition["filter"]
    kind = asked.pop("metric.type")
    groups = {
        each.removeprefix("metric.label.") for each in condition["aggregations"][0].get("groupByFields", [])
    }
    if kind in OF_THE_PLATFORM:
        assert asked == OF_THE_PLATFORM[kind]
        assert groups == set()
        return None, groups
    known = series[kind.removeprefix("logging.googleapis.com/user/logmend/")]
    if not known:  # of the function's own log, which has tests of its own
        return None, groups
    assert groups <= known[0].keys()
    fields = {field.removeprefix("metric.labels."): worth for field, worth in asked.items()}
    found = [int(each["#"]) for each in known if all(each[label] == worth for label, worth in fields.items())]
    return found, groups


def test_an_outcome_that_was_not_published_is_counted_by_its_reason(deploy, caplog):
    """The adapter's own line, as the function's log has it, under the metric that the alert asks for."""
    metric = monitoring.rest(deploy.plan(known=True).one("google_logging_metric.unpublished"))

    class Refused(Publisher):
        async def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
            raise Permanent("not_permitted", "roles/pubsub.publisher")

    assert asyncio.run(OutcomeTopic("projects/p/topics/t", Refused()).publish(outcome()))
    (record,) = caplog.records
    entry = {
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": "logmend"}},
        "jsonPayload": {"logger": record.name, "message": record.getMessage()},
    }
    (counted,) = monitoring.series(metric, [entry])
    assert (counted["reason"], counted["resource.type"]) == ("not_permitted", "cloud_run_revision")


def test_only_owners_that_are_known_become_series(deploy):
    """Anybody who may label a VM could else make as many as there are names."""
    plan = deploy.plan(known=True, **TOLD)
    for name in ("outcomes", "approvals"):
        metric = monitoring.rest(plan.one(f"google_logging_metric.{name}"))
        counted = monitoring.series(metric, [logged(each) for each in every_outcome()])
        assert {each["owner"] for each in counted} == {"payments", "web", ""}
        declared = {each["key"] for each in metric["metricDescriptor"]["labels"]}
        assert declared == metric["labelExtractors"].keys()
    plain = monitoring.rest(deploy.plan(known=True).one("google_logging_metric.outcomes"))
    assert {each["owner"] for each in monitoring.series(plain, map(logged, every_outcome()))} == {""}


def test_an_owner_is_told_of_its_own_vms_only_and_by_its_own_channels(deploy):
    """What concerns one owner's VMs goes to everybody's channels and to theirs; the rest to everybody's."""
    plan = deploy.plan(known=True, **TOLD)
    told = {
        at.split('"')[1]: each["notification_channels"]
        for at, each in plan.of_type("google_monitoring_alert_policy").items()
    }
    own = {name for name in told if "-" in name}
    kinds = {"failed", "unverified", "needs_human", "line_goes_on", "approval_waits", "approval_expiring"}
    assert own == {f"{kind}-{owner}" for kind in kinds for owner in OWNERS}
    for name, channels in told.items():
        assert channels == OWNERS.get(name.partition("-")[2], [plan.one(EMAIL)["id"]]), name


def test_alerts_may_be_turned_off_and_given_other_thresholds(deploy):
    """By name; what is not said stays as it is, and what makes no sense is refused."""
    changed = {
        "failed": {"threshold": 40, "share": 0.2},
        "unverified": {"enabled": False},
        "oldest_message": {"threshold": 600},
        "missed_tick": {"enabled": False},
        "needs_human": {"owner_threshold": 0},
    }
    plan = deploy.plan(known=True, alerts=changed, **TOLD)
    conditions = {
        at.split('"')[1]: each["conditions"][0]
        for at, each in plan.of_type("google_monitoring_alert_policy").items()
    }
    assert not {"missed_tick", "needs_human-web", "unverified", "unverified-web"} & conditions.keys()
    query = conditions["failed"]["condition_prometheus_query_language"][0]["query"]
    assert re.findall(r">= ([0-9.]+)\)", query) == ["40", "0.2"]
    query = conditions["failed-web"]["condition_prometheus_query_language"][0]["query"]
    assert re.findall(r">= ([0-9.]+)\)", query) == ["3", "0.2"]
    assert conditions["oldest_message"]["condition_threshold"][0]["threshold_value"] == 599
    assert conditions["dead_letter"]["condition_threshold"][0]["threshold_value"] == 0


def test_every_alert_has_its_paragraph_in_the_operations_guide_and_reaches_people(deploy):
    """Whoever is woken finds what the alert means and what to do next under its name, by one click."""
    guide = (ROOT / "docs" / "operations.md").read_text()
    policies = deploy.plan(known=True, **TOLD).of_type("google_monitoring_alert_policy")
    assert sum("-" not in at for at in policies) == 14
    loudest = [each for each in policies.values() if each["severity"] == "CRITICAL"]
    assert {each["documentation"][0]["content"][-15:] for each in loudest} == {'"line_goes_on".'}
    for at, each in policies.items():
        named = re.search(r'docs/operations\.md, "([a-z_]+)"', each["documentation"][0]["content"])
        assert named is not None, at
        assert f"### `{named[1]}`" in guide, named[1]
        assert len(each["notification_channels"]) == 1
        links = each["documentation"][0]["links"]
        assert links[0]["url"] == f"https://git.example/operations.md#{named[1]}"
        assert len(links) <= 3
        assert all(len(link["url"]) < 2083 and len(link["display_name"]) < 64 for link in links)
        assert len(each["documentation"][0]["subject"]) < 255


def test_the_definitions_for_gcloud_are_those_of_terraform(deploy):
    """``python -m tests.monitoring`` writes the file anew."""
    assert monitoring.FILE.read_text() == monitoring.page(deploy)


def test_an_incident_of_the_shipped_policies_asks_for_its_runbook_on_its_vm(deploy):
    """Built from the planned policy's labels and grouping, an incident matches a runbook and names a VM."""
    runbooks = load_all()
    plan = deploy.plan(known=True, incident_runbooks=["ops-agent", "workload-cert-refresh"])
    policies = [
        each
        for each in plan.of_type("google_monitoring_alert_policy").values()
        if "logmend-runbook" in (each["user_labels"] or {})
    ]
    vm = {"project_id": "shop-prod", "zone": ZONE, "instance_id": "4775836342981993096"}
    asked = set()
    for each in policies:
        grouped = [
            frozenset(condition["aggregations"][0]["group_by_fields"])
            for conditions in each["conditions"]
            for condition in conditions["condition_absent"] + conditions["condition_threshold"]
        ]
        assert len(set(grouped)) == 1
        kept = {label.removeprefix("resource.label.") for label in grouped[0]}
        incident = decode.document(
            {
                "version": "1.2",
                "incident": {
                    "incident_id": "0.n4fvpjtr3y4q",
                    "state": "open",
                    "policy_name": each["display_name"],
                    "policy_user_labels": each["user_labels"],
                    "resource": {
                        "type": "gce_instance",
                        "labels": {key: value for key, value in vm.items() if key in kept},
                    },
                },
            }
        )
        assert isinstance(incident, Incident)
        assert str(identify.event(incident)) == "/".join(vm.values())
        matched = match.runbook(incident, match.Router(runbooks))
        assert matched.verdict is None
        assert matched.runbook is not None
        asked.add(matched.runbook.name)
    assert asked == {"ops-agent", "workload-cert-refresh"}
    silent = plan.one("google_monitoring_alert_policy.ops_agent[0]")
    versions = [re.findall(r'starts_with\("(.*?)"\)', str(each)) for each in silent["conditions"]]
    assert versions == [["google-cloud-ops-agent-logging"], ["google-cloud-ops-agent-metrics"]], "no sum"
    line = plan.one(f'google_logging_metric.certificate_line["{PROJECT}"]')
    assert line["filter"] == runbooks["workload-cert-refresh"].filter
    channel = plan.one("google_monitoring_notification_channel.events[0]")
    assert channel["labels"] == {"topic": f"projects/{PROJECT}/topics/logmend"}
    assert all(each["notification_channels"] == [channel["id"]] for each in policies)


# What ships


def test_the_archive_holds_what_gcloud_would_upload(deploy):
    """``functions/.gcloudignore`` and the archive's own list name the same files."""
    needs(commands=("gcloud",))
    listed = subprocess.run(
        ["gcloud", "meta", "list-files-for-upload", str(deploy.folder / "functions")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert packed(deploy) == sorted(listed)


def packed(deploy: Terraform) -> list[str]:
    plan = deploy.plan()
    prior = plan.document["prior_state"]["values"]["root_module"]["resources"]
    archive = next(each for each in prior if each["address"] == "data.archive_file.source")
    return sorted(source["filename"] for source in archive["values"]["source"])


def test_the_archive_holds_the_function_and_no_operators_tools(deploy):
    """The entry point, requirements, package and runbooks; no cases, no command line, no fakes."""
    files = packed(deploy)
    assert {"main.py", "requirements.txt", "logmend/pipeline.py"} <= set(files)
    source = deploy.folder / "functions"
    unwanted = {"cli", "pretend", "cases", "tests", "__pycache__"}
    shipped = {
        str(path.relative_to(source))
        for path in (source / "logmend").rglob("*")
        if path.is_file() and not unwanted & set(path.parts) and not re.search(r"/\.|\.md$", str(path))
    }
    assert set(files) == shipped | {"main.py", "requirements.txt"}
    assert Path(source / ".gcloudignore").is_file()
