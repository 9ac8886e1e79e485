"""A stranger's runbook, as the guide has it, from its files to a real machine: no file of ours changes."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path

from tests.conftest import needs
from tests.e2e.test_own_runbook import CHOICES, line
from tests.fakes import push
from tests.integration.cli.test_runbook_guide import FILES
from tests.lab.cloud import cloud, until_given_up
from tests.lab.conftest import Boot
from tests.lab.test_library_on_machines import sh
from tests.terraform_run import Terraform

UNIT = """[Service]
ExecStart=/bin/sh -c '[ ! -e /opt/dies ] || exit 1; exec sleep infinity'
"""


def by_terraform(own: Path, folder: Path) -> Path:
    """Unpack what a plan packs."""
    needs(commands=("terraform",))
    deploy = Terraform(folder / "terraform", "deploy")
    deploy.plan(known=True, mode="enforce", runbooks_dir=str(own / "runbooks"), runbooks=CHOICES)
    with zipfile.ZipFile(deploy.module / ".terraform" / "logmend-source.zip") as archive:
        archive.extractall(folder / "workspace")
    return folder / "workspace"


async def test_it_is_packed_by_a_plan_served_beside_ours_and_starts_a_service_that_had_failed(
    boot: Boot, tmp_path: Path
) -> None:
    """Systemd's own line of the machine goes in; the outcome says remediated, and the service runs."""
    for name, text in FILES.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    source = by_terraform(tmp_path / "own", tmp_path / "packed")
    machine = await boot(timer="disabled")
    await sh(machine, f"touch /opt/dies; cat >/etc/systemd/system/chrony.service <<'END'\n{UNIT}END\n")
    await machine.run("systemctl daemon-reload; systemctl start chrony")
    await until_given_up(machine, "chrony")
    await machine.output("rm /opt/dies")
    told = await machine.output("journalctl -o short _PID=1 -u chrony | grep 'Failed with result'")

    ref = machine.ref
    entry = line((ref.project_id, ref.zone, ref.instance_id))
    entry["logName"] = f"projects/{ref.project_id}/logs/syslog"
    entry["jsonPayload"]["message"] = told.splitlines()[-1]
    async with (
        cloud(tmp_path, machine) as around,
        around.function(source=source, runbooks="runbooks.yaml") as function,
    ):
        answer = await function.push(push(entry, "1", at=datetime.now(UTC)))
        assert answer.verdict == "remediated", function.log()
        (outcome,) = function.outcomes()
    assert (outcome["runbook"], outcome["mode"]) == ("time-sync", "enforce")
    assert (await machine.output("systemctl is-active chrony")).strip() == "active"
