"""Which lines the built-in runbook takes for its own, in every form and by every path."""

import itertools
import json
from typing import Any

import pytest

from logmend import lql, runbook
from logmend.model.values import LogEntry
from logmend.stages import decode
from logmend.stages.decode import documents

RUNBOOK = runbook.load(runbook.BUILT_IN / "workload-cert-refresh")
FILTER = lql.compile(RUNBOOK.filter or "")
PROGRAM = "gce_workload_cert_refresh"
LEAD = "Error getting config status, workload certificates may not be configured: "
GET = 'failed to GET "instance/gce-workload-certificates/config-status" from MDS with error: '
GIVEN_UP = (
    "giving up, retry policy returned false on error: request failed with status code: [404], error: [invalid"
    " response from metadata server, status code: 404, reason: "
)
ANSWERED_412 = (
    "request failed with status code: [412], error: [invalid response from metadata server, "
    "status code: 412, reason: config never valid]"
)

FORMS = {
    "No workload identities found: HTTP 404": "no_identities",
    f"{LEAD}HTTP 404": "not_configured",
    f"{LEAD}{GET}error connecting to metadata server, status code: 404": "not_configured_2023",
    f"{LEAD}{GET}{GIVEN_UP}<!DOCTYPE html>\n<title>Error 404</title>\n]": "not_configured_2025",
    f"{LEAD}HTTP 412": "configured_but_invalid",
    f"{LEAD}{GET}reached max attempts to connect to metadata": "configured_but_invalid",
    f"{LEAD}{GET}exhausted all (100) retries, last error: {ANSWERED_412}": "configured_but_invalid",
    'No workload identities found: Get "http://169.254.169.254/x": EOF': "metadata_unreachable",
    f'{LEAD}Get "http://169.254.169.254/computeMetadata/v1/": EOF': "metadata_unreachable",
    f"{LEAD}{GET}exhausted all (100) retries, last error: EOF": "metadata_unreachable",
    f"{LEAD}HTTP 500": "metadata_unreachable",
    f"{LEAD}HTTP 418": None,
    f"{LEAD}HTTP 4041": None,
    f"{LEAD}HTTP 404 for somebody else": None,
}
"""Message → variant."""

PREFIXES = [
    f"Sep  2 04:27:51 web-1.c.p.internal {PROGRAM}[929]: ",
    f"Sep 12 04:27:51 localhost {PROGRAM}: ",
    f"2026-07-08T13:36:01.956745+00:00 web-1 {PROGRAM}[49188]: ",
    f"2025-09-03T11:25:30+0000 web-1 {PROGRAM}[1959]: ",
    f"[   12.345678] {PROGRAM}[929]: ",
    f"[   12.3] Sep  2 04:27:51 web-1 {PROGRAM}[929]: ",
    f"\x1b[0;32mSep  2 04:27:51 web-1 {PROGRAM}[929]: ",
    f"\x1b[0;32m[  12.3] {PROGRAM}[929]: \x1b[0m",
    "",
]
DATE = "2023/05/02 06:27:51: "

OTHERS = [
    "Sep  2 04:27:51 web-1 sudo: jim : TTY=pts/0 ; COMMAND=/usr/bin/grep ",
    "Sep  2 04:27:51 web-1 sshd[12]: ",
    f"Sep  2 04:27:51 web-1 sudo: jim : COMMAND=/usr/bin/grep {PROGRAM}[929]: {DATE}",
    f"Sep  2 04:27:51 web-1 sshd[1]: {PROGRAM}: {DATE}",
    f"grep '{PROGRAM}[929]: {DATE}",
    "google_metadata_script_runner[7]: startup-script: ",
    "Why does it say: ",
    f"my_{PROGRAM}[929]: {DATE}",
    "{'message': '",
]
"""What may stand before the phrase where another program quotes it."""


def entry(log_id: str = "syslog", **fields: Any) -> dict[str, Any]:
    labels = {"project_id": "demo-project", "zone": "us-west1-a", "instance_id": "4775836342981993096"}
    return {
        "logName": f"projects/demo-project/logs/{log_id}",
        "resource": {"type": "gce_instance", "labels": labels},
        "insertId": "a",
        "timestamp": "2026-07-08T13:36:01Z",
        **fields,
    }


def escaped(text: str) -> str:
    """Escape as the serial console does."""
    return json.dumps(text)[1:-1].replace("\\u001b", "\\x1b") + "\\r\\n"


def carried(text: str) -> list[dict[str, Any]]:
    """Give the entries in which a whole line can arrive."""
    serial = "serialconsole.googleapis.com%2Fserial_port_1_output"
    return [
        entry(jsonPayload={"message": text}),
        entry(textPayload=text),
        entry(serial, textPayload=f"{text}\r\n"),
        entry(serial, textPayload=escaped(text), labels={"is_text_escaped": "true"}),
    ]


def named(text: str, program: str) -> list[dict[str, Any]]:
    """Give the entries in which a message arrives with its program in a field of its own."""
    return [
        entry("journald", jsonPayload={"MESSAGE": text, "SYSLOG_IDENTIFIER": program, "_COMM": program[:15]}),
        entry(jsonPayload={"message": text, "ident": program, "host": "web-1", "pid": "929"}),
    ]


def variant(raw: dict[str, Any]) -> str | None:
    """Name the variant of an entry; "unknown" where none fits, None where the filter does not select it."""
    if not FILTER.matches(raw):
        return None
    event = documents.document(raw)
    assert isinstance(event, LogEntry)
    found = next((each for text in event.texts if (each := RUNBOOK.variant_of(text))), None)
    return found.name if found else "unknown"


@pytest.mark.parametrize("message", FORMS)
def test_every_form_is_known_by_every_path(message: str) -> None:
    """The filter selects it and the variant names it, whatever carries the line and stands before it."""
    wanted = FORMS[message] or "unknown"
    lines = [prefix + DATE + message for prefix in PREFIXES]
    seen = [variant(each) for line in lines for each in carried(line)]
    seen += [variant(each) for each in named(DATE + message, PROGRAM)]
    assert seen == [wanted] * len(seen)


@pytest.mark.parametrize("other", OTHERS)
def test_text_that_quotes_the_phrase_is_not_even_selected(other: str) -> None:
    """A grep in auth.log costs no look at the VM, and starts no cooldown that would hide the real line."""
    lines = [f"{other}{DATE}{message}'" for message in FORMS] + [f"{other}{message}" for message in FORMS]
    assert [each for line in lines for each in carried(line) if variant(each)] == []


@pytest.mark.parametrize("program", ["sudo", "jim", "sshd", "google_guest_agent_manager", f"my_{PROGRAM}"])
def test_the_same_words_under_another_programs_name_are_not_selected(program: str) -> None:
    """Where journald or fluentd names the program, that counts."""
    assert [each for message in FORMS for each in named(DATE + message, program) if variant(each)] == []


@pytest.mark.parametrize(
    "message",
    ["Done", "Creating timestamp contents dir /run/x", "Rotating symlink /run/x", "Error refreshCreds: no"],
)
def test_other_lines_of_the_program_are_not_selected(message: str) -> None:
    """What the program says at work is none of our business."""
    lines = [prefix + DATE + message for prefix in PREFIXES]
    assert [each for line in lines for each in carried(line) if variant(each)] == []


def test_the_core_plugins_line_is_selected_in_any_shape() -> None:
    """It has to arrive, to be refused by name; its log is told apart before its text is."""
    texts = [message for message in FORMS if message.startswith(LEAD)]
    assert all(
        FILTER.matches(entry("GCEGuestAgent", severity="WARNING", **payload))
        for text in texts
        for payload in ({"jsonPayload": {"message": f"core plugin: {text}"}}, {"textPayload": text})
    )


def test_other_resources_are_not_selected() -> None:
    """A container with the same words is no VM."""
    raw = entry(textPayload=DATE + next(iter(FORMS)))
    raw["resource"]["type"] = "k8s_container"
    assert not FILTER.matches(raw)


def test_the_filter_has_no_word_that_would_lose_entries() -> None:
    """No severity, no status, no escapes: each is absent or different in some real entry."""
    lines = [line for line in (RUNBOOK.filter or "").splitlines() if not line.strip().startswith("--")]
    assert not [word for word in ("severity", "404", "\\", "HTTP") if word in "\n".join(lines)]
    assert lql.lint(RUNBOOK.filter or "") == []


def test_the_real_line_of_every_case_decodes() -> None:
    """Golden cases are files of events: each is one that decode takes."""
    cases = sorted((runbook.BUILT_IN / "workload-cert-refresh/cases").glob("*.json"))
    events = [decode.documents.document(json.loads(each.read_text())["event"]) for each in cases]
    assert len(events) > 40
    assert all(type(event).__name__ in ("LogEntry", "Incident") for event in events)


def test_patterns_stay_fast_on_hostile_text() -> None:
    """256 KiB of what the patterns like most is searched without blowing up: RE2 is linear."""
    text = (LEAD + "HTTP 404 ") * 3000
    hostile = ["[0;32m" * 40000, "\x1b[" * 100000, DATE * 12000, text, f"{PROGRAM}: " * 9000]
    assert [RUNBOOK.variant_of(each) for each in itertools.chain(hostile)] == [None] * len(hostile)
