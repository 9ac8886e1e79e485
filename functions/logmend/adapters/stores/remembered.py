"""Documents that this process knows from its own commits, or has read ahead of one.

Often nobody else has written them since. Only a commit on condition that all of them are still so may go by
this. What is remembered is true of the version that it has, so that Firestore itself tells whether it still
holds.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from logmend.ports import Key

if TYPE_CHECKING:
    from logmend.adapters.stores.firestore_documents import Stored

KEPT = 500
"""Documents that are remembered, the latest ones."""
REST = 50
"""Times that a collection is read first or ahead, after others were found to have written there as well."""

FRESH = 0.5
"""Seconds for which a commit goes by what was read ahead, whoever else writes there.

If another commit came first, it is read and done again, by one call more than without. At the one write a
second that a document takes for long, that happens to less than half of what is half a second old."""


class Remembered:
    """Remembers documents with their versions. Moments are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Stored] = OrderedDict()
        self._fresh: dict[Key, float] = {}
        self._rests: Counter[str] = Counter()

    def of(self, keys: Sequence[Key], now: float) -> "dict[Key, Stored] | None":
        """Return the documents as they are remembered; None if any has to be read."""
        return None if self.missing(keys, now) else {key: self._known[key] for key in keys}

    def missing(self, keys: Sequence[Key], now: float) -> list[Key]:
        """Name what has to be read: what is not known, and what others write too, unless read just now."""
        old = [key for key in keys if key not in self._fresh or self._fresh[key] < now]
        resting = {key[0] for key in old if self._rests[key[0]] > 0}
        self._rests.subtract(resting)
        return [key for key in keys if key not in self._known or (key[0] in resting and key in old)]

    def keep(self, documents: "Mapping[Key, Stored]", *, read_at: float | None = None) -> None:
        """Remember what was read ahead, or what a commit has written or found unchanged.

        Answers may come in another order.
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
        """Forget what is about to be written: what becomes of it is not known before the answer."""
        for key in keys:
            self._known.pop(key, None)
            self._fresh.pop(key, None)

    def corrected(self, known: "Mapping[Key, Stored]", read: "Mapping[Key, Stored]") -> None:
        """Learn which documents others have changed: what is written by many is read first for a while."""
        stale = [
            key for key, stored in known.items() if key not in read or read[key].version != stored.version
        ]
        self.forget(stale)
        self._rests.update({key[0]: REST for key in stale if self._rests[key[0]] <= 0})
