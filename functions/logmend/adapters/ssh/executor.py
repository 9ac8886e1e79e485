"""The ssh executor: one session per attempt, ``check`` as the login user, ``enforce`` through ``sudo -n``.

The server's host key (:mod:`.host_keys`) and a credential are looked up concurrently; then comes the login
(:mod:`.login`). Only if the VM refuses an OS Login certificate is an imported key tried, once, on a new
connection. No pseudo-terminal is requested. One deadline covers the attempt, from looking up keys to the end
of the last script, no matter how often the other side sends data.

========================  ===================================================================================
Transient                 ``unreachable``; ``connection_lost`` (it broke while a script ran);
                          ``deadline_exceeded``
Permanent                 ``no_route``, ``host_key_unknown``, ``host_key_mismatch``, ``not_permitted`` (login
                          or sudo; the detail names the role); the reasons in :mod:`.refusals`
Evidence                  the result of a script that began, however it ended; ``verify`` judges it
========================  ===================================================================================

Not guaranteed: that a script has stopped on the VM if its attempt ended early. The scripts limit their own
time with ``timeout`` and exclude each other with ``flock``.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from logmend.adapters.libraries import ALONE
from logmend.adapters.ssh import errors, refusals
from logmend.adapters.ssh import login as ssh_login
from logmend.adapters.ssh.host_keys import HostKeys, Trust
from logmend.adapters.ssh.login import AnyCredential
from logmend.adapters.ssh.routes import Route
from logmend.errors import Permanent, Transient
from logmend.model import evidence
from logmend.model.enums import Action
from logmend.model.values import Diagnosis, Evidence, InstanceFacts, Login
from logmend.ports import Clock
from logmend.runbook import Runbook, diagnosis

if TYPE_CHECKING:
    import asyncssh  # loaded by the first attempt: most events never reach one


class Credentials(Protocol):
    """Where credentials come from."""

    async def credential(self, facts: InstanceFacts) -> AnyCredential:
        """Return a credential that this VM accepts."""
        ...

    async def instead(self, facts: InstanceFacts, refused: AnyCredential) -> AnyCredential | None:
        """Return the credential to try after the VM refused one; None if there is none."""
        ...

    async def accepted(self, facts: InstanceFacts, credential: AnyCredential) -> None:
        """Note that a VM accepted the credential that was tried instead."""
        ...


class SshSession:
    """One conversation with one VM; see :class:`logmend.ports.Session`."""

    def __init__(
        self,
        connection: "asyncssh.SSHClientConnection",
        instance_id: str,
        runbook: Runbook,
        action: Action,
        clock: Clock,
        ends: float,
        login: Login,
    ) -> None:
        self.login = login
        self._instance_id = instance_id
        self._runbook = runbook
        self._connection = connection
        scripts = runbook.scripts
        revert = action is Action.REVERT
        if revert and runbook.irreversible:
            raise Permanent("no_way_back", "it is irreversible: there is no script to undo it")
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
            raise Permanent("not_permitted", "a session opened to check cannot enforce")
        return await self._run(self._enforce, as_root=True, mark=mark)

    async def diagnose(self, *, as_root: bool = False) -> Diagnosis:
        """Run ``diagnose.sh``, as the login user unless ``as_root``."""
        code, stdout, error, _ = await self._output(self._runbook.scripts.diagnose, as_root=as_root)
        return diagnosis.decoded(self._runbook, self._instance_id, code, stdout, error)

    async def _run(self, script: str, *, as_root: bool, mark: str = "") -> Evidence:
        code, stdout, error, stderr = await self._output(script, as_root=as_root, mark=mark)
        values = refusals.told_of_check(
            evidence.values(stdout),
            evidence.error_text(stderr),
            None if as_root else self.login.credential,
        )
        return Evidence(code, values, self._clock.now(), error)

    async def _output(self, script: str, *, as_root: bool, mark: str = "") -> tuple[int, bytes, str, bytes]:
        """Return exit code, standard output, the text that says how it ended, and all of standard error."""
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
        return (*remote_script.judged(output, command), bytes(output.stderr))


class SshExecutor:
    """Reaches a VM over SSH; see :class:`logmend.ports.SessionExecutor`. Safe for many attempts at once.

    ``deadline`` limits an attempt, and ``connect_timeout`` (seconds, at most half of the deadline) the time
    from the first packet to the completed login. ``keepalive`` is the number of seconds after which a silent
    server is asked whether it is still there, up to three times.
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
        # Well within the deadline, to tell a silent VM from a slow script.
        self._connect_timeout = min(connect_timeout, self._deadline / 2)
        self._keepalive = keepalive

    @asynccontextmanager
    async def open(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> AsyncIterator[SshSession]:
        """Connect to a VM. Everything is closed on exit, even if cancelled."""
        ends = asyncio.get_running_loop().time() + self._deadline
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(ends):
                    trust, credential = await self._prepared(facts, ends)
            except TimeoutError as error:
                raise Transient(
                    "deadline_exceeded", "host keys or credential did not arrive in time"
                ) from error
            connection, credential = await self._connected(stack, facts, trust, credential, ends)
            login = Login(trust.source, credential.kind)
            yield SshSession(connection, facts.ref.instance_id, runbook, action, self._clock, ends, login)

    async def _prepared(self, facts: InstanceFacts, ends: float) -> tuple[Trust, AnyCredential]:
        """Look up host keys and a credential concurrently. No credential is shown to a VM without known keys.

        An error about the host keys takes precedence over one about the credential.
        """
        trust, credential = await asyncio.gather(
            self._host_keys.trusted(facts, lambda: self._shown(facts, ends)),
            self._credentials.credential(facts),
            return_exceptions=True,
        )
        if isinstance(trust, BaseException):
            raise trust
        if isinstance(credential, BaseException):
            raise credential
        return trust, credential

    async def _connected(
        self,
        stack: AsyncExitStack,
        facts: InstanceFacts,
        trust: Trust,
        credential: AnyCredential,
        ends: float,
    ) -> tuple["asyncssh.SSHClientConnection", AnyCredential]:
        """Log in, if necessary with the credential that follows a refused one."""
        try:
            return await self._login(stack, facts, trust, credential, ends), credential
        except ssh_login.KeyRefused as refused:
            try:
                async with asyncio.timeout_at(ends):
                    following = await self._credentials.instead(facts, credential)
            except TimeoutError as error:
                raise Transient("deadline_exceeded", "the other credential did not arrive in time") from error
            if following is None:
                raise
            try:
                connection = await self._login(stack, facts, trust, following, ends)
            except ssh_login.KeyRefused as again:
                raise ssh_login.KeyRefused(
                    again.reason, f"{again.detail}; before: {refused.detail}"
                ) from again
        await self._credentials.accepted(facts, following)
        return connection, following

    async def _login(
        self,
        stack: AsyncExitStack,
        facts: InstanceFacts,
        trust: Trust,
        credential: AnyCredential,
        ends: float,
    ) -> "asyncssh.SSHClientConnection":
        way = await stack.enter_async_context(self._route.way(facts, self._port))
        connection = await ssh_login.login(
            way, self._port, trust, credential, self._limit(ends), self._keepalive
        )
        stack.push_async_callback(_close, connection)
        return connection

    async def _shown(self, facts: InstanceFacts, ends: float) -> "asyncssh.SSHKey":
        """Fetch the key that the VM's server presents, on a separate connection."""
        async with self._route.way(facts, self._port) as way:
            return await ssh_login.shown_key(way, self._port, self._limit(ends))

    def _limit(self, ends: float) -> float:
        return min(ends, asyncio.get_running_loop().time() + self._connect_timeout)


async def _close(connection: "asyncssh.SSHClientConnection") -> None:
    """Disconnect cleanly, or give up after a second."""
    connection.close()
    try:
        async with asyncio.timeout(1):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
    except BaseException:
        connection.abort()
        raise
