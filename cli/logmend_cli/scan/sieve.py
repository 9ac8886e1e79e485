"""Decide by their text which entries of an export certainly concern no runbook.

Most of an export is other programs' lines. Such a line is parsed only far enough to know that it is a log
entry; if no filter can select it and it has no runbook's words, it is counted and not read. Everything
uncertain is read as usual: other shapes, escapes that could spell a word, long or deep entries.
"""

import re
from collections.abc import Callable, Iterable

import msgspec

from logmend.explain import Rules
from logmend.lql import needles
from logmend.lql.needles import Needle
from logmend.model.values import log_id_of
from logmend.stages.decode.payload import MAX_DEPTH
from logmend.stages.decode.stream import SHORT, Passing
from logmend.stages.match import OWN_LOG_IDS

LOGS = 1_000
"""Most log names that are remembered."""
ROW = SHORT
"""Characters of entries that are examined together."""
EVERY = 1_000
"""Entries between progress updates."""

_Never = msgspec.UnsetType
_SPELLED = re.compile(r"\\u00(?!2[267fF]|3[c-eC-E]|5[cC])[2-7]")
"""An escape of a character that may be part of a needle."""
_FOLDS = re.compile(r"\\u(?!00(?:[01]|2[267fF]|3[c-eC-E]|5[cC]))")
"""An escape of a character that case folding may turn into such a character."""


class _Object(msgspec.Struct, frozen=True):
    """Any JSON object."""


class _Head(msgspec.Struct, frozen=True):
    """A LogEntry as Google's own tools print it. Present fields have these types; decode reads others."""

    logName: str  # noqa: N815
    insertId: str = ""  # noqa: N815
    textPayload: str = ""  # noqa: N815
    timestamp: str = ""
    receiveTimestamp: str = ""  # noqa: N815
    severity: str = ""
    resource: _Object | _Never = msgspec.UNSET
    labels: _Object | _Never = msgspec.UNSET
    jsonPayload: _Object | _Never = msgspec.UNSET  # noqa: N815
    protoPayload: _Object | _Never = msgspec.UNSET  # noqa: N815
    httpRequest: _Object | _Never = msgspec.UNSET  # noqa: N815
    operation: _Object | _Never = msgspec.UNSET
    sourceLocation: _Object | _Never = msgspec.UNSET  # noqa: N815
    message: _Never = msgspec.UNSET
    data: _Never = msgspec.UNSET
    metadata: _Never = msgspec.UNSET
    specversion: _Never = msgspec.UNSET
    incident: _Never = msgspec.UNSET
    logmend: _Never = msgspec.UNSET


_HEAD = msgspec.json.Decoder(_Head)
_HEADS = msgspec.json.Decoder(list[_Head])
_WRONG = (msgspec.MsgspecError, ValueError, RecursionError)


_Texts = tuple[str, ...]
_LookedFor = tuple[_Texts, _Texts]
"""The texts to look for: case-sensitive, and case-insensitive."""


class Sieve(Passing):
    """Passes entries that concern no runbook. ``more`` is called with their number from time to time."""

    def __init__(self, rules: Rules, more: Callable[[int], None] = lambda _count: None) -> None:
        self._rules = rules
        self._more = more
        self._by_log: dict[str, _LookedFor | None] = {}
        self._distinct: dict[_LookedFor, _LookedFor] = {}
        self._latest: _Texts = ()

    def one(self, text: str) -> bool:
        """Return whether this is a log entry that no filter selects and that has no runbook's words."""
        if _any_in(self._latest, text):  # whatever the log
            return False
        try:
            log_name = _HEAD.decode(text).logName
        except _WRONG:
            return False
        if not self._nothing_in(text, (log_name,)) or _openings(text) > MAX_DEPTH:
            return False
        self._count(1)
        return True

    def row(self, text: str, start: int, joint: str) -> int:
        """Return where the last such entry ends: parsing them together takes half the time."""
        end = start + ROW
        for each in self._latest:
            found = text.find(each, start, end)
            end = end if found < 0 else found
        end = text.rfind(joint, start, end)
        if end < 0:
            return start
        end += joint.index("}") + 1
        row = text[start:end]
        try:
            heads = _HEAD.decode_lines(row) if "," not in joint else _HEADS.decode(f"[{row}]")
        except _WRONG:
            return start
        if _openings(row) > MAX_DEPTH or not self._nothing_in(row, {head.logName for head in heads}):
            return start
        self._count(len(heads))
        return end

    def _nothing_in(self, text: str, logs: Iterable[str]) -> bool:
        """Return whether a text has nothing that is looked for in entries of these logs."""
        by_log = self._by_log
        for looked_for in {by_log[each] if each in by_log else self._looked_for(each) for each in logs}:
            if looked_for is None:
                return False
            exact, folded = looked_for
            if exact is not self._latest:
                self._latest = exact
                if _any_in(exact, text):
                    return False
            if folded and (not text.isascii() or _FOLDS.search(text) or _any_in(folded, text.lower())):
                return False
        return "\\" not in text or _SPELLED.search(text) is None

    def _count(self, passed: int) -> None:
        before = self.passed // EVERY
        self.passed += passed
        if self.passed // EVERY != before:
            self._more(EVERY)

    def _looked_for(self, log_name: str) -> _LookedFor | None:
        """Return what to look for in entries of a log; None: read them."""
        if len(self._by_log) >= LOGS:
            self._by_log.clear()
        found, looked_for = _needles(self._rules, log_name), None
        if found is not None:
            folded = tuple(each.text for each in found if each.folded)
            looked_for = tuple(each.text for each in found if not each.folded), folded
            looked_for = self._distinct.setdefault(looked_for, looked_for)
        self._by_log[log_name] = looked_for
        return looked_for


def _any_in(looked_for: _Texts, text: str) -> bool:
    for each in looked_for:  # noqa: SIM110  a generator costs as much as a look
        if each in text:
            return True
    return False


def _openings(text: str) -> int:
    """Return how many objects and arrays a text may open: it nests no deeper."""
    return text.count("{") + text.count("[")


def _needles(rules: Rules, log_name: str) -> tuple[Needle, ...] | None:
    if log_id_of(log_name) in OWN_LOG_IDS:
        return None
    every = []
    for runbook, selects in rules.filters:
        selected = needles.of_filter(selects.root, log_name)
        words = [needles.run(word) for word in runbook.words]
        if selected is None or None in words:
            return None
        every += [selected, frozenset(Needle(word) for word in words if word is not None)]
    return needles.together(every)
