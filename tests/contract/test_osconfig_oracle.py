"""Rendered assignments through real gcloud, `logmend policy` through Google's Python client: one server."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import osconfig_v1
from tests.conftest import needs
from tests.contract import test_osconfig
from tests.contract.http_fake import serving
from tests.contract.osconfig_server import MAX_ASSIGNMENTS, Kept, OsConfigServer

from logmend import catalog
from logmend.model.enums import Action
from logmend.osconfig import assignment, report
from logmend.settings import Settings
from logmend_cli.main import logmend

PROJECT, ZONE = "web-prod", "us-west1-a"
RUNBOOKS = {name: each for name, each in catalog.load(Settings()).items() if not each.ssh_only}
EXEMPT = ("logmend", "off")
NAMES = [assignment.assignment_id(name, action) for name in RUNBOOKS for action in assignment.ACTIONS]


@dataclass
class Place:
    """A server and the environment in which commands find it."""

    server: OsConfigServer
    url: str
    environment: dict[str, str]

    async def logmend(self, *args: str, status: int = 0, answer: str = "", **settings: str) -> Result:
        chosen = {"LOGMEND_OSCONFIG_ENDPOINT": self.url, "LOGMEND_MODE": "enforce"} | settings
        runner = CliRunner(env=chosen)
        done = await asyncio.to_thread(runner.invoke, logmend, ["policy", *args], input=answer)
        assert done.exit_code == status, done.output
        return done

    async def rows(self, *args: str, status: int = 0) -> list[dict[str, Any]]:
        where = ["--project", PROJECT, "--zone", ZONE, "--format", "json"]
        rows: list[dict[str, Any]] = json.loads((await self.logmend(*args, *where, status=status)).stdout)
        return rows

    async def gcloud(self, *args: str, group: str = "os-policy-assignments") -> Any:
        command = ["gcloud", "compute", "os-config", group, *args]
        process = await asyncio.create_subprocess_exec(
            *command,
            f"--project={PROJECT}",
            f"--location={ZONE}",
            "--format=json",
            "--quiet",
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 150)
        assert process.returncode == 0, err.decode()
        return json.loads(out or b"null")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Serve an OS Config API without assignments."""
    server = OsConfigServer()
    token = tmp_path / "token"
    token.write_text("none")
    async with serving(server.app) as url:
        environment = dict(os.environ) | {
            "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_OSCONFIG": f"{url}/",
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        }
        yield Place(server, url, environment)


async def test_gcloud_takes_every_rendered_assignment_and_they_are_what_policy_apply_would_make(
    place: Place, tmp_path: Path
) -> None:
    """Google's own client reads the file and creates it; our client then finds nothing to change."""
    needs(commands=("gcloud",))
    printed = await place.logmend("render", "--directory", str(tmp_path / "policies"))
    files = [Path(line) for line in printed.stdout.splitlines()]
    assert sorted(file.stem for file in files) == sorted(NAMES)
    for file in files:
        await place.gcloud("create", file.stem, f"--file={file}")
    assert {row["state"] for row in await place.rows("status")} == {"current"}
    assert {row["change"] for row in await place.rows("apply")} == {"unchanged"}
    found = await place.gcloud("describe", NAMES[1])
    wanted = assignment.assignment(RUNBOOKS["workload-cert-refresh"], Action.ENFORCE, EXEMPT)
    assert assignment.differences(wanted, found) == ()
    assert len(await place.gcloud("list")) == len(NAMES)


async def test_what_apply_made_gcloud_reads_as_documented(place: Place) -> None:
    """The other way round, revisions included."""
    needs(commands=("gcloud",))
    await place.rows("apply")
    found = await place.gcloud("describe", "logmend-workload-cert-refresh-revert")
    assert found["rolloutState"] == "SUCCEEDED"
    assert found["osPolicies"][0]["mode"] == "ENFORCEMENT"
    assert len(await place.gcloud("list-revisions", "logmend-workload-cert-refresh-revert")) == 1


async def test_gcloud_and_googles_python_client_read_reports_where_we_do(place: Place) -> None:
    """One by itself and a listing with pages, at the very paths that the executor asks."""
    needs(commands=("gcloud",))
    vms = [f"{number:03}" for number in range(150)]
    for vm in vms:
        place.server.put_report(PROJECT, ZONE, vm, test_osconfig.report())
    name = assignment.assignment_id("workload-cert-refresh", Action.ENFORCE)
    listed = await place.gcloud("list", f"--assignment-id={name}", group="os-policy-assignment-reports")
    assert len(listed) == len(vms)
    one = await place.gcloud("describe", name, "--instance=007", group="os-policy-assignment-reports")
    done = report.read(one, name, "007")
    assert (done.enforced, report.key(one)) == (True, ("007", name))

    def read() -> tuple[int, str]:
        client = osconfig_v1.OsConfigZonalServiceClient(
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=place.url),
            transport="rest",
        )
        where = assignment.parent(PROJECT, ZONE)
        every = client.list_os_policy_assignment_reports(
            parent=f"{where}/instances/-/osPolicyAssignments/{name}"
        )
        single = client.get_os_policy_assignment_report(
            name=f"{where}/instances/007/osPolicyAssignments/{name}/report"
        )
        return len(list(every)), str(single.name)

    assert await asyncio.to_thread(read) == (len(vms), one["name"])
    paths = {call.partition("?")[0] for call in place.server.calls}
    parent = f"GET /v1/{assignment.parent(PROJECT, ZONE)}/instances"
    assert paths == {
        f"{parent}/-/osPolicyAssignments/{name}/reports",
        f"{parent}/007/osPolicyAssignments/{name}/report",
    }


async def test_a_zone_that_is_full_says_so(place: Place) -> None:
    """Twenty assignments are the API's limit."""
    for number in range(MAX_ASSIGNMENTS):
        place.server.kept[f"{assignment.parent(PROJECT, ZONE)}/osPolicyAssignments/other-{number}"] = Kept([])
    rows = await place.rows("apply", status=1)
    assert {row["reason"] for row in rows} == {"rate_limited"}
    assert all("Quota exceeded" in row["detail"] for row in rows)


async def test_what_is_rendered_is_the_document_itself(place: Place) -> None:
    """YAML of blocks that a person can review, with the command that uses it."""
    printed = (await place.logmend("render", "--zone", ZONE)).stdout
    documents = list(yaml.safe_load_all(printed))
    wanted = [
        assignment.assignment(runbook, action, EXEMPT)
        for runbook in RUNBOOKS.values()
        for action in assignment.ACTIONS
    ]
    assert documents == wanted
    assert f"create {NAMES[0]} --location={ZONE} --file=" in printed
    assert "script: |" in printed


async def test_observe_mode_has_checks_alone(place: Place) -> None:
    """Nothing that could change a VM is deployed unasked."""
    printed = (await place.logmend("render", LOGMEND_MODE="observe")).stdout
    assert {document["osPolicies"][0]["mode"] for document in yaml.safe_load_all(printed)} == {"VALIDATION"}


async def test_apply_creates_updates_under_the_etag_and_leaves_alone(place: Place) -> None:
    """Again is fine; a person's edit is taken back; the state in between is told."""
    assert {row["state"] for row in await place.rows("status", status=1)} == {"missing"}
    assert {row["change"] for row in await place.rows("apply")} == {"created"}
    assert {row["change"] for row in await place.rows("apply")} == {"unchanged"}
    name = f"{assignment.parent(PROJECT, ZONE)}/osPolicyAssignments/{NAMES[1]}"
    latest = place.server.kept[name].latest
    latest.os_policies[0].resource_groups[0].resources[0].exec_.enforce.script = "#!/bin/sh\nexit 100\n"
    rows = {row["assignment"]: row for row in await place.rows("status", status=1)}
    assert (rows[NAMES[1]]["state"], rows[NAMES[1]]["differs_in"]) == ("outdated", ["osPolicies"])
    changes = {row["assignment"]: row["change"] for row in await place.rows("apply")}
    assert [each for each, change in changes.items() if change == "updated"] == [NAMES[1]]
    patched = next(call for call in place.server.calls if call.startswith("PATCH"))
    assert "updateMask=osPolicies" in patched
    assert {row["state"] for row in await place.rows("status")} == {"current"}


async def test_a_rollout_is_waited_for_or_left_to_itself(place: Place) -> None:
    """Waiting has an end that says so."""
    place.server.polls = 10_000
    rows = await place.rows("apply", "--runbook", "workload-cert-refresh", "--action", "check", "--detach")
    assert [row["change"] for row in rows] == ["created"]
    [row] = await place.rows("status", "--runbook", "workload-cert-refresh", "--action", "check")
    assert (row["state"], row["rollout"]) == ("current", "in_progress")
    [row] = await place.rows(
        "apply", "--runbook", "workload-cert-refresh", "--action", "enforce", "--timeout", "1", status=1
    )
    assert row["reason"] == "rollout_in_progress"


async def test_one_that_fails_stops_no_other_and_its_error_is_told(place: Place) -> None:
    """Permission by name, quota by reason."""
    place.server.fail(
        f"osPolicyAssignmentId={NAMES[0]}", 403, "Permission 'osconfig.osPolicyAssignments.create' denied"
    )
    rows = {row["assignment"]: row for row in await place.rows("apply", status=1)}
    assert rows[NAMES[0]]["reason"] == "not_permitted"
    assert "osconfig.osPolicyAssignments.create" in rows[NAMES[0]]["detail"]
    assert {row["change"] for name, row in rows.items() if name != NAMES[0]} == {"created"}


async def test_delete_asks_and_what_is_gone_is_gone(place: Place) -> None:
    """Twice is fine."""
    await place.rows("apply")
    where = ("--project", PROJECT, "--zone", ZONE)
    await place.logmend("delete", *where, answer="n\n", status=1)
    assert len(place.server.kept) == len(NAMES)
    assert {row["change"] for row in await place.rows("delete", "--yes")} == {"deleted"}
    assert place.server.kept == {}
    assert {row["change"] for row in await place.rows("delete", "--yes")} == {"absent"}


async def test_a_place_that_is_none_is_an_unusable_option(place: Place) -> None:
    """Status 2, and nothing is called."""
    await place.logmend("status", "--project", "X", "--zone", ZONE, status=2)
    await place.logmend("status", "--project", PROJECT, status=2)
    await place.logmend("render", "--runbook", "opsagent", status=2)
    assert place.server.calls == []
