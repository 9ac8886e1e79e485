"""Access tokens from google-auth, with a token endpoint and a metadata server on loopback."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.threaded import serving

from logmend.adapters.google.access_token import AccessToken
from logmend.errors import Permanent, Transient

ACCOUNT = "logmend@my-project.iam.gserviceaccount.com"


@dataclass
class Endpoint:
    """A token endpoint (OAuth 2.0 JWT grant) that is a metadata server as well."""

    url: str = ""
    issued: int = 0
    status: int = 200
    lifetime: int = 3600
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str) -> Any:
        if path.startswith("/computeMetadata/v1/instance/service-accounts/default/token") or path == "/token":
            with self.lock:
                self.issued += 1
                number = self.issued
            return {"access_token": f"token-{number}", "expires_in": self.lifetime, "token_type": "Bearer"}
        if path.startswith("/computeMetadata/v1/instance/service-accounts/default/"):
            return {"email": ACCOUNT, "scopes": [], "aliases": ["default"]}
        return "my-project"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Run the endpoint."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            document = state.answer(self.path)
            data = (document if isinstance(document, str) else json.dumps(document)).encode()
            self.send_response(state.status)
            self.send_header(
                "Content-Type", "text/plain" if isinstance(document, str) else "application/json"
            )
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state


@pytest.fixture
def key_file(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a service account's key the application default credentials."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "account.json"
    document = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": ACCOUNT,
        "token_uri": f"{endpoint.url}/token",
    }
    path.write_text(json.dumps(document))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


@pytest.mark.usefixtures("key_file")
async def test_many_askers_share_one_token(endpoint: Endpoint) -> None:
    """Two hundred tunnels at once cost one request."""
    token = AccessToken()
    assert set(await asyncio.gather(*(token() for _ in range(200)))) == {"token-1"}
    assert endpoint.issued == 1
    assert await token.account() == ACCOUNT


@pytest.mark.usefixtures("key_file")
async def test_a_token_about_to_expire_is_replaced(endpoint: Endpoint) -> None:
    """What is handed out is good for minutes."""
    endpoint.lifetime = 60
    token = AccessToken()
    assert [await token(), await token()] == ["token-1", "token-2"]


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize("status", [400, 401, 403])
async def test_no_token_just_now_is_transient_and_asked_for_again(endpoint: Endpoint, status: int) -> None:
    """The next event may have more luck; nothing of the failure is remembered."""
    token = AccessToken()
    endpoint.status = status
    with pytest.raises(Transient, match="credentials_unavailable"):
        await token()
    endpoint.status = 200
    assert (await token()).startswith("token-")


@pytest.mark.parametrize("content", ["", "no JSON", '{"type": "service_account"}', '{"type": "nonsense"}'])
async def test_credentials_that_cannot_be_used_are_permanent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """A broken key file does not mend itself."""
    path = tmp_path / "broken.json"
    path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(Permanent) as caught:
        await AccessToken()()
    assert caught.value.reason in {"no_credentials", "credentials_unusable"}


ON_THE_PLATFORM = """
import asyncio
from logmend.adapters.google.access_token import AccessToken
async def main():
    token = AccessToken()
    print(await token(), await token.account())
asyncio.run(main())
"""


def test_on_the_platform_the_metadata_server_gives_token_and_account(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    """Without a key file, as the deployed function runs."""
    host = endpoint.url.removeprefix("http://")
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_PLATFORM],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "GCE_METADATA_HOST": host,
            "GCE_METADATA_IP": host,
        },
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.stdout.split() == ["token-1", ACCOUNT], done.stderr
