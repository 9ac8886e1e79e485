"""Write outcomes to Cloud Logging: to the log ``logmend`` in logmend's own project, on their VM's resource.

It only needs ``roles/logging.logWriter`` on that project, wherever the VM is. Log name, timestamp and
insertId depend only on the outcome, so writing it again (a redelivery, a retry) leaves one entry.
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

    ``project`` is the one in which logmend runs. ``endpoint`` replaces the public one; an ``http://``
    endpoint gets no credentials. Outcomes without a VM go to the function's resource (:mod:`.own_resource`).
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
        """Write; ``Transient("outcome_log_unavailable")`` or ``Permanent("not_permitted")`` with the role."""
        limit = 2 * sum(self._times) + 1
        try:
            async with asyncio.timeout(limit):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._write, outcome)
        except TimeoutError as error:
            raise Transient("outcome_log_unavailable", f"no answer within {limit:g} s") from error

    async def aclose(self) -> None:
        """Release connections. Nothing is buffered."""
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

        # The client's first write would add an entry with its version to our log.
        library._instrumentation_emitted = True  # noqa: SLF001
        # JSON over HTTP rather than gRPC: it starts in half the time, and a fake endpoint can be plain HTTP.
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
        if self._own is None or self._own.labels.get("location") == "":  # asked until the region is known
            self._own = Resource(*own_resource.of_process(self._project, os.environ))
        return self._own

    def _global(self) -> "Resource":
        with ALONE:
            from google.cloud.logging_v2 import Resource

        return Resource("global", {"project_id": self._project})


class _Bounded:
    """A session that applies our time limits: the client always passes a minute."""

    def __init__(self, session: "requests.Session", times: tuple[float, float]) -> None:
        self._session = session
        self._times = times
        self.is_mtls = False

    def request(self, **call: Any) -> "requests.Response":
        """Send a request within our time limits."""
        return self._session.request(**(call | {"timeout": self._times}))

    def close(self) -> None:
        """Close connections."""
        self._session.close()
