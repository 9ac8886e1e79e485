"""The document of an outcome: its keys, its round trip, its severity and what to do next."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import logmend
from logmend.model import evidence
from logmend.model.enums import Action, Mode, Result
from logmend.model.struct import replace
from logmend.model.values import Evidence, InstanceRef, Latency, Outcome, Source
from logmend.outcome import document as outcome_json
from logmend.outcome import reasons

AT = datetime(2026, 11, 22, 16, 0, 0, 123000, tzinfo=UTC)
REF = InstanceRef("web-prod", "us-west1-a", "4775836342981993096")
FULL = Outcome(
    result=Result.REMEDIATED,
    reason=None,
    detail="",
    at=AT,
    outcome_id="m-1234-1",
    mode=Mode.ENFORCE,
    version="0.1.0",
    runbook="workload-cert-refresh",
    runbook_digest="sha256:ab",
    variant="not_configured",
    action=Action.ENFORCE,
    executor="ssh",
    instance=REF,
    instance_name="web-1",
    attempt=2,
    before=Evidence(101, {"timer_enabled": "enabled", "config_status": "404"}, AT),
    after=Evidence(100, {"timer_enabled": "disabled"}, AT + timedelta(seconds=2)),
    intent_id="m-1234",
    message_id="1234",
    source=Source("log_entry", "projects/web-prod/logs/syslog", "abc", AT - timedelta(minutes=1), None),
    replay_of="1200",
    requested_by="user@example.com",
    approval_id="a1",
    approval_expires_at=AT + timedelta(days=1),
    notes=("partner_metadata_unknown",),
    latency=Latency(10, 20, 30, 60),
    host_key="first_seen",
    credential="imported_key",
    committed=True,
    owner="payments",
    labels={"env": "prod"},
    why="CHG-7",
    passes=("blackout 12-24 UTC, until 2026-12-25T00:00:00Z",),
)
BARE = Outcome(Result.REJECTED, "malformed", "not JSON", AT, "d-1", Mode.OBSERVE, "0.1.0")


def but(**changes: object) -> Outcome:
    """Give the full outcome with some fields changed."""
    return replace(FULL, **changes)  # type: ignore[arg-type]


def test_the_document_has_exactly_the_documented_keys_whatever_applies() -> None:
    """A reader never has to ask whether a key is there."""
    keys = [
        *("timestamp", "severity", "result", "reason", "detail", "next_step", "runbook", "runbook_digest"),
        *("variant", "action", "mode", "executor", "host_key", "credential", "instance", "owner", "attempt"),
        *("committed", "before", "after", "cause", "cause_why", "cause_concerns", "cause_evidence"),
        *("cause_step", "cause_runbook", "message_id"),
        *("source", "replay_of", "requested_by", "identity", "why", "passes", "approval", "notes"),
        *("latency_ms", "outcome_id", "intent_id", "count", "first_at", "version"),
    ]
    assert list(outcome_json.document(FULL)) == keys
    assert list(outcome_json.document(BARE)) == keys
    assert outcome_json.document(FULL)["instance"] == {
        "project_id": "web-prod",
        "zone": "us-west1-a",
        "instance_id": "4775836342981993096",
        "name": "web-1",
        **dict.fromkeys(("group", "template", "image")),
        "labels": {"env": "prod"},
    }
    assert list(outcome_json.document(FULL)["latency_ms"]) == ["queue", "lookup", "act", "total"]
    assert list(outcome_json.document(FULL)["source"]) == (
        ["kind", "log_name", "insert_id", "timestamp", "incident_id"]
    )


def test_evidence_can_be_queried_by_its_own_names() -> None:
    """``jsonPayload.before.timer_enabled="enabled"`` finds the VMs that had the fault."""
    before = outcome_json.document(FULL)["before"]
    assert before["timer_enabled"] == "enabled"
    assert before["exit_code"] == 101
    assert before["finding"] == "faulty"
    assert outcome_json.document(BARE)["before"] is None


@pytest.mark.parametrize("outcome", [FULL, BARE], ids=["full", "bare"])
def test_an_outcome_comes_back_from_its_line_and_gives_the_same_line_again(outcome: Outcome) -> None:
    """What a file or Cloud Logging kept is as good as the value."""
    line = outcome_json.line(outcome)
    again = outcome_json.from_json(json.loads(line))
    assert again == outcome
    assert outcome_json.line(again) == line


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
WHEN = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
EVIDENCE = st.builds(
    Evidence,
    exit_code=st.integers(-1, 255),
    values=st.dictionaries(
        st.from_regex("[a-z_]{1,9}", fullmatch=True).filter(lambda key: key not in evidence.RESERVED), TEXT
    ),
    at=WHEN,
    error=TEXT,
)


@given(
    outcome=st.builds(
        Outcome,
        result=st.sampled_from(Result),
        reason=st.none() | TEXT,
        detail=TEXT,
        at=WHEN,
        outcome_id=st.text("abc-1", min_size=1),
        mode=st.sampled_from(Mode),
        version=st.just("1"),
        action=st.none() | st.sampled_from(Action),
        instance=st.none() | st.just(REF),
        before=st.none() | EVIDENCE,
        after=st.none() | EVIDENCE,
        notes=st.lists(TEXT, max_size=3).map(tuple),
        requested_by=st.none() | TEXT,
    )
)
def test_any_outcome_survives_the_round_trip_as_one_line(outcome: Outcome) -> None:
    """No text, however odd, breaks the line or is lost."""
    line = outcome_json.line(outcome)
    assert len(line.splitlines()) == 1
    assert outcome_json.from_json(json.loads(line)) == outcome


def test_numbers_that_cloud_logging_turned_into_doubles_are_read_as_whole() -> None:
    """A jsonPayload is a protobuf Struct, which knows doubles only."""
    document = json.loads(outcome_json.line(FULL), parse_int=float)
    assert outcome_json.from_json(document) == FULL


@pytest.mark.parametrize("document", [{}, {"result": "fixed"}, {"result": "planned", "timestamp": "now"}])
def test_what_is_no_outcome_is_a_value_error(document: dict[str, str]) -> None:
    """A file of other JSON is named as such, not half read."""
    with pytest.raises(ValueError, match="not an outcome of logmend"):
        outcome_json.from_json(document)


@pytest.mark.parametrize(
    "odd",
    [
        {"attempt": float("inf")},
        {"count": 2**63},
        {"latency_ms": {"total": 1e300}},
        {"timestamp": "0001-01-01T00:00:00+23:59"},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_a_number_or_time_out_of_every_range_is_a_value_error(odd: dict[str, object]) -> None:
    """Whoever may write to the log cannot end `status` or `report` by it."""
    document = json.loads(outcome_json.line(FULL)) | odd
    with pytest.raises(ValueError, match="not an outcome of logmend"):
        outcome_json.from_json(document)


def test_lone_surrogates_of_an_event_do_not_reach_the_log() -> None:
    """JSON can carry what UTF-8 cannot; the log's API would refuse the whole entry."""
    odd = but(message_id="a\ud800b", outcome_id="m-\ud800", source=Source("log_entry", insert_id="\udfff"))
    document = outcome_json.document(odd)
    assert document["outcome_id"] == "m-?"
    assert document["message_id"] == "a?b"
    assert document["source"]["insert_id"] == "?"


@pytest.mark.parametrize(
    ("result", "severity"),
    [
        (Result.REMEDIATED, "NOTICE"),
        (Result.PLANNED, "NOTICE"),
        (Result.SKIPPED, "INFO"),
        (Result.PARKED, "INFO"),
        (Result.REJECTED, "WARNING"),
        (Result.DEFERRED, "WARNING"),
        (Result.UNVERIFIED, "WARNING"),
        (Result.FAILED, "ERROR"),
    ],
)
def test_severity_says_whether_a_person_is_needed(result: Result, severity: str) -> None:
    """An alert on ERROR pages for failures only."""
    assert outcome_json.severity(but(result=result)) == severity


def test_needs_human_is_an_error_once() -> None:
    """The first one tells people; the ones after it are noise."""
    first = but(result=Result.SKIPPED, reason="needs_human", notes=(reasons.FIRST_NEEDS_HUMAN,))
    later = but(result=Result.SKIPPED, reason="needs_human")
    assert outcome_json.severity(first) == "ERROR"
    assert outcome_json.severity(later) == "INFO"


def test_a_misspelt_runbook_is_told_to_a_person() -> None:
    """An alert policy that names a runbook which does not exist would look after nothing, unnoticed."""
    said = but(result=Result.REFUSED, reason="unknown_runbook")
    assert outcome_json.severity(said) == "ERROR"


def test_the_insert_id_is_the_outcomes_own_and_always_acceptable() -> None:
    """The same outcome never makes two entries; two outcomes never share one."""
    assert outcome_json.insert_id(FULL) == "m-1234-1"
    odd, other = but(outcome_id="m-\ud800/…-1"), but(outcome_id="m-\ud801/…-1")
    assert re.fullmatch("[0-9a-f]{40}", outcome_json.insert_id(odd))
    assert outcome_json.insert_id(odd) != outcome_json.insert_id(other)


def test_labels_leave_out_what_does_not_apply() -> None:
    """A log-based metric gets no label with an empty value."""
    assert outcome_json.labels(FULL) == {"result": "remediated", "runbook": "workload-cert-refresh"}
    assert outcome_json.labels(BARE) == {"result": "rejected", "reason": "malformed"}


def test_the_next_step_is_a_command_ready_to_paste() -> None:
    """A person who reads the entry knows what to type."""
    undo = f"logmend revert {REF} --runbook workload-cert-refresh --enforce"
    assert reasons.next_step(FULL) == f"to undo: {undo}"
    waiting = but(result=Result.PLANNED)
    assert "logmend approvals approve a1" in reasons.next_step(waiting)
    assert outcome_json.document(but(result=Result.NOTHING_TO_DO))["next_step"] is None


@pytest.mark.parametrize(
    "reason", [word for word, known in reasons.REASONS.items() if known.next_step == reasons.WAIT]
)
def test_only_what_is_deferred_is_said_to_be_delivered_again(reason: str) -> None:
    """Pub/Sub delivers nothing again that was acknowledged: the tick does, or a person."""
    assert "delivers the message again" in reasons.next_step(but(result=Result.DEFERRED, reason=reason))
    for result in (Result.FAILED, Result.PARKED, Result.REQUESTED, Result.UNVERIFIED):
        step = reasons.next_step(but(result=result, reason=reason))
        assert step
        assert "delivers" not in step


def test_a_change_without_proof_says_how_to_undo_it() -> None:
    """Where something was changed and it is not known to have helped, the way back is at hand."""
    undo = f"to undo: logmend revert {REF} --runbook workload-cert-refresh --enforce"
    for result, reason in (
        (Result.UNVERIFIED, "no_second_check"),
        (Result.UNVERIFIED, "connection_lost"),
        (Result.FAILED, "still_faulty"),
        (Result.FAILED, "unverifiable"),
    ):
        assert reasons.next_step(but(result=result, reason=reason)).endswith(undo)
        assert "to undo" not in reasons.next_step(but(result=result, reason=reason, action=Action.REVERT))
    assert "to undo" not in reasons.next_step(but(result=Result.FAILED, reason="wrong_instance"))


def test_commands_name_the_vm_as_their_program_wants_it_and_repeat_what_was_asked() -> None:
    """A failed revert is tried again with revert; gcloud gets id, zone and project."""
    step = reasons.next_step(but(result=Result.FAILED, reason="script_error", action=Action.REVERT))
    assert step.endswith(f"logmend revert {REF} --runbook workload-cert-refresh --enforce")
    step = reasons.next_step(but(result=Result.FAILED, reason="wrong_instance"))
    assert step.endswith("describe 4775836342981993096 --zone=us-west1-a --project=web-prod")


def test_every_word_has_a_meaning_and_every_next_step_can_be_filled_in() -> None:
    """No brace is left over and no result is without words."""
    for result in Result:
        assert reasons.meaning(result, None)
        for reason in (None, "never_heard_of", *reasons.REASONS):
            step = reasons.next_step(but(result=result, reason=reason))
            assert "{" not in step
            assert reasons.meaning(result, reason).endswith(".")


SOURCES = Path(logmend.__file__).parent
RAISED = re.compile(
    r"(?:\b(?:Transient|Permanent|Undecodable|transient|permanent|Trouble|Verdict)\(\s*"
    r"(?:(?:transient=)?(?:True|False),\s*|Result\.[A-Z_]+,\s*)?|get\(\"reason\", |reason if [a-z.]+ else )"
    r"\"([a-z_]+)\""
)
IN_RUNBOOKS = re.compile(r"(?:\breason: |\breason=|\|\| leave |\) leave )([a-z_]+)\b")


def test_every_reason_that_the_code_gives_is_explained() -> None:
    """A reason without a row would leave its reader alone."""
    used = {
        (word, path.name)
        for path in SOURCES.rglob("*.py")
        if "cli" not in path.parts
        for word in RAISED.findall(path.read_text())
    }
    used |= {
        (word, path.name)
        for path in (SOURCES / "runbooks").rglob("*")
        if path.name == "runbook.yaml" or path.suffix == ".sh"
        for word in IN_RUNBOOKS.findall(path.read_text())
    }
    assert len(used) > 20
    assert {(word, where) for word, where in used if word not in reasons.REASONS} == set()


def test_no_reason_is_explained_that_the_code_never_gives() -> None:
    """A dead row would send a reader looking for what cannot be."""
    files = [path for path in SOURCES.rglob("*") if path.suffix in {".py", ".sh", ".yaml"}]
    given = {
        word for path in files if path.name != "reasons.py" for word in re.findall(r"\w+", path.read_text())
    }
    assert [word for word in reasons.REASONS if word not in given] == []


def rows() -> list[str]:
    """Give the tables of docs/outcomes.md, line by line."""
    results = [
        f"| `{result}` | {outcome_json.severity(but(result=result))} | {meaning} | {shown(step)} |"
        for result, (meaning, step) in reasons.RESULTS.items()
    ]
    return results + [
        f"| `{word}` | {meaning} | {shown(step)} |" for word, (meaning, step) in reasons.REASONS.items()
    ]


def shown(step: str) -> str:
    """Give a next step as the page shows it."""
    for word in ("instance", "runbook", "approval", "vm"):
        step = step.replace("{" + word + "}", word.upper())
    return step.replace("{command}", "run")


def test_the_documentation_has_the_very_same_tables() -> None:
    """What is printed here is ready to be pasted into docs/outcomes.md."""
    page = (Path(__file__).parents[2] / "docs" / "outcomes.md").read_text()
    text = page.partition("## Results")[2].splitlines()
    wanted = rows()
    assert "\n".join(line for line in wanted if line not in text) == ""
    assert [line for line in text if re.match(r"\| `[a-z_]+` \|", line) and line not in wanted] == []


def test_the_ssh_guide_has_the_command_that_publishes_host_keys() -> None:
    """The one that the lab tries, word for word."""
    assert f"```sh\n{reasons.PUBLISH}\n```" in (Path(__file__).parents[2] / "docs" / "ssh.md").read_text()


def test_evidence_keeps_only_plain_pairs() -> None:
    """Noise, controls, reserved words, long values and late lines of a hostile machine are dropped."""
    output = (
        b"timer_enabled=enabled\r\nconfig_status=404\nnoise\nUPPER=1\nexit_code=100\nerror=x\n"
        b"colour=\x1b[31mred\nbytes=\xff\xfe\nlong=" + b"a" * 257 + b"\ntimer_enabled=disabled\nempty=\nfits="
        b"" + b"b" * 256 + b"\n"
    )
    assert evidence.values(output) == {
        "timer_enabled": "enabled",
        "config_status": "404",
        "empty": "",
        "fits": "b" * 256,
    }
    assert evidence.values(b"x" * evidence.LIMIT + b"\nlate=1\n") == {}


@pytest.mark.parametrize("word", ["two words", "Reason", "a" * 41, "", "x-y", "<b>"])
def test_a_reason_that_is_no_reason_is_dropped(word: str) -> None:
    """A VM cannot invent labels for metrics."""
    assert evidence.values(f"reason={word}\na=1\n".encode()) == {"a": "1"}
    assert evidence.values(b"reason=masked_by_others\n") == {"reason": "masked_by_others"}


@given(st.binary(max_size=9000))
def test_whatever_a_machine_prints_evidence_stays_small_and_printable(output: bytes) -> None:
    """No output can break a log line or grow without bound."""
    found = evidence.values(output)
    assert all(key.isascii() and value.isprintable() and len(value) <= 256 for key, value in found.items())
    error = evidence.error_text(output)
    assert len(error) <= evidence.ERROR_LIMIT
    assert error.isprintable()


def test_an_errors_end_is_kept_because_that_is_where_it_says_what_went_wrong() -> None:
    """A long trace still ends in its cause."""
    assert evidence.error_text(b"a\n" * 900 + b"\x1b[1msudo: a password is required\n").endswith(
        " sudo: a password is required"
    )


def test_an_errors_cause_is_kept_though_the_program_ends_with_many_words_of_its_own() -> None:
    """As apt under Google's installer; once each, and without the password of a proxy or mirror."""
    cause = "W: GPG error: https://me:sec@ret@example.com/apt InRelease: NO_PUBKEY C0BA5CE6DC6315A3\n"
    cause += "E: The repository 'https://me:secret@example.com/apt bookworm' is not signed.\n"
    said = evidence.error_text((cause * 2 + "Please check your network connectivity. " * 40).encode())
    assert said.startswith(
        "W: GPG error: https://example.com/apt InRelease: NO_PUBKEY C0BA5CE6DC6315A3 E: The"
    )
    assert "'https://example.com/apt bookworm' is not signed. …" in said
    assert said.endswith("check your network connectivity.")
    assert (said.count("is not signed"), "secret" in said, "ret@" in said) == (1, False, False)
    assert len(said) <= evidence.ERROR_LIMIT


def test_what_dnf_says_of_a_conflict_is_a_cause_as_well() -> None:
    """As dnf 4.14 has it, under the installer's own words."""
    why = "Problem: package google-cloud-ops-agent conflicts with stackdriver-agent"
    last = "Please check your network connectivity. " * 40
    said = evidence.error_text(f"Error: \n {why}\n  - conflicting requests\n{last}\n".encode())
    assert said.startswith(f"{why} …")


def test_an_incident_without_its_vm_is_mended_at_the_condition() -> None:
    """Its series were aggregated: nothing in a dead letter brings the labels back."""
    incident = but(
        result=Result.REJECTED, reason="bad_identity", source=Source("incident", incident_id="0.a")
    )
    assert reasons.next_step(incident).startswith("group the condition by project_id, zone, instance_id")
    entry = but(result=Result.REJECTED, reason="bad_identity", source=Source("log_entry"))
    assert "dead-letter" in reasons.next_step(entry)


@given(
    st.datetimes(AT.replace(year=2, tzinfo=None), AT.replace(year=9998, tzinfo=None)),
    st.sampled_from([0, 1, 123_000, 999_999]),
    st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(0))]),
)
def test_a_time_is_written_in_utc_with_six_digits(at: datetime, micros: int, zone: timezone) -> None:
    """Text sorts as time does, whatever zone and fraction the time came with."""
    at = at.replace(microsecond=micros, tzinfo=zone)
    written = outcome_json.document(replace(BARE, at=at))["timestamp"]
    assert written == f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
