"""Which runbook an event asks for: every fixture, and every path, prefix and form of the line crossed."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from tests.unit.corpus import EXPECTED, names, outcome, value

from logmend.model.enums import Result
from logmend.model.struct import replace
from logmend.model.values import Incident, LogEntry, Verdict
from logmend.runbook import load_all
from logmend.stages import decode, match

RUNBOOK = "workload-cert-refresh"
BUILT_IN = load_all()
# One without a filter, which only an incident can ask for, whether or not it is among the built-in ones.
WITHOUT_FILTER = replace(BUILT_IN[RUNBOOK], name="ops-agent", filter=None, variants=())
ROUTER = match.Router({"ops-agent": WITHOUT_FILTER, **BUILT_IN})

MDS = 'failed to GET "instance/gce-workload-certificates/config-status" from MDS with error: '
GAVE_UP = "giving up, retry policy returned false on error: request failed with status code: [404], "
INVALID = "error: [invalid response from metadata server, status code: 404, reason: "
ERROR = "Error getting config status, workload certificates may not be configured: "
UNREACHABLE = 'Get "http://169.254.169.254/x": dial tcp 169.254.169.254:80: connect: connection refused'
FORMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "No workload identities found: HTTP 404": ("matched", "no_identities"),
        ERROR + "HTTP 404": ("matched", "not_configured"),
        ERROR + "HTTP 412": ("refused", "certificates_configured"),
        ERROR + UNREACHABLE: ("refused", "metadata_server_trouble"),
        ERROR + MDS + "error connecting to metadata server, status code: 404": (
            "matched",
            "not_configured_2023",
        ),
        ERROR + MDS + "reached max attempts to connect to metadata": ("refused", "certificates_configured"),
        ERROR + MDS + GAVE_UP + INVALID + "workload certificate feature not enabled]": (
            "refused",
            "opted_in",
        ),
        ERROR + MDS + GAVE_UP + INVALID + '<!DOCTYPE html>\n<html lang="en">\n<b>404.</b>\n]': (
            "refused",
            "opted_in",
        ),
        ERROR + MDS + "exhausted all (100) retries, last error: " + UNREACHABLE: (
            "refused",
            "metadata_server_trouble",
        ),
        ERROR + "HTTP 418": ("refused", "unknown_variant"),
        "Done": ("unmatched", ""),
        "Rotating symlink /run/secrets/workload-spiffe-credentials": ("unmatched", ""),
    }
)
PREFIXES = (
    "Sep  2 04:27:51 host {program}[929]: ",
    "Sep 22 04:27:51 host.c.project.internal {program}[929]: ",
    "Sep  2 04:27:51 localhost {program}: ",
    "2026-07-08T13:36:01.956745+00:00 host {program}[49188]: ",
    "2026-07-08T22:36:01.956745+09:00 host {program}[49188]: ",
    "2025-09-03T11:25:30+0000 host {program}[1959]: ",
    "",
)
SERIAL_PREFIXES = (
    *PREFIXES,
    "\x1b[0;32mSep  2 04:27:51 host {program}[929]: ",
    "[   12.345678] {program}[929]: ",
    "\x1b[0m[   12.345678] {program}[929]: ",
)


def entry(log_id: str, **fields: Any) -> dict[str, Any]:
    """Return a LogEntry of a VM."""
    labels = {"project_id": "example-prod-4711", "zone": "us-west1-a", "instance_id": "4775836342981993096"}
    return {
        "logName": f"projects/example-prod-4711/logs/{log_id}",
        "insertId": "1",
        "timestamp": "2026-07-08T13:36:02Z",
        "resource": {"type": "gce_instance", "labels": labels},
        **fields,
    }


def escaped(text: str) -> str:
    """Spell a text as the serial console does."""
    for raw, spelled in (("\\", "\\\\"), ('"', '\\"'), ("\x1b", "\\x1b"), ("\r", "\\r"), ("\n", "\\n")):
        text = text.replace(raw, spelled)
    return text


def paths(prefix: str, program: str, said: str) -> dict[str, dict[str, Any]]:
    """Return the entries by which one line can arrive, by path."""
    whole = prefix.format(program=program) + said
    serial = "serialconsole.googleapis.com%2Fserial_port_1_output"
    colour = "\x1b" if prefix.startswith("\x1b") else ""
    ends = f"{whole}\x1b[0m\r\n" if colour else f"{whole}\r\n"
    found = {
        "serial, escaped": entry(serial, textPayload=escaped(ends), labels={"is_text_escaped": "true"}),
        "serial, as it is": entry(serial, textPayload=ends),
    }
    if prefix in PREFIXES:
        found |= {
            "Ops Agent": entry("syslog", jsonPayload={"message": whole}),
            "google-fluentd, text": entry("syslog", textPayload=whole),
        }
    if not prefix:
        found |= {
            "journald": entry("j", jsonPayload={"MESSAGE": said, "SYSLOG_IDENTIFIER": program}),
            "google-fluentd, JSON": entry(
                "syslog", jsonPayload={"host": "h", "ident": program, "pid": "1", "message": said}
            ),
        }
    return found


def judged(raw: Mapping[str, Any]) -> dict[str, str | None]:
    """Run decode and match on a document."""
    event = decode.document(raw)
    assert isinstance(event, LogEntry | Incident)
    return outcome(match.runbook(event, ROUTER))


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in ("entries", "incidents") for n in names(k)])
def test_every_fixture_is_matched_as_expected(kind: str, name: str) -> None:
    """A payload named for its oddity gets the runbook, variant or reason that expected.yaml says."""
    wanted = {
        key: EXPECTED[kind][name].get(key) for key in ("result", "runbook", "variant", "reason", "words")
    }
    if wanted["result"] == "matched" and kind == "entries":
        wanted["runbook"] = RUNBOOK
    found = judged(value(kind, name))
    assert {key: found.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("prefix", SERIAL_PREFIXES)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_means_the_same_by_every_path_and_behind_every_prefix(prefix: str, form: str) -> None:
    """The path by which a line arrives changes nothing in what is made of it."""
    result, what = FORMS[form]
    for path, raw in paths(prefix, "gce_workload_cert_refresh", f"2023/09/02 04:27:51: {form}").items():
        found = judged(raw)
        assert found["result"] == result, path
        assert what in (found.get("variant"), found.get("reason"), ""), path


@pytest.mark.parametrize("prefix", [each for each in SERIAL_PREFIXES if each])
@pytest.mark.parametrize(
    "program", ["sudo", "sshd", "logger", "gce_workload_cert_refresh2", "my-gce_workload"]
)
def test_another_program_that_says_the_very_line_is_not_taken_for_it(prefix: str, program: str) -> None:
    """The program is part of the line: the same words of another one never lead to an action."""
    for form in FORMS:
        for path, raw in paths(prefix, program, f"2023/09/02 04:27:51: {form}").items():
            assert judged(raw)["result"] != "matched", (path, form)


@pytest.mark.parametrize(
    "quote", ["COMMAND=/usr/bin/grep '{}' /var/log/syslog", "Invalid user {} from 192.0.2.1"]
)
def test_a_quoted_line_is_never_acted_on(quote: str) -> None:
    """Whoever can write into auth.log (a log-in name will do) cannot make a VM of it."""
    inner = [prefix.format(program="gce_workload_cert_refresh") for prefix in SERIAL_PREFIXES]
    for prefix, form in itertools.product(inner, FORMS):
        quoted = quote.format(f"{prefix}2023/09/02 04:27:51: {form}")
        for outer in ("Sep  2 04:27:51 host sudo: ", "[   1.2] sshd[3]: ", ""):
            for path, raw in paths(outer.replace("{", "{{"), "", quoted).items():
                if "SYSLOG_IDENTIFIER" in raw.get("jsonPayload", {}):
                    raw["jsonPayload"]["SYSLOG_IDENTIFIER"] = "sudo"
                assert judged(raw)["result"] != "matched", (path, quoted)


def test_of_two_texts_in_one_entry_the_refusing_variant_wins() -> None:
    """Variants are tried in the runbook's order on all texts, and what refuses comes first there."""
    both = {
        "message": f"2023/09/02 04:27:51: {ERROR}HTTP 404",
        "MESSAGE": f"2023/09/02 04:27:51: {ERROR}HTTP 412",
    }
    found = judged(entry("j", jsonPayload=both | {"SYSLOG_IDENTIFIER": "gce_workload_cert_refresh"}))
    assert found == {"result": "refused", "reason": "certificates_configured"}


@pytest.mark.parametrize("log_id", ["logmend", "OSConfigAgent"])
def test_own_entries_are_skipped_whatever_they_say(log_id: str) -> None:
    """An outcome or an agent's report that quotes the line cannot start a loop."""
    raw = entry(log_id, textPayload=f"2023/09/02 04:27:51: {ERROR}HTTP 404")
    assert judged(raw) == {"result": "skipped", "reason": "own_entry"}


def test_a_router_without_runbooks_matches_nothing() -> None:
    """No runbook, no action."""
    event = decode.document(value("entries", "journald_not_configured"))
    assert isinstance(event, LogEntry)
    assert match.runbook(event, match.Router({})).verdict == Verdict(
        Result.UNMATCHED, None, "no runbook's filter selects this entry"
    )
