"""Documents that this process knows from its own commits, or has read ahead of a commit.

Often no other process has written them since. They may be used only for a commit on condition that none of
them has changed: each is remembered with its version, so Firestore itself can tell whether it is current.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from logmend.ports import Key

if TYPE_CHECKING:
    from logmend.adapters.stores.firestore_documents import Stored

KEPT = 500
"""How many documents are remembered: the latest ones."""
REST = 50
"""How many times a collection is read first or ahead after another process was found to write there."""

FRESH = 0.5
"""Seconds for which a commit relies on what was read ahead, even if others write there.

If another commit came first, the documents are read and the step is repeated, at the cost of one extra call.
A document sustains one write a second, so that happens to fewer than half of those read half a second ago."""


class Remembered:
    """Remembers documents with their versions. Times are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Stored] = OrderedDict()
        self._fresh: dict[Key, float] = {}
        self._rests: Counter[str] = Counter()

    def of(self, keys: Sequence[Key], now: float) -> "dict[Key, Stored] | None":
        """Return the remembered documents; None if any has to be read."""
        return None if self.missing(keys, now) else {key: self._known[key] for key in keys}

    def missing(self, keys: Sequence[Key], now: float) -> list[Key]:
        """Return the keys to read: unknown ones, and those that others write too, unless just read."""
        old = [key for key in keys if key not in self._fresh or self._fresh[key] < now]
        resting = {key[0] for key in old if self._rests[key[0]] > 0}
        self._rests.subtract(resting)
        return [key for key in keys if key not in self._known or (key[0] in resting and key in old)]

    def keep(self, documents: "Mapping[Key, Stored]", *, read_at: float | None = None) -> None:
        """Remember documents that were read ahead, or that a commit wrote or found unchanged.

        Answers may arrive out of order, so an older version never replaces a newer one.
        """
        for key, stored in documents.items():
            if key not in self._known or self._known[key].version < stored.version:
                self._known[key] = stored
            self._known.move_to_end(key)
            if read_at is not None:
                self._fresh[key] = read_at + FRESH
        while len(self._known) > KEPT:
            key, _ = self._known.popitem(last=False)
            self._fresh.pop(key, None)

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget what is about to be written: its state is unknown until the answer comes."""
        for key in keys:
            self._known.pop(key, None)
            self._fresh.pop(key, None)

    def corrected(self, known: "Mapping[Key, Stored]", read: "Mapping[Key, Stored]") -> None:
        """Forget documents that others have changed, and for a while read their collections first."""
        stale = [
            key for key, stored in known.items() if key not in read or read[key].version != stored.version
        ]
        self.forget(stale)
        self._rests.update({key[0]: REST for key in stale if self._rests[key[0]] <= 0})
