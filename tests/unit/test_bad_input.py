"""Random damage to everything that comes from outside: only the errors that are meant for it come out.

Bounded by iterations and seeded, so that a failure can be repeated: about five seconds in all.
"""

import base64
import json
import random
import shutil
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.examples import seeds
from tests.unit.corpus import names, text

from logmend import lql
from logmend.errors import ConfigError
from logmend.lql import FilterError
from logmend.model.values import Incident, InstanceRef, LogEntry, Tick, Undecodable, Verdict
from logmend.runbook import BUILT_IN, Runbook, load, load_all
from logmend.settings import Settings, described
from logmend.stages import decode, identify, match

RUNBOOK = "workload-cert-refresh"
ROUTER = match.Router(load_all())
DOCUMENTS = [text(kind, name) for kind in ("entries", "incidents", "pushes") for name in names(kind)]
TOKENS = (
    *(bytes([each]) for each in b"\"{}[]:,\\\n'()*-\x00\xff\xc3"),
    *rb"\u0000 \ud800 \x1b null true NaN -Infinity 1e999 -0 - &a *a !! (?".split(),
    *b"message data logName incident logmend specversion".split(),
    *(b"0000-00-00T00:00:00Z", b"9999-12-31T23:59:59.999999999-23:59"),
    *(b"9" * 5000, b"[" * 3000, "\ufeff\u0663".encode(), b"\x1b["),
)


def dice(seed: int) -> random.Random:
    """Return a generator whose every run is the same."""
    return random.Random(seed)  # noqa: S311 - damage, not secrets


def damaged(rng: random.Random, whole: bytes, others: list[bytes]) -> bytes:
    """Return ``whole`` with one to four pieces cut, doubled, flipped, replaced or taken from another."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(whole) + 1) for _ in "ab")
        end = min(end, at + rng.choice((1, 8, 200, 10_000)))
        other = rng.choice(others)
        piece = rng.choice(
            (
                b"",
                whole[at:end] * 2,
                bytes(byte ^ (1 << rng.randrange(8)) for byte in whole[at : at + 1]),
                rng.choice(TOKENS),
                rng.choice(TOKENS) * rng.choice((1, 3, 300)),
                other[rng.randrange(len(other)) :][: rng.choice((5, 500))],
            )
        )
        whole = whole[:at] + piece + whole[end:]
    return whole


def judge(event: object) -> None:
    """Take an event through the stages that see it before anything is looked up."""
    assert isinstance(event, LogEntry | Incident | Tick | Undecodable)
    if isinstance(event, LogEntry | Incident):
        assert isinstance(identify.event(event), InstanceRef | Verdict)
        found = match.runbook(event, ROUTER)
        assert found.runbook is not None or found.verdict is not None


@pytest.mark.parametrize("seed", seeds(4))
def test_damaged_requests_and_files_come_out_as_events_or_undecodable(seed: int) -> None:
    """A body or a file may be damaged anywhere: decode, match and identify still answer."""
    rng = dice(seed)
    for _ in range(1500):
        body = damaged(rng, rng.choice(DOCUMENTS), DOCUMENTS)
        judge(decode.request(body, {"ce-type": "x"} if rng.random() < 0.1 else {})[1])
        for _, event, _ in decode.any_shape(body):
            judge(event)


@pytest.mark.parametrize("piece", [b"{},", b"[],", b"1e5,", b'"ab",', b'{"a":0},', b"[", b"9", b"\xff"])
@pytest.mark.parametrize("size", [decode.MAX_ENTRY - 200, 10_000_000])
def test_what_a_publisher_can_send_takes_bounded_memory(piece: bytes, size: int) -> None:
    """However a message is built, up to the largest that Pub/Sub takes: 64 MiB above nothing, at the most."""
    start = b'{"logName":"projects/p/logs/x","x":['
    data = start + piece * ((size - 40) // len(piece)) + b"0]}"
    body = json.dumps({"message": {"data": base64.b64encode(data).decode(), "messageId": "1"}}).encode()
    tracemalloc.start()
    try:
        judge(decode.request(body, {})[1])
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", seeds(2))
def test_damaged_log_lines_are_judged(seed: int) -> None:
    """The text of a line is anyone's to write: filters, patterns and prefixes bear all of it."""
    rng = dice(seed)
    entries = [json.loads(text("entries", name)) for name in names("entries")]
    payloads = [raw[key] for raw in entries for key in ("textPayload", "jsonPayload") if key in raw]
    said = [each if isinstance(each, str) else json.dumps(each) for each in payloads]
    others = [each.encode() for each in said]
    for _ in range(1000):
        raw = rng.choice(entries)
        line = damaged(rng, rng.choice(others), others).decode("utf-8", "replace")
        judge(decode.document({**raw, "textPayload": line, "jsonPayload": None}))
        payload: dict[str, Any] = {
            "message": line,
            "MESSAGE": line[::-1],
            "ident": rng.choice((line[:20], None, 5, [])),
        }
        judge(decode.document({**raw, "jsonPayload": payload}))


def test_damaged_instance_names_are_refused_with_an_explanation() -> None:
    """What an operator types for an instance is one, a name to look up, or a ConfigError."""
    rng = dice(5)
    good = [
        b"example-prod-4711/us-west1-a/4775836342981993096",
        b"https://www.googleapis.com/compute/v1/projects/p-rojects/zones/us-west1-a/instances/web-1",
    ]
    for _ in range(1000):
        typed = damaged(rng, rng.choice(good), good).decode("utf-8", "surrogateescape")
        try:
            found = identify.parse(typed)
        except ConfigError as error:
            assert error.problems  # noqa: PT017 - either outcome is right
        else:
            assert isinstance(found, InstanceRef | identify.NameRef)


WORDS = (
    *("", " ", "\n", ",", "a,b,,c", "a=b", "=", "x" * 10_000, "\u0663", "\udcff", "sqlite:\x00"),
    *[
        "true",
        "TRUE",
        "1",
        "0",
        "-1",
        "1e9",
        "nan",
        "inf",
        "99999999999",
        "1.5",
        "s",
        "1w",
        "0s",
        "90s",
        "999999999d",
        "999999999.999d",
        "000000001m",
    ],
    *[
        "20/10m",
        "0/1s",
        "1/",
        "/",
        "9/999999999.9d",
        "observe",
        "enforce",
        "iap",
        "insecure",
        "known-hosts:",
        "stdout",
        "file:",
        "cloud",
    ],
    *["memory:", "sqlite:", "firestore:p/(default)", "projects/p/topics/t", "https://x", "https://"],
)


def test_random_settings_are_settings_or_a_list_of_problems() -> None:
    """No environment makes start-up fail with anything but a ConfigError that names each problem."""
    rng = dice(6)
    known = [name for name, _, _ in described()]
    for _ in range(1500):
        environ = {rng.choice(known): rng.choice(WORDS) for _ in range(rng.randint(1, 4))}
        if rng.random() < 0.2:
            environ["LOGMEND_" + rng.choice(WORDS).replace("\x00", "")] = "x"
        if rng.random() < 0.3:
            environ["K_SERVICE"] = "logmend"
        check_settings(environ)


@pytest.mark.parametrize("word", WORDS)
def test_each_odd_word_is_judged_in_every_setting(word: str) -> None:
    """The same, exhaustively for one odd value at a time."""
    for name, _, _ in described():
        check_settings({name: word})


def check_settings(environ: Mapping[str, str]) -> None:
    """Read the environment; a ConfigError must list its problems."""
    try:
        assert isinstance(Settings.from_environment(environ), Settings)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right


def test_damaged_runbooks_are_runbooks_or_a_list_of_problems(tmp_path: Path) -> None:
    """A folder damaged anywhere loads or is a ConfigError, and its filter compiles or is a FilterError."""
    rng = dice(7)
    folder = tmp_path / RUNBOOK
    shutil.copytree(BUILT_IN / RUNBOOK, folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    parts = [path.read_bytes() for path in files]
    yaml = files.index(folder / "runbook.yaml")
    for _ in range(150):
        n = yaml if rng.random() < 0.8 else rng.randrange(len(files))
        files[n].write_bytes(damaged(rng, parts[n], parts))
        try:
            found = load(folder)
        except ConfigError as error:
            assert error.problems  # noqa: PT017 - either outcome is right
        else:
            assert isinstance(found, Runbook)
            compile_filter(found.filter or "")
        files[n].write_bytes(parts[n])


def test_damaged_filters_compile_or_say_where_they_are_wrong() -> None:
    """Each filter is one or the other, and one that compiles can be asked about any entry."""
    rng = dice(8)
    whole = [
        (load_all()[RUNBOOK].filter or "").encode(),
        b'resource.type = "gce_instance" AND NOT log_id("x")',
    ]
    for _ in range(300):
        compile_filter(damaged(rng, rng.choice(whole), whole).decode("utf-8", "replace")[:5000])


def compile_filter(query: str) -> None:
    """Compile a filter and, where it is one, ask it about an entry."""
    try:
        selects = lql.compile(query)
    except FilterError as error:
        assert error.line >= 1  # noqa: PT017 - either outcome is right
        assert error.column >= 1  # noqa: PT017
    else:
        assert selects.matches(json.loads(text("entries", "journald_not_configured"))) in (True, False)
