"""What the rest of logmend relies on: explain, format, combine, lint, and imports that cost nothing."""

import subprocess
import sys

import pytest

from logmend import lql

SINK = """
-- what the timer writes
resource.type="gce_instance"
NOT log_id("logmend") AND -log_id("OSConfigAgent")
(textPayload:"certs" OR jsonPayload.message:("certs" AND NOT "Done"))
"""


def test_explain_lists_the_operands_of_the_top_level_and() -> None:
    """Each operand is printed in canonical form with whether it holds, parentheses flattened."""
    entry = {
        "resource": {"type": "gce_instance"},
        "logName": "projects/p/logs/logmend",
        "textPayload": "certs",
    }
    assert lql.compile(f"({SINK}) severity >= INFO").explain(entry) == [
        lql.Clause('resource.type = "gce_instance"', holds=True),
        lql.Clause('NOT log_id("logmend")', holds=False),
        lql.Clause('NOT log_id("OSConfigAgent")', holds=True),
        lql.Clause('textPayload:"certs" OR jsonPayload.message:("certs" AND NOT "Done")', holds=True),
        lql.Clause("severity >= INFO", holds=False),
    ]


def test_a_filter_of_one_comparison_has_one_condition() -> None:
    """An OR at the top is one condition; an empty filter has none."""
    assert lql.compile("a OR b").explain({}) == [lql.Clause("a OR b", holds=False)]
    assert lql.compile("").explain({}) == []


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (SINK, None),
        ("a b", "a AND b"),
        ("-a", "NOT a"),
        ("-(a OR b)", "NOT (a OR b)"),
        ("NOT (NOT a)", "NOT (NOT a)"),
        ("a OR b c", "(a OR b) AND c"),
        ("((a AND b)) c", "a AND b AND c"),
        ("(a b) OR c", "(a AND b) OR c"),
        ('LOG_NAME="x"', 'logName = "x"'),
        ('jsonPayload."a b"."c"=1', 'jsonPayload."a b".c = 1'),
        (r'textPayload=~"\d\"\t"', r'textPayload =~ "\\d\"\t"'),
        ("textPayload:(a -b)", "textPayload:(a AND NOT b)"),
        ("trace:*", "trace:*"),
        (
            'CAST(Regexp_Extract(insertId,"(a)"),int64)>=1',
            'cast(regexp_extract(insertId, "(a)"), INT64) >= 1',
        ),
        ('search(textPayload,"a b")', 'SEARCH(textPayload, "a b")'),
        ('cast(timestamp,string,timezone("UTC"))=a', 'cast(timestamp, STRING, TIMEZONE("UTC")) = a'),
    ],
)
def test_a_filter_is_printed_in_one_canonical_form(text: str, printed: str | None) -> None:
    """Printing keeps the meaning, is stable, and is legal."""
    once = lql.format(text)
    assert printed is None or once == printed
    assert lql.format(once) == once
    assert lql.compile(once).root == lql.compile(text).root


def test_filters_are_combined_by_or_whatever_they_hold() -> None:
    """Neither an OR, nor a comment at the end, nor a parenthesis inside reaches beyond its filter."""
    joined = lql.compile(lql.combine(["a OR b", 'insertId = ")" -- and a comment']))
    assert lql.format(joined) == 'a OR b OR insertId = ")"'
    assert joined.matches({"insertId": ")"})
    assert not lql.compile(lql.combine(["trace:x insertId:y"])).matches({"insertId": "y"})


@pytest.mark.parametrize("texts", [[], [""], ["a", " -- only a comment"]])
def test_an_empty_filter_is_never_combined(texts: list[str]) -> None:
    """It would select every entry there is."""
    with pytest.raises(lql.FilterError, match="matches every entry"):
        lql.combine(texts)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('insertId = "A" OR "B"', 1, 19, '"B" stands alone'),
        ("severity >= ERROR", 1, 1, "severity is often not set"),
        ('log_id("a") and log_id("b")', 1, 13, "and in lower case"),
        ("trace:a or trace:b", 1, 9, "or in lower case"),
        ("not trace:a", 1, 1, "not in lower case"),
        ("trace:a OR trace:b\ninsertId:c", 1, 1, "OR next to AND without parentheses"),
        ('textPayload:("a" OR "b" "c")', 1, 14, "OR next to AND without parentheses"),
        ('"ERROR"', 1, 1, "looked for as text"),
        ('textPayload:"HTTP 404"', 1, 13, "not every version"),
        ('"HTTP 404"', 1, 1, "not every version"),
        (r'textPayload:"Get \"http"', 1, 13, "double quotes"),
        ('textPayload = "*foo"', 1, 15, "* is an ordinary character"),
        ('logName = "projects/p/logs/a.b/c"', 1, 11, "percent-encoded"),
        ('textPayload "foo"', 1, 1, "without an operator"),
        ("textPayload:\u201cfoo\u201d", 1, 13, "typographic quotation marks"),
        ('timestamp > "2024-01-01T00:00:00"', 1, 13, "is no timestamp"),
        ("cast(insertId, INT64) > 1.5", 1, 25, "is no int64"),
        ('httpRequest.latency > "1 s"', 1, 23, "is no duration"),
        ('cast(timestamp, STRING) =~ "2024"', 1, 1, "not documented"),
    ],
)
def test_likely_mistakes_are_warned_of(text: str, line: int, column: int, message: str) -> None:
    """A warning tells where, what is likely wrong and what to write."""
    warnings = lql.lint(text)
    assert [(w.line, w.column) for w in warnings] == [(line, column)]
    assert message in warnings[0].message
    assert warnings[0].hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        SINK,
        "(trace:a OR trace:b) insertId:c",
        'insertId = ("A" OR "B")',
        '"A" OR "B"',
        'jsonPayload.x != "NULL" AND timestamp > 2024-01-01',
        'log_id("a.b/c") logName = "projects/p/logs/a.b%2Fc"',
    ],
)
def test_a_filter_as_it_should_be_has_no_warnings(text: str) -> None:
    """Nothing is said of what is right."""
    assert lql.lint(text) == []


def test_importing_the_language_loads_neither_parser_nor_regular_expressions() -> None:
    """The cost of lark and RE2 is paid for by the first filter, not by `logmend --help`."""
    code = (
        "import sys; from logmend import lql; heavy = {'lark', 're2'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "lql.compile('trace:*'); assert heavy <= set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))}
    )
