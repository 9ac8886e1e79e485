"""OS Login credentials: a certificate for one VM and five minutes, else a short-lived key in the profile.

For each attempt, in this order:

1. Get the username in the VM's project from the login profile; if there is none, ``provisionPosixAccount``.
2. ``signSshPublicKey``: nothing is stored anywhere. On 404 the account is provisioned and the call repeated.
3. ``importSshPublicKey``, only if signing is not available (404 again, 400, 405, 501) or the VM's server
   refused the certificate. The profile holds 32 KiB, so there is one key per process, never one per event:
   it expires after ``key_lifetime``, is replaced before that, and is deleted once it has expired and when
   the process ends. ``import_keys=False`` forbids this step.

Servers accept certificates since guest agent 20230517 (TrustedUserCAKeys) with OS Login 20230919 (its
google_authorized_principals), but not with security keys (guest-agent, 2026-01). A VM that accepted an
imported key instead is remembered for :data:`REMEMBERED`; after that a certificate is tried again.

A refusal (403) by the API does not lead to step 3: the VM would require the same permissions at login, and
the operator should learn of the missing role here. The reasons are those of
:mod:`logmend.adapters.google.errors`, with ``not_permitted`` naming permission and roles, and our own:
Permanent ``no_posix_account``, ``login_profile_full`` and ``key_not_imported``.

Keys are ECDSA P-256, which every server accepts: hosts in FIPS mode refuse Ed25519. A private key is created
in memory, exists as long as the process, and never leaves it.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from logmend.adapters.error_table import one_line
from logmend.adapters.google.oslogin_account import UNAVAILABLE, LoginAccount
from logmend.adapters.google.oslogin_api import OsLoginApi, login_roles
from logmend.adapters.google.oslogin_imported_key import ImportedKeys, new_key, public_text
from logmend.adapters.libraries import ALONE
from logmend.adapters.ssh import login
from logmend.adapters.ssh.credential import Credential
from logmend.errors import Permanent, Transient
from logmend.ledger import Contacts
from logmend.model.values import InstanceFacts
from logmend.ports import Clock

if TYPE_CHECKING:
    import asyncssh

    from logmend.adapters.google.rest import HttpReply

REMEMBERED = timedelta(days=7)
"""How long no certificate is offered to a VM that accepted an imported key instead: guests get upgraded."""

log = logging.getLogger(__name__)


class OsLogin:
    """Provides credentials of one service account to any number of concurrent attempts.

    ``account`` is its e-mail address, or a function that returns it when first needed. ``contacts`` remembers
    the VMs that do not accept certificates.
    """

    def __init__(
        self,
        api: OsLoginApi,
        account: str | Callable[[], Awaitable[str]],
        clock: Clock,
        *,
        contacts: Contacts | None = None,
        import_keys: bool = True,
        key_lifetime: timedelta = timedelta(hours=1),
    ) -> None:
        self._contacts = contacts
        self._import_keys = import_keys
        self._api = api
        self._account = LoginAccount(api, account)
        self._imported = ImportedKeys(api, self._account, clock, key_lifetime)
        self._clock = clock
        self._signing_key: asyncssh.SSHKey | None = None

    async def credential(self, facts: InstanceFacts) -> Credential:
        """Return a credential that this VM accepts; Transient or Permanent if there is none."""
        if await self._takes_no_certificate(facts):
            return await self._with_imported_key(facts)
        if await self._account.username(facts) is not None:
            certified = await self._certified(facts)
            if certified is not None:
                return certified
        return await self._with_imported_key(facts)

    async def instead(self, facts: InstanceFacts, refused: login.AnyCredential) -> Credential | None:
        """Return the credential to try after a certificate, or a remembered choice of key, was refused."""
        if not self._import_keys:
            return None
        if refused.kind == "certificate":
            return await self._with_imported_key(facts)
        return await self._certified(facts) if await self._takes_no_certificate(facts) else None

    async def accepted(self, facts: InstanceFacts, credential: login.AnyCredential) -> None:
        """Remember what a VM accepted instead. If the ledger is away, this only costs a try next time."""
        until = self._clock.now() + REMEMBERED if credential.kind == "imported_key" else None
        if self._contacts is not None:
            try:
                await self._contacts.takes_imported_key(facts.ref, until)
            except (Transient, Permanent) as error:
                log.warning("not remembered: %s takes %s (%s)", facts.ref, credential.kind, error)

    async def aclose(self) -> None:
        """Delete our keys from the profile, as far as possible; then release connections."""
        await self._imported.aclose()
        await self._api.aclose()

    async def _takes_no_certificate(self, facts: InstanceFacts) -> bool:
        if self._contacts is None or not self._import_keys:
            return False
        until = (await self._contacts.get(facts.ref)).imported_key_until
        return until is not None and until > self._clock.now()

    async def _certified(self, facts: InstanceFacts) -> Credential | None:
        """Return a certificate; None if signing is not available."""
        if self._signing_key is None:
            self._signing_key = new_key()
        key = self._signing_key
        answer = await self._api.sign(facts, public_text(key))
        if answer.status == 404 and await self._account.provision(facts) is not None:
            answer = await self._api.sign(facts, public_text(key))
        if answer.ok:
            return _with_certificate(
                self._account.usernames[facts.ref.project_id], key, answer, self._clock.now()
            )
        if answer.status in UNAVAILABLE and self._import_keys:
            return None
        raise answer.error(needs=login_roles(facts))

    async def _with_imported_key(self, facts: InstanceFacts) -> Credential:
        if not self._import_keys:
            raise self._no_account(await self._account.email(), facts)
        key, expires_at = await self._imported.get(facts)
        username = self._account.usernames.get(facts.ref.project_id)
        if username is None:
            raise self._no_account(await self._account.email(), facts)
        return Credential(username, key, None, expires_at, "imported_key")

    def _no_account(self, email: str, facts: InstanceFacts) -> Permanent:
        tried = "even after a key was imported" if self._import_keys else "and LOGMEND_SSH_IMPORT_KEYS=false"
        detail = f"OS Login has no account for {email} in {facts.ref.project_id}, {tried}"
        return Permanent("no_posix_account", detail)


def _with_certificate(
    username: str, key: "asyncssh.SSHKey", answer: "HttpReply", now: datetime
) -> Credential:
    """Return the credential with the certificate, checked to be for our key and valid now."""
    with ALONE:
        import asyncssh

    text = str((answer.json or {}).get("signedSshPublicKey", ""))
    try:
        certificate = asyncssh.import_certificate(text)
    except (asyncssh.KeyImportError, ValueError) as exc:
        raise Transient("api_protocol_error", f"a certificate that cannot be read: {one_line(exc)}") from exc
    if certificate.key.public_data != key.public_data:
        raise Transient("api_protocol_error", "a certificate for another key")
    until = getattr(certificate, "_valid_before", 0)  # asyncssh has no public name for it
    expires_at = datetime.fromtimestamp(min(until, now.timestamp() + timedelta(days=1).total_seconds()), UTC)
    if expires_at <= now:
        raise Transient("api_protocol_error", f"a certificate that expired at {expires_at:%H:%M:%S} UTC")
    return Credential(username, key, certificate, expires_at, "certificate")
