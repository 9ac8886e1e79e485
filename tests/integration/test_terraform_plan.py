"""Real Terraform evaluates our modules; the plan is held against what the function itself expects."""

import base64
import itertools
import json
import os
import re
import subprocess
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.provider_schema import ROOT
from tests.terraform_run import PROJECT, Plan, Terraform

from logmend import catalog, permissions
from logmend.model.enums import INTERIM_RESULTS, Mode, Result
from logmend.model.struct import replace
from logmend.model.values import Incident, Tick
from logmend.osconfig import assignment
from logmend.outcome import reasons
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
        },
        {
            "executor": ("osconfig", "needs zones"),
            "connector": ({"network": "default", "ip_cidr_range": "10.8.0.0/16"}, "/28"),
            "folder_id": ("folders/42", "without folders/"),
            "settings": ({"LOGMEND_MODE": "enforce"}, "variable of its own"),
            "vm_service_accounts": ({"shop-prod": ["somebody@example.com"]}, "email addresses"),
        },
        {
            "ssh_route": ("direct", "needs connector"),
            "zones": (["us-central1"], "Zones such as"),
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
    assert (config["available_cpu"], config["max_instance_request_concurrency"]) == ("1", 40)
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


def test_alerts_ask_for_results_and_reasons_that_exist(deploy):
    """An alert on a misspelt result would stay silent for ever."""
    plan = deploy.plan(known=True, alert_emails=["sre@example.com"])
    text = json.dumps(list(plan.of_type("google_monitoring_alert_policy").values())) + json.dumps(
        plan.one("google_monitoring_dashboard.logmend")
    )
    results = set(re.findall(r'metric\.labels?\.result ?= ?\\+"([a-z_]+)', text))
    wanted = set(re.findall(r'metric\.labels?\.reason ?= ?\\+"([a-z_]+)', text))
    summed = re.findall(r"logging_googleapis_com:user_logmend_(\w+)\{monitored_resource=[^}]*\}", text)
    assert summed == ["events_sum"] * 4, "of VMs and of the function, by result and by reason"
    assert results == {"failed", "unverified", "remediated"}
    assert wanted == {"needs_human", "breaker_open", "line_goes_on"}
    labels = set[str]()
    counting = plan.one("google_logging_metric.events")
    assert counting["value_extractor"] == "EXTRACT(jsonPayload.count)"
    final = {each for each in Result if each not in INTERIM_RESULTS} - {Result.CONTROLLED}
    assert not final & set(re.findall(r'"([a-z_]+)"', counting["filter"].partition("NOT")[2]))
    for metric in ("outcomes", "unreached"):
        known = plan.one(f"google_logging_metric.{metric}")
        own = {each["key"] for each in known["metric_descriptor"][0]["labels"]}
        assert own == known["label_extractors"].keys()
        labels |= own
    counted = set(re.findall(r'"([a-z_]+)"', known["filter"].partition("labels.reason")[2]))
    assert counted == reasons.UNREACHED
    used = set(re.findall(r"metric\.labels?\.([a-z_]+)", text)) - {"response_code_class", "version"}
    assert used <= labels
    assert results <= set(Result)
    assert wanted <= reasons.REASONS.keys()


def test_every_alert_has_its_paragraph_in_the_operations_guide_and_reaches_people(deploy):
    """Whoever is woken finds what the alert means and what to do next under its name."""
    guide = (ROOT / "docs" / "operations.md").read_text()
    plan = deploy.plan(known=True, alert_emails=["sre@example.com"])
    policies = plan.of_type("google_monitoring_alert_policy")
    assert len(policies) == 11
    loudest = [each["display_name"] for each in policies.values() if each["severity"] == "CRITICAL"]
    assert loudest == ["logmend: a verified fix did not last"]
    for at, each in policies.items():
        named = re.search(r'docs/operations\.md, "([a-z_]+)"', each["documentation"][0]["content"])
        assert named is not None, at
        assert f"### `{named[1]}`" in guide
        assert len(each["notification_channels"]) == 1


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
