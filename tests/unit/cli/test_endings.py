"""How a command ends, and what it leaves on a terminal: signals, closed pipes, colours, narrow windows."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import click
import pytest
from tests.unit.cli.conftest import Run

import logmend_cli
from logmend_cli import save

ROOT = Path(__file__).resolve().parents[3]
ENTRY = ROOT / "tests/fixtures/entries/rfc5424_whole_line.json"
COMMAND = (sys.executable, "-c", "from logmend_cli.main import main; main()")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("LOGMEND_", "NO_COLOR"))}


def started(*args: str | Path, **streams: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen([*COMMAND, *map(str, args)], env=CLEAN, text=True, **streams)


def on_terminal(columns: int, *args: str | Path, **environment: str) -> str:
    """Run the command on a terminal of so many columns; give what it wrote there, progress and all."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {name: value for name, value in CLEAN.items() if name not in ("COLUMNS", "LINES")}
    environment = inherited | {"TERM": "xterm-256color"} | environment
    process = subprocess.Popen(
        [*COMMAND, *map(str, args)], env=environment, stdout=theirs, stdin=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # Linux: nobody writes on the other side any more
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    assert process.wait(110) == 0
    return written.decode().replace("\r\n", "\n")


def test_ctrl_c_ends_a_command_as_a_signal_does(tmp_path: Path) -> None:
    """Status 130, as shells count it, and no word: whoever pressed the keys knows."""
    pipe = tmp_path / "entries"
    os.mkfifo(pipe)
    process = started("scan", "--offline", pipe, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pipe.open("w"):  # opened as soon as the command reads
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=110)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`logmend … | head -1` ends as any filter does, status 141, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    process = started("filter", "show", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = process.communicate(timeout=110)
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize(
    ("answer", "status", "said"), [("n\n", 1, "not confirmed: nothing was done"), ("", 1, "not confirmed")]
)
def test_a_no_is_no_abort(run: Run, answer: str, status: int, said: str) -> None:
    """Nor is a script that cannot answer."""
    ran = run("policy", "delete", "--project", "demo-project", "--zone", "us-west1-a", stdin=answer)
    assert ran.exit_code == status
    assert said in ran.stderr
    assert "Aborted" not in ran.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--bogus",),
        ("scna",),
        ("scan", "--bogus"),
        ("scan",),
        ("scan", "/nowhere"),
        ("scan", "--since", "banana", ENTRY),
        ("explain", ENTRY, "--instance", ENTRY),
        ("status", ENTRY),
        ("report", "--since", "1x", ENTRY),
        ("run", "web-1", "--from", ENTRY),
        ("freeze", "--for", "never"),
        ("runbook", "lint", "/nowhere"),
        ("policy", "delete", "--project", "demo-project", "--zone", "us-west1-a"),
    ],
    ids=lambda args: " ".join(str(getattr(each, "name", each)) for each in args),
)
def test_every_line_of_trouble_says_whose_it_is(run: Run, args: tuple[Any, ...]) -> None:
    """In a log of many programs each line names this one, and none is a traceback or a Python word."""
    ran = run(*args)
    assert ran.exit_code in (1, 2)
    lines = ran.stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("logmend: ")] == []
    assert not re.search(r"\b[A-Z]\w+Error\b|Traceback|Usage:|Aborted", ran.stderr)


def test_nothing_else_writes_to_standard_error() -> None:
    """So that the line above holds of every command, whatever it has to say."""
    folder = Path(logmend_cli.__file__).parent
    found = {path.name for path in folder.rglob("*.py") if "err=True" in path.read_text()}
    assert found == {"errors.py", "inputs.py", "output.py"}  # which fleet; progress, on a terminal


def test_colours_are_for_terminals_that_want_them() -> None:
    """NO_COLOR and TERM=dumb are heard; without them there are colours, so that this means something."""
    assert "\x1b[" in on_terminal(80, "explain", ENTRY)
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(80, "explain", ENTRY, **environment)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_answer_is_the_last_thing_that_a_narrow_terminal_loses(columns: int) -> None:
    """Of every VM: what would be done, and the whole reason."""
    shown = on_terminal(columns, "scan", "--offline", ENTRY)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    table = shown.partition("     1 planned")[0].partition(" VM ")[2].rpartition("\n")[0]
    assert max(map(len, table.splitlines())) <= columns
    last = " ".join(re.split(r"\s{2,}", line.rstrip())[-1] for line in table.splitlines())
    assert "would be why" in " ".join(last.split())
    assert "planned not looked up: 3 guards pending" in " ".join(last.split())
    assert "4775836342990000110" in table
    assert ("last seen" in table) is (columns >= 80)
    assert ("agent form" in table) is (columns >= 105)


def test_a_file_is_read_for_the_time_that_is_asked_for(run: Run) -> None:
    """--since and --until bound a FILE as they bound Cloud Logging; what is left out is said."""
    assert "1 log entries: 1 match" in run("scan", "--offline", ENTRY).stdout
    for bounds in (("--since", "1h"), ("--until", "2020-01-01T00:00:00Z")):
        ran = run("scan", "--offline", *bounds, ENTRY)
        assert "0 log entries" in ran.stdout
        assert "1 entries are not of the time that --since and --until give" in ran.stderr
    within = ("--since", "2024-02-11T00:00:00Z", "--until", "2024-02-12T00:00:00Z")
    assert "1 log entries: 1 match" in run("scan", "--offline", *within, ENTRY).stdout


@pytest.mark.parametrize("command", [("scan", "--offline"), ("report",), ("status",)])
def test_an_invalid_time_is_answered_with_the_valid_forms(run: Run, command: tuple[str, ...]) -> None:
    """The short form as well as the long one."""
    ran = run(*command, "--since", "1x", ENTRY)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "'1x' is not a time: write 7d, 36h or 90m (that long ago), or 2026-" in ran.stderr


def test_a_document_of_another_kind_is_told_in_words(run: Run, tmp_path: Path) -> None:
    """What it lacks or is, not what Python raised."""
    assert "not an outcome of logmend: it has no 'result'" in run("status", ENTRY).stderr
    other = tmp_path / "other.json"
    for text, said in (
        ('{"result": "mended"}', "'mended' is no result that is known here"),
        ('{"result": "failed", "timestamp": 7}', "it has another shape"),
    ):
        other.write_text(text)
        assert said in run("status", other).stderr
    for text, said in (
        ("{}", "it has no 'instances'"),
        ("[]", "it has another shape"),
        ("<", "it is not JSON"),
    ):
        other.write_text(text)
        ran = run("run", "--from", other, state=f"sqlite:{tmp_path / 'ledger.sqlite'}")
        assert (ran.exit_code, said in ran.stderr) == (2, True), ran.stderr


def test_no_case_is_written_into_an_installed_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade would take it away; in a clone it is where a built-in runbook's cases belong."""
    assert save.CHECKOUT
    monkeypatch.setattr(save, "CHECKOUT", False)
    kept = sorted((ROOT / "functions/logmend/runbooks").rglob("*.json"))
    ran = run("explain", ENTRY, "--save-case", "of-a-test")
    assert ran.exit_code == 2
    assert "part of the installed package" in ran.stderr
    assert "FOLDER/NAME" in ran.stderr
    assert sorted((ROOT / "functions/logmend/runbooks").rglob("*.json")) == kept


def test_a_command_that_is_interrupted_at_a_question_ends_like_any_other(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is 130 there as well."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise click.Abort from None

    monkeypatch.setattr(click, "confirm", interrupted)
    ran = run("policy", "delete", "--project", "demo-project", "--zone", "us-west1-a")
    assert (ran.exit_code, "confirmed" in ran.stderr, "Aborted" in ran.stderr) == (130, False, False)
