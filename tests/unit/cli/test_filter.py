"""`logmend filter`: the sink's filter, and which entries a filter selects."""

import json
from pathlib import Path

import pytest
from tests.fakes import entry
from tests.unit.cli.conftest import Run

from logmend import lql, sink_filter
from logmend.catalog import load
from logmend.model.struct import replace
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend_cli.runbook import sink_rules

SINK = Path(__file__).resolve().parents[3] / "sink/filter.lql"
ERROR = {"logName": "projects/p/logs/x", "severity": "ERROR"}
QUIET = {"logName": "projects/p/logs/x"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with entries in every shape."""
    monkeypatch.chdir(tmp_path)
    shapes = {
        "error.json": json.dumps(ERROR),
        "quiet.json": json.dumps(QUIET, indent=2),
        "array.json": json.dumps([QUIET, ERROR], indent=2),
        "lone-array.json": json.dumps([ERROR]),
        "lines.jsonl": f"{json.dumps(ERROR)}\n\n{json.dumps(QUIET)}\n",
        "line.jsonl": f"{json.dumps(ERROR)}\n",
        "marked.json": "\ufeff" + json.dumps([ERROR]),
        "nothing.json": "[]",
        "empty.json": "",
        "broken.json": '{\n  "logName": "projects/p/logs/x",\n  "severity" "ERROR"\n}\n',
        "broken.jsonl": f"{json.dumps(ERROR)}\n{{oops}}\n{json.dumps(QUIET)}\n",
        "errors.lql": "-- what hurts\nseverity >= ERROR\n",
    }
    for name, text in shapes.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "printed", "status"),
    [
        (["error.json"], ["match error.json"], 0),
        (["quiet.json"], ["no-match quiet.json"], 1),
        (["error.json", "quiet.json"], ["match error.json", "no-match quiet.json"], 0),
        (["array.json"], ["no-match array.json:1", "match array.json:2"], 0),
        (["lone-array.json"], ["match lone-array.json:1"], 0),
        (["marked.json"], ["match marked.json:1"], 0),
        (["lines.jsonl"], ["match lines.jsonl:1", "no-match lines.jsonl:2"], 0),
        (["line.jsonl"], ["match line.jsonl"], 0),
        (["./error.json"], ["match ./error.json"], 0),
        (["nothing.json"], [], 1),
        (["empty.json"], [], 1),
    ],
)
def test_each_entry_takes_one_line(
    run: Run, files: Path, names: list[str], printed: list[str], status: int
) -> None:
    """FILE, or FILE:N where a file holds several; status 0 where any matches, 1 where none does."""
    ran = run("filter", "match", "--filter", "severity >= ERROR", *names)
    assert (ran.stdout.splitlines(), ran.exit_code) == (printed, status)


def test_the_filter_comes_from_a_file_a_runbook_or_the_command_line(run: Run, files: Path) -> None:
    """One of three, and the same answers."""
    (files / "line.json").write_text(json.dumps(entry()))
    assert run("filter", "match", "--filter-file", "errors.lql", "error.json").exit_code == 0
    assert run("filter", "match", "--runbook", "workload-cert-refresh", "line.json").exit_code == 0
    assert run("filter", "match", "--runbook", "workload-cert-refresh", "error.json").exit_code == 1
    assert run("filter", "match", "--filter", "", "quiet.json").exit_code == 0  # empty matches everything


def test_standard_input_is_a_file_called_dash(run: Run) -> None:
    """Piped from gcloud."""
    ran = run("filter", "match", "--filter", "severity=ERROR", "-", stdin=json.dumps([ERROR, QUIET]))
    assert ran.stdout == "match -:1\nno-match -:2\n"


def test_a_push_body_is_the_entry_in_it(run: Run, files: Path) -> None:
    """What Pub/Sub puts around it is taken off."""
    from tests.fakes import push

    (files / "push.json").write_text(json.dumps(push(ERROR)))
    assert run("filter", "match", "--filter", "severity=ERROR", "push.json").stdout == "match push.json\n"


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("severity = = ERROR", 1, 12), ("severity >= ERROR\nAND thud = 1", 2, 5), ('textPayload =~ "("', 1, 16)],
)
def test_a_filter_that_is_none_says_where(run: Run, files: Path, text: str, line: int, column: int) -> None:
    """Status 2, line and column, and nothing on standard output; from a file, the file is named."""
    ran = run("filter", "match", "--filter", text, "error.json")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"line {line}, column {column}:" in ran.stderr
    Path("bad.lql").write_text(text)
    ran = run("filter", "match", "--filter-file", "bad.lql", "error.json")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"bad.lql: line {line}, column {column}:" in ran.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken.json", "broken.json: not JSON: Expecting ':' delimiter"),
        ("broken.json", "(line 3, column 14)"),
        ("broken.jsonl", "broken.jsonl:2: not JSON"),
        ("broken.jsonl", "(line 2, column 2)"),
        ("not-there.json", "not-there.json: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(run: Run, files: Path, name: str, said: str) -> None:
    """Status 2, also where other entries match."""
    ran = run("filter", "match", "--filter", "severity >= ERROR", "error.json", name)
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert ran.stdout.startswith("match error.json\n")


def test_entries_beside_a_broken_line_are_still_told(run: Run, files: Path) -> None:
    """One broken line does not hide the rest."""
    ran = run("filter", "match", "--filter", "severity >= ERROR", "broken.jsonl")
    assert ran.stdout == "match broken.jsonl:1\nno-match broken.jsonl:3\n"


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--filter", "a"],
        ["error.json"],
        ["--filter", "a", "--runbook", "workload-cert-refresh", "error.json"],
        ["--runbook", "no-such", "error.json"],
        ["--filter-file", "not-there.lql", "error.json"],
    ],
)
def test_options_that_cannot_be_used_give_status_2(run: Run, files: Path, args: list[str]) -> None:
    """One filter and at least one file; a runbook that is there."""
    ran = run("filter", "match", *args)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr


# The sink


def test_the_file_in_the_sink_folder_is_what_the_command_prints(run: Run) -> None:
    """Terraform deploys the text by which the function routes. `logmend filter show > sink/filter.lql`."""
    ran = run("filter", "show")
    assert ran.exit_code == 0
    assert SINK.read_text() == ran.stdout


def test_the_sink_selects_what_any_runbook_selects(run: Run) -> None:
    """Each runbook's filter stands in parentheses: its AND and OR stay its own."""
    text = run("filter", "show").stdout
    composed = lql.compile(text)
    assert composed.matches(entry())
    assert not composed.matches(ERROR)
    assert len(text) <= sink_filter.MAX_CHARACTERS
    assert lql.lint(text) == []


def test_two_runbooks_filters_do_not_mix(tmp_path: Path) -> None:
    """OR binds tighter than AND in this language: without parentheses these two would select nothing."""
    loaded = load(Settings())
    one, two = (
        _with_filter(loaded["workload-cert-refresh"], name, f'resource.type = "{name}" severity = "ERROR"')
        for name in ("aa", "bb")
    )
    composed = lql.compile(sink_filter.compose({"aa": one, "bb": two}))
    for name in ("aa", "bb"):
        assert composed.matches(ERROR | {"resource": {"type": name}})
        assert not composed.matches(QUIET | {"resource": {"type": name}})
    assert not composed.matches(ERROR | {"resource": {"type": "cc"}})


@pytest.mark.parametrize("log_id", ["logmend", "OSConfigAgent"])
def test_the_guard_against_loops_holds_whatever_the_runbooks_select(log_id: str) -> None:
    """Even a filter that selects everything on VMs never selects what logmend writes."""
    greedy = _with_filter(
        load(Settings())["workload-cert-refresh"], "greedy", 'resource.type = "gce_instance"'
    )
    composed = lql.compile(sink_filter.compose({"greedy": greedy}))
    assert composed.matches(entry())
    assert not composed.matches(entry(logName=f"projects/demo-project/logs/{log_id}"))
    own = list(sink_rules.own_entries({"greedy": greedy}))
    assert len(own) > 1000
    assert any(lql.compile(greedy.filter or "").matches(each) for each in own)  # without the guard, a loop
    assert list(sink_rules.check({"greedy": greedy})) == []


def test_a_loop_is_found_by_the_lint(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the guard taken away, the check on real outcomes fails: it can."""
    monkeypatch.setattr(sink_filter, "guard", lambda: 'NOT log_id("something-else")')
    greedy = _with_filter(
        load(Settings())["workload-cert-refresh"], "greedy", 'resource.type = "gce_instance"'
    )
    (problem,) = sink_rules.check({"greedy": greedy})
    assert "a loop" in str(problem)


def test_a_filter_too_long_for_a_sink_is_found() -> None:
    """Comments count."""
    long = 'resource.type = "gce_instance"\n-- ' + "x" * 20_000
    greedy = _with_filter(load(Settings())["workload-cert-refresh"], "greedy", long[:19_990])
    (problem,) = sink_rules.check({"greedy": greedy})
    assert "too many" in str(problem)


def _with_filter(runbook: Runbook, name: str, text: str) -> Runbook:
    return replace(runbook, name=name, filter=text)
