r"""The Logging query language, evaluated offline.

>>> from logmend import lql
>>> errors = lql.compile('resource.type = "gce_instance" AND severity >= ERROR')
>>> errors.matches({"resource": {"type": "gce_instance"}, "severity": "CRITICAL"})
True

The language is Google's (https://cloud.google.com/logging/docs/view/logging-query-language, built on
https://google.aip.dev/160). What cannot be evaluated here, or what Cloud Logging would refuse, is a
:class:`FilterError` when the filter is compiled, never a silent false.

Where Google's page leaves room, this reads it so:

- Parentheses nest at most 50 deep; the regular expressions of a filter have at most 5,000 instructions.
- Names of LogEntry's own fields ignore case and may be in snake_case; keys of payloads and labels do neither,
  save that keys of ``protoPayload`` ignore case. Its known 64-bit integers, times and durations are typed.
- ``:`` on an object holds if it has that key (AIP-160) or any value in it has the text.
- ``NULL_VALUE`` is written without quotes, for payloads only; every value that is not null differs from it.
- An unknown escape is an error in a string and RE2's in a pattern (``"\d"`` is ``"\\d"``; ``\b`` is refused).
- A global term is looked for in the values that the entry has, not in keys or defaults.
- ``SEARCH`` splits texts as BigQuery's LOG_ANALYZER; operators and double quotes in a query are refused.
- ``cast`` of a timestamp to STRING is RFC 3339; of a number with a fraction to INT64 fails.

RE2 is imported when the first filter is compiled, lark (and its tables made) when the first is parsed: the
built-in runbooks' filters come parsed (``known.py``), which spares a cold start that time.
"""

# ruff: noqa: A001, A002, A004, PLC0415 - names read as lql.compile, lql.format; heavy imports wait for a filter

from collections.abc import Sequence

from logmend.lql.errors import FilterError
from logmend.lql.filters import Clause, Filter, Warning
from logmend.lql.nodes import Node

__all__ = ["Clause", "Filter", "FilterError", "Warning", "combine", "compile", "format", "lint"]


def compile(text: str) -> Filter:
    """Compile a filter of at most 20,000 characters. Raises FilterError."""
    from logmend.lql import compiler, known

    root = known.TREES[text] if text in known.TREES else _parsed(text)
    return Filter(text, root, compiler.compile_conditions(root))


def _parsed(text: str) -> Node | None:
    from logmend.lql import syntax

    return syntax.parse(text)


def format(filter: Filter | str) -> str:
    """Write a filter in its canonical form, on one line and without comments. Raises FilterError."""
    from logmend.lql import printer

    return printer.printed((compile(filter) if isinstance(filter, str) else filter).root)


def combine(texts: Sequence[str]) -> str:
    """Join filters by OR, each in parentheses on lines of its own.

    Raises FilterError for one that is unusable or empty (it would match every entry), or if there is none.
    """
    if not texts or any(compile(text).root is None for text in texts):
        raise FilterError("an empty filter matches every entry", 1, 1, "a comparison")
    return "\nOR\n".join(f"(\n{text.strip()}\n)" for text in texts)


def lint(text: str) -> list[Warning]:
    """List the likely mistakes of a filter that compiles. Raises FilterError for one that does not."""
    from logmend.lql import mistakes

    return mistakes.of(compile(text))
