"""The process's key in the login profile; see :mod:`logmend.adapters.google.oslogin`."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from logmend.adapters.google import oslogin_api
from logmend.adapters.google.oslogin_account import LoginAccount
from logmend.adapters.google.oslogin_api import LoginProfile, OsLoginApi, login_roles
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent, Transient
from logmend.model.values import InstanceFacts
from logmend.ports import Clock

if TYPE_CHECKING:
    import asyncssh

MARGIN = timedelta(minutes=10)
"""A key this close to its expiry is replaced: it has to outlive the attempt."""


@dataclass(slots=True)
class _ImportedKey:
    """The process's only key in the login profile."""

    private_key: "asyncssh.SSHKey"
    expires_at: datetime
    fingerprint: str = ""
    sent: InstanceFacts | None = None
    """The VM for which it was first sent: since then it may be in the profile, whatever the response was."""
    places: set[tuple[str, str]] = field(default_factory=set)
    """Projects and regions that have it."""


class ImportedKeys:
    """Keeps one key at a time in the profile, using it for :data:`MARGIN` less than ``lifetime``."""

    def __init__(self, api: OsLoginApi, account: LoginAccount, clock: Clock, lifetime: timedelta) -> None:
        self._api = api
        self._account = account
        self._clock = clock
        self._lifetime = max(lifetime, 2 * MARGIN)
        self._current: _ImportedKey | None = None
        self._expiring: list[_ImportedKey] = []
        self._lock = asyncio.Lock()

    async def get(self, facts: InstanceFacts) -> tuple["asyncssh.SSHKey", datetime]:
        """Return the private key, which the VM's project and region now have, and when it expires."""
        place = (facts.ref.project_id, facts.ref.region)
        async with self._lock:
            now = self._clock.now()
            await self._delete_expired(now)
            key = self._current
            if key is None or key.expires_at - now < MARGIN:
                if key is not None:
                    self._expiring.append(key)
                key = _ImportedKey(new_key(), now + self._lifetime)
                self._current = key
            if place not in key.places:
                await self._import(facts, key)
                key.places.add(place)
            return key.private_key, key.expires_at

    async def aclose(self) -> None:
        """Delete our keys from the profile, as far as possible."""
        keys = [*self._expiring, *([self._current] if self._current else [])]
        self._current, self._expiring = None, []
        for key in keys:
            try:
                await self._delete(key)
            except (Transient, Permanent):
                continue  # it expires anyway

    async def _import(self, facts: InstanceFacts, key: _ImportedKey) -> None:
        email, text = await self._account.email(), public_text(key.private_key)
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
            self._account.usernames[facts.ref.project_id] = profile.username

    async def _make_room(self, email: str, facts: InstanceFacts) -> None:
        """Delete all expired keys, ours or not: they are useless."""
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
                continue  # it has expired and only takes up room: the next full profile removes it

    async def _delete(self, key: _ImportedKey) -> None:
        email = await self._account.email()
        if not key.fingerprint and key.sent is not None:  # the import's response never arrived
            profile = await self._api.profile(email, key.sent)
            key.fingerprint = _fingerprint(profile, public_text(key.private_key)) if profile else ""
        if key.fingerprint:
            await self._api.delete_key(email, key.fingerprint)


def new_key() -> "asyncssh.SSHKey":
    """Return a new private key, created in memory."""
    with ALONE:
        import asyncssh

    return asyncssh.generate_private_key("ecdsa-sha2-nistp256", comment="logmend")


def public_text(key: "asyncssh.SSHKey") -> str:
    """Return the public key as text."""
    return key.export_public_key().decode().strip()


def _fingerprint(profile: LoginProfile, public_key: str) -> str:
    """Return the API's name for a key, empty if it is not in the profile."""
    body = public_key.split()[1]
    return next((each.fingerprint for each in profile.keys if body in each.key.split()), "")
