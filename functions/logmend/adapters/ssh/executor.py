"""The ssh executor: one connection per attempt, ``check`` as the login user, ``enforce`` through ``sudo -n``.

Nothing of the host that logmend runs on takes part: no ``~/.ssh``, no agent, no environment, no known_hosts
but what :mod:`logmend.adapters.ssh.host_keys` gives. No pseudo-terminal is asked for. One deadline spans the
attempt, from the credential to the last script's end, however often the other side sends a byte.

========================  ===================================================================================
Transient                 ``unreachable`` nothing lets us in; ``connection_lost`` it broke while a script ran;
                          ``deadline_exceeded``
Permanent                 ``no_route``, ``host_key_unknown``, ``host_key_mismatch``, ``not_permitted`` (login
                          or sudo; the detail names the role)
Evidence                  whatever a script that began ended with; it is for ``verify`` to judge
========================  ===================================================================================

Not guaranteed: that a script has stopped on the VM when its attempt has ended early. The scripts bound
themselves with ``timeout`` and keep each other off with ``flock``.
"""

import asyncio
import functools
import getpass
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from logmend.adapters.libraries import ALONE
from logmend.adapters.ssh import errors
from logmend.adapters.ssh.host_keys import HostKeys, Known
from logmend.adapters.ssh.routes import Route, Way
from logmend.errors import Permanent, Transient
from logmend.model import evidence
from logmend.model.enums import Action
from logmend.model.values import Evidence, InstanceFacts
from logmend.ports import Clock
from logmend.runbook import Runbook

if TYPE_CHECKING:
    import asyncssh  # loaded with the first attempt: most events end before one

FIRST_CIPHER = "^aes128-gcm@openssh.com"
"""Asked for first, the library's others after it. Its own first choice is ChaCha20, which it puts together in
Python: an attempt takes half as much CPU again (docs/performance.md)."""


class Credential(Protocol):
    """What one login takes. Key and certificate are asyncssh's objects, paths or OpenSSH text."""

    @property
    def username(self) -> str:
        """Login name on the VM."""
        ...

    @property
    def private_key(self) -> Any:
        """The private key."""
        ...

    @property
    def certificate(self) -> Any:
        """The user certificate for the key, or None."""
        ...


class Credentials(Protocol):
    """Where credentials come from."""

    async def credential(self, facts: InstanceFacts) -> Credential:
        """Give a credential that this VM accepts."""
        ...


class SshSession:
    """One conversation with one VM; see :class:`logmend.ports.Session`."""

    def __init__(
        self,
        connection: "asyncssh.SSHClientConnection",
        runbook: Runbook,
        action: Action,
        clock: Clock,
        ends: float,
    ) -> None:
        self._connection = connection
        scripts = runbook.scripts
        revert = action is Action.REVERT
        self._validate = scripts.revert_validate if revert else scripts.validate
        self._enforce = (
            None if action is Action.CHECK else scripts.revert_enforce if revert else scripts.enforce
        )
        self._clock = clock
        self._ends = ends

    async def check(self) -> Evidence:
        """Run ``validate.sh`` as the login user."""
        return await self._run(self._validate, as_root=False)

    async def enforce(self, mark: str = "") -> Evidence:
        """Run ``enforce.sh`` as root, with ``mark`` as its one argument."""
        if self._enforce is None:
            raise Permanent("not_permitted", "a session that was opened to check enforces nothing")
        return await self._run(self._enforce, as_root=True, mark=mark)

    async def _run(self, script: str, *, as_root: bool, mark: str = "") -> Evidence:
        with ALONE:
            import asyncssh

            from logmend.adapters.ssh import remote_script

        command = remote_script.AS_ROOT if as_root else remote_script.AS_USER
        try:
            async with asyncio.timeout_at(self._ends):
                output = await remote_script.run(self._connection, command, script, mark)
        except TimeoutError as error:
            raise Transient(
                "deadline_exceeded", "a script did not end within the attempt's deadline"
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise errors.classify(error) from error
        code, stdout, said = remote_script.judged(output, command)
        return Evidence(code, evidence.values(stdout), self._clock.now(), said)


class SshExecutor:
    """Reaches a VM over SSH; see :class:`logmend.ports.SessionExecutor`. Safe for many attempts at once.

    ``deadline`` bounds an attempt, ``connect_timeout`` (seconds, at most half of the deadline) the way from
    the first packet to being logged in; ``keepalive`` is how often (seconds) a silent server is asked
    whether it is still there, three times over.
    """

    name = "ssh"

    def __init__(
        self,
        credentials: Credentials,
        host_keys: HostKeys,
        route: Route,
        clock: Clock,
        *,
        port: int = 22,
        deadline: timedelta = timedelta(seconds=90),
        connect_timeout: float = 20.0,
        keepalive: float = 10.0,
    ) -> None:
        self._credentials = credentials
        self._host_keys = host_keys
        self._route = route
        self._clock = clock
        self._port = port
        self._deadline = deadline.total_seconds()
        # Well within the deadline, so that a silent VM is told apart from a slow script.
        self._connect_timeout = min(connect_timeout, self._deadline / 2)
        self._keepalive = keepalive

    @property
    def notes(self) -> tuple[str, ...]:
        """What every outcome of this executor has to say of it."""
        return (self._host_keys.note,) if self._host_keys.note else ()

    @asynccontextmanager
    async def open(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> AsyncIterator[SshSession]:
        """Connect to a VM; everything is closed on leaving, also when cancelled."""
        ends = asyncio.get_running_loop().time() + self._deadline
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(ends):
                    known = await self._host_keys.known(facts)
                    credential = await self._credentials.credential(facts)
            except TimeoutError as error:
                raise Transient("deadline_exceeded", "no host keys or credential in time") from error
            way = await stack.enter_async_context(self._route.way(facts, self._port))
            connection = await self._connect(way, known, credential, ends)
            stack.push_async_callback(_close, connection)
            yield SshSession(connection, runbook, action, self._clock, ends)

    async def _connect(
        self, way: Way, known: Known | None, credential: Credential, ends: float
    ) -> "asyncssh.SSHClientConnection":
        with ALONE:
            import asyncssh

        limit = min(ends, asyncio.get_running_loop().time() + self._connect_timeout)
        _name_the_user()
        key, certificate = credential.private_key, credential.certificate
        try:
            async with asyncio.timeout_at(limit):
                return await asyncssh.connect(
                    way.host,
                    self._port,
                    tunnel=way.tunnel,
                    username=credential.username,
                    client_keys=[key if certificate is None else (key, certificate)],
                    known_hosts=known,
                    # Nothing of the host: no configuration, agent, environment, certificate store or proxy.
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
                    # One way to log in, and nothing asked of a person.
                    preferred_auth=("publickey",),
                    password_auth=False,
                    kbdint_auth=False,
                    host_based_auth=False,
                    gss_auth=False,
                    gss_kex=False,
                    gss_host=None,
                    compression_algs=None,
                    encryption_algs=FIRST_CIPHER,
                    connect_timeout=None,  # the limit above spans what these two would
                    login_timeout=0,
                    keepalive_interval=self._keepalive,
                    keepalive_count_max=3,
                )
        except TimeoutError as error:
            detail = f"{way.host} port {self._port} did not let us in within {self._connect_timeout:g} s"
            raise Transient("unreachable", detail) from error
        except asyncssh.KeyExchangeFailed as error:
            if known is not None and "host key" in str(error):  # the server has none of the pinned kinds
                raise Permanent("host_key_mismatch", errors.classify(error).detail) from error
            raise errors.classify(error) from error
        except Exception as error:
            raise _before_login(errors.classify(error)) from error


def _before_login(error: Transient | Permanent) -> Transient | Permanent:
    """Call a VM unreachable whose connection was lost before it was of any use."""
    if error.reason == "connection_lost":
        return Transient("unreachable", f"closed before the login: {error.detail}")
    return error


async def _close(connection: "asyncssh.SSHClientConnection") -> None:
    """Say goodbye within a second, or go without."""
    connection.close()
    try:
        async with asyncio.timeout(1):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
    except BaseException:
        connection.abort()
        raise


@functools.cache
def _name_the_user() -> None:
    """Give asyncssh a local user name where the container's user has none.

    It fails without one, and uses it for nothing but the configuration that it is told not to read.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "logmend"
