"""Translate the exceptions of Google's clients, their transports and google-auth.

``classify(exc)`` never raises and always returns a :class:`~logmend.errors.Transient` or
:class:`~logmend.errors.Permanent`; raise what it returns ``from exc``::

    except Exception as exc:
        raise google_errors.classify(exc, needs="roles/compute.viewer") from exc

A response of the API is classified by its HTTP status (gRPC codes are mapped to HTTP's):

======================  ===========================  =============================================
status                  error and reason             remarks
======================  ===========================  =============================================
400, 405, 411, 416, …   Permanent invalid_request    400 FailedPrecondition: failed_precondition
401                     Transient unauthenticated    a fresh token may be accepted
403                     Permanent not_permitted      detail names the permission and the role
403, API not enabled    Permanent api_disabled
403 or 429, quota       Transient rate_limited       with ``retry_after`` if the API gave it
404                     Permanent not_found          most callers know better what is gone
409                     Transient conflict           AlreadyExists: Permanent already_exists
412                     Transient conflict           naming ``constraints/…``: failed_precondition
408, 499, 5xx, 3xx      Transient api_unavailable    501: Permanent invalid_request
======================  ===========================  =============================================

Without a response: ``api_unreachable`` (network, DNS, TLS, deadline), ``api_protocol_error`` (unreadable
response), ``credentials_unavailable`` (no token at the moment), ``no_credentials`` and
``credentials_unusable`` (permanent: the environment has to be changed). Anything unknown is a transient
``unexpected_error``.
"""

import re
from collections.abc import Mapping

from logmend.adapters.error_table import (
    UNEXPECTED,
    ErrorRow,
    Table,
    error_of,
    nearest,
    one_line,
    permanent,
    transient,
)
from logmend.errors import LogmendError, Permanent, Transient

_API = "google.api_core.exceptions."
_AUTH = "google.auth.exceptions."
_REQUESTS = "requests.exceptions."
_URLLIB3 = "urllib3.exceptions."

TABLE: Table = {
    # google.api_core: an HTTP status takes precedence; these rows are for errors without one.
    # A class without a row uses its base's.
    _API + "GoogleAPIError": transient("api_unavailable"),
    _API + "GoogleAPICallError": transient("api_unavailable"),
    _API + "ClientError": permanent("invalid_request"),
    _API + "ServerError": transient("api_unavailable"),
    _API + "FailedPrecondition": permanent("failed_precondition"),
    _API + "Unauthorized": transient("unauthenticated"),
    _API + "Forbidden": permanent("not_permitted"),
    _API + "NotFound": permanent("not_found"),
    _API + "Conflict": transient("conflict"),
    _API + "AlreadyExists": permanent("already_exists"),
    _API + "PreconditionFailed": transient("conflict"),
    _API + "TooManyRequests": transient("rate_limited"),
    _API + "Cancelled": transient("api_unavailable"),
    _API + "MethodNotImplemented": permanent("invalid_request"),
    "google.api_core.universe.EmptyUniverseError": permanent("credentials_unusable"),
    "google.api_core.universe.UniverseMismatchError": permanent("credentials_unusable"),
    # google.auth: mostly "no token *now*", since a misconfigured function should not lose events.
    _AUTH + "GoogleAuthError": transient("credentials_unavailable"),
    _AUTH + "ReauthFailError": permanent("credentials_unusable"),  # a person has to log in again
    _AUTH + "UserAccessTokenError": permanent("credentials_unusable"),
    _AUTH + "ClientCertError": permanent("credentials_unusable"),
    _AUTH + "MutualTLSChannelError": permanent("credentials_unusable"),
    _AUTH + "DefaultCredentialsError": permanent("no_credentials"),
    _AUTH + "InvalidOperation": permanent("credentials_unusable"),
    _AUTH + "InvalidResource": permanent("credentials_unusable"),
    _AUTH + "InvalidType": permanent("credentials_unusable"),
    _AUTH + "InvalidValue": permanent("credentials_unusable"),
    _AUTH + "MalformedError": permanent("credentials_unusable"),
    _AUTH + "OSError": permanent("credentials_unusable"),
    # requests, and urllib3 below it.
    _REQUESTS + "RequestException": transient("api_unreachable"),
    _REQUESTS + "HTTPError": transient("api_unavailable"),  # without a response; otherwise by its status
    _REQUESTS + "ChunkedEncodingError": transient("api_protocol_error"),
    _REQUESTS + "ContentDecodingError": transient("api_protocol_error"),
    _REQUESTS + "InvalidJSONError": transient("api_protocol_error"),
    _REQUESTS + "TooManyRedirects": transient("api_protocol_error"),
    _REQUESTS + "InvalidHeader": permanent("invalid_request"),
    _REQUESTS + "InvalidSchema": permanent("invalid_request"),
    _REQUESTS + "InvalidURL": permanent("invalid_request"),
    _REQUESTS + "MissingSchema": permanent("invalid_request"),
    _REQUESTS + "URLRequired": permanent("invalid_request"),
    _URLLIB3 + "HTTPError": transient("api_unreachable"),
    _URLLIB3 + "ProtocolError": transient("api_protocol_error"),
    _URLLIB3 + "DecodeError": transient("api_protocol_error"),
    _URLLIB3 + "ResponseError": transient("api_protocol_error"),
    _URLLIB3 + "IncompleteRead": transient("api_protocol_error"),
    _URLLIB3 + "InvalidChunkLength": transient("api_protocol_error"),
    _URLLIB3 + "HeaderParsingError": transient("api_protocol_error"),
    _URLLIB3 + "BodyNotHttplibCompatible": transient("api_protocol_error"),
    _URLLIB3 + "InvalidHeader": transient("api_protocol_error"),
    _URLLIB3 + "LocationValueError": permanent("invalid_request"),
    _URLLIB3 + "ProxySchemeUnsupported": permanent("invalid_request"),
    "urllib3.util.ssl_match_hostname.CertificateError": transient("api_unreachable"),
    # gRPC errors with a status are classified by it; these are the channel-level ones.
    "grpc.RpcError": transient("api_unavailable"),
    "grpc.FutureTimeoutError": transient("api_unreachable"),
    "grpc.FutureCancelledError": transient("api_unavailable"),
    "google.protobuf.message.Error": transient("api_protocol_error"),
    "google.protobuf.json_format.Error": transient("api_protocol_error"),
    # the standard library, below all of them.
    "json.decoder.JSONDecodeError": transient("api_protocol_error"),
    "http.client.HTTPException": transient("api_protocol_error"),
    "builtins.OSError": transient("api_unreachable"),  # socket, ssl, DNS and timeout errors are all OSErrors
}

_BY_STATUS: Mapping[int, ErrorRow] = {
    401: transient("unauthenticated"),
    403: permanent("not_permitted"),
    404: permanent("not_found"),
    408: transient("api_unavailable"),
    409: transient("conflict"),
    412: transient("conflict"),
    429: transient("rate_limited"),
    499: transient("api_unavailable"),
    501: permanent("invalid_request"),
}

_GRPC_TO_STATUS: Mapping[str, int] = {
    # google/rpc/code.proto, "HTTP Mapping"
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}

_KEY_FILE = re.compile(
    r"\b([Ff]ile) .*?(?: (was not found|is not a valid|does not have a valid)|…)", re.DOTALL
)
"""The wording of google.auth._default; its end is missing if the value is long."""
_QUOTA = re.compile(r"rateLimitExceeded|quotaExceeded|RATE_LIMIT_EXCEEDED|[Qq]uota exceeded")
_DISABLED = re.compile(
    r"SERVICE_DISABLED|accessNotConfigured|has not been used in project|API is not enabled"
)
_PERMISSION = re.compile(
    r"\b(?![a-z]+\.googleapis\.)([a-z][a-zA-Z]+\.[a-zA-Z]+\.[a-zA-Z]+)\b['\"]?(?= permission| denied|'|\")"
)


def classify(exc: BaseException, *, needs: str = "") -> Transient | Permanent:
    """Return an error that says whether trying again later can help, with a one-word reason.

    ``needs`` is the role or permission that the call requires; a refused call's detail names it.
    An error that is already ours is returned as it is.
    """
    if isinstance(exc, Transient | Permanent):
        return exc
    if isinstance(exc, LogmendError):
        return Transient(UNEXPECTED, one_line(exc))
    hit = nearest(type(exc), TABLE)
    if hit is not None and hit[1].reason in {"already_exists", "failed_precondition"}:
        return error_of(hit[1], one_line(exc))  # more precise than the status
    if (status := _status(exc)) is not None:
        return from_status(status, str(exc), retry_after=_retry_after(exc), needs=needs)
    if hit is None:
        return Transient(UNEXPECTED, f"{type(exc).__name__}: {one_line(exc)}")
    return error_of(hit[1], _unnamed(one_line(exc)), retry_after=_retry_after(exc))


def _unnamed(text: str) -> str:
    """Replace the variable's value, which google-auth repeats and which may be the key, with its name."""
    return _KEY_FILE.sub(r"\1 of GOOGLE_APPLICATION_CREDENTIALS \2", text)


def from_status(
    status: int, text: str = "", *, retry_after: float | None = None, needs: str = ""
) -> Transient | Permanent:
    """Classify an unsuccessful HTTP response. ``text`` is its body or the client's message."""
    if status in (403, 429) and _QUOTA.search(text):
        return Transient("rate_limited", one_line(text), retry_after=retry_after)
    if status == 403:
        if _DISABLED.search(text):
            return Permanent("api_disabled", one_line(text))
        return Permanent("not_permitted", denial(text, needs))
    if status == 412 and "constraints/" in text:  # an organization policy, not a changed fingerprint
        return Permanent("failed_precondition", one_line(text))
    row = _BY_STATUS.get(status)
    if row is None:
        client_error = 400 <= status < 500
        row = permanent("invalid_request") if client_error else transient("api_unavailable")
    return error_of(row, one_line(text or f"HTTP status {status}"), retry_after=retry_after)


def denial(text: str, needs: str = "") -> str:
    """Describe a refusal for people: the permission that the API named, the role for it, the API's text."""
    match = _PERMISSION.search(text)
    parts = [f"permission {match[1]} is missing" if match else "", f"grant {needs}" if needs else ""]
    return one_line("; ".join([*filter(None, parts), one_line(text or "permission denied")]))


def _status(exc: BaseException) -> int | None:
    """Return the HTTP status of the response behind an exception, or None without a response."""
    code: object = getattr(exc, "code", None)
    if qualified := getattr(getattr(exc, "response", None), "status_code", None):
        return int(qualified)
    if callable(code):  # grpc.RpcError
        code = _GRPC_TO_STATUS.get(getattr(code(), "name", ""))
    return int(code) if isinstance(code, int) and 300 <= code < 600 else None


def _retry_after(exc: BaseException) -> float | None:
    """Return the seconds to wait that the server asked for: RetryInfo in the details, or Retry-After."""
    details: object = getattr(exc, "details", None)
    for detail in details if isinstance(details, list | tuple) else ():
        delay = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.seconds) + float(delay.nanos) / 1e9
    headers: object = getattr(getattr(exc, "response", None), "headers", None) or {}
    value = str(headers.get("Retry-After", "")) if hasattr(headers, "get") else ""
    return float(value) if value.isdecimal() else None
