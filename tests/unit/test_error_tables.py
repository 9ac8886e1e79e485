# mypy: disable-error-code="no-untyped-call"
"""Every exception that a library of an adapter can raise has a meaning.

The libraries are walked, so that an upgrade which brings a new exception class fails here and not at night.
"""

import importlib
import pkgutil
import socket
import ssl
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import asyncssh
import grpc
import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from logmend.adapters import error_table
from logmend.adapters.google import errors
from logmend.adapters.ssh import errors as ssh_errors
from logmend.errors import Permanent, Superseded, Transient


def exception_classes(package: str) -> list[type[Exception]]:
    """Exception classes that a package defines anywhere, warnings and its optional parts left out."""
    found: set[type[Exception]] = set()
    for name in module_names(package):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = importlib.import_module(name)
            except ImportError:  # needs something optional that is not installed, so it cannot raise either
                continue
        found.update(
            cls
            for cls in vars(module).values()
            if isinstance(cls, type)
            and issubclass(cls, Exception)
            and not issubclass(cls, Warning)
            and cls.__module__.split(".")[0] == package.split(".", maxsplit=1)[0]
        )
    return sorted(found, key=error_table.qualified_name)


def module_names(package: str) -> Iterator[str]:
    """List the package and all that is in it, without what runs something when imported."""
    yield package
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(getattr(root, "__path__", []), package + "."):
        if not info.name.endswith("__main__"):
            yield info.name


NEVER = {
    "asyncssh.config.ConfigParseError": "no configuration file is read",
    "asyncssh.gss.GSSError": "GSS is off",
    "asyncssh.misc.BreakReceived": "only a server's session sees it",
    "asyncssh.misc.SignalReceived": "only a server's session sees it",
    "asyncssh.misc.SoftEOFReceived": "only a server's session sees it",
    "asyncssh.misc.TerminalSizeChanged": "only a server's session sees it",
    "asyncssh.public_key.KeyExportError": "no key is exported with a passphrase",
    "asyncssh.public_key.KeyGenerationError": "the algorithm is fixed",
    "asyncssh.saslprep.SASLPrepError": "no password is sent",
    "google.api_core._feature_gating_helpers.FeatureGatingError": "no gated feature is used",
    "google.api_core.exceptions.AsyncRestUnsupportedParameterError": "REST is synchronous here",
    "google.api_core.future.async_future._OperationNotComplete": "caught inside the library",
    "google.api_core.future.polling._OperationNotComplete": "caught inside the library",
    "google.api_core.iam.InvalidOperationException": "no IAM policy is read",
    "google.auth.transport._mtls_helper._MemfdCreationError": "no client certificate is used",
    "google.protobuf.message.FrozenInstanceError": "no message is frozen",
    "requests.cookies.CookieConflictError": "no cookie is kept",
}
"""Exceptions that nothing here can raise, each with why. Should one come all the same, it is transient."""


def unexpected(packages: tuple[str, ...], table: error_table.Table) -> set[str]:
    """Classes of which neither they nor a base of theirs have a row that says what they mean."""
    return {
        error_table.qualified_name(cls)
        for package in packages
        for cls in exception_classes(package)
        if (hit := error_table.nearest(cls, table)) is None or hit[0] == "builtins.OSError"
    }


GOOGLE = (
    "google.api_core",
    "google.auth",
    "requests",
    "urllib3",
    "google.protobuf.message",
    "google.protobuf.json_format",
)


def test_every_exception_under_the_google_clients_has_a_row() -> None:
    """An upgrade of a Google library cannot bring an exception that nobody thought about."""
    named = {name for name in NEVER if not name.startswith("asyncssh.")}
    assert unexpected(GOOGLE, errors.TABLE) == named


def test_every_exception_of_asyncssh_has_a_row() -> None:
    """The same for the SSH library."""
    assert unexpected(("asyncssh",), ssh_errors.TABLE) == {
        name for name in NEVER if name.startswith("asyncssh.")
    }


@pytest.mark.parametrize("table", [errors.TABLE, ssh_errors.TABLE], ids=["google", "ssh"])
def test_every_row_names_a_class_that_exists(table: error_table.Table) -> None:
    """A misspelt or vanished class name does not sit in a table unnoticed."""
    gone = []
    for name in table:
        module, _, cls = name.rpartition(".")
        if not hasattr(importlib.import_module(module), cls):
            gone.append(name)
    assert gone == []


@pytest.mark.parametrize(
    ("exc", "kind", "reason"),
    [
        (api.ServiceUnavailable("x"), Transient, "api_unavailable"),
        (api.DeadlineExceeded("x"), Transient, "api_unavailable"),
        (api.TooManyRequests("x"), Transient, "rate_limited"),
        (api.Forbidden("Quota exceeded for quota metric 'Read requests'"), Transient, "rate_limited"),
        (api.Forbidden("rateLimitExceeded"), Transient, "rate_limited"),
        (api.Forbidden("Compute Engine API has not been used in project 1"), Permanent, "api_disabled"),
        (api.Forbidden("no"), Permanent, "not_permitted"),
        (api.PermissionDenied("no"), Permanent, "not_permitted"),
        (api.Unauthorized("token"), Transient, "unauthenticated"),
        (api.NotFound("x"), Permanent, "not_found"),
        (api.AlreadyExists("x"), Permanent, "already_exists"),
        (api.Aborted("x"), Transient, "conflict"),
        (api.PreconditionFailed("conditionNotMet"), Transient, "conflict"),
        (api.FailedPrecondition("x"), Permanent, "failed_precondition"),
        (api.InvalidArgument("x"), Permanent, "invalid_request"),
        (api.MethodNotImplemented("x"), Permanent, "invalid_request"),
        (api.RetryError("x", cause=api.ServiceUnavailable("y")), Transient, "api_unavailable"),
        (auth.RefreshError("metadata server said 500"), Transient, "credentials_unavailable"),
        (auth.TransportError("x"), Transient, "credentials_unavailable"),
        (auth.DefaultCredentialsError("x"), Permanent, "no_credentials"),
        (requests.ConnectionError("x"), Transient, "api_unreachable"),
        (requests.exceptions.SSLError("x"), Transient, "api_unreachable"),
        (requests.exceptions.ReadTimeout("x"), Transient, "api_unreachable"),
        (requests.exceptions.JSONDecodeError("x", "", 0), Transient, "api_protocol_error"),
        (socket.gaierror(-2, "Name or service not known"), Transient, "api_unreachable"),
        (TimeoutError(), Transient, "api_unreachable"),
        (RuntimeError("who knows"), Transient, "unexpected_error"),
        (Superseded(), Transient, "unexpected_error"),
    ],
)
def test_google_errors_say_whether_to_try_again(exc: Exception, kind: type, reason: str) -> None:
    """What the API or the network said becomes one kind and one word."""
    error = errors.classify(exc)
    assert (type(error), error.reason) == (kind, reason)
    assert error.detail


def test_a_refused_call_names_the_permission_and_the_role() -> None:
    """The operator reads what to grant, not a stack trace."""
    exc = api.Forbidden("Required 'compute.instances.get' permission for 'projects/p/zones/z/instances/1'")
    error = errors.classify(exc, needs="roles/compute.viewer")
    assert "permission compute.instances.get is missing" in error.detail
    assert "grant roles/compute.viewer" in error.detail


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Permission 'iam.serviceAccounts.actAs' denied on service account x", "iam.serviceAccounts.actAs"),
        ("Required 'compute.instances.osLogin' permission for 'x'", "compute.instances.osLogin"),
        ('Permission "osconfig.osPolicyAssignments.get" denied', "osconfig.osPolicyAssignments.get"),
        ("The caller does not have permission", None),
        ("Access to 'oslogin.googleapis.com' denied", None),
    ],
)
def test_only_a_permission_is_taken_for_one(text: str, named: str | None) -> None:
    """What looks like a permission in the API's words, and nothing else that has dots in it."""
    detail = errors.classify(api.Forbidden(text)).detail
    assert ("is missing" in detail) is (named is not None)
    assert (named or "") in detail


def test_a_wait_that_the_api_asked_for_is_kept() -> None:
    """RetryInfo and Retry-After both reach whoever decides when to try again."""
    response = requests.Response()
    response.status_code = 429
    response.headers["Retry-After"] = "17"
    from_header = errors.classify(requests.HTTPError("slow down", response=response))
    info = SimpleNamespace(retry_delay=SimpleNamespace(seconds=3, nanos=500_000_000))
    from_details = errors.classify(api.TooManyRequests("slow down", details=[info]))
    assert isinstance(from_header, Transient)
    assert isinstance(from_details, Transient)
    assert (from_header.retry_after, from_details.retry_after) == (17.0, 3.5)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_grpc_status_has_a_meaning(code: grpc.StatusCode) -> None:
    """A raw gRPC error says by its status what it is worth."""

    class Failed(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return code

    error = errors.classify(Failed())
    assert error.reason != error_table.UNEXPECTED
    permanent = {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
    assert isinstance(error, Permanent) is (code.name in permanent)


@pytest.mark.parametrize(
    ("exc", "kind", "reason"),
    [
        (asyncssh.HostKeyNotVerifiable("x"), Permanent, "host_key_mismatch"),
        (asyncssh.PermissionDenied("x"), Permanent, "not_permitted"),
        (asyncssh.KeyExchangeFailed("x"), Permanent, "ssh_incompatible"),
        (asyncssh.ConnectionLost("x"), Transient, "connection_lost"),
        (asyncssh.ProtocolError("x"), Transient, "ssh_protocol_error"),
        (asyncssh.DisconnectError(asyncssh.DISC_TOO_MANY_CONNECTIONS, "x"), Transient, "ssh_busy"),
        (asyncssh.DisconnectError(asyncssh.DISC_BY_APPLICATION, "x"), Transient, "connection_lost"),
        (asyncssh.DisconnectError(99, "from the future"), Transient, "connection_lost"),
        (asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "x"), Transient, "session_refused"),
        (asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "x"), Transient, "connection_lost"),
        (
            asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "x"),
            Permanent,
            "not_permitted",
        ),
        (asyncssh.KeyImportError("x"), Permanent, "bad_credential"),
        (ConnectionRefusedError(111, "x"), Transient, "unreachable"),
        (OSError(113, "No route to host"), Transient, "unreachable"),
        (OSError(24, "Too many open files"), Transient, "out_of_files"),
        (socket.gaierror(-2, "x"), Transient, "unreachable"),
        (ssl.SSLError("x"), Transient, "unreachable"),
        (TimeoutError(), Transient, "unreachable"),
        (ConnectionResetError(), Transient, "connection_lost"),
        (Permanent("iap_not_authorized", "from the tunnel"), Permanent, "iap_not_authorized"),
        (RuntimeError("who knows"), Transient, "unexpected_error"),
    ],
)
def test_ssh_errors_say_whether_to_try_again(exc: Exception, kind: type, reason: str) -> None:
    """What the VM, the network or a tunnel said becomes one kind and one word."""
    error = ssh_errors.classify(exc)
    assert (type(error), error.reason) == (kind, reason)
    assert error.detail


def test_details_are_one_bounded_line() -> None:
    """A library's message of many lines cannot flood or break a log."""
    detail = ssh_errors.classify(OSError("a\nb" * 1000)).detail
    assert "\n" not in detail
    assert len(detail) <= error_table.DETAIL_LIMIT
