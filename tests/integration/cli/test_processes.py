"""The command as a process: signals, closed pipes, terminals with their colours and width, memory."""

import contextlib
import fcntl
import json
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
from tests.fakes import entry
from tests.unit.cli.outcomes import lines, outcome

from logmend.model.values import InstanceRef

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


def test_ctrl_c_is_not_for_a_command_that_ignores_it(tmp_path: Path) -> None:
    """A shell has a script's background jobs ignore it: they read their pipe to its end."""
    pipe = tmp_path / "entries"
    os.mkfifo(pipe)
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND, "status", str(pipe)]
    process = subprocess.Popen(shell, env=CLEAN, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with pipe.open("w"):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=110)
    assert (process.returncode, "no outcome in it: it is empty" in err) == (2, True)


@pytest.mark.parametrize("command", [("filter", "show"), ("runbook", "list")], ids=["text", "table"])
def test_a_reader_that_has_gone_is_no_error(command: tuple[str, ...]) -> None:
    """`logmend … | head -1` ends as any filter does, status 141, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    process = started(*command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = process.communicate(timeout=110)
    assert (process.returncode, err) == (141, "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`logmend explain … | head -1`: nothing is said about it."""
    many = "\n".join(json.dumps(entry()) for _ in range(3000))
    code = "from logmend_cli.main import main; main()"
    command = f"'{sys.executable}' -c '{code}' explain - | head -1"
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        env=os.environ | {"PYTHONPATH": str(ROOT / "functions")},
        input=many,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.stdout.count("\n") == 1
    assert ran.stderr == ""


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


def test_what_a_command_starts_has_streams_as_well() -> None:
    """A script that runs as root on this VM must not write its complaints into the next file it opens."""
    code = (
        "import subprocess\n"
        "from logmend_cli import streams\n"
        "streams.prepare()\n"
        "has = 'for each in 0 1 2; do test -e /dev/fd/$each || exit 3; done'\n"
        "raise SystemExit(subprocess.run(['sh', '-c', has], check=False).returncode)\n"
    )
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(shell, env=CLEAN, check=False).returncode == 0


def test_a_full_disk_is_not_an_error_to_report() -> None:
    """It is told in a line, status 1: the output is incomplete."""
    with Path("/dev/full").open("w") as full:
        ran = started("explain", ENTRY, stdout=full, stderr=subprocess.PIPE)
        _, err = ran.communicate(timeout=110)
    assert ran.returncode == 1
    assert err == "logmend: output: No space left on device; the output is incomplete\n"


def test_what_is_piped_is_utf8_whatever_the_locale() -> None:
    """The sink's filter has characters that Latin-1 lacks, and comes out byte by byte."""
    latin = CLEAN | {"PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run([*COMMAND, "filter", "show"], env=latin, capture_output=True, check=True)
    assert ran.stdout == (ROOT / "sink/filter.lql").read_bytes()


@pytest.mark.parametrize(
    "command", [("report", "outcomes", "--out", "page"), ("runbook", "lint", "ops-agent")]
)
def test_files_are_utf8_whatever_the_locale(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The page's style and a script's comment have characters that ASCII lacks."""
    (tmp_path / "outcomes").write_text(lines(outcome(1)))
    ascii_ = CLEAN | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run([*COMMAND, *command], env=ascii_, cwd=tmp_path, check=False)
    assert ran.returncode == 0


def test_a_terminal_of_another_encoding_ends_no_command() -> None:
    """What it lacks is written as an escape."""
    shown = on_terminal(80, "approvals", "reject", "--help", PYTHONIOENCODING="latin-1")
    assert "2h, 3d, \\u2026" in shown


@pytest.mark.parametrize("columns", [60, 80])
def test_no_table_breaks_words_on_a_narrow_terminal(columns: int) -> None:
    """Each row is lines then, so that a name can be copied."""
    words = click.unstyle(on_terminal(columns, "runbook", "list")).split()
    assert {"workload-cert-refresh;", "ops-agent;"} <= set(words)


def test_memory_does_not_grow_with_the_number_of_entries() -> None:
    """Twenty thousand entries take what two thousand do: they stream."""

    def peak(count: int) -> int:
        code = (
            "import resource, sys\nfrom logmend_cli.main import logmend\n"
            "logmend(['scan', '-', '--offline', '--format', 'json'], standalone_mode=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
        )
        code = code.replace("logmend([", "try:\n    logmend([", 1).replace(
            "standalone_mode=False)", "standalone_mode=False)\nexcept SystemExit: pass"
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LOGMEND_")}
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | {"PYTHONPATH": str(ROOT / "functions")},
            text=True,
        )
        every = "\n".join(
            json.dumps(entry(InstanceRef("demo-project", "us-west1-a", str(9 + n % 50))))
            for n in range(count)
        )
        out, err = child.communicate(every, timeout=90)
        assert json.loads(out)["totals"]["entries"] == count
        return int(err.split()[-1])

    few, many = peak(2_000), peak(20_000)
    assert many - few < 12_000, f"{few} KiB, then {many} KiB"
