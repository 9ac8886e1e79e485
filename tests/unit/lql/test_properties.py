"""Laws of the language, on generated filters and entries."""

import unicodedata
from typing import Any

import re2
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from logmend import lql
from logmend.lql import strings
from logmend.lql.fold import fold
from logmend.lql.patterns import WARM, utf8

FIELDS = (
    "insertId",
    "trace",
    "severity",
    "timestamp",
    "traceSampled",
    "httpRequest.status",
    "httpRequest.latency",
    "resource.type",
    "resource.labels.zone",
    "labels.a",
    "labels",
    "jsonPayload.a",
    "jsonPayload.a.b",
    'jsonPayload."a b"',
    "jsonPayload",
    "protoPayload.A.b",
)
WORDS = (
    "a",
    "b",
    "A b",
    "404",
    "-1.5e3",
    "true",
    "ERROR",
    "1s",
    "2024-01-02",
    "é",
    "",
    '"',
    "\\",
    "\n",
    "\ud800",
)
KEYS = ("a", "b", "a b", "zone", "type", "status", "latency", "labels", "@type", "value")

json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
TOP = tuple({field.partition(".")[0] for field in FIELDS} | {"logName", "textPayload", "split", "unknown"})
entries = st.dictionaries(st.sampled_from(TOP), json, max_size=6)
literals = st.sampled_from(WORDS).map(strings.encode) | st.sampled_from(["a", "24", "true", "ERROR"])
fields = st.sampled_from(FIELDS)
plain = ("insertId", "resource.labels.zone", "jsonPayload.a", "protoPayload.A.b")
comparisons = st.one_of(
    st.tuples(
        fields.filter(lambda f: f not in {"labels", "jsonPayload"}),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"]),
        literals,
    ).map(" ".join),
    st.tuples(st.sampled_from(plain), st.sampled_from(["=~", "!~"]), st.sampled_from(['"a"', '"^.b?$"'])).map(
        " ".join
    ),
    fields.map("{}:*".format),
    st.tuples(fields, literals).map(":".join),
    st.tuples(fields.filter(lambda f: "." in f), literals, literals).map(
        lambda t: f"{t[0]}:({t[1]} OR -({t[2]}))"
    ),
    literals,
    st.sampled_from(
        [
            'log_id("a")',
            "source(projects/p)",
            "sample(jsonPayload.a, 1)",
            'ip_in_net(jsonPayload.a, "10.0.0.0/8")',
            'SEARCH("a b")',
            'SEARCH(jsonPayload, "`A b`")',
            "jsonPayload.a = NULL_VALUE",
            "cast(jsonPayload.a, INT64) > 0",
            "cast(jsonPayload.a, STRING) : a",
            'cast(jsonPayload.a, TIMESTAMP, TIMEZONE("Asia/Tokyo")) > "2024-01-01"',
            "cast(timestamp, STRING) : 2024",
            "cast(jsonPayload.a, BOOL) = true",
            "cast(jsonPayload.a, FLOAT64) > 0",
            "cast(jsonPayload.a, DURATION) > 0s",
            'regexp_extract(jsonPayload.a, "(a?)") = ""',
        ]
    ),
)
filters = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        inner.map("NOT ({})".format),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: " ".join(f"({part})" for part in parts)),
        st.lists(inner, min_size=2, max_size=3).map(" AND ".join),
        st.lists(inner, min_size=2, max_size=3).map(" OR ".join),
    ),
    max_leaves=6,
)
bounded = examples(150)


def holds(text: str, entry: Any) -> bool:
    return lql.compile(text).matches(entry)


@bounded
@given(filters, entries)
def test_a_double_negation_changes_nothing(text: str, entry: dict[str, Any]) -> None:
    """NOT (NOT a) is a."""
    assert holds(f"NOT (NOT ({text}))", entry) is holds(text, entry)
    assert holds(f"NOT ({text})", entry) is not holds(text, entry)


@bounded
@given(filters, filters, entries)
def test_de_morgan_holds(one: str, other: str, entry: dict[str, Any]) -> None:
    """NOT (a AND b) is NOT a OR NOT b, and the reverse."""
    assert holds(f"NOT (({one}) AND ({other}))", entry) is holds(f"(NOT ({one})) OR (NOT ({other}))", entry)
    assert holds(f"NOT (({one}) OR ({other}))", entry) is holds(f"(NOT ({one})) AND (NOT ({other}))", entry)


@bounded
@given(filters, filters, filters, entries)
def test_or_binds_tighter_than_and(a: str, b: str, c: str, entry: dict[str, Any]) -> None:
    """What is written a OR b AND c is (a OR b) AND c, and so without the AND."""
    expected = (holds(a, entry) or holds(b, entry)) and holds(c, entry)
    assert holds(f"({a}) OR ({b}) AND ({c})", entry) is expected
    assert holds(f"({a}) OR ({b}) ({c})", entry) is expected


@bounded
@given(filters, entries)
def test_printing_and_parsing_again_gives_the_same_filter(text: str, entry: dict[str, Any]) -> None:
    """The printed filter has the same tree, the same answer and the same print."""
    compiled = lql.compile(text)
    printed = lql.format(compiled)
    again = lql.compile(printed)
    assert again.root == compiled.root
    assert again.matches(entry) is compiled.matches(entry)
    assert lql.format(again) == printed


@bounded
@given(filters, json)
def test_matching_takes_any_json_at_all(text: str, anything: Any) -> None:
    """No JSON, entry or not, makes matching, explaining or linting fail."""
    compiled = lql.compile(text)
    matched = compiled.matches(anything)
    assert matched is (
        isinstance(anything, dict) and all(condition.holds for condition in compiled.explain(anything))
    )
    assert all(warning.line >= 1 and warning.column >= 1 for warning in lql.lint(text))


@bounded
@given(filters, entries)
def test_a_combination_selects_what_any_of_its_filters_selects(text: str, entry: dict[str, Any]) -> None:
    """`combine` is OR."""
    joined = lql.combine([text, "trace:*"])
    assert holds(joined, entry) is (holds(text, entry) or holds("trace:*", entry))


@bounded
@given(st.text(alphabet=st.characters(), max_size=30))
def test_a_written_string_reads_back(text: str) -> None:
    """Escapes are undone by reading, lone surrogates and control characters included."""
    assert strings.decode(strings.encode(text)) == text


@bounded
@given(st.text(alphabet=st.characters(), max_size=30))
def test_folding_is_stable_and_normal(text: str) -> None:
    """A folded text folds to itself, is in NFC, and has no upper case left."""
    folded = fold(text)
    assert fold(folded) == folded
    assert unicodedata.is_normalized("NFC", folded)
    assert fold(text.swapcase()) == fold(text.swapcase().swapcase().swapcase())


MARKS = ("e", "é", "\u0301", "\u0323", "\u200d", "\u1100", "\u1161", "\uff9e", "カ", "ﬁ", " ", "\u0345", "Σ")


@bounded
@given(st.lists(st.sampled_from(MARKS), min_size=1, max_size=12), st.integers(0, 11))
def test_a_long_text_folds_as_if_in_one_piece(marks: list[str], shift: int) -> None:
    """Cutting a long text for folding changes nothing, wherever the cuts fall."""
    unit = "".join(marks) + "x"
    text = "!" * shift + unit * (6_000 // len(unit))
    assert fold(text) == fold("!" * shift) + fold(unit) * (6_000 // len(unit))


@bounded
@given(st.lists(st.tuples(st.sampled_from("ab"), filters), min_size=2, max_size=3), filters, entries)
def test_conditions_on_what_is_there_hold_one_by_one(
    parts: list[tuple[str, str]], other: str, entry: dict[str, Any]
) -> None:
    """Those that hold if their key is absent are asked as if each stood alone; a key may come twice."""
    every = [f"(NOT jsonPayload.{key}:* OR ({text}))" for key, text in parts]
    together = f"({' AND '.join(every)}) OR (({other}) AND -({other}))"
    assert holds(together, entry) == all(holds(each, entry) for each in every)


ATOMS = ("a", "b", "ab", "é", ".", "[^a]", "[ab]", "(?:a|bc)", "(aé|b)", r"\x61", r"\pL", r"\.", "\n")
BOUNDS = ("^", "$", r"\b", r"\B", "a|", "{,2}")
PATTERNS = st.tuples(
    st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)"]),
    st.lists(
        st.tuples(
            st.sampled_from(ATOMS), st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{0,2}", "+?"])
        ).map("".join)
        | st.sampled_from(BOUNDS),
        max_size=5,
    ).map("".join),
).map("".join)


@bounded
@given(PATTERNS, st.text(alphabet="abcAé.\n\ud800", max_size=8))
def test_a_pattern_is_found_where_re2_finds_it(pattern: str, text: str) -> None:
    """The quick looks before a search change no answer, neither before they are made nor after."""
    found = re2.search(pattern.encode(), utf8(text)) is not None  # type: ignore[no-untyped-call]
    entry = {"jsonPayload": {"a": text}}
    for op, wanted in (("=~", found), ("!~", not found)):
        selects = lql.compile(f"jsonPayload.a {op} {strings.encode(pattern)}")
        assert {selects.matches(entry) for _ in range(WARM + 2)} == {wanted}
