"""What a storm writes to Firestore, counted against Google's limits, which no emulator has.

The pipeline and its ledger are real, the VMs and the clock are not: the benchmark counts writes and times
nothing. A document counts under the name and in the work-list range that the Firestore store would give it.

Limits (https://firebase.google.com/docs/firestore/quotas and …/solutions/shard-timestamp, 2026-11): a
document takes one sustained write a second; an indexed field that rises with time takes 500 a second. For
document names that rise, Google gives no number (…/best-practices); 500 is assumed for them, too.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from tests.fakes import FakeFleet, ManualClock, entry, push, world

from bench.figures import Figure, plain
from logmend.adapters.stores import documents, spread
from logmend.adapters.stores.memory import MemoryStore
from logmend.model.enums import Mode
from logmend.model.values import InstanceRef
from logmend.ports import Document, Key, Step, T
from logmend.settings import Budget

BENCH = "ceilings"
GAINS = "Firestore takes what a storm of 100,000 VMs writes."
FLEET, SPAN = 100_000, 600
"""So many VMs complain within so many seconds."""
SECONDS = 30
"""Length, in seconds, of the run at that rate, for the figures that depend on the rate."""
FEWER = 10
"""Divides the VMs in the run over the whole span, for the figures that depend on the budget alone."""
LINES = 3
"""Lines of each VM: two log paths, and one that was already on its way."""
OF_A_DOCUMENT, OF_A_RANGE = 1, 500
"""Google's limits, in writes a second."""
STORMS: tuple[tuple[str, Mode, Budget], ...] = (
    ("observe", Mode.OBSERVE, Budget(20, timedelta(minutes=10))),
    ("enforce, 1,500 in 10 minutes", Mode.ENFORCE, Budget(1_500, timedelta(minutes=10))),
)


class Range:
    """Writes to a range, and how many of its new members came after all existing ones."""

    def __init__(self) -> None:
        self.writes = self.new = self.behind = 0
        self._last: tuple[object, ...] = ()

    def add(self, place: tuple[object, ...], *, new: bool) -> None:
        """Count a write."""
        self.writes += 1
        if new:
            self.new += 1
            self.behind += not self._last or place > self._last
            self._last = max(self._last, place)

    @property
    def rises(self) -> bool:
        """Whether it grows at its end. If names are spread evenly, a new one almost never comes last."""
        return self.new > 50 and self.behind > self.new / 2


class Counting(MemoryStore):
    """A store that counts what Firestore would have to write."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self.by_document: Counter[Key] = Counter()
        self.by_second: Counter[tuple[Key, int]] = Counter()
        self.names: defaultdict[str, Range] = defaultdict(Range)
        self.unspread: defaultdict[str, Range] = defaultdict(Range)
        self.index: defaultdict[str, Range] = defaultdict(Range)

    async def transact(self, keys: Sequence[Key], step: Step[T]) -> T:
        """See :meth:`logmend.ports.Store.transact`."""

        def counted(found: Mapping[Key, Document]) -> tuple[Mapping[Key, Document | None], T]:
            writes, answer = step(found)
            for key, document in writes.items():
                if document is not None or key in found:
                    self._count(key, found.get(key), document)
            return writes, answer

        return await super().transact(keys, counted)

    def _count(self, key: Key, was: Document | None, now: Document | None) -> None:
        collection, name = key
        self.by_document[key] += 1
        self.by_second[key, int(self._clock.now().timestamp())] += 1
        stored = spread.name(collection, name)
        part = stored[:3] if spread.is_spread(stored) else ""
        self.names[f"{collection}~{part}"].add((stored,), new=was is None)
        self.unspread[collection].add((documents.stored_id(name),), new=was is None)
        before = (was.queue, was.due) if was else (None, None)
        if now is not None and now.queue is not None and (now.queue, now.due) != before:
            self.index[f"{collection}, {now.queue}~{spread.number(name)}"].add((now.due, stored), new=True)


def measure() -> Iterator[Figure]:
    """Play each storm and compare it with the limits."""
    for name, mode, budget in STORMS:
        yield from _ranges(f"{name}: ", asyncio.run(_storm(mode, budget, FLEET / SPAN, SECONDS, LINES)))
        yield from _documents(f"{name}: ", asyncio.run(_storm(mode, budget, FLEET / SPAN / FEWER, SPAN, 1)))


def _ranges(of: str, store: Counting) -> Iterator[Figure]:
    for what, ranges in (("names of ", store.names), ("index of ", store.index)):
        most: dict[str, float] = {}
        for name, each in ranges.items():
            if each.rises:
                kind = name.partition("~")[0]
                most[kind] = max(most.get(kind, 0), each.writes / SECONDS)
        for kind, rate in sorted(most.items()):
            yield _figure(f"{of}the fullest rising range, {what}{kind}", f"{rate:,.0f}", OF_A_RANGE, rate)
    for collection in sorted(spread.COLLECTIONS):
        rate = store.unspread[collection].writes / SECONDS
        yield plain(BENCH, f"{of}names of {collection}, were they not spread", f"{rate:,.0f} a second")
    every = store.by_document.total() / SECONDS
    yield plain(BENCH, f"{of}all writes", f"{every:,.0f} a second")
    (hot, _), burst = store.by_second.most_common(1)[0]
    yield plain(BENCH, f"{of}the fullest second of any document", f"{burst} writes", note=hot[0])


def _documents(of: str, store: Counting) -> Iterator[Figure]:
    hottest: dict[str, float] = {}
    for (collection, _), writes in store.by_document.items():
        hottest[collection] = max(hottest.get(collection, 0), writes / SPAN)
    for collection, rate in sorted(hottest.items()):
        measure = f"{of}the hottest document of {collection}, over 10 minutes"
        yield _figure(measure, f"{rate:,.2f}", OF_A_DOCUMENT, rate)


def _figure(measure: str, rate: str, limit: int, value: float) -> Figure:
    return plain(BENCH, measure, f"{rate} a second", aim=f"≤ {limit} a second", met=value <= limit)


async def _storm(mode: Mode, budget: Budget, rate: float, seconds: int, lines: int) -> Counting:
    clock, chance = ManualClock(), random.Random(1)  # noqa: S311  it can be repeated
    store, fleet = Counting(clock), FakeFleet(clock)
    around = world(store=store, clock=clock, fleet=fleet, mode=mode, disruption_budget=budget)
    for number in range(round(rate * seconds)):
        zone, instance_id = f"us-west1-{'abc'[number % 3]}", str(chance.randrange(10**17, 10**19))
        ref = InstanceRef("demo-project", zone, instance_id)
        fleet.add(ref)
        for each in range(lines):
            message_id = str(10**16 + number * lines + each)
            await around.deliver(push(entry(ref, at=clock.now()), message_id, at=clock.now()))
        around.outcomes.written.clear()
        clock.tick(seconds=1 / rate)
    return store
