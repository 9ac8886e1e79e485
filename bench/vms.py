"""Many pretend VMs in one process of their own: an SSH server, and the Compute API that knows them.

``python -m bench.vms FOLDER SECONDS`` serves every address of 127.0.0.0/8 behind one port until its input
ends. A VM's id gives its address. Each has the fault until its ``enforce.sh`` was run. No shell is started,
in order to measure logmend's own part alone, and each script takes SECONDS. VMs above ``OPTED_IN`` have opted
in to certificates.
"""

import asyncio
import contextlib
import ipaddress
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.processes import ROOT, end, environment
from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.fleet import PretendLogin, free_port, serving
from logmend_cli.pretend.instance import PretendInstance

PROJECT = "bench-project"
ZONE = "us-west1-a"
FIRST = 7_000_000_000_000_000_000
OPTED_IN = 8_000_000
USER = "bench"


def address(number: int) -> str:
    """Return a VM's address."""
    return str(ipaddress.IPv4Address("127.1.0.0") + number % OPTED_IN)


def line(number: int, **shape: Any) -> dict[str, Any]:
    """Return the log entry of a VM's line."""
    return entry((PROJECT, ZONE, str(FIRST + number)), **shape)


@dataclass(frozen=True, slots=True)
class Crowd:
    """How to reach the VMs."""

    ssh_port: int
    compute_port: int
    key: Path
    known_hosts: Path

    def settings(self) -> dict[str, object]:
        """Return the settings with which a function reaches them."""
        return {
            "mode": "enforce",
            "project": PROJECT,
            "compute_endpoint": f"http://127.0.0.1:{self.compute_port}",
            "ssh_port": self.ssh_port,
            "ssh_key": self.key,
            "ssh_user": USER,
            "ssh_host_keys": f"known-hosts:{self.known_hosts}",
            "disruption_budget": "1000000/10m",
        }

    def asked(self) -> int:
        """Return how many calls the Compute API had."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.compute_port}/asked") as answer:
            return int(answer.read())


@contextlib.contextmanager
def crowd(folder: Path, seconds: float = 0.0) -> Iterator[Crowd]:
    """Serve the VMs for as long as the context lasts; each script takes ``seconds``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.vms", str(folder), str(seconds)],
        cwd=ROOT,
        env=environment({}) | paths,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield Crowd(said["ssh"], said["compute"], folder / "key", folder / "known_hosts")
    finally:
        end(process)


async def _serve(folder: Path, seconds: float) -> None:
    key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(str(folder / "key"))
    (folder / "key").chmod(0o600)
    ssh_port, compute_port = free_port(), free_port()
    (folder / "known_hosts").write_text("* " + host_key.export_public_key().decode())
    fixed: set[str] = set()

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        where = process.get_extra_info("sockname")[0]
        await process.stdin.read()
        await asyncio.sleep(seconds)
        process.stdout.write(b"logmend=begin\n")
        if "sudo" in (process.command or ""):
            fixed.add(where)
            process.exit(100)
            return
        ident = FIRST + int(ipaddress.IPv4Address(where)) - int(ipaddress.IPv4Address("127.1.0.0"))
        on = where not in fixed
        state = "timer_enabled=enabled\ntimer_active=active"
        if not on:
            state = "timer_enabled=disabled\ntimer_active=inactive"
        process.stdout.write(
            f"unit=loaded\n{state}\nconfig_status=404\nopt_in=404\ninstance_id={ident}\n".encode()
        )
        process.exit(101 if on else 100)

    def vm(ident: str) -> PretendInstance:
        number = int(ident) - FIRST
        opted_in = {"enable-workload-certificate": "true"} if number >= OPTED_IN else {}
        return PretendInstance(
            PROJECT, ZONE, ident, f"vm-{number}", internal_ip=address(number), metadata=opted_in
        )

    calls: list[str] = []

    def counted(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def count(request: Request) -> Response:
            calls.append(request.url.path)
            return answer(request)

        return count

    def asked(_: Request) -> Response:
        return Response(f"{len(calls)}")

    def instance(request: Request) -> Response:
        full = request.query_params.get("view") == "FULL"
        return JSONResponse(vm(request.path_params["instance"]).document(full=full))

    def listed(request: Request) -> Response:
        """List the VMs of one zone whose ids the filter names, by zone or as that zone's own."""
        full = request.query_params.get("view") == "FULL"
        named = re.findall(r"\(id = (\d+)\)", request.query_params["filter"])
        found = [vm(each).document(full=full) for each in named]
        of_zone = "zone" in request.path_params
        return JSONResponse({"items": found if of_zone else {f"zones/{ZONE}": {"instances": found}}})

    def project(request: Request) -> Response:
        return JSONResponse({"kind": "compute#project", "name": request.path_params["project"]})

    in_zone = "/compute/{version}/projects/{project}/zones/{zone}/instances"
    api = Starlette(
        routes=[
            Route("/asked", asked),
            Route(f"{in_zone}/{{instance}}", counted(instance)),
            Route(in_zone, counted(listed)),
            Route("/compute/{version}/projects/{project}/aggregated/instances", counted(listed)),
            Route("/compute/{version}/projects/{project}", counted(project)),
        ]
    )
    server = await asyncssh.listen(
        "0.0.0.0",
        ssh_port,
        server_factory=lambda: PretendLogin(USER, key),
        server_host_keys=[host_key],
        process_factory=run,
        encoding=None,
        config=None,
        agent_forwarding=False,
        gss_host=None,
        backlog=1024,
        compression_algs=None,
    )
    async with serving(api, compute_port):
        print(json.dumps({"ssh": ssh_port, "compute": compute_port}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
