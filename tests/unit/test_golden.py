"""Outcome documents over every fixture and every runbook's case, held against what is written down."""

from tests.outcomes import FILE, lines


def test_every_fixture_and_case_has_the_outcomes_that_are_written_down() -> None:
    """A refactoring changes no outcome; a change that is meant shows in the file, event by event."""
    written = FILE.read_text().splitlines()
    for now, then in zip(lines(), written, strict=True):
        assert now == then, "if this is meant, run: python -m tests.outcomes"
