"""Log in over SSH, and read a server's host key, without using any configuration of the local host.

Errors before the login is complete are raised here, with the server's own words. :func:`login` raises
:class:`KeyRefused` only if the server performed public key authentication and refused.
"""

import asyncio
import functools
import getpass
import os
from typing import TYPE_CHECKING, Protocol

from logmend.adapters.error_table import one_line
from logmend.adapters.libraries import ALONE
from logmend.adapters.ssh import errors, refusals
from logmend.adapters.ssh.host_keys import Trust
from logmend.adapters.ssh.routes import Way
from logmend.errors import Permanent, Transient
from logmend.model.values import CredentialKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncssh  # loaded by the first attempt: most events never reach one

    from logmend.adapters.ssh.watcher import Watcher

FIRST_CIPHER = "^aes128-gcm@openssh.com"
"""The preferred cipher; asyncssh's others follow. Its own first choice is ChaCha20, which it assembles in
Python: an attempt would take half as much CPU again (docs/performance.md)."""

PINNABLE = ["ecdsa-sha2-nistp256", "ssh-ed25519", "ecdsa-sha2-nistp384", "rsa-sha2-512", "rsa-sha2-256"]
"""Host key algorithms for a first contact. P-256 is first: it stays usable in FIPS mode."""

TOO_MANY = "Too many authentication failures"
"""OpenSSH's message (auth.c) when MaxAuthTries is used up: the last key was refused too."""


class AnyCredential(Protocol):
    """What a login needs. Key and certificate are asyncssh objects."""

    @property
    def username(self) -> str:
        """Return the login name on the VM."""
        ...

    @property
    def private_key(self) -> "asyncssh.SSHKey":
        """Return the private key."""
        ...

    @property
    def certificate(self) -> "asyncssh.SSHCertificate | None":
        """Return the user certificate for the key, or None."""
        ...

    @property
    def kind(self) -> CredentialKind:
        """Return where the credential comes from."""
        ...


class KeyRefused(Permanent):
    """The server refused the public key or certificate: ``not_permitted`` or ``key_type_refused``."""


async def shown_key(way: Way, port: int, limit: float) -> "asyncssh.SSHKey":
    """Fetch the host key that a server proves to have, without identifying ourselves.

    ``limit`` is the event loop time by which it must have answered.
    """
    with ALONE:
        import asyncssh

        from logmend.adapters.ssh.watcher import Watcher

    _name_the_user()
    watcher = Watcher(())
    try:
        async with asyncio.timeout_at(limit):
            options = asyncssh.SSHClientConnectionOptions(
                client_factory=lambda: watcher, config=None, client_keys=None, agent_path=None, gss_host=None
            )
            key = await asyncssh.get_server_host_key(
                way.host,
                port,
                tunnel=way.tunnel,
                server_host_key_algs=PINNABLE,
                config=None,
                options=options,
            )
    except TimeoutError as error:
        raise _silent(way, port) from error
    except Exception as error:
        raise _before_login(errors.classify(error), watcher) from error
    if key is None:
        raise Permanent("ssh_incompatible", f"{way.host} port {port} showed no host key")
    return key


async def login(
    way: Way, port: int, trust: Trust, credential: AnyCredential, limit: float, keepalive: float
) -> "asyncssh.SSHClientConnection":
    """Log in. Every ``keepalive`` seconds, a silent server is asked whether it is still there."""
    with ALONE:
        import asyncssh

        from logmend.adapters.ssh.watcher import Watcher

    _name_the_user()
    watcher = Watcher(_keys(credential))
    try:
        async with asyncio.timeout_at(limit):
            return await asyncssh.connect(
                way.host,
                port,
                tunnel=way.tunnel,
                client_factory=lambda: watcher,
                username=credential.username,
                client_keys=None,  # the watcher supplies them
                known_hosts=trust.known,
                # Nothing local: no configuration, agent, environment, certificate store or proxy.
                config=None,
                agent_path=None,
                agent_forwarding=False,
                pkcs11_provider=None,
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                proxy_command=None,
                canonicalize_hostname=False,
                env=None,
                send_env=None,
                # One way to log in, without prompting.
                preferred_auth=("publickey",),
                password_auth=False,
                kbdint_auth=False,
                host_based_auth=False,
                gss_auth=False,
                gss_kex=False,
                gss_host=None,
                compression_algs=None,
                encryption_algs=FIRST_CIPHER,
                connect_timeout=None,  # the limit covers what these two would
                login_timeout=0,
                keepalive_interval=keepalive,
                keepalive_count_max=3,
            )
    except TimeoutError as error:
        raise _silent(way, port) from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise _mismatch(trust, one_line(error)) from error
    except asyncssh.PermissionDenied as error:
        if not watcher.begun:
            raise Permanent("not_permitted", f"the VM accepts no public keys ({one_line(error)})") from error
        raise _refused(credential, watcher, one_line(error)) from error
    except Exception as error:
        if TOO_MANY in str(error):
            raise _refused(credential, watcher, one_line(error)) from error
        trouble = _before_login(errors.classify(error), watcher)
        if trouble.reason == "ssh_incompatible" and trust.known is not None and "host key" in trouble.detail:
            raise _mismatch(trust, trouble.detail) from error  # the server has no key of a known type
        raise trouble from error


def _keys(credential: AnyCredential) -> "Sequence[asyncssh.SSHKey | asyncssh.SSHKeyPair]":
    """Return the keys to offer. An OS Login certificate goes alone: no server knows its bare key."""
    with ALONE:
        import asyncssh

    if credential.certificate is None:
        return [credential.private_key]
    pairs = asyncssh.load_keypairs((credential.private_key, credential.certificate))
    return pairs[:1] if credential.kind == "certificate" else pairs


def _silent(way: Way, port: int) -> Transient:
    return Transient(
        "unreachable", f"{way.host} port {port} did not complete the login within the connection timeout"
    )


def _mismatch(trust: Trust, detail: str) -> Permanent:
    return Permanent("host_key_mismatch", f"{detail} (known as: {trust.source})")


def _refused(credential: AnyCredential, watcher: "Watcher", words: str) -> KeyRefused:
    """Return what a refused key means, depending on its source."""
    kind = credential.private_key.algorithm.decode("ascii", "replace")
    if takes := watcher.takes(credential.private_key):
        return KeyRefused(
            "key_type_refused", f"the VM does not accept {kind} keys, but accepts {takes} ({words})"
        )
    story = refusals.LOGIN[credential.kind]
    if "25519" in kind and watcher.lacks_curve25519():
        story += f", and that it accepts {kind} keys: it offers no Curve25519, as hosts in FIPS mode do"
    return KeyRefused("not_permitted", f"{story} ({one_line(words)})")


def _before_login(error: Transient | Permanent, watcher: "Watcher") -> Transient | Permanent:
    """Return what ended a connection before the login was complete, using the server's own words if any.

    PAM refuses an account after the key was accepted: OpenSSH passes on PAM's message and hangs up.
    """
    if error.reason != "connection_lost":
        return error
    if watcher.begun:
        return refusals.at_login(watcher.said)
    if (lacking := watcher.no_common()) is not None:
        kind, offered = lacking
        return Permanent("ssh_incompatible", one_line(f"no common {kind} algorithm; the VM's are {offered}"))
    return Transient("unreachable", f"closed before the login: {error.detail}")


@functools.cache
def _name_the_user() -> None:
    """Provide asyncssh with a local user name if the container's user has none.

    It fails without one, although it only uses it for the configuration that it is told not to read.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "logmend"
