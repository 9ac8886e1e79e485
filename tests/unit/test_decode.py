"""Requests and documents become events, or a reason why not; nothing is ever raised."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.unit.corpus import EXPECTED, names, text, value

from logmend.model.values import Incident, LogEntry, Tick, Undecodable
from logmend.stages import decode
from logmend.stages.decode.payload import instant, unix_seconds

JSON = {"Content-Type": "application/json"}
ENTRY: dict[str, Any] = value("entries", "ops_agent_syslog_rfc3164")


def push(data: bytes, **message: Any) -> bytes:
    """Return the body of a push of ``data``."""
    return json.dumps(
        {"message": {"data": base64.b64encode(data).decode(), "messageId": "1", **message}}
    ).encode()


def reason(found: object) -> str:
    """Return why something is no event; its class where it is one."""
    return found.reason if isinstance(found, Undecodable) else type(found).__name__


@pytest.mark.parametrize("name", names("pushes"))
def test_every_push_is_read_as_expected(name: str) -> None:
    """Each body gives the event, or the reason, and the delivery that expected.yaml says."""
    wanted = EXPECTED["pushes"][name]
    delivery, event = decode.request(text("pushes", name), JSON)
    assert reason(event) == wanted["event"]
    message_id = wanted.get("message_id", delivery.message_id)
    assert delivery.message_id.startswith("h-") if message_id == "h-" else delivery.message_id == message_id
    assert delivery.delivery_attempt == wanted.get("delivery_attempt", delivery.delivery_attempt)
    assert delivery.replay_of == wanted.get("replay_of")


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in ("entries", "incidents") for n in names(k)])
def test_every_document_is_an_event_of_its_kind(kind: str, name: str) -> None:
    """Odd as they are, all entries and incidents decode, with a line time only where it is certain."""
    event = decode.document(value(kind, name))
    assert isinstance(event, LogEntry if kind == "entries" else Incident)
    if isinstance(event, LogEntry):
        wanted = EXPECTED[kind][name]
        line_time = wanted.get("line_time")
        assert event.line_time == (datetime.fromisoformat(line_time) if line_time else None)
        assert (event.timestamp is None) == ("timestamp" in wanted)
        assert "\x1b" not in "".join(event.texts)


def test_a_push_tells_all_about_its_delivery() -> None:
    """Publish time, attributes, subscription and attempt are at hand for the outcome."""
    delivery, event = decode.request(text("pushes", "sink_export"), JSON)
    assert delivery.publish_time == datetime(2023, 9, 23, 4, 27, 52, 377000, UTC)
    assert delivery.attributes == {"logging.googleapis.com/timestamp": ENTRY["timestamp"]}
    assert delivery.subscription == "projects/example-prod-4711/subscriptions/logmend-push"
    assert isinstance(event, LogEntry)
    assert event.raw == ENTRY


@pytest.mark.parametrize("ce_type", ["ce-type", "CE-Type", "Ce-type"])
def test_a_cloud_event_in_binary_mode_is_told_by_its_headers(ce_type: str) -> None:
    """Eventarc's form: the attributes are headers in any case, the body is the message."""
    body = text("pushes", "sink_export")
    headers = {
        ce_type: "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-id": "9",
        "ce-specversion": "1.0",
    }
    delivery, event = decode.request(body, headers)
    assert (delivery.message_id, reason(event)) == ("9210846130517372", "LogEntry")
    _, event = decode.request(body, headers | {ce_type: "google.cloud.audit.log.v1.written"})
    assert reason(event) == "not_an_event"
    without_id = json.dumps({"message": {"data": base64.b64encode(b'{"logmend":"tick"}').decode()}}).encode()
    assert decode.request(without_id, headers)[0].message_id == "9"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no_data"),
        (b" \n", "no_data"),
        (b"{", "malformed"),
        (b"null", "malformed"),
        (b"[]", "malformed"),
        (b"{}", "malformed"),
        (b'{"message": null}', "malformed"),
        (b'{"message": {"data": 5}}', "malformed"),
        (b"\xff\xfe{}", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"message":' * 50_000, "malformed"),
        (b'{"message": ' + b"9" * 5000 + b"}", "malformed"),
        (push(b"[" * 10_000), "malformed"),
        (push(b'{"logName": "l", "jsonPayload": ' + b'{"a":' * 200 + b"1" + b"}" * 201), "malformed"),
        (push(b'{"logName": 5}'), "malformed"),
        (push(b'{"logName": "l", "resource": []}'), "malformed"),
        (push(b'{"logName": "l", "labels": "x"}'), "malformed"),
        (push(b'{"logName": "l", "jsonPayload": "x"}'), "malformed"),
        (push(b'{"logName": "l", "textPayload": {}}'), "malformed"),
        (push(b'{"incident": "x"}'), "malformed"),
        (push(b'{"logmend": "tick", "logName": "l"}'), "malformed"),
        (push(b'{"logName": null}'), "not_an_event"),
        (push(b"{}"), "not_an_event"),
        (push(b"42"), "not_an_event"),
        (push(b"NaN"), "not_an_event"),
        (b"x" * (decode.MAX_BODY + 1), "too_large"),
        (push(b'{"logName": "l", "textPayload": "' + b"x" * decode.MAX_ENTRY + b'"}'), "too_large"),
    ],
    ids=lambda each: repr(each[:40]) if isinstance(each, bytes) else each,
)
def test_what_is_no_event_is_named_for_what_is_wrong(body: bytes, why: str) -> None:
    """Each kind of damage has its reason, and the delivery still has an id to be recorded under."""
    delivery, event = decode.request(body, JSON)
    assert reason(event) == why
    assert delivery.message_id
    assert decode.request(body, JSON)[0] == delivery


@pytest.mark.parametrize(
    "said",
    ["x" * 262_000, '"' * 262_000, "\x07" * 262_000, "<\x1b[31m" * 43_000, "ä" * 131_000, "\u2028" * 87_000],
    ids=["plain", "quotes", "control characters", "colours", "umlauts", "line separators"],
)
def test_the_largest_entry_that_logging_accepts_is_read(said: str) -> None:
    """256 KiB of whatever it says, however JSON has to spell it, HTML-safe as protobuf's own JSON too."""
    assert len(said.encode()) <= 256 * 1024
    whole = json.dumps({"logName": "projects/p-1/logs/l", "textPayload": said}, ensure_ascii=False)
    safe = whole.replace("<", "\\u003c").encode()
    assert reason(decode.request(push(safe), JSON)[1]) == "LogEntry"
    assert [reason(each) for _, each, _ in decode.any_shape(safe)] == ["LogEntry"]


def test_the_largest_numbers_that_logging_accepts_are_read() -> None:
    """A double is 11 bytes to Logging in a list, 25 as JSON."""
    many = [-1.7976931348623157e308] * (256 * 1024 // 11)
    whole = json.dumps({"logName": "projects/p-1/logs/l", "jsonPayload": {"x": many}}, separators=(",", ":"))
    assert reason(decode.request(push(whole.encode()), JSON)[1]) == "LogEntry"


def test_escapes_do_not_let_in_what_is_larger_than_any_entry() -> None:
    """Both limits hold: what is spelled, and what it takes to spell it."""
    for said in ("\x07" * 400_000, "x" * decode.MAX_ENTRY):
        whole = json.dumps({"logName": "projects/p-1/logs/l", "textPayload": said}).encode()
        assert reason(decode.request(push(whole), JSON)[1]) == "too_large"


def test_a_detail_never_quotes_the_payload() -> None:
    """A rejection is recorded and shown; what was sent may be a secret."""
    for secret in (
        b"hunter2-hunter2",
        b'{"logmend": "hunter2"}',
        b'{"hunter2": 1}',
        b'{"logName": ["hunter2"]}',
    ):
        event = decode.request(push(secret), JSON)[1]
        assert isinstance(event, Undecodable)
        assert "hunter2" not in event.detail


def test_lone_surrogates_do_not_survive() -> None:
    """JSON can spell what UTF-8 cannot encode; every later stage may encode what it is given."""
    _, event = decode.request(
        push(b'{"logName": "l", "textPayload": "a\\ud800b", "labels": {"\\udfff": "\\ud83d\\ude00"}}'), JSON
    )
    assert isinstance(event, LogEntry)
    assert json.dumps(event.raw, ensure_ascii=False).encode()
    assert event.raw["labels"] == {"\ufffd": "\N{GRINNING FACE}"}


def test_proto_json_nulls_are_absent_fields() -> None:
    """A field that is null is a field that is not there."""
    event = decode.document(
        {"logName": "l", "resource": None, "labels": None, "jsonPayload": None, "textPayload": None}
    )
    assert isinstance(event, LogEntry)
    assert (event.resource_type, event.texts) == ("", ())


def test_a_tick_is_exactly_a_tick() -> None:
    """Our own document is read strictly: an unknown key is an order that nobody may give by message."""
    assert decode.document({"logmend": "tick"}) == Tick()
    for other in (
        {"logmend": "Tick"},
        {"logmend": "tick", "x": 1},
        {"logmend": None},
        {"logmend": {"run": 1}},
    ):
        assert reason(decode.document(other)) == "malformed"


def test_an_incident_is_read_in_full() -> None:
    """What match, identify and the outcome need of a notification."""
    event = decode.document(value("incidents", "open_metric_threshold"))
    assert isinstance(event, Incident)
    assert (event.state, event.is_test, event.runbook) == ("open", False, "workload-cert-refresh")
    assert event.incident_id == "0.n4fvpjtr3y4q"
    assert event.started_at == datetime(2023, 9, 23, 4, 27, 51, tzinfo=UTC)
    assert event.policy_name == "Workload certificate refresh fails"
    assert event.url is not None


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("2023-09-23T04:27:51Z", datetime(2023, 9, 23, 4, 27, 51, tzinfo=UTC)),
        ("2023-09-23t04:27:51.123456789z", datetime(2023, 9, 23, 4, 27, 51, 123456, UTC)),
        ("2023-09-23T04:27:51.12345Z", datetime(2023, 9, 23, 4, 27, 51, 123450, UTC)),
        ("2023-09-23T04:27:51.1234567890Z", datetime(2023, 9, 23, 4, 27, 51, 123456, UTC)),
        ("2023-09-23T04:27:51.5+09:00", datetime(2023, 9, 22, 19, 27, 51, 500000, UTC)),
        ("2023-09-23T04:27:51+0530", datetime(2023, 9, 22, 22, 57, 51, tzinfo=UTC)),
        ("2023-09-23T04:27:51", None),
        ("2023-02-30T04:27:51Z", None),
        ("2016-12-31T23:59:60Z", None),
        ("2016-12-31T23:59:60.5Z", None),
        ("2023-02-30T04:27:51.5Z", None),
        ("2023-09-23T24:00:00.0Z", None),
        ("2023-09-23T04:27:Z\0.5Z", None),
        ("2023-09-23T04:Z\0:51.5Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("2023-09-23T04:27:51+99:99", None),
        ("2023-09-23", None),
        ("", None),
        (1695443271, None),
        (None, None),
    ],
)
def test_a_timestamp_is_read_exactly_or_not_at_all(raw: object, read: datetime | None) -> None:
    """Without a zone, or off the calendar, a time is unknown: nothing is guessed."""
    assert instant(raw) == read


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (1695443271, datetime(2023, 9, 23, 4, 27, 51, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1695443271.5, datetime(2023, 9, 23, 4, 27, 51, 500000, UTC)),
        (10**30, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("1695443271", None),
        (None, None),
    ],
)
def test_unix_seconds_are_read_exactly_or_not_at_all(raw: object, read: datetime | None) -> None:
    """Incidents count seconds; anything out of range is unknown."""
    assert unix_seconds(raw) == read


def test_the_vms_local_time_is_never_taken_for_utc() -> None:
    """The program's own ``YYYY/MM/DD hh:mm:ss`` and RFC 3164 have no zone: only RFC 3339 is believed."""
    tokyo = decode.document(value("entries", "ops_agent_syslog_rfc3339_vm_in_tokyo_time"))
    assert isinstance(tokyo, LogEntry)
    assert tokyo.line_time == datetime(2026, 7, 8, 22, 36, 1, 956745, timezone(timedelta(hours=9)))
    backlog = decode.document(value("entries", "ops_agent_syslog_backlog_without_zone"))
    assert isinstance(backlog, LogEntry)
    assert backlog.line_time is None
