"""The stored switches of the fleet and of VMs; each change is written together with its record."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from logmend.ledger.documents import (
    FLEET,
    acts_document,
    acts_key,
    fleet_of,
    pack,
    subject_document,
    subject_key,
    unpack,
)
from logmend.model.state import (
    Act,
    By,
    Fleet,
    Subject,
)
from logmend.model.struct import replace
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key, Store


class Switches:
    """Reads switches, and changes them in one transaction with the record of the change."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fleet(self) -> Fleet:
        """Return the switches that apply to every VM."""
        documents = await self._store.get([FLEET])
        return fleet_of(documents)

    async def subject(self, instance: InstanceRef, runbook: str) -> Subject | None:
        """Return one VM's state under a runbook; None if there is none."""
        key = subject_key(instance, runbook)
        documents = await self._store.get([key])
        return unpack(Subject, documents[key]) if documents else None

    async def _change_fleet(
        self, change: Callable[[Fleet], tuple[Fleet, Sequence[Act]]], now: datetime
    ) -> bool:
        """Change the fleet's switches in one transaction; False if nothing changes."""
        acts_at = acts_key(now)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], bool]:
            fleet = fleet_of(documents)
            changed, acts = change(fleet)
            if changed == fleet:
                return {}, False
            return {FLEET: Document(pack(changed))} | recorded(acts_at, acts), True

        return await self._store.transact([FLEET, acts_at], step)

    async def _change_subject(
        self,
        instance: InstanceRef,
        runbook: str,
        change: Callable[[Subject], tuple[Subject, Sequence[Act]]],
        now: datetime,
    ) -> None:
        key, acts_at = subject_key(instance, runbook), acts_key(now)

        def step(documents: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            document = documents.get(key)
            subject = unpack(Subject, document) if document else Subject(instance, runbook)
            changed, acts = change(subject)
            if document is None and changed == subject:
                return {}, None  # no document for a VM without any state
            return {key: written(document, changed)} | recorded(acts_at, acts), None

        await self._store.transact([key, acts_at], step)


def written(document: Document | None, changed: Subject) -> Document:
    """Return the document of a VM whose switches were changed; it stays on its work list."""
    at = changed.frozen.at if changed.frozen else changed.last_at
    listed = document is not None and document.queue is not None
    kept = (document or Document({})) if listed or at is None else subject_document(changed, at)
    return replace(kept, data=pack(changed))


def act_by(
    reason: str, by: By, detail: str, runbook: str | None = None, instance: InstanceRef | None = None
) -> Act:
    """Return the record of what a person did and why."""
    said = f"{detail}: {by.why}" if by.why else detail
    return Act(reason, by.at, by.who, said, runbook, instance)


def recorded(key: Key, acts: Sequence[Act]) -> dict[Key, Document | None]:
    """Return the write that records acts on controls; empty if there are none."""
    return {key: acts_document(key, acts)} if acts else {}
