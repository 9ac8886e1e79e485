"""How a tick works through one list: page after page, many items at once, until it is empty or time is up."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Generic, TypeVar

from logmend.errors import Permanent
from logmend.ledger.queues import Unreadable
from logmend.model.state import Acts, Approval, Record, Repeats, Subject
from logmend.model.struct import Struct
from logmend.ports import Clock
from logmend.tick.tally import Tally

_Item = Record | Subject | Acts | Approval | Repeats
T = TypeVar("T", Record, Subject, Acts, Approval, Repeats)
Due = Callable[[datetime, int, Unreadable], Awaitable[Sequence[T]]]
"""What is due by a time: at most so many, oldest first; what cannot be read is told."""

PAGE = 100
ALL = 10_000
"""Requests whose reports are read together: most of a report's cost is the call."""
CONCURRENCY = 16
"""Intents of a tick at work at once: enough to hide the network, few enough for one instance."""


class Drain(Struct, frozen=True):
    """Works through lists of what is due; none is begun or gone on with after ``until`` (monotonic)."""

    clock: Clock
    tally: Tally
    until: float

    async def __call__(
        self,
        due: Due[T],
        work: Callable[[T], Awaitable[None]],
        *,
        page: int = PAGE,
        prepare: Callable[[Sequence[T]], Awaitable[None]] | None = None,
        ahead: timedelta = timedelta(),
        first: Callable[[T], tuple[object, ...]] | None = None,
    ) -> None:
        """Take page after page of what was due when the list was begun; each item once.

        ``prepare`` gets a page before its items are worked on, for what is cheaper asked of many at once;
        ``ahead`` takes what falls due by then as well. ``first`` is what a page is sorted by: items
        with another first part of it do not overlap, the others begin in order. No two of a VM and runbook
        overlap.
        """
        pages = _Pages(due, self.clock.now() + ahead, page, self.tally)
        vms, at_once = defaultdict[str, asyncio.Lock](asyncio.Lock), asyncio.Semaphore(CONCURRENCY)

        async def one(item: T) -> None:
            async with vms[_vm(item)], at_once:
                if time.monotonic() > self.until:
                    self.tally.left = True
                    return
                await self.tally.alone(_name(item), work(item))

        while not self.tally.left and (items := await pages.another()):
            if prepare is not None:
                await self._prepare(prepare, items)
            for rank in [items] if first is None else _ranks(items, first):
                await asyncio.gather(*map(one, rank))

    async def _prepare(self, prepare: Callable[[Sequence[T]], Awaitable[None]], items: Sequence[T]) -> None:
        try:
            async with asyncio.timeout(max(0.0, self.until - time.monotonic())):
                await prepare(items)
        except Exception as error:  # noqa: BLE001  each item then says what it lacks
            self.tally.trouble(f"{len(items)} read ahead", error)


class _Pages(Generic[T]):
    """The pages of a list, without what an earlier page had and what cannot be read."""

    def __init__(
        self,
        due: Due[T],
        now: datetime,
        size: int,
        tally: Tally,
    ) -> None:
        self._due: Due[T] = due
        self._now = now
        self._size = size
        self._tally = tally
        self._seen = set[str]()

    async def another(self) -> Sequence[T]:
        """Return the next page; an empty one ends the list, as does one that cannot be read."""
        try:
            found = await self._due(self._now, self._size + len(self._seen), self._unreadable)
        except Permanent as error:  # a list without its index, say: the others are read all the same
            self._tally.trouble("a list of what is due", error)
            return ()
        items = [item for item in found if _name(item) not in self._seen]
        self._seen.update(_name(item) for item in items)
        return items

    def _unreadable(self, name: str, error: Permanent) -> None:
        if name not in self._seen:
            self._seen.add(name)
            self._tally.trouble(name, error)


def _ranks(items: Sequence[T], first: Callable[[T], tuple[object, ...]]) -> list[list[T]]:
    """Divide items by the first part of what they are sorted by."""
    return [list(rank) for _, rank in groupby(sorted(items, key=first), key=lambda item: first(item)[0])]


def _vm(item: _Item) -> str:
    match item:
        case Record():
            return f"{item.intent.instance}/{item.intent.runbook}"
        case _:
            return _name(item)


def _name(item: _Item) -> str:
    match item:
        case Record():
            return item.intent.intent_id
        case Subject():
            return f"{item.instance}/{item.runbook}"
        case Repeats():
            return f"{item.instance}/{item.runbook} of day {item.day}"
        case Acts():
            return item.acts_id
        case Approval():
            return item.approval_id
