"""The four methods of Firestore's service that the store calls, on a channel of Google's asynchronous client.

They are called directly over gRPC: Google's generated methods spend more time on a call than the protocol
does. The high-level client (``google.cloud.firestore.AsyncClient``, 2.34) is not used because of its
transactions (see its ``async_transaction.py``): begin, commit and rollback take no timeout, a commit whose
result is unknown is sent again, and a failed begin raises ``ValueError: … cannot be rolled back``, just as
lost contention does.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
from google.api_core import exceptions
from google.api_core.gapic_v1 import routing_header
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

CALL_TIMEOUT = 10.0
"""Seconds that one call may take."""
ROLLBACK_TIMEOUT = 2.0
"""Seconds spent on telling Firestore that a transaction is abandoned; it notices by itself anyway."""

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # as Google's own client
    # Reconnect within seconds once Firestore is back; by default gRPC waits up to two minutes between tries.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A new channel dials a new connection instead of sharing one that may be dead.
    ("grpc.use_local_subchannel_pool", 1),
]
_SERVICE = "/google.firestore.v1.Firestore/"

Get: Any = types.BatchGetDocumentsRequest.pb()
Run: Any = types.RunQueryRequest.pb()
Commit: Any = types.CommitRequest.pb()
Rollback: Any = types.RollbackRequest.pb()
_Got: Any = types.BatchGetDocumentsResponse.pb()
_Ran: Any = types.RunQueryResponse.pb()
_Committed: Any = types.CommitResponse.pb()


class Calls:
    """One connection to one Firestore database. Each call is sent once; errors are those of Google's client.

    ``name`` is the database's name. Requests and answers are Protocol Buffers messages.
    """

    def __init__(self, project: str, database: str, endpoint: str | None) -> None:
        self.name = f"projects/{project}/databases/{database}"
        if emulator := os.environ.get("FIRESTORE_EMULATOR_HOST"):
            channel = grpc.aio.insecure_channel(emulator, _CHANNEL_OPTIONS)
        else:
            host = endpoint or FirestoreAsyncClient.DEFAULT_ENDPOINT
            channel = FirestoreGrpcAsyncIOTransport.create_channel(host, options=_CHANNEL_OPTIONS)
        self._channel = channel
        self._get = _method(channel.unary_stream, "BatchGetDocuments", Get, _Got)
        self._run = _method(channel.unary_stream, "RunQuery", Run, _Ran)
        self._commit = _method(channel.unary_unary, "Commit", Commit, _Committed)
        self._rollback = _method(channel.unary_unary, "Rollback", Rollback, None)

    async def get(self, request: Any) -> AsyncIterator[Any]:
        """Read documents, and begin a transaction if the request says so."""
        with _errors():
            async for answer in self._get(request, **self._options(database=request.database)):
                yield answer

    async def run(self, request: Any) -> AsyncIterator[Any]:
        """Run a query."""
        with _errors():
            async for answer in self._run(request, **self._options(parent=request.parent)):
                yield answer

    async def commit(self, request: Any) -> Any:
        """Write all or nothing."""
        with _errors():
            return await self._commit(request, **self._options(database=request.database))

    async def rollback(self, request: Any) -> None:
        """Abandon a transaction."""
        with _errors():
            await self._rollback(request, **self._options(ROLLBACK_TIMEOUT, database=request.database))

    async def close(self, grace: float | None = None) -> None:
        """Close the connection; calls in flight get ``grace`` seconds."""
        await self._channel.close(grace)

    def _options(self, timeout: float | None = None, **routed: str) -> dict[str, Any]:
        # As Google's client sends them: the service's front end routes the call by the second.
        by = routing_header.to_grpc_metadata(routed)  # type: ignore[no-untyped-call]
        metadata = (("google-cloud-resource-prefix", self.name), by)
        return {"timeout": CALL_TIMEOUT if timeout is None else timeout, "metadata": metadata}


def _method(kind: Any, name: str, request: Any, answer: Any) -> Any:
    return kind(
        _SERVICE + name,
        request_serializer=request.SerializeToString,
        response_deserializer=answer and answer.FromString,
    )


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise exceptions.from_grpc_error(error) from error  # type: ignore[no-untyped-call]
