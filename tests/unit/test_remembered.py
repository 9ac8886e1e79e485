"""What the Firestore store remembers of its commits: the latest, so much, and what others leave alone."""

import pytest

from logmend.adapters.stores import remembered
from logmend.adapters.stores.firestore_documents import Stored
from logmend.adapters.stores.remembered import Remembered
from logmend.ports import Document, Key

ONE: Key = ("intents", "one")
TWO: Key = ("intents", "two")
SHARED: Key = ("samples", "shared")
NOW = 1000.0


def stored(version: int) -> Stored:
    return Stored(Document({"n": version}), (version, 0), "path")


def test_all_or_nothing_is_remembered() -> None:
    """A step sees one moment: what is not known has to be read, and the rest with it."""
    known = Remembered()
    known.keep({ONE: stored(1)})
    assert known.of([ONE], NOW) == {ONE: stored(1)}
    assert known.of([ONE, TWO], NOW) is None


def test_the_latest_version_is_remembered_in_whatever_order_answers_come() -> None:
    """The answer to an earlier commit may come after that to a later one."""
    known = Remembered()
    known.keep({ONE: stored(2)})
    known.keep({ONE: stored(1)})
    assert known.of([ONE], NOW) == {ONE: stored(2)}


def test_what_is_about_to_be_written_is_not_remembered() -> None:
    """If its answer is lost, nobody knows which version it has."""
    known = Remembered()
    known.keep({ONE: stored(1), TWO: stored(1)})
    known.forget([ONE])
    assert known.of([ONE], NOW) is None
    assert known.of([TWO], NOW) == {TWO: stored(1)}


def test_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm does not make it grow: what was used longest ago goes."""
    monkeypatch.setattr(remembered, "KEPT", 2)
    known = Remembered()
    for key in (ONE, TWO, ONE, SHARED):
        known.keep({key: stored(1)})
    assert known.of([TWO], NOW) is None
    assert known.of([ONE, SHARED], NOW) == {ONE: stored(1), SHARED: stored(1)}


def test_where_others_write_is_read_first_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by the version that a read shows; what only this process writes goes on."""
    monkeypatch.setattr(remembered, "REST", 2)
    known = Remembered()
    ours = {ONE: stored(1), SHARED: stored(1)}
    known.keep(ours)
    known.corrected(ours, {ONE: stored(1), SHARED: stored(5)})
    known.keep({SHARED: stored(6)})
    assert [known.of([ONE, SHARED], NOW) is None for _ in range(3)] == [True, True, False]
    assert known.of([ONE], NOW) == {ONE: stored(1)}


def test_what_was_read_ahead_is_gone_by_for_a_moment_whoever_writes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After that it has to be read first, as before; and what is known well enough is not read ahead."""
    monkeypatch.setattr(remembered, "FRESH", 1.0)
    known = Remembered()
    known.keep({ONE: stored(1), SHARED: stored(1)})
    known.corrected({SHARED: stored(1)}, {SHARED: stored(5)})
    assert known.missing([ONE, SHARED], NOW) == [SHARED]
    known.keep({SHARED: stored(5)}, read_at=NOW)
    assert known.missing([ONE, SHARED], NOW + 1) == []
    assert known.of([ONE, SHARED], NOW + 1) == {ONE: stored(1), SHARED: stored(5)}
    assert known.of([ONE, SHARED], NOW + 1.1) is None


def test_what_was_read_ahead_in_vain_is_not_gone_by_again() -> None:
    """Another process wrote between the reading and the commit."""
    known = Remembered()
    known.keep({SHARED: stored(1)}, read_at=NOW)
    known.corrected({SHARED: stored(1)}, {SHARED: stored(2)})
    assert known.of([SHARED], NOW) is None


def test_what_was_read_ahead_may_be_older_than_what_was_written_meanwhile() -> None:
    """A commit of the same process came between: what that left is the latest."""
    known = Remembered()
    known.keep({SHARED: stored(2)})
    known.keep({SHARED: stored(1)}, read_at=NOW)
    assert known.of([SHARED], NOW) == {SHARED: stored(2)}


def test_what_is_gone_is_forgotten() -> None:
    """Another process, or its expiry, has removed it."""
    known = Remembered()
    known.keep({ONE: stored(1)})
    known.corrected({ONE: stored(1)}, {})
    assert known.of([ONE], NOW) is None
