"""Which entries of an export are certainly not what any runbook is about, by a look at their text.

Most of an export is other programs' lines. Such a line is parsed only as far as to know that it is a log
entry; what no filter can select and no runbook's words are in is counted and not read. Everything that is
not certain is read as ever: other shapes, escapes that could spell a word, long or deep entries.
"""

import re
from collections.abc import Callable

import msgspec

from logmend.explain import Rules
from logmend.lql import needles
from logmend.lql.needles import Needle
from logmend.model.values import log_id_of
from logmend.stages.decode.payload import MAX_DEPTH
from logmend.stages.match import OWN_LOG_IDS
from logmend_cli.inputs import Passing

LOGS = 1_000
"""Names of logs that are remembered."""
EVERY = 1_000
"""Entries after which progress is told."""

_Never = msgspec.UnsetType
_SPELLED = re.compile(r"\\u00(?!2[267fF]|3[c-eC-E]|5[cC])[2-7]")
"""An escape of a character that may be part of a needle."""
_FOLDS = re.compile(r"\\u(?!00(?:[01]|2[267fF]|3[c-eC-E]|5[cC]))")
"""An escape of a character that may be folded into such a one."""


class _Object(msgspec.Struct, frozen=True):
    """Any JSON object."""


class _Head(msgspec.Struct, frozen=True):
    """A LogEntry as Google's own tools print it. What is there has this type; other shapes are for decode."""

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
_WRONG = (msgspec.MsgspecError, ValueError, RecursionError)


class Sieve(Passing):
    """Passes entries that are nothing to any runbook. ``more`` is told how many, now and then."""

    def __init__(self, rules: Rules, more: Callable[[int], None] = lambda _count: None) -> None:
        self._rules = rules
        self._more = more
        self._by_log: dict[str, tuple[tuple[str, ...], tuple[str, ...]] | None] = {}

    def __call__(self, text: str) -> bool:
        """Return whether this is a log entry that no filter selects and in which no runbook's words are."""
        try:
            log_name = _HEAD.decode(text).logName
        except _WRONG:
            return False
        try:
            looked_for = self._by_log[log_name]
        except KeyError:
            looked_for = self._looked_for(log_name)
        if looked_for is None or text.count("{") + text.count("[") > MAX_DEPTH:
            return False
        exact, folded = looked_for
        for each in exact:
            if each in text:
                return False
        if "\\" in text and _SPELLED.search(text):
            return False
        if folded:
            if not text.isascii() or _FOLDS.search(text):
                return False
            lower = text.lower()
            if any(each in lower for each in folded):
                return False
        self.passed += 1
        if not self.passed % EVERY:
            self._more(EVERY)
        return True

    def _looked_for(self, log_name: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Return what is looked for in an entry of a log, with and without regard to case; None: read it."""
        if len(self._by_log) >= LOGS:
            self._by_log.clear()
        found, looked_for = _needles(self._rules, log_name), None
        if found is not None:
            folded = tuple(each.text for each in found if each.folded)
            looked_for = tuple(each.text for each in found if not each.folded), folded
        self._by_log[log_name] = looked_for
        return looked_for


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
