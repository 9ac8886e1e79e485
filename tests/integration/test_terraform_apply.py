"""A first apply, against a Google that is as slow to make things ready as it says that it may be."""

import re

import pytest
from tests.conftest import needs
from tests.provider_schema import ROOT
from tests.terraform_run import PROJECT, Terraform

from logmend.settings import ExecutorChoice

pytestmark = pytest.mark.timeout(300)

SPEED = 0.02
"""A second of ours is fifty of Google's: its ten minutes are twelve seconds."""
EVERYTHING = [
    f"-var=project_id={PROJECT}",
    f"-var=executor={ExecutorChoice.AUTO}",
    '-var=zones=["us-central1-a"]',
    f'-var=projects=["{PROJECT}", "shop-prod"]',
    '-var=incident_runbooks=["ops-agent", "workload-cert-refresh"]',
    '-var=ssh_networks=["projects/shop-prod/global/networks/default"]',
]


@pytest.fixture
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform, initialised on a copy of ``deploy/``."""
    needs(commands=("terraform",))
    return Terraform(tmp_path_factory.mktemp("terraform"), "deploy")


def test_a_first_apply_passes_in_one_go_and_a_second_has_nothing_to_do(deploy):
    """Metrics, service agents, APIs and roles are waited for; destroying waits for nothing."""
    options = ("-input=false", "-auto-approve", *EVERYTHING)
    done = deploy.run("apply", *options, speed=SPEED)
    assert done.returncode == 0, done.stderr
    again = deploy.run("plan", "-input=false", "-detailed-exitcode", *EVERYTHING, speed=SPEED)
    assert again.returncode == 0, again.stdout + again.stderr
    gone = deploy.run("destroy", *options, speed=SPEED)
    assert gone.returncode == 0, gone.stderr


@pytest.mark.parametrize(
    ("wait", "target", "speed", "said"),
    [
        ("deploy metrics", "google_monitoring_alert_policy.alert", SPEED, "404: Cannot find metric"),
        ("deploy apis", "google_pubsub_subscription.push", 0.2, "403: API has not been used"),
        ("deploy roles", "google_cloudfunctions2_function.remediate", 0.05, "storage.objects.get access"),
        ("deploy notification_agent", "google_pubsub_topic_iam_member.incidents", 0.1,
         "gcp-sa-monitoring-notification.iam.gserviceaccount.com does not exist"),
        ("sink pubsub_agent", "module.sink", 0.1, "gcp-sa-pubsub.iam.gserviceaccount.com does not exist"),
    ],
)  # fmt: skip
def test_without_one_of_the_waits_a_first_apply_fails(deploy, wait, target, speed, said):
    """The test above can fail, at each of the waits; Terraform tells what Google said."""
    module, name = wait.split()
    shortened = 0
    for path in (deploy.folder / module).glob("*.tf"):
        text, count = re.subn(
            rf'("time_sleep" "{name}" {{[^}}]*?create_duration = )"\d+s"', r'\g<1>"0s"', path.read_text()
        )
        path.write_text(text)
        shortened += count
    assert shortened == 1
    options = ("-input=false", "-auto-approve", f"-target={target}", *EVERYTHING)
    done = deploy.run("apply", *options, speed=speed)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_nothing_takes_an_api_that_was_just_enabled_for_one_that_answers():
    """What needs an API waits until it is there, not until Google said that it will be."""
    files = {path: path.read_text() for module in ("deploy", "sink") for path in (ROOT / module).glob("*.tf")}
    found = re.findall(r"depends_on\s*=\s*\[[^\]]*google_project_service[^\]]*\]", "\n".join(files.values()))
    assert found == []
    assert "google_project_service.home" in files[ROOT / "deploy/waits.tf"]


def test_the_line_of_a_folder_cannot_be_counted_without_its_projects(deploy):
    """An alert policy sees metrics of other projects, never their logs: said before anything is made."""
    wide = {"organization_id": "4711", "vm_service_accounts": {"shop": ["vm@shop.iam.gserviceaccount.com"]}}
    wide["incident_runbooks"] = ["workload-cert-refresh"]
    done = deploy.try_plan(**wide)
    assert done.returncode != 0
    assert "needs projects" in done.stderr
    plan = deploy.plan(**wide, projects=["shop-prod", "shop-test"])
    metrics = plan.of_type("google_logging_metric")
    assert {each["project"] for at, each in metrics.items() if "certificate_line" in at} == {
        "shop-prod",
        "shop-test",
    }
