"""An access token for the identity that this process runs as, from google-auth."""

import asyncio
import functools
from typing import Any

from logmend.adapters.google import errors
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent, Transient

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class AccessToken:
    """Returns, when called, a token that is valid for at least some minutes, fetching a new one if necessary.

    Any number of tasks may call it at once; only one fetches. google-auth blocks, so it runs in a thread. If
    a task gives up, that thread runs on until its time limit, ``timeout`` seconds per request.
    """

    def __init__(self, *, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._credentials: Any = None
        self._request: Any = None

    async def __call__(self) -> str:
        """Return the token. Transient, or Permanent (``no_credentials``, ``credentials_unusable``)."""
        return str((await self._valid()).token)

    async def account(self) -> str:
        """Return the e-mail address of the service account, which is its name in OS Login."""
        email = getattr(await self._valid(), "service_account_email", None)
        if not email or "@" not in email:
            raise Permanent(
                "no_credentials",
                "the credentials do not name a service account: set LOGMEND_SERVICE_ACCOUNT, or run with"
                " gcloud auth application-default login --impersonate-service-account=ACCOUNT",
            )
        return str(email)

    async def _valid(self) -> Any:
        if self._credentials is None or not self._credentials.valid:
            async with self._lock:
                if self._credentials is None or not self._credentials.valid:
                    await self._refresh()
        return self._credentials

    async def _refresh(self) -> None:
        try:
            await asyncio.to_thread(self._refresh_in_thread)
        except (Transient, Permanent):
            raise
        except Exception as exc:
            raise errors.classify(exc) from exc

    def _refresh_in_thread(self) -> None:
        with ALONE:
            import google.auth
            import google.auth.compute_engine  # default() imports it on Google Cloud
            import google.auth.transport.requests

        if self._request is None:
            self._request = functools.partial(google.auth.transport.requests.Request(), timeout=self._timeout)
        if self._credentials is None:
            credentials: Any
            credentials, _ = google.auth.default(scopes=[SCOPE], request=self._request)
            credentials.refresh(self._request)
            self._credentials = credentials
        else:
            self._credentials.refresh(self._request)
