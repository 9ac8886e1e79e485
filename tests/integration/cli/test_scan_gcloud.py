"""The README's first command: gcloud itself reads the entries, the scan takes them from the pipe."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conftest import needs
from tests.contract.http_fake import serving
from tests.logging_fake import FakeLogging

from logmend_cli.pretend.entries import entry

ROOT = Path(__file__).resolve().parents[3]
PATHS = ("syslog", "syslog-rfc3339", "journald", "fluentd-text", "fluentd-json", "serial")


async def piped(fake: FakeLogging, folder: Path) -> tuple[int, str, str]:
    """Run `gcloud logging read … | logmend scan -` in a shell, gcloud against the fake."""
    (folder / "token").write_text("not-a-real-token")
    scan = f"'{sys.executable}' -c 'from logmend_cli.main import main; main()' scan - --offline"
    command = f"gcloud logging read gce_workload_cert_refresh --freshness=1d --format=json | {scan}"
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LOGMEND_", "CLOUDSDK_"))
    }
    async with serving(fake.app) as url:
        process = await asyncio.create_subprocess_shell(
            command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=kept
            | {
                "PYTHONPATH": str(ROOT / "functions"),
                "CLOUDSDK_CONFIG": str(folder / "gcloud"),
                "CLOUDSDK_CORE_PROJECT": "demo-project",
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
                "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": f"{url}/",
            },
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


async def test_what_gcloud_reads_is_scanned(tmp_path: Path) -> None:
    """Every log path of a day, in pages, through the real tool's own JSON."""
    needs(commands=("gcloud",))
    at = datetime.now(UTC)
    entries = [
        entry(("demo-project", "us-west1-a", str(100 + number)), path=path, at=at - timedelta(minutes=number))
        for number, path in enumerate(PATHS)
    ]
    status, out, err = await piped(FakeLogging(entries, page=2), tmp_path)
    assert status == 0, err
    assert (
        f"{len(PATHS)} log entries: {len(PATHS)} match a runbook's filter ({len(PATHS)} VMs), 0 do not" in out
    )
    assert all(str(100 + number) in out for number in range(len(PATHS)))


async def test_nothing_found_by_gcloud_is_no_error(tmp_path: Path) -> None:
    """It prints an empty array then."""
    needs(commands=("gcloud",))
    status, out, err = await piped(FakeLogging([]), tmp_path)
    assert (status, "no VM has the fault" in out) == (0, True), err
