"""The function's entry point: ``remediate`` answers every delivery of the push subscription.

One HTTP handler takes raw Pub/Sub pushes and CloudEvents alike (docs/adr/0001). A 2xx acknowledges a message;
after any other answer it is delivered again. Settings are read here, once, at import: a bad one stops the
start.
"""

import os
import sys

import functions_framework.aio
import msgspec
from functions_framework import execution_id
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from logmend import wiring
from logmend.diagnostics import Diagnostics
from logmend.errors import ConfigError, Transient
from logmend.model.enums import Result
from logmend.model.values import Tick
from logmend.outcome import ack, document
from logmend.settings import Settings
from logmend.shutdown import Shutdown
from logmend.stages import decode


def _execution() -> str | None:
    """Return the platform's id of the current request, by which its log is filtered."""
    return getattr(execution_id.execution_context_var.get(), "execution_id", None)


diagnostics = Diagnostics(_execution)
diagnostics.ensure()

try:
    app = wiring.application(Settings.from_environment(os.environ))
except ConfigError as error:
    sys.exit("logmend cannot start:\n" + "\n".join(f"  {problem}" for problem in error.problems))

shutdown = Shutdown(app.aclose)


@functions_framework.aio.http
async def remediate(request: Request) -> Response:
    """Deal with one delivery and answer it as its outcome demands."""
    diagnostics.ensure()  # the framework configures logging anew once this module is imported
    with shutdown:
        body = await _bounded_body(request)
        outcome = await app.pipeline.handle(body, _event_headers(request))
        if isinstance(outcome, Tick):
            if (age := app.ticker.untimely(outcome)) is not None:
                old = f"a tick was not run: by this clock it was published {age.total_seconds():.0f} s ago"
                why = {"logmend": "untimely", "message": f"{old}: a backlog, or the clock is wrong"}
                diagnostics.say("WARNING", why)
                return JSONResponse(why, status_code=200)
            try:
                tally = (await app.ticker.run()).document()
            except Transient as error:  # the ledger does not answer: the tick comes again
                why = {"result": Result.DEFERRED, "reason": error.reason, "detail": error.detail}
                diagnostics.say("WARNING", {"logmend": "tick_deferred"} | why)
                return JSONResponse(why, status_code=ack.status(Result.DEFERRED))
            if "K_SERVICE" in os.environ:  # the alert on a missing tick (deploy/metrics.tf) counts these
                diagnostics.say("INFO", {"logmend": "tick"} | tally)
            return JSONResponse(tally, status_code=200)
        said = msgspec.json.encode(document.brief(outcome))
        return Response(said, ack.status(outcome.result), media_type="application/json")


def _event_headers(request: Request) -> dict[str, str]:
    """Return the headers of a CloudEvent in binary mode, the only ones about the event."""
    found = (each for each in request.headers.raw if each[0].startswith(b"ce-"))
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in found}


async def _bounded_body(request: Request) -> bytes:
    """Read at most one byte over the limit: decode then returns ``too_large`` without holding more."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > decode.MAX_BODY:
            return bytes(body[: decode.MAX_BODY + 1])
    return bytes(body)
