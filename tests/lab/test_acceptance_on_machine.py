"""The first real run, driven end to end: real gcloud, both emulators, the function, the relay, a machine.

``deploy/acceptance.sh`` runs whole. What it asks of Compute, Cloud Logging and Pub/Sub goes through gcloud to
a server here, behind which are a booted machine, the entries that it and the function really wrote, and the
Pub/Sub emulator. What ``deploy/gcloud.sh`` makes is a model's (real gcloud takes those commands in
tests/integration/test_gcloud_script.py), except that a deployed function really starts, with its settings.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from logmend import lql
from logmend_cli.pretend.fleet import free_port, serving
from tests.conftest import needs
from tests.contract import oslogin_fake
from tests.contract.oslogin_fake import FakeOsLogin
from tests.contract.test_access_token import endpoint, key_file  # noqa: F401  # fixtures
from tests.e2e.function_process import Function, function_process
from tests.e2e.post import Post
from tests.emulators import PUBSUB_PROJECT, firestore_emulator, pubsub_emulator
from tests.integration.test_gcloud_stops import Model
from tests.lab import shipper
from tests.lab.cloud import Cloud
from tests.lab.conftest import Boot
from tests.lab.machines import Machine, TimerState
from tests.lab.test_production_ssh import login_machine, reachable
from tests.logging_fake import FakeLogging
from tests.provider_schema import ROOT

__all__ = ["firestore_emulator", "pubsub_emulator"]

pytestmark = pytest.mark.timeout(600)

RUN = "1"
NAME = f"lm-accept-{RUN}"
ZONE = "us-central1-a"
GCLOUD = """#!/bin/sh
case " $* " in
*" compute "* | *" logging read "* | *" pubsub topics publish "*) exec {real} "$@" ;;
esac
{model} "$@" || exit
case " $* " in
*" functions deploy "*)
  for each; do
    case $each in --set-env-vars=*) curl -sSf --data-binary "${{each#*=}}" {url}/deployed ;; esac
  done
  ;;
esac
"""
"""Real gcloud for what a run asks for itself; the model, and a function that starts, for what it deploys."""
LOGMEND = """#!/bin/sh
exec {python} -c 'from logmend_cli.main import main; main()' "$@"
"""
PERIOD = """[Timer]
OnActiveSec=
OnActiveSec=1
OnUnitActiveSec=2
AccuracySec=50ms
"""


@dataclass
class Project:
    """The project that a run is in: one machine, which is off until it is made, and what was asked."""

    machine: Machine
    around: Cloud
    post: Post
    log: FakeLogging
    reach: dict[str, Any]
    images: list[dict[str, Any]]
    url: str = ""
    function: Function | None = None
    settings: list[dict[str, str]] = field(default_factory=list)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    running: AsyncExitStack = field(default_factory=AsyncExitStack)
    _port: int = field(default_factory=free_port)
    _shipped: int = 0

    @property
    def app(self) -> Starlette:
        every = ["GET", "POST", "DELETE"]
        return Starlette(
            routes=[
                Route("/deployed", self._deployed, methods=["POST"]),
                Route("/v2/entries:write", self._write, methods=["POST"]),
                *self.log.app.routes,
                Route("/v1/{topic:path}:publish", self._publish, methods=["POST"]),
                Route("/compute/v1/{path:path}", self._compute, methods=every),
            ]
        )

    async def _deployed(self, request: Request) -> Response:
        """Start the function anew, with the settings it was deployed with and the way to what is here."""
        given = dict(each.partition("=")[::2] for each in (await request.body()).decode().split(","))
        self.settings.append(given)
        chosen = {name.removeprefix("LOGMEND_").lower(): value for name, value in given.items()}
        await self.running.aclose()
        if not self.settings[1:]:
            await self.post.push_to(f"http://127.0.0.1:{self._port}/")
        self.function = await self.running.enter_async_context(
            function_process(
                self.around.folder / "function",
                port=self._port,
                **(chosen | {"logging_endpoint": self.url} | self.reach),
            )
        )
        return JSONResponse({})

    async def _write(self, request: Request) -> Response:
        """Take entries as Cloud Logging does, which notes when it received them."""
        received = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        body = await request.json()
        for each in body["entries"]:
            common = {key: body[key] for key in ("logName", "resource") if key in body}
            self.log.entries.append(common | each | {"receiveTimestamp": received})
        return JSONResponse({})

    async def _publish(self, request: Request) -> Response:
        messages = [base64.b64decode(each["data"]) for each in (await request.json())["messages"]]
        return JSONResponse({"messageIds": await self.post.publish(*messages)})

    async def _compute(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.asked.append(f"{request.method} {path}")
        scope, _, last = path.rpartition("/")
        if request.method == "POST" and not path.endswith("/wait"):
            body = await request.json()
            self.made[f"{path}/{body['name']}"] = body
            if last == "instances":
                self._switched_on(body)
            return self._done(f"{path}/{body['name']}", "insert")
        if request.method == "DELETE":
            if self.made.pop(path, None) is None:
                return _missing(path)
            return self._done(path, "delete")
        if last == "images":
            return JSONResponse({"items": self.images})
        if last == "getGuestAttributes":
            key = dict(parse_qsl(request.url.query))["queryPath"]
            value = self.machine.metadata.guest_attributes.get(key)
            if value is None:
                return _missing(key)
            namespace, _, name = key.partition("/")
            item = {"namespace": namespace, "key": name, "value": value}
            return JSONResponse({"queryPath": key, "queryValue": {"items": [item]}})
        if scope.endswith("/instances"):
            if path not in self.made:
                return _missing(path)
            link = f"{self.url}/compute/v1/{path}"
            there = {"id": self.machine.ref.instance_id, "zone": link.partition("/instances/")[0]}
            return JSONResponse(self.made[path] | there | {"selfLink": link, "status": "RUNNING"})
        return JSONResponse({"name": last})

    def _switched_on(self, body: dict[str, Any]) -> None:
        """Let the machine be the VM that was asked for: its labels, its metadata, its first boot's script."""
        instance = self.around.instance(self.machine)
        instance.labels = body["labels"]
        items = {each["key"]: each["value"] for each in body["metadata"]["items"]}
        script = items.pop("startup-script")
        instance.metadata.update(items)
        boot = "cat >/root/startup.sh; sh /root/startup.sh </dev/null"
        task = asyncio.create_task(self.machine.run(boot, stdin=script.encode(), timeout=120))
        self.running.push_async_callback(asyncio.wait_for, task, 120)

    def _done(self, path: str, kind: str) -> Response:
        scope = path.partition("/instances/")[0].partition("/firewalls/")[0]
        operation = {"kind": "compute#operation", "name": "op", "operationType": kind, "status": "DONE"}
        links = {"selfLink": f"{scope}/operations/op", "targetLink": path}
        if "/zones/" in scope:
            links["zone"] = scope
        return JSONResponse(operation | {key: f"{self.url}/compute/v1/{each}" for key, each in links.items()})

    async def sink(self) -> None:
        """Route what the machine logs as the log's sink does: keep all, publish what the filter selects."""
        selects = lql.compile((ROOT / "sink" / "filter.lql").read_text())
        while True:
            if any("/instances/" in each for each in self.made):
                entries = await shipper.ops_agent_journald(self.machine)
                for entry in entries[self._shipped :]:
                    self.log.entries.append(entry)
                    if selects.matches(entry):
                        await self.post.publish(entry)
                self._shipped = len(entries)
            await asyncio.sleep(0.5)


def _missing(what: str) -> Response:
    said = f"The resource '{what}' was not found"
    return JSONResponse({"error": {"code": 404, "message": said}}, 404)


@pytest.fixture
def oslogin() -> Iterator[FakeOsLogin]:
    """Run the OS Login fake."""
    with oslogin_fake.running() as fake:
        yield fake


@asynccontextmanager
async def project(
    folder: Path, machine: Machine, oslogin: FakeOsLogin, images: list[dict[str, Any]]
) -> AsyncIterator[Project]:
    """Serve a project around a machine."""
    async with AsyncExitStack() as stack:
        around, _, reach = await stack.enter_async_context(reachable(folder, machine, oslogin))
        around.instance(machine).guest_attributes = {}
        reach["compute_endpoint"] = f"http://127.0.0.1:{around.port}"
        post = await asyncio.to_thread(Post, NAME)
        stack.push_async_callback(asyncio.to_thread, post.close)
        stack.push_async_callback(post.stop_pushing)
        found = Project(machine, around, post, FakeLogging(), reach, images)
        stack.push_async_callback(found.running.aclose)
        port = free_port()
        found.url = f"http://127.0.0.1:{port}"
        await stack.enter_async_context(serving(found.app, port))
        shipping = asyncio.create_task(found.sink())
        stack.callback(shipping.cancel)
        yield found


async def accepted(found: Project, folder: Path, **more: str) -> tuple[int, str]:
    """Run the script; gives its exit code and what it said."""
    real, model = shutil.which("gcloud"), Model(folder / "gcloud")
    (model.folder / "model").write_bytes((model.folder / "gcloud").read_bytes())
    wrapped = GCLOUD.format(real=real, model=model.folder / "model", url=found.url)
    (model.folder / "gcloud").write_text(wrapped)
    (folder / "logmend").write_text(LOGMEND.format(python=sys.executable))
    for program in (folder / "logmend", model.folder / "model"):
        program.chmod(0o755)
    (folder / "token").write_text("nothing")
    config = {
        "CLOUDSDK_CONFIG": str(folder / "config"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{found.url}/compute/v1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": f"{found.url}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"{found.url}/",
    }
    quick = {"RUN": RUN, "ZONE": ZONE, "SILENCE": "8", "TRIES": "60", "PAUSE": "2"}
    others = ("LOGMEND_", "CLOUDSDK_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    said = folder / "said"
    with said.open("wb") as written:
        ran = await asyncio.create_subprocess_exec(
            *(str(ROOT / "deploy" / "acceptance.sh"), PUBSUB_PROJECT, "--yes"),
            cwd=folder,
            env=environ | model.environment() | config | quick | more | {"LOGMEND": str(folder / "logmend")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            await asyncio.wait_for(ran.wait(), 500)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)
    assert model.left() == set()
    return ran.returncode or 0, said.read_text()


OLD = {
    "name": "debian-11-bullseye-v20230306",
    "family": "debian-11",
    "creationTimestamp": "2023-03-06T00:00:00.000-08:00",
    "deprecated": {"state": "DEPRECATED"},
}
ON = TimerState("loaded", "enabled", "active")
STEPS = [
    "deployed in mode observe", "VM made", "the line logged", "planned", "deployed in mode enforce",
    "remediated", "silent", "reverted", "one message replayed", "destroyed",
]  # fmt: skip
WAY = {"event to Pub/Sub", "Pub/Sub to function", "look-up", "on the VM", "in the function", "record"}


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text())
    return found


@pytest.mark.usefixtures("key_file", "firestore_emulator", "pubsub_emulator")
@pytest.mark.parametrize("source", ["the image's own program", "our stand-in"])
async def test_the_first_real_run_goes_from_the_line_to_silence_and_back(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path, source: str
) -> None:
    """Every step really happens and is timed, nothing is left; the report says whose line it was."""
    needs(commands=("gcloud", "java"))
    own = source != "our stand-in"
    how: dict[str, Any] = {"period": 2.0} if own else {"timer": "absent"}
    machine = await login_machine(boot, oslogin, project_id=PUBSUB_PROJECT, zone=ZONE, **how)
    folder = "/etc/systemd/system/gce-workload-cert-refresh.timer.d"
    await machine.run(f"mkdir -p {folder}; cat >{folder}/period.conf", stdin=b"" if own else PERIOD.encode())
    async with project(tmp_path, machine, oslogin, [OLD] if own else []) as found:
        status, said = await accepted(found, tmp_path)
        assert status == 0, said
        assert found.made == {}
        assert found.function is not None
        payloads = [each["jsonPayload"] for each in found.log.entries]
        results = [each["result"] for each in payloads if "result" in each]
    told = report(tmp_path)
    steps = {each["step"]: each for each in told["steps"]}
    assert (told["passed"], told["line_from"]) == (True, source), told
    assert told["image"] == ("debian-cloud/debian-11-bullseye-v20230306" if own else "debian-cloud/debian-12")
    assert list(steps) == STEPS
    assert all(each["result"].startswith("ok") for each in told["steps"]), told
    for step in ("planned", "remediated"):
        assert steps[step]["latency_s"].keys() == WAY
        assert all(-1 < seconds < 60 for seconds in steps[step]["latency_s"].values()), steps[step]
    assert "ok: skipped: reverted" in steps["one message replayed"]["result"]
    assert {"planned", "remediated", "reverted"} <= set(results)
    assert [each["LOGMEND_MODE"] for each in found.settings] == ["observe", "enforce"]
    assert {each["LOGMEND_SCOPE_LABELS"] for each in found.settings} == {f"logmend-acceptance={RUN}"}
    assert await machine.timer_state() == ON, "given back"


@pytest.mark.usefixtures("key_file", "firestore_emulator", "pubsub_emulator")
async def test_a_run_whose_vm_is_refused_says_what_came_instead_and_destroys_everything(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """A VM that uses certificates is never planned: the step fails, with the outcome that did come."""
    needs(commands=("gcloud", "java"))
    machine = await login_machine(boot, oslogin, project_id=PUBSUB_PROJECT, zone=ZONE, period=2.0)
    async with project(tmp_path, machine, oslogin, [OLD]) as found:
        machine.metadata.attributes["instance/attributes/enable-workload-certificate"] = "true"
        status, said = await accepted(found, tmp_path, TRIES="6")
        assert status == 1
        assert "opted_in" in said
        assert found.made == {}
    told = report(tmp_path)
    assert told["passed"] is False
    assert [each["step"] for each in told["steps"] if each["result"] == "failed"] == ["planned"]
    assert told["steps"][-1] == told["steps"][-1] | {"step": "destroyed", "result": "ok"}
    assert await machine.timer_state() == ON
