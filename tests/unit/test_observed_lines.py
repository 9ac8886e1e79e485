"""Every line that a real guest agent was seen to print comes to what is right for its tag and its VM."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.refresher import GATED_SINCE, RUNS, SAID, UNDATED, Run
from tests.unit.corpus import outcome
from tests.unit.test_match import entry, paths

from logmend.model.values import LogEntry
from logmend.runbook import BUILT_IN, load_all
from logmend.stages import decode, match

PROGRAM = "gce_workload_cert_refresh"
ROUTER = match.Router(load_all())
OURS = re.compile(
    r"Error getting config status, workload certificates may not be configured: |No workload identi"
)
OTHERS = re.compile(
    "Done$|Rotating |Creating |Error reading existing symlink: |Error unmarshaling |Error refreshCreds: |"
    "error connecting to metadata server, retrying |Exhausted 100 retry attempts |Error getting project ID: |"
    "UNDATED Error getting metadata attribute created-by: "
)
"""How the program's other lines begin; a line that is in neither list fails the test below."""
WORDING_OF_2023 = "error connecting to metadata server, status code: 404"
REPORTING = [(run, line) for run in RUNS for line in run.lines if OURS.match(line)]


def said(line: str) -> str:
    """Give a line as the program writes it, with its date unless it has none."""
    return line.removeprefix(UNDATED) if line.startswith(UNDATED) else f"2026/07/24 04:27:51: {line}"


def arrivals(line: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the entries in which a line arrives: whole, and cut into lines as journald and syslog do."""
    text = said(line)
    for path, raw in paths("Jul 24 04:27:51 host {program}[929]: ", PROGRAM, text).items():
        yield path, raw
    for path, raw in paths("", PROGRAM, text.partition("\n")[0].rstrip()).items():
        yield f"first line, {path}", raw


def judged(raw: dict[str, Any]) -> dict[str, str | None]:
    """Run decode and match on an entry, as the function does."""
    event = decode.document(raw)
    assert isinstance(event, LogEntry)
    return outcome(match.runbook(event, ROUTER))


def verdict(run: Run, line: str) -> tuple[str, str | None]:
    """Give what a line of ours has to come to, from what was answered rather than from its words."""
    if run.answer.startswith("404"):
        proves_the_opt_in = run.gated and not line.endswith(WORDING_OF_2023)
        return ("refused", "opted_in") if proves_the_opt_in else ("matched", None)
    return "refused", "certificates_configured" if run.answer == "412" else "metadata_server_trouble"


def test_every_observed_line_is_ours_or_named_as_none_of_ours() -> None:
    """The two lists share nothing and leave nothing out, and each line of the second list was seen."""
    lines = {line for run in RUNS for line in run.lines}
    assert {line for line in lines if bool(OURS.match(line)) == bool(OTHERS.match(line))} == set()
    assert all(any(re.match(each, line) for line in lines) for each in OTHERS.pattern.split("|"))


@pytest.mark.parametrize(("run", "line"), REPORTING, ids=[str(run) for run, _ in REPORTING])
def test_every_line_about_certificates_gets_the_verdict_that_its_run_deserves(run: Run, line: str) -> None:
    """404 from an agent that asks everybody is acted on; 412, trouble and a proven opt-in are left alone."""
    wanted, reason = verdict(run, line)
    for path, raw in arrivals(line):
        found = judged(raw)
        assert (found["result"], found.get("reason")) == (wanted, reason), path


@pytest.mark.parametrize("line", sorted({line for run in RUNS for line in run.lines if OTHERS.match(line)}))
def test_no_other_line_of_the_program_is_matched(line: str) -> None:
    """What the program says besides, dated or not, costs no look at the VM."""
    for path, raw in arrivals(line):
        assert judged(raw)["result"] == "unmatched", path


def test_the_further_lines_of_an_answer_are_not_matched() -> None:
    """A page of HTML is cut into lines by the journal; all but the first are nobody's."""
    pages = {line for run in RUNS for line in run.lines if "\n" in line}
    assert len(pages) > 2
    for text in (further for page in pages for further in page.split("\n")[1:] if further):
        raw = entry("journald", jsonPayload={"MESSAGE": text, "SYSLOG_IDENTIFIER": PROGRAM})
        assert judged(raw)["result"] == "unmatched", text


def test_only_agents_that_ask_everybody_or_the_wording_of_2023_lead_to_an_act() -> None:
    """Of all that was seen, a look at the VM follows only where the line cannot have proven an opt-in."""
    acts = {
        (run.tag, run.opted_in, line)
        for run, line in REPORTING
        for _, raw in arrivals(line)
        if judged(raw)["result"] == "matched"
    }
    assert {tag for tag, _, line in acts if not line.endswith(WORDING_OF_2023)} == {
        "20220927.00",
        "20221018.00",
        "20221104.00",
        "20230913.00",
    }
    assert {opted_in for tag, opted_in, _ in acts if tag >= GATED_SINCE} == {True}


INVENTED = {"unknown-status"}
"""Golden cases that ask what happens to a line which no agent has printed."""
CASES = sorted((BUILT_IN / "workload-cert-refresh/cases").glob("*.json"))
DATED = re.compile(r"(?:gce_workload_cert_refresh|google_guest_agent): |\d{4}/\d\d/\d\d [\d:]{8}: ")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:]{8}[+-][\d:]{5}")


def printed(text: str) -> bool:
    """Say whether an agent printed the text behind program and date, or its first line."""
    said = TIME.sub("<RFC3339>", DATED.sub("", text))
    lines = {line.removeprefix(UNDATED) for line in SAID}
    return said in lines or said in {line.partition("\n")[0].rstrip() for line in lines}


@pytest.mark.parametrize("case", CASES, ids=[each.stem for each in CASES])
def test_every_golden_line_is_one_that_an_agent_printed(case: Path) -> None:
    """A case for a line of the program holds its words, not ours, unless it says that it was invented."""
    raw = json.loads(case.read_text())["event"]
    event = decode.document(raw)
    texts = event.texts if isinstance(event, LogEntry) else ()
    ours = [text for text in texts if DATED.match(text) or OURS.match(text)]
    assert [text for text in ours if printed(text) == (case.stem in INVENTED)] == []


@pytest.mark.parametrize("page", ["docs/the-line.md", "docs/runbooks.md"])
def test_each_page_about_the_line_names_every_variant(page: str) -> None:
    """Whoever adds a form to the runbook tells it in both places."""
    named = set(re.findall(r"`([a-z_0-9]+)`", (Path(__file__).parents[2] / page).read_text()))
    assert {each.name for each in load_all()["workload-cert-refresh"].variants} - named == set()
