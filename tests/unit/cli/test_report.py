"""`logmend report`: what the page counts, and that nothing an outcome says can become part of the page."""

import base64
import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.outcomes import REF, START, lines, outcome

from logmend.model.enums import Action, Mode, Result
from logmend.model.struct import replace
from logmend.model.values import Evidence, InstanceRef, Latency, Lineage, Outcome
from logmend_cli.report import charts
from logmend_cli.report.charts import COLOURS
from logmend_cli.report.data import VMS, Report
from logmend_cli.report.funnel import ENDS, STEPS, reached
from logmend_cli.report.page import render
from logmend_cli.report.vm import HISTORY

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}\u2028\x1b]0;x\x07'


def report(*outcomes: Outcome) -> Report:
    found = Report("a test", datetime(2026, 3, 2, tzinfo=UTC))
    for each in outcomes:
        found.add(each)
    return found


def seen(code: int) -> Evidence:
    return Evidence(code, {"timer_enabled": "enabled"}, START)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        (outcome(1, Result.UNMATCHED, None, runbook=None), "events"),
        (outcome(1, Result.REJECTED, "malformed", runbook=None, instance=None), "events"),
        (outcome(1, Result.SKIPPED, "own_entry", runbook=None), "events"),
        (outcome(1, Result.REFUSED, "opted_in"), "match a runbook"),
        (outcome(1, Result.SKIPPED, "cooling_down"), "match a runbook"),
        (outcome(1, Result.DEFERRED, "compute_unavailable"), "match a runbook"),
        (outcome(1, Result.FAILED, "unreachable"), "let through by the guards"),
        (outcome(1, Result.REQUESTED), "let through by the guards"),
        (outcome(1, Result.NOTHING_TO_DO, before=seen(100)), "looked at on the VM"),
        (outcome(1, Result.REFUSED, "certificates_in_use", before=seen(102)), "looked at on the VM"),
        (outcome(1, Result.PLANNED), "fault seen"),
        (outcome(1, Result.FAILED, "not_permitted", before=seen(101)), "fault seen"),
        (outcome(1, Result.FAILED, "script_error", before=seen(101)), "enforced"),
        (outcome(1, Result.FAILED, "still_faulty", before=seen(101), after=seen(101)), "enforced"),
        (outcome(1, Result.UNVERIFIED, "no_evidence"), "enforced"),
        (outcome(1, Result.REMEDIATED), "fix verified"),
    ],
)
def test_an_event_comes_as_far_as_its_outcome_shows(said: Outcome, step: str) -> None:
    """A fix is verified only by `remediated`; nothing is enforced that was not looked at before."""
    assert reached(said) == STEPS.index(step)


def test_the_funnel_counts_each_event_once_by_how_far_it_came() -> None:
    """Deferred first and mended later is one event; a revert is none."""
    funnel = report(
        outcome(1, Result.DEFERRED, "unreachable"),
        outcome(1, Result.REMEDIATED),
        outcome(2, Result.REFUSED, "opted_in"),
        outcome(3, Result.REVERTED, action=Action.REVERT, before=seen(101)),
    ).funnel()
    assert [count for _, count in funnel] == [2, 2, 1, 1, 1, 1, 1]
    assert [name for name, _ in funnel] == list(STEPS)


def test_an_outcome_that_was_written_twice_counts_once() -> None:
    """A redelivery appends the same line again."""
    assert report(outcome(1), outcome(1)).outcomes == 1


@pytest.mark.parametrize(
    ("span", "size"),
    [
        (timedelta(seconds=3), 1),
        (timedelta(hours=1), 300),
        (timedelta(days=1), 3600),
        (timedelta(days=300), 7 * 86_400),
    ],
)
def test_time_is_divided_so_that_bars_stay_few(span: timedelta, size: int) -> None:
    """Seconds of the demo or weeks of a year: no more than some fifty bars, nothing lost."""
    every = [outcome(n, at=START + span * n / 200, outcome_id=f"o{n}") for n in range(201)]
    found = report(*every)
    assert found.buckets()[0] == size
    assert len(found.buckets()[1]) <= 50
    assert sum(counts.total() for _, counts in found.buckets()[1]) == 201


def test_an_outcome_of_the_year_one_ends_no_report() -> None:
    """Whoever may write to the log can write any time: no bucket begins before there is one."""
    first = outcome(1, at=datetime(1, 1, 1, tzinfo=UTC), outcome_id="o1")
    _, buckets = report(first, outcome(2, outcome_id="o2")).buckets()
    assert [counts.total() for _, counts in buckets] == [1, 1]
    assert render(report(first))


def test_latencies_fall_between_round_edges() -> None:
    """From the shortest to the longest, the empty ones between them included."""
    every = [outcome(n, latency=Latency(total=ms)) for n, ms in enumerate((9, 10, 90, 450))]
    found = report(*every).histogram("total")
    assert [name for name, _ in found] == [f"to {edge} ms" for edge in (10, 20, 50, 100, 200, 500)]
    assert [count for _, count in found] == [2, 0, 0, 1, 0, 1]
    assert report().histogram("total") == []


def test_vms_with_trouble_come_first_and_being_skipped_hides_nothing() -> None:
    """A failure stays in sight while what follows is skipped."""
    other = InstanceRef("demo-project", "us-west1-b", "42")
    found = report(
        outcome(1, Result.FAILED, "unreachable"),
        outcome(2, Result.SKIPPED, "cooling_down"),
        outcome(3, Result.REMEDIATED, instance=other),
    )
    assert [vm.instance for vm in found.rows()] == [REF, other]
    assert found.rows()[0].latest.reason == "unreachable"


def test_rows_and_histories_are_bounded() -> None:
    """A page that a phone can open, whatever the fleet."""
    many = report(
        *(outcome(n, instance=InstanceRef("demo-project", "us-west1-a", str(n + 1))) for n in range(VMS + 9))
    )
    page = render(many)
    assert page.count('<details class="vm"') == VMS
    (link,) = re.findall(
        r'download="logmend-vms.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', page
    )
    assert len(base64.b64decode(link).splitlines()) == 1 + VMS + 9  # the way to the rest
    long = report(*(outcome(n) for n in range(HISTORY + 9)))
    assert (len(long.rows()[0].lines), long.rows()[0].count) == (HISTORY, HISTORY + 9)


def test_every_result_has_a_colour() -> None:
    """None is left out of the charts."""
    assert COLOURS.keys() == {each.value for each in Result}


def test_an_empty_report_still_draws() -> None:
    """There are no bars, and nothing is divided by zero."""
    empty = report()
    assert charts.over_time(empty) == charts.latencies(empty) == charts.causes(empty) == []
    assert {bar.total for bar in charts.funnel(empty)} == {0}


def test_how_events_ended_adds_up() -> None:
    """The numbers of the first screen are the events: each in one place, by its latest result; no revert."""
    known = sorted(result for _, _, results in ENDS for result in results)
    assert known == sorted({each.value for each in Result} - {"controlled", "reverted"})
    every = [outcome(n, Result(result), f"r{n}", outcome_id=f"o{n}") for n, result in enumerate(known)]
    found = report(
        outcome(3, Result.DEFERRED, "first", outcome_id="first"),
        *every,
        outcome(99, Result.REVERTED, action=Action.REVERT),
    )
    ends = found.ends()
    assert sum(count for _, _, count in ends) == found.funnel()[0][1] == len(every)
    assert all(count for _, _, count in ends)


def test_what_needs_a_person_is_said_once_for_each_kind() -> None:
    """With the number of VMs and what to do; a plan that waits for approval is counted beside it."""
    vms = [InstanceRef("demo-project", "us-west1-a", str(n + 1)) for n in range(6)]
    found = report(
        *(outcome(n, Result.FAILED, "unreachable", instance=vms[n]) for n in range(3)),
        outcome(4, Result.FAILED, "not_permitted", instance=vms[4]),
        outcome(5, Result.PLANNED, None, instance=vms[5], mode=Mode.APPROVE),
    )
    kinds = [(line.reason, count) for line, count in found.troubles()]
    assert kinds == [("unreachable", 3), ("not_permitted", 1)]
    assert all(line.next_step for line, _ in found.troubles())
    assert found.awaiting == 1


def test_a_silence_is_drawn_as_one() -> None:
    """Every bucket between the first and the last outcome has its place, though nothing happened in it."""
    drawn = charts.over_time(report(outcome(1, at=START), outcome(2, at=START + timedelta(hours=1))))
    assert len(drawn) == 13
    assert [bar.total for bar in drawn] == [1, *[0] * 11, 1]
    assert drawn[0].parts[0].percent == 100


# The file


def written(run: Run, tmp_path: Path, *outcomes: Outcome) -> str:
    out = tmp_path / "sub" / "report.html"
    ran = run("report", "-", "--out", out, stdin=lines(*outcomes))
    assert ran.exit_code == 0, ran.stderr
    assert str(out) in ran.stdout
    return out.read_text()


def test_outcomes_are_counted_by_owner_if_any_has_one(run: Run, tmp_path: Path) -> None:
    """Without the label nothing speaks of owners."""
    plain = outcome(1)
    assert "By owner" not in written(run, tmp_path, plain)
    assert "By owner" in written(run, tmp_path, plain, replace(outcome(2), owner="shop"))
    assert report(replace(plain, owner="shop")).by_owner["shop"].total() == 1


def test_a_count_weighs_in_every_share_as_many_as_it_tells() -> None:
    """Twelve of one zone are twelve of its group as well."""
    counted = replace(
        outcome(1, Result.REFUSED, "opted_in"),
        count=12,
        first_at=START,
        owner="shop",
        lineage=Lineage(group="projects/p/zones/us-west1-a/instanceGroupManagers/web"),
    )
    found = report(counted)
    for of in (found.by_runbook, found.by_zone, found.by_owner, found.by_group):
        assert [each.total() for each in of.values()] == [12]
    assert [count for _, count in found.funnel()][:2] == [12, 12]


def test_a_count_is_spread_over_the_time_that_it_tells_of() -> None:
    """Not all at its end; the VM's events add up, and no earlier outcome is said to be left out."""
    hours = timedelta(hours=11)
    again = replace(outcome(1, Result.SKIPPED, "cooling_down", at=START + hours), count=144, first_at=START)
    found = report(again)
    moments = sorted(found.over_time)
    assert (found.first, found.last) == (START, START + hours)
    assert {each["skipped"] for each in found.over_time.values()} == {3}
    assert {later - sooner for sooner, later in itertools.pairwise(moments)} <= {842, 843}
    (vm,) = found.vms.values()
    assert (vm.count, vm.entries) == (144, 1)
    assert "earlier outcomes are not shown" not in render(found)
    one = report(replace(again, count=1))
    assert one.over_time == {moments[-1]: {"skipped": 1}}


def test_the_page_is_small(run: Run, tmp_path: Path) -> None:
    """Forty-five outcomes are a mail's attachment, and carry no library."""
    assert len(written(run, tmp_path, *(outcome(n) for n in range(45)))) < 60_000


def test_a_formula_in_an_outcome_is_none_in_the_file_of_vms() -> None:
    """A spreadsheet runs nothing that an outcome says."""
    page = render(report(outcome(1, Result.FAILED, "x", detail="=HYPERLINK(1)")))
    (link,) = re.findall(r'base64,([^"]+)', page)
    assert ",'=HYPERLINK(1)," in base64.b64decode(link).decode()


def test_the_page_stands_alone(run: Run, tmp_path: Path) -> None:
    """No link, no source, no import from anywhere; its own policy forbids what it does not need."""
    page = written(run, tmp_path, outcome(1))
    markup = re.sub(r"(?s)<script.*?</script>", "", page)
    assert not re.search(r"(?:src|href)=(?!\"data:)", markup)
    assert "@import" not in markup
    assert "url(" not in markup
    assert "default-src 'none'; script-src 'sha256-" in page
    assert "'unsafe-inline'" not in page.partition("script-src")[2].partition(";")[0]


HOSTILE_CHANGES: list[dict[str, Any]] = [
    *({field: HOSTILE} for field in ("detail", "reason", "instance_name", "runbook", "requested_by")),
    {"before": Evidence(101, {"x": HOSTILE, HOSTILE: "y"}, START)},
]


@pytest.mark.parametrize("changes", HOSTILE_CHANGES, ids=lambda changes: next(iter(changes)))
def test_what_an_outcome_says_is_text_and_nothing_else(
    run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Outcomes carry words of VMs, and of anyone who can write to a log."""
    page = written(run, tmp_path, outcome(1, **changes))
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img" not in re.sub(r"(?s)<script.*?</script>", "", page)
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page
    assert "7*7" in page


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        ([], None, "LOGMEND_STATE="),
        (["-"], "", "no outcome to report on"),
        (["-"], "nonsense", "no outcome in it"),
        (["no-such-file"], None, "cannot be read"),
        (["--cloud"], None, "LOGMEND_PROJECT"),
    ],
)
def test_input_of_no_use_is_told(
    run: Run, tmp_path: Path, args: list[str], stdin: str | None, told: str
) -> None:
    """Status 2, and no file is written."""
    out = tmp_path / "report.html"
    ran = run("report", *args, "--out", out, stdin=stdin)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    """Status 2."""
    (tmp_path / "file").write_text("")
    ran = run("report", "-", "--out", tmp_path / "file" / "report.html", stdin=lines(outcome(1)))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "cannot be written" in ran.stderr


def test_chosen_labels_are_counted_searched_and_in_the_file() -> None:
    """A card for each key; whoever searches for env=prod finds the VM; a name is said to be a claim."""
    page = render(report(outcome(1, labels={"env": "prod", "team": HOSTILE}, requested_by="ann@desk")))
    assert page.count('class="card labels"') == 2
    assert "By label env" in page
    assert re.search(r'data-text="[^"]*env=prod', page)
    assert "ann@desk (claimed)" in page
    assert "<img src=x" not in page
    href = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', page)
    assert href is not None
    assert "env=prod" in base64.b64decode(href[1]).decode()
