"""Translate the exceptions of asyncssh, and of the sockets under it.

``classify(exc)`` never raises. The executor handles what it knows about first (its deadline, the scripts'
exit codes) and passes everything else to this module. An error raised by a tunnel (see
:mod:`logmend.adapters.ssh.iap`) passes through asyncssh unchanged and is returned as it is.

=========  ==================  =====================================================
error      reason              when
=========  ==================  =====================================================
Transient  unreachable         refused, filtered, no route, no such name, timed out
Transient  connection_lost     it broke once established
Transient  ssh_busy            the server is full at the moment (MaxStartups, …)
Transient  ssh_protocol_error  the answer was not valid SSH
Transient  session_refused     logged in, but no channel could be opened
Transient  deadline_exceeded   a command did not finish in time
Permanent  host_key_mismatch   the key is not the pinned one
Permanent  not_permitted       login refused, or the server forbids the request
Permanent  ssh_incompatible    no common algorithm or protocol version
Permanent  bad_credential      our key or certificate cannot be used
Permanent  script_error        a checked command failed (``check=True``)
Transient  unexpected_error    anything else
=========  ==================  =====================================================
"""

import errno
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

_MISC = "asyncssh.misc."

TABLE: Table = {
    _MISC + "Error": transient("ssh_protocol_error"),
    _MISC + "DisconnectError": transient("connection_lost"),
    _MISC + "CompressionError": transient("ssh_protocol_error"),
    _MISC + "MACError": transient("ssh_protocol_error"),
    _MISC + "ProtocolError": transient("ssh_protocol_error"),
    _MISC + "ServiceNotAvailable": transient("ssh_busy"),
    _MISC + "HostKeyNotVerifiable": permanent("host_key_mismatch"),
    _MISC + "IllegalUserName": permanent("not_permitted"),
    _MISC + "PermissionDenied": permanent("not_permitted"),
    _MISC + "PasswordChangeRequired": permanent("not_permitted"),
    _MISC + "KeyExchangeFailed": permanent("ssh_incompatible"),
    _MISC + "ProtocolNotSupported": permanent("ssh_incompatible"),
    _MISC + "ChannelOpenError": transient("session_refused"),
    _MISC + "ChannelListenError": permanent("not_permitted"),
    "asyncssh.process.ProcessError": permanent("script_error"),
    "asyncssh.process.TimeoutError": transient("deadline_exceeded"),
    "asyncssh.packet.PacketDecodeError": transient("ssh_protocol_error"),
    "asyncssh.public_key.KeyImportError": permanent("bad_credential"),
    "asyncssh.pbe.KeyEncryptionError": permanent("bad_credential"),
    "asyncssh.asn1.ASN1Error": permanent("bad_credential"),
    "builtins.ConnectionResetError": transient("connection_lost"),
    "builtins.ConnectionAbortedError": transient("connection_lost"),
    "builtins.BrokenPipeError": transient("connection_lost"),
    "builtins.OSError": transient("unreachable"),
}

# RFC 4253 section 11.1: SSH_MSG_DISCONNECT reason codes, for a plain DisconnectError.
_BY_DISCONNECT: Mapping[int, ErrorRow] = {
    1: permanent("not_permitted"),  # HOST_NOT_ALLOWED_TO_CONNECT
    2: transient("ssh_protocol_error"),  # PROTOCOL_ERROR
    3: permanent("ssh_incompatible"),  # KEY_EXCHANGE_FAILED
    5: transient("ssh_protocol_error"),  # MAC_ERROR
    6: transient("ssh_protocol_error"),  # COMPRESSION_ERROR
    7: transient("ssh_busy"),  # SERVICE_NOT_AVAILABLE
    8: permanent("ssh_incompatible"),  # PROTOCOL_VERSION_NOT_SUPPORTED
    9: permanent("host_key_mismatch"),  # HOST_KEY_NOT_VERIFIABLE
    10: transient("connection_lost"),  # CONNECTION_LOST
    11: transient("connection_lost"),  # BY_APPLICATION
    12: transient("ssh_busy"),  # TOO_MANY_CONNECTIONS
    13: permanent("not_permitted"),  # AUTH_CANCELLED_BY_USER
    14: permanent("not_permitted"),  # NO_MORE_AUTH_METHODS_AVAILABLE
    15: permanent("not_permitted"),  # ILLEGAL_USER_NAME
}

# RFC 4254 section 5.1. No server refuses a *session* with "connect failed": asyncssh itself does, on a
# connection that has ended meanwhile.
_BY_OPEN_FAILURE: Mapping[int, ErrorRow] = {1: permanent("not_permitted"), 2: transient("connection_lost")}
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


def classify(exc: BaseException) -> Transient | Permanent:
    """Return an error that says whether trying again later can help, with a one-word reason."""
    if isinstance(exc, Transient | Permanent):
        return exc
    if isinstance(exc, LogmendError):
        return Transient(UNEXPECTED, one_line(exc))
    if isinstance(exc, OSError) and exc.errno in _OUT_OF_FILES:
        return Transient("out_of_files", one_line(exc))  # our own limit: it must not count against the VM
    hit = nearest(type(exc), TABLE)
    if hit is None:
        return Transient(UNEXPECTED, f"{type(exc).__name__}: {one_line(exc)}")
    name, row = hit
    code = getattr(exc, "code", None)
    if name == _MISC + "DisconnectError" and isinstance(code, int):
        row = _BY_DISCONNECT.get(code, row)
    if name == _MISC + "ChannelOpenError" and isinstance(code, int):
        row = _BY_OPEN_FAILURE.get(code, row)
    return error_of(row, one_line(exc))
