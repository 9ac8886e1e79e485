"""`logmend explain --live`: the VM is looked up by the function's own adapter, once, only if it matters."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract.http_fake import serving
from tests.fakes import REF, entry

from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.instance import PretendInstance

ROOT = Path(__file__).resolve().parents[2]


def vm(**changes: Any) -> PretendInstance:
    """Give the VM that the entries are about."""
    parts = {"project_id": REF.project_id, "zone": REF.zone, "instance_id": REF.instance_id, "name": "web-1"}
    return PretendInstance(**(parts | changes))


async def explain(pretend: PretendCompute, *entries: Any, status: int = 0) -> tuple[Any, str]:
    """Run the command against the API; give its JSON (None where there is none) and standard error."""
    async with serving(pretend.app) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from logmend_cli.main import main; main()"),
            *("explain", "-", "--live", "--format", "json"),
            env={name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
            | {"PYTHONPATH": str(ROOT / "functions"), "LOGMEND_COMPUTE_ENDPOINT": url},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        document = json.dumps(entries[0] if len(entries) == 1 else entries).encode()
        out, err = await asyncio.wait_for(process.communicate(document), 150)
    assert process.returncode == status, err.decode()
    return (json.loads(out) if out else None), err.decode()


async def test_with_the_facts_no_guard_is_pending() -> None:
    """The API answers what a describe cannot: project metadata and partner metadata, too."""
    said, _ = await explain(PretendCompute([vm()], {REF.project_id: {}}), entry())
    assert (said["result"], said["pending_guards"]) == ("planned", [])
    assert {each["verdict"] for each in said["guards"]} == {"pass"}


@pytest.mark.parametrize(
    ("changes", "project", "result", "reason"),
    [
        ({"status": "TERMINATED"}, {}, "skipped", "not_running"),
        ({"labels": {"logmend": "off"}}, {}, "refused", "exempt"),
        ({}, {"enable-workload-certificate": "TRUE"}, "refused", "opted_in"),
        ({"partner_metadata": {"wc.compute.googleapis.com": {}}}, {}, "refused", "opted_in"),
    ],
)
async def test_what_the_api_says_decides(
    changes: dict[str, Any], project: dict[str, str], result: str, reason: str
) -> None:
    """As it would in the function."""
    said, _ = await explain(PretendCompute([vm(**changes)], {REF.project_id: project}), entry())
    assert (said["result"], said["reason"]) == (result, reason)


async def test_a_vm_that_is_gone_is_skipped() -> None:
    """The API knows no such id."""
    said, _ = await explain(PretendCompute([], {REF.project_id: {}}), entry())
    assert (said["result"], said["reason"]) == ("skipped", "instance_gone")


async def test_a_look_up_that_is_forbidden_is_a_refusal() -> None:
    """Unknown is not no: what the function would record."""
    pretend = PretendCompute([vm()], {REF.project_id: {}})
    pretend.fail("instances/", 403)
    said, _ = await explain(pretend, entry())
    assert (said["result"], said["reason"]) == ("refused", "opt_in_unknown")


async def test_trouble_of_the_api_is_an_error_and_no_answer() -> None:
    """The function would wait and try again; a person is told. Status 1."""
    pretend = PretendCompute([vm()], {REF.project_id: {}})
    pretend.fail(f"instances/{REF.instance_id}$", 503)
    said, err = await explain(pretend, entry(), status=1)
    assert said is None
    assert "compute_unavailable" in err
    assert "Traceback" not in err


async def test_a_vm_is_asked_for_once_and_only_where_it_matters() -> None:
    """Twenty entries of one VM are one look-up; what ends before facts costs none."""
    pretend = PretendCompute([vm()], {REF.project_id: {}})
    done = entry(jsonPayload={"message": "Mar  1 12:00:00 vm gce_workload_cert_refresh[9]: 2026: Done"})
    said, _ = await explain(pretend, *[entry()] * 20, done, status=1)
    assert [each["result"] for each in said] == ["planned"] * 20 + ["unmatched"]
    assert len([call for call in pretend.calls if f"/v1/projects/{REF.project_id}/zones" in call]) == 1
    pretend.calls.clear()
    await explain(pretend, done, status=1)
    assert pretend.calls == []
