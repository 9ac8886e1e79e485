"""What ``scan`` does not read to the end: nothing that a filter selects or that has a runbook's words."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.fakes import entry
from tests.unit.corpus import names, value

from logmend import catalog, lql
from logmend.explain import Rules
from logmend.lql import needles
from logmend.model.enums import Result
from logmend.model.struct import replace
from logmend.model.values import Delivery, LogEntry
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages import decode, intake
from logmend.stages.decode import stream
from logmend_cli import inputs
from logmend_cli.scan import document
from logmend_cli.scan.groups import Groups
from logmend_cli.scan.sieve import Sieve

BUILT_IN = dict(catalog.read_all(Settings(), every=True).runbooks)
OWN_FILTERS = (
    'textPayload : "Disk Full"',
    'jsonPayload.message = "out of/memory now"',
    'jsonPayload.code : "503" OR textPayload =~ "(?:panic|fatal error)s?: [a-z]+"',
    'log_id("app") AND jsonPayload : "KEY-ROTATED" OR textPayload =~ "^x*segfault{1,2}"',
    'textPayload =~ "(?i)disk full"',
    'severity >= ERROR AND SEARCH("kernel panic")',
    'NOT textPayload : "fine"',
)


def _own(number: int, text: str) -> Runbook:
    one = next(iter(BUILT_IN.values()))
    return replace(one, name=f"own-{number}", filter=text, words=("no such words",))


EVERY = [Rules.of(BUILT_IN, Settings())] + [
    Rules.of({f"own-{n}": _own(n, text)}, Settings()) for n, text in enumerate(OWN_FILTERS)
]
TEXTS = sorted(
    {word for each in BUILT_IN.values() for word in each.words}
    | {
        "Disk full",
        "\uff24isk full",
        "DİSK FULL",
        "out of/memory now",
        "panic: x",
        "fatal errors: aa",
        "key-rotated",
    }
    | {"segfault", "xsegfaultt", "di\u017fk full", "Kernel panic", "fine", "503", "logmend"}
)


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """Give a JSON string: some characters escaped, as another writer may, in any case."""
    text = draw(st.sampled_from(TEXTS) | st.text(max_size=20))
    text = draw(st.sampled_from([text, text.upper(), text.lower(), f"before {text} behind"]))
    escapes = draw(st.sets(st.integers(0, max(len(text) - 1, 0)), max_size=3))
    parts = [
        f"\\u{ord(char):04x}"
        if n in escapes and ord(char) < 0xD800
        else json.dumps(char, ensure_ascii=False)[1:-1]
        for n, char in enumerate(text)
    ]
    return f'"{"".join(parts)}"'


@st.composite
def entries(draw: st.DrawFn) -> str:
    """Give the JSON text of an entry of any shape, in which runbooks' words may stand anywhere."""
    said = draw(spelled())
    holds = st.sampled_from(
        [
            f'"textPayload": {said}',
            f'"jsonPayload": {{"message": {said}}}',
            f'"jsonPayload": {{"a": [{{"b": {said}}}], "code": 503.0}}',
            f'"jsonPayload": {{{said}: 1, "SYSLOG_IDENTIFIER": "gce_workload_cert_refresh"}}',
            f'"labels": {{"x": {said}}}',
            f'"jsonPayload": {json.dumps(json.dumps({"message": "Disk full"}))}',
            '"jsonPayload": ' + "[" * 101 + "]" * 101,
            '"jsonPayload": {"a": ' + '{"a": ' * 100 + "1" + "}" * 101,
            '"message": {"data": "e30="}',
            '"incident": {"state": "open"}',
            '"severity": 500',
            '"timestamp": null',
        ]
    )
    log = draw(st.sampled_from(["syslog", "app", "GCEGuestAgent", "logmend", "OSConfigAgent", "a%2Flogmend"]))
    named = draw(st.sampled_from([f'"logName": "projects/example-shop-31/logs/{log}"', '"log_name": "x"']))
    rest = [f'"resource": {json.dumps(entry()["resource"])}', *draw(st.lists(holds, max_size=3))]
    return "{" + ", ".join([named, *draw(st.permutations(rest))]) + "}"


@examples(300)
@given(entries(), st.sampled_from(EVERY))
def test_what_passes_is_what_no_filter_selects_and_speaks_of_nothing(text: str, rules: Rules) -> None:
    """Whatever the shape, the escapes and the case: read to the end, it would have counted as unmatched."""
    if not Sieve(rules).one(text):
        return
    [(delivery, event, _)] = decode.any_shape(text.encode())
    assert isinstance(event, LogEntry)
    read = intake.read(delivery or Delivery("x"), event, lambda: rules.router)
    assert read.verdict is not None
    assert read.verdict.result is Result.UNMATCHED
    assert read.spoken is None


@pytest.mark.parametrize("rules", EVERY[:3], ids=["built-in", "has", "equals"])
def test_another_programs_line_passes(rules: Rules) -> None:
    """Else nothing is gained; with or without escapes that cannot spell a word."""
    sieve = Sieve(rules)
    for text in ("Accepted publickey for root", 'say "hi" \u003c\u001b[0m', "c:\\temp\r\n"):
        assert sieve.one(json.dumps(entry(jsonPayload={"message": text})))
    assert sieve.passed == 3


@pytest.mark.parametrize("name", names("entries"))
def test_every_runbooks_own_line_is_read(name: str) -> None:
    """Of the fixtures only those pass that nothing is said of."""
    raw = value("entries", name)
    read = intake.read(Delivery("x"), decode.document(raw), lambda: EVERY[0].router)  # type: ignore[arg-type]
    passed = Sieve(EVERY[0]).one(json.dumps(raw))
    assert not passed or (read.verdict is not None and read.verdict.result is Result.UNMATCHED)
    assert not passed or read.spoken is None


PIECES = [value("entries", name) for name in names("entries")]
LAYOUTS: dict[str, Callable[[Any], str]] = {
    "lines": lambda every: "".join(json.dumps(each) + "\n" for each in every),
    "lines of an array": lambda every: "[" + ",\n".join(json.dumps(each) for each in every) + "]",
    "one line": json.dumps,
    "indented": lambda every: json.dumps(every, indent=2),
    "indented by tabs, CRLF": lambda every: json.dumps(every, indent="\t").replace("\n", "\r\n"),
    "indented in a row": lambda every: "\n".join(json.dumps(each, indent=1) for each in every),
    "commas without an array": lambda every: ",\n".join(json.dumps(each) for each in every) + "\n",
    "broken": lambda every: "\n".join(
        json.dumps(each) + ("" if n % 5 else "}") for n, each in enumerate(every)
    ),
}


def scanned(file: Path, sieve: Sieve | None, rules: Rules = EVERY[0]) -> Any:
    """Give everything that a scan of a file says."""
    groups = Groups(rules)
    for found in inputs.documents(str(file), sieve):
        groups.add(found.delivery, found.event, found.where)
    groups.passed(sieve.passed if sieve else 0)
    judged = list(groups.judged({}, rules.policies))
    return [document.instance(each) for each in judged], document.totals(groups, judged, "none")


@examples(50)
@given(
    st.lists(
        st.sampled_from([*PIECES, *[entry(jsonPayload={"message": f"n {n}"}) for n in range(60)]]),
        max_size=30,
    ),
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from([64, 700, 256 * 1024]),
)
def test_a_scan_says_the_same_without_it(
    tmp_path_factory: pytest.TempPathFactory, every: list[Any], layout: str, chunk: int
) -> None:
    """Counts, places in the file and what comes of each VM; however it is laid out, wherever a read ends."""
    file = tmp_path_factory.mktemp("scan") / "export.json"
    file.write_bytes(LAYOUTS[layout](every).encode())
    with patch.object(stream, "GUESSES", 0):
        wanted = scanned(file, None)
    with patch.object(stream, "CHUNK", chunk):
        assert scanned(file, Sieve(EVERY[0])) == wanted


@pytest.mark.parametrize("layout", ["lines", "lines of an array", "indented"])
@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param(lambda text: text.replace("Error", "\\u0045rror"), id="escaped"),
        pytest.param(lambda text: text.replace('"logName"', '"log_name"'), id="of another tool"),
        pytest.param(lambda text: text, id="as it is"),
    ],
)
def test_an_entry_is_found_among_many_that_pass(
    tmp_path: Path, layout: str, hidden: Callable[[str], str]
) -> None:
    """Lines that are passed over in a row hide no entry in their midst, however it is spelled."""
    others = [entry(insertId=f"{n}", jsonPayload={"message": f"Accepted publickey {n}"}) for n in range(40)]
    mark = "Error getting config status, workload certificates may not be configured"
    rules = Rules.of({"workload-cert-refresh": BUILT_IN["workload-cert-refresh"]}, Settings())
    marked = entry(insertId="marked", jsonPayload={"message": f"x {mark}"})
    file = tmp_path / "export.json"
    file.write_text(hidden(LAYOUTS[layout]([*others[:25], marked, *others[25:]])))
    with patch.object(stream, "GUESSES", 0):
        wanted = scanned(file, None, rules)
    assert scanned(file, Sieve(rules), rules) == wanted
    assert wanted[1]["unknown_form"]["entries"] == 1


@examples(200)
@given(
    st.binary(max_size=400) | st.text(alphabet='{}[]",:\\n \t1a', max_size=300).map(str.encode),
    st.integers(1, 90),
)
def test_values_are_the_same_without_a_guess(text: bytes, chunk: int) -> None:
    """A value whose end was guessed by its lines is the value that the parser takes."""
    with patch.object(stream, "CHUNK", chunk):
        found = list(stream.values(io.BytesIO(text)))
        with patch.object(stream, "GUESSES", 0):
            assert list(stream.values(io.BytesIO(text))) == found


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("abc", {"abc"}),
        ("ab?c", {"a"}),
        ("xab+cd", {"xab"}),
        ("(?:one|two): ", {"one", "two"}),
        ("(?:one|two)?: x", {": x"}),
        (r"\d+ of \x41bc[[:space:]]+[^]x]y\.service", {"y.service"}),
        ("one/other longer", {"other longer"}),
        ("a{2}b|c", {"b", "c"}),
        ("(?i)abc", None),
        (r"\Qabc\E", None),
        ("a|", None),
        ("[a-z]+", None),
    ],
)
def test_the_needles_of_a_pattern(pattern: str, wanted: set[str] | None) -> None:
    """One of them stands in whatever the pattern is found in."""
    found = needles.of_pattern(pattern)
    assert (None if found is None else {each.text for each in found}) == wanted


@examples(300)
@given(st.data())
def test_a_text_that_a_pattern_is_found_in_has_a_needle(data: st.DataObject) -> None:
    """Whatever the pattern is made of."""
    atoms = st.sampled_from(["a", "b", "cd", r"\.", "[ab]", "[[:digit:]]", "(?:a|bc)", "(x(?:y|z)b)", "."])
    part = st.tuples(atoms, st.sampled_from(["", "", "", "?", "*", "+", "{0,2}", "{2}", "+?"])).map("".join)
    pattern = data.draw(
        st.lists(st.lists(part, max_size=4).map("".join), min_size=1, max_size=3).map("|".join)
    )
    found = needles.of_pattern(pattern)
    if found is None:
        return
    text = data.draw(
        st.from_regex(pattern.replace("[[:digit:]]", "[0-9]"), alphabet=st.characters(codec="ascii"))
    )
    selected = lql.compile(f"textPayload =~ {json.dumps(pattern)}").matches({"textPayload": text})
    assert not selected or any(each.text in text for each in found)


def test_ordinary_escapes_are_no_words() -> None:
    r"""``\u003c`` and its like stand in many exports, and are part of no needle."""
    assert not any(re.search(r"[&'<=>/\\\"]", each.text) for each in _of_built_in())


def _of_built_in() -> list[needles.Needle]:
    found = [needles.of_filter(each.root, "projects/p/logs/syslog") for _, each in EVERY[0].filters]
    return list(needles.together([each for each in found if each is not None]))
