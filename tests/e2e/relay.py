"""A relay before the function that loses answers: the work is done, and Pub/Sub never hears of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from logmend.pretend.fleet import free_port, serving


class Relay:
    """Passes deliveries on; the answers to the first ``lose_answers`` of them become a 502."""

    def __init__(self, target: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.lose_answers = 0
        self.lost = 0
        self._target = target
        self.app = Starlette(routes=[Route("/", self._relay, methods=["POST"])])

    async def _relay(self, request: Request) -> Response:
        headers = {"content-type": request.headers.get("content-type", "")}
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            answer = await client.post(self._target, content=await request.body(), headers=headers)
        if self.lose_answers:
            self.lose_answers -= 1
            self.lost += 1
            return Response("the answer was lost", 502)
        return Response(answer.content, answer.status_code)


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    """Serve a relay on loopback until left."""
    port = free_port()
    between = Relay(target, port)
    async with serving(between.app, port):
        yield between
