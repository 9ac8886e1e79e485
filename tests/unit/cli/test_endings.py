"""How a command ends, and what it says of it."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from tests.unit.cli.conftest import Run

import logmend_cli
from logmend_cli import main
from logmend_cli.documented import Command
from logmend_cli.explain import save

ROOT = Path(__file__).resolve().parents[3]
ENTRY = ROOT / "tests/fixtures/entries/rfc5424_whole_line.json"


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


def test_a_file_is_read_for_the_time_that_is_asked_for(run: Run) -> None:
    """--since and --until bound a FILE as they bound Cloud Logging; what is left out is said."""
    assert "1 log entries: 1 match" in run("scan", "--offline", ENTRY).stdout
    for bounds in (("--since", "1h"), ("--until", "2020-01-01T00:00:00Z")):
        ran = run("scan", "--offline", *bounds, ENTRY)
        assert "0 log entries" in ran.stdout
        assert "1 entries are outside --since and --until" in ran.stderr
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
        ('{"result": "mended"}', "'mended' is not a known result"),
        ('{"result": "failed", "timestamp": 7}', "it has an unexpected form"),
    ):
        other.write_text(text)
        assert said in run("status", other).stderr
    for text, said in (
        ("{}", "it has no 'instances'"),
        ("[]", "it has an unexpected form"),
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
    assert "belongs to the installed package" in ran.stderr
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


def _commands(group: click.Group) -> Iterator[click.Command]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield from _commands(command) if isinstance(command, click.Group) else [command]


def test_every_command_refuses_empty_options() -> None:
    """Only an empty filter is one: it selects every entry, as in Cloud Logging."""
    commands = list(_commands(main.logmend))
    assert [each.name for each in commands if not isinstance(each, Command)] == []
    assert [each.name for each in commands if isinstance(each, Command) and each.may_be_empty] == ["match"]


@pytest.mark.parametrize(
    ("command", "option"),
    [("run", "--canary"), ("run", "--filter"), ("revert", "--zone"), ("cancel", "--runbook")],
)
def test_an_empty_option_is_named(run: Run, command: str, option: str) -> None:
    """`--zone "$ZONE"` of an unset variable must not become an order for every zone."""
    ran = run(command, option, "", "demo-project/us-west1-a/1")
    assert ran.exit_code == 2
    assert f"{option} is empty" in ran.stderr


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


def test_what_is_no_zone_is_in_no_command_to_paste(run: Run) -> None:
    """`policy render` refuses it as the commands do that reach Google."""
    ran = run("policy", "render", "--zone", "mars")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "'mars' is not a zone" in ran.stderr
