"""What the function says of itself, served with the environment that Cloud Functions gives it."""

import asyncio
import base64
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.contract.http_fake import serving
from tests.e2e.function_process import Function, function_process

from logmend import lql
from logmend_cli.pretend.entries import entry

MONITORING = json.loads((Path(__file__).parents[2] / "deploy" / "monitoring.json").read_text())
"""What is made of the function's log; a test holds it against Terraform's plan."""
TICK_BODY = {"message": {"messageId": "3", "data": base64.b64encode(b'{"logmend":"tick"}').decode()}}
GARBAGE = {"message": {"messageId": "1", "data": "e30="}}
LINE = {
    "message": {
        "messageId": "2",
        "data": base64.b64encode(
            json.dumps(entry(("e2e-project", "us-west1-a", "5000000000000000001"))).encode()
        ).decode(),
    }
}
BROKEN = "from logmend.adapters.google.compute import ComputeApi\nComputeApi.facts = lambda *_: 1 // 0\n"


@asynccontextmanager
async def in_the_cloud(folder: Path, **options: Any) -> AsyncIterator[Function]:
    """Run an observing function, which the platform lets keep its ledger in memory."""
    environment = {"K_SERVICE": "logmend"} | options.pop("environment", {})
    async with function_process(folder, state="memory:", environment=environment, **options) as function:
        yield function


async def test_outcomes_on_standard_output_are_whole_documents(tmp_path: Path) -> None:
    """With the stream that the framework puts in the place of standard output as without it."""
    for where, extra in (("with", {}), ("without", {"LOG_EXECUTION_ID": "false"})):
        async with in_the_cloud(tmp_path / where, outcomes="stdout", environment=extra) as function:
            answer = await function.push(GARBAGE)
            assert (answer.status, answer.verdict) == (200, "rejected: not_an_event")
            (said,) = [each for each in function.entries() if "result" in each]
        assert (said["severity"], said["reason"]) == ("WARNING", "not_an_event")


async def test_the_traceback_of_an_unclassified_error_is_an_entry_with_severity_and_execution(
    tmp_path: Path,
) -> None:
    """Whether or not the framework configured logging after it had imported us."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    path = f"{tmp_path}:{Path(__file__).parents[2] / 'functions'}"
    for where, extra in (("with", {}), ("without", {"LOG_EXECUTION_ID": "false"})):
        environment = {"PYTHONPATH": path} | extra
        async with in_the_cloud(tmp_path / where, environment=environment) as function:
            answer = await function.push(LINE)
            assert (answer.status, answer.verdict) == (503, "deferred: internal_error")
            (said,) = [each for each in function.entries() if each.get("severity") == "ERROR"]
        assert said["message"].startswith("unclassified error\nTraceback (most recent call last):")
        assert said["message"].endswith("ZeroDivisionError: integer division or modulo by zero")
        assert said["logger"] == "logmend.stages.act"
        assert said["logging.googleapis.com/labels"]["execution_id"]


async def test_what_escapes_the_handler_is_an_entry_too(tmp_path: Path) -> None:
    """A caller that hangs up within its body ends in the framework's own handler, which logs to the root."""
    async with in_the_cloud(tmp_path) as function:
        await function.push(GARBAGE)
        _, writer = await asyncio.open_connection("127.0.0.1", function.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        for _ in range(2000):
            if said := [each for each in function.entries() if each.get("severity") == "ERROR"]:
                break
            await asyncio.sleep(0.05)
    assert "ClientDisconnect" in said[0]["message"]


async def test_a_tick_that_the_ledger_keeps_waiting_comes_again_without_a_traceback(tmp_path: Path) -> None:
    """5xx, so that Pub/Sub delivers it again; a warning with the reason, and no error of ours."""
    async with function_process(tmp_path) as function:
        await function.tick()
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as busy:
            busy.execute("BEGIN IMMEDIATE")
            answer = await function.push(TICK_BODY)
            busy.rollback()
        assert (answer.status, answer.verdict) == (503, "deferred: ledger_contention"), answer
        await function.tick()
    said = [each for each in function.entries() if each.get("logmend") == "tick_deferred"]
    assert [each["severity"] for each in said] == ["WARNING"]
    assert [each for each in function.entries() if each.get("severity") == "ERROR"] == []


async def test_a_tick_is_an_entry_of_the_function(tmp_path: Path) -> None:
    """The metric that the alert ``missed_tick`` asks counts it, and nothing else that the function says."""
    async with in_the_cloud(tmp_path, outcomes="stdout") as function:
        await function.push(GARBAGE)
        await function.tick()
        said = function.entries()
    (metric,) = [each for each in MONITORING["metrics"] if each["name"] == "@NAME@/ticks"]
    revision = {"type": "cloud_run_revision", "labels": {"service_name": "logmend"}}
    counts = lql.compile(metric["filter"].replace("@NAME@", "logmend"))
    counted = [each for each in said if counts.matches({"resource": revision, "jsonPayload": each})]
    assert [(each["logmend"], each["severity"]) for each in counted] == [("tick", "INFO")]
    assert len(said) > 1


@pytest.mark.parametrize("metadata", [200, 503])
async def test_an_outcome_without_a_vm_is_filed_where_the_functions_own_entries_are(
    tmp_path: Path, metadata: int
) -> None:
    """Under the revision, not as a first-generation function; without its region if nobody tells it."""
    written: list[dict[str, Any]] = []

    async def write(request: Request) -> Response:
        written.extend((await request.json())["entries"])
        return JSONResponse({})

    async def region(request: Request) -> Response:
        assert request.headers["metadata-flavor"] == "Google"
        return PlainTextResponse("projects/4711/regions/us-central1", metadata)

    routes = [
        Route("/v2/entries:write", write, methods=["POST"]),
        Route("/computeMetadata/v1/instance/region", region),
    ]
    async with serving(Starlette(routes=routes)) as url:
        cloud = {
            "outcomes": "cloud",
            "project": "logmend-ops",
            "logging_endpoint": url,
            "environment": {"GCE_METADATA_HOST": url.removeprefix("http://").rstrip("/")},
        }
        async with in_the_cloud(tmp_path, **cloud) as function:
            await function.push(GARBAGE)
    (outcome,) = written
    assert outcome["resource"] == {
        "type": "cloud_run_revision",
        "labels": {
            "project_id": "logmend-ops",
            "location": "us-central1" if metadata == 200 else "",
            "service_name": "logmend",
            "revision_name": "logmend-00001-abc",
            "configuration_name": "logmend",
        },
    }
