"""What a person is told who gives the command something wrong: what it is, and what to do."""

from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

from logmend.errors import Permanent, Transient
from logmend.outcome import reasons
from logmend_cli.errors import BAD, Told, told, warn


def said_of(error: Exception) -> str:
    """Give what is printed of an error."""
    with pytest.raises(Told) as caught, told():
        raise error
    return "\n".join(caught.value.lines)


@pytest.mark.parametrize(
    "word", [word for word, known in reasons.REASONS.items() if known.next_step == reasons.WAIT]
)
def test_what_passes_by_itself_is_to_be_run_again(word: str) -> None:
    """Nobody delivers a command a second time; where trying again is in vain, nothing is promised."""
    assert said_of(Transient(word, "503")).endswith("503. Next: run it again")
    assert "Next" not in said_of(Permanent(word, "503"))


def test_a_cause_that_the_person_can_mend_is_what_they_are_told_to_mend() -> None:
    """Without credentials no role on the ledger would help."""
    said = said_of(Permanent("ledger_forbidden", "no_credentials: none were found."))
    assert said == (
        "ledger_forbidden: logmend may not write to the ledger: no_credentials: none were found."
        " Next: gcloud auth application-default login"
    )
    assert "roles/datastore.user" in said_of(Permanent("ledger_forbidden", "not_permitted: denied"))


def test_a_file_or_folder_that_cannot_be_used_is_named(run: Run, tmp_path: Path) -> None:
    """No traceback and no wish for a report: the path and the system's word."""
    (tmp_path / "file").touch()
    ran = run("report", "-", "--out", tmp_path / "file" / "page.html", stdin="")
    assert ran.exit_code == 2
    assert "please report" not in ran.stderr
    error = FileNotFoundError(2, "No such file or directory", "/proc/x")
    assert said_of(error) == "/proc/x: No such file or directory"


def test_the_demo_empties_no_folder_that_holds_something_else(run: Run, tmp_path: Path) -> None:
    """Whoever names the wrong folder loses nothing."""
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "machines").mkdir()
    ran = run("demo", "--out", tmp_path, "--pubsub", "direct")
    assert ran.exit_code == 2
    assert "thesis.tex is in it, which a demo did not make; choose another folder with --out" in ran.stderr
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "machines").is_dir()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("nowhere/ledger.sqlite", ["ledger_missing", "nowhere does not exist", "check LOGMEND_STATE"]),
        (".", ["ledger_missing", "is a directory", "check LOGMEND_STATE"]),
        ("notes.txt", ["ledger_corrupt", "notes.txt is not a readable SQLite database"]),
    ],
)
def test_a_ledger_that_is_none_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, words: list[str]
) -> None:
    """The path is in the message, and it is not said to pass by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("milk, bread, and so on until it is longer than a header\n" * 20)
    ran = run("freeze", state=f"sqlite:{state}")
    assert ran.exit_code == 1
    assert [word for word in words if word not in ran.stderr] == []
    assert "run it again" not in ran.stderr


def test_what_is_told_on_standard_error_does_nothing_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A freeze's reason or an API's words may be anybody's; lines stay lines."""
    hostile = "passes: frozen by ann \x07\x1b]0;x\x07\rby nobody\x9b2J\nsecond"
    warn(hostile)
    Told([hostile], BAD).show()
    said = capsys.readouterr().err
    assert said.count("\nsecond\n") == 2
    assert not [each for each in said if each < " " and each != "\n"]
    assert "\x9b" not in said
