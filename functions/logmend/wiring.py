"""The composition root: settings in, an application out.

No connection is opened and no heavy library imported before an event needs it, so a cold start answers other
events at once.
"""

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from logmend import catalog, windows
from logmend.errors import ConfigError, Permanent, Transient
from logmend.ledger import Contacts, Controls, Journal, Queues
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts
from logmend.pipeline import Pipeline
from logmend.ports import (
    Clock,
    DeadLetter,
    OutcomeFeed,
    OutcomeLog,
    RequestExecutor,
    SessionExecutor,
    Store,
)
from logmend.recorder import Recorder
from logmend.runbook import Runbook
from logmend.settings import ExecutorChoice, Policies, Settings, SshRoute
from logmend.silence import Listener
from logmend.stages import decide, match
from logmend.tick import Ticker
from logmend.worker import Worker

if TYPE_CHECKING:
    from logmend.adapters.google.access_token import AccessToken
    from logmend.adapters.google.compute import ComputeApi
    from logmend.adapters.google.osconfig import OsConfigExecutor
    from logmend.adapters.google.oslogin import OsLogin
    from logmend.adapters.ssh.credential import StaticKey
    from logmend.adapters.ssh.host_keys import HostKeys
    from logmend.adapters.ssh.routes import Route

log = logging.getLogger(__name__)

TELL = 1.5
"""Seconds that the last count of a process may take; :data:`logmend.shutdown.RELEASE` is for all."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time now, in UTC."""
        return datetime.now(UTC)


class Application(Struct, frozen=True):
    """What an entry point needs: the pipeline, the ticker, and the ledger's other faces."""

    settings: Settings
    pipeline: Pipeline
    ticker: Ticker
    store: Store
    queues: Queues
    controls: Controls
    journal: Journal
    compute: "ComputeApi"

    def chosen_runbooks(self, name: str | None) -> list[str]:
        """Return every runbook's name, or the given one; ``ConfigError`` if there is no such runbook."""
        if name is None:
            return list(self.pipeline.runbooks)
        if name not in self.pipeline.runbooks:
            raise ConfigError([f"no runbook {name!r}; known are {', '.join(self.pipeline.runbooks)}"])
        return [name]

    async def aclose(self) -> None:
        """Release what credentials left behind, record what was only counted, and disconnect."""
        await self.pipeline.worker.executors.aclose()
        with suppress(Transient, Permanent, TimeoutError):
            async with asyncio.timeout(TELL):
                await self.pipeline.recorder.tell_unmatched(None)
        for each in (self.pipeline.recorder, self.compute, self.store):
            await each.aclose()
        if self.ticker.listener is not None:
            await self.ticker.listener.entries.aclose()


def application(settings: Settings, *, clock: Clock | None = None, store: Store | None = None) -> Application:
    """Put everything together as the settings say; ``ConfigError`` if that is impossible."""
    clock = clock or SystemClock()
    store = store or open_store(settings.state, clock)
    catalogued = catalog.read_all(settings)
    loaded, policies = catalogued.runbooks, catalogued.policies
    journal = Journal(
        store,
        owner=owner(),
        lease=settings.lease,
        budgets={name: decide.budget(each, policies.of(name)) for name, each in loaded.items()},
    )
    controls, queues = Controls(store), Queues(store)
    compute = open_compute(settings)
    worker = Worker(
        policies=policies,
        clock=clock,
        journal=journal,
        controls=controls,
        compute=compute,
        executors=LazyExecutors(policies, clock, compute, store, loaded),
    )
    pipeline = Pipeline(
        policies=policies,
        runbooks=loaded,
        router=functools.cache(lambda: match.Router(loaded)),
        clock=clock,
        journal=journal,
        worker=worker,
        recorder=Recorder(clock, journal, open_outcome_log(settings), open_outcome_feed(settings)),
        dead_letter=open_dead_letter(settings),
    )
    if settings.ssh_host_keys == "insecure":
        log.warning("LOGMEND_SSH_HOST_KEYS=insecure: any server at a VM's address is trusted")
    _warn_of_windows(policies, clock.now())
    listener = open_listener(settings, pipeline.router) if settings.confirm_silence else None
    return Application(
        settings, pipeline, Ticker(pipeline, queues, listener), store, queues, controls, journal, compute
    )


def _warn_of_windows(policies: Policies, now: datetime) -> None:
    """Name the windows that never open again: their VMs will never be changed."""
    every = [policies.general, *policies.by_runbook.values()]
    for each in dict.fromkeys(hours for settings in every for hours in settings.windows):
        shut = windows.closed((each,), (), dict([each.label]) if each.label else {}, now)
        if shut is not None and shut.opens is None:
            log.warning("no VM is changed %s", shut)


def open_listener(settings: Settings, router: Callable[[], match.Router]) -> Listener:
    """Open the reader of the VMs' logs, with a quota of its own: half of what a project allows."""
    from logmend.adapters.google.log_entries import LogEntries
    from logmend.adapters.google.quota import Quota

    take = functools.partial(Quota(30).take, 20.0)
    return Listener(LogEntries(settings.logging_endpoint, pauses=(), take=take), router)


def owner() -> str:
    """Name this process in leases: machine, process, and a random part, since process ids are reused."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{os.urandom(4).hex()}"


def open_store(state: str, clock: Clock | None = None) -> Store:
    """Open the ledger's store: ``memory:``, ``sqlite:PATH`` or ``firestore:PROJECT/DATABASE``.

    With a clock, SQLite removes expired documents by itself; Firestore has a TTL policy for that.
    """
    kind, _, where = state.partition(":")
    match kind:
        case "sqlite":
            from logmend.adapters.stores.sqlite import SqliteStore

            return SqliteStore(Path(where), clock=clock)
        case "firestore":
            from logmend.adapters.stores.firestore import FirestoreStore

            project, _, database = where.partition("/")
            return FirestoreStore(project, database or "(default)")
        case _:
            from logmend.adapters.stores.memory import MemoryStore

            return MemoryStore()


def open_outcome_log(settings: Settings) -> OutcomeLog:
    """Open the log of outcomes: ``stdout``, ``cloud``, ``file:PATH`` or ``none``."""
    kind, _, where = settings.outcomes.partition(":")
    match kind:
        case "none":
            from logmend.adapters.local_log import NoOutcomeLog

            return NoOutcomeLog()
        case "cloud":
            from logmend.adapters.google.cloud_logging import CloudOutcomeLog

            assert settings.project is not None
            return CloudOutcomeLog(settings.project, settings.logging_endpoint)
        case "file":
            from logmend.adapters.local_log import FileOutcomeLog

            return FileOutcomeLog(Path(where))
        case _:
            from logmend.adapters.local_log import StdoutOutcomeLog

            return StdoutOutcomeLog()


def open_dead_letter(settings: Settings) -> DeadLetter | None:
    """Open the topic for messages that can never be decoded, if one is set."""
    if settings.dead_letter_topic is None:
        return None
    from logmend.adapters.google.pubsub import DeadLetterTopic

    return DeadLetterTopic(settings.dead_letter_topic)


def open_outcome_feed(settings: Settings) -> OutcomeFeed | None:
    """Open the topic that outcomes are published to, if one is set and outcomes are recorded at all."""
    if settings.outcome_topic is None or settings.outcomes == "none":
        return None
    from logmend.adapters.google.outcome_topic import OutcomeTopic

    return OutcomeTopic(settings.outcome_topic)


class LazyExecutors:
    """The executors for a VM, in the order in which they are tried; made when first needed."""

    def __init__(
        self,
        policies: Policies,
        clock: Clock,
        compute: "ComputeApi",
        store: Store,
        runbooks: Mapping[str, Runbook],
    ) -> None:
        self._policies, self._settings = policies, policies.general
        self._store = store
        self._runbooks = runbooks
        self._clock = clock
        self._compute = compute
        self._credentials: OsLogin | StaticKey | None = None

    def __call__(self, facts: InstanceFacts, runbook: str) -> Sequence[SessionExecutor | RequestExecutor]:
        """Return ssh, osconfig, or both (``auto``), as :func:`logmend.stages.decide.executors` says."""
        return [
            self._ssh if way is ExecutorChoice.SSH else self._osconfig
            for way in decide.executors(facts, self._policies.of(runbook))
        ]

    def agent(self, name: str | None) -> RequestExecutor | None:
        """Return osconfig, if work was handed over to it: also after ``EXECUTOR`` was set to another."""
        return self._osconfig if name == ExecutorChoice.OSCONFIG else None

    async def aclose(self) -> None:
        """Delete the key that OS Login was given, if one was, and close connections."""
        if self._credentials is not None:
            await self._credentials.aclose()
        if "_osconfig" in self.__dict__:
            await self._osconfig.aclose()

    @functools.cached_property
    def _ssh(self) -> SessionExecutor:
        from logmend.adapters.google.access_token import AccessToken
        from logmend.adapters.ssh.executor import SshExecutor

        settings, token, contacts = self._settings, AccessToken(), Contacts(self._store)
        self._credentials = open_credentials(settings, self._clock, token, contacts)
        return SshExecutor(
            self._credentials,
            open_host_keys(settings, self._clock, self._compute, contacts),
            open_route(settings, token),
            self._clock,
            port=settings.ssh_port,
            deadline=settings.attempt_deadline,
        )

    @functools.cached_property
    def _osconfig(self) -> "OsConfigExecutor":
        from logmend.adapters.google.osconfig import OsConfigExecutor

        settings = self._settings
        return OsConfigExecutor(
            self._compute, settings.exempt_label, self._runbooks, settings.osconfig_endpoint
        )


def open_compute(settings: Settings) -> "ComputeApi":
    """Open the Compute API; connects when first asked."""
    from logmend.adapters.google.compute import ComputeApi

    return ComputeApi(settings.compute_endpoint, reads=settings.compute_reads)


def open_host_keys(settings: Settings, clock: Clock, compute: "ComputeApi", contacts: Contacts) -> "HostKeys":
    """Return the source of VMs' host keys."""
    from logmend.adapters.ssh import host_keys

    kind, _, where = settings.ssh_host_keys.partition(":")
    published = host_keys.PublishedHostKeys(compute)
    match kind:
        case "published":
            return published
        case "known-hosts":
            return host_keys.KnownHostsFile(Path(where), port=settings.ssh_port)
        case "insecure":
            return host_keys.Insecure()
        case _:
            may_pin = kind == "pinned" or settings.ssh_route is SshRoute.IAP
            return host_keys.PinnedHostKeys(published, contacts, clock, first_contact=may_pin)


def open_credentials(
    settings: Settings, clock: Clock, token: "AccessToken", contacts: Contacts
) -> "OsLogin | StaticKey":
    """Return the static key if one is set, else OS Login's short-lived credentials."""
    if settings.ssh_key is not None and settings.ssh_user is not None:
        from logmend.adapters.ssh.credential import StaticKey

        return StaticKey(settings.ssh_key, settings.ssh_user)
    from logmend.adapters.google import oslogin, oslogin_api, rest

    api = oslogin_api.OsLoginApi(rest.Rest(settings.oslogin_endpoint or oslogin_api.ENDPOINT))
    account = settings.service_account or token.account
    return oslogin.OsLogin(api, account, clock, contacts=contacts, import_keys=settings.ssh_import_keys)


def open_route(settings: Settings, token: "AccessToken") -> "Route":
    """Return the way to VMs: direct, or through IAP."""
    from logmend.adapters.ssh import routes

    if settings.ssh_route is SshRoute.DIRECT:
        return routes.Direct(settings.ssh_address)
    return routes.Iap(token, url=settings.iap_endpoint)
