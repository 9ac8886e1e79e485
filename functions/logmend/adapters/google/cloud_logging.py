"""Outcomes in Cloud Logging: in the log ``logmend`` of logmend's own project, on the resource of their VM.

``roles/logging.logWriter`` on that project is all it takes, wherever the VM is. Log name, timestamp
and insertId come from the outcome alone, so writing it again (a redelivery, a retry) leaves one entry.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from logmend.adapters.google import errors, own_resource
from logmend.adapters.google.rest import open_session
from logmend.adapters.libraries import ALONE
from logmend.errors import Transient
from logmend.model.values import Outcome
from logmend.outcome import document

if TYPE_CHECKING:
    import requests
    from google.cloud.logging_v2 import Client, Logger, Resource

ENDPOINT = "https://logging.googleapis.com"
_TIMES = (5.0, 15.0)
_THREADS = 8


class CloudOutcomeLog:
    """Writes each outcome before its event is answered: afterwards the function may not get any CPU time.

    ``project`` is the one that logmend runs in; ``endpoint`` replaces the public one, and an ``http://`` one
    gets no credentials. Outcomes about no VM go to the function's own resource (:mod:`.own_resource`).
    """

    def __init__(
        self, project: str, endpoint: str | None = None, *, times: tuple[float, float] = _TIMES
    ) -> None:
        self._project = project
        self._endpoint = endpoint or ENDPOINT
        self._times = times
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="outcomes")
        self._lock = threading.Lock()
        self._opened: tuple[Client, Logger] | None = None
        self._own: Resource | None = None

    async def write(self, outcome: Outcome) -> None:
        """Write. ``Transient("outcome_log_unavailable")``; ``Permanent("not_permitted")`` naming the role."""
        limit = 2 * sum(self._times) + 1
        try:
            async with asyncio.timeout(limit):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._write, outcome)
        except TimeoutError as error:
            raise Transient("outcome_log_unavailable", f"no answer within {limit:g} s") from error

    async def aclose(self) -> None:
        """Release connections; what was written is written."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._opened is not None:
            self._opened[0].close()  # type: ignore[no-untyped-call]

    def _write(self, outcome: Outcome) -> None:
        try:
            with self._lock:
                if self._opened is None:
                    self._opened = self._open()
            _, logger = self._opened
            logger.log_struct(  # type: ignore[no-untyped-call]
                document.document(outcome),
                resource=self._resource(outcome),
                labels=document.labels(outcome),
                severity=document.severity(outcome),
                insert_id=document.insert_id(outcome),
                timestamp=outcome.at,
            )
        except Exception as error:
            trouble = errors.classify(error, needs="roles/logging.logWriter")
            if isinstance(trouble, Transient):
                detail = f"{trouble.reason}: {trouble.detail}"
                raise Transient("outcome_log_unavailable", detail, retry_after=trouble.retry_after) from error
            raise trouble from error

    def _open(self) -> "tuple[Client, Logger]":
        with ALONE:
            import google.cloud.logging_v2 as library

        # The client's first write would add an entry of its own, telling its version, to our log.
        library._instrumentation_emitted = True  # noqa: SLF001
        # JSON over HTTP rather than gRPC: half the start-up, and endpoints that are fakes can be plain HTTP.
        session = open_session(self._endpoint, self._times, threads=_THREADS, again=("POST",))
        client = library.Client(  # type: ignore[no-untyped-call]
            project=self._project,
            _http=_Bounded(session, self._times),
            _use_grpc=False,
            client_options={"api_endpoint": self._endpoint},
        )
        # A resource given here keeps the client from asking the metadata server for one.
        logger = client.logger(document.LOG_ID, resource=self._global())  # type: ignore[no-untyped-call]
        return client, logger

    def _resource(self, outcome: Outcome) -> "Resource":
        with ALONE:
            from google.cloud.logging_v2 import Resource

        if (ref := outcome.instance) is not None:
            return Resource(
                "gce_instance",
                {"project_id": ref.project_id, "zone": ref.zone, "instance_id": ref.instance_id},
            )
        if (
            self._own is None or self._own.labels.get("location") == ""
        ):  # the region is asked until it is known
            self._own = Resource(*own_resource.of_process(self._project, os.environ))
        return self._own

    def _global(self) -> "Resource":
        with ALONE:
            from google.cloud.logging_v2 import Resource

        return Resource("global", {"project_id": self._project})


class _Bounded:
    """A session whose requests are bounded by our times: the client passes a minute, come what may."""

    def __init__(self, session: "requests.Session", times: tuple[float, float]) -> None:
        self._session = session
        self._times = times
        self.is_mtls = False

    def request(self, **call: Any) -> "requests.Response":
        """Send a request, within our time."""
        return self._session.request(**(call | {"timeout": self._times}))

    def close(self) -> None:
        """Close connections."""
        self._session.close()
