"""Where events to replay come from: a file, a Logging query, an earlier outcome, a pull subscription."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.struct import replace
from logmend.settings import Settings
from logmend.stages import decode
from logmend_cli import inputs
from logmend_cli.errors import warn
from logmend_cli.replay.events import Replayable, of_document, of_message, of_record

if TYPE_CHECKING:
    from logmend.adapters.google.pubsub import Subscription
    from logmend.model.state import Record
    from logmend.wiring import Application

HOLD = 10
"""Seconds for which a pulled message is held, extended while this process lives: after its death, the message
comes again this soon."""
RENEW = 3.0
WAIT = 3.0
EMPTY_PULLS = 2
"""A subscription counts as empty after this many pulls in a row that find nothing."""
_CHUNK = 500

_OUTCOME_ID = re.compile(r"(?P<intent>.+)-[0-9]{1,9}-[a-z_]+")


class EventSource(Protocol):
    """Gives events, and is told once one may be removed from its origin."""

    def events(self) -> AsyncIterator[Replayable]:
        """Return every event once."""
        ...

    async def settled(self, each: Replayable) -> None:
        """Note that an event is published again or has its intent or outcome."""
        ...

    async def aclose(self) -> None:
        """Hand back events that were not settled."""
        ...


class _Unpulled:
    async def settled(self, each: Replayable) -> None:
        """Do nothing: the original stays where it is."""

    async def aclose(self) -> None:
        """Do nothing: no event is held."""


class FileSource(_Unpulled):
    """A file of messages or entries in any shape; ``-`` is standard input."""

    def __init__(self, file: str) -> None:
        self._file = file

    async def events(self) -> AsyncIterator[Replayable]:
        """Yield the file's documents."""
        for found in inputs.documents(self._file):
            yield of_document(found.where, found.delivery, found.event, found.payload)


class QuerySource(_Unpulled):
    """Entries that a Logging query selects."""

    def __init__(self, settings: Settings, resources: Sequence[str], where: str) -> None:
        from logmend.adapters.google.log_entries import LogEntries

        self._logs = LogEntries(
            settings.logging_endpoint, waiting=lambda seconds, why: warn(f"{why}: waiting {seconds:g} s")
        )
        self._resources = resources
        self._where = where

    async def events(self) -> AsyncIterator[Replayable]:
        """Yield the entries, newest first."""
        number = 0
        async for page in self._logs.pages(self._resources, self._where, newest_first=True):
            for entry in page:
                number += 1
                yield of_document(f"entry {number}", None, decode.document(entry), entry)

    async def aclose(self) -> None:
        """Close connections."""
        await self._logs.aclose()


class OutcomeSource(_Unpulled):
    """The event of an earlier outcome: its entry, which the ledger knows how to find."""

    def __init__(self, app: "Application", outcome_id: str, *, order: bool) -> None:
        self._app = app
        self._outcome_id = outcome_id
        self._order = order

    async def events(self) -> AsyncIterator[Replayable]:
        """Yield the one event; to order it, which needs no entry, from the ledger alone."""
        record = await self._record()
        source = record.intent.source
        if self._order:
            yield of_record(self._outcome_id, record)
            return
        if source.kind != "log_entry" or source.log_name is None or source.insert_id is None:
            nowhere = (
                f"{self._outcome_id}: came from {source.kind}, which is kept nowhere to be fetched from;"
                " --allow-stale requests the same for the same VM again, under your name"
            )
            raise ConfigError([nowhere])
        parts = [f"logName = {_quoted(source.log_name)}", f"insertId = {_quoted(source.insert_id)}"]
        if source.timestamp is not None:
            parts.append(f'timestamp = "{source.timestamp.isoformat().replace("+00:00", "Z")}"')
        query = QuerySource(self._app.settings, [source.log_name.partition("/logs/")[0]], " AND ".join(parts))
        try:
            async for each in query.events():
                yield replace(each, original=record.intent.message_id or each.original)
                return
        finally:
            await query.aclose()
        raise ConfigError(
            [f"{self._outcome_id}: its entry is no longer in Cloud Logging; --allow-stale needs none"]
        )

    async def _record(self) -> "Record":
        given = _OUTCOME_ID.fullmatch(self._outcome_id)
        names = (given["intent"] if given else "", self._outcome_id, f"m-{self._outcome_id}")
        for name in filter(None, names):
            if (found := await self._app.journal.record(name)) is not None:
                return found
        unknown = (
            f"{self._outcome_id}: not in the ledger, which knows what became an intent, for 32 days; give the"
            " outcome_id, intent_id or message_id of an outcome, or replay its entry with --filter"
        )
        raise ConfigError([unknown])


class PulledSource:
    """A pull subscription. Messages are held while they are dealt with, and otherwise handed back."""

    def __init__(self, subscription: "Subscription", name: str, *, batch: int, stop: asyncio.Event) -> None:
        self._subscription = subscription
        self._name = name
        self._batch = batch
        self._stop = stop
        self._held: dict[str, str] = {}
        self._settled: set[str] = set()
        self._keeping: asyncio.Task[None] | None = None

    async def events(self) -> AsyncIterator[Replayable]:
        """Pull until nothing comes, or it is stopped. A message that comes again is not yielded again."""
        self._keeping = asyncio.create_task(self._keep())
        empty = 0
        while empty < EMPTY_PULLS and not self._stop.is_set():
            pulled = await self._subscription.pull(self._batch, wait=WAIT)
            empty = 0 if pulled else empty + 1
            fresh: list[Replayable] = []
            again: list[str] = []
            for each in pulled:
                message = of_message(each, self._name)
                if message.key in self._settled:
                    again.append(each.ack_id)
                    continue
                if message.key not in self._held:
                    fresh.append(message)
                self._held[message.key] = each.ack_id
            await self._subscription.acknowledge(again)
            await self._extend([each.ack_id for each in fresh if each.ack_id], HOLD)
            empty = empty if fresh or again else empty + 1
            for message in fresh:
                yield message

    async def settled(self, each: Replayable) -> None:
        """Acknowledge a message that is published or in the ledger."""
        ack_id = self._held.get(each.key, each.ack_id)
        assert ack_id is not None
        await self._subscription.acknowledge([ack_id])
        self._settled.add(each.key)
        self._held.pop(each.key, None)

    async def aclose(self) -> None:
        """Hand back at once what is still held."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        try:
            await self._extend(list(self._held.values()), 0)
        except (Transient, Permanent) as error:
            warn(f"what is left comes again within {HOLD} s: {error}")
        await self._subscription.aclose()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            try:
                await self._extend(list(self._held.values()), HOLD)
            except (Transient, Permanent) as error:  # if so, a message comes again, and is recognised
                warn(f"cannot hold messages: {error}")

    async def _extend(self, ack_ids: Sequence[str], seconds: int) -> None:
        for start in range(0, len(ack_ids), _CHUNK):
            await self._subscription.extend(ack_ids[start : start + _CHUNK], seconds)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
