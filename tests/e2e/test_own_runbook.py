"""A stranger's runbook, as the guide has it, deployed without a change of ours: its line ends remediated."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.e2e.conftest import PROJECT, make_fleet
from tests.e2e.function_process import function_process
from tests.fakes import push
from tests.integration.cli.test_runbook_guide import FILES
from tests.provider_schema import ROOT

from logmend import catalog, lql, sink_filter
from logmend.settings import Settings
from logmend_cli.main import logmend
from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.fleet import USER

pytestmark = pytest.mark.timeout(300)

CHOICES = {"time-sync": {"mode": "enforce"}, "workload-cert-refresh": {"mode": "observe"}}


def by_command(own: Path, folder: Path) -> Path:
    """Copy the source, and pack into it what the file says, as deploy/gcloud.sh does."""
    (own / "logmend.yaml").write_text(json.dumps({"folders": ["runbooks"], "runbooks": CHOICES}))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "functions", folder / "workspace", ignore=ignored)
    environment = {"LOGMEND_RUNBOOKS": str(own / "logmend.yaml")}
    command = ["runbook", "pack", str(folder / "workspace")]
    done = CliRunner().invoke(logmend, command, env=environment)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(logmend, command, env=environment)
    assert "File exists" in again.stderr
    return folder / "workspace"


def line(vm: tuple[str, str, str]) -> dict[str, Any]:
    """Give the guide's entry, of this VM and of just now."""
    said: dict[str, Any] = json.loads(FILES["entry.json"])
    labels = dict(zip(("project_id", "zone", "instance_id"), vm, strict=True))
    at = f"{datetime.now(UTC) - timedelta(seconds=5):%Y-%m-%dT%H:%M:%S.%fZ}"
    message = (
        f"{datetime.now():%b %e %H:%M:%S} vm-1 systemd[1]: chrony.service: Failed with result 'exit-code'."  # noqa: DTZ005  as a VM writes it
    )
    return said | {
        "logName": f"projects/{PROJECT}/logs/syslog",
        "resource": {"type": "gce_instance", "labels": labels},
        "jsonPayload": {"message": message},
        "timestamp": at,
        "receiveTimestamp": at,
    }


async def test_its_line_is_routed_and_ends_remediated_beside_ours_that_only_observes(tmp_path: Path) -> None:
    """Packed, served as the platform does, by SSH on a pretend machine; each in its own mode, one digest."""
    for name, text in FILES.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    source = by_command(tmp_path / "own", tmp_path / "packed")
    found = catalog.read_all(Settings(runbooks=source / "runbooks.yaml"))
    async with make_fleet(tmp_path / "fleet", 1).running() as fleet:
        (machine,) = fleet.machines.values()
        chrony = machine.units / "chrony.service"
        chrony.mkdir()
        (chrony / "active").write_text("failed\n")
        vm = (PROJECT, machine.instance.zone, machine.instance.instance_id)
        said = line(vm)
        assert lql.compile(sink_filter.compose(found.runbooks)).matches(said)
        reach: dict[str, Any] = {
            "mode": "enforce",
            "runbooks": "runbooks.yaml",
            "project": PROJECT,
            "compute_endpoint": f"http://127.0.0.1:{fleet.compute_port}",
            "ssh_key": fleet.key_file,
            "ssh_user": USER,
            "ssh_port": fleet.ssh_port,
        }
        async with function_process(tmp_path / "function", source=source, **reach) as function:
            answer = await function.push(push(said, "1", at=datetime.now(UTC)))
            assert answer.verdict == "remediated", function.log()
            other = await function.push(push(entry(vm), "2", at=datetime.now(UTC)))
            assert other.verdict == "planned"
            mine, ours = function.outcomes()
        assert (chrony / "active").read_text() == "active\n"
        assert (machine.timer() or "").startswith("enabled")
    assert (mine["runbook"], mine["mode"]) == ("time-sync", "enforce")
    assert mine["runbook_digest"] == found.runbooks["time-sync"].digest
    assert (ours["runbook"], ours["mode"]) == ("workload-cert-refresh", "observe")
