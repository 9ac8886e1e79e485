"""Plain REST calls to a Google API, with google-auth's session over requests in a few dedicated threads.

It is for calls that Google's own client lacks, or whose client takes too long to import
(docs/adr/0005-compute-over-rest.md). Time and response size are bounded. An ``http://`` endpoint gets no
credentials: it is a fake or a proxy on the same machine.
"""

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from logmend.adapters.google import errors
from logmend.adapters.libraries import ALONE
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct

if TYPE_CHECKING:
    import requests

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
REFUSED_TTL = 10.0
"""Seconds for which a failure to find credentials is remembered."""
READ_LIMIT = 32 * 1024 * 1024
"""Bytes of one response: enough for a page of instances that all have long startup scripts."""


class HttpReply(Struct, frozen=True):
    """An HTTP response. ``json`` is None if the body is not a JSON object; ``date`` is the server's clock."""

    status: int
    json: JsonObject | None
    text: str
    retry_after: float | None
    date: str | None = None

    @property
    def ok(self) -> bool:
        """Return whether it is a success with a readable body."""
        return 200 <= self.status < 300 and self.json is not None

    def error(self, *, needs: str = "") -> Transient | Permanent:
        """Return the error that the response stands for; ``needs`` names the role that the call requires."""
        if 200 <= self.status < 300:
            return Transient(
                "api_protocol_error", f"status {self.status} with a body that is not a JSON object"
            )
        return errors.from_status(
            self.status, _message(self.json, self.text), retry_after=self.retry_after, needs=needs
        )


class Rest:
    """One API's endpoint. Safe for any number of tasks; nothing is opened before the first call.

    ``token`` is an access token to use instead of this process's credentials. ``connect_timeout`` and
    ``timeout`` are in seconds; a call takes at most twice their sum, since a read is tried again once if the
    connection breaks (a frozen function wakes up with dead connections in its pool).
    """

    def __init__(
        self,
        endpoint: str,
        *,
        connect_timeout: float = 5.0,
        timeout: float = 15.0,
        threads: int = 16,
        token: str | None = None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._times = (connect_timeout, timeout)
        self._limit = 2 * sum(self._times) + 1
        self._size = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._lock = threading.Lock()
        self._opened: requests.Session | None = None
        self._refused: tuple[float, Exception] | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> HttpReply:
        """Make a call and return any response; Transient or Permanent if there was none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limit):
                return await loop.run_in_executor(self._threads, self._call, method, path, query, body)
        except TimeoutError as error:
            raise Transient("api_unreachable", f"no answer within {self._limit:g} s") from error

    async def aclose(self) -> None:
        """Close connections. Calls that are still running end by their time limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._opened is not None:
            self._opened.close()

    def _call(
        self, method: str, path: str, query: Mapping[str, str] | None, body: JsonObject | None
    ) -> HttpReply:
        ends = time.monotonic() + sum(self._times)
        try:
            with self._session().request(
                method,
                self._endpoint + path,
                params=query,
                json=body,
                timeout=self._times,
                stream=True,
                allow_redirects=False,
                headers={"Accept": "application/json"},
            ) as response:
                text = _read(response, ends)
                wait, date = _wait(response.headers), response.headers.get("Date")
                return HttpReply(response.status_code, _object(text), text, wait, date)
        except (Transient, Permanent):
            raise
        except Exception as error:
            raise errors.classify(error) from error

    def _session(self) -> "requests.Session":
        with self._lock:
            if self._opened is None:
                if self._refused is not None and time.monotonic() < self._refused[0]:
                    raise self._refused[1]
                try:
                    self._opened = open_session(
                        self._endpoint, self._times, threads=self._size, token=self._token
                    )
                except Exception as error:
                    # A failing search for credentials can take long: concurrent calls share its result.
                    self._refused = time.monotonic() + REFUSED_TTL, error
                    raise
            return self._opened


def open_session(
    endpoint: str,
    times: tuple[float, float],
    *,
    threads: int,
    again: tuple[str, ...] = ("GET",),
    token: str | None = None,
) -> "requests.Session":
    """Return google-auth's session for an endpoint, or a plain one without credentials for ``http://``.

    ``times`` (seconds to connect, to read) also limit requesting a token. ``again`` are the methods that may
    be tried again once if the connection broke or the response was 502 or 503.
    """
    with ALONE:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

    session: requests.Session
    if token is not None or endpoint.startswith("http://"):
        session = requests.Session()
        session.trust_env = not endpoint.startswith("http://")
        if token is not None:
            session.auth = _Bearer(token)
    else:
        with ALONE:
            import google.auth
            import google.auth.compute_engine  # default() imports it on Google Cloud
            from google.auth.transport.requests import AuthorizedSession

        credentials, _ = google.auth.default(scopes=list(SCOPES))
        session = AuthorizedSession(credentials, refresh_timeout=sum(times))  # type: ignore[no-untyped-call]
    once_more = Retry(
        total=1,
        status_forcelist=(502, 503),
        allowed_methods=again,
        backoff_factor=0.2,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    adapter = HTTPAdapter(pool_maxsize=threads, max_retries=once_more)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Bearer:
    """Adds an access token to requests; otherwise requests would use credentials from a ``.netrc``."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _read(response: "requests.Response", ends: float) -> str:
    """Return the body, limited in bytes and total time: requests' own time limit is per read."""
    body = bytearray()
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        body += chunk
        if len(body) > READ_LIMIT:
            raise Transient("api_protocol_error", f"an answer of more than {READ_LIMIT} bytes")
        if time.monotonic() > ends:
            raise Transient("api_unreachable", "the answer did not end in time")
    return body.decode("utf-8", "replace")


def _object(text: str) -> Mapping[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _wait(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() and value.isascii() else None


def _message(document: Mapping[str, object] | None, text: str) -> str:
    """Return the message and reasons from an error of Google's APIs, or the beginning of the body."""
    error = (document or {}).get("error")
    if not isinstance(error, dict):
        return text[:300]
    parts = [part for key in ("errors", "details") if isinstance(part := error.get(key), list)]
    reasons = [str(each.get("reason", "")) for part in parts for each in part if isinstance(each, dict)]
    words = ", ".join(dict.fromkeys(filter(None, reasons)))
    return f"{error.get('message', '')} ({words})" if words else str(error.get("message", ""))
