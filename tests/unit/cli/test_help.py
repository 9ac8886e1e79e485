"""The frame of the command: help without heavy imports, errors told in one way, a page made of the help."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.fakes import entry
from tests.unit.cli.conftest import Run

from logmend import __version__
from logmend.errors import ConfigError, Permanent, Transient
from logmend.lql import FilterError
from logmend.model.enums import Result
from logmend.model.values import InstanceRef
from logmend.runbook import load_all
from logmend_cli import main, manual, profiles, reference, scanned

ROOT = Path(__file__).resolve().parents[3]
HEAVY = (
    "google",
    "asyncssh",
    "requests",
    "grpc",
    "sqlite3",
    "websockets",
    "jinja2",
    "starlette",
    "uvicorn",
)
SLOWER = ("rich", "lark", "yaml", "re2", "asyncio", "logmend.wiring")


def process(*args: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; the modules that it loaded are the last line of stderr.

    What the interpreter itself loads at its start (namespace packages of an installation) does not count.
    """
    code = (
        "import sys; before = set(sys.modules)\n"
        "import json, atexit\n"
        "atexit.register(lambda: print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr))\n"
        "from logmend_cli.main import main\nmain()"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        env=clean | {"PYTHONPATH": str(ROOT / "functions")} | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def loaded(ran: subprocess.CompletedProcess[str], names: tuple[str, ...]) -> list[str]:
    """Name what was imported of ``names``."""
    return among(json.loads(ran.stderr.splitlines()[-1]), names)


def among(modules: list[str], names: tuple[str, ...]) -> list[str]:
    """Name what of ``names`` is a module, or a package of one."""
    return [name for name in names if any(m == name or m.startswith(f"{name}.") for m in modules)]


def completed(shell: str = "bash", typed: str = "", **environment: str) -> str:
    """Ask click for its script, or as the script does; give what the shell reads."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)} if typed else {}
    asked = {"_LOGMEND_COMPLETE": f"{shell}_{'complete' if typed else 'source'}", **words} | environment
    unset = dict.fromkeys(name for name in os.environ if name.startswith("LOGMEND_"))
    ran = CliRunner().invoke(main.logmend, [], prog_name="logmend", env=unset | asked)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@pytest.mark.parametrize("args", [["--help"], ["-h"], [], ["explan"]])
def test_help_imports_nothing_that_it_does_not_need(args: list[str]) -> None:
    """Not even a command's own module."""
    ran = process(*args)
    assert loaded(ran, HEAVY + SLOWER) == []
    assert loaded(ran, tuple(f"logmend_cli.{name}" for name in main.COMMANDS)) == []


OFFLINE = (
    "explain -",
    "explain - --format json",
    "filter match --runbook workload-cert-refresh -",
    "filter show",
    "runbook list",
    "runbook test",
    "runbook lint --format json",
)
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
before, stdin = set(sys.modules), sys.stdin.buffer.read()
from logmend_cli.main import main
found = {}
for line in sys.argv[1:]:
    sys.argv, sys.stdin = ["logmend", *line.split()], io.TextIOWrapper(io.BytesIO(stdin))
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        try:
            main()
        except SystemExit as end:
            found[line] = end.code, sorted(set(sys.modules) - before)
    before |= set(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loads() -> dict[str, tuple[int, list[str]]]:
    """Run commands one after the other in a process; give each one's status, and what no earlier one loaded.

    The demo comes last: it may load clients.
    """
    lines = [*OFFLINE, *(f"{name} --help" for name in sorted(main.COMMANDS, key=lambda name: name == "demo"))]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
    ran = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, *lines],
        env=clean | {"PYTHONPATH": str(ROOT / "functions")},
        input=json.dumps(entry()),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, tuple[int, list[str]]] = json.loads(ran.stdout)
    assert list(found) == lines
    return found


@pytest.mark.parametrize("line", OFFLINE)
def test_offline_commands_import_no_client(loads: dict[str, tuple[int, list[str]]], line: str) -> None:
    """Neither Google's clients nor anything to connect by."""
    status, modules = loads[line]
    assert status == 0
    assert among(modules, HEAVY) == []


@pytest.mark.parametrize("shape", ["text", "json"])
def test_explaining_an_entry_needs_no_table_and_no_ledger(shape: str) -> None:
    """It is asked often, in loops and by editors: what it does not use it does not load."""
    ran = process("explain", "-", "--format", shape, stdin=json.dumps(entry()))
    assert ran.returncode == 0
    assert loaded(ran, ("rich", "asyncio", "logmend.wiring", "logmend.ledger", "logmend.adapters")) == []


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_without_a_network(run: Run, name: str) -> None:
    """Each is there, says what it does, and ends with status 0."""
    ran = run(name, "--help")
    assert ran.exit_code == 0, ran.output
    assert f" {name} " in ran.stdout.splitlines()[0]
    assert main.COMMANDS[name].short_help in " ".join(run("--help").stdout.split())


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_of_a_command_imports_no_client(loads: dict[str, tuple[int, list[str]]], name: str) -> None:
    """Only the demo, which serves machines, loads what it serves them with."""
    status, modules = loads[f"{name} --help"]
    assert status == 0
    assert among(modules, ("google", "grpc") if name == "demo" else HEAVY) == []


def test_version(run: Run) -> None:
    """The package's own."""
    first, commit, *runbooks = run("--version").stdout.splitlines()
    assert first == f"logmend {__version__}"
    assert re.fullmatch(r"commit (unknown|[0-9a-f]{7,}(-dirty)?)", commit)
    assert runbooks == [f"runbook {each.name} {each.digest}" for each in load_all().values()]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("explian", "did you mean explain?"),
        ("xyzzy", "known are explain"),
        ("runbooks", "did you mean runbook?"),
    ],
)
def test_a_misspelt_command_gets_a_suggestion(run: Run, typed: str, said: str) -> None:
    """Status 2."""
    ran = run(typed)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert said in ran.stderr


# Errors and exit status


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a command `try-me` that does what a test says."""

    def install(do: Any) -> None:
        entries = dict(main.COMMANDS) | {"try-me": main.Entry(main.ASK, "Try.")}
        monkeypatch.setattr(main, "COMMANDS", entries)
        module = SimpleNamespace(command=click.Command("try-me", callback=do))
        monkeypatch.setitem(sys.modules, "logmend_cli.try-me", module)

    return install


def raising(error: BaseException) -> Any:
    def do() -> None:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigError(["one is wrong", "two as well"]), 2, ["logmend: one is wrong", "logmend: two as well"]),
        (FilterError("expected a value", 2, 7), 2, ["logmend: filter: line 2, column 7: expected a value"]),
        (click.UsageError("not so"), 2, ["logmend: not so"]),
        (
            Permanent("not_permitted", "needs compute.instances.get"),
            1,
            ["logmend: not_permitted: A login", "needs compute.instances.get", "Next: grant"],
        ),
        (Transient("compute_unavailable", "503"), 1, ["logmend: compute_unavailable:", "503"]),
        (KeyError("x"), 1, ["logmend: unexpected error, please report it: KeyError: 'x'; logmend --debug"]),
    ],
)
def test_an_error_is_told_once_with_its_status(
    run: Run, doing: Any, error: Exception, status: int, said: list[str]
) -> None:
    """A line for each problem on standard error, no traceback."""
    doing(raising(error))
    ran = run("try-me")
    assert (ran.exit_code, ran.stdout) == (status, "")
    assert all(part in ran.stderr for part in said), ran.stderr
    assert "Traceback" not in ran.stderr


def test_debug_shows_where_an_error_came_from(run: Run, doing: Any) -> None:
    """For who mends logmend itself."""
    doing(raising(KeyError("x")))
    ran = run("--debug", "try-me")
    assert ran.exit_code == 1
    assert "Traceback" in ran.stderr
    assert "test_help.py" in ran.stderr


@pytest.mark.parametrize(("value", "status"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_a_commands_value_is_its_status(run: Run, doing: Any, value: int | None, status: int) -> None:
    """None is 0."""
    doing(lambda: value)
    assert run("try-me").exit_code == status


def test_the_status_of_several_results_is_the_worst() -> None:
    """Four results are bad; a tick has none and is fine."""
    from logmend_cli.errors import status_of

    assert {each for each in Result if status_of([each])} == {
        Result.FAILED,
        Result.UNVERIFIED,
        Result.REJECTED,
        Result.UNMATCHED,
    }
    assert status_of([]) == status_of([None, Result.PLANNED]) == 0
    assert status_of([Result.PLANNED, Result.FAILED, None]) == 1


# Completion and the page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_without_importing_them(shell: str) -> None:
    """Click's own completion; the names come from the list."""
    assert "_LOGMEND_COMPLETE" in completed(shell)
    words = {"COMP_WORDS": "logmend expl", "COMP_CWORD": "1" if shell == "bash" else "expl"}
    ran = process(
        _LOGMEND_COMPLETE=f"{shell}_complete", **words | ({"COMP_CWORD": "1"} if shell == "zsh" else {})
    )
    assert "explain" in ran.stdout
    assert "runbook" not in ran.stdout
    assert loaded(ran, HEAVY + SLOWER) == []


def test_options_of_a_command_are_completed_too() -> None:
    """Once the command is known, its own options are."""
    assert completed(typed="logmend explain --inst").strip() == "plain,--instance"


def test_the_page_says_what_help_says() -> None:
    """docs/cli.md is made, not written: `python -m logmend_cli.reference`."""
    assert (ROOT / "docs/cli.md").read_text() == reference.page()


def test_the_man_page_says_what_help_says() -> None:
    """It is made as well, by the same program."""
    page = (ROOT / "cli/logmend.1").read_text(encoding="ascii")
    assert page == manual.page(), "python -m logmend_cli.reference"
    told = set(re.findall(r"^\.SS (.*)$", page.replace("\\-", "-"), re.MULTILINE))
    assert told == {" ".join(["logmend", *path]) for _, path in _commands(main.logmend, [])}


def test_nothing_of_a_help_text_is_an_order_to_roff() -> None:
    """A line that begins as one, a backslash and what is not ASCII come out as they are."""
    assert manual.escaped(".so a") == "\\&.so a"
    assert manual.escaped("a\\nb -x …") == "a\\enb \\-x \\[u2026]"


def test_the_page_is_made_the_same_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its width is its own."""
    monkeypatch.setenv("COLUMNS", "40")
    narrow = reference.page()
    monkeypatch.setenv("COLUMNS", "200")
    assert narrow == reference.page()


def test_every_example_of_help_parses(run: Run) -> None:
    """Examples are commands that exist, with options that they have."""
    seen = 0
    for command, path in _commands(main.logmend, []):
        for example in getattr(command, "examples", ()):
            words = example.rpartition("| ")[2].partition(" >")[0]
            words = re.sub(r"^(?:sudo |[A-Z_]+=\S+ )+", "", words)
            assert words.split()[:1] + words.split()[1 : 1 + len(path)] == ["logmend", *path]
            seen += 1
    assert seen >= 8


def _commands(group: Any, path: list[str]) -> Any:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield command, [*path, name]
        if isinstance(command, click.Group):
            yield from _commands(command, [*path, name])


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("logmend fre", ["freeze"]),
        ("logmend freeze --runbook work", ["workload-cert-refresh"]),
        ("logmend run --runbook ops", ["ops-agent"]),
        ("logmend scan --off", ["--offline"]),
    ],
)
def test_a_shell_completes_commands_options_and_runbooks(typed: str, offered: list[str]) -> None:
    """As bash asks for it."""
    assert [each.rpartition(",")[2] for each in completed(typed=typed).split()] == offered


VM, OTHER = "my-project/us-west1-a/42", "demo-project/us-west1-b/7"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("logmend run my", ["my-project/us-west1-a/web-1"]),
        ("logmend revert my-project/us-west1-a/4", [VM]),
        ("logmend history demo", [OTHER]),
        ("logmend freeze --instance my", ["my-project/us-west1-a/web-1"]),
        ("logmend scan --project my", ["my-project"]),
        ("logmend use demo", ["demo-project"]),
        ("logmend run other", []),
    ],
)
def test_vms_and_projects_of_the_last_scan_are_completed(
    typed: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, or by id if that was begun; a name that is none of Compute Engine's is not offered."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    scanned.keep([(InstanceRef(*VM.split("/")), "web-1"), (InstanceRef(*OTHER.split("/")), "$(reboot)")])
    scanned.keep([])
    assert [each.rpartition(",")[2] for each in completed(typed=typed).split()] == offered


def test_a_scan_keeps_its_vms_for_the_shell(run: Run) -> None:
    """Those of the entries that it read; a state folder that cannot be written fails no scan."""
    assert run("scan", "-", "--offline", stdin=json.dumps(entry())).exit_code == 0
    found = profiles.state() / "scanned"
    ref = "/".join(entry()["resource"]["labels"][key] for key in ("project_id", "zone", "instance_id"))
    assert found.read_text() == f"{ref}\n"
    found.unlink()
    found.parent.rmdir()
    found.parent.write_text("")
    assert run("scan", "-", "--offline", stdin=json.dumps(entry())).exit_code == 0
