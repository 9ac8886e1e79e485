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


@pytest.mark.parametrize("command", [("scan", "--offline"), ("status",), ("export", "--changes")])
def test_ctrl_c_ends_a_command_as_a_signal_does(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Status 130, as shells count it, and no word, also while the command waits for a pipe."""
    pipe = tmp_path / "entries"
    os.mkfifo(pipe)
    process = started(*command, pipe, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pipe.open("w"):  # opened as soon as the command reads
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=110)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("command", [("filter", "show"), ("runbook", "list")], ids=["text", "table"])
def test_a_reader_that_has_gone_is_no_error(command: tuple[str, ...]) -> None:
    """`logmend … | head -1` ends as any filter does, status 141, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    process = started(*command, stdout=writing, stderr=subprocess.PIPE)
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


def test_streams_that_are_closed_are_as_good_as_the_null_device(tmp_path: Path) -> None:
    """A cron job may close all three: the freeze is in the ledger, and nothing that was printed is."""
    state = {"LOGMEND_STATE": f"sqlite:{tmp_path}/ledger", "XDG_STATE_HOME": str(tmp_path)}
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND]
    assert (
        subprocess.run([*shell, "freeze", "--why", "a test"], env=CLEAN | state, check=False).returncode == 0
    )
    told = subprocess.run([*COMMAND, "status"], env=CLEAN | state, text=True, capture_output=True, check=True)
    assert "STOPPED everything" in told.stdout
    assert "a test" in told.stdout


def test_a_full_disk_is_not_an_error_to_report() -> None:
    """It is told in a line, status 1: the output is incomplete."""
    with Path("/dev/full").open("w") as full:
        ran = started("explain", ENTRY, stdout=full, stderr=subprocess.PIPE)
        _, err = ran.communicate(timeout=110)
    assert ran.returncode == 1
    assert err == "logmend: output: No space left on device; what was written is incomplete\n"


def test_what_is_piped_is_utf8_whatever_the_locale() -> None:
    """The sink's filter has characters that Latin-1 lacks, and comes out byte by byte."""
    latin = CLEAN | {"PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run([*COMMAND, "filter", "show"], env=latin, capture_output=True, check=True)
    assert ran.stdout == (ROOT / "sink/filter.lql").read_bytes()


def test_a_terminal_of_another_encoding_ends_no_command() -> None:
    """What it lacks is written as an escape."""
    shown = on_terminal(80, "approvals", "reject", "--help", PYTHONIOENCODING="latin-1")
    assert "2h, 3d, \\u2026" in shown


@pytest.mark.parametrize("columns", [60, 80])
def test_no_table_breaks_words_on_a_narrow_terminal(columns: int) -> None:
    """Each row is lines then, so that a name can be copied."""
    words = click.unstyle(on_terminal(columns, "runbook", "list")).split()
    assert {"workload-cert-refresh;", "ops-agent;"} <= set(words)


def test_a_command_without_arguments_shows_its_help(run: Run) -> None:
    """On standard error, as it stands, with status 2."""
    for group in ((), ("runbook",)):
        ran = run(*group)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith("Usage: ")


def test_what_cannot_be_read_leaves_no_heading_behind(run: Run, tmp_path: Path) -> None:
    """`logmend export FILE > changes.csv` of a file without outcomes writes nothing."""
    (tmp_path / "notes").write_text("buy milk")
    ran = run("export", "--changes", tmp_path / "notes")
    assert (ran.exit_code, ran.stdout) == (2, "")


def test_no_place_is_made_up_in_a_file_of_another_encoding(run: Run, tmp_path: Path) -> None:
    """UTF-16 is JSON to the very end, so no line of it is wrong."""
    (tmp_path / "entries").write_text("{}", encoding="utf-16")
    ran = run("scan", "--offline", tmp_path / "entries")
    assert ran.exit_code == 2
    assert "column" not in ran.stderr


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--why", "x" * 1001, "1,001 characters; 1,000 are kept"),
        ("--why", "caf\udce9", "not UTF-8"),
        ("--by", " ", "say who asks"),
    ],
)
def test_what_goes_on_record_is_text_of_a_bounded_length(
    run: Run, tmp_path: Path, option: str, text: str, said: str
) -> None:
    """Every attempt reads the switches, and an audit asks who it was."""
    ran = run("freeze", option, text, state=f"sqlite:{tmp_path}/ledger")
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert run("status", state=f"sqlite:{tmp_path}/ledger").stdout.count("STOPPED") == 0


def test_resume_says_if_nothing_was_stopped(run: Run, tmp_path: Path) -> None:
    """The second of two releases lifts nothing, and does not claim it."""
    state = f"sqlite:{tmp_path}/ledger"
    assert run("freeze", state=state).exit_code == 0
    assert [run("resume", state=state).stdout for _ in range(2)] == [
        "resumed: the fleet\n",
        "nothing to lift\n",
    ]


def test_an_order_is_either_the_functions_or_ones_own(run: Run, tmp_path: Path) -> None:
    """--standalone acts without the ledger that --via-function writes to."""
    vm = "demo-project/us-west1-a/1"
    ran = run("run", vm, "--via-function", "--standalone", state=f"sqlite:{tmp_path}/ledger")
    assert ran.exit_code == 2
    assert "give one" in ran.stderr


@pytest.mark.parametrize(
    "unit", ["chrony", "chrony=failed", "chrony.service", "a.service=failed=x", "../x.service=failed"]
)
def test_a_unit_of_a_trial_is_named_with_its_state(run: Run, unit: str) -> None:
    """What is no unit is an error before anything is tried, not a verdict on the runbook."""
    ran = run("runbook", "try", "workload-cert-refresh", "--unit", unit)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "expected UNIT=ACTIVE[,ENABLED]" in ran.stderr
