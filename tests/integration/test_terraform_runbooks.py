"""Own runbooks by Terraform: packed, routed, granted, asked for by OS policy, as the function reads them."""

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.integration.test_terraform_plan import ZONE, as_rest, assignments, environment, roles
from tests.provider_schema import ROOT
from tests.terraform_run import PROJECT, Plan, Terraform

from logmend import catalog, permissions, sink_filter
from logmend.model.enums import Mode
from logmend.osconfig import assignment
from logmend.runbook import BUILT_IN
from logmend.settings import ExecutorChoice, Settings, SshRoute

pytestmark = pytest.mark.timeout(300)  # Terraform starts several times in one test

OWN = """name: time-sync
summary: Start chrony again where it has failed.
filter: |
  resource.type = "gce_instance"
  AND jsonPayload.message : "systemd[1]: chrony.service: Failed with result"
variants:
  - name: failed
    pattern: '^systemd: chrony\\.service: Failed with result '
    verdict: act
parameters:
  unit:
    summary: Which unit.
    pattern: ['chrony(?:d)?', '\\.service']
    default: chrony.service
permissions: [compute.instances.get]
"""
SCRIPT = "#!/bin/sh\n{\ntimeout 9 systemctl is-active @unit@ && exit 100\nexit 101\n} </dev/null\n"


def own(folder: Path, name: str = "time-sync") -> Path:
    """Write a runbook of one's own, with all that a folder of one holds; give the folder of runbooks."""
    for file in ("validate.sh", "enforce.sh", "revert/validate.sh", "revert/enforce.sh"):
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / file).write_text(SCRIPT)
    (folder / name / "runbook.yaml").write_text(OWN.replace("time-sync", name))
    (folder / name / "cases").mkdir()
    (folder / name / "cases/x.json").write_text("{}")
    (folder / name / "README.md").write_text("How it came to be.")
    return folder


RUNBOOKS: dict[str, Any] = {
    "workload-cert-refresh": {"mode": "observe", "executor": "osconfig"},
    "ops-agent": {"parameters": {"repo_url": "https://mirror.example/agents"}, "mode": "approve"},
    "time-sync": {
        "executor": "auto",
        "disruption_budget": "5/1h",
        "windows": ["Mon-Fri 22:00-06:00 Europe/Berlin", "Sat,Sun UTC"],
        "blackouts": ["12-24..01-02 Europe/Berlin"],
        "cooldowns": {"remediated": "4h"},
        "scope": {"projects": [PROJECT], "zones": [ZONE], "labels": ["team=shop"]},
        "parameters": {"unit": "chronyd.service"},
    },
}


def unpacked(deploy: Terraform, folder: Path) -> Path:
    """Unpack the archive of the last plan."""
    with zipfile.ZipFile(deploy.module / ".terraform" / "logmend-source.zip") as archive:
        archive.extractall(folder)
    return folder


def as_the_function_reads_it(plan: Plan, source: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Catalog:
    """Read settings and runbooks as the function does, from where its source lies."""
    monkeypatch.chdir(source)
    settings = Settings.from_environment(environment(plan) | {"K_SERVICE": "logmend"})
    return catalog.read_all(settings)


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Give Terraform, initialised on a copy of ``deploy/``."""
    needs(commands=("terraform",))
    return Terraform(tmp_path_factory.mktemp("terraform"), "deploy")


def test_what_is_planned_is_what_the_function_reads_out_of_its_archive(
    deploy: Terraform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are on, each with its settings; the sink's filter, the roles and the OS policies follow them."""
    given = {
        "mode": "enforce",
        "zones": [ZONE],
        "runbooks": RUNBOOKS,
        "runbooks_dir": str(own(tmp_path / "own")),
    }
    plan = deploy.plan(known=True, **given)
    source = unpacked(deploy, tmp_path / "workspace")
    assert {str(each.relative_to(source)) for each in (source / "runbooks").rglob("*") if each.is_file()} == {
        f"runbooks/time-sync/{file}"
        for file in ("runbook.yaml", "validate.sh", "enforce.sh", "revert/validate.sh", "revert/enforce.sh")
    }
    found = as_the_function_reads_it(plan, source, monkeypatch)
    policies = {name: found.policies.of(name) for name in found.runbooks}
    assert {name: (each.mode, each.executor) for name, each in policies.items()} == {
        "ops-agent": (Mode.APPROVE, ExecutorChoice.SSH),
        "time-sync": (Mode.ENFORCE, ExecutorChoice.AUTO),
        "workload-cert-refresh": (Mode.OBSERVE, ExecutorChoice.OSCONFIG),
    }
    assert policies["time-sync"].scope_labels == (("team", "shop"),)
    for name in ("windows", "blackouts"):
        said = "; ".join(map(str, getattr(policies["time-sync"], name)))
        assert said == "; ".join(RUNBOOKS["time-sync"][name])
    assert "https://mirror.example/agents" in found.runbooks["ops-agent"].scripts.enforce
    sink = plan.one(f'module.sink.google_logging_project_sink.this["{PROJECT}"]')
    assert sink["filter"] == sink_filter.compose(found.runbooks) + "\n"
    granted = permissions.function_of(
        list(catalog.uses(found, found.policies.general).values()), SshRoute.IAP
    )
    assert {name: each for name, each in roles(plan).items() if name != "operator"} == granted
    planned = assignments(plan)
    assert sorted(planned) == sorted(
        [
            "logmend-workload-cert-refresh-check",
            *(f"logmend-time-sync-{action}" for action in assignment.ACTIONS),
        ]
    )
    for action in assignment.ACTIONS:
        wanted = assignment.assignment(found.runbooks["time-sync"], action, ("logmend", "off"))
        assert assignment.differences(wanted, as_rest(planned[f"logmend-time-sync-{action}"])) == ()
        assert "chronyd.service" in str(wanted)


def test_with_every_built_in_runbook_on_terraform_reads_what_the_function_reads(
    deploy: Terraform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers of YAML, one filter and the same scripts to the byte."""
    every = {path.parent.name: {"enabled": True} for path in BUILT_IN.glob("*/runbook.yaml")}
    plan = deploy.plan(known=True, mode="enforce", executor="auto", zones=[ZONE], runbooks=every)
    found = as_the_function_reads_it(plan, unpacked(deploy, tmp_path / "workspace"), monkeypatch)
    assert set(found.runbooks) == set(every)
    sink = plan.one(f'module.sink.google_logging_project_sink.this["{PROJECT}"]')
    assert sink["filter"] == sink_filter.compose(found.runbooks) + "\n"
    wanted = {
        assignment.assignment_id(name, action): assignment.assignment(each, action, ("logmend", "off"))
        for name, each in found.runbooks.items()
        if not each.ssh_only
        for action in assignment.actions(each)
    }
    planned = assignments(plan)
    assert planned.keys() == wanted.keys()
    for name, each in wanted.items():
        assert assignment.differences(each, as_rest(planned[name])) == (), name


def test_nothing_that_only_observes_brings_root_along(deploy: Terraform) -> None:
    """The ceiling is enforce, and no runbook goes there: osAdminLogin is not granted."""
    all_observe = {name: {"mode": "observe"} for name in ("ops-agent", "workload-cert-refresh")}
    plan = deploy.plan(known=True, mode="enforce", runbooks=all_observe)
    assert permissions.SSH_ROOT.isdisjoint(roles(plan)["fleet"])
    assert roles(deploy.plan(known=True, mode="enforce"))["fleet"] >= permissions.SSH_ROOT


def test_a_built_in_runbook_may_be_off_and_one_may_be_replaced(
    deploy: Terraform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is off is routed by no filter; what replaces is what runs."""
    shutil.copytree(BUILT_IN / "ops-agent", tmp_path / "own/ops-agent")
    script = tmp_path / "own/ops-agent/validate.sh"
    script.write_text(script.read_text() + "# mine\n")
    chosen = {"workload-cert-refresh": {"enabled": False}, "ops-agent": {"replaces": True}}
    plan = deploy.plan(known=True, runbooks=chosen, runbooks_dir=str(own(tmp_path / "own")))
    found = as_the_function_reads_it(plan, unpacked(deploy, tmp_path / "workspace"), monkeypatch)
    assert set(found.runbooks) == {"ops-agent", "time-sync"}
    assert found.runbooks["ops-agent"].scripts.validate.endswith("# mine\n")
    sink = plan.one(f'module.sink.google_logging_project_sink.this["{PROJECT}"]')
    assert sink["filter"] == sink_filter.compose(found.runbooks) + "\n"
    assert "gce_workload_cert_refresh" not in sink["filter"]


def test_without_a_word_nothing_is_added_to_the_archive(deploy: Terraform, tmp_path: Path) -> None:
    """The built-in runbooks that are on are those of the code, and the filter is the one in sink/."""
    plan = deploy.plan(known=True)
    assert "LOGMEND_RUNBOOKS" not in environment(plan)
    assert not (unpacked(deploy, tmp_path / "workspace") / "runbooks.yaml").exists()
    text = (ROOT / "deploy/runbooks.tf").read_text()
    assert f"on_by_default  = {sorted(catalog.ON)}".replace("'", '"') in text


@pytest.mark.parametrize(
    ("runbooks", "said"),
    [
        ({"ops-agent": {"moed": "observe"}}, "Unknown key moed; known: enabled"),
        ({"ops-agent": {"mode": "enforced"}}, "mode: observe, approve or enforce"),
        ({"ops-agent": {"executor": "agent"}}, "executor: ssh, osconfig or auto"),
        ({"ops-agent": {"enabled": "maybe"}}, "true or false"),
        ({"ops-agent": {"disruption_budget": "twenty"}}, "COUNT/DURATION"),
        ({"ops-agent": {"windows": ["22:00-06:00"]}}, "windows, blackouts: lists"),
        ({"ops-agent": {"cooldowns": {"remedied": "4h"}}}, "cooldowns: planned"),
        ({"ops-agent": {"scope": {"zone": ["x"]}}}, "scope: projects, zones, labels"),
        ({"ops-agent": {"parameters": {"settle": "9; reboot"}}}, "not of its pattern: ops-agent: settle"),
        (
            {"ops-agent": {"parameters": {"setle": "9"}}},
            "no such parameter, or not of its pattern: ops-agent: setle",
        ),
        ({"ops-agnet": {"mode": "observe"}}, "no such runbook: ops-agnet"),
        ({"ops-agent": {"replaces": True}}, "replaces = true needs an own and a built-in"),
        (
            {
                "workload-cert-refresh": {"enabled": False},
                "ops-agent": {"enabled": False},
                "os-config-agent": {"enabled": True},
            },
            "would be empty, which routes every log entry",
        ),
        ({"ops-agent": {"executor": "osconfig"}}, "needs zones"),
    ],
)
def test_what_the_function_would_refuse_is_refused_before_anything_is_made(
    deploy: Terraform, runbooks: Any, said: str
) -> None:
    """In words that tell what is expected."""
    done = deploy.try_plan(runbooks=runbooks)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_what_os_config_cannot_carry_is_not_turned_on_for_it(deploy: Terraform) -> None:
    """As the function refuses it; what is on by itself does not stop a fleet that has OS Config alone."""
    one = {"os-config-agent": {"enabled": True}}
    done = deploy.try_plan(executor="osconfig", zones=[ZONE], runbooks=one)
    assert "OS Config cannot carry os-config-agent" in " ".join(done.stderr.replace("│", " ").split())


def test_a_folder_that_takes_a_built_in_name_or_wants_too_much_is_refused(
    deploy: Terraform, tmp_path: Path
) -> None:
    """Neither shadows a built-in runbook by accident, nor widens the role by its own word."""
    folder = own(tmp_path / "own", "ops-agent")
    done = deploy.try_plan(runbooks_dir=str(folder))
    assert "say runbooks.NAME.replaces = true" in " ".join(done.stderr.replace("│", " ").split())
    greedy = own(tmp_path / "greedy")
    path = greedy / "time-sync/runbook.yaml"
    path.write_text(path.read_text().replace("[compute.instances.get]", "[compute.instances.delete]"))
    done = deploy.try_plan(runbooks_dir=str(greedy))
    assert "never granted: compute.instances.delete" in " ".join(done.stderr.replace("│", " ").split())
    done = deploy.try_plan(runbooks_dir=str(tmp_path / "nowhere"))
    assert "A folder that holds */runbook.yaml" in " ".join(done.stderr.replace("│", " ").split())


def test_it_works_from_a_module_that_is_taken_by_its_tag(tmp_path: Path) -> None:
    """With a folder of the caller's: nothing of ours is changed, and no path is ours."""
    needs(commands=("terraform", "git"))
    deploy = Terraform(tmp_path / "copy", "deploy")
    repository = tmp_path / "repository"
    for name in ("deploy", "sink", "functions"):
        ignored = shutil.ignore_patterns("__pycache__", ".terraform*", "*.tfstate*", "*.tfvars*")
        shutil.copytree(deploy.folder / name, repository / name, ignore=ignored)
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "Release"),
        ("tag", "v1"),
    ):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    caller = tmp_path / "caller"
    own(caller / "runbooks")
    (caller / "main.tf").write_text(
        'module "logmend" {\n'
        f'  source       = "git::file://{repository}//deploy?ref=v1"\n'
        f'  project_id   = "{PROJECT}"\n'
        '  runbooks_dir = "${path.module}/runbooks"\n'
        '  runbooks     = { time-sync = { mode = "observe" }, ops-agent = { enabled = false } }\n'
        "}\n"
    )
    deploy.module = caller
    for arguments in (("init", "-input=false"), ("plan", "-input=false", "-refresh=false", "-out=plan.bin")):
        done = deploy.run(*arguments)
        assert done.returncode == 0, done.stderr
    source = unpacked(deploy, tmp_path / "workspace")
    found = catalog.read_all(Settings(runbooks=source / "runbooks.yaml"))
    assert set(found.runbooks) == {"time-sync", "workload-cert-refresh"}
