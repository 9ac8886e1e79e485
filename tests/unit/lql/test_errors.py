"""What cannot be evaluated is an error that says where, what was expected and what to write."""

import pytest

from logmend import errors, lql

# filter, line, column, part of the message, part of the hint
ERRORS = [
    # Form
    ("insertId =", 1, 11, "expected a value after '='", ""),
    ("resource.type = AND", 1, 17, "expected a value, found AND", '"AND"'),
    ("a AND", 1, 6, "expected a comparison after 'AND'", ""),
    ("AND a", 1, 1, "expected a value, found AND", ""),
    ("a OR OR b", 1, 6, "found OR", ""),
    ("NOT NOT a", 1, 5, "found NOT", "NOT (NOT ...)"),
    ("NOT -a", 1, 5, "found '-'", "NOT (NOT ...)"),
    ("- a", 1, 1, "expected a comparison", ""),
    ("(a", 1, 3, "expected ')', AND, OR or another comparison after 'a'", ""),
    ("a)", 1, 2, "found ')'", ""),
    ("()", 1, 2, "expected a comparison after '('", ""),
    ("a\nb\n  = = 1", 3, 5, "found '='", "a single ="),
    ('textPayload == "x"', 1, 14, "expected a value after '='", "a single ="),
    ('"textPayload" = "x"', 1, 15, "found '='", "without quotes"),
    ('textPayload = "x', 1, 15, "does not end", '\\"'),
    ('"say "hello" now"', 1, 7, "no whitespace", '\\"'),
    ('(textPayload = "a")(textPayload = "b")', 1, 20, "no whitespace", ""),
    ("textPayload = 'x'", 1, 15, "expected a value", "double quotes"),
    ("a--b", 1, 1, "start of a comment", "double quotes"),
    ("(" * 20_000, 1, 51, "nested deeper than 50", ""),
    ("NOT (" * 4_000, 1, 255, "nested deeper than 50", ""),
    ("x" * 20_001, 1, 20_001, "20,001 characters", "comments count"),
    # Bare text
    ("insertId = abc:def", 1, 15, "found ':'", '"abc:def"'),
    ("insertId = a.b", 1, 13, "found '.'", '"a.b"'),
    ("insertId = -a", 1, 12, "expected a value", "double quotes"),
    ("insertId = +a", 1, 12, "expected a value", "double quotes"),
    ("insertId = .a", 1, 12, "expected a value", "double quotes"),
    ("insertId = a*", 1, 13, "found '*'", '"a*"'),
    ("insertId = a~b", 1, 13, "found '~'", '"a~b"'),
    ("insertId = a,b", 1, 13, "found ','", '"a,b"'),
    ("insertId = a(b)", 1, 12, "unknown function a", ""),
    ("insertId = a\\tb", 1, 13, "found '\\'", '"a\\tb"'),
    ("a.b", 1, 1, "an operator after the field", '"a.b"'),
    ("timestamp >= 2014-10-02T11:00:00Z", 1, 27, "found ':'", '"2014-10-02T11:00:00Z"'),
    (r'textPayload = "a\qb"', 1, 17, "unknown escape \\q", "\\\\q"),
    ('textPayload = "a\n\\q"', 2, 1, "unknown escape", ""),
    (r'textPayload =~ "a\b"', 1, 18, "ambiguous escape \\b", "\\\\b"),
    (r'textPayload = "\U00110000"', 1, 16, "no character has the code", ""),
    # Fields
    ("thud = 1", 1, 1, "undefined field thud", "jsonPayload.thud"),
    ("operation.thud = 1", 1, 1, "undefined field operation.thud", "id, producer, first, last"),
    ("textPayload.thud = 1", 1, 1, "undefined field textPayload.thud", "plain value"),
    ("resource.typ = a", 1, 1, "undefined field resource.typ", "did you mean resource.type?"),
    ("errorGroups.id = a", 1, 1, "undefined field errorGroups.id", ""),
    ("labels.a/b = 1", 1, 9, "no whitespace", '"a/b"'),
    ("jsonPayload.a[0] = 1", 1, 14, "no whitespace", '"a[0]"'),
    ("jsonPayload . a = 1", 1, 13, "whitespace in the name", ""),
    ("jsonPayload. = 1", 1, 14, "expected a name after '.'", ""),
    ("httpRequest = x", 1, 1, "httpRequest is an object", "name a field"),
    ("jsonPayload != x", 1, 1, "jsonPayload is an object", "name a field"),
    ("labels >= x", 1, 1, "labels is an object", "name a field"),
    # Operators and values
    ("textPayload =~ foo", 1, 16, "has to be in double quotes", '"foo"'),
    ('severity =~ "ERR"', 1, 1, "=~ works on strings", "cast(severity, STRING)"),
    ('httpRequest.status !~ "4.."', 1, 1, "!~ works on strings", ""),
    ('jsonPayload =~ "x"', 1, 1, "=~ works on strings", ""),
    ('textPayload =~ "(a"', 1, 16, "not one of RE2: missing )", "re2/wiki/Syntax"),
    (r'textPayload =~ "(?=a)"', 1, 16, "not one of RE2", ""),
    ('textPayload =~ "(((a{100}){100}){100})"', 1, 16, "not one of RE2", ""),
    ('textPayload =~ "[^x]{1000}"', 1, 16, "more than 5,000 instructions", "smaller repetition"),
    ("trace = NULL_VALUE", 1, 9, "trace is never null", ""),
    ("labels.a = NULL_VALUE", 1, 12, "labels.a is never null", ""),
    ("jsonPayload.a > NULL_VALUE", 1, 17, "= and != only", ""),
    ("insertId = *", 1, 12, "'*' stands for presence", ""),
    ("jsonPayload.x = (-5 OR 3)", 1, 18, "a number or a negation", '"-5"'),
    ("insertId = (textPayload = a)", 1, 13, "found a comparison", ""),
    ('insertId = (log_id("a"))', 1, 13, "a function cannot stand", ""),
    ("insertId = (a.b)", 1, 13, "expected a value", '"a.b"'),
    ('insertId = log_id("a")', 1, 12, "cannot be used as a value", ""),
    # Functions
    ('thud("a")', 1, 1, "unknown function thud", ""),
    ('log_id ("a")', 1, 8, "whitespace between log_id and its arguments", ""),
    ("log_id()", 1, 1, "does not take 0 arguments", 'log_id("syslog")'),
    ('log_id("a") = true', 1, 1, "takes no operator", ""),
    ("source(my-project)", 1, 8, "unknown source my-project", "source(projects/my-project)"),
    ("sample(insertId, 0.25)", 1, 1, "not published", "only the fraction 1"),
    ("sample(insertId, 0)", 1, 18, "not above 0", ""),
    ("sample(insertId, 1.5)", 1, 18, "at most 1", ""),
    ("sample(timestamp, 1)", 1, 8, "strings and numbers", ""),
    ('sample("x", 1)', 1, 8, "expected a field", ""),
    ('ip_in_net(httpRequest.remoteIp, "10.0.0.0/99")', 1, 33, "no IP address or range", ""),
    ('ip_in_net(httpRequest.remoteIp, "example.com")', 1, 33, "no IP address or range", ""),
    ('ip_in_net(severity, "10.0.0.0/8")', 1, 11, "works on strings", ""),
    ("SEARCH(word)", 1, 8, "has to be in double quotes", ""),
    ('SEARCH("")', 1, 8, "has no words", ""),
    ('SEARCH(" - ")', 1, 8, "has no words", ""),
    ('SEARCH("a OR b")', 1, 8, "OR in a query of SEARCH cannot be evaluated", "combine several"),
    ('SEARCH("`a")', 1, 8, "is not closed", ""),
    ('SEARCH(timestamp, "2014")', 1, 8, "SEARCH works on text", ""),
    ("cast(timestamp, STRING)", 1, 1, "expected an operator", ""),
    ("cast(timestamp, TEXT) = a", 1, 17, "expected a type to cast to, expected one of STRING", ""),
    ("cast(timestamp, INT64) = 1", 1, 1, "cannot be cast to INT64", ""),
    ("cast(timestamp, STRING):*", 1, 1, "':*' tests a field", ""),
    (
        'cast(timestamp, STRING, TIMEZONE("Mars/Base")) = a',
        1,
        1,
        "unknown time zone Mars/Base",
        "America/New_York",
    ),
    ('cast(timestamp, STRING, TIMEZONE("../../etc/passwd")) = a', 1, 1, "unknown time zone", ""),
    ('cast(insertId, INT64, TIMEZONE("UTC")) = 1', 1, 1, "TIMEZONE applies", ""),
    ('regexp_extract(insertId, "a") = b', 1, 26, "0 capture groups", "(?:...)"),
    ('regexp_extract(insertId, "(a)(b)") = b', 1, 26, "2 capture groups", "(?:...)"),
    ('regexp_extract(timestamp, "(a)") = b', 1, 1, "works on strings", "cast"),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"), ERRORS, ids=[repr(error[0][:40]) for error in ERRORS]
)
def test_what_cannot_be_evaluated_says_where_and_what_to_write(
    text: str, line: int, column: int, message: str, hint: str
) -> None:
    """The error names line and column, tells what is wrong and hints at the remedy."""
    with pytest.raises(lql.FilterError) as caught:
        lql.compile(text)
    error = caught.value
    assert (error.line, error.column) == (line, column), str(error)
    assert message in str(error)
    assert hint in error.hint


def test_an_error_reads_as_one_line_for_people() -> None:
    """Position, what was expected and the hint stand in the text of the error."""
    with pytest.raises(errors.LogmendError) as caught:
        lql.compile("insertId = abc:def")
    assert str(caught.value) == (
        "line 1, column 15: expected AND, OR or another comparison after 'abc', found ':' "
        '(hint: put text with special characters in double quotes: "abc:def")'
    )


def test_formatting_linting_and_combining_refuse_what_compiling_refuses() -> None:
    """A filter that cannot be used is an error wherever it is given."""
    with pytest.raises(lql.FilterError):
        lql.format("thud = 1")
    with pytest.raises(lql.FilterError):
        lql.lint("thud = 1")
    with pytest.raises(lql.FilterError):
        lql.combine(["trace:*", "thud = 1"])
