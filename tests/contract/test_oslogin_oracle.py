"""Google's own clients against our OS Login fake: what we believe of the API holds for them too."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import oslogin_v1
from google.cloud.oslogin_v1.common import types as common
from tests.conftest import needs
from tests.contract import oslogin_fake
from tests.contract.oslogin_fake import ACCOUNT, USERNAME, FakeOsLogin
from tests.threaded import serving

INSTANCE = {
    "id": "4775836342981993096",
    "name": "my-vm",
    "status": "RUNNING",
    "zone": "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-west1-a",
    "selfLink": "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-west1-a/instances/my-vm",
    "serviceAccounts": [{"email": "vm@my-project.iam.gserviceaccount.com"}],
    "networkInterfaces": [
        {"name": "nic0", "networkIP": "10.0.0.7", "accessConfigs": [{"natIP": "198.51.100.7"}]}
    ],
}


@pytest.fixture
def fake() -> Iterator[FakeOsLogin]:
    """Run an OS Login API in which nothing is provisioned."""
    with oslogin_fake.running() as running:
        yield running


def test_googles_python_client_reads_what_the_fake_answers(fake: FakeOsLogin) -> None:
    """Import, profile and deletion, through Google's own types on both sides."""
    with oslogin_v1.OsLoginServiceClient(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=fake.url),
        transport="rest",
    ) as client:
        key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        imported = client.import_ssh_public_key(
            parent=f"users/{ACCOUNT}",
            ssh_public_key=common.SshPublicKey(key=key, expiration_time_usec=1_900_000_000_000_000),
            project_id="my-project",
        )
        [fingerprint] = imported.login_profile.ssh_public_keys
        request = oslogin_v1.GetLoginProfileRequest(name=f"users/{ACCOUNT}", project_id="my-project")
        profile = client.get_login_profile(request)
        assert profile.posix_accounts[0].username == USERNAME
        assert profile.ssh_public_keys[fingerprint].expiration_time_usec == 1_900_000_000_000_000
        client.delete_ssh_public_key(name=f"users/{ACCOUNT}/sshPublicKeys/{fingerprint}")
    assert fake.keys == {}


class Compute(BaseHTTPRequestHandler):
    """Just enough of the Compute API for `gcloud compute ssh`: one VM and its project."""

    metadata: dict[str, str]

    def do_GET(self) -> None:
        document: dict[str, Any] = {"name": "my-project"}
        if "/instances/" in self.path:
            items = [{"key": key, "value": value} for key, value in self.metadata.items()]
            document = INSTANCE | {"metadata": {"items": items}}
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def gcloud(folder: Path, fake: FakeOsLogin, metadata: dict[str, str], *arguments: str) -> str:
    """Run gcloud against the fakes, with nothing of this machine's configuration; its standard output."""
    (folder / "token").write_text("ya29.oracle")
    handler = type("Handler", (Compute,), {"metadata": metadata})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as compute:
        done = subprocess.run(
            [shutil.which("gcloud") or "gcloud", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "CLOUDSDK_CONFIG": str(folder / "gcloud"),
                "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
                "CLOUDSDK_CORE_ACCOUNT": ACCOUNT,
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
                "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"http://127.0.0.1:{compute.server_port}/compute/v1/",
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_OSLOGIN": fake.url + "/",
            },
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


SSH = ("compute", "ssh", "my-vm", "--project=my-project", "--zone=us-west1-a", "--dry-run", "--quiet")


@pytest.mark.timeout(300)
def test_gcloud_gets_a_certificate_the_way_we_do(fake: FakeOsLogin, tmp_path: Path) -> None:
    """Sign, 404, provision, sign: the same calls with the same fields, and OpenSSH can read the result."""
    needs(commands=("gcloud", "ssh-keygen"))
    metadata = {"enable-oslogin": "TRUE", "enable-oslogin-certificates": "TRUE"}
    command = gcloud(tmp_path, fake, metadata, "beta", *SSH)
    assert f"{USERNAME}@198.51.100.7" in command
    assert fake.calls == ["sign", "provision", "sign", "profile"]
    assert set(fake.bodies[0]) == {"sshPublicKey", "computeInstance", "serviceAccount"}
    assert (
        fake.bodies[0]["computeInstance"]
        == "projects/my-project/zones/us-west1-a/instances/4775836342981993096"
    )
    assert fake.bodies[0]["serviceAccount"] == "vm@my-project.iam.gserviceaccount.com"
    assert fake.bodies[1] == {"regions": ["us-west1"]}
    [certificate] = (tmp_path / ".ssh" / "google_compute_engine_cert").iterdir()
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", certificate], capture_output=True, text=True, check=True
    )
    assert USERNAME in shown.stdout


@pytest.mark.timeout(300)
def test_gcloud_imports_a_key_the_way_we_do(fake: FakeOsLogin, tmp_path: Path) -> None:
    """Where certificates are not asked for, gcloud puts a key with an expiry into the profile."""
    needs(commands=("gcloud", "ssh-keygen"))
    command = gcloud(tmp_path, fake, {"enable-oslogin": "TRUE"}, *SSH, "--ssh-key-expire-after=1h")
    assert f"{USERNAME}@198.51.100.7" in command
    assert fake.calls == ["profile", "import_key"]
    assert set(fake.bodies[1]) == {"key", "expirationTimeUsec"}
    assert isinstance(fake.bodies[1]["expirationTimeUsec"], str)
