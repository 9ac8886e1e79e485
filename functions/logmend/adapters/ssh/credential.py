"""SSH credentials, and their simplest source: a key file."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from logmend.adapters.error_table import one_line
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent
from logmend.model.struct import Struct
from logmend.model.values import CredentialKind, InstanceFacts

if TYPE_CHECKING:
    import asyncssh

NEVER = datetime.max.replace(tzinfo=UTC)


class Credential(Struct, frozen=True):
    """A username with the key, and possibly a certificate, that a VM accepts for it.

    ``kind`` is ``certificate`` (OS Login, valid for one VM and for minutes), ``imported_key`` (OS Login, a
    key in the login profile) or ``static`` (a key file). The private key is never written anywhere.
    """

    username: str
    private_key: "asyncssh.SSHKey"
    certificate: "asyncssh.SSHCertificate | None"
    expires_at: datetime
    kind: CredentialKind


class StaticKey:
    """An unencrypted private key file, for labs and for fleets without OS Login.

    A certificate beside it (``PATH-cert.pub``) is used too. Both are read again for each attempt, so they can
    be rotated. ``Permanent("bad_credential")`` if they cannot be read or do not match; the error names the
    setting, never its value or the file's content.
    """

    def __init__(self, path: Path, username: str) -> None:
        self._path = path
        self._username = username

    async def credential(self, facts: InstanceFacts) -> Credential:
        """Return the key, which is the same for every VM."""
        del facts
        return await asyncio.to_thread(self._read)

    async def instead(self, facts: InstanceFacts, refused: object) -> None:
        """Return None: there is no other key."""

    async def accepted(self, facts: InstanceFacts, credential: object) -> None:
        """Do nothing: there is nothing to remember."""

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""

    def _read(self) -> Credential:
        with ALONE:
            import asyncssh

        beside = self._path.with_name(self._path.name + "-cert.pub")
        certificate = None
        try:
            key = asyncssh.read_private_key(self._path)
            if beside.exists():
                certificate = asyncssh.read_certificate(beside)
        except OSError as exc:  # its own text would repeat the path
            raise Permanent("bad_credential", f"the file of LOGMEND_SSH_KEY: {exc.strerror}") from exc
        except ValueError as exc:
            raise Permanent("bad_credential", f"the file of LOGMEND_SSH_KEY: {one_line(exc)}") from exc
        if certificate is not None and certificate.key.public_data != key.public_data:
            raise Permanent("bad_credential", "the certificate beside LOGMEND_SSH_KEY is for another key")
        return Credential(self._username, key, certificate, NEVER, "static")
