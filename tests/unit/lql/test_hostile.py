"""Texts, patterns and entries that are meant to hurt. A blow-up shows as the suite's timeout."""

import random
from typing import Any

import pytest

from logmend import lql

TOKENS = (
    *(
        "AND",
        "OR",
        "NOT",
        "-",
        "(",
        ")",
        " ",
        "\n",
        ":",
        "=",
        "!=",
        "<",
        ">=",
        "=~",
        "!~",
        "*",
        ".",
        ",",
        "--",
    ),
    *(
        "textPayload",
        "jsonPayload",
        "labels",
        "severity",
        "timestamp",
        "resource",
        "type",
        "thud",
        "NULL_VALUE",
    ),
    *('"a"', '"', "'", "\\", '"\\d"', "5", "-5", "1e9", "é", "\ud800", "\x00", "[", "]", "/", "@type"),
    *(
        "log_id(",
        "SEARCH(",
        "cast(",
        "regexp_extract(",
        "sample(",
        "ip_in_net(",
        "source(",
        "TIMEZONE(",
        "STRING",
    ),
)


def test_any_text_is_a_filter_or_an_error() -> None:
    """Of 3,000 random texts none ends in anything but a filter or a FilterError with a position inside it."""
    chance = random.Random(20_261_122)  # noqa: S311 - the same texts every time
    compiled = 0
    for _ in range(3_000):
        text = "".join(chance.choices(TOKENS, k=chance.randint(1, 14)))
        if chance.random() < 0.5:
            text = " ".join(chance.choices(TOKENS, k=chance.randint(1, 14)))
        made = compiled_or_error(text)
        if isinstance(made, lql.FilterError):
            lines = text.split("\n")
            assert 1 <= made.line <= len(lines)
            assert 1 <= made.column <= len(lines[made.line - 1]) + 1
        else:
            compiled += 1
            assert lql.compile(lql.format(made)).root == made.root
            made.matches({"textPayload": "a", "jsonPayload": {"a": [1, None]}})
    assert compiled > 30


def compiled_or_error(text: str) -> lql.Filter | lql.FilterError:
    try:
        return lql.compile(text)
    except lql.FilterError as error:
        return error


@pytest.mark.parametrize(
    "unit", ["(", "(a ", "NOT (", "-(", "a OR (", "textPayload:(", "cast(", '"', "\\", "a ", "a OR "]
)
def test_a_filter_of_full_length_is_an_answer_or_an_error(unit: str) -> None:
    """20,000 characters of anything neither exhaust the stack nor take long."""
    text = (unit * 20_000)[:20_000]
    made = compiled_or_error(text)
    assert isinstance(made, lql.FilterError) or made.matches({"textPayload": "b"}) is False


def test_a_filter_as_deep_as_allowed_works() -> None:
    """Fifty levels of parentheses compile, match and print."""
    deep = "trace:*"
    for _ in range(50):
        deep = f"NOT ({deep})"
    compiled = lql.compile(deep)
    assert compiled.matches({"trace": "x"})
    assert lql.compile(lql.format(compiled)).root == compiled.root


def test_thousands_of_comparisons_work() -> None:
    """A filter may list as many names as fit into its length."""
    text = "resource.labels.instance_id = (" + " OR ".join(f'"{n}"' for n in range(1_900)) + ")"
    compiled = lql.compile(text)
    assert compiled.matches({"resource": {"labels": {"instance_id": "1899"}}})
    assert not compiled.matches({"resource": {"labels": {"instance_id": "1900"}}})


def nested(levels: int, *, array: bool) -> Any:
    value: Any = "treasure"
    for _ in range(levels):
        value = [value] if array else {"a": value}
    return value


@pytest.mark.parametrize("array", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "treasure",
        "jsonPayload.a:treasure",
        "jsonPayload:treasure",
        'SEARCH("treasure")',
        'SEARCH(jsonPayload, "treasure")',
        "protoPayload.a = 1",
        "jsonPayload.a = treasure",
        'cast(jsonPayload.a, STRING) =~ "x"',
        "sample(jsonPayload.a, 1)",
        'ip_in_net(jsonPayload.a, "10.0.0.0/8")',
    ],
)
def test_entries_nested_beyond_the_stack_are_matched(text: str, array: bool) -> None:
    """An entry's depth is no concern of the stack."""
    value = nested(20_000, array=array)
    made = lql.compile(text)
    assert made.matches({"jsonPayload": {"a": value}, "protoPayload": {"a": value}}) in {True, False}


def test_a_chain_of_packed_messages_is_followed() -> None:
    """Any in Any in Any, beyond the stack."""
    value: Any = {"reason": "quota"}
    for _ in range(20_000):
        value = {"@type": "type.googleapis.com/google.protobuf.Any", "value": value}
    assert lql.compile("protoPayload.reason = quota").matches({"protoPayload": value})


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|aa)+$", "(?:a|b)*a(?:a|b){200}c", "(.*)(.*)(.*)(.*)x$", "a{0,500}a{500}"]
)
def test_a_pattern_that_backtracks_elsewhere_takes_linear_time(pattern: str) -> None:
    """256 KiB of text against patterns that take a backtracking engine years."""
    made = lql.compile(f'textPayload =~ "{pattern}"')
    assert made.matches({"textPayload": "ab" * (128 * 1024) + "!"}) in {True, False}


@pytest.mark.parametrize(
    "unit",
    [
        "\u0300\u0323",
        "\u1100\u1161\u11a8",
        "\ufdfa",
        "a\u0300",
        "\u200b",
        "\u0130",
        "\ud800",
        "%",
        ".",
        "` ",
        "\u3042",
    ],
)
def test_a_long_text_of_any_script_is_compared_in_linear_time(unit: str) -> None:
    """Runs of combining marks, which take normalisation quadratic time, do not."""
    text = (unit * (256 * 1024))[: 256 * 1024]
    made = lql.compile('textPayload:"zz" OR textPayload = "y" OR SEARCH("`. .`") OR SEARCH("q")')
    assert not made.matches({"textPayload": text})


def test_long_numbers_are_no_trouble() -> None:
    """Python refuses to convert integers of thousands of digits; a filter does not."""
    digits = "9" * 15_000
    for field in ("jsonPayload.x", "httpRequest.status", "sourceLocation.line", "severity"):
        assert not lql.compile(f"{field} = {digits}").matches({"jsonPayload": {"x": 1}})
    entry = {"httpRequest": {"responseSize": digits, "latency": digits + "s"}, "jsonPayload": {"x": digits}}
    assert not lql.compile("httpRequest.responseSize > 1 OR httpRequest.latency > 1s").matches(entry)
    assert lql.compile("cast(jsonPayload.x, FLOAT64) = Infinity").matches(entry)
    assert not lql.compile("cast(jsonPayload.x, INT64) > 0").matches(entry)
