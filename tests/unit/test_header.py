"""One grammar of headers: what it can say is decoded and selected by the filter, and nothing else is."""

import re
import time
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from logmend import lql, runbook
from logmend.model.values import LogEntry
from logmend.stages import decode
from logmend.stages.decode import header, lines

RUNBOOK = runbook.load(runbook.BUILT_IN / "workload-cert-refresh")
FILTER = lql.compile(RUNBOOK.filter or "")
PROGRAM = "gce_workload_cert_refresh"
SAID = "Error getting config status, workload certificates may not be configured: HTTP 404"
VM = {"project_id": "demo-project", "zone": "us-west1-a", "instance_id": "4775836342981993096"}

digits = st.integers(0, 99).map("{:02}".format)
clock = st.builds(
    "{:02}:{}:{}{}".format,
    st.integers(0, 23),
    digits,
    digits,
    st.sampled_from(["", ".5", ",123456", ".123456789"]),
)
month = st.sampled_from(["Jan", "Feb", "Sep", "Dec"])
weekday = st.sampled_from(["", "", "Sat ", "Mon, "])
rfc3164 = st.builds(
    "{}{} {}{} {}{}{}".format,
    weekday,
    month,
    st.sampled_from([" 2", "02", "12", "2"]),
    st.sampled_from(["", " 2024"]),
    clock,
    st.sampled_from(["", " UTC", " CEST", " +02:00"]),
    st.sampled_from(["", " 2024"]),
)
iso = st.builds(
    "{}2024-02-{:02}{}{}{}".format,
    weekday,
    st.integers(1, 28),
    st.sampled_from("T "),
    clock,
    st.sampled_from(["", "Z", "+00:00", "-0730", " UTC", " CET"]),
)
uptime = st.sampled_from(["[   12.345678]", "[123456.7]", "[    0.000000]"])
epoch = st.sampled_from(["1707642902.004151", "999999999.1"])
times = rfc3164 | iso | epoch
hosts = st.sampled_from(
    [
        "",
        "web-1 ",
        "localhost ",
        "db-5.example.net ",
        "10.0.0.7 ",
        "2001:db8::1 ",
        "[fe80::1] ",
        "src@a/b.c/d ",
        "- ",
        "X ",
    ]
)
facility = st.sampled_from(["", "", "daemon.info ", "local7.warning ", "<daemon.err> ", "<3.6> "])
priority = st.sampled_from(["", "", "<30>", "<6>", "<191>", "183 <30>"])
kernel = st.sampled_from(["", "", "[   12.345678] "])
pids = st.sampled_from(["", "[929]", "[1-2]", "[unknown]"])
element = st.sampled_from(['[a@1 b="c"]', '[origin ip="1" x="q\\"u\\]o\\\\te "]', "[x]"])
data = st.just("-") | st.lists(element, min_size=1, max_size=3).map("".join)
dated = st.builds("{} {}{}{}".format, times, facility, hosts, facility)
rfc5424 = st.builds(
    "{} {}{}".format,
    st.sampled_from(["1", "9", "12"]),
    st.builds("{} ".format, iso | st.just("-")),
    hosts.filter(lambda each: each not in ("", "[fe80::1] ")),
)


@st.composite
def headers(draw: st.DrawFn, tag: str) -> str:
    """Draw a header that names the program of ``tag``."""
    start = draw(priority) + draw(kernel) + draw(priority)
    if draw(st.booleans()):
        ids = f"{draw(st.sampled_from(['929', '-', 'x.y']))} {draw(st.sampled_from(['-', 'ID47']))}"
        rest = f" {ids} {draw(data)} "
        return start + draw(rfc5424) + tag + rest + draw(st.sampled_from(["", "\ufeff"]))
    if draw(st.booleans()):
        return f"{start}{draw(dated)}{tag}{draw(pids)}:{draw(st.sampled_from([' ', '  ']))}"
    since_start = draw(st.builds("{} {}{}".format, uptime, facility, hosts)) if draw(st.booleans()) else ""
    return f"{start}{since_start}{tag}{draw(pids.filter(bool))}: "


own = st.sampled_from(
    [PROGRAM, f"/usr/bin/{PROGRAM}", f"/opt/x y/{PROGRAM}".replace(" ", "_"), f"/{PROGRAM}"]
)
words = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_./()-]{0,20}", fullmatch=True)
others = (
    st.sampled_from(
        [
            "sudo",
            "sshd",
            "CRON",
            "/usr/sbin/sshd",
            "postfix/smtpd",
            f"my_{PROGRAM}",
            f"{PROGRAM}.sh",
            f"{PROGRAM}2",
            f"x/{PROGRAM}",
            f"/usr/bin/{PROGRAM}/x",
            "google_guest_agent_manager",
        ]
    )
    | words
).filter(
    lambda tag: (
        lines.named_by(tag) not in (None, PROGRAM, "google_guest_agent") and not re.fullmatch(r"\d+", tag)
    )
)
dates = st.sampled_from(["", "2024/02/11 09:15:02: ", "2024/02/11 09:15:02 "])


def carried(text: str, field: str) -> dict[str, Any]:
    """Give the entry in which a line arrives in a field of a payload; "escaped" is the serial console's."""
    raw: dict[str, Any] = {
        "logName": "projects/demo-project/logs/any",
        "resource": {"type": "gce_instance", "labels": VM},
        "timestamp": "2026-07-08T13:36:01Z",
    }
    if field == "escaped":
        spelled = text.encode("unicode_escape").decode().replace('"', '\\"')
        return raw | {"textPayload": f"{spelled}\\r\\n", "labels": {"is_text_escaped": "true"}}
    return raw | ({"textPayload": text} if field == "textPayload" else {"jsonPayload": {field: text}})


def judged(raw: dict[str, Any]) -> str | None:
    """Name the variant of an entry; "unknown" where none fits, None where the filter does not select it."""
    if not FILTER.matches(raw):
        return None
    event = decode.documents.document(raw)
    assert isinstance(event, LogEntry)
    found = next((each for text in event.texts if (each := RUNBOOK.variant_of(text))), None)
    return found.name if found else "unknown"


fields = st.sampled_from([*lines.MESSAGE_FIELDS, "textPayload"])
colours = st.sampled_from(["", "", "\x1b[0;32m", "\x1b[0m\x1b[1m"])


@examples(600)
@given(own.flatmap(headers), dates, fields, colours, colours)
def test_any_header_that_names_the_program_is_matched(
    head: str, date: str, field: str, before: str, after: str
) -> None:
    """By the filter and by decoding alike, in every field that shippers use, with colours or without."""
    assert judged(carried(f"{before}{head}{after}{date}{SAID}", field)) == "not_configured"


@examples(300)
@given(own.flatmap(headers), dates)
def test_the_serial_consoles_escaping_hides_no_header(head: str, date: str) -> None:
    """Quotes and backslashes of structured data are spelled out there; a byte order mark never is."""
    assert judged(carried(f"{head}{date}{SAID}".replace("\ufeff", ""), "escaped")) == "not_configured"


@examples(1000)
@given(others.flatmap(headers), st.just("") | own.flatmap(headers), dates, fields | st.just("escaped"))
def test_a_header_that_names_another_program_is_never_matched(
    head: str, quoted: str, date: str, field: str
) -> None:
    """Whatever it quotes after it: the bare words, or a line of ours with its header."""
    assert judged(carried(f"{head}{quoted}{date}{SAID}", field)) is None


@examples(400)
@given(others, st.sampled_from(lines.PROGRAM_FIELDS), fields, st.just("") | own.flatmap(headers), dates)
def test_a_field_that_names_another_program_is_believed(
    other: str, key: str, field: str, head: str, date: str
) -> None:
    """Over any header in the text, and over other fields that name ours."""
    raw = carried(f"{head}{date}{SAID}", field)
    raw["jsonPayload"] = raw.get("jsonPayload", {}) | {key: other}
    assert judged(raw) is None
    raw["jsonPayload"] |= {each: PROGRAM for each in lines.PROGRAM_FIELDS if each != key}
    assert judged(raw) is None


@examples(200)
@given(own, pids, st.sampled_from(lines.PROGRAM_FIELDS), st.just("") | own.flatmap(headers), dates)
def test_a_field_that_names_the_program_needs_no_header(
    tag: str, pid: str, key: str, head: str, date: str
) -> None:
    """With its path and PID (rsyslog's syslogtag) or without; a header beside it is taken away."""
    raw = carried(f"{head}{date}{SAID}", "message")
    raw["jsonPayload"][key] = f"{tag}{pid}:" if key == "syslogtag" else tag
    assert judged(raw) == "not_configured"


@examples(400)
@given(words.flatmap(headers))
def test_decoding_takes_a_header_of_any_program_away(head: str) -> None:
    """What is left is the message; a name that RFC 5424 leaves out is none."""
    line = lines.read(f"{head}state changed")
    assert line.message == "state changed"
    assert line.program is not None


@pytest.mark.parametrize(
    "quote",
    [
        f"grep {PROGRAM}[929]: {SAID}",
        f"web-1 {PROGRAM}[929]: {SAID}",
        f"why: {PROGRAM}: {SAID}",
        f"'{SAID}'",
        f"- {SAID}",
        f"{PROGRAM} says {SAID}",
    ],
)
def test_a_word_before_the_program_is_a_host_only_after_a_time(quote: str) -> None:
    """A quote that begins otherwise than a line does stays out."""
    assert judged(carried(quote, "message")) is None


@pytest.mark.parametrize("quote", [f"{PROGRAM}[929]: {SAID}", SAID])
def test_a_quote_without_a_header_of_its_own_cannot_be_told_apart(quote: str) -> None:
    """docs/runbooks.md says so; the check on the VM decides."""
    assert judged(carried(quote, "message")) == "not_configured"


def test_the_runbooks_filter_holds_the_grammar_of_decode() -> None:
    """The same text for every field; what follows it is the message's."""
    tag = header.program(PROGRAM, "google_guest_agent", "-")
    patterns = re.findall(r'(\S+) =~ "(.*)"', RUNBOOK.filter or "")
    at_start = {field: pattern for field, pattern in patterns if "[[:space:]]" in pattern}
    assert list(at_start) == ["textPayload", *(f"jsonPayload.{key}" for key in lines.MESSAGE_FIELDS)]
    (pattern,) = set(at_start.values())
    assert pattern.startswith(header.line(tag))
    named = {field.removeprefix("jsonPayload.") for field, other in patterns if other != pattern}
    assert named == set(lines.PROGRAM_FIELDS)


def test_the_grammar_is_the_same_to_python_and_re2() -> None:
    """No quote or backslash, and nothing that either reads as something else."""
    for text in (header.line("x"), header.before(header.COLOUR), header.named("x")):
        assert not set(text) & set("\"\\'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines._portable(header.named("x"))


@pytest.mark.parametrize(
    "piece", ["/a", "[1.2] ", "<1>", "a.b ", "Sep  2 04:27:51 ", "- ", '[a b="c"]', "::", "\x1b[", "a", " "]
)
def test_hostile_text_is_read_in_linear_time(piece: str) -> None:
    """An entry has at most 256 KiB: four times the text takes four times as long, not sixteen."""
    taken = []
    for size in (64 * 1024, 256 * 1024):
        text = piece * (size // len(piece))
        started = time.process_time()
        for head in ("", "Sep  2 04:27:51 ", "[ 1.2] ", "<30>1 2024-02-11T09:15:02Z web-1 x 1 - "):
            lines.read(head + text)
        taken.append(time.process_time() - started)
    assert taken[1] < 8 * taken[0] + 0.2
