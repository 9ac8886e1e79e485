"""How calls of the pretend Compute Engine API fail: as scripted, or because of what was asked."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

_STATUS = {
    400: ("INVALID_ARGUMENT", "invalid"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    412: ("FAILED_PRECONDITION", "conditionNotMet"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
}


@dataclass
class Failure:
    """How calls fail whose ``METHOD path`` contains the pattern, ``times`` times (None: always)."""

    pattern: re.Pattern[str]
    kind: int | str
    times: int | None
    retry_after: int | None
    message: str | None = None


class Refusal(Exception):
    """An error of the API: an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def failed(failure: Failure, permission: str) -> Response | None:
    """Fail as scripted; return None if the call is only slow."""
    match failure.kind:
        case "slow":
            await asyncio.sleep(2)
            return None
        case "hang":
            await asyncio.sleep(60)
            return None
        case "garbage":
            return Response("<html>not what you asked for", media_type="application/json")
        case int():
            wait = {} if failure.retry_after is None else {"Retry-After": str(failure.retry_after)}
            message = failure.message or f"scripted failure {failure.kind}"
            if failure.kind == 403:
                message = f"Required '{permission}' permission ({message})"
            return error_response(failure.kind, message, wait)
        case _:
            raise ValueError(f"no such failure: {failure.kind}")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as Google's APIs write it."""
    word, reason = _STATUS.get(status, ("INTERNAL", "backendError"))
    errors = [{"message": message, "domain": "global", "reason": reason}]
    content = {"error": {"code": status, "message": message, "errors": errors, "status": word}}
    return JSONResponse(content, status, dict(headers or {}))
