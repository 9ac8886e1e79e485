"""What the pipeline needs of the world: one protocol per port. Implementations live in ``adapters``.

Every method raises :class:`~logmend.errors.Transient` or :class:`~logmend.errors.Permanent` and nothing
else on purpose; times are aware UTC datetimes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable

from logmend.model.enums import Action
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.model.values import (
    Asked,
    Attempt,
    Delivery,
    Diagnosis,
    Evidence,
    Group,
    InstanceFacts,
    InstanceRef,
    Login,
    Outcome,
)
from logmend.runbook import Runbook

T = TypeVar("T")


class Clock(Protocol):
    """The time. A port, so that a day passes in a test without waiting for it."""

    def now(self) -> datetime:
        """Return the time now, aware, in UTC."""
        ...


# The store beneath the ledger

Key = tuple[str, str]
"""Collection and document id. Ids hold no ``/``."""


STOP = "stop"
"""Key of what a person put into a document beside logmend, if the store lets them: ``why`` and ``at``."""


class Document(Struct, frozen=True):
    """One stored document: JSON data, and the three fields that a store indexes.

    ``queue`` and ``due`` put it on a work list (both or neither); after ``expire_at`` a store may delete
    it, whenever it gets round to it.
    """

    data: JsonObject
    queue: str | None = None
    due: datetime | None = None
    expire_at: datetime | None = None


Step = Callable[[Mapping[Key, Document]], tuple[Mapping[Key, Document | None], T]]
"""A pure step of a transaction: documents that exist → (documents to write, None deletes) and an answer.

It may be called more than once for one transaction."""


class Store(Protocol):
    """A transactional document store, small enough to be a dict, SQLite or Firestore.

    Guarantees: :meth:`transact` is serialisable; what it wrote is there for every later call of every
    process. Not guaranteed: that :meth:`due` and :meth:`scan` see one moment; check again in a transaction.
    """

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        """Read ``keys``, run ``step``, write what it says if nothing of that changed meanwhile, else retry.

        ``step`` may write only documents named in ``keys``. Contention that outlasts the retries is
        ``Transient("ledger_contention")``, an unreachable store ``Transient("ledger_unavailable")``.
        """
        ...

    async def get(self, keys: Sequence[Key]) -> Mapping[Key, Document]:
        """Read the documents that exist."""
        ...

    async def read_ahead(self, keys: Sequence[Key]) -> None:
        """Let the store read, while its caller waits for something else, what a transaction will ask for.

        It saves that transaction time, or does nothing; it raises nothing, and promises nothing.
        """
        ...

    async def due(
        self, collection: str, queue: str, before: datetime, limit: int
    ) -> Sequence[tuple[str, Document]]:
        """Ids and documents of ``queue`` with ``due`` at or before ``before``, earliest first."""
        ...

    async def scan(self, collection: str, after: str | None, limit: int) -> Sequence[tuple[str, Document]]:
        """One page of a collection in order of id, from behind ``after``; the last alone is not full."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


# Compute Engine


class Compute(Protocol):
    """Facts of VMs and their labels."""

    async def facts(self, ref: InstanceRef) -> InstanceFacts:
        """Look a VM up by its numeric id.

        ``Permanent("instance_gone")`` for 404, ``Permanent("opt_in_unknown", …)`` if the answer is
        forbidden, ``Transient`` for 429, 5xx and no answer. The id in the answer is checked against ``ref``.
        """
        ...

    async def group(self, path: str, project_id: str) -> Group | None:
        """Look up a managed instance group, as its VMs name it (``created-by``), as of half a minute ago.

        None if it cannot be known: it is not there, or may not be read. ``Transient`` for 429, 5xx and no
        answer. ``project_id`` is the VM's, whose quota the look-up takes.
        """
        ...

    async def set_label(self, facts: InstanceFacts, key: str, value: str | None) -> None:
        """Set or remove (None) one label by compare-and-swap, keeping labels that others changed."""
        ...


# Acting on a VM


class Session(Protocol):
    """One conversation with one VM about one runbook and action."""

    @property
    def login(self) -> Login:
        """How it got in."""
        ...

    async def check(self) -> Evidence:
        """Run the action's read-only ``validate.sh``, unprivileged."""
        ...

    async def enforce(self, mark: str) -> Evidence:
        """Run the action's ``enforce.sh`` as root. What changes anything leaves ``mark`` there.

        ``Permanent`` only if it was never begun (no sudo); whatever else goes wrong is ``Transient``.
        """
        ...

    async def diagnose(self, *, as_root: bool = False) -> Diagnosis:
        """Run the runbook's ``diagnose.sh``, which changes nothing; unprivileged unless ``as_root``."""
        ...


@runtime_checkable
class SessionExecutor(Protocol):
    """Reaches a VM within seconds (ssh)."""

    name: str

    def open(
        self, facts: InstanceFacts, runbook: Runbook, action: Action
    ) -> AbstractAsyncContextManager[Session]:
        """Connect; everything is closed on leaving. ``Action.CHECK`` checks what ``ENFORCE`` would.

        ``Transient("unreachable")`` if nothing answers; ``Permanent`` with ``host_key_mismatch``,
        ``not_permitted``, … if it answers no.
        """
        ...


@runtime_checkable
class RequestExecutor(Protocol):
    """Hands the work to an agent on the VM and reads its report later (osconfig)."""

    name: str

    async def ready(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> None:
        """Raise ``Permanent`` with the first precondition that does not hold (metadata, assignment, …)."""
        ...

    async def request(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> None:
        """Label the VM. Setting the same label twice is one request."""
        ...

    async def prefetch(self, every: Sequence[Asked]) -> None:
        """Read the reports of many requests in as few calls as possible, for :meth:`report` to answer from.

        What could not be read is left out; :meth:`report` then says why.
        """
        ...

    async def report(self, asked: Asked) -> Attempt | None:
        """Return what the agent reported since it was asked, or None if it has not reported yet."""
        ...

    async def withdraw(self, ref: InstanceRef, runbook: str) -> None:
        """Remove the label. Nothing to remove, or no VM to remove it from, is fine."""
        ...


class Executors(Protocol):
    """Which executors may serve a VM."""

    def __call__(self, facts: InstanceFacts, runbook: str) -> Sequence[SessionExecutor | RequestExecutor]:
        """Return them for this runbook, in the order in which they are to be tried."""
        ...

    def agent(self, name: str | None) -> RequestExecutor | None:
        """Return the executor of that name if it works by request, to read what came of one."""
        ...

    async def aclose(self) -> None:
        """Release what they hold."""
        ...


# What leaves


class OutcomeLog(Protocol):
    """Where outcomes are recorded."""

    async def write(self, outcome: Outcome) -> None:
        """Record; writing the same outcome again leaves one entry (same timestamp and insertId)."""
        ...

    async def aclose(self) -> None:
        """Flush and release."""
        ...


class OutcomeFeed(Protocol):
    """Where final outcomes are handed on to others, after they were recorded."""

    async def publish(self, outcome: Outcome) -> bool:
        """Hand it on within seconds, and raise nothing; False if it is to be tried again later.

        True is also the answer if trying again cannot help (no such topic, not permitted): that is told, and
        the outcome is not handed on.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class DeadLetter(Protocol):
    """Where bodies go that can never be decoded."""

    async def publish(self, body: bytes, delivery: Delivery, reason: str) -> None:
        """Keep a copy with its reason in the attributes ``logmend_reason`` and ``logmend_message_id``."""
        ...
