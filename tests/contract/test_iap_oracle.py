"""Google's own client against our relay: what we believe of the protocol holds for `gcloud` too."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from tests.conftest import needs
from tests.contract import relay as relays
from tests.contract.test_iap import HOST_KEY, MEGABYTES, USER_KEY, sshd

__all__ = ["sshd"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def gcloud(folder: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run gcloud in its own process group, with nothing of this machine's configuration."""
    (folder / "token").write_text("ya29.oracle")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        # Nothing may be looked up: whatever gcloud asks the Compute API for goes nowhere.
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": "http://127.0.0.1:9/compute/v1/",
    }
    process = await asyncio.create_subprocess_exec(
        shutil.which("gcloud") or "gcloud",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def start_iap_tunnel(relay: relays.Relay, *more: str) -> list[str]:
    return [
        "compute",
        "start-iap-tunnel",
        "my-vm",
        "22",
        "--project=my-project",
        "--zone=us-west1-a",
        f"--iap-tunnel-url-override={relay.url}",
        "--iap-tunnel-insecure-disable-websocket-cert-check",
        *more,
    ]


async def connected(port: int, process: asyncio.subprocess.Process) -> asyncssh.SSHClientConnection:
    """Connect through gcloud as soon as it listens."""
    while process.returncode is None:
        try:
            return await asyncssh.connect(
                "127.0.0.1",
                port,
                username="sa_1",
                known_hosts=([HOST_KEY.convert_to_public()], [], []),
                client_keys=[USER_KEY],
                config=None,
                agent_path=None,
            )
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
    _, stderr = await process.communicate()
    pytest.fail(f"gcloud ended: {stderr.decode()}")


@pytest.mark.timeout(300)
async def test_googles_own_client_works_with_this_relay(
    sshd: tuple[str, int],  # the fixture
    tmp_path: Path,
) -> None:
    """SSH with megabytes each way through `gcloud compute start-iap-tunnel`, no fault seen by the relay."""
    needs(commands=("gcloud",))
    server_tls, _ = relays.self_signed(tmp_path)
    port = free_port()
    async with relays.running({"my-vm": sshd}, tls=server_tls) as relay, asyncio.timeout(250):
        command = start_iap_tunnel(relay, f"--local-host-port=localhost:{port}")
        async with gcloud(tmp_path, *command) as process, await connected(port, process) as ssh:
            given = await ssh.run(f"give {MEGABYTES}", encoding=None)
            taken = await ssh.run("take", input=b"y" * MEGABYTES, encoding=None)
        await relay.idle()
    assert given.stdout == b"x" * MEGABYTES
    assert taken.stdout == str(MEGABYTES).encode()
    assert relay.faults == []
    assert relay.acks > 0
    assert {request.headers["Authorization"] for request in relay.requests} == {"Bearer ya29.oracle"}


@pytest.mark.timeout(300)
async def test_googles_own_client_reads_a_close_code_as_we_do(tmp_path: Path) -> None:
    """4003 is "failed to connect" to gcloud as well."""
    needs(commands=("gcloud",))
    server_tls, _ = relays.self_signed(tmp_path)
    refused = relays.closes(4003, "failed to connect to backend")
    async with (
        relays.running(behaviour=refused, tls=server_tls) as relay,
        asyncio.timeout(250),
        gcloud(tmp_path, *start_iap_tunnel(relay, "--listen-on-stdin")) as process,
    ):
        _, stderr = await process.communicate(b"SSH-2.0-nobody\r\n")
    assert "4003" in stderr.decode()
    assert "Failed to connect to port 22" in stderr.decode()
    assert relay.faults == []
