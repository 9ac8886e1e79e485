"""The Ops Agent's repository for lab machines: install script, package index and packages, over https.

The script is the stand-in of ``agent_installer``, the packages are those of ``agent_package``: what differs
from the real ones is said there.
"""

import hashlib
import ipaddress
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from logmend_cli.machine import roots
from logmend_cli.machine.slots import HOST_ADDRESS
from tests import threaded
from tests.lab import agent_installer, agent_package

VERSIONS = ("2.50.0~debian12", "2.51.0~debian12")
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
"""Where curl and apt look for authorities."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A running repository: where it is, what a machine has to trust to use it, the folder that it serves."""

    url: str
    authority: str
    folder: Path = Path()

    @property
    def files(self) -> dict[str, str]:
        """Files of a machine that trusts this repository."""
        return {TRUSTED: self.authority}


@contextmanager
def serving(folder: Path) -> Iterator[Repository]:
    """Build the packages and serve them on the host's side of the machines' links, once one is up."""
    key, authority = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    handler = partial(_Quiet, directory=str(folder / "www"))
    server = ThreadingHTTPServer((HOST_ADDRESS, 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://{HOST_ADDRESS}:{server.server_port}"
    _fill(folder / "www", url)
    with threaded.serving(server):
        yield Repository(url, authority.read_text(), folder / "www")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


def _fill(www: Path, url: str) -> None:
    apt = www / "apt"
    apt.mkdir(parents=True)
    (www / agent_installer.FILE).write_text(agent_installer.script(f"{url}/apt"))
    index = []
    for version in VERSIONS:
        package = apt / f"{agent_package.NAME}_{version}_all.deb"
        _build(www.parent / f"package-{version}", version, package)
        data = package.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        fields = agent_package.control(version)
        index.append(f"{fields}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}\n")
    (apt / "Packages").write_text("\n".join(index))
    # What diagnose.sh asks for: whether there is something for a release, and its key.
    for release in roots.RELEASES:
        suite = apt / "dists" / f"{agent_package.NAME}-{release}-all"
        suite.mkdir(parents=True)
        (suite / "Release").write_text(f"Codename: {suite.name}\n")
    (apt / "doc").mkdir()
    (apt / "doc" / "apt-key.gpg").write_text("the key of the stand-in, which is trusted as it is\n")


def _build(tree: Path, version: str, package: Path) -> None:
    for name, (text, mode) in agent_package.files(version).items():
        path = tree / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)],
        check=True,
        capture_output=True,
    )


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Write a key and a certificate for the host's address that signs itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST_ADDRESS)])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST_ADDRESS))])
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key, authority = folder / "repository.key", folder / "repository.pem"
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key, authority


PUBLIC = "https://dl.google.com/cloudagents"
PACKAGES = "https://packages.cloud.google.com"


def runbooks(folder: Path, url: str = PUBLIC, *, settle: int = 4) -> Path:
    """Copy the built-in runbooks, ops-agent pointed at a repository of one's own and settled in seconds."""
    import shutil

    from logmend.runbook import BUILT_IN

    copied = shutil.copytree(BUILT_IN, folder / "runbooks")  # makes the folder, too
    file = copied / "ops-agent" / "runbook.yaml"
    text = file.read_text()
    for old, new in ((PUBLIC, url), (PACKAGES, url), ("'90'", f"'{settle}'")):
        assert f"default: {old}" in text
        text = text.replace(f"default: {old}", f"default: {new}")
    file.write_text(text)
    return copied
