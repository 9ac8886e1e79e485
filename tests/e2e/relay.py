"""A relay before the function: it spreads deliveries over instances, as Cloud Run does, and loses answers."""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from logmend_cli.pretend.fleet import free_port, serving


class Relay:
    """Passes deliveries on, to each target that still listens in turn; one that breaks off becomes a 502.

    So does the answer to the next ``lose_answers`` deliveries: what was done, Pub/Sub never hears of.
    """

    def __init__(self, targets: Sequence[str], port: int, client: httpx.AsyncClient) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.lose_answers = 0
        self.lost = 0
        self._targets = deque(targets)
        self._client = client
        self.app = Starlette(routes=[Route("/", self._relay, methods=["POST"])])

    def join(self, target: str) -> None:
        """Have another instance take its turn."""
        self._targets.append(target)

    async def _relay(self, request: Request) -> Response:
        headers = {"content-type": request.headers.get("content-type", "")}
        body = await request.body()
        try:
            answer = await self._passed_on(body, headers)
        except httpx.TransportError:
            return Response("no answer", 502)
        if self.lose_answers:
            self.lose_answers -= 1
            self.lost += 1
            return Response("the answer was lost", 502)
        return Response(answer.content, answer.status_code)

    async def _passed_on(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        while self._targets:
            target = self._targets[0]
            self._targets.rotate(-1)
            try:
                return await self._client.post(target, content=body, headers=headers)
            except httpx.ConnectError:
                if target in self._targets:
                    self._targets.remove(target)
        raise httpx.ConnectError("no instance is left")


@asynccontextmanager
async def relay(*targets: str) -> AsyncIterator[Relay]:
    """Serve a relay on loopback until left."""
    port = free_port()
    # Without a limit: a delivery that waits for a free connection would look like a slow function.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits) as client:
        between = Relay(targets, port, client)
        async with serving(between.app, port):
            yield between
