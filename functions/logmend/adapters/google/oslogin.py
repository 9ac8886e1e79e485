"""OS Login credentials: a certificate for one VM and five minutes, or else a short-lived key in the profile.

For each attempt, in this order:

1. The username in the VM's project, from the login profile; ``provisionPosixAccount`` if there is none.
2. ``signSshPublicKey``: nothing is stored anywhere. On 404 the account is provisioned and it is asked again.
3. Only if that is not to be had (404 again, 400, 405, 501), or if the VM's server refused the
   certificate: ``importSshPublicKey``. The profile holds 32 KiB, so this is one key per process, never one
   per event: it expires after ``key_lifetime``, is replaced before that, and is deleted once it has expired
   and when the process ends. ``import_keys=False`` forbids it.

Servers take certificates since guest agent 20230517 (TrustedUserCAKeys) with OS Login 20230919 (its
google_authorized_principals), and not with security keys (guest-agent, 2026-01). A VM that took an imported
key instead is remembered for :data:`REMEMBERED`; then a certificate is tried again.

A refusal (403) of the API does not lead to 3: the VM would ask for the same permissions at the login, and the
operator should read of the missing role here. The reasons are those of :mod:`.google_errors`,
``not_permitted`` naming permission and roles, and of our own: Permanent ``no_posix_account``,
``login_profile_full`` and ``key_not_imported``.

Keys are ECDSA P-256, which every server takes: hosts in FIPS mode refuse Ed25519. A private key is made in
memory, lives as long as the process, and never leaves it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from logmend.adapters.error_table import one_line
from logmend.adapters.google import oslogin_api
from logmend.adapters.google.oslogin_api import LoginProfile, OsLoginApi, login_roles
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

UNAVAILABLE = frozenset({400, 404, 405, 501})
"""Statuses that say "not here", after which the key in the profile is tried."""

MARGIN = timedelta(minutes=10)
"""A profile key this close to its expiry is replaced: an attempt must not outlive it."""


REMEMBERED = timedelta(days=7)
"""How long a VM that took an imported key instead of a certificate is offered none: guests are upgraded."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _ProfileKey:
    """The one key of this process in the login profile."""

    private_key: "asyncssh.SSHKey"
    expires_at: datetime
    fingerprint: str = ""
    sent: InstanceFacts | None = None
    """For which VM it was sent first: from then on it may be in the profile, whatever was answered."""
    places: set[tuple[str, str]] = field(default_factory=set)
    """Projects and regions that know it."""


class OsLogin:
    """Gives credentials of one service account's; any number of attempts at once.

    ``account`` is its e-mail address, or gives it when first needed; ``contacts`` remembers which VMs take no
    certificates.
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
        self._account = account
        self._clock = clock
        self._key_lifetime = max(key_lifetime, 2 * MARGIN)
        self._signing_key: asyncssh.SSHKey | None = None
        self._usernames: dict[str, str] = {}
        self._profile_key: _ProfileKey | None = None
        self._expiring: list[_ProfileKey] = []
        self._lock = asyncio.Lock()

    async def credential(self, facts: InstanceFacts) -> Credential:
        """Return a credential that this VM accepts, or say with Transient or Permanent why there is none."""
        if await self._takes_no_certificate(facts):
            return await self._with_imported_key(facts)
        if await self._username(facts) is not None:
            certified = await self._certified(facts)
            if certified is not None:
                return certified
        return await self._with_imported_key(facts)

    async def instead(self, facts: InstanceFacts, refused: login.AnyCredential) -> Credential | None:
        """Return what follows a refused certificate, or an imported key that was offered from memory."""
        if not self._import_keys:
            return None
        if refused.kind == "certificate":
            return await self._with_imported_key(facts)
        return await self._certified(facts) if await self._takes_no_certificate(facts) else None

    async def accepted(self, facts: InstanceFacts, credential: login.AnyCredential) -> None:
        """Remember what a VM took instead. A ledger that is away costs another try the next time, no more."""
        until = self._clock.now() + REMEMBERED if credential.kind == "imported_key" else None
        if self._contacts is not None:
            try:
                await self._contacts.takes_imported_key(facts.ref, until)
            except (Transient, Permanent) as error:
                log.warning("not remembered: %s takes %s (%s)", facts.ref, credential.kind, error)

    async def aclose(self) -> None:
        """Delete what is in the profile, as far as that can be done; then release connections."""
        keys = [*self._expiring, *([self._profile_key] if self._profile_key else [])]
        self._profile_key, self._expiring = None, []
        for key in keys:
            try:
                await self._delete(key)
            except (Transient, Permanent):
                continue  # it expires by itself
        await self._api.aclose()

    async def _takes_no_certificate(self, facts: InstanceFacts) -> bool:
        if self._contacts is None or not self._import_keys:
            return False
        until = (await self._contacts.get(facts.ref)).imported_key_until
        return until is not None and until > self._clock.now()

    # The account

    async def _email(self) -> str:
        if not isinstance(self._account, str):
            self._account = await self._account()
        return self._account

    async def _username(self, facts: InstanceFacts) -> str | None:
        if facts.ref.project_id not in self._usernames:
            profile = await self._api.profile(await self._email(), facts)
            if profile is None or profile.username is None:
                return await self._provision(facts)
            self._usernames[facts.ref.project_id] = profile.username
        return self._usernames[facts.ref.project_id]

    async def _provision(self, facts: InstanceFacts) -> str | None:
        """Make the account; None if that is not to be had: importing a key makes it as well."""
        answer = await self._api.provision(await self._email(), facts)
        if answer.status in UNAVAILABLE:
            return None
        username = oslogin_api.provisioned(answer, facts)
        if username is not None:
            self._usernames[facts.ref.project_id] = username
        return username

    # The certificate

    async def _certified(self, facts: InstanceFacts) -> Credential | None:
        """Get a certificate; None if signing is not to be had."""
        if self._signing_key is None:
            self._signing_key = _new_key()
        key = self._signing_key
        answer = await self._api.sign(facts, _text(key))
        if answer.status == 404 and await self._provision(facts) is not None:
            answer = await self._api.sign(facts, _text(key))
        if answer.ok:
            return _with_certificate(self._usernames[facts.ref.project_id], key, answer, self._clock.now())
        if answer.status in UNAVAILABLE and self._import_keys:
            return None
        raise answer.error(needs=login_roles(facts))

    # The key in the profile

    async def _with_imported_key(self, facts: InstanceFacts) -> Credential:
        if not self._import_keys:
            raise self._no_account(await self._email(), facts)
        key = await self._imported(facts)
        username = self._usernames.get(facts.ref.project_id)
        if username is None:
            raise self._no_account(await self._email(), facts)
        return Credential(username, key.private_key, None, key.expires_at, "imported_key")

    def _no_account(self, email: str, facts: InstanceFacts) -> Permanent:
        tried = "even after a key was imported" if self._import_keys else "and LOGMEND_SSH_IMPORT_KEYS=false"
        detail = f"OS Login has no account for {email} in {facts.ref.project_id}, {tried}"
        return Permanent("no_posix_account", detail)

    async def _imported(self, facts: InstanceFacts) -> _ProfileKey:
        place = (facts.ref.project_id, facts.ref.region)
        async with self._lock:
            now = self._clock.now()
            await self._delete_expired(now)
            key = self._profile_key
            if key is None or key.expires_at - now < MARGIN:
                if key is not None:
                    self._expiring.append(key)
                key = _ProfileKey(_new_key(), now + self._key_lifetime)
                self._profile_key = key
            if place not in key.places:
                await self._import(facts, key)
                key.places.add(place)
            return key

    async def _import(self, facts: InstanceFacts, key: _ProfileKey) -> None:
        email, text = await self._email(), _text(key.private_key)
        key.sent = key.sent or facts
        answer = await self._api.import_key(email, facts, text, key.expires_at)
        if answer.status == 400 and "32 KiB" in answer.text:
            await self._make_room(email, facts)
            answer = await self._api.import_key(email, facts, text, key.expires_at)
            if answer.status == 400 and "32 KiB" in answer.text:
                raise Permanent(
                    "login_profile_full",
                    f"the login profile of {email} is full: gcloud compute os-login ssh-keys list, remove",
                )
        if not answer.ok:
            raise answer.error(needs=login_roles(facts))
        profile = oslogin_api.imported(answer)
        key.fingerprint = _fingerprint(profile, text)
        if not key.fingerprint:
            said = oslogin_api.details(answer) or "without a reason"
            raise Permanent("key_not_imported", f"OS Login did not take the key of {email}: {said}")
        if profile.username is not None:
            self._usernames[facts.ref.project_id] = profile.username

    async def _make_room(self, email: str, facts: InstanceFacts) -> None:
        """Delete the keys that have expired: they open nothing any more, whoever they were."""
        profile = await self._api.profile(email, facts)
        now = self._clock.now()
        for key in profile.keys if profile else ():
            if key.expires_at is not None and key.expires_at < now:
                await self._api.delete_key(email, key.fingerprint)

    async def _delete_expired(self, now: datetime) -> None:
        for key in [key for key in self._expiring if key.expires_at <= now]:
            self._expiring.remove(key)
            try:
                await self._delete(key)
            except (Transient, Permanent):
                continue  # it has expired: it is only in the way, and the next full profile removes it

    async def _delete(self, key: _ProfileKey) -> None:
        email = await self._email()
        if not key.fingerprint and key.sent is not None:  # the answer to the import never came
            profile = await self._api.profile(email, key.sent)
            key.fingerprint = _fingerprint(profile, _text(key.private_key)) if profile else ""
        if key.fingerprint:
            await self._api.delete_key(email, key.fingerprint)


def _new_key() -> "asyncssh.SSHKey":
    with ALONE:
        import asyncssh

    return asyncssh.generate_private_key("ecdsa-sha2-nistp256", comment="logmend")


def _text(key: "asyncssh.SSHKey") -> str:
    return key.export_public_key().decode().strip()


def _fingerprint(profile: LoginProfile, public_key: str) -> str:
    """Find the API's name for a key: empty if the profile does not have it."""
    body = public_key.split()[1]
    return next((each.fingerprint for each in profile.keys if body in each.key.split()), "")


def _with_certificate(
    username: str, key: "asyncssh.SSHKey", answer: "HttpReply", now: datetime
) -> Credential:
    """Read the certificate, and check that it is for our key and valid now."""
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
