"""What ends a connection: close codes, HTTP statuses of the handshake and exceptions. Pure.

Close codes arrive as WebSocket close codes or as the code of a LONG_CLOSE frame. An ordinary end counts as
``unreachable`` before the relay has reached the VM's port, and as ``connection_lost`` afterwards.

======  ===========================  =========  ==========================================
code    name (IAP Desktop, RFC)      error      reason
======  ===========================  =========  ==========================================
1000    normal                       Transient  unreachable / connection_lost
1001    going away                   Transient  unreachable / connection_lost
1006    no close frame came          Transient  unreachable / connection_lost
1011-4  trouble on the other side    Transient  iap_unavailable
other   1002, 1003, 1007-1010, …     Transient  iap_protocol_error
4000    ERROR_UNKNOWN                Transient  iap_unavailable
4001    SID_UNKNOWN                  Transient  iap_protocol_error (only when reconnecting)
4002    SID_IN_USE                   Transient  iap_protocol_error (only when reconnecting)
4003    FAILED_TO_CONNECT_TO_BACKEND Transient  unreachable
4004    REAUTHENTICATION_REQUIRED    Transient  iap_reauthenticate
4005    BAD_ACK                      Transient  iap_protocol_error
4006    INVALID_ACK                  Transient  iap_protocol_error
4007    INVALID_WEBSOCKET_OPCODE     Transient  iap_protocol_error
4008    INVALID_TAG                  Transient  iap_protocol_error
4009    DESTINATION_WRITE_FAILED     Transient  connection_lost
4010    DESTINATION_READ_FAILED      Transient  connection_lost
4013    INVALID_DATA                 Transient  iap_protocol_error
4033    NOT_AUTHORIZED               Permanent  iap_not_authorized
4047    LOOKUP_FAILED                Permanent  iap_instance_lookup_failed
4051    LOOKUP_FAILED_RECONNECT      Permanent  iap_instance_lookup_failed
else                                 Transient  iap_unknown_close
======  ===========================  =========  ==========================================

Handshake: 401 is Transient iap_reauthenticate, 403 Permanent iap_not_authorized, 404 Permanent
iap_instance_lookup_failed, 429 Transient rate_limited, other 4xx Permanent iap_request_refused, 5xx
Transient iap_unavailable, anything else (3xx: redirects are not followed) Transient iap_protocol_error.
DNS, TCP, TLS and every time-out are Transient unreachable.
"""

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

ROLE = "roles/iap.tunnelResourceAccessor"

PROTOCOL_ERROR = transient("iap_protocol_error")
_ENDED = transient("connection_lost")
_UNAVAILABLE = transient("iap_unavailable")
_LOOKUP_FAILED = permanent("iap_instance_lookup_failed")

CLOSE_CODES: Mapping[int, ErrorRow] = {
    1000: _ENDED,
    1001: _ENDED,
    1005: _ENDED,  # a close frame without a code
    1006: _ENDED,  # no close frame at all
    1011: _UNAVAILABLE,
    1012: _UNAVAILABLE,
    1013: _UNAVAILABLE,
    1014: _UNAVAILABLE,
    4000: _UNAVAILABLE,
    4001: PROTOCOL_ERROR,
    4002: PROTOCOL_ERROR,
    4003: transient("unreachable"),
    4004: transient("iap_reauthenticate"),
    4005: PROTOCOL_ERROR,
    4006: PROTOCOL_ERROR,
    4007: PROTOCOL_ERROR,
    4008: PROTOCOL_ERROR,
    4009: _ENDED,
    4010: _ENDED,
    4013: PROTOCOL_ERROR,
    4033: permanent("iap_not_authorized"),
    4047: _LOOKUP_FAILED,
    4051: _LOOKUP_FAILED,
}

_PLAIN_ENDS = frozenset({1000, 1001, 1005, 1006})

FIREWALL = "allow tcp/22 from 35.235.240.0/20, and check that sshd listens"

_HINTS: Mapping[int, str] = {
    403: f"grant {ROLE} to the function's service account",
    404: f"the VM is gone, has another name, or {ROLE} is missing",
    4003: FIREWALL,
    4033: f"grant {ROLE} to the function's service account",
    4047: "the VM is gone or stopped, or has another name",
}

_WEBSOCKETS = "websockets.exceptions."

TABLE: Table = {
    _WEBSOCKETS + "WebSocketException": transient("iap_protocol_error"),
    _WEBSOCKETS + "ConnectionClosed": _ENDED,  # but its close code takes precedence
    _WEBSOCKETS + "InvalidHandshake": PROTOCOL_ERROR,  # but InvalidStatus goes by its HTTP status
    _WEBSOCKETS + "InvalidURI": permanent("iap_request_refused"),
    _WEBSOCKETS + "InvalidProxy": permanent("iap_request_refused"),
    _WEBSOCKETS + "ProtocolError": PROTOCOL_ERROR,
    _WEBSOCKETS + "PayloadTooBig": PROTOCOL_ERROR,
    _WEBSOCKETS + "TooManyFragments": PROTOCOL_ERROR,
    _WEBSOCKETS + "InvalidState": PROTOCOL_ERROR,
    _WEBSOCKETS + "ConcurrencyError": transient(UNEXPECTED),
    "websockets.datastructures.MultipleValuesError": PROTOCOL_ERROR,
    "builtins.UnicodeDecodeError": PROTOCOL_ERROR,
    "builtins.OSError": transient("unreachable"),  # sockets, DNS, TLS, TimeoutError
}


def violation(what: str) -> Transient:
    """Return the error for a peer that violates the protocol."""
    return Transient(PROTOCOL_ERROR.reason, f"the relay sent {what}")


def from_close_code(code: int, reason: str = "", *, connected: bool) -> Transient | Permanent:
    """Classify a close code. ``connected``: the relay had already reached the VM's port."""
    row = CLOSE_CODES.get(code)
    if row is None:
        row = PROTOCOL_ERROR if 1000 <= code < 4000 else transient("iap_unknown_close")
    if code in _PLAIN_ENDS and not connected:
        row = transient("unreachable")
    return _worded(row, f"the relay closed with code {code}", reason, hint=_HINTS.get(code, ""))


def from_status(status: int, body: str = "", retry_after: str = "") -> Transient | Permanent:
    """Classify an HTTP response other than 101 to the opening handshake."""
    wait = float(retry_after) if retry_after.isdecimal() else None
    match status:
        case 401:
            row = transient("iap_reauthenticate")
        case 403:
            row = permanent("iap_not_authorized")
        case 404:
            row = _LOOKUP_FAILED
        case 429:
            row = transient("rate_limited")
        case _ if 400 <= status < 500:
            row = permanent("iap_request_refused")
        case _:
            row = _UNAVAILABLE if status >= 500 else PROTOCOL_ERROR
    return _worded(row, f"the relay answered HTTP {status}", body, wait, hint=_HINTS.get(status, ""))


def classify(exc: BaseException, *, connected: bool = False) -> Transient | Permanent:
    """Classify an exception from the WebSocket library or the sockets under it."""
    if isinstance(exc, Transient | Permanent):
        return exc
    if isinstance(exc, LogmendError):
        return Transient(UNEXPECTED, one_line(exc))
    if (response := getattr(exc, "response", None)) is not None:
        body = bytes(response.body or b"").decode(errors="replace")
        return from_status(response.status_code, body, response.headers.get("Retry-After", ""))
    hit = nearest(type(exc), TABLE)
    if hit is None:
        return Transient(UNEXPECTED, f"{type(exc).__name__}: {one_line(exc)}")
    name, row = hit
    if name == _WEBSOCKETS + "ConnectionClosed":
        return _closed(exc, connected=connected)
    if isinstance(exc, OSError) and connected:
        row = _ENDED
    if isinstance(exc.__cause__, EOFError | ConnectionError):  # the peer went away during the handshake
        row = transient("unreachable")
    return _worded(row, f"{type(exc).__name__}: {one_line(exc)}")


def _closed(exc: BaseException, *, connected: bool) -> Transient | Permanent:
    """Classify a ConnectionClosed: by the peer's code, else ours (our objection), else as a plain loss."""
    rcvd, sent = getattr(exc, "rcvd", None), getattr(exc, "sent", None)
    if rcvd is not None:
        return from_close_code(int(rcvd.code), rcvd.reason, connected=connected)
    if sent is not None and sent.code != 1000:
        return violation(f"what cannot be accepted ({int(sent.code)} {one_line(sent.reason or exc)})")
    return from_close_code(1006, str(exc.__cause__ or ""), connected=connected)


def _worded(
    row: ErrorRow, what: str, why: str = "", retry_after: float | None = None, *, hint: str = ""
) -> Transient | Permanent:
    """Return what happened, what to do about it and the other side's own words in one line."""
    detail = f"{what} ({hint})" if hint else what
    return error_of(row, one_line(f"{detail}: {why}" if why else detail), retry_after=retry_after)
