"""A service account's POSIX account in VMs' projects; see :mod:`logmend.adapters.google.oslogin`."""

from collections.abc import Awaitable, Callable

from logmend.adapters.google import oslogin_api
from logmend.adapters.google.oslogin_api import OsLoginApi
from logmend.model.values import InstanceFacts

UNAVAILABLE = frozenset({400, 404, 405, 501})
"""Statuses that mean "not available", after which a key in the profile is tried."""


class LoginAccount:
    """``account`` is its e-mail address, or returns it when first needed; ``usernames`` are by project."""

    def __init__(self, api: OsLoginApi, account: str | Callable[[], Awaitable[str]]) -> None:
        self.usernames: dict[str, str] = {}
        self._api = api
        self._account = account

    async def email(self) -> str:
        """Return the e-mail address."""
        if not isinstance(self._account, str):
            self._account = await self._account()
        return self._account

    async def username(self, facts: InstanceFacts) -> str | None:
        """Return the username in the VM's project; None if there is no account yet."""
        if facts.ref.project_id not in self.usernames:
            profile = await self._api.profile(await self.email(), facts)
            if profile is None or profile.username is None:
                return await self.provision(facts)
            self.usernames[facts.ref.project_id] = profile.username
        return self.usernames[facts.ref.project_id]

    async def provision(self, facts: InstanceFacts) -> str | None:
        """Create the account; None if that is not available: importing a key creates it too."""
        answer = await self._api.provision(await self.email(), facts)
        if answer.status in UNAVAILABLE:
            return None
        username = oslogin_api.provisioned(answer, facts)
        if username is not None:
            self.usernames[facts.ref.project_id] = username
        return username
