"""An OS Login API for tests, with a certificate authority of its own.

It encodes our own reading of the API. Messages that Google's Python client knows are built with its types;
``test_oslogin_oracle.py`` runs that client and ``gcloud`` against it. Signing and provisioning, which the
client lacks, are checked by ``gcloud beta compute ssh`` there.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncssh
from google.cloud import oslogin_v1
from google.cloud.oslogin_v1.common import types as common
from tests.threaded import serving

ACCOUNT = "logmend@my-project.iam.gserviceaccount.com"
USERNAME = "sa_117284590"


@dataclass
class FakeOsLogin:
    """State of the fake. ``answers`` maps a call's name to the statuses of its next answers."""

    url: str = ""
    ca: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    lifetime: int = 300
    provisioned: set[str] = field(default_factory=set)
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    queries: list[Mapping[str, str]] = field(default_factory=list)
    answers: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    capacity: int = 100
    accountless: bool = False
    ignores_keys: str = ""
    """Answers imports with 200 and these details, without the key."""
    mangle: Mapping[str, Any] | None = None

    def fail(self, call: str, status: int, message: str = "", times: int = 1) -> None:
        """Answer the next calls of that name with an error."""
        self.answers.setdefault(call, []).extend([(status, message)] * times)

    # What the API does

    def handle(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> tuple[int, Any]:
        for call, verb, pattern in ROUTES:
            if verb == method and (found := re.fullmatch(pattern, path)):
                self.calls.append(call)
                self.bodies.append(body)
                self.queries.append(query)
                if self.answers.get(call):
                    status, message = self.answers[call].pop(0)
                    return status, error(status, message or "as the test wants it")
                if self.mangle is not None and call == "sign":
                    return 200, self.mangle
                arguments = [unquote(group) for group in found.groups()]
                return getattr(self, call)(*arguments, query=query, body=body)  # type: ignore[no-any-return]
        return 404, "<html>no such page</html>"

    def sign(self, project: str, region: str, *, query: Any, body: Mapping[str, Any]) -> tuple[int, Any]:
        """One VM, a few minutes; 404 where the caller has no POSIX account in the project."""
        resource = re.fullmatch(r"projects/([^/]+)/zones/([^/]+)/instances/(\d+)", body["computeInstance"])
        if not resource or resource[1] != project or not resource[2].startswith(region + "-"):
            return 400, error(400, f"Invalid compute_instance {body['computeInstance']}")
        if project not in self.provisioned:
            return 404, error(404, "No POSIX account found")
        now = int(time.time())
        certificate = self.ca.generate_user_certificate(
            asyncssh.import_public_key(body["sshPublicKey"]),
            f"{ACCOUNT} for {resource[3]}",
            principals=[USERNAME],
            valid_after=now - 60,
            valid_before=now + self.lifetime,
        )
        return 200, {"signedSshPublicKey": certificate.export_certificate().decode().strip()}

    def provision(self, user: str, project: str, *, query: Any, body: Mapping[str, Any]) -> tuple[int, Any]:
        assert set(body) <= {"regions"}
        self.provisioned.add(project)
        return 200, {} if self.accountless else proto(self._account(project))

    def profile(self, user: str, *, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        return 200, proto(self._profile(query.get("projectId")))

    def import_key(self, user: str, *, query: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, Any]:
        fingerprint = hashlib.sha256(body["key"].split()[1].encode()).hexdigest()
        if fingerprint not in self.keys and len(self.keys) >= self.capacity:
            return 400, error(
                400, "Login profile size exceeds 32 KiB. Delete profile values to make additional space."
            )
        if self.ignores_keys:
            answer = oslogin_v1.ImportSshPublicKeyResponse(
                login_profile=self._profile(query.get("projectId")), details=self.ignores_keys
            )
            return 200, proto(answer)
        self.keys[fingerprint] = dict(body)
        if project := query.get("projectId"):
            self.provisioned.add(project)
        profile = self._profile(query.get("projectId"))
        return 200, proto(oslogin_v1.ImportSshPublicKeyResponse(login_profile=profile))

    def delete_key(self, user: str, fingerprint: str, *, query: Any, body: Any) -> tuple[int, Any]:
        gone = self.keys.pop(fingerprint, None)
        return (200, {}) if gone else (404, error(404, "Key not found"))

    def _account(self, project: str) -> common.PosixAccount:
        return common.PosixAccount(
            primary=True,
            username=USERNAME,
            uid=117284590,
            gid=117284590,
            home_directory=f"/home/{USERNAME}",
            operating_system_type=common.OperatingSystemType.LINUX,
            account_id=project,
            name=f"users/{ACCOUNT}/projects/{project}",
        )

    def _profile(self, project: str | None) -> oslogin_v1.LoginProfile:
        keys = {
            fingerprint: common.SshPublicKey(
                key=each["key"],
                expiration_time_usec=int(each.get("expirationTimeUsec", 0)),
                fingerprint=fingerprint,
                name=f"users/{ACCOUNT}/sshPublicKeys/{fingerprint}",
            )
            for fingerprint, each in self.keys.items()
        }
        projects = [] if self.accountless else sorted(self.provisioned)
        accounts = [self._account(each) for each in projects if project in (None, each)]
        return oslogin_v1.LoginProfile(name="117284590", posix_accounts=accounts, ssh_public_keys=keys)


ROUTES = [
    # name of the call, method, path (docs.cloud.google.com/compute/docs/oslogin/rest, v1 and v1beta)
    ("sign", "POST", r"/v1(?:beta)?/projects/([^/]+)/locations/([^/:]+):signSshPublicKey"),
    ("provision", "POST", r"/v1(?:beta)?/users/([^/:]+)/projects/([^/:]+)"),
    ("profile", "GET", r"/v1(?:beta)?/users/([^/:]+)/loginProfile"),
    ("import_key", "POST", r"/v1(?:beta)?/users/([^/:]+):importSshPublicKey"),
    ("delete_key", "DELETE", r"/v1(?:beta)?/users/([^/:]+)/sshPublicKeys/([^/:]+)"),
]


def proto(message: Any) -> Any:
    """Give a message of Google's types as the JSON that the API would send."""
    return json.loads(type(message).to_json(message, always_print_fields_with_no_presence=False))


def error(status: int, message: str) -> Mapping[str, Any]:
    return {"error": {"code": status, "message": message, "status": "ERROR"}}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOsLogin

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        status, document = self.fake.handle(self.command, parts.path, query, body)
        data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[FakeOsLogin]:
    """Run the fake on loopback."""
    fake = FakeOsLogin()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield fake
